//! `ProveCommitSectors3` (34): proofs that promised sectors exist. Sectors without pieces only.

use fil_actor_miner_state::v18::{
    ProveCommitSectors3Params, SectorActivationManifest, SectorOnChainInfo, SectorOnChainInfoFlags,
    SectorPreCommitOnChainInfo, State, daily_proof_fee, qa_power_for_weight,
};
use fil_actors_shared::v18::{ActorError, BatchReturn, BatchReturnGen};
use fvm_ipld_encoding::RawBytes;
use fvm_shared::econ::TokenAmount;
use fvm_shared::error::ExitCode;
use num_bigint::BigInt;
use num_traits::Zero as _;

use super::{Env, TAG_INTERACTIVE_SEAL, TAG_SEAL, decode, state_error};
use crate::codec::cbor;
use crate::verifier::SealStatement;

/// A pre-commit, its manifest, and whether it may still be proven.
struct Candidate<'a> {
    precommit: &'a SectorPreCommitOnChainInfo,
    manifest: &'a SectorActivationManifest,
    proof: &'a RawBytes,
    statement: SealStatement,
    exit: ExitCode,
}

pub(crate) fn prove_commit_sectors3(
    env: &mut Env<'_>,
    state: &mut State,
    params: &[u8],
) -> Result<Vec<u8>, ActorError> {
    let params: ProveCommitSectors3Params = decode(params)?;
    let info = env.info(state)?;
    env.require_control(&info)?;
    check_shape(&params)?;

    let numbers = params.sector_activations.iter().map(|a| a.sector_number);
    let precommits = state.get_precommitted_sectors(env.store, numbers)?;
    let all_or_nothing = params.require_activation_success;
    let mut candidates = candidates(env, &params, &precommits)?;
    require_some(&candidates, all_or_nothing, "no valid precommits specified")?;
    verify_proofs(env, &mut candidates);
    require_some(&candidates, all_or_nothing, "no valid proofs specified")?;
    check_pieces(&mut candidates);
    require_some(&candidates, all_or_nothing, "all data activations failed")?;

    let proven: Vec<&SectorPreCommitOnChainInfo> = candidates
        .iter()
        .filter(|c| c.exit.is_success())
        .map(|c| c.precommit)
        .collect();
    activate(env, state, &proven)?;

    let mut result = BatchReturnGen::new(candidates.len());
    for candidate in &candidates {
        result.add(candidate.exit);
    }
    let result: BatchReturn = result.generate();
    Ok(cbor(&result))
}

fn check_shape(params: &ProveCommitSectors3Params) -> Result<(), ActorError> {
    let illegal = |text: &str| Err(ActorError::illegal_argument(text.to_owned()));
    if params.sector_proofs.is_empty() == params.aggregate_proof.is_empty() {
        return illegal("exactly one of sector proofs or aggregate proof must be non-empty");
    }
    if params.aggregate_proof.is_empty() != params.aggregate_proof_type.is_none() {
        return illegal("aggregate proof type must be set for an aggregate proof, and only then");
    }
    if !params.aggregate_proof.is_empty() {
        return illegal("this devnet takes no aggregated proofs: send individual proofs");
    }
    if params.sector_proofs.len() != params.sector_activations.len() {
        return Err(ActorError::illegal_argument(format!(
            "mismatched lengths: {} sector activations, {} proofs",
            params.sector_activations.len(),
            params.sector_proofs.len()
        )));
    }
    Ok(())
}

fn candidates<'a>(
    env: &Env<'_>,
    params: &'a ProveCommitSectors3Params,
    precommits: &'a [SectorPreCommitOnChainInfo],
) -> Result<Vec<Candidate<'a>>, ActorError> {
    let mut out: Vec<Candidate<'a>> = Vec::with_capacity(precommits.len());
    let inputs = params
        .sector_activations
        .iter()
        .zip(&params.sector_proofs)
        .zip(precommits);
    for ((manifest, proof), precommit) in inputs {
        let seal_proof = precommit.info.seal_proof;
        if let Some(first) = out.first()
            && first.precommit.info.seal_proof != seal_proof
        {
            return Err(ActorError::illegal_state(format!(
                "aggregate contains mismatched seal proofs {:?} and {seal_proof:?}",
                first.precommit.info.seal_proof
            )));
        }
        if out
            .iter()
            .any(|c| c.manifest.sector_number == manifest.sector_number)
        {
            return Err(ActorError::illegal_argument(format!(
                "duplicate sector number {}",
                manifest.sector_number
            )));
        }
        let statement = statement(env, precommit)?;
        let limit = env
            .rules
            .max_prove_commit_duration(seal_proof)
            .ok_or_else(|| {
                ActorError::illegal_state(format!(
                    "no max seal duration for proof type: {seal_proof:?}"
                ))
            })?;
        let late = env.epoch > precommit.pre_commit_epoch + limit;
        let exit = if late {
            ExitCode::USR_ILLEGAL_ARGUMENT
        } else {
            ExitCode::OK
        };
        out.push(Candidate {
            precommit,
            manifest,
            proof,
            statement,
            exit,
        });
    }
    Ok(out)
}

