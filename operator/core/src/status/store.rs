//! What to say about a `SectorStore`, and what to ask about garbage in it. Its capacity is written by sealers.

use std::collections::BTreeMap;

use filstar_crds::{
    Removed, Sector, SectorPhase, SectorStore, SectorStoreStatus, SweepKind, conditions,
};
use kube::ResourceExt;

use super::Say;
use crate::action::{Action, StatusPatch};
use crate::plan::reach::{Reach, help};
use crate::plan::sweep::{self, Ended};
use crate::world::{Id, Now, World, pod, selects};

/// What changed of the statuses of all stores.
pub(super) fn all(world: &World, now: Now, reach: &Reach) -> Vec<Action> {
    let mut ended: BTreeMap<&str, Ended> = BTreeMap::new();
    let stays = |store: &SectorStore| store.metadata.deletion_timestamp.is_none();
    let stores = world.stores.iter().filter(|(_, store)| stays(store));
    let mut actions = Vec::new();
    for (id, store) in stores {
        let namespace = id.namespace.as_str();
        let ended = ended
            .entry(namespace)
            .or_insert_with(|| Ended::of(world, namespace));
        actions.extend(one(world, now, (reach, ended), id, store));
    }
    actions
}

/// One store: its new status; what removes files comes when all else is said.
fn one(
    world: &World,
    now: Now,
    (reach, ended): (&Reach, &Ended),
    id: &Id,
    store: &SectorStore,
) -> Option<Action> {
    let old = store.status.clone().unwrap_or_default();
    let (view, checks) = sweep::view(world, now, (reach, ended), id, store);
    let mut next = status(world, now, reach, id, store);
    let (generation, resource_version) = (store.metadata.generation, store.resource_version());
    if let Some((is, reason, text)) = &view.says {
        let mut say = Say {
            conditions: &mut next.conditions,
            generation,
            now,
        };
        say.set(conditions::GARBAGE_FOUND, *is, reason, text);
    }
    next.garbage = view.garbage;
    if let Some((sectors, bytes)) = view.removed {
        let before = next.removed.take();
        next.removed = Some(Removed {
            sectors: before.as_ref().map_or(0, |r| r.sectors) + sectors,
            bytes: before.as_ref().map_or(0, |r| r.bytes) + bytes,
        });
    }
    let resource_version = resource_version.unwrap_or_default();
    if view.stop {
        next.sweep = None;
    }
    let ask = view.ask.map(|ask| (ask.kind, ask));
    if let Some((SweepKind::List, ask)) = ask {
        (next.sweeps, next.sweep) = (next.sweeps + 1, Some(ask));
    } else if let Some((SweepKind::Remove, ask)) = ask
        && next == old
    {
        (next.sweeps, next.sweep) = (next.sweeps + 1, Some(ask));
        return Some(Action::RemoveGarbage {
            id: id.clone(),
            status: Box::new(next),
            checks,
            resource_version,
        });
    }
    (next != old).then(|| Action::PatchStatus {
        id: id.clone(),
        status: Box::new(StatusPatch::Store {
            status: Box::new(next),
            resource_version,
        }),
    })
}

/// What is said of the store itself; of its garbage what was said before.
fn status(
    world: &World,
    now: Now,
    reach: &Reach,
    id: &Id,
    store: &SectorStore,
) -> SectorStoreStatus {
    let old = store.status.clone().unwrap_or_default();
    let mut next = SectorStoreStatus {
        observed_generation: store.metadata.generation,
        sectors: count(world, id, |s| {
            s.status
                .as_ref()
                .and_then(|s| s.store.as_ref())
                .is_some_and(|r| r.landed)
        }),
        landing: count(world, id, |s| {
            s.status.as_ref().and_then(|s| s.phase) == Some(SectorPhase::Landing)
        }),
        ..old.clone()
    };
    let mut say = Say {
        conditions: &mut next.conditions,
        generation: store.metadata.generation,
        now,
    };
    let full = old
        .used_percent
        .is_some_and(|used| used >= store.spec.max_used_percent);
    if full {
        let text = format!(
            "used up to maxUsedPercent ({} %): nothing lands here; add a store or raise the bound",
            store.spec.max_used_percent
        );
        say.set(conditions::FULL, true, "Full", &text);
    } else {
        say.set(
            conditions::FULL,
            false,
            "HasSpace",
            "there is space below maxUsedPercent",
        );
    }
    if let Some(text) = unseen(reach, id, store) {
        say.set(conditions::READY, false, "OutOfReach", &text);
    } else if world
        .pods
        .in_namespace(&id.namespace)
        .any(|(_, p)| pod::says_ready(p) && pod::has_volume(p, &pod::store_volume(&id.name)))
    {
        say.set(
            conditions::READY,
            true,
            "Mounted",
            "sealer or prover pods mount it",
        );
    } else if let Some(text) = no_node(world, store) {
        say.set(conditions::READY, false, "NoNode", &text);
    } else {
        let text = "no ready pod mounts it; it needs a SealingGroup or a PostBatch whose nodes match nodeSelector";
        say.set(conditions::READY, false, "NotMounted", text);
    }
    next
}

/// No node can mount the store: such as when the one that could is gone.
fn no_node(world: &World, store: &SectorStore) -> Option<String> {
    let selector = &store.spec.node_selector;
    let mut nodes = world.nodes.iter();
    if selector.is_empty() || nodes.any(|(_, node)| selects(selector, node)) {
        return None;
    }
    let labels: Vec<String> = selector.iter().map(|(k, v)| format!("{k}={v}")).collect();
    Some(format!(
        "no node has {}: what is in it cannot be proven. Label a node that mounts the volume, or change nodeSelector",
        labels.join(",")
    ))
}

/// What of the store no prover sees; nothing lands there.
fn unseen(reach: &Reach, id: &Id, store: &SectorStore) -> Option<String> {
    let mut far = reach.known().filter(|(other, ..)| *other == id);
    let (_, node, _, why) = far.next()?;
    let others = match far.count() {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    Some(format!(
        "nothing lands here from node {node}{others}, since nobody would prove it: {why}. {}",
        help(store)
    ))
}

fn count(world: &World, id: &Id, wanted: impl Fn(&Sector) -> bool) -> u32 {
    let here = |s: &Sector| {
        let store = s.status.as_ref().and_then(|s| s.store.as_ref());
        store.is_some_and(|r| r.name == id.name)
    };
    let sectors = world.sectors.in_namespace(&id.namespace);
    u32::try_from(sectors.filter(|(_, s)| here(s) && wanted(s)).count()).unwrap_or(u32::MAX)
}
