//! Provers that nobody can expect to prove again where they are. Pure.
//!
//! A pod that is deleted stays until the kubelet of its node says that its containers ended. A node that died says
//! nothing, and a process that waits for a dead disk does not end: until then the name is taken and nobody proves. Two
//! provers at once do no harm, since they read stores and nothing else, and the operator alone signs; so where another node
//! takes the prover its pod is not waited for.

use filstar_crds::PostBatch;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt;

use super::fit::takes_prover;
use crate::action::Action;
use crate::plan::drain;
use crate::world::node::not_ready;
use crate::world::pod::{condition, node};
use crate::world::{Id, Now, World};

/// For so long after the time that it was given to end a prover may go on ending.
const ENDING: SignedDuration = SignedDuration::from_mins(1);
/// A node that is not ready for so long does not count on its prover. Kubernetes waits as long, and for ever where the pod
/// tolerates it.
const SILENT: SignedDuration = SignedDuration::from_mins(5);
/// A prover that is not ready for so long sees no chain, or has not started: it has no proof to lose.
const BLIND: SignedDuration = SignedDuration::from_mins(3);

/// Lets go of a prover's pod that is lost, if another node takes the prover.
pub(super) fn forget(
    world: &World,
    now: Now,
    batch: (&Id, &PostBatch),
    running: &Pod,
) -> Option<Action> {
    let here = node(running)?;
    let reason = why(world, now, running, here)?;
    let elsewhere = world.nodes.iter().any(|(other, found)| {
        other.name != here
            && drain::node_is_closing(world, &other.name).is_none()
            && takes_prover(world, batch, running, (other, found))
    });
    elsewhere.then_some(Action::ForgetPod {
        id: Id::of(running),
        uid: running.uid()?,
        reason,
    })
}

/// Why it is lost; none when it is not.
fn why(world: &World, now: Now, running: &Pod, here: &str) -> Option<String> {
    if let Some(until) = running.metadata.deletion_timestamp.as_ref() {
        // This time has what it was given to end in it.
        let late = now.wall.duration_since(until.0) > ENDING;
        return late.then(|| format!("it was to end, and node {here} does not say that it did"));
    }
    let (_, node) = world.nodes.find("", here)?;
    let since = silent_since(node)?;
    let long = now.wall.duration_since(since) > SILENT;
    long.then(|| format!("node {here} is not ready since {since}"))
}

fn silent_since(node: &Node) -> Option<Timestamp> {
    not_ready(node)?;
    let mut conditions = node.status.as_ref()?.conditions.iter().flatten();
    let ready = conditions.find(|c| c.type_ == "Ready")?;
    ready.last_transition_time.as_ref().map(|t| t.0)
}

/// Whether a prover has not seen the chain for so long that nothing is lost with it.
pub(super) fn is_blind(running: &Pod, now: Now) -> bool {
    // Not `Ready`: a pod without the place that it asked for is never that, and proves.
    let Some(ready) = condition(running, "ContainersReady").filter(|c| c.status == "False") else {
        return false;
    };
    let since = ready.last_transition_time.as_ref();
    since.is_some_and(|since| now.wall.duration_since(since.0) > BLIND)
}
