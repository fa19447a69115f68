//! Runs one message, or a cron, on a world: money, nonces, gas, exit codes.
//!
//! Never: changes the world when a call fails, but for gas and nonce.

use fil_actors_shared::v18::ActorError;
use fvm_shared::ActorID;
use fvm_shared::econ::TokenAmount;
use fvm_shared::error::ExitCode;
use fvm_shared::message::Message;
use num_traits::Zero as _;

use crate::actor::{self, ChainRandomness, Cron, Effects, Env, cron, no_effects};
use crate::config::Rules;
use crate::gas::{self, GasOutputs};
use crate::message::{Receipt, required_gas_funds};
use crate::state::{BURNT_FUNDS, Code, REWARD_ACTOR, World};
use crate::store::Overlay;
use crate::verifier::ProofVerifier;

/// Where and when messages run.
pub(crate) struct Machine<'a> {
    pub(crate) rules: &'a Rules,
    pub(crate) verifier: &'a dyn ProofVerifier,
    pub(crate) chain: &'a dyn ChainRandomness,
    pub(crate) store: &'a Overlay<'a>,
    pub(crate) epoch: i64,
    pub(crate) base_fee: TokenAmount,
}

/// What became of a message.
#[derive(Clone, Debug)]
pub(crate) struct Applied {
    pub(crate) receipt: Receipt,
    pub(crate) outputs: GasOutputs,
}

struct Failure {
    code: ExitCode,
    why: String,
}

impl Failure {
    fn new(code: ExitCode, why: impl Into<String>) -> Self {
        Self {
            code,
            why: why.into(),
        }
    }
}

impl From<ActorError> for Failure {
    fn from(e: ActorError) -> Self {
        Self::new(e.exit_code(), e.msg())
    }
}

impl Machine<'_> {
    /// Runs a message as part of a block: the sender pays, its nonce moves on, whatever comes of it.
    pub(crate) fn apply(&self, world: &mut World, message: &Message, chain_len: usize) -> Applied {
        let funds = required_gas_funds(message);
        let sender = match admit(world, message, &funds) {
            Ok(id) => id,
            Err(failure) => return refused(message, &failure),
        };
        let (receipt, outputs) = self.run(world, sender, message, chain_len);
        world.credit(sender, &outputs.refund);
        world.credit(BURNT_FUNDS, &outputs.burn());
        world.credit(REWARD_ACTOR, &outputs.miner_tip);
        Applied { receipt, outputs }
    }

    /// Runs a message without paying for gas: for estimates and calls.
    pub(crate) fn simulate(&self, world: &World, message: &Message, chain_len: usize) -> Applied {
        let Some(sender) = world.id_of(&message.from) else {
            return refused(
                message,
                &Failure::new(ExitCode::SYS_SENDER_INVALID, "sender is not on chain"),
            );
        };
        let mut trial = world.clone();
        let mut message = message.clone();
        if message.gas_limit == 0 {
            message.gas_limit = gas::BLOCK_GAS_LIMIT;
        }
        let (receipt, outputs) = self.run(&mut trial, sender, &message, chain_len);
        Applied { receipt, outputs }
    }

    fn run(
        &self,
        world: &mut World,
        sender: ActorID,
        message: &Message,
        chain_len: usize,
    ) -> (Receipt, GasOutputs) {
        let to_miner = world
            .lookup(&message.to)
            .is_some_and(|(_, a)| a.code == Code::Miner);
        let wanted = gas::charge(message, to_miner, chain_len);
        let result = if wanted > message.gas_limit {
            Err(Failure::new(
                ExitCode::SYS_OUT_OF_GAS,
                format!("out of gas: {wanted} needed, limit {}", message.gas_limit),
            ))
        } else {
            let mut trial = world.clone();
            self.call(&mut trial, sender, message)
                .inspect(|_| *world = trial)
        };
        let gas_used = wanted.min(message.gas_limit);
        let outputs = GasOutputs::new(gas_used, message, &self.base_fee);
        let (code, return_data, error) = match result {
            Ok(data) => (ExitCode::OK, data, String::new()),
            Err(failure) => (failure.code, Vec::new(), failure.why),
        };
        let fee = outputs.total();
        (
            Receipt {
                exit_code: code.value(),
                return_data,
                gas_used,
                fee,
                error,
            },
            outputs,
        )
    }

    fn call(
        &self,
        world: &mut World,
        from: ActorID,
        message: &Message,
    ) -> Result<Vec<u8>, Failure> {
        let to = world.ensure_account(&message.to).ok_or_else(|| {
            Failure::new(
                ExitCode::SYS_INVALID_RECEIVER,
                format!("no actor at {}", message.to),
            )
        })?;
        if !world.debit(from, &message.value) {
            return Err(Failure::new(
                ExitCode::SYS_INSUFFICIENT_FUNDS,
                format!("sender cannot pay the value {}", message.value),
            ));
        }
        world.credit(to, &message.value);
        match world.get(to).map(|a| a.code) {
            Some(Code::Miner) => {
                self.call_miner(world, to, from, message.method_num, message.params.bytes())
            }
            Some(Code::Account | Code::System) if message.method_num == 0 => Ok(Vec::new()),
            Some(Code::Account | Code::System) | None => Err(Failure::new(
                ExitCode::USR_UNHANDLED_MESSAGE,
                format!("{} has no method {}", message.to, message.method_num),
            )),
        }
    }

    fn call_miner(
        &self,
        world: &mut World,
        miner: ActorID,
        caller: ActorID,
        method: u64,
        params: &[u8],
    ) -> Result<Vec<u8>, Failure> {
        self.with_miner(world, miner, caller, |env, state| {
            actor::invoke(env, state, method, params)
        })
    }

    fn with_miner<T>(
        &self,
        world: &mut World,
        miner: ActorID,
        caller: ActorID,
        act: impl FnOnce(&mut Env<'_>, &mut fil_actor_miner_state::v18::State) -> Result<T, ActorError>,
    ) -> Result<T, Failure> {
        let actor = world
            .get(miner)
            .ok_or_else(|| Failure::new(ExitCode::USR_NOT_FOUND, format!("no miner f0{miner}")))?;
        let head = actor
            .miner
            .as_ref()
            .ok_or_else(|| Failure::new(ExitCode::USR_UNHANDLED_MESSAGE, "not a miner"))?;
        let mut state = actor::load_state(self.store, &head.state)?;
        let mut env = Env {
            store: self.store,
            rules: self.rules,
            verifier: self.verifier,
            chain: self.chain,
            epoch: self.epoch,
            miner,
            caller,
            balance: actor.balance.clone(),
            effects: no_effects(),
        };
        let result = act(&mut env, &mut state)?;
        let root = actor::save_state(self.store, &state)?;
        apply_effects(world, miner, root, &env.effects)?;
        Ok(result)
    }

    /// Runs the crons that are due at this epoch.
    pub(crate) fn run_crons(&self, world: &mut World) {
        let due: Vec<ActorID> = world
            .miners()
            .filter(|(_, m)| m.cron.is_some_and(|epoch| epoch <= self.epoch))
            .map(|(id, _)| id)
            .collect();
        for id in due {
            if let Err(failure) = self.with_miner(world, id, 0, cron::end_of_deadline) {
                tracing::error!(
                    miner = id,
                    epoch = self.epoch,
                    why = failure.why,
                    "cron failed"
                );
                if let Some(miner) = world.get_mut(id).and_then(|a| a.miner.as_mut()) {
                    miner.cron = Some(self.epoch + 1);
                }
            }
        }
    }
}

