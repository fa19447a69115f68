//! Gate `Landing`: finished sectors that cannot land hold scratch; when too many wait, nothing is begun.

use std::collections::BTreeMap;

use filstar_crds::{SealingGroup, SectorPhase};

use super::balance::phase;
use super::gate::{Gate, Verdict};
use super::text::count;
use crate::world::{Id, World};

/// Finished sectors that have not landed, by group.
pub(super) fn waiting(world: &World) -> BTreeMap<Id, usize> {
    let mut waiting = BTreeMap::new();
    for (id, sector) in world.sectors.iter() {
        if phase(sector) == SectorPhase::Landing {
            let group = Id::new(&id.namespace, &sector.spec.group_ref.name);
            *waiting.entry(group).or_default() += 1;
        }
    }
    waiting
}

pub(super) fn verdict(waiting: usize, group: &SealingGroup) -> Verdict {
    const GATE: Gate = Gate::Landing;
    let max = group.spec.pledge.gates.landing.max_waiting;
    let text = format!(
        "{} to land, pledge.gates.landing.maxWaiting is {max}",
        count(waiting, "sector")
    );
    if waiting < usize::try_from(max).unwrap_or(usize::MAX) {
        Verdict::open(GATE, text)
    } else {
        Verdict::closed(
            GATE,
            format!("{text}; see their conditions and those of the stores"),
        )
    }
}
