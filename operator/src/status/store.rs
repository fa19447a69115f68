//! What to say about a `SectorStore`. Its capacity is written by sealers.

use filstar_crds::{Sector, SectorPhase, SectorStore, SectorStoreStatus, conditions};

use super::Say;
use crate::plan::reach::{Reach, help};
use crate::world::{Id, Now, World, pod};

/// The new status, or none when nothing changed.
pub(super) fn status(
    world: &World,
    now: Now,
    reach: &Reach,
    id: &Id,
    store: &SectorStore,
) -> Option<SectorStoreStatus> {
    let old = store.status.clone().unwrap_or_default();
    let mut next = SectorStoreStatus {
        observed_generation: store.metadata.generation,
        conditions: old.conditions.clone(),
        sectors: count(world, id, |s| {
            s.status
                .as_ref()
                .and_then(|s| s.store.as_ref())
                .is_some_and(|r| r.landed)
        }),
        landing: count(world, id, |s| {
            s.status.as_ref().and_then(|s| s.phase) == Some(SectorPhase::Landing)
        }),
        capacity: old.capacity.clone(),
        used_percent: old.used_percent,
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
    } else {
        let text = "no ready pod mounts it; it needs a SealingGroup or a PostBatch whose nodes match nodeSelector";
        say.set(conditions::READY, false, "NotMounted", text);
    }
    (next != old).then_some(next)
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