/// Takes the gas money and moves the nonce on; or nothing at all.
fn admit(world: &mut World, message: &Message, funds: &TokenAmount) -> Result<ActorID, Failure> {
    let invalid = |why: &str| Failure::new(ExitCode::SYS_SENDER_STATE_INVALID, why);
    let (id, actor) = world
        .lookup(&message.from)
        .ok_or_else(|| Failure::new(ExitCode::SYS_SENDER_INVALID, "sender is not on chain"))?;
    if actor.nonce != message.sequence {
        return Err(invalid("nonce is not the sender's next"));
    }
    if !world.debit(id, funds) {
        return Err(invalid("sender cannot pay for the gas limit"));
    }
    if let Some(actor) = world.get_mut(id) {
        actor.nonce += 1;
    }
    Ok(id)
}

fn apply_effects(
    world: &mut World,
    miner: ActorID,
    root: cid::Cid,
    effects: &Effects,
) -> Result<(), Failure> {
    let short = || Failure::new(ExitCode::SYS_INSUFFICIENT_FUNDS, "miner cannot pay");
    if !world.debit(miner, &effects.burn) {
        return Err(short());
    }
    world.credit(BURNT_FUNDS, &effects.burn);
    for (to, amount) in &effects.pay {
        let to = world.id_of(to).ok_or_else(short)?;
        if !world.debit(miner, amount) {
            return Err(short());
        }
        world.credit(to, amount);
    }
    if let Some(head) = world.get_mut(miner).and_then(|a| a.miner.as_mut()) {
        head.state = root;
        head.power += &effects.power;
        match effects.cron {
            Cron::Keep => {}
            Cron::At(epoch) => head.cron = Some(epoch),
            Cron::Stop => head.cron = None,
        }
    }
    Ok(())
}

/// A message that could not even begin: nothing is paid and nothing changes.
fn refused(message: &Message, failure: &Failure) -> Applied {
    let outputs = GasOutputs {
        base_fee_burn: TokenAmount::zero(),
        over_estimation_burn: TokenAmount::zero(),
        miner_penalty: TokenAmount::zero(),
        miner_tip: TokenAmount::zero(),
        refund: TokenAmount::zero(),
    };
    tracing::warn!(from = %message.from, nonce = message.sequence, why = failure.why, "message refused");
    let receipt = Receipt {
        exit_code: failure.code.value(),
        return_data: Vec::new(),
        gas_used: 0,
        fee: TokenAmount::zero(),
        error: failure.why.clone(),
    };
    Applied { receipt, outputs }
}
