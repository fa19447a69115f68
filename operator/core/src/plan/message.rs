//! Messages: sign, store, push, find, settle.
//!
//! ```text
//! Wish ──sign──► Signed ──push──► Pushed ──found──► Landed ──confidence──► Final (or Failed, by its exit code)
//!                                   ▲                  │
//!                                   └──── reorg ───────┘
//! ```
//! Every wish that may be signed is asked for in each plan, so that one that cannot be signed holds up no other; a lane
//! stores one signature for each sender in one pass.
//! Never: a second nonce for a message, a push of bytes that are not stored, a signature for a sector that is gone.

mod fees;
mod wish;

use filstar_chain::gas;
use filstar_chain::message::params::{
    DeclareFaultsRecovered, MinerParams, PreCommitSectorBatch2, ProveCommitSectors3,
    SubmitWindowedPost,
};
use filstar_chain::types::{AttoFil, Epoch};
use filstar_crds::{
    ChainMessage, ChainMessageStatus, MessageKind, MessageState, conditions, set_condition,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::policy;
use crate::action::Action;
use crate::world::facts::{self, Invalid};
use crate::world::{ChainFacts, Id, Lookup, Now, World};
use fees::Senders;
use wish::Verdict;

pub use wish::{needs_node, waits_for};

/// Epochs after which a proof that was refused or displaced counts as failed, whatever the Miner's confidence.
const PROOF_CONFIDENCE: i64 = 5;

/// Actions for all messages.
pub(super) fn plan(world: &World, now: Now) -> Vec<Action> {
    let senders = Senders::of(world);
    let mut actions = Vec::new();
    // Oldest first: nonces are given in the order of the wishes. What must land before a deadline closes or its
    // cutoff comes goes before all others.
    let mut messages: Vec<(&Id, &ChainMessage)> = world.messages.iter().collect();
    messages.sort_by_key(|(id, m)| {
        (
            urgency(m.spec.kind),
            m.metadata.creation_timestamp.as_ref().map(|t| t.0),
            (*id).clone(),
        )
    });
    for (id, message) in messages {
        let miner_id = Id::new(&id.namespace, &message.spec.miner_ref.name);
        let Some(chain) = world.chain_for_proofs(&miner_id) else {
            continue;
        };
        let Some(miner) = world.miners.get(&miner_id) else {
            continue;
        };
        let view = View {
            world,
            senders: &senders,
            id,
            message,
            miner_id,
            chain,
            confidence: miner.spec.confidence,
            now,
        };
        actions.extend(view.step());
    }
    actions
}

/// Which kinds are signed first: the smallest.
fn urgency(kind: MessageKind) -> u8 {
    match kind {
        MessageKind::WindowPost => 0,
        MessageKind::DeclareRecovered => 1,
        MessageKind::PreCommit | MessageKind::ProveCommit => 2,
    }
}

/// The same for an action that talks to a chain; what is not about a message comes with the last.
pub fn urgency_of(world: &World, action: &Action) -> u8 {
    let kind = if let Action::SignMessage { id, .. } | Action::PushMessage { id, .. } = action {
        world.messages.get(id).map(|m| m.spec.kind)
    } else if let Action::CreateMessage { spec, .. } = action {
        Some(spec.kind)
    } else {
        None
    };
    urgency(kind.unwrap_or(MessageKind::PreCommit))
}

/// Whether a message is about proofs of sectors that are on chain: it must land in time, and locks no money.
pub fn is_of_proofs(kind: MessageKind) -> bool {
    match kind {
        MessageKind::WindowPost | MessageKind::DeclareRecovered => true,
        MessageKind::PreCommit | MessageKind::ProveCommit => false,
    }
}

struct View<'a> {
    world: &'a World,
    senders: &'a Senders<'a>,
    id: &'a Id,
    message: &'a ChainMessage,
    miner_id: Id,
    chain: &'a ChainFacts,
    confidence: i64,
    now: Now,
}

