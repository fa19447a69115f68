//! Recoveries: one message for each deadline with faulty sectors that the prover reads again.
//!
//! A sector is declared only when the prover has read it since its deadline last closed, and never while another
//! message declares it. A declaration must land before the fault cutoff of the deadline; whether it lands early or late
//! makes no difference to the next proof, so while sectors are missing it waits for them as long as there is time.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use filstar_chain::message::params::{DeclareFaultsRecovered, MinerParams, PartitionSectors};
use filstar_chain::proving::Window;
use filstar_chain::types::{BitField, Epoch, bitfield};
use filstar_crds::{
    ChainMessage, ChainMessageSpec, MessageKind, MessageState, PostBatch, parse_ranges,
};

use super::{message, names, policy};
use crate::action::{Action, Collateral};
use crate::world::{ChainFacts, Id, MinerFacts, World, facts};

/// Declarations for one deadline that may fail before a person must look.
const MAX_FAILED: usize = 3;
/// A wish is made when at least so many epochs are left until the cutoff: it is signed in this one and lands in a
/// later one.
const LANDING_EPOCHS: i64 = 3;
/// The part of a proving period before the cutoff in which a declaration no longer waits for further sectors, and the
/// most that a reading may be old.
const QUARTER: i64 = 4;
/// The longest list of sectors in a message's spec.
const MAX_LISTED: u64 = 4096;

/// How the recovery of the faulty sectors of one deadline stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// The deadline's window that is open or opens next.
    pub window: Window,
    /// Faulty sectors whose recovery is not declared on chain.
    pub lost: u64,
    /// What is done about them.
    pub step: Step,
}

/// What is done about faulty sectors.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// The `PostBatch` is suspended.
    Suspended,
    /// The `PostBatch` says not to.
    NotWanted,
    /// The cutoff has come: the next chance is when the deadline has closed.
    TooLate,
    /// The prover vouches for none.
    NoneReadable,
    /// Some can be read; until this epoch the message waits for the others.
    Gathering(Epoch),
    /// This message declares what can be read.
    Declaring(String),
    /// Too many messages failed; the last of them.
    GivenUp(String),
    /// This message is to be made.
    Declare(Id, Box<ChainMessageSpec>),
}

/// Messages to wish for.
pub(super) fn plan(world: &World) -> Vec<Action> {
    let mut actions = Vec::new();
    for (id, batch) in world.batches.iter() {
        for standing in standings(world, id, batch) {
            if let Step::Declare(id, spec) = standing.step {
                let collateral = Collateral::None;
                actions.push(Action::CreateMessage {
                    id,
                    spec,
                    collateral,
                });
            }
        }
    }
    actions
}

/// How it stands with each deadline that has faulty sectors whose recovery is not declared; the one that opens first in
/// front.
pub fn standings(world: &World, id: &Id, batch: &PostBatch) -> Vec<Standing> {
    let Some((miner_id, miner)) = world.miner_of(&id.namespace, &batch.spec.miner_ref.name) else {
        return Vec::new();
    };
    let (Ok(facts), Some(chain)) = (MinerFacts::parse(miner), world.chain_for_proofs(miner_id))
    else {
        return Vec::new();
    };
    if world.older_twin(miner_id).is_some() {
        return Vec::new();
    }
    let mut lost: BTreeMap<u64, Sectors> = BTreeMap::new();
    for ((deadline, partition), faults) in &chain.faults {
        let sectors = faults.lost();
        if !sectors.is_empty() {
            lost.entry(*deadline)
                .or_default()
                .insert(*partition, sectors);
        }
    }
    let scene = Scene {
        world,
        id,
        batch,
        chain,
        actor: &facts.actor_text,
        from: facts::sender(&miner.spec, MessageKind::DeclareRecovered),
        miner_id,
    };
    let mut all: Vec<Standing> = lost
        .iter()
        .filter_map(|(deadline, lost)| {
            let window = chain.deadline.next_window(*deadline)?;
            Some(Standing {
                window,
                lost: count(lost),
                step: scene.step(&window, lost),
            })
        })
        .collect();
    all.sort_by_key(|s| s.window);
    all
}

/// Sectors of one deadline by partition.
type Sectors = BTreeMap<u64, BitField>;

fn count(sectors: &Sectors) -> u64 {
    sectors.values().map(BitField::len).sum()
}

struct Scene<'a> {
    world: &'a World,
    id: &'a Id,
    batch: &'a PostBatch,
    chain: &'a ChainFacts,
    actor: &'a str,
    from: &'a str,
    miner_id: &'a Id,
}

impl<'a> Scene<'a> {
    fn step(&self, window: &Window, lost: &Sectors) -> Step {
        if self.batch.spec.suspend {
            return Step::Suspended;
        }
        let prefix = names::recover_message_prefix(self.actor, window.open.0, window.deadline);
        let declarations = self.declarations(&prefix, window.deadline);
        let mut declared = Sectors::new();
        for (partition, sectors) in declarations.iter().flat_map(|(_, sectors)| sectors) {
            let known = declared.entry(*partition).or_default();
            *known = &*known | sectors;
        }
        let (mut vouched, mut missing) = (Sectors::new(), 0);
        for (partition, sectors) in lost {
            let none = BitField::new();
            let rest = sectors - declared.get(partition).unwrap_or(&none);
            let good = &rest & &self.vouched(window, *partition);
            missing += rest.len() - good.len();
            if !good.is_empty() {
                vouched.insert(*partition, good);
            }
        }
        if vouched.is_empty() {
            return match declarations.last() {
                Some((name, _)) => Step::Declaring((*name).to_owned()),
                None => Step::NoneReadable,
            };
        }
        if !self.batch.spec.declare_recoveries {
            return Step::NotWanted;
        }
        if !can_land(self.chain.head, window) {
            return Step::TooLate;
        }
        let failed = self.failed(&prefix);
        if let Some(last) = failed.last().filter(|_| failed.len() >= MAX_FAILED) {
            return Step::GivenUp((*last).to_owned());
        }
        let until = window.fault_cutoff - self.chain.deadline.proving_period / QUARTER;
        if missing > 0 && self.chain.head < until {
            return Step::Gathering(until);
        }
        self.declare(window, &prefix, &vouched)
            .unwrap_or(Step::NoneReadable)
    }

