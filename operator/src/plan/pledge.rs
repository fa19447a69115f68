//! Pledging: groups in mode `Auto` keep their number of sectors in work, as long as every gate is open.
//!
//! A gate looks at what is allocated, not only at what the chain has seen, so no number is given twice.

use std::collections::BTreeSet;

use filstar_crds::{GateStatus, PledgeMode, SealingGroup, SectorPhase, SectorSpec};

use super::bookings::places;
use super::names;
use crate::action::Action;
use crate::world::{ChainFacts, Id, MinerFacts, World};

/// Sectors to make: at most one for each group in a plan, so that each gate sees the one before.
pub(super) fn plan(world: &World) -> Vec<Action> {
    world
        .groups
        .iter()
        .filter_map(|(id, group)| pledge(world, id, group))
        .collect()
}

fn pledge(world: &World, id: &Id, group: &SealingGroup) -> Option<Action> {
    let spec = &group.spec;
    if spec.pledge.mode != PledgeMode::Auto || group.metadata.deletion_timestamp.is_some() {
        return None;
    }
    if in_flight(world, id) >= spec.pledge.max_in_flight {
        return None;
    }
    if gates(world, id, group).iter().any(|gate| !gate.open) {
        return None;
    }
    let (miner_id, miner) = world.miner_of(&id.namespace, &spec.miner_ref.name)?;
    let facts = MinerFacts::parse(miner).ok()?;
    let chain = world.chain(&miner_id)?;
    let number = next_number(world, &miner_id, &facts, chain)?;
    Some(Action::CreateSector {
        id: Id::new(&id.namespace, names::sector(&facts.actor_text, number)),
        spec: SectorSpec {
            miner_ref: spec.miner_ref.clone(),
            group_ref: filstar_crds::LocalRef::new(&id.name),
            number: i64::try_from(number).ok()?,
            seal_proof: miner.spec.seal_proof,
            paused: false,
            restart: filstar_crds::Restart::Resume,
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

/// The smallest number that is free: not used on chain, not allocated here, not reserved, within the bounds.
pub fn next_number(
    world: &World,
    miner: &Id,
    facts: &MinerFacts,
    chain: &ChainFacts,
) -> Option<u64> {
    let bounds = &world.miners.get(miner)?.spec.sector_numbers;
    let prefix = format!("{}-", facts.actor_text);
    let here: BTreeSet<u64> = world
        .sectors
        .iter()
        .filter_map(|(id, _)| id.name.strip_prefix(&prefix)?.parse().ok())
        .collect();
    let max = bounds
        .max
        .map_or(i64::MAX.unsigned_abs(), i64::unsigned_abs);
    let mut number = bounds.start.unsigned_abs();
    while number <= max {
        if let Some((_, last)) = facts
            .reserved
            .iter()
            .find(|(a, b)| (*a..=*b).contains(&number))
        {
            number = last.checked_add(1)?;
        } else if let Some(range) = chain.allocated.ranges().find(|r| r.contains(&number)) {
            number = range.end;
        } else if here.contains(&number) {
            number = number.checked_add(1)?;
        } else {
            return Some(number);
        }
    }
    None
}

/// What must be true before a sector is pledged, each with its reason.
pub fn gates(world: &World, id: &Id, group: &SealingGroup) -> Vec<GateStatus> {
    vec![
        chain_gate(world, id, group),
        number_gate(world, id, group),
        capacity_gate(world, id, group),
    ]
}

fn gate(name: &str, open: bool, reason: impl Into<String>) -> GateStatus {
    GateStatus {
        name: name.into(),
        open,
        reason: reason.into(),
    }
}

fn chain_gate(world: &World, id: &Id, group: &SealingGroup) -> GateStatus {
    const NAME: &str = "ChainSync";
    let miner_id = Id::new(&id.namespace, &group.spec.miner_ref.name);
    if world.miners.get(&miner_id).is_none() {
        return gate(NAME, false, format!("there is no Miner {}", miner_id.name));
    }
    match world.chains.get(&miner_id) {
        None => gate(NAME, false, "the chain has not answered yet"),
        Some(view) => match &view.problem {
            Some(problem) => gate(NAME, false, problem.message()),
            None if view.facts.is_none() => gate(NAME, false, "the chain has not answered yet"),
            None => gate(NAME, true, "the chain node is in sync"),
        },
    }
}

fn number_gate(world: &World, id: &Id, group: &SealingGroup) -> GateStatus {
    const NAME: &str = "SectorNumber";
    let miner_id = Id::new(&id.namespace, &group.spec.miner_ref.name);
    let facts = world
        .miners
        .get(&miner_id)
        .and_then(|m| MinerFacts::parse(m).ok());
    let (Some(facts), Some(chain)) = (facts, world.chain(&miner_id)) else {
        return gate(NAME, false, "which numbers are free is not known yet");
    };
    match next_number(world, &miner_id, &facts, chain) {
        Some(_) => gate(NAME, true, "numbers are free"),
        None => gate(
            NAME,
            false,
            "all numbers up to sectorNumbers.max of the Miner are used; raise it to pledge more",
        ),
    }
}

fn capacity_gate(world: &World, id: &Id, group: &SealingGroup) -> GateStatus {
    const NAME: &str = "Capacity";
    if group.spec.paused {
        return gate(NAME, false, "the group is paused");
    }
    match places(world, id, group).count() {
        0 => gate(NAME, false, "no sealer pod is ready"),
        _ => gate(NAME, true, "sealer pods are ready"),
    }
}
