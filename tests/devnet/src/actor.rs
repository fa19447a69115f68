//! The miner actor: which method a message calls, who may call it, and what follows from it.
//!
//! State, queues, partitions and deadlines are the actors' own code (`fil_actor_miner_state`, v18);
//! the methods around it follow builtin-actors v18.
//! In: parameters as the actors' types, the miner's balance with the value of the message.
//! Out: return bytes or an exit code; money to burn and to pay, change of power, next cron.

pub(crate) mod commit;
pub(crate) mod cron;
pub(crate) mod extend;
pub(crate) mod faults;
pub(crate) mod post;
pub(crate) mod precommit;
pub(crate) mod terminate;
pub(crate) mod withdraw;

#[cfg(test)]
mod tests;

use cid::Cid;
use fil_actor_miner_state::v18::{MinerInfo, PowerPair, State};
use fil_actors_shared::v18::{ActorDowncast as _, ActorError};
use fvm_ipld_blockstore::Blockstore as _;
use fvm_shared::ActorID;
use fvm_shared::address::Address;
use fvm_shared::econ::TokenAmount;
use fvm_shared::error::ExitCode;
use num_traits::Zero as _;
use serde::de::DeserializeOwned;

use crate::codec::{cbor, cbor_cid, draw_randomness, from_cbor};
use crate::config::Rules;
use crate::store::Overlay;
use crate::verifier::ProofVerifier;

/// Purposes of randomness that actors use.
pub(crate) const TAG_WINDOW_POST: i64 = 4;
pub(crate) const TAG_SEAL: i64 = 5;
pub(crate) const TAG_INTERACTIVE_SEAL: i64 = 6;
pub(crate) const TAG_CHAIN_COMMIT: i64 = 9;

/// Digests of tickets and beacon entries of the chain that a message is executed on.
pub(crate) trait ChainRandomness {
    fn ticket_digest(&self, epoch: i64) -> Option<[u8; 32]>;
    fn beacon_digest(&self, epoch: i64) -> Option<[u8; 32]>;
}

/// What becomes of a miner's cron.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Cron {
    #[default]
    Keep,
    At(i64),
    Stop,
}

/// What a call does besides changing the miner's state.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) burn: TokenAmount,
    pub(crate) pay: Vec<(Address, TokenAmount)>,
    pub(crate) power: PowerPair,
    pub(crate) cron: Cron,
}

/// Where a call happens.
pub(crate) struct Env<'a> {
    pub(crate) store: &'a Overlay<'a>,
    pub(crate) rules: &'a Rules,
    pub(crate) verifier: &'a dyn ProofVerifier,
    pub(crate) chain: &'a dyn ChainRandomness,
    pub(crate) epoch: i64,
    pub(crate) miner: ActorID,
    pub(crate) caller: ActorID,
    /// The miner's balance, the value of the message included.
    pub(crate) balance: TokenAmount,
    pub(crate) effects: Effects,
}

