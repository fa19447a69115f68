//! `ExtendSectorExpiration2` (32), for sectors without verified claims.

use fil_actor_miner_state::v18::{
    ExpirationExtension2, ExtendSectorExpiration2Params, MinerInfo, Partition, SectorOnChainInfo,
    Sectors, State, new_deadline_info,
};
use fil_actors_shared::v18::ActorError;

use super::precommit::check_expiration;
use super::{Env, decode, state_error};

pub(crate) fn extend_sector_expiration2(
    env: &mut Env<'_>,
    state: &mut State,
    params: &[u8],
) -> Result<Vec<u8>, ActorError> {
    let params: ExtendSectorExpiration2Params = decode(params)?;
    let count: u64 = params.extensions.iter().map(|e| e.sectors.len()).sum();
    if count > env.rules.policy.addressed_sectors_max {
        return Err(ActorError::illegal_argument(format!(
            "too many sectors for declaration {count}, max {}",
            env.rules.policy.addressed_sectors_max
        )));
    }
    let info = env.info(state)?;
    env.require_control(&info)?;
    for extension in &params.extensions {
        extend_one(env, state, &info, extension)?;
    }
    Ok(Vec::new())
}

fn extend_one(
    env: &mut Env<'_>,
    state: &mut State,
    info: &MinerInfo,
    extension: &ExpirationExtension2,
) -> Result<(), ActorError> {
    if !extension.sectors_with_claims.is_empty() {
        return Err(ActorError::illegal_argument(
            "this devnet has no verified claims: sectors with claims must be empty".to_owned(),
        ));
    }
    let policy = &env.rules.policy;
    let index = extension.deadline;
    if index >= policy.wpost_period_deadlines {
        return Err(ActorError::illegal_argument(format!(
            "deadline {index} not in range 0..{}",
            policy.wpost_period_deadlines
        )));
    }
    let mut deadlines = state.load_deadlines(env.store)?;
    let mut deadline = deadlines.load_deadline(env.store, index)?;
    let mut partition: Partition = deadline.load_partition(env.store, extension.partition)?;
    if !partition.sectors.contains_all(&extension.sectors) {
        return Err(ActorError::illegal_argument(
            "not all sectors are assigned to the partition".to_owned(),
        ));
    }
    let mut sectors = Sectors::load(env.store, &state.sectors)
        .map_err(|e| ActorError::illegal_state(format!("failed to load sectors: {e}")))?;
    let old = sectors.load_sectors(&extension.sectors)?;
    let new = old
        .iter()
        .map(|sector| extended(env, sector, extension.new_expiration))
        .collect::<Result<Vec<_>, _>>()?;
    let quant =
        new_deadline_info(policy, state.proving_period_start, index, env.epoch).quant_spec();
    sectors
        .store(new.clone())
        .map_err(state_error("failed to update sectors"))?;
    state.sectors = sectors
        .amt
        .flush()
        .map_err(|e| ActorError::illegal_state(format!("failed to save sectors: {e}")))?;
    let (power, pledge, fee) = partition
        .replace_sectors(env.store, &old, &new, info.sector_size, quant)
        .map_err(state_error("failed to replace sector expirations"))?;
    env.effects.power += &power;
    deadline.live_power += &power;
    deadline.daily_fee += &fee;
    state
        .add_initial_pledge(&pledge)
        .map_err(state_error("failed to change the pledge"))?;

    let mut partitions = deadline
        .partitions_amt(env.store)
        .map_err(state_error("failed to load partitions"))?;
    partitions
        .set(extension.partition, partition)
        .map_err(|e| ActorError::illegal_state(format!("failed to save partition: {e}")))?;
    deadline.partitions = partitions
        .flush()
        .map_err(|e| ActorError::illegal_state(format!("failed to save partitions: {e}")))?;
    deadline
        .add_expiration_partitions(
            env.store,
            extension.new_expiration,
            &[extension.partition],
            quant,
        )
        .map_err(state_error("failed to record the new expiration"))?;
    deadlines
        .update_deadline(policy, env.store, index, &deadline)
        .map_err(state_error("failed to save deadline"))?;
    state
        .save_deadlines(env.store, deadlines)
        .map_err(state_error("failed to save deadlines"))
}

fn extended(
    env: &Env<'_>,
    sector: &SectorOnChainInfo,
    expiration: i64,
) -> Result<SectorOnChainInfo, ActorError> {
    let number = sector.sector_number;
    if expiration < sector.expiration {
        return Err(ActorError::illegal_argument(format!(
            "cannot reduce sector {number} expiration to {expiration} from {}",
            sector.expiration
        )));
    }
    if sector.expiration < env.epoch {
        return Err(ActorError::forbidden(format!(
            "cannot extend expiration for expired sector {number} at {}",
            sector.expiration
        )));
    }
    check_expiration(env, sector.activation, expiration, sector.seal_proof)?;
    let mut new = sector.clone();
    new.expiration = expiration;
    new.power_base_epoch = env.epoch;
    Ok(new)
}
