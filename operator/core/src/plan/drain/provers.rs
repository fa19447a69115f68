//! Provers on a node that shall be empty: they move between deadlines, and only when another node takes them.

use filstar_crds::{DeadlineState, PostBatch, labels};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::node_is_closing;
use crate::plan::pods;
use crate::world::pod::node as wanted_node;
use crate::world::{Id, World};

/// Why a prover stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stays {
    /// It proves a deadline now; it goes after that.
    Proves(i64),
    /// No other node takes it.
    NoOtherNode(String),
}

/// Provers that may go now.
pub(super) fn leaving<'a>(
    world: &'a World,
    node: &'a str,
) -> impl Iterator<Item = (&'a Id, &'a Pod)> {
    on(world, node).filter(|(id, pod)| {
        pod.metadata.deletion_timestamp.is_none() && stays(world, id, pod, node).is_none()
    })
}

/// Prover pods on a node.
pub(super) fn on<'a>(world: &'a World, node: &'a str) -> impl Iterator<Item = (&'a Id, &'a Pod)> {
    world.pods.iter().filter(move |(_, pod)| {
        pod.labels().contains_key(labels::POST_BATCH) && wanted_node(pod) == Some(node)
    })
}

/// Why a prover stays; none when it may go. A prover without a batch proves nothing.
pub(super) fn stays(world: &World, id: &Id, pod: &Pod, node: &str) -> Option<Stays> {
    let name = pod.labels().get(labels::POST_BATCH)?;
    let batch_id = Id::new(&id.namespace, name);
    let batch = world.batches.get(&batch_id)?;
    if let Some(index) = proves(batch) {
        return Some(Stays::Proves(index));
    }
    let elsewhere = world.nodes.iter().any(|(other, found)| {
        other.name != node
            && node_is_closing(world, &other.name).is_none()
            && pods::takes_prover(world, (&batch_id, batch), pod, (other, found))
    });
    (!elsewhere).then(|| Stays::NoOtherNode(name.clone()))
}

/// Whether a deadline of the batch is being proven, by a prover that proves in time: one that missed the deadline before
/// may be what has to change.
pub(in crate::plan) fn has_proof_to_lose(batch: &PostBatch) -> bool {
    let deadlines = batch.status.iter().flat_map(|s| &s.deadlines);
    let over =
        deadlines.filter(|d| matches!(d.state, DeadlineState::Accepted | DeadlineState::Missed));
    let missed = over.max_by_key(|d| d.open).map(|d| d.state) == Some(DeadlineState::Missed);
    proves(batch).is_some() && !missed
}

fn proves(batch: &PostBatch) -> Option<i64> {
    let deadlines = &batch.status.as_ref()?.deadlines;
    let busy = |state| matches!(state, DeadlineState::Proving | DeadlineState::Submitting);
    deadlines.iter().find(|d| busy(d.state)).map(|d| d.index)
}
