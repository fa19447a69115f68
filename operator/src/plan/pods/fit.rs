//! What keeps a group off a node, beside room.

use filstar_crds::{
    Disk, Disks, PostBatch, SealingGroup, Toleration, TolerationOperator, parse_bytes,
    parse_millicpus,
};
use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use kube::ResourceExt;

use super::mounts::{Mounts, mounts};
use crate::plan::drain::Closing;
use crate::plan::fleet::{Fleet, amount};
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
        && has_room(world, batch, &name.name, node)
        && has_stores(world, id, &mounts, prover, &name.name)
}

/// Whether a node's CPUs and memory hold the prover beside our pods there. Of pods of others nothing is known.
fn has_room(world: &World, batch: &PostBatch, name: &str, node: &Node) -> bool {
    let lane = &batch.spec.lane;
    let cpus = |text: &str| parse_millicpus(text).ok();
    let bytes = |text: &str| parse_bytes(text).ok();
    let (mut milli, mut memory) = (amount(node, "cpu", cpus), amount(node, "memory", bytes));
    for (_, pod) in world
        .pods
        .iter()
        .filter(|(_, p)| pod::node(p) == Some(name))
    {
        let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
        if matches!(phase, Some("Failed" | "Succeeded")) {
            continue;
        }
        let containers = pod.spec.iter().flat_map(|s| &s.containers);
        let requests = containers.filter_map(|c| c.resources.as_ref()?.requests.as_ref());
        for request in requests {
            let asked = |what: &str, parse: &dyn Fn(&str) -> Option<u64>| {
                request.get(what).and_then(|q| parse(&q.0)).unwrap_or(0)
            };
            milli = milli.saturating_sub(asked("cpu", &cpus));
            memory = memory.saturating_sub(asked("memory", &bytes));
        }
    }
    u64::from(lane.cpus) * 1000 <= milli && bytes(&lane.memory).is_some_and(|m| m <= memory)
}

/// Whether the directories of a node that are stores have the files that the prover sees now: some sealer there says so.
/// Other volumes are the same everywhere.
fn has_stores(world: &World, id: &Id, mounts: &Mounts<'_>, prover: &Pod, node: &str) -> bool {
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
fn refused<'a>(tolerations: &[Toleration], node: &'a Node) -> Option<&'a Taint> {
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
