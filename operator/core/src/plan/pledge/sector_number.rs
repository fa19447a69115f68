//! Gate `SectorNumber`: there is a number that neither the actor nor we have used, within the Miner's bounds.

use std::collections::{BTreeMap, BTreeSet};

use filstar_crds::{MessageKind, MessageState, Sector};

use super::gate::{Gate, Verdict};
use crate::world::{ChainFacts, Id, MinerFacts, World};

/// Numbers in messages that have landed or may still land, with the message. A Sector may be deleted while its message is
/// on the way: until that is settled, the number is not free, whatever the chain shows.
pub(super) fn named<'a>(world: &'a World, actor: &str) -> BTreeMap<u64, &'a Id> {
    let mut named = BTreeMap::new();
    for (id, message) in world.messages.iter() {
        let spec = &message.spec;
        let of_sectors = matches!(spec.kind, MessageKind::PreCommit | MessageKind::ProveCommit);
        let state = message.status.as_ref().and_then(|s| s.state);
        if of_sectors && spec.to == actor && state != Some(MessageState::Failed) {
            let numbers = spec.sectors.iter().map(|n| (n.unsigned_abs(), id));
            named.extend(numbers);
        }
    }
    named
}

/// The smallest number that is free: not used on chain, not allocated here, in no message that may land, not reserved,
/// within the bounds.
pub fn next_number(
    world: &World,
    miner: &Id,
    facts: &MinerFacts,
    chain: &ChainFacts,
) -> Option<u64> {
    next_free(world, miner, facts, chain, &BTreeSet::new())
}

/// The same, without those that this plan gives to others.
pub(super) fn next_free(
    world: &World,
    miner: &Id,
    facts: &MinerFacts,
    chain: &ChainFacts,
    given: &BTreeSet<u64>,
) -> Option<u64> {
    let bounds = &world.miners.get(miner)?.spec.sector_numbers;
    let prefix = format!("{}-", facts.actor_text);
    let here: BTreeSet<u64> = world
        .sectors
        .iter()
        .filter_map(|(id, _)| id.name.strip_prefix(&prefix)?.parse().ok())
        .collect();
    let named = named(world, &facts.actor_text);
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
        } else if here.contains(&number) || given.contains(&number) || named.contains_key(&number) {
            number = number.checked_add(1)?;
        } else {
            return Some(number);
        }
    }
    None
}

pub(super) fn verdict(world: &World, miner_id: &Id, given: &BTreeSet<u64>) -> Verdict {
    const GATE: Gate = Gate::SectorNumber;
    let Some(miner) = world.miners.get(miner_id) else {
        let text = "which numbers are free is not known without the Miner";
        return Verdict::closed(GATE, text);
    };
    let facts = match MinerFacts::parse(miner) {
        Ok(facts) => facts,
        Err(error) => return Verdict::closed(GATE, error.to_string()),
    };
    let Some(chain) = world.chain(miner_id) else {
        let text = "which numbers the actor has used is not known until the chain node answers";
        return Verdict::closed(GATE, text);
    };
    match next_free(world, miner_id, &facts, chain, given) {
        Some(number) => Verdict::open(GATE, format!("number {number} is the next")),
        None => Verdict::closed(
            GATE,
            format!(
                "all numbers up to {} are used or reserved; raise sectorNumbers.max of Miner {} to pledge more",
                miner.spec.sector_numbers.max.unwrap_or(i64::MAX),
                miner_id.name
            ),
        ),
    }
}

/// The number of a Sector that is there and not begun: the name that its creator chose may be no good.
pub(super) fn of_sector(
    miner: &str,
    facts: &MinerFacts,
    chain: Option<&ChainFacts>,
    named: &BTreeMap<u64, &Id>,
    sector: &Sector,
) -> Option<Verdict> {
    let number = sector.spec.number.unsigned_abs();
    let closed = |text: String| Some(Verdict::closed(Gate::SectorNumber, text));
    if facts.is_reserved(number) {
        return closed(format!(
            "number {number} is in sectorNumbers.reserved of Miner {miner}; delete this Sector, or take the number out \
             there"
        ));
    }
    if chain.is_some_and(|chain| chain.allocated.get(number)) {
        return closed(format!(
            "the actor has used number {number} before; delete this Sector and pledge another"
        ));
    }
    if let Some(message) = named.get(&number)
        && !is_its_own(sector, message)
    {
        return closed(format!(
            "ChainMessage {} of an earlier Sector with number {number} may still land; delete this Sector and pledge \
             another",
            message.name
        ));
    }
    None
}

fn is_its_own(sector: &Sector, message: &Id) -> bool {
    let refs = sector.status.as_ref().and_then(|s| s.messages.as_ref());
    refs.is_some_and(|refs| {
        [&refs.pre_commit, &refs.commit]
            .into_iter()
            .flatten()
            .any(|name| *name == message.name)
    })
}