impl<'a> View<'a> {
    fn step(&self) -> Option<Action> {
        let status = self.message.status.clone().unwrap_or_default();
        match status.state.unwrap_or_default() {
            MessageState::Wish => self.sign(status),
            MessageState::Signed | MessageState::Pushed => self.push_or_find(status),
            MessageState::Landed => self.settle(status),
            MessageState::Final | MessageState::Failed => self.undone(status),
        }
    }

    fn sign(&self, mut status: ChainMessageStatus) -> Option<Action> {
        if !is_of_proofs(self.message.spec.kind) && self.world.chain(&self.miner_id).is_none() {
            return None;
        }
        match wish::judge(self.world, self.chain, self.id, self.message) {
            Verdict::Fail(reason, text) => {
                self.fail(&mut status, reason, &text);
                Some(self.patch(status))
            }
            Verdict::Wait => None,
            Verdict::Hold(reason, text) => {
                let before = status.clone();
                let generation = self.message.metadata.generation;
                say(&mut status, false, reason, &text, generation, self.now.wall);
                (status != before).then(|| self.patch(status))
            }
            Verdict::Sign => Some(Action::SignMessage {
                id: self.id.clone(),
                miner: self.miner_id.clone(),
                min_nonce: self.senders.next_nonce(&self.message.spec.from),
                spendable: self.senders.spendable(self.chain, self.message),
                resource_version: self.resource_version(),
            }),
        }
    }

    fn push_or_find(&self, mut status: ChainMessageStatus) -> Option<Action> {
        if let Some(lookup) = self.lookup(&status) {
            self.land(&mut status, lookup);
            return Some(self.patch(status));
        }
        if self.nonce_is_used(&status) {
            return self.displaced(status);
        }
        let head = self.chain.head.0;
        // A reorg gave the nonce back.
        let back = status.nonce_used_epoch.take().is_some();
        let due = back
            || status.state == Some(MessageState::Signed)
            || status
                .pushed_epoch
                .is_none_or(|e| head >= e + policy::REPUSH_EPOCHS || head < e);
        if !due {
            return None;
        }
        status.pushes = status.pushes.saturating_add(1);
        status.pushed_epoch = Some(head);
        self.enter(
            &mut status,
            MessageState::Pushed,
            "Pushed",
            "a node has it; it waits for a block",
        );
        Some(Action::PushMessage {
            id: self.id.clone(),
            miner: self.miner_id.clone(),
            status: Box::new(status),
            resource_version: self.resource_version(),
        })
    }

    /// The nonce is used up on chain, by one of our versions or by something else.
    fn nonce_is_used(&self, status: &ChainMessageStatus) -> bool {
        let sender = self.chain.senders.get(&self.message.spec.from);
        matches!((sender, status.nonce), (Some(s), Some(nonce)) if s.nonce > nonce)
    }

    /// The nonce is used up, and no version is known to have landed. It is not pushed: no node takes it. Once it is certain
    /// that something else landed, and `confidence` epochs have passed since that was first seen, the message has failed.
    fn displaced(&self, mut status: ChainMessageStatus) -> Option<Action> {
        if !self.is_absent(&status) {
            return None;
        }
        let nonce = status.nonce.unwrap_or_default();
        let from = &self.message.spec.from;
        match status.nonce_used_epoch {
            None => {
                let head = self.chain.head.0;
                status.nonce_used_epoch = Some(head);
                let text = format!(
                    "another message with nonce {nonce} of {from} landed by epoch {head}; this one has failed unless a \
                     reorg undoes that by epoch {}",
                    head + self.until_failed()
                );
                let generation = self.message.metadata.generation;
                say(
                    &mut status,
                    false,
                    "NonceUsed",
                    &text,
                    generation,
                    self.now.wall,
                );
                Some(self.patch(status))
            }
            Some(seen) if self.chain.head.since(Epoch(seen)) >= self.until_failed() => {
                let text = format!(
                    "another message with nonce {nonce} of {from} landed: something else uses this key"
                );
                self.fail(&mut status, "NonceTaken", &text);
                Some(self.patch(status))
            }
            Some(_) => None,
        }
    }

