//! `PreCommitSectorBatch2` (28): promises of sectors, each backed by a deposit.

use fil_actor_miner_state::v18::{
    CollisionPolicy, PreCommitSectorBatchParams2, SectorPreCommitInfo, SectorPreCommitOnChainInfo,
    State, can_pre_commit_seal_proof, is_sealed_sector, is_unsealed_sector,
    seal_proof_sector_maximum_lifetime,
};
use fil_actors_shared::v18::ActorError;
use fil_actors_shared::v18::runtime::policy_constants::MAX_SECTOR_NUMBER;
use fvm_ipld_bitfield::BitField;
use fvm_shared::sector::RegisteredSealProof;

use super::{Cron, Env, decode, state_error};

pub(crate) fn pre_commit_sector_batch2(
    env: &mut Env<'_>,
    state: &mut State,
    params: &[u8],
) -> Result<Vec<u8>, ActorError> {
    let params: PreCommitSectorBatchParams2 = decode(params)?;
    if params.sectors.is_empty() {
        return Err(ActorError::illegal_argument("batch empty".to_owned()));
    }
    let numbers = check_sectors(env, &params.sectors)?;

    let available = env.available(state)?;
    env.repay_debts(state)?;
    let info = env.info(state)?;
    env.require_control(&info)?;
    for sector in &params.sectors {
        let window = sector.seal_proof.registered_window_post_proof();
        if window != Ok(info.window_post_proof_type) {
            return Err(ActorError::illegal_argument(format!(
                "sector Window PoSt proof type {window:?} must match miner Window PoSt proof type {:?} \
                 (seal proof type {:?})",
                info.window_post_proof_type, sector.seal_proof
            )));
        }
    }
    let total = env.rules.deposit.clone() * params.sectors.len() as u64;
    if available < total {
        return Err(ActorError::insufficient_funds(format!(
            "insufficient funds {available} for pre-commit deposit: {total}"
        )));
    }
    state
        .add_pre_commit_deposit(&total)
        .map_err(state_error("failed to add pre-commit deposit"))?;
    state.allocate_sector_numbers(env.store, &numbers, CollisionPolicy::DenyCollisions)?;
    record(env, state, params.sectors)?;

    if !state.deadline_cron_active {
        state.deadline_cron_active = true;
        let deadline = state.deadline_info(&env.rules.policy, env.epoch);
        env.effects.cron = Cron::At(deadline.last());
    }
    Ok(Vec::new())
}

fn record(
    env: &Env<'_>,
    state: &mut State,
    sectors: Vec<SectorPreCommitInfo>,
) -> Result<(), ActorError> {
    let policy = &env.rules.policy;
    let mut clean_ups = Vec::with_capacity(sectors.len());
    let mut infos = Vec::with_capacity(sectors.len());
    for info in sectors {
        let duration = env
            .rules
            .max_prove_commit_duration(info.seal_proof)
            .unwrap_or_default();
        let clean_up = env.epoch + duration + policy.expired_pre_commit_clean_up_delay;
        clean_ups.push((clean_up, info.sector_number));
        infos.push(SectorPreCommitOnChainInfo {
            info,
            pre_commit_deposit: env.rules.deposit.clone(),
            pre_commit_epoch: env.epoch,
        });
    }
    state
        .put_precommitted_sectors(env.store, infos)
        .map_err(state_error("failed to write pre-committed sectors"))?;
    state
        .add_pre_commit_clean_ups(policy, env.store, clean_ups)
        .map_err(state_error("failed to add pre-commit expiry to queue"))
}

/// The checks that need no state; gives the sector numbers.
fn check_sectors(env: &Env<'_>, sectors: &[SectorPreCommitInfo]) -> Result<BitField, ActorError> {
    let illegal = |text: String| Err(ActorError::illegal_argument(text));
    let mut numbers = BitField::new();
    for sector in sectors {
        let number = sector.sector_number;
        if number > MAX_SECTOR_NUMBER {
            return illegal(format!("sector number {number} out of range 0..(2^63-1)"));
        }
        if numbers.get(number) {
            return illegal(format!("duplicate sector number {number}"));
        }
        numbers.set(number);
        if !can_pre_commit_seal_proof(&env.rules.policy, sector.seal_proof) {
            return illegal(format!(
                "unsupported seal proof type {:?}",
                sector.seal_proof
            ));
        }
        if !is_sealed_sector(&sector.sealed_cid) {
            return illegal("sealed CID had wrong prefix".to_owned());
        }
        if sector
            .unsealed_cid
            .0
            .as_ref()
            .is_some_and(|cid| !is_unsealed_sector(cid))
        {
            return illegal("unsealed CID had wrong prefix".to_owned());
        }
        if !sector.deal_ids.is_empty() {
            return illegal("deal IDs must be empty".to_owned());
        }
        check_epochs(env, sector)?;
    }
    Ok(numbers)
}

fn check_epochs(env: &Env<'_>, sector: &SectorPreCommitInfo) -> Result<(), ActorError> {
    let (epoch, ticket) = (env.epoch, sector.seal_rand_epoch);
    if ticket >= epoch {
        return Err(ActorError::illegal_argument(format!(
            "seal challenge epoch {ticket} must be before now {epoch}"
        )));
    }
    let earliest = epoch - env.rules.policy.max_pre_commit_randomness_lookback;
    if ticket < earliest {
        return Err(ActorError::illegal_argument(format!(
            "seal challenge epoch {ticket} too old, must be after {earliest}"
        )));
    }
    let latest_activation = epoch
        + env
            .rules
            .max_prove_commit_duration(sector.seal_proof)
            .unwrap_or_default();
    check_expiration(env, latest_activation, sector.expiration, sector.seal_proof)
}

/// Whether a sector activated then may live until `expiration`.
pub(crate) fn check_expiration(
    env: &Env<'_>,
    activation: i64,
    expiration: i64,
    proof: RegisteredSealProof,
) -> Result<(), ActorError> {
    let illegal = |text: String| Err(ActorError::illegal_argument(text));
    let policy = &env.rules.policy;
    if expiration <= activation {
        return illegal(format!(
            "sector expiration {expiration} must be after activation {activation}"
        ));
    }
    let lifetime = expiration - activation;
    if lifetime < policy.min_sector_expiration {
        return illegal(format!(
            "invalid expiration {expiration}, total sector lifetime ({lifetime}) must exceed {} after \
             activation {activation}",
            policy.min_sector_expiration
        ));
    }
    if expiration > env.epoch + policy.max_sector_expiration_extension {
        return illegal(format!(
            "invalid expiration {expiration}, cannot be more than {} past current epoch {}",
            policy.max_sector_expiration_extension, env.epoch
        ));
    }
    let longest = seal_proof_sector_maximum_lifetime(proof).ok_or_else(|| {
        ActorError::illegal_argument(format!("unrecognized seal proof type {proof:?}"))
    })?;
    if lifetime > longest {
        return illegal(format!(
            "invalid expiration {expiration}, total sector lifetime ({lifetime}) cannot exceed {longest} \
             after activation {activation}"
        ));
    }
    Ok(())
}
