//! Gate `NodeMaintenance`: a node in maintenance, cordoned, excluded or unwell gets no new sectors; with none left
//! nothing is pledged.

use std::collections::{BTreeMap, BTreeSet};

use filstar_crds::{LanePhase, SealingGroup};
use k8s_openapi::api::core::v1::Node;

use super::gate::{Gate, Verdict};
use super::readings::Readings;
use super::store_space::takes;
use super::text::count;
use crate::plan::drain::{Closing, Why};
use crate::plan::reach::Reach;
use crate::world::{Id, World, selects};

/// Nodes named in one message.
const NAMED: usize = 3;

/// A group's nodes, by whether they take new sectors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Nodes {
    /// Those that do.
    pub(super) open: BTreeSet<String>,
    /// Those that do not, with the reason.
    pub(super) closed: BTreeMap<String, String>,
    /// Those on which a ready pod begins with sectors.
    pub(super) ready: BTreeSet<String>,
    /// Where those that take sectors have their scratch, as the ledger counts file systems.
    pub(super) rooms: Vec<(String, usize)>,
}

impl Nodes {
    /// Of one group.
    pub(super) fn of(
        world: &World,
        id: &Id,
        group: &SealingGroup,
        (closing, reach): (&Closing, &Reach),
        readings: &Readings,
    ) -> Self {
        let mut nodes = Self::default();
        let selected = |node: &Node| selects(&group.spec.node_selector, node);
        // Sets of many names are made at once, from names that are sorted or nearly so: that is much cheaper.
        let mut open = Vec::new();
        for (node_id, _) in world.nodes.iter().filter(|(_, n)| selected(n)) {
            match closed(closing, &node_id.name, group) {
                Some(why) => drop(nodes.closed.insert(node_id.name.clone(), why)),
                None => open.push(node_id.name.clone()),
            }
        }
        nodes.open = open.into_iter().collect();
        for (node, why) in out_of_reach(world, id, group, reach, readings) {
            if nodes.open.remove(node) {
                nodes.closed.insert(node.to_owned(), why);
            }
        }
        let begins = |lane: &str| {
            let lane = group.spec.lanes.iter().find(|l| l.name == lane);
            lane.is_some_and(|l| l.phases.contains(&LanePhase::AddPiece))
        };
        let ready = readings.of_group(id).filter(|r| r.ready);
        let ready = ready.filter(|r| r.lane.as_deref().is_some_and(begins));
        let mut ready: Vec<&str> = ready.map(|r| r.node.as_str()).collect();
        ready.sort_unstable();
        ready.dedup();
        nodes.ready = ready.into_iter().map(str::to_owned).collect();
        nodes
    }

    /// Nodes that take a new sector now.
    pub(super) fn taking(&self) -> impl Iterator<Item = &str> {
        self.ready.intersection(&self.open).map(String::as_str)
    }
}

/// Why a node gets no new sectors.
fn closed(closing: &Closing, node: &str, group: &SealingGroup) -> Option<String> {
    match closing.get(node).map(|request| &request.why) {
        Some(Why::Maintenance(Some(why))) => Some(format!("is in maintenance ({why})")),
        Some(Why::Maintenance(None)) => Some("is in maintenance".into()),
        _ if group.spec.pledge.exclude_nodes.iter().any(|n| n == node) => {
            Some("is in pledge.excludeNodes".into())
        }
        Some(Why::Cordoned) => Some(format!("is cordoned (kubectl uncordon {node})")),
        Some(Why::NodeMaintenance) => {
            Some("is cordoned for a NodeMaintenance (kubectl get nodemaintenances)".into())
        }
        Some(Why::TaskOverdue(_)) => Some(format!(
            "was cordoned since a task on it was over its time (kubectl uncordon {node} when it is mended)"
        )),
        None => closing.unwell(node).map(|why| format!("is unwell ({why})")),
    }
}

/// Nodes of which no store that takes the group's sectors is seen by the prover, and why.
fn out_of_reach<'a>(
    world: &World,
    id: &Id,
    group: &SealingGroup,
    reach: &Reach,
    readings: &'a Readings,
) -> BTreeMap<&'a str, String> {
    let mut far = BTreeMap::new();
    if !group.spec.finalize.enabled || reach.known().next().is_none() {
        return far;
    }
    let miner = Id::new(&id.namespace, &group.spec.miner_ref.name);
    for reading in readings.of_group(id) {
        let stores = reading.disks.iter().flat_map(|d| d.stores.keys());
        let stores = stores.filter_map(|name| world.stores.find(&id.namespace, name));
        let ours = stores.filter(|(_, store)| takes(group, store));
        // One that is not known to be out of reach is enough.
        let mut whys = ours.map(|(store, _)| {
            let far = reach
                .far(store, &reading.node, &miner)
                .filter(|f| f.known)?;
            Some(format!(
                "has only stores that are not proven (store {}: {})",
                store.name, far.text
            ))
        });
        if let Some(Some(why)) = whys.try_fold(None, |_, why| why.map(Some)) {
            far.insert(reading.node.as_str(), why);
        }
    }
    far
}

pub(super) fn verdict(nodes: &Nodes) -> Verdict {
    const GATE: Gate = Gate::NodeMaintenance;
    let all = nodes.open.len() + nodes.closed.len();
    let mut named: Vec<String> = nodes
        .closed
        .iter()
        .take(NAMED)
        .map(|(node, why)| format!("{node} {why}"))
        .collect();
    let more = nodes.closed.len().saturating_sub(NAMED);
    if more > 0 {
        named.push(format!("{more} more"));
    }
    let named = named.join(", ");
    if all == 0 {
        let text = "no node has the labels of nodeSelector: label one, or change it";
        Verdict::closed(GATE, text)
    } else if nodes.open.is_empty() {
        Verdict::closed(GATE, format!("no node takes new sectors: {named}"))
    } else if nodes.closed.is_empty() {
        Verdict::open(GATE, format!("{} for new sectors", count(all, "node")))
    } else {
        let text = format!(
            "{} of {} for new sectors: {named}",
            nodes.open.len(),
            count(all, "node")
        );
        Verdict::open(GATE, text)
    }
}
