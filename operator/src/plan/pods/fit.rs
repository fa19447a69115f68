//! Which nodes can take a group's lanes, and why the others cannot.

use std::collections::BTreeMap;

use filstar_crds::{PostBatch, SealingGroup, Toleration, parse_bytes, parse_millicpus};
use k8s_openapi::api::core::v1::{Node, Taint};

use crate::plan::drain;
use crate::world::{Id, World};

/// One node that the group's selector names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fit {
    /// Name of the node.
    pub node: String,
    /// Why it cannot take the lanes; none when it can.
    pub problem: Option<String>,
    /// The problem is of the kind that passes (cordoned, not ready): pods that are there stay.
    pub passing: bool,
}

/// Judges every node that the group's selector names.
pub fn fit(world: &World, _group_id: &Id, group: &SealingGroup) -> Vec<Fit> {
    world
        .nodes
        .iter()
        .filter(|(_, node)| selects(&group.spec.node_selector, node))
        .map(|(id, node)| {
            let passing = passing_problem(world, id, node);
            let problem = passing.clone().or_else(|| lasting_problem(group, node));
            Fit {
                node: id.name.clone(),
                problem,
                passing: passing.is_some(),
            }
        })
        .collect()
}

/// Whether a node has all labels of a selector.
pub(super) fn selects(selector: &BTreeMap<String, String>, node: &Node) -> bool {
    let labels = node.metadata.labels.as_ref();
    selector
        .iter()
        .all(|(key, value)| labels.and_then(|l| l.get(key)) == Some(value))
}

/// Whether a node may run the prover of a batch now.
pub(in crate::plan) fn takes_prover(batch: &PostBatch, node: &Node) -> bool {
    selects(&batch.spec.node_selector, node)
        && not_ready(node).is_none()
        && refused(&batch.spec.tolerations, node).is_none()
}

fn passing_problem(world: &World, id: &Id, node: &Node) -> Option<String> {
    let closing = drain::request_at(world, id).map(|request| request.why.to_string());
    closing.or_else(|| not_ready(node))
}

fn not_ready(node: &Node) -> Option<String> {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    let ready = conditions.and_then(|c| c.iter().find(|c| c.type_ == "Ready"));
    match ready {
        Some(c) if c.status == "True" => None,
        Some(c) => Some(format!(
            "the node is not ready: {}",
            c.reason.as_deref().unwrap_or("?")
        )),
        None => Some("the node has not reported yet".into()),
    }
}

fn lasting_problem(group: &SealingGroup, node: &Node) -> Option<String> {
    if let Some(taint) = refused(&group.spec.tolerations, node) {
        return Some(format!("the taint {} is not tolerated", taint.key));
    }
    let wanted_cpus: u64 = group.spec.lanes.iter().map(|l| u64::from(l.cpus)).sum();
    let has_cpus = allocatable(node, "cpu", |t| parse_millicpus(t).ok()) / 1000;
    if wanted_cpus > has_cpus {
        return Some(format!(
            "the lanes want {wanted_cpus} CPUs, the node has {has_cpus} to give"
        ));
    }
    let wanted: u64 = group
        .spec
        .lanes
        .iter()
        .filter_map(|l| parse_bytes(&l.memory).ok())
        .sum();
    let has = allocatable(node, "memory", |t| parse_bytes(t).ok());
    if wanted > has {
        return Some(format!(
            "the lanes want {} MiB of memory, the node has {} MiB to give",
            wanted >> 20,
            has >> 20
        ));
    }
    None
}

/// The first taint that keeps pods away.
fn refused<'a>(tolerations: &[Toleration], node: &'a Node) -> Option<&'a Taint> {
    let taints = node.spec.as_ref().and_then(|s| s.taints.as_ref());
    taints
        .into_iter()
        .flatten()
        .find(|t| t.effect != "PreferNoSchedule" && !tolerated(tolerations, t))
}

fn allocatable(node: &Node, name: &str, parse: impl Fn(&str) -> Option<u64>) -> u64 {
    let all = node.status.as_ref().and_then(|s| s.allocatable.as_ref());
    all.and_then(|a| a.get(name))
        .and_then(|q| parse(&q.0))
        .unwrap_or(0)
}

fn tolerated(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|t| {
        let key = t
            .key
            .as_deref()
            .is_none_or(|k| k.is_empty() || k == taint.key);
        let effect = t
            .effect
            .as_deref()
            .is_none_or(|e| e.is_empty() || e == taint.effect);
        let value = t.operator.as_deref() == Some("Exists") || t.value == taint.value;
        key && effect && value
    })
}
