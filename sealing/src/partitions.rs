//! The SNARK of a seal, one partition at a time: the memory of one circuit instead of ten, and after
//! a restart at most one partition to make again.
//!
//! Each partition's proof is verified alone, against the inputs of its own partition, before it is
//! kept; a kept one is verified again before it is used. So what was kept needs no digest, and a
//! proof of other inputs is never taken.

use std::{fs::File, io::BufReader};

use bellperson::groth16;
use blstrs::{Bls12, Scalar};
use filecoin_proofs_api::{
    RegisteredSealProof, SectorId as ApiSectorId,
    seal::{self, SealCommitPhase1Output, VanillaSealProof},
};

use crate::{
    error::{Error, Result},
    sector::SectorId,
    stock,
};

/// Bytes of one partition's proof.
pub const PROOF_BYTES: usize = 192;

/// Where proofs of partitions are kept between restarts.
pub trait Kept {
    /// The proof of a partition, when one was kept.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    fn get(&self, partition: usize) -> Result<Option<Vec<u8>>>;

    /// Keeps the proof of a partition; it must outlive a crash.
    ///
    /// # Errors
    /// When it cannot be written.
    fn put(&self, partition: usize, proof: &[u8]) -> Result<()>;

    /// Told before each partition that is made: how many there are already, and in all.
    fn begins(&self, partition: usize, of: usize);
}

/// What makes and verifies the proof of one partition; tests have another.
pub trait Prover {
    /// Partitions of the seal.
    fn count(&self) -> usize;

    /// Makes the proof of one.
    ///
    /// # Errors
    /// When parameters are missing, or the library fails.
    fn prove(&self, partition: usize) -> Result<Vec<u8>>;

    /// Whether a proof is one of this partition.
    fn holds(&self, partition: usize, proof: &[u8]) -> bool;
}

/// Makes the proofs that were not kept, one after the other; returns all, concatenated.
///
/// # Errors
/// What prover and keeper say; `Fatal` when a proof does not verify that was just made.
pub fn prove(prover: &dyn Prover, kept: &dyn Kept) -> Result<Vec<u8>> {
    let of = prover.count();
    // Bytes after a proof that holds would be sent too, and the whole refused.
    let holds =
        |partition, proof: &[u8]| proof.len() == PROOF_BYTES && prover.holds(partition, proof);
    let mut proofs = Vec::with_capacity(of * PROOF_BYTES);
    for partition in 0..of {
        let before = kept.get(partition)?.filter(|p| holds(partition, p));
        if let Some(proof) = before {
            tracing::info!(partition, of, "the proof of this partition was made before");
            proofs.extend(proof);
            continue;
        }
        kept.begins(partition, of);
        let proof = prover.prove(partition)?;
        if !holds(partition, &proof) {
            return Err(Error::Setup(format!(
                "the proof of partition {partition} does not verify although its vanilla proofs \
                 did: check the parameters with `sealer-pod params --check --full`"
            )));
        }
        kept.put(partition, &proof)?;
        proofs.extend(proof);
    }
    Ok(proofs)
}

/// The reference library's circuits and prover; ours only cuts and verifies.
pub struct Groth16 {
    proof: RegisteredSealProof,
    sector: ApiSectorId,
    parts: Vec<VanillaSealProof>,
    whole: SealCommitPhase1Output,
    inputs: Vec<Vec<Scalar>>,
    key: groth16::PreparedVerifyingKey<Bls12>,
}

impl std::fmt::Debug for Groth16 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Groth16")
            .field("proof", &self.proof)
            .field("sector", &self.sector)
            .field("partitions", &self.parts.len())
            .finish_non_exhaustive()
    }
}

impl Groth16 {
    /// From what C1 made, JSON.
    ///
    /// # Errors
    /// `Permanent` when it does not parse, `Temporary` when the verifying key cannot be read.
    pub fn new(sector: SectorId, c1: &[u8]) -> Result<Self> {
        let c1: SealCommitPhase1Output = serde_json::from_slice(c1)
            .map_err(|e| Error::Input(format!("the vanilla proofs of C1 do not parse: {e}")))?;
        Self::of(sector, c1)
    }

    /// From what C1 made.
    ///
    /// # Errors
    /// `Temporary` when the verifying key cannot be read.
    pub fn of(sector: SectorId, mut c1: SealCommitPhase1Output) -> Result<Self> {
        let proof = c1.registered_proof;
        let number = ApiSectorId::from(sector.number);
        let inputs = stock::guard("seal inputs", || {
            seal::get_seal_inputs(
                proof,
                c1.comm_r,
                c1.comm_d,
                sector.prover_id(),
                number,
                c1.ticket,
                c1.seed,
            )
        })?;
        let parts = cut(&mut c1.vanilla_proofs);
        if parts.is_empty() || parts.len() != inputs.len() {
            let text = format!("C1 made {} partitions of {}", parts.len(), inputs.len());
            return Err(Error::Input(text));
        }
        Ok(Self {
            proof,
            sector: number,
            parts,
            whole: c1,
            inputs,
            key: verifying_key(proof)?,
        })
    }
}

impl Prover for Groth16 {
    fn count(&self) -> usize {
        self.parts.len()
    }

    fn prove(&self, partition: usize) -> Result<Vec<u8>> {
        let part = SealCommitPhase1Output {
            vanilla_proofs: self.parts[partition].clone(),
            ..self.whole.clone()
        };
        let prove = || seal::seal_commit_phase2_circuit_proofs(part, self.sector);
        Ok(stock::guard("C2", prove)?.proof)
    }

