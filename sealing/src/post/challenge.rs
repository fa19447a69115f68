//! Which leaves of a sector a proof of spacetime asks for. Pure.

use sha2::{Digest, Sha256};

use crate::hash::Hash32;

/// The challenged leaves of one sector.
///
/// # Source
/// `generate_leaf_challenge_inner` in storage-proofs-post 19.1: SHA-256 over randomness, sector
/// number and index (both `u64`, little-endian), its first 8 bytes modulo the number of leaves.
pub(crate) fn leaves(randomness: Hash32, number: u64, count: u64, nodes: u64) -> Vec<u64> {
    let seed = Sha256::new()
        .chain_update(randomness.in_field().0)
        .chain_update(number.to_le_bytes());
    (0..count)
        .map(|index| {
            let hash = seed.clone().chain_update(index.to_le_bytes()).finalize();
            let mut first = [0; 8];
            first.copy_from_slice(&hash[..8]);
            u64::from_le_bytes(first) % nodes
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use filecoin_proofs_api::{SectorId, post};

    use super::*;
    use crate::proof::SealProof;

    #[test]
    fn challenges_are_those_of_the_library() {
        for (seed, proof) in (0u8..).zip(SealProof::ALL) {
            let randomness = Hash32([seed.wrapping_mul(77) ^ 0xf3; 32]);
            for number in [0, 7, u64::from(u32::MAX) + 3] {
                let id = SectorId::from(number);
                let theirs = post::generate_fallback_sector_challenges(
                    proof.window(),
                    &randomness.in_field().0,
                    &[id],
                    [0; 32],
                );
                let ours = leaves(
                    randomness,
                    number,
                    super::super::WINDOW_CHALLENGES,
                    proof.nodes(),
                );
                assert_eq!(theirs.unwrap()[&id], ours, "{proof} {number}");
            }
        }
    }
}
