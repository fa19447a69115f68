//! `SubmitWindowedPoSt` (5). Unlike the real actor, which takes most proofs on trust and lets others
//! dispute them, this one verifies every proof when it is submitted.

use fil_actor_miner_state::v18::{
    DeadlineInfo, MinerInfo, PoStResult, Sectors, State, SubmitWindowedPoStParams,
    load_partitions_sectors_max,
};
use fil_actors_shared::v18::ActorError;
use fvm_shared::randomness::RANDOMNESS_LENGTH;

use super::{Env, TAG_CHAIN_COMMIT, TAG_WINDOW_POST, decode, state_error};
use crate::verifier::WindowStatement;

pub(crate) fn submit_windowed_post(
    env: &mut Env<'_>,
    state: &mut State,
    params: &[u8],
) -> Result<Vec<u8>, ActorError> {
    let mut params: SubmitWindowedPoStParams = decode(params)?;
    check_shape(env, &params)?;
    let info = env.info(state)?;
    env.require_control(&info)?;
    check_against_miner(env, &params, &info)?;
    let policy = &env.rules.policy;
    let deadline_info = state.deadline_info(policy, env.epoch);
    check_time(env, &params, &deadline_info)?;

    let sectors = Sectors::load(env.store, &state.sectors)
        .map_err(|e| ActorError::illegal_state(format!("failed to load sectors: {e}")))?;
    let mut deadlines = state.load_deadlines(env.store)?;
    let mut deadline = deadlines.load_deadline(env.store, params.deadline)?;
    let result = deadline
        .record_proven_sectors(
            env.store,
            &sectors,
            info.sector_size,
            deadline_info.quant_spec(),
            deadline_info.last() + policy.fault_max_age,
            &mut params.partitions,
        )
        .map_err(state_error("failed to process post submission"))?;
    verify(env, &params, &deadline_info, &sectors, &result)?;
    if result.recovered_power.is_zero() {
        deadline
            .record_post_proofs(env.store, &result.partitions, &params.proofs)
            .map_err(state_error(
                "failed to record proof for optimistic verification",
            ))?;
    }
    deadlines
        .update_deadline(policy, env.store, params.deadline, &deadline)
        .map_err(state_error("failed to update deadline"))?;
    state
        .save_deadlines(env.store, deadlines)
        .map_err(state_error("failed to save deadlines"))?;
    env.effects.power += &result.power_delta;
    Ok(Vec::new())
}

fn check_shape(env: &Env<'_>, params: &SubmitWindowedPoStParams) -> Result<(), ActorError> {
    let illegal = |text: String| Err(ActorError::illegal_argument(text));
    let policy = &env.rules.policy;
    if params.proofs.len() != 1 {
        return illegal(format!(
            "expected exactly one proof, got {}",
            params.proofs.len()
        ));
    }
    if !policy
        .valid_post_proof_type
        .contains(params.proofs[0].post_proof)
    {
        return illegal(format!(
            "proof type {:?} not allowed",
            params.proofs[0].post_proof
        ));
    }
    if params.deadline >= policy.wpost_period_deadlines {
        return illegal(format!(
            "invalid deadline {} of {}",
            params.deadline, policy.wpost_period_deadlines
        ));
    }
    if params.chain_commit_rand.0.len() > RANDOMNESS_LENGTH {
        return illegal(format!(
            "expected at most {RANDOMNESS_LENGTH} bytes of randomness, got {}",
            params.chain_commit_rand.0.len()
        ));
    }
    Ok(())
}

fn check_against_miner(
    env: &Env<'_>,
    params: &SubmitWindowedPoStParams,
    info: &MinerInfo,
) -> Result<(), ActorError> {
    let illegal = |text: String| Err(ActorError::illegal_argument(text));
    let proof = &params.proofs[0];
    if proof.post_proof != info.window_post_proof_type {
        return illegal(format!(
            "expected proof of type {:?}, got {:?}",
            info.window_post_proof_type, proof.post_proof
        ));
    }
    let one = info
        .window_post_proof_type
        .proof_size()
        .map_err(ActorError::illegal_state)?;
    let max_size = one * params.partitions.len();
    if proof.proof_bytes.len() > max_size {
        return illegal(format!("expect proof to be smaller than {max_size} bytes"));
    }
    let limit = load_partitions_sectors_max(&env.rules.policy, info.window_post_partition_sectors)
        .min(env.rules.policy.posted_partitions_max);
    if params.partitions.len() as u64 > limit {
        return illegal(format!(
            "too many partitions {}, limit {limit}",
            params.partitions.len()
        ));
    }
    Ok(())
}

fn check_time(
    env: &Env<'_>,
    params: &SubmitWindowedPoStParams,
    deadline: &DeadlineInfo,
) -> Result<(), ActorError> {
    let illegal = |text: String| Err(ActorError::illegal_argument(text));
    if !deadline.is_open() {
        return Err(ActorError::illegal_state(format!(
            "proving period {} not yet open at {}",
            deadline.period_start, env.epoch
        )));
    }
    if params.deadline != deadline.index {
        return illegal(format!(
            "invalid deadline {} at epoch {}, expected {}",
            params.deadline, env.epoch, deadline.index
        ));
    }
    if params.chain_commit_epoch < deadline.challenge {
        return illegal(format!(
            "expected chain commit epoch {} to be after {}",
            params.chain_commit_epoch, deadline.challenge
        ));
    }
    if params.chain_commit_epoch >= env.epoch {
        return illegal(format!(
            "chain commit epoch {} must be less than the current epoch {}",
            params.chain_commit_epoch, env.epoch
        ));
    }
    let expected = env.ticket_randomness(TAG_CHAIN_COMMIT, params.chain_commit_epoch, &[])?;
    if params.chain_commit_rand.0 != expected {
        return illegal("post commit randomness mismatched".to_owned());
    }
    Ok(())
}

fn verify(
    env: &Env<'_>,
    params: &SubmitWindowedPoStParams,
    deadline: &DeadlineInfo,
    sectors: &Sectors<'_, crate::store::Overlay<'_>>,
    result: &PoStResult,
) -> Result<(), ActorError> {
    let infos = sectors
        .load_for_proof(&result.sectors, &result.ignored_sectors)
        .map_err(state_error("failed to load sectors for proof verification"))?;
    if infos.is_empty() {
        return Err(ActorError::illegal_argument(
            "cannot prove partitions with no active sectors".to_owned(),
        ));
    }
    let statement = WindowStatement {
        miner: env.miner,
        randomness: env.beacon_randomness(TAG_WINDOW_POST, deadline.challenge, &env.entropy())?,
        sectors: infos
            .iter()
            .map(|s| (s.sector_number, s.sealed_cid))
            .collect(),
    };
    env.verifier
        .window_post(&statement, &params.proofs[0])
        .map_err(|why| ActorError::illegal_argument(format!("invalid post: {why}")))
}
