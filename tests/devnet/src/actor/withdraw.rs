//! `WithdrawBalance` (16): what is not locked goes to the owner.

use fil_actor_miner_state::v18::{State, WithdrawBalanceParams, WithdrawBalanceReturn};
use fil_actors_shared::v18::ActorError;
use fvm_shared::address::Address;

use super::{Env, decode, not_allowed, state_error};
use crate::codec::cbor;

pub(crate) fn withdraw_balance(
    env: &mut Env<'_>,
    state: &mut State,
    params: &[u8],
) -> Result<Vec<u8>, ActorError> {
    let params: WithdrawBalanceParams = decode(params)?;
    if params.amount_requested.is_negative() {
        return Err(ActorError::illegal_argument(format!(
            "negative fund requested for withdrawal: {}",
            params.amount_requested
        )));
    }
    let info = env.info(state)?;
    let caller = Address::new_id(env.caller);
    if caller != info.owner && caller != info.beneficiary {
        return Err(not_allowed(&caller));
    }
    if !state.early_terminations.is_empty() {
        return Err(ActorError::forbidden(format!(
            "cannot withdraw funds while {} deadlines have terminated sectors with outstanding fees",
            state.early_terminations.len()
        )));
    }
    state
        .unlock_vested_funds(env.store, env.epoch)
        .map_err(state_error("failed to vest funds"))?;
    let available = env.available(state)?;
    env.repay_debts(state)?;
    let amount = std::cmp::min(available, params.amount_requested);
    if amount.is_negative() {
        return Err(ActorError::illegal_state(format!(
            "negative amount to withdraw: {amount}"
        )));
    }
    if amount.is_positive() {
        env.effects.pay.push((info.beneficiary, amount.clone()));
    }
    Ok(cbor(&WithdrawBalanceReturn {
        amount_withdrawn: amount,
    }))
}
