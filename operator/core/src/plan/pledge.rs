//! Pledging: groups in mode `Auto` keep their number of sectors in work, as long as every gate is open.
//!
//! Each gate is a pure function of the world in a module of its own. They look at what is booked ([`Ledger`]), not only at
//! what is used, and they hold for sectors that people create as well: those wait, with the reason in their condition.

mod balance;
mod capacity;
mod chain_sync;
mod gas_price;
mod gate;
mod landing;
mod ledger;
mod node_maintenance;
mod pace;
mod readings;
mod room;
mod scratch_space;
mod sector_number;
mod sizes;
mod store_space;
mod text;

use std::collections::BTreeSet;

use filstar_crds::{LocalRef, PledgeMode, Restart, SealingGroup, SectorPhase, SectorSpec};

use super::names;
use crate::action::Action;
use crate::world::{Id, MinerFacts, Now, World};

pub use gate::{Gate, Verdict};
pub use ledger::Ledger;
pub(crate) use pace::last;
pub use readings::Readings;
pub use sector_number::next_number;

use ledger::Asking;

/// Sectors to make: at most one for each group in a plan. Those of several groups are booked one after another.
pub(super) fn plan(world: &World, now: Now, ledger: &mut Ledger) -> Vec<Action> {
    world
        .groups
        .iter()
        .filter_map(|(id, group)| pledge(world, now, ledger, id, group))
        .collect()
}

fn pledge(
    world: &World,
    now: Now,
    ledger: &mut Ledger,
    id: &Id,
    group: &SealingGroup,
) -> Option<Action> {
    let spec = &group.spec;
    if spec.pledge.mode != PledgeMode::Auto || group.metadata.deletion_timestamp.is_some() {
        return None;
    }
    if in_flight(world, id) >= spec.pledge.max_in_flight {
        return None;
    }
    if gates(world, now, ledger, id, group)
        .iter()
        .any(|gate| !gate.open)
    {
        return None;
    }
    let (miner_id, miner) = world.miner_of(&id.namespace, &spec.miner_ref.name)?;
    let facts = MinerFacts::parse(miner).ok()?;
    let chain = world.chain(miner_id)?;
    let given = ledger.given.get(miner_id).cloned().unwrap_or_default();
    let number = sector_number::next_free(world, miner_id, &facts, chain, &given)?;
    let asking = Asking {
        id,
        group,
        miner_id,
        miner,
    };
    ledger.book_new(world, asking)?;
    let given = ledger.given.entry(miner_id.clone()).or_default();
    given.insert(number);
    Some(Action::CreateSector {
        id: Id::new(&id.namespace, names::sector(&facts.actor_text, number)),
        spec: SectorSpec {
            miner_ref: spec.miner_ref.clone(),
            group_ref: LocalRef::new(&id.name),
            number: i64::try_from(number).ok()?,
            seal_proof: miner.spec.seal_proof,
            paused: false,
            restart: Restart::Resume,
        },
    })
}

/// Sectors of a group that are neither proving nor leaving. A failed one counts: a person must look at it before
/// another takes its place.
pub fn in_flight(world: &World, group: &Id) -> u32 {
    let count = world
        .sectors
        .in_namespace(&group.namespace)
        .filter(|(_, s)| s.spec.group_ref.name == group.name)
        .filter(|(_, s)| s.metadata.deletion_timestamp.is_none())
        .filter(|(_, s)| s.status.as_ref().and_then(|s| s.phase) != Some(SectorPhase::Proving))
        .count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// What every gate says of one sector more of a group.
pub fn gates(
    world: &World,
    now: Now,
    ledger: &Ledger,
    id: &Id,
    group: &SealingGroup,
) -> Vec<Verdict> {
    let miner_id = Id::new(&id.namespace, &group.spec.miner_ref.name);
    let none = BTreeSet::new();
    let given = ledger.given.get(&miner_id).unwrap_or(&none);
    let number = sector_number::verdict(world, &miner_id, given);
    let Some(miner) = world.miners.get(&miner_id) else {
        return vec![chain_sync::verdict(world, &miner_id), number];
    };
    let asking = Asking {
        id,
        group,
        miner_id: &miner_id,
        miner,
    };
    let no_nodes = node_maintenance::Nodes::default();
    let nodes = ledger.nodes.get(id).unwrap_or(&no_nodes);
    let mut gates = ledger.gates(world, asking);
    gates.insert(1, number);
    gates.insert(3, capacity::verdict(group, nodes));
    if group.spec.pledge.mode == PledgeMode::Auto {
        let others = gates.iter().all(|gate| gate.open);
        let last = last(world, id, group);
        gates.push(pace::verdict(now.wall, id, group, last.as_ref(), others));
    }
    gates
}
