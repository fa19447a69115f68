//! Pods that kubelet refused (`TopologyAffinityError`, `UnexpectedAdmissionError` and their kin): how often on each
//! node, and when to try again.
//!
//! The count is in the group's status, so that it outlives pods and operators. A refused pod stays, with its reason,
//! until it is counted and the pause is over; the pause doubles each time. One ready pod ends the count.

use filstar_crds::{Refusal, SealingGroup, labels};
use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

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
pub fn count(world: &World, now: Now, id: &Id, old: &[Refusal]) -> Vec<Refusal> {
    let mut next = old.to_vec();
    let ours = world.pods.in_namespace(&id.namespace);
    for (_, pod) in ours.filter(|(_, p)| p.labels().get(labels::GROUP) == Some(&id.name)) {
        let (Some(node), Some(uid)) = (pod::node(pod), pod.uid()) else {
            continue;
        };
        if pod::is_ready(pod) {
            next.retain(|r| r.node != node);
            continue;
        }
        let failed = pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Failed");
        if !failed || pod.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let known = next.iter_mut().find(|r| r.node == node);
        if known.as_ref().is_some_and(|r| r.pods.contains(&uid)) {
            continue;
        }
        let reason: String = pod::refusal(pod).chars().take(WORDS).collect();
        // Several pods that are refused at once count once.
        let before = old.iter().find(|r| r.node == node).map_or(0, |r| r.count);
        let count = before.saturating_add(1);
        let at = Time(now.wall.checked_add(pause(count)).unwrap_or(now.wall));
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
    next.retain(|r| world.nodes.get(&Id::new("", &r.node)).is_some());
    next.sort_by(|a, b| a.node.cmp(&b.node));
    next
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
