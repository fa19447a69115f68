//! What keeps a group off a node, beside room.

use filstar_crds::{PostBatch, SealingGroup, Toleration, TolerationOperator};
use k8s_openapi::api::core::v1::{Node, Taint};

use crate::plan::drain::Closing;
use crate::plan::fleet::Fleet;
use crate::world::{Id, World, selects};

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

/// Whether a node may run the prover of a batch now.
pub(in crate::plan) fn takes_prover(batch: &PostBatch, node: &Node) -> bool {
    selects(&batch.spec.node_selector, node)
        && not_ready(node).is_none()
        && refused(&batch.spec.tolerations, node).is_none()
}

/// What keeps new pods away for a while, and leaves those that are there.
pub(in crate::plan) fn passing(closing: &Closing, name: &str, node: &Node) -> Option<String> {
    let closing = closing.get(name).map(|request| request.why.to_string());
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
