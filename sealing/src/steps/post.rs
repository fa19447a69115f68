//! Window `PoSt`: reading sectors, making and verifying the proof of a partition.

use super::Context;
use crate::{
    error::{Error, Result},
    hash::HexBytes,
    post::{partition, window_vanilla},
    proof::SealProof,
    task::{
        ProofOutput, ReadPartition, ReadPartitionOutput, VanillaProof, VerifiedOutput,
        VerifyWindowPoSt, WindowPartition,
    },
};

/// Reads what the challenges of one sector ask for.
///
/// # Errors
/// `Corrupt`, naming the file, when one is missing or not what the commitment on chain says.
pub(super) fn vanilla_proof(input: &VanillaProof) -> Result<ProofOutput> {
    Ok(ProofOutput {
        proof: HexBytes(window_vanilla(input)?),
    })
}

/// Reads a whole partition.
///
/// # Errors
/// `Permanent` when there are too many sectors, else when the proofs cannot be kept.
pub(super) fn read_partition(
    input: &ReadPartition,
    context: &Context<'_>,
) -> Result<ReadPartitionOutput> {
    let all = input.sectors.len();
    fits(input.proof_type, all)?;
    partition::read(input, |done| {
        let percent = u32::try_from(done * 100 / all.max(1)).unwrap_or(100);
        context.say(percent, format!("{done} of {all} sectors read"));
    })
}

/// Makes the SNARK of one partition.
///
/// # Errors
/// `Permanent` when there are no proofs or too many, `Temporary` when parameters are missing.
pub(super) fn window_partition(
    input: &WindowPartition,
    context: &Context<'_>,
) -> Result<ProofOutput> {
    let proofs = partition::load(&input.file)?;
    fits(input.proof_type, proofs.len())?;
    Ok(ProofOutput {
        proof: HexBytes(context.engine.window_partition(input, &proofs)?),
    })
}

fn fits(proof: SealProof, count: usize) -> Result<()> {
    let most = proof.window_partition_sectors();
    if (1..=most).contains(&count) {
        return Ok(());
    }
    Err(Error::Input(format!(
        "a partition of {proof} has 1 to {most} sectors, not {count}"
    )))
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
