//! Which sectors have ended, by what the chains say that the operator reads.

use std::collections::BTreeMap;

use filstar_chain::types::{ActorId, BitField, bitfield};
use filstar_crds::EndedSectors;

use super::{NUMBERS_CHARS, bits, ranges_text};
use crate::action::EndedCheck;
use crate::world::World;

/// Actors in one sweep, at most: what the API takes.
const ACTORS: usize = 8;

/// The sectors of one actor that have ended, and how to make sure of it.
#[derive(Clone, Debug)]
struct Actor {
    text: String,
    ended: BitField,
    checks: Vec<EndedCheck>,
}

/// Sectors that have ended, of the Miners of one namespace.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ended {
    actors: BTreeMap<u64, Actor>,
}

impl Ended {
    /// By what the chain says now. Miners of one actor, wherever they are, must all be asked and agree.
    pub(crate) fn of(world: &World, namespace: &str) -> Self {
        let mut actors = BTreeMap::new();
        for (_, miner) in world.miners.in_namespace(namespace) {
            let text = &miner.spec.actor_id;
            if let Ok(ActorId(actor)) = text.parse()
                && !actors.contains_key(&actor)
                && let Some((ended, checks)) = ended_of(world, actor)
            {
                let text = text.clone();
                actors.insert(
                    actor,
                    Actor {
                        text,
                        ended,
                        checks,
                    },
                );
            }
        }
        Self { actors }
    }

    /// All of them, as a sweep names them.
    pub(super) fn sectors(&self) -> Vec<EndedSectors> {
        let some = self.actors.values().filter(|a| !a.ended.is_empty());
        some.take(ACTORS)
            .map(|a| EndedSectors {
                actor: a.text.clone(),
                numbers: ranges_text(&a.ended, NUMBERS_CHARS),
            })
            .collect()
    }

    /// Whether all these have ended; none while a chain cannot be asked.
    pub(super) fn has(&self, sectors: &[EndedSectors]) -> Option<bool> {
        let mut all = true;
        for entry in sectors {
            let actor = self.actors.get(&id_of(&entry.actor)?)?;
            all &= bits(entry).is_some_and(|bits| (&bits - &actor.ended).is_empty());
        }
        Some(all)
    }

    /// How to make sure of it for these.
    pub(super) fn checks(&self, sectors: &[EndedSectors]) -> Vec<EndedCheck> {
        let actors = sectors.iter().filter_map(|s| id_of(&s.actor));
        let known = actors.filter_map(|actor| self.actors.get(&actor));
        known.flat_map(|a| a.checks.clone()).collect()
    }
}

/// Sectors of an actor that have ended and have no Sector object; none while not every chain can be asked.
fn ended_of(world: &World, actor: u64) -> Option<(BitField, Vec<EndedCheck>)> {
    let mut all: Option<BitField> = None;
    let mut checks = Vec::new();
    for (id, miner) in world.miners.iter() {
        if miner.spec.actor_id.parse() != Ok(ActorId(actor)) {
            continue;
        }
        let chain = world.chain(id)?;
        let ended = &chain.allocated - &chain.living;
        all = Some(all.map_or_else(|| ended.clone(), |others| &others & &ended));
        checks.push(EndedCheck {
            miner: id.clone(),
            actor: ActorId(actor),
            confidence: miner.spec.confidence,
        });
        let open = chain.precommits.iter().filter(|(_, known)| known.is_some());
        let open = bitfield::of(open.map(|(number, _)| *number)).ok()?;
        all = all.map(|all| &all - &open);
    }
    let ended = all?;
    if ended.is_empty() {
        return Some((ended, checks));
    }
    // An object of any namespace: its sector is still somebody's.
    let objects = world.sectors.iter().filter_map(|(id, _)| {
        let (name, number) = id.name.rsplit_once('-')?;
        (id_of(name)? == actor).then(|| number.parse::<u64>().ok())?
    });
    let objects = bitfield::of(objects).ok()?;
    Some((&ended - &objects, checks))
}

fn id_of(actor: &str) -> Option<u64> {
    actor.parse().ok().map(|ActorId(id)| id)
}