    /// What messages declare of a deadline, by their very bytes: those that may still do something, and those for this
    /// very window; but none that failed.
    fn declarations(&self, prefix: &str, deadline: u64) -> Vec<(&'a str, Sectors)> {
        let all = self.world.messages.in_namespace(&self.miner_id.namespace);
        let ours = all.filter(|(_, m)| {
            m.spec.kind == MessageKind::DeclareRecovered && m.spec.to == self.actor
        });
        let current = ours.filter(|(id, m)| match state(m) {
            MessageState::Failed => false,
            MessageState::Final => id.name.starts_with(prefix),
            MessageState::Wish
            | MessageState::Signed
            | MessageState::Pushed
            | MessageState::Landed => true,
        });
        current
            .map(|(id, m)| (id.name.as_str(), declared(m, deadline)))
            .filter(|(_, sectors)| !sectors.is_empty())
            .collect()
    }

    fn failed(&self, prefix: &str) -> Vec<&'a str> {
        let all = self.world.messages.in_namespace(&self.miner_id.namespace);
        all.filter(|(id, m)| id.name.starts_with(prefix) && state(m) == MessageState::Failed)
            .map(|(id, _)| id.name.as_str())
            .collect()
    }

    /// Sectors of a partition that the prover has read since the deadline last closed, and not long ago.
    fn vouched(&self, window: &Window, partition: u64) -> BitField {
        let period = self.chain.deadline.proving_period;
        let oldest = (window.close - period).max(self.chain.head - period / QUARTER);
        let reports = self.batch.status.iter().flat_map(|s| &s.faults);
        let of_partition = reports.filter(|r| {
            u64::try_from(r.deadline) == Ok(window.deadline)
                && u64::try_from(r.partition) == Ok(partition)
                && r.read_epoch.is_some_and(|epoch| epoch >= oldest.0)
        });
        let read = of_partition.filter_map(|r| {
            let ranges = parse_ranges(&r.readable).ok()?;
            bitfield::of_ranges(ranges).ok()
        });
        read.fold(BitField::new(), |all, one| &all | &one)
    }

    fn declare(&self, window: &Window, prefix: &str, vouched: &Sectors) -> Option<Step> {
        let namespace = &self.id.namespace;
        let n = message::newest(self.world, namespace, prefix).map_or(1, |(_, _, n)| n + 1);
        let recoveries = bounded(window.deadline, vouched);
        let total: u64 = recoveries.iter().map(|r| r.sectors.len()).sum();
        let mut listed = Vec::new();
        if total <= MAX_LISTED {
            for one in &recoveries {
                let numbers = bitfield::numbers(&one.sectors, MAX_LISTED).ok()?;
                listed.extend(numbers.into_iter().filter_map(|n| i64::try_from(n).ok()));
            }
        }
        let kind = MessageKind::DeclareRecovered;
        let params = DeclareFaultsRecovered { recoveries }.to_cbor().ok()?;
        let max_fee = message::max_fee(self.world, self.miner_id, kind, total).ok()?;
        let spec = ChainMessageSpec {
            miner_ref: self.batch.spec.miner_ref.clone(),
            kind,
            from: self.from.to_owned(),
            to: self.actor.to_owned(),
            method: message::method(kind),
            params: BASE64.encode(params),
            value: String::new(),
            sectors: listed,
            // In the epoch of the cutoff it would be refused.
            deadline_epoch: Some(window.fault_cutoff.0 - 1),
            max_fee: max_fee.to_string(),
        };
        let id = Id::new(namespace, format!("{prefix}{n}"));
        Some(Step::Declare(id, Box::new(spec)))
    }
}

/// Whether a message that is wished for now can land before the cutoff.
fn can_land(head: Epoch, window: &Window) -> bool {
    head + LANDING_EPOCHS <= window.fault_cutoff
}

fn state(message: &ChainMessage) -> MessageState {
    let state = message.status.as_ref().and_then(|s| s.state);
    state.unwrap_or_default()
}

/// What a message declares of one deadline.
fn declared(message: &ChainMessage, deadline: u64) -> Sectors {
    let params = BASE64.decode(&message.spec.params).ok();
    let params = params.and_then(|p| DeclareFaultsRecovered::from_cbor(&p).ok());
    let mut all = Sectors::new();
    for one in params.map(|p| p.recoveries).unwrap_or_default() {
        if one.deadline == deadline {
            let sectors = all.entry(one.partition).or_default();
            *sectors = &*sectors | &one.sectors;
        }
    }
    all
}

/// As many sectors as one message may name.
fn bounded(deadline: u64, sectors: &Sectors) -> Vec<PartitionSectors> {
    let mut left = policy::ADDRESSED_SECTORS_MAX;
    let mut all = Vec::new();
    for (partition, sectors) in sectors.iter().take(policy::ADDRESSED_PARTITIONS_MAX) {
        let Some(sectors) = sectors.slice(0, left.min(sectors.len())) else {
            break;
        };
        left -= sectors.len();
        if sectors.is_empty() {
            break;
        }
        all.push(PartitionSectors {
            deadline,
            partition: *partition,
            sectors,
        });
    }
    all
}