    fn settle(&self, mut status: ChainMessageStatus) -> Option<Action> {
        let before = status.clone();
        match self.lookup(&status) {
            Some(lookup) => self.land(&mut status, lookup),
            // Not yet asked at this head: nothing is known.
            None if !self.is_absent(&status) => return None,
            None => self.dropped(&mut status),
        }
        let landed = Epoch(status.landed_epoch.unwrap_or(i64::MAX));
        let after = if status.exit_code == Some(0) {
            self.confidence
        } else {
            self.until_failed()
        };
        if status.state == Some(MessageState::Landed) && self.chain.head.since(landed) >= after {
            self.finish(&mut status);
        }
        (status != before).then(|| self.patch(status))
    }

    fn dropped(&self, status: &mut ChainMessageStatus) {
        status.landed_epoch = None;
        status.landed_cid = None;
        status.exit_code = None;
        status.gas_used = None;
        status.fee = None;
        status.return_value = None;
        status.pushed_epoch = None;
        let text = "a reorg dropped it; the same bytes are pushed again";
        self.enter(status, MessageState::Pushed, "Dropped", text);
    }

    /// A reorg deeper than the confidence gives the nonce of a message back that counted as landed for good. It is pushed
    /// again: whatever else its sender signs waits behind that nonce.
    fn undone(&self, mut status: ChainMessageStatus) -> Option<Action> {
        let landed = Epoch(status.landed_epoch?);
        // A head that is behind shows as much, and nothing was dropped. What is older than finality stays.
        let may_be = self.until_failed().max(1)..=policy::FINALITY;
        let passed = may_be.contains(&self.chain.head.since(landed));
        let sender = self.chain.senders.get(&self.message.spec.from)?;
        if !passed || sender.nonce > status.nonce? {
            return None;
        }
        self.dropped(&mut status);
        Some(self.patch(status))
    }

    /// Epochs that follow before something counts as failed. Of a proof few: its window closes, and the same once more does
    /// no harm.
    fn until_failed(&self) -> i64 {
        if is_of_proofs(self.message.spec.kind) {
            self.confidence.min(PROOF_CONFIDENCE)
        } else {
            self.confidence
        }
    }

    fn land(&self, status: &mut ChainMessageStatus, lookup: &Lookup) {
        status.nonce_used_epoch = None;
        status.landed_epoch = Some(lookup.epoch.0);
        status.landed_cid = Some(lookup.cid.clone());
        status.exit_code = Some(lookup.exit_code);
        status.gas_used = i64::try_from(lookup.gas_used).ok();
        status.fee = Self::fee(status, lookup).map(|f| f.to_string());
        let bytes = &lookup.return_value;
        status.return_value = (!bytes.is_empty()).then(|| {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD.encode(bytes)
        });
        let (reason, text) = if lookup.exit_code == 0 {
            ("Landed", format!("landed at epoch {}", lookup.epoch))
        } else {
            ("ExitCode", exit_text(lookup.exit_code))
        };
        self.enter(status, MessageState::Landed, reason, &text);
    }

    fn finish(&self, status: &mut ChainMessageStatus) {
        match status.exit_code {
            Some(0) => {
                let text = format!(
                    "landed at epoch {}",
                    status.landed_epoch.unwrap_or_default()
                );
                self.enter(status, MessageState::Final, "Final", &text);
            }
            code => self.fail(status, "ExitCode", &exit_text(code.unwrap_or(-1))),
        }
    }

    /// What it cost, by the rules of the network.
    fn fee(status: &ChainMessageStatus, lookup: &Lookup) -> Option<AttoFil> {
        let version = status.versions.iter().find(|v| v.cid == lookup.cid)?;
        let fees = gas::Fees {
            gas_limit: u64::try_from(version.gas_limit).ok()?,
            gas_fee_cap: AttoFil::from_atto_str(&version.gas_fee_cap).ok()?,
            gas_premium: AttoFil::from_atto_str(&version.gas_premium).ok()?,
        };
        Some(gas::cost(&fees, lookup.gas_used, &lookup.base_fee).total())
    }