impl Env<'_> {
    /// What is left of the balance after what the call burns and pays.
    pub(crate) fn current_balance(&self) -> TokenAmount {
        let paid: TokenAmount = self.effects.pay.iter().map(|(_, amount)| amount).sum();
        &self.balance - &self.effects.burn - paid
    }

    pub(crate) fn burn(&mut self, amount: &TokenAmount) {
        self.effects.burn += amount;
    }

    pub(crate) fn info(&self, state: &State) -> Result<MinerInfo, ActorError> {
        state.get_info(self.store).map_err(|e| {
            e.downcast_default(ExitCode::USR_ILLEGAL_STATE, "could not read miner info")
        })
    }

    /// Only owner, worker and control addresses go on.
    pub(crate) fn require_control(&self, info: &MinerInfo) -> Result<(), ActorError> {
        let caller = Address::new_id(self.caller);
        let allowed = caller == info.owner
            || caller == info.worker
            || info.control_addresses.contains(&caller);
        if allowed {
            Ok(())
        } else {
            Err(not_allowed(&caller))
        }
    }

    pub(crate) fn available(&self, state: &State) -> Result<TokenAmount, ActorError> {
        state
            .get_available_balance(&self.current_balance())
            .map_err(|e| {
                e.downcast_default(
                    ExitCode::USR_ILLEGAL_STATE,
                    "failed to calculate available balance",
                )
            })
    }

    /// Burns what the miner owes, or refuses.
    pub(crate) fn repay_debts(&mut self, state: &mut State) -> Result<(), ActorError> {
        let burn = state.repay_debts(&self.current_balance()).map_err(|e| {
            e.downcast_default(ExitCode::USR_ILLEGAL_STATE, "failed to repay debts")
        })?;
        self.burn(&burn);
        Ok(())
    }

    pub(crate) fn ticket_randomness(
        &self,
        tag: i64,
        epoch: i64,
        entropy: &[u8],
    ) -> Result<[u8; 32], ActorError> {
        let digest = self
            .chain
            .ticket_digest(epoch)
            .ok_or_else(|| no_randomness(epoch))?;
        Ok(draw_randomness(tag, &digest, epoch, entropy))
    }

    pub(crate) fn beacon_randomness(
        &self,
        tag: i64,
        epoch: i64,
        entropy: &[u8],
    ) -> Result<[u8; 32], ActorError> {
        let digest = self
            .chain
            .beacon_digest(epoch)
            .ok_or_else(|| no_randomness(epoch))?;
        Ok(draw_randomness(tag, &digest, epoch, entropy))
    }

    /// The entropy of all randomness that belongs to one miner.
    pub(crate) fn entropy(&self) -> Vec<u8> {
        cbor(&Address::new_id(self.miner))
    }

    fn check_invariants(&self, state: &State) -> Result<(), ActorError> {
        state
            .check_balance_invariants(&self.current_balance())
            .map_err(|e| {
                ActorError::unchecked(
                    fil_actor_miner_state::v18::ERR_BALANCE_INVARIANTS_BROKEN,
                    format!("balance invariants broken: {e}"),
                )
            })
    }
}

fn no_randomness(epoch: i64) -> ActorError {
    ActorError::illegal_argument(format!("no randomness of epoch {epoch} on this chain"))
}

pub(crate) fn not_allowed(caller: &Address) -> ActorError {
    ActorError::forbidden(format!(
        "caller {caller} is not one of the miner's addresses"
    ))
}

/// Parameters, or exit code 21.
pub(crate) fn decode<T: DeserializeOwned>(params: &[u8]) -> Result<T, ActorError> {
    from_cbor(params)
        .map_err(|e| ActorError::serialization(format!("failed to decode parameters: {e}")))
}

/// Wraps errors of the state code: those that are actor errors keep their code.
pub(crate) fn state_error(what: &'static str) -> impl Fn(anyhow::Error) -> ActorError {
    move |e| e.downcast_default(ExitCode::USR_ILLEGAL_STATE, what)
}

/// Reads a miner's state.
pub(crate) fn load_state(store: &Overlay<'_>, head: &Cid) -> Result<State, ActorError> {
    let block = store
        .get(head)
        .map_err(state_error("failed to read miner state"))?
        .ok_or_else(|| ActorError::illegal_state(format!("miner state {head} is not there")))?;
    from_cbor(&block).map_err(|e| ActorError::illegal_state(format!("miner state: {e}")))
}

/// Writes a miner's state.
pub(crate) fn save_state(store: &Overlay<'_>, state: &State) -> Result<Cid, ActorError> {
    let block = cbor(state);
    let cid = cbor_cid(&block);
    store
        .put_keyed(&cid, &block)
        .map_err(state_error("failed to write miner state"))?;
    Ok(cid)
}

/// Runs a method. On success the state has to be saved and the effects applied, both or neither.
pub(crate) fn invoke(
    env: &mut Env<'_>,
    state: &mut State,
    method: u64,
    params: &[u8],
) -> Result<Vec<u8>, ActorError> {
    let result = match method {
        0 => Ok(Vec::new()),
        5 => post::submit_windowed_post(env, state, params),
        9 => terminate::terminate_sectors(env, state, params),
        10 => faults::declare_faults(env, state, params),
        11 => faults::declare_faults_recovered(env, state, params),
        16 => withdraw::withdraw_balance(env, state, params),
        28 => precommit::pre_commit_sector_batch2(env, state, params),
        32 => extend::extend_sector_expiration2(env, state, params),
        34 => commit::prove_commit_sectors3(env, state, params),
        other => Err(ActorError::unhandled_message(format!(
            "method {other} is not one this miner actor has"
        ))),
    }?;
    env.check_invariants(state)?;
    Ok(result)
}

/// Nothing happened yet.
pub(crate) fn no_effects() -> Effects {
    Effects {
        burn: TokenAmount::zero(),
        pay: Vec::new(),
        power: PowerPair::zero(),
        cron: Cron::Keep,
    }
}
