//! Provers whose node takes them, but not with CPUs of their own: they share for a while, then it is tried again.
//!
//! What is remembered is the condition of the batch, so that it outlives pods and operators; what is counted from is the
//! age of the pod that shares.

use filstar_crds::{PostBatch, conditions};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::plan::fleet::is_seated;
use crate::world::Now;
use crate::world::pod::{condition, node, refusal};

/// Reason of the condition.
pub(crate) const REFUSED: &str = "Refused";
/// How long a prover shares before its place is tried again: a try takes a minute or two in which nothing is proven.
const PAUSE: SignedDuration = SignedDuration::from_hours(1);
/// How long the scheduler may look for room: pods that leave take their time.
const PATIENCE: SignedDuration = SignedDuration::from_mins(1);

/// Why a prover with a place shares CPUs all the same; none when nothing speaks against its place. `pod`: the one that
/// is there.
pub(crate) fn why(batch: &PostBatch, pod: Option<&Pod>, now: Now) -> Option<String> {
    let said = || recorded(batch).map(|c| c.message.clone());
    let Some(pod) = pod else {
        return said();
    };
    if is_seated(pod) {
        let words = cannot_start(pod, now)?;
        let at = node(pod).unwrap_or("?");
        return Some(format!(
            "the prover shares CPUs with others, since node {at} does not start it with CPUs of its own: {words}. It is \
             tried again after an hour, and when the spec changes"
        ));
    }
    let made = pod.metadata.creation_timestamp.as_ref()?.0;
    (since(made, now) < PAUSE).then(said).flatten()
}

/// Whether the next pod shares: what its node said is written down, and holds still.
pub(super) fn shares(batch: &PostBatch, pod: Option<&Pod>, now: Now) -> bool {
    recorded(batch).is_some() && why(batch, pod, now).is_some()
}

/// What was said of the spec as it is.
fn recorded(batch: &PostBatch) -> Option<&Condition> {
    let mut said = batch.status.as_ref()?.conditions.iter();
    let said = said.find(|c| c.type_ == conditions::PLACEMENT_VERIFIED)?;
    let same = said.observed_generation == batch.metadata.generation;
    (said.reason == REFUSED && same).then_some(said)
}

/// Why a pod never starts, in the words of kubelet or the scheduler.
fn cannot_start(pod: &Pod, now: Now) -> Option<String> {
    let status = pod.status.as_ref()?;
    if status.phase.as_deref() == Some("Failed") {
        let reason = status.reason.as_deref().unwrap_or_default();
        let admission =
            reason.ends_with("Error") || reason.starts_with("OutOf") || reason == "NodeAffinity";
        return admission.then(|| refusal(pod));
    }
    let scheduled = condition(pod, "PodScheduled")?;
    let stuck = scheduled.status == "False" && scheduled.reason.as_deref() == Some("Unschedulable");
    let long = since(scheduled.last_transition_time.as_ref()?.0, now) >= PATIENCE;
    let words = scheduled.message.as_deref().unwrap_or("no node has room");
    (stuck && long).then(|| format!("Unschedulable: {words}"))
}

fn since(then: Timestamp, now: Now) -> SignedDuration {
    now.wall.duration_since(then)
}
