//! How much a sector writes: in scratch while it is sealed, and in its store.
//!
//! S is the sector's size. In scratch are at the peak: unsealed and sealed file (S each), the tree over the data (2 S), the
//! layers (2 S up to 1 GiB, 11 S above), the tree over the columns (8/7 S), and small files. Source: file formats of
//! rust-fil-proofs; 517 GiB for a sector of 32 GiB.

use filstar_crds::{SealProofName, SectorPhase};

/// Sectors up to this size have two layers.
const TWO_LAYERS: u64 = 1 << 30;
/// Small files of a sector of the smallest size.
const SMALL_FILES: u64 = 256 << 10;

fn layers(size: u64) -> u64 {
    if size <= TWO_LAYERS { 2 } else { 11 }
}

/// Proofs, the upper rows of the last tree, ledgers.
fn small(size: u64) -> u64 {
    size / 128 + SMALL_FILES
}

/// All that a sector writes in scratch, in bytes.
pub(super) fn scratch(proof: SealProofName) -> u64 {
    let size = proof.sector_size();
    size * (layers(size) + 4) + (size * 8).div_ceil(7) + small(size)
}

/// What a sector in this phase has yet to write in scratch, in bytes: never less than it will, as far as is known at
/// the start of the phase.
pub(super) fn scratch_left(proof: SealProofName, phase: SectorPhase) -> u64 {
    let size = proof.sector_size();
    match phase {
        // The file of a sector without data may be a hole.
        SectorPhase::Allocated | SectorPhase::Packing | SectorPhase::Pc1 => scratch(proof),
        SectorPhase::Pc2 => scratch(proof) - layers(size) * size,
        SectorPhase::PreCommitting
        | SectorPhase::WaitSeed
        | SectorPhase::C1
        | SectorPhase::C2
        | SectorPhase::Committing => small(size),
        SectorPhase::Finalizing
        | SectorPhase::Landing
        | SectorPhase::Proving
        | SectorPhase::Removing
        | SectorPhase::Failed => 0,
    }
}

/// What a sector takes in a store, in bytes.
pub(super) fn store(proof: SealProofName) -> u64 {
    let size = proof.sector_size();
    size + small(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sector_of_32_gib_needs_517_gib_in_scratch() {
        let need = scratch(SealProofName::StackedDrg32GiBV1P1);
        assert_eq!(need >> 30, 516);
        assert_eq!(store(SealProofName::StackedDrg32GiBV1P1) >> 30, 32);
    }

    #[test]
    fn what_is_yet_to_be_written_never_grows_on_the_way() {
        for proof in [
            SealProofName::StackedDrg2KiBV1P1,
            SealProofName::StackedDrg512MiBV1P1,
            SealProofName::StackedDrg64GiBV1P1,
        ] {
            let way = [
                SectorPhase::Allocated,
                SectorPhase::Packing,
                SectorPhase::Pc1,
                SectorPhase::Pc2,
                SectorPhase::PreCommitting,
                SectorPhase::C2,
                SectorPhase::Landing,
            ];
            let left: Vec<u64> = way.iter().map(|p| scratch_left(proof, *p)).collect();
            assert!(left.is_sorted_by(|a, b| a >= b), "{left:?}");
        }
    }
}