    fn lookup(&self, status: &ChainMessageStatus) -> Option<&'a Lookup> {
        status
            .versions
            .iter()
            .find_map(|v| self.chain.lookups.get(&v.cid)?.as_ref())
    }

    /// Every version was asked for at this head, and none was found.
    fn is_absent(&self, status: &ChainMessageStatus) -> bool {
        status
            .versions
            .iter()
            .all(|v| self.chain.lookups.get(&v.cid) == Some(&None))
    }

    fn fail(&self, status: &mut ChainMessageStatus, reason: &str, text: &str) {
        self.enter(status, MessageState::Failed, reason, text);
    }

    fn enter(
        &self,
        status: &mut ChainMessageStatus,
        state: MessageState,
        reason: &str,
        text: &str,
    ) {
        if status.state != Some(state) {
            status.state = Some(state);
            status.changed = Some(Time(self.now.wall));
        }
        let ready = matches!(state, MessageState::Landed | MessageState::Final)
            && status.exit_code == Some(0);
        say(
            status,
            ready,
            reason,
            text,
            self.message.metadata.generation,
            self.now.wall,
        );
    }

    fn patch(&self, status: ChainMessageStatus) -> Action {
        Action::PatchMessage {
            id: self.id.clone(),
            status: Box::new(status),
            resource_version: self.resource_version(),
        }
    }

    fn resource_version(&self) -> String {
        self.message.resource_version().unwrap_or_default()
    }
}

/// Sets the `Ready` condition of a message.
pub(super) fn say(
    status: &mut ChainMessageStatus,
    ready: bool,
    reason: &str,
    text: &str,
    generation: Option<i64>,
    now: Timestamp,
) {
    set_condition(
        &mut status.conditions,
        conditions::READY,
        ready,
        reason,
        text,
        generation,
        now,
    );
}

fn exit_text(code: i64) -> String {
    let meaning =
        u32::try_from(code).map_or("unknown", filstar_chain::message::params::exit::meaning);
    format!("the actor refused it with exit code {code} ({meaning})")
}

/// The newest message whose name is `prefix` and a number.
pub fn newest<'a>(
    world: &'a World,
    namespace: &str,
    prefix: &str,
) -> Option<(&'a Id, &'a ChainMessage, u32)> {
    world
        .messages
        .with_prefix(namespace, prefix)
        .filter_map(|(id, m)| Some((id, m, id.name.strip_prefix(prefix)?.parse().ok()?)))
        .max_by_key(|(_, _, n): &(_, _, u32)| *n)
}

/// The method of a kind of messages.
pub(super) fn method(kind: MessageKind) -> u64 {
    match kind {
        MessageKind::PreCommit => PreCommitSectorBatch2::METHOD,
        MessageKind::ProveCommit => ProveCommitSectors3::METHOD,
        MessageKind::WindowPost => SubmitWindowedPost::METHOD,
        MessageKind::DeclareRecovered => DeclareFaultsRecovered::METHOD,
    }
}

/// The most that a message of this kind may cost in fees: the policy's bound, else the kind's default.
pub(super) fn max_fee(
    world: &World,
    miner: &Id,
    kind: MessageKind,
    sectors: u64,
) -> Result<AttoFil, Invalid> {
    let reference = world
        .miners
        .get(miner)
        .and_then(|m| m.spec.gas_policy_ref.as_ref());
    let policy = reference.and_then(|r| world.policies.get(&Id::new(&miner.namespace, &r.name)));
    let bound = policy
        .map(|p| facts::max_fee(p, kind))
        .transpose()?
        .flatten();
    Ok(bound.unwrap_or_else(|| {
        let kind = match kind {
            MessageKind::PreCommit => gas::MessageKind::PreCommit,
            MessageKind::ProveCommit => gas::MessageKind::ProveCommit,
            MessageKind::WindowPost => gas::MessageKind::WindowPost,
            MessageKind::DeclareRecovered => gas::MessageKind::DeclareRecovered,
        };
        gas::default_max_fee(kind, sectors)
    }))
}
