//! Window `PoSt`: reading sectors, making and verifying the proof of a partition.

use super::Context;
use crate::{
    durable,
    error::{Error, Result},
    hash::HexBytes,
    task::{ProofOutput, VanillaProof, VerifiedOutput, VerifyWindowPoSt, WindowPartition},
};

/// Reads what the challenges of one sector ask for.
///
/// # Errors
/// `Corrupt`, naming the file, when the replica has another size; else what the engine says.
pub(super) fn vanilla_proof(input: &VanillaProof, context: &Context<'_>) -> Result<ProofOutput> {
    let place = &input.place;
    let (sealed, want) = (place.sealed(), place.proof.sector_bytes());
    match durable::size(&sealed)? {
        Some(n) if n == want => {}
        Some(n) => {
            let why = format!("the replica has {n} bytes instead of {want}");
            return Err(Error::damaged(&sealed, why));
        }
        None => return Err(Error::damaged(&sealed, "the replica is not there")),
    }
    let aux = place.cache().join("p_aux");
    if durable::size(&aux)? != Some(64) {
        return Err(Error::damaged(&aux, "it is missing or has not 64 bytes"));
    }
    Ok(ProofOutput {
        proof: HexBytes(context.engine.vanilla_proof(input)?),
    })
}

/// Makes the SNARK of one partition.
///
/// # Errors
/// `Permanent` when there are no proofs or too many, `Temporary` when parameters are missing.
pub(super) fn partition(input: &WindowPartition, context: &Context<'_>) -> Result<ProofOutput> {
    let (count, most) = (
        input.vanilla_proofs.len(),
        input.proof_type.window_partition_sectors(),
    );
    if count == 0 || count > most {
        let text = format!(
            "a partition of {} has 1 to {most} sectors, not {count}",
            input.proof_type
        );
        return Err(Error::Input(text));
    }
    Ok(ProofOutput {
        proof: HexBytes(context.engine.window_partition(input)?),
    })
}

/// Verifies a window `PoSt`.
///
/// # Errors
/// `Permanent` when there are no sectors, `Temporary` when parameters are missing.
pub(super) fn verify(input: &VerifyWindowPoSt, context: &Context<'_>) -> Result<VerifiedOutput> {
    if input.sectors.is_empty() {
        return Err(Error::Input(
            "a window PoSt without sectors proves nothing".to_owned(),
        ));
    }
    Ok(VerifiedOutput {
        valid: context.engine.verify_window_post(input)?,
    })
}
