//! Gate `Capacity`: somebody is there who would begin.

use filstar_crds::SealingGroup;

use super::gate::{Gate, Verdict};
use super::node_maintenance::Nodes;
use super::text::count;

pub(super) fn verdict(group: &SealingGroup, nodes: &Nodes) -> Verdict {
    const GATE: Gate = Gate::Capacity;
    if group.spec.paused {
        return Verdict::closed(GATE, "the group is paused: set spec.paused to false");
    }
    match nodes.taking().count() {
        0 => Verdict::closed(
            GATE,
            "no sealer pod that begins with sectors is ready on a node for new sectors; see the group's pods",
        ),
        ready => Verdict::open(
            GATE,
            format!("sealer pods are ready on {}", count(ready, "node")),
        ),
    }
}
