//! Proof checks, behind a trait so that the rules around them can be tested without proofs.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use cid::Cid;
use filecoin_proofs_api::{self as proofs, PublicReplicaInfo, SectorId, post, seal};
use fvm_shared::ActorID;
use fvm_shared::commcid::{cid_to_data_commitment_v1, cid_to_replica_commitment_v1};
use fvm_shared::sector::{PoStProof, RegisteredPoStProof, RegisteredSealProof, SectorNumber};

/// What a seal proof is about.
#[derive(Clone, Debug)]
pub(crate) struct SealStatement {
    pub(crate) proof: RegisteredSealProof,
    pub(crate) miner: ActorID,
    pub(crate) number: SectorNumber,
    pub(crate) sealed: Cid,
    pub(crate) unsealed: Cid,
    pub(crate) ticket: [u8; 32],
    pub(crate) seed: [u8; 32],
}

/// What a window proof is about. Sectors may repeat: stand-ins for those that are not proven.
#[derive(Clone, Debug)]
pub(crate) struct WindowStatement {
    pub(crate) miner: ActorID,
    pub(crate) randomness: [u8; 32],
    pub(crate) sectors: Vec<(SectorNumber, Cid)>,
}

/// Says whether proofs hold. An error is a reason why not, for the message of the actor.
pub(crate) trait ProofVerifier: Send + Sync {
    fn seal(&self, statement: &SealStatement, proof: &[u8]) -> Result<(), String>;
    fn window_post(&self, statement: &WindowStatement, proof: &PoStProof) -> Result<(), String>;
}

/// The stock proof library. It reads verifying keys from `FIL_PROOFS_PARAMETER_CACHE`.
#[derive(Debug)]
pub(crate) struct StockVerifier;

impl ProofVerifier for StockVerifier {
    fn seal(&self, statement: &SealStatement, proof: &[u8]) -> Result<(), String> {
        let registered = seal_proof(statement.proof)?;
        let sealed = cid_to_replica_commitment_v1(&statement.sealed)?;
        let unsealed = cid_to_data_commitment_v1(&statement.unsealed)?;
        guarded(|| {
            seal::verify_seal(
                registered,
                sealed,
                unsealed,
                prover_id(statement.miner),
                SectorId::from(statement.number),
                statement.ticket,
                statement.seed,
                proof,
            )
        })
    }

    fn window_post(&self, statement: &WindowStatement, proof: &PoStProof) -> Result<(), String> {
        let registered = window_proof(proof.post_proof)?;
        let mut replicas = BTreeMap::new();
        for (number, sealed) in &statement.sectors {
            let comm_r = cid_to_replica_commitment_v1(sealed)?;
            replicas.insert(
                SectorId::from(*number),
                PublicReplicaInfo::new(registered, comm_r),
            );
        }
        let mut randomness = statement.randomness;
        randomness[31] &= 0x3f;
        let bytes = proof.proof_bytes.as_slice();
        guarded(|| {
            let proofs = [(registered, bytes)];
            post::verify_window_post(&randomness, &proofs, &replicas, prover_id(statement.miner))
        })
    }
}

/// A damaged proof may be an error, a false or a panic of the library: each is "does not hold".
fn guarded<E: std::fmt::Display>(check: impl FnOnce() -> Result<bool, E>) -> Result<(), String> {
    match catch_unwind(AssertUnwindSafe(check)) {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) => Err("the proof does not verify".to_owned()),
        Ok(Err(e)) => Err(e.to_string()),
        Err(_) => Err("the proof library gave up on the proof".to_owned()),
    }
}

/// The prover id: the actor id as ULEB128 in 32 bytes.
fn prover_id(miner: ActorID) -> [u8; 32] {
    let mut out = [0u8; 32];
    let mut rest = miner;
    for byte in &mut out {
        *byte = u8::try_from(rest & 0x7f).unwrap_or(0);
        rest >>= 7;
        if rest == 0 {
            break;
        }
        *byte |= 0x80;
    }
    out
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "all that are not listed are refused"
)]
fn seal_proof(proof: RegisteredSealProof) -> Result<proofs::RegisteredSealProof, String> {
    use RegisteredSealProof as A;
    use proofs::RegisteredSealProof as P;
    match proof {
        A::StackedDRG2KiBV1P1 => Ok(P::StackedDrg2KiBV1_1),
        A::StackedDRG8MiBV1P1 => Ok(P::StackedDrg8MiBV1_1),
        A::StackedDRG512MiBV1P1 => Ok(P::StackedDrg512MiBV1_1),
        A::StackedDRG32GiBV1P1 => Ok(P::StackedDrg32GiBV1_1),
        A::StackedDRG64GiBV1P1 => Ok(P::StackedDrg64GiBV1_1),
        A::StackedDRG2KiBV1P1_Feat_SyntheticPoRep => Ok(P::StackedDrg2KiBV1_1_Feat_SyntheticPoRep),
        A::StackedDRG8MiBV1P1_Feat_SyntheticPoRep => Ok(P::StackedDrg8MiBV1_1_Feat_SyntheticPoRep),
        A::StackedDRG512MiBV1P1_Feat_SyntheticPoRep => {
            Ok(P::StackedDrg512MiBV1_1_Feat_SyntheticPoRep)
        }
        A::StackedDRG32GiBV1P1_Feat_SyntheticPoRep => {
            Ok(P::StackedDrg32GiBV1_1_Feat_SyntheticPoRep)
        }
        A::StackedDRG64GiBV1P1_Feat_SyntheticPoRep => {
            Ok(P::StackedDrg64GiBV1_1_Feat_SyntheticPoRep)
        }
        other => Err(format!(
            "no verification for seal proof type {}",
            i64::from(other)
        )),
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "all that are not listed are refused"
)]
fn window_proof(proof: RegisteredPoStProof) -> Result<proofs::RegisteredPoStProof, String> {
    use RegisteredPoStProof as A;
    use proofs::RegisteredPoStProof as P;
    match proof {
        A::StackedDRGWindow2KiBV1P1 => Ok(P::StackedDrgWindow2KiBV1_2),
        A::StackedDRGWindow8MiBV1P1 => Ok(P::StackedDrgWindow8MiBV1_2),
        A::StackedDRGWindow512MiBV1P1 => Ok(P::StackedDrgWindow512MiBV1_2),
        A::StackedDRGWindow32GiBV1P1 => Ok(P::StackedDrgWindow32GiBV1_2),
        A::StackedDRGWindow64GiBV1P1 => Ok(P::StackedDrgWindow64GiBV1_2),
        other => Err(format!(
            "no verification for window proof type {}",
            i64::from(other)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prover_id_is_the_payload_of_the_id_address() {
        for id in [0u64, 1000, 127, 128, u64::MAX] {
            let payload = fvm_shared::address::Address::new_id(id).payload_bytes();
            assert_eq!(prover_id(id)[..payload.len()], payload[..]);
            assert!(prover_id(id)[payload.len()..].iter().all(|b| *b == 0));
        }
    }
}