    fn holds(&self, partition: usize, proof: &[u8]) -> bool {
        let Ok(proof) = groth16::Proof::read(proof) else {
            return false;
        };
        groth16::verify_proof(&self.key, &proof, &self.inputs[partition]).unwrap_or(false)
    }
}

fn verifying_key(proof: RegisteredSealProof) -> Result<groth16::PreparedVerifyingKey<Bls12>> {
    let path = proof
        .cache_verifying_key_path()
        .map_err(|e| Error::Prover {
            step: "parameter names",
            text: format!("{e:#}"),
        })?;
    let read = File::open(&path)
        .and_then(|file| groth16::VerifyingKey::<Bls12>::read(BufReader::new(file)));
    let key = read.map_err(|e| {
        Error::Parameters(format!(
            "the verifying key {} cannot be read: {e}. Make or check it with `sealer-pod params`",
            path.display()
        ))
    })?;
    Ok(groth16::prepare_verifying_key(&key))
}

/// One proof for each partition; nothing of them is left in the whole.
fn cut(whole: &mut VanillaSealProof) -> Vec<VanillaSealProof> {
    fn each<T>(
        parts: &mut Vec<T>,
        wrap: impl Fn(Vec<T>) -> VanillaSealProof,
    ) -> Vec<VanillaSealProof> {
        parts.drain(..).map(|part| wrap(vec![part])).collect()
    }
    match whole {
        VanillaSealProof::StackedDrg2KiBV1(p) => each(p, VanillaSealProof::StackedDrg2KiBV1),
        VanillaSealProof::StackedDrg8MiBV1(p) => each(p, VanillaSealProof::StackedDrg8MiBV1),
        VanillaSealProof::StackedDrg512MiBV1(p) => each(p, VanillaSealProof::StackedDrg512MiBV1),
        VanillaSealProof::StackedDrg32GiBV1(p) => each(p, VanillaSealProof::StackedDrg32GiBV1),
        VanillaSealProof::StackedDrg64GiBV1(p) => each(p, VanillaSealProof::StackedDrg64GiBV1),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::{Cell, RefCell},
        collections::BTreeMap,
    };

    use super::*;

    /// Ten partitions; a proof is its number. Dies in the partition that it is told.
    struct Fake {
        made: RefCell<Vec<usize>>,
        dies_in: Cell<Option<usize>>,
        lies: bool,
    }

    impl Fake {
        fn new(dies_in: Option<usize>) -> Self {
            Self {
                made: RefCell::default(),
                dies_in: Cell::new(dies_in),
                lies: false,
            }
        }
    }

    fn proof_of(partition: usize) -> Vec<u8> {
        vec![u8::try_from(partition).unwrap(); PROOF_BYTES]
    }

    impl Prover for Fake {
        fn count(&self) -> usize {
            10
        }

        fn prove(&self, partition: usize) -> Result<Vec<u8>> {
            self.made.borrow_mut().push(partition);
            if self.dies_in.get() == Some(partition) {
                return Err(Error::Input("killed".to_owned()));
            }
            Ok(proof_of(if self.lies { 99 } else { partition }))
        }

        /// As the library reads one: what comes after it is not looked at.
        fn holds(&self, partition: usize, proof: &[u8]) -> bool {
            proof.starts_with(&proof_of(partition))
        }
    }

    #[derive(Default)]
    struct Memory(RefCell<BTreeMap<usize, Vec<u8>>>);

    impl Kept for Memory {
        fn get(&self, partition: usize) -> Result<Option<Vec<u8>>> {
            Ok(self.0.borrow().get(&partition).cloned())
        }

        fn put(&self, partition: usize, proof: &[u8]) -> Result<()> {
            self.0.borrow_mut().insert(partition, proof.to_vec());
            Ok(())
        }

        fn begins(&self, _partition: usize, _of: usize) {}
    }

    fn all() -> Vec<u8> {
        (0..10).flat_map(proof_of).collect()
    }

    #[test]
    fn restart_repeats_at_most_the_partition_that_was_interrupted() {
        for dies_in in 0..10 {
            let kept = Memory::default();
            assert!(prove(&Fake::new(Some(dies_in)), &kept).is_err());
            let again = Fake::new(None);
            assert_eq!(prove(&again, &kept).unwrap(), all());
            assert_eq!(again.made.into_inner(), (dies_in..10).collect::<Vec<_>>());
        }
    }

    #[test]
    fn kept_proof_that_does_not_verify_is_made_again() {
        let kept = Memory::default();
        prove(&Fake::new(None), &kept).unwrap();
        kept.put(3, &proof_of(4)).unwrap();
        kept.put(7, b"half").unwrap();
        kept.put(8, &[proof_of(8), vec![0]].concat()).unwrap();
        let again = Fake::new(None);
        assert_eq!(prove(&again, &kept).unwrap(), all());
        assert_eq!(again.made.into_inner(), [3, 7, 8]);
    }

    #[test]
    fn proof_that_does_not_verify_is_neither_kept_nor_handed_out() {
        let (kept, mut fake) = (Memory::default(), Fake::new(None));
        fake.lies = true;
        let e = prove(&fake, &kept).unwrap_err();
        assert_eq!(e.class(), crate::Class::Fatal);
        assert_eq!(kept.0.into_inner().len(), 0);
    }
}
