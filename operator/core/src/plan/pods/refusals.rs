//! Pods that kubelet refused (`TopologyAffinityError`, `UnexpectedAdmissionError` and their kin): how often on each
//! node, and when to try again.
//!
//! The count is in the group's status, so that it outlives pods and operators. A refused pod stays, with its reason,
//! until it is counted and the pause is over; the pause doubles each time. The count ends when every pod of the group that
//! shall be on the node is ready: one that runs beside those that are refused says nothing about them.

use std::collections::BTreeSet;

use filstar_crds::{Refusal, SealingGroup, labels};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use crate::plan::fleet::Fleet;
use crate::world::{Id, Now, World, pod};

/// First pause; it doubles each time.
const FIRST: SignedDuration = SignedDuration::from_secs(30);
/// Longest pause.
const LONGEST: SignedDuration = SignedDuration::from_mins(30);
/// Pods that are remembered for one node.
const REMEMBERED: usize = 64;
/// Characters of kubelet's words.
const WORDS: usize = 500;

/// Whether no pod is made on a node now.
pub(super) fn pauses(group: &SealingGroup, node: &str, now: Now) -> bool {
    of(group, node).is_some_and(|r| now.wall < r.next.0)
}

/// Whether a refused pod is counted and its pause over.
pub(super) fn is_over(group: &SealingGroup, node: &str, uid: &str, now: Now) -> bool {
    of(group, node).is_some_and(|r| r.pods.iter().any(|p| p == uid) && now.wall >= r.next.0)
}

fn of<'a>(group: &'a SealingGroup, node: &str) -> Option<&'a Refusal> {
    let status = group.status.as_ref()?;
    status.refusals.iter().find(|r| r.node == node)
}

/// The refusals of a group as they are now.
pub fn count(world: &World, now: Now, fleet: &Fleet, id: &Id, old: &[Refusal]) -> Vec<Refusal> {
    let mut next = old.to_vec();
    // Pods of the group that are ready, and nodes with one that is refused.
    let mut ready: BTreeSet<&Id> = BTreeSet::new();
    let mut refused: BTreeSet<&str> = BTreeSet::new();
    let ours = world.pods.in_namespace(&id.namespace);
    for (pod_id, pod) in ours.filter(|(_, p)| p.labels().get(labels::GROUP) == Some(&id.name)) {
        let (Some(node), Some(uid)) = (pod::node(pod), pod.uid()) else {
            continue;
        };
        if pod::is_ready(pod) {
            ready.insert(pod_id);
            continue;
        }
        let failed = pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Failed");
        if failed && pod.metadata.deletion_timestamp.is_none() {
            refused.insert(node);
            let before = old.iter().find(|r| r.node == node);
            note(&mut next, before, now, (node, uid), pod);
        }
    }
    let lacks = |node: &str| {
        let mut planned = fleet.on_node(node).filter(|(_, p)| p.group == *id);
        planned.any(|(pod, _)| !ready.contains(pod))
    };
    next.retain(|r| {
        let there = world.nodes.get(&Id::new("", &r.node)).is_some();
        there && (refused.contains(r.node.as_str()) || lacks(&r.node))
    });
    next.sort_by(|a, b| a.node.cmp(&b.node));
    next
}

/// Counts one pod that is refused, unless it is counted. `before`: what was known of its node.
fn note(
    next: &mut Vec<Refusal>,
    before: Option<&Refusal>,
    now: Now,
    (node, uid): (&str, String),
    pod: &Pod,
) {
    let known = next.iter_mut().find(|r| r.node == node);
    if known.as_ref().is_some_and(|r| r.pods.contains(&uid)) {
        return;
    }
    let reason: String = pod::refusal(pod).chars().take(WORDS).collect();
    // None is made during a pause: one that is refused now belongs to the try before it, and counts with that.
    let same_try = before.filter(|r| now.wall < r.next.0);
    let (count, at) = same_try.map_or_else(
        || {
            let count = before.map_or(0, |r| r.count).saturating_add(1);
            let at = now.wall.checked_add(pause(count)).unwrap_or(now.wall);
            (count, Time(at))
        },
        |r| (r.count, r.next.clone()),
    );
    match known {
        Some(refusal) => {
            (refusal.count, refusal.reason, refusal.next) = (count, reason, at);
            refusal.pods.push(uid);
            let extra = refusal.pods.len().saturating_sub(REMEMBERED);
            refusal.pods.drain(..extra);
        }
        None => next.push(Refusal {
            node: node.to_owned(),
            count,
            reason,
            next: at,
            pods: vec![uid],
        }),
    }
}

fn pause(count: u32) -> SignedDuration {
    FIRST
        .checked_mul(1 << count.saturating_sub(1).min(10))
        .map_or(LONGEST, |p| p.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_half_an_hour() {
        let seconds: Vec<i64> = [1, 2, 3, 6, 7, 100].map(|n| pause(n).as_secs()).into();
        assert_eq!(seconds, [30, 60, 120, 960, 1800, 1800]);
    }
}
