//! What keeps a group off a node, beside room.

use std::collections::HashMap;

use filstar_crds::{
    Disk, Disks, PostBatch, SealingGroup, Toleration, TolerationOperator, parse_bytes,
    parse_millicpus,
};
use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use kube::ResourceExt;

use super::mounts::{Mounts, mounts};
use crate::plan::drain::Closing;
use crate::plan::fleet::{Fleet, amount};
use crate::plan::names;
use crate::world::node::not_ready;
use crate::world::{Id, World, pod, selects};

/// One node that the group's selector names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fit {
    /// Name of the node.
    pub node: String,
    /// Why it cannot take the lanes; none when it can.
    pub problem: Option<String>,
    /// The problem is of the kind that passes (cordoned, not ready): pods that are there stay.
    pub passing: bool,
    /// What is left over there, and why; empty when nothing is.
    pub left_over: String,
}

/// Judges every node that the group's selector names.
pub fn fit(world: &World, group: &Id) -> Vec<Fit> {
    Fleet::of(world).fits(group).cloned().collect()
}

/// Whether a node could run the prover of a batch now, in place of the pod that runs elsewhere: with room beside our
/// pods, and the same files in its stores.
pub(in crate::plan) fn takes_prover(
    world: &World,
    (id, batch): (&Id, &PostBatch),
    prover: &Pod,
    (name, node): (&Id, &Node),
) -> bool {
    let mounts = mounts(world, id, batch);
    selects(&mounts.node_selector, node)
        && not_ready(node).is_none()
        && refused(&batch.spec.tolerations, node).is_none()
        && has_room(world, (id, batch), &name.name, node)
        && has_stores(world, id, &mounts, prover, &name.name)
}

/// Whether a node's CPUs and memory hold the prover beside our pods there.
fn has_room(world: &World, (id, batch): (&Id, &PostBatch), name: &str, node: &Node) -> bool {
    let lane = &batch.spec.lane;
    let own = Id::new(&id.namespace, names::prover_pod(&id.name));
    let room = Room::of(world);
    bytes(&lane.memory)
        .is_some_and(|memory| room.holds(world, node, name, &own, (u64::from(lane.cpus), memory)))
}

/// What our pods ask for on each node: thousandths of CPUs and bytes of memory. Of pods of others nothing is known.
#[derive(Debug, Default)]
pub(in crate::plan) struct Room<'a>(HashMap<&'a str, (u64, u64)>);

impl<'a> Room<'a> {
    pub(in crate::plan) fn of(world: &'a World) -> Self {
        let mut room = Self::default();
        for (_, pod) in world.pods.iter() {
            if let Some(node) = pod::node(pod) {
                let (milli, memory) = asks(pod);
                let sum = room.0.entry(node).or_default();
                sum.0 = sum.0.saturating_add(milli);
                sum.1 = sum.1.saturating_add(memory);
            }
        }
        room
    }

    /// Whether a node has so many CPUs and bytes beside our pods, the pod `own` not counted.
    pub(in crate::plan) fn holds(
        &self,
        world: &World,
        node: &Node,
        name: &str,
        own: &Id,
        (cpus, memory): (u64, u64),
    ) -> bool {
        let own = world.pods.get(own).filter(|p| pod::node(p) == Some(name));
        let own = own.map_or((0, 0), asks);
        let asked = self.0.get(name).copied().unwrap_or_default();
        let has = |what: &str, parse: &dyn Fn(&str) -> Option<u64>| amount(node, what, parse);
        let milli = has("cpu", &milli).saturating_sub(asked.0 - own.0.min(asked.0));
        let bytes = has("memory", &bytes).saturating_sub(asked.1 - own.1.min(asked.1));
        cpus.saturating_mul(1000) <= milli && memory <= bytes
    }
}

fn milli(text: &str) -> Option<u64> {
    parse_millicpus(text).ok()
}

fn bytes(text: &str) -> Option<u64> {
    parse_bytes(text).ok()
}

/// What a pod asks for; nothing when it has ended.
fn asks(pod: &Pod) -> (u64, u64) {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    if matches!(phase, Some("Failed" | "Succeeded")) {
        return (0, 0);
    }
    let containers = pod.spec.iter().flat_map(|s| &s.containers);
    let requests = containers.filter_map(|c| c.resources.as_ref()?.requests.as_ref());
    let mut sum = (0, 0);
    for request in requests {
        let asked = |what: &str, parse: &dyn Fn(&str) -> Option<u64>| {
            request.get(what).and_then(|q| parse(&q.0)).unwrap_or(0)
        };
        sum.0 += asked("cpu", &milli);
        sum.1 += asked("memory", &bytes);
    }
    sum
}

/// Whether the directories of a node that are stores have the files that the prover sees now: some sealer there says so.
/// Other volumes are the same everywhere.
pub(in crate::plan) fn has_stores(
    world: &World,
    id: &Id,
    mounts: &Mounts<'_>,
    prover: &Pod,
    node: &str,
) -> bool {
    let Some(sees) = Disks::of(prover.annotations()) else {
        return true;
    };
    let local = mounts.stores.iter();
    let mut local = local.filter(|(_, s)| s.spec.volume.host_path.is_some());
    local.all(|(name, _)| {
        let mark = sees.stores.get(*name).and_then(|disk| disk.mark);
        let Some(mark) = mark.filter(|mark| *mark != Disk::NO_MARK) else {
            // Nothing was landed where it is now.
            return true;
        };
        let pods = world.pods.in_namespace(&id.namespace);
        let mut there = pods.filter(|(_, pod)| pod::is_live(pod) && pod::node(pod) == Some(node));
        there.any(|(_, pod)| {
            let disks = Disks::of(pod.annotations()).unwrap_or_default();
            disks.stores.get(*name).and_then(|d| d.mark) == Some(mark)
        })
    })
}

/// What keeps new pods away for a while, and leaves those that are there.
pub(in crate::plan) fn passing(closing: &Closing, name: &str, node: &Node) -> Option<String> {
    let request = closing.get(name).map(|request| request.why.to_string());
    let unwell = || Some(format!("the node is unwell: {}", closing.unwell(name)?));
    request.or_else(|| not_ready(node)).or_else(unwell)
}

/// What keeps pods away until somebody changes the node or the group.
pub(in crate::plan) fn lasting(group: &SealingGroup, node: &Node) -> Option<String> {
    let taint = refused(&group.spec.tolerations, node)?;
    Some(format!("the taint {} is not tolerated", taint.key))
}

/// The first taint that keeps pods away.
pub(in crate::plan) fn refused<'a>(
    tolerations: &[Toleration],
    node: &'a Node,
) -> Option<&'a Taint> {
    let taints = node.spec.as_ref().and_then(|s| s.taints.as_ref());
    taints
        .into_iter()
        .flatten()
        .find(|t| t.effect != "PreferNoSchedule" && !tolerated(tolerations, t))
}

fn tolerated(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|t| {
        let key = t
            .key
            .as_deref()
            .is_none_or(|k| k.is_empty() || k == taint.key);
        let effect = t.effect.is_none_or(|e| e.as_str() == taint.effect);
        let value = t.operator == Some(TolerationOperator::Exists) || t.value == taint.value;
        key && effect && value
    })
}
