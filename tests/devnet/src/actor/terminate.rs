//! `TerminateSectors` (9), and the fees of every early end.

use fil_actor_miner_state::v18::{
    State, TerminateSectorsParams, TerminateSectorsReturn, deadline_is_mutable,
    pledge_penalty_for_termination,
};
use fil_actors_shared::v18::ActorError;
use fvm_shared::econ::TokenAmount;
use num_traits::Zero as _;

use super::faults::{by_deadline, open};
use super::{Env, decode, state_error};
use crate::codec::cbor;

pub(crate) fn terminate_sectors(
    env: &mut Env<'_>,
    state: &mut State,
    params: &[u8],
) -> Result<Vec<u8>, ActorError> {
    let params: TerminateSectorsParams = decode(params)?;
    let declarations = params
        .terminations
        .into_iter()
        .map(|t| (t.deadline, t.partition, t.sectors));
    let mut todo = by_deadline(env, declarations)?;
    let (info, sectors, mut deadlines) = open(env, state)?;
    let policy = &env.rules.policy;
    for (index, partitions) in todo.iter() {
        let start = state.current_proving_period_start(policy, env.epoch);
        if !deadline_is_mutable(policy, start, index, env.epoch) {
            return Err(ActorError::illegal_argument(format!(
                "cannot terminate sectors in immutable deadline {index}"
            )));
        }
        let quant = state.quant_spec_for_deadline(policy, index);
        let mut deadline = deadlines.load_deadline(env.store, index)?;
        let lost = deadline
            .terminate_sectors(
                policy,
                env.store,
                &sectors,
                env.epoch,
                partitions,
                info.sector_size,
                quant,
            )
            .map_err(state_error("failed to terminate sectors"))?;
        state.early_terminations.set(index);
        env.effects.power -= &lost;
        deadlines
            .update_deadline(policy, env.store, index, &deadline)
            .map_err(state_error("failed to update deadline"))?;
    }
    state
        .save_deadlines(env.store, deadlines)
        .map_err(state_error("failed to save deadlines"))?;
    process_early_terminations(env, state)?;
    Ok(cbor(&TerminateSectorsReturn {
        done: state.early_terminations.is_empty(),
    }))
}

/// Takes the fee of every sector that ended early, and gives its pledge free.
pub(crate) fn process_early_terminations(
    env: &mut Env<'_>,
    state: &mut State,
) -> Result<(), ActorError> {
    let policy = &env.rules.policy;
    let (ended, _more) = state
        .pop_early_terminations(
            policy,
            env.store,
            policy.addressed_partitions_max,
            policy.addressed_sectors_max,
        )
        .map_err(state_error("failed to pop early terminations"))?;
    if ended.is_empty() {
        return Ok(());
    }
    let mut pledge = TokenAmount::zero();
    let mut penalty = TokenAmount::zero();
    for (epoch, numbers) in ended.iter() {
        let infos = state
            .load_sector_infos(env.store, numbers)
            .map_err(state_error("failed to load sector infos"))?;
        for sector in infos {
            let age = (epoch - sector.activation).max(0);
            penalty +=
                pledge_penalty_for_termination(&sector.initial_pledge, age, &env.rules.fault_fee);
            pledge += &sector.initial_pledge;
        }
    }
    state
        .apply_penalty(&penalty)
        .map_err(state_error("failed to apply penalty"))?;
    state
        .add_initial_pledge(&-pledge)
        .map_err(state_error("failed to release pledge"))?;
    pay_debt(env, state)
}

/// Pays what can be paid of the debt; the rest stays.
pub(crate) fn pay_debt(env: &mut Env<'_>, state: &mut State) -> Result<(), ActorError> {
    let balance = env.current_balance();
    let (burn, _unlocked) = state
        .repay_partial_debt_in_priority_order(env.store, env.epoch, &balance)
        .map_err(state_error("failed to pay penalties"))?;
    env.burn(&burn);
    Ok(())
}
