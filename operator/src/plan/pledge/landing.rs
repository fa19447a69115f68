//! Gate `Landing`: finished sectors that cannot land hold scratch; when too many wait, nothing is begun.

use filstar_crds::{SealingGroup, SectorPhase};

use super::balance::phase;
use super::gate::{Gate, Verdict};
use super::text::count;
use crate::world::{Id, World};

pub(super) fn verdict(world: &World, group_id: &Id, group: &SealingGroup) -> Verdict {
    const GATE: Gate = Gate::Landing;
    let waiting = world
        .sectors
        .in_namespace(&group_id.namespace)
        .filter(|(_, s)| s.spec.group_ref.name == group_id.name)
        .filter(|(_, s)| phase(s) == SectorPhase::Landing)
        .count();
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
