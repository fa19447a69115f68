//! Gate `Landing`: finished sectors that cannot land hold scratch; when too many wait, nothing is begun.

use filstar_crds::SealingGroup;

use super::gate::{Gate, Verdict};
use super::text::count;

/// `waiting`: finished sectors of the group that have not landed.
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