fn statement(
    env: &Env<'_>,
    precommit: &SectorPreCommitOnChainInfo,
) -> Result<SealStatement, ActorError> {
    let info = &precommit.info;
    let interactive = precommit.pre_commit_epoch + env.rules.policy.pre_commit_challenge_delay;
    if env.epoch <= interactive {
        return Err(ActorError::forbidden(format!(
            "too early to prove sector {}: epoch {} is not after {interactive}",
            info.sector_number, env.epoch
        )));
    }
    let entropy = env.entropy();
    Ok(SealStatement {
        proof: info.seal_proof,
        miner: env.miner,
        number: info.sector_number,
        sealed: info.sealed_cid,
        unsealed: info.unsealed_cid.get_cid(info.seal_proof)?,
        ticket: env.ticket_randomness(TAG_SEAL, info.seal_rand_epoch, &entropy)?,
        seed: env.beacon_randomness(TAG_INTERACTIVE_SEAL, interactive, &entropy)?,
    })
}

fn verify_proofs(env: &Env<'_>, candidates: &mut [Candidate<'_>]) {
    for candidate in candidates.iter_mut().filter(|c| c.exit.is_success()) {
        let size = candidate
            .precommit
            .info
            .seal_proof
            .proof_size()
            .unwrap_or(0);
        let proof = candidate.proof.bytes();
        let verdict = if proof.len() == size {
            env.verifier.seal(&candidate.statement, proof)
        } else {
            Err(format!(
                "a proof of {size} bytes was expected, got {}",
                proof.len()
            ))
        };
        if let Err(why) = verdict {
            let number = candidate.manifest.sector_number;
            tracing::info!(number, why, "seal proof refused");
            candidate.exit = ExitCode::USR_ILLEGAL_ARGUMENT;
        }
    }
}

/// The data of a sector must be what the pre-commit said: for us, nothing.
fn check_pieces(candidates: &mut [Candidate<'_>]) {
    for candidate in candidates.iter_mut().filter(|c| c.exit.is_success()) {
        if !candidate.manifest.pieces.is_empty() || !candidate.precommit.info.unsealed_cid.is_zero()
        {
            candidate.exit = ExitCode::USR_ILLEGAL_ARGUMENT;
        }
    }
}

fn require_some(candidates: &[Candidate<'_>], all: bool, none: &str) -> Result<(), ActorError> {
    let failed: Vec<u64> = candidates
        .iter()
        .filter(|c| !c.exit.is_success())
        .map(|c| c.manifest.sector_number)
        .collect();
    if failed.len() == candidates.len() {
        return Err(ActorError::illegal_argument(none.to_owned()));
    }
    if all && !failed.is_empty() {
        return Err(ActorError::illegal_argument(format!(
            "sectors {failed:?} are not valid while requiring activation success ({none})"
        )));
    }
    Ok(())
}

fn activate(
    env: &mut Env<'_>,
    state: &mut State,
    precommits: &[&SectorPreCommitOnChainInfo],
) -> Result<(), ActorError> {
    let policy = &env.rules.policy;
    let info = env.info(state)?;
    let mut sectors = Vec::with_capacity(precommits.len());
    let mut deposits = TokenAmount::zero();
    for precommit in precommits {
        let duration = precommit.info.expiration - env.epoch;
        let power = qa_power_for_weight(info.sector_size, duration, &BigInt::zero());
        deposits += &precommit.pre_commit_deposit;
        sectors.push(SectorOnChainInfo {
            sector_number: precommit.info.sector_number,
            seal_proof: precommit.info.seal_proof,
            sealed_cid: precommit.info.sealed_cid,
            activation: env.epoch,
            expiration: precommit.info.expiration,
            initial_pledge: env.rules.pledge.clone(),
            power_base_epoch: env.epoch,
            flags: SectorOnChainInfoFlags::SIMPLE_QA_POWER,
            daily_fee: daily_proof_fee(policy, &env.rules.circulating_supply, &power),
            ..SectorOnChainInfo::default()
        });
    }
    let numbers: Vec<u64> = sectors.iter().map(|s| s.sector_number).collect();
    let pledge = env.rules.pledge.clone() * sectors.len() as u64;
    state
        .put_sectors(env.store, sectors.clone())
        .map_err(state_error("failed to put new sectors"))?;
    state.delete_precommitted_sectors(env.store, &numbers)?;
    state
        .assign_sectors_to_deadlines(
            policy,
            env.store,
            env.epoch,
            sectors,
            info.window_post_partition_sectors,
            info.sector_size,
        )
        .map_err(state_error("failed to assign new sectors to deadlines"))?;
    state
        .add_pre_commit_deposit(&-deposits)
        .map_err(state_error("failed to unlock pre-commit deposits"))?;
    let unlocked = state
        .get_unlocked_balance(&env.current_balance())
        .map_err(state_error("failed to calculate unlocked balance"))?;
    if unlocked < pledge {
        return Err(ActorError::insufficient_funds(format!(
            "insufficient funds for aggregate initial pledge requirement {pledge}, available: {unlocked}"
        )));
    }
    state
        .add_initial_pledge(&pledge)
        .map_err(state_error("failed to add initial pledge"))
}
