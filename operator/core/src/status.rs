//! What to say about users' objects: a pure function of the world and the time.
//!
//! Values that move with every epoch (head, base fee, balance) never cause a write of their own: they are written
//! along with something else that changed. So nothing is written at rest.

mod batch;
mod faults;
mod group;
mod miner;
mod node;
mod policy;
mod store;

use filstar_crds::{Conditions, set_condition};
use kube::{Resource, ResourceExt};

use crate::action::{Action, StatusPatch};
use crate::plan::fleet::Fleet;
use crate::plan::pledge;
use crate::world::{Id, Index, Now, World};

/// Statuses that changed.
pub fn status(world: &World, now: Now) -> Vec<Action> {
    with_fleet(world, now, &Fleet::of(world))
}

/// The same with pods that are placed already.
pub fn with_fleet(world: &World, now: Now, fleet: &Fleet) -> Vec<Action> {
    let mut actions = Vec::new();
    let ledger = pledge::Ledger::of(world);
    collect(&mut actions, &world.miners, |id, o| {
        miner::status(world, now, id, o).map(StatusPatch::Miner)
    });
    collect(&mut actions, &world.groups, |id, o| {
        group::status(world, now, (fleet, &ledger), id, o).map(StatusPatch::Group)
    });
    collect(&mut actions, &world.policies, |id, o| {
        policy::status(world, now, id, o).map(StatusPatch::Policy)
    });
    actions.extend(store::all(world, now, &ledger.reach));
    collect(&mut actions, &world.batches, |id, o| {
        batch::status(world, now, (fleet, &ledger.reach), id, o).map(StatusPatch::Batch)
    });
    let work = node::Work::of(world);
    collect(&mut actions, &world.sealing_nodes, |id, o| {
        node::status(world, now, &work, id, o).map(StatusPatch::Node)
    });
    for ((plural, id), why) in &world.unreadable {
        let message = format!(
            "Filstar cannot read this object and leaves it alone: {}. Correct it, or delete it and apply it again",
            why.reason
        );
        if why.reported.as_ref() != Some(&message) {
            let patch = StatusPatch::Unreadable {
                plural: plural.clone(),
                message,
            };
            actions.push(Action::PatchStatus {
                id: id.clone(),
                status: Box::new(patch),
            });
        }
    }
    actions
}

fn collect<T: Resource + ResourceExt>(
    actions: &mut Vec<Action>,
    index: &Index<T>,
    status: impl Fn(&Id, &T) -> Option<StatusPatch>,
) {
    for (id, object) in index.iter() {
        if object.meta().deletion_timestamp.is_some() {
            continue;
        }
        if let Some(status) = status(id, object) {
            actions.push(Action::PatchStatus {
                id: id.clone(),
                status: Box::new(status),
            });
        }
    }
}

/// Sets conditions of one object at one time.
struct Say<'a> {
    conditions: &'a mut Conditions,
    generation: Option<i64>,
    now: Now,
}

impl Say<'_> {
    /// What a condition says that was set before.
    fn said(&self, kind: &str) -> String {
        let mut known = self.conditions.iter();
        let found = known.find(|c| c.type_ == kind);
        found.map_or_else(String::new, |c| c.message.clone())
    }

    fn set(&mut self, kind: &str, status: bool, reason: &str, message: &str) {
        let now = self.now.wall;
        set_condition(
            self.conditions,
            kind,
            status,
            reason,
            message,
            self.generation,
            now,
        );
    }
}

/// A size as people write it: `4KiB`, `64GiB`.
fn size(bytes: u128) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = bytes;
    let mut unit = 0;
    while value >= 1024 && value.is_multiple_of(1024) && unit + 1 < UNITS.len() {
        value /= 1024;
        unit += 1;
    }
    format!("{value}{}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_exact() {
        assert_eq!(size(0), "0B");
        assert_eq!(size(4096), "4KiB");
        assert_eq!(size(64 << 30), "64GiB");
        assert_eq!(size(2048 * 3), "6KiB");
        assert_eq!(size(1025), "1025B");
    }
}
