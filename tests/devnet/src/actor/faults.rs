//! `DeclareFaults` (10) and `DeclareFaultsRecovered` (11).

use fil_actor_miner_state::v18::{
    DeadlineInfo, DeadlineSectorMap, Deadlines, DeclareFaultsParams, DeclareFaultsRecoveredParams,
    MinerInfo, Sectors, State, new_deadline_info,
};
use fil_actors_shared::v18::ActorError;
use fvm_ipld_bitfield::BitField;

use super::{Env, decode, state_error};
use crate::store::Overlay;

pub(crate) fn declare_faults(
    env: &mut Env<'_>,
    state: &mut State,
    params: &[u8],
) -> Result<Vec<u8>, ActorError> {
    let params: DeclareFaultsParams = decode(params)?;
    let declarations = params
        .faults
        .into_iter()
        .map(|f| (f.deadline, f.partition, f.sectors));
    let mut todo = by_deadline(env, declarations)?;
    let (info, sectors, mut deadlines) = open(env, state)?;
    let policy = &env.rules.policy;
    for (index, partitions) in todo.iter() {
        let target = declaration_deadline(env, state, index)?;
        let mut deadline = deadlines.load_deadline(env.store, index)?;
        let power = deadline
            .record_faults(
                env.store,
                &sectors,
                info.sector_size,
                target.quant_spec(),
                target.last() + policy.fault_max_age,
                partitions,
            )
            .map_err(state_error("failed to declare faults"))?;
        env.effects.power += &power;
        deadlines
            .update_deadline(policy, env.store, index, &deadline)
            .map_err(state_error("failed to store deadline"))?;
    }
    state
        .save_deadlines(env.store, deadlines)
        .map_err(state_error("failed to save deadlines"))?;
    Ok(Vec::new())
}

pub(crate) fn declare_faults_recovered(
    env: &mut Env<'_>,
    state: &mut State,
    params: &[u8],
) -> Result<Vec<u8>, ActorError> {
    let params: DeclareFaultsRecoveredParams = decode(params)?;
    let declarations = params
        .recoveries
        .into_iter()
        .map(|r| (r.deadline, r.partition, r.sectors));
    let mut todo = by_deadline(env, declarations)?;
    env.repay_debts(state)?;
    let (info, sectors, mut deadlines) = open(env, state)?;
    for (index, partitions) in todo.iter() {
        declaration_deadline(env, state, index)?;
        let mut deadline = deadlines.load_deadline(env.store, index)?;
        deadline
            .declare_faults_recovered(env.store, &sectors, info.sector_size, partitions)
            .map_err(state_error("failed to declare recoveries"))?;
        deadlines
            .update_deadline(&env.rules.policy, env.store, index, &deadline)
            .map_err(state_error("failed to store deadline"))?;
    }
    state
        .save_deadlines(env.store, deadlines)
        .map_err(state_error("failed to save deadlines"))?;
    Ok(Vec::new())
}

/// What a declaration of a control address works on.
pub(crate) fn open<'a>(
    env: &Env<'a>,
    state: &State,
) -> Result<(MinerInfo, Sectors<'a, Overlay<'a>>, Deadlines), ActorError> {
    let info = env.info(state)?;
    env.require_control(&info)?;
    let sectors = Sectors::load(env.store, &state.sectors)
        .map_err(|e| ActorError::illegal_state(format!("failed to load sectors: {e}")))?;
    Ok((info, sectors, state.load_deadlines(env.store)?))
}

/// Declarations by deadline and partition, within what one message may address.
pub(crate) fn by_deadline(
    env: &Env<'_>,
    declarations: impl Iterator<Item = (u64, u64, BitField)>,
) -> Result<DeadlineSectorMap, ActorError> {
    let policy = &env.rules.policy;
    let mut map = DeadlineSectorMap::new();
    for (deadline, partition, sectors) in declarations {
        map.add(policy, deadline, partition, sectors).map_err(|e| {
            ActorError::illegal_argument(format!(
                "failed to process deadline {deadline}, partition {partition}: {e}"
            ))
        })?;
    }
    map.check(
        policy.addressed_partitions_max,
        policy.addressed_sectors_max,
    )
    .map_err(|e| {
        ActorError::illegal_argument(format!("cannot process requested parameters: {e}"))
    })?;
    Ok(map)
}

/// The next time of a deadline; refused from the cutoff before it opens until it closes.
fn declaration_deadline(
    env: &Env<'_>,
    state: &State,
    index: u64,
) -> Result<DeadlineInfo, ActorError> {
    let policy = &env.rules.policy;
    let start = state.current_proving_period_start(policy, env.epoch);
    let target = new_deadline_info(policy, start, index, env.epoch).next_not_elapsed();
    if target.fault_cutoff_passed() {
        return Err(ActorError::illegal_argument(format!(
            "failed fault declaration at deadline {index}: late fault or recovery declaration"
        )));
    }
    Ok(target)
}
