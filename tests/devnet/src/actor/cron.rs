//! What happens to a miner at the end of each deadline, without any message: expired promises are
//! burnt, missing proofs become faults, faults are paid for, old ones end.

use fil_actor_miner_state::v18::State;
use fil_actors_shared::v18::ActorError;
use num_bigint::BigInt;
use num_traits::ToPrimitive as _;

use super::terminate::{pay_debt, process_early_terminations};
use super::{Cron, Env, state_error};

/// Closes the deadline that ends at this epoch and sets the next cron.
pub(crate) fn end_of_deadline(env: &mut Env<'_>, state: &mut State) -> Result<(), ActorError> {
    let policy = &env.rules.policy;
    state
        .unlock_vested_funds(env.store, env.epoch)
        .map_err(state_error("failed to vest funds"))?;
    let lost_deposits = state
        .cleanup_expired_pre_commits(policy, env.store, env.epoch)
        .map_err(state_error("failed to expire pre-committed sectors"))?;
    state
        .apply_penalty(&lost_deposits)
        .map_err(state_error("failed to apply penalty"))?;

    let info = env.info(state)?;
    let result = state
        .advance_deadline(policy, env.store, env.epoch)
        .map_err(state_error("failed to advance deadline"))?;
    env.effects.power += &result.power_delta;
    // New faults pay nothing yet; what was faulty before and still is pays for the period.
    let faulty = &result.previously_faulty_power.raw / BigInt::from(info.sector_size as u64);
    let fault_fee = env.rules.fault_fee.clone() * faulty.to_u64().unwrap_or(0);
    state
        .apply_penalty(&(fault_fee + result.daily_fee))
        .map_err(state_error("failed to apply fees"))?;
    pay_debt(env, state)?;
    process_early_terminations(env, state)?;

    if state.continue_deadline_cron() {
        let next = state.deadline_info(policy, env.epoch + 1);
        env.effects.cron = Cron::At(next.last());
    } else {
        state.deadline_cron_active = false;
        env.effects.cron = Cron::Stop;
    }
    Ok(())
}
