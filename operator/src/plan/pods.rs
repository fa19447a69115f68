//! Pods: one for each lane and node that fits, one for each post batch.
//!
//! A pod whose template changed is replaced when it is idle. A pod that kubelet refused (`Failed`) stays for a
//! while with its reason, so that a node that refuses does not see a storm of pods.

mod fit;
mod template;

use std::collections::{BTreeMap, BTreeSet};

use filstar_crds::{SealingGroup, annotations, labels};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

pub(super) use fit::takes_prover;
pub use fit::{Fit, fit};

use super::bookings::{Bookings, is_live, wanted_node};
use super::drain;
use crate::action::Action;
use crate::world::{Id, Now, World};

/// How long a pod that kubelet refused stays before another is made.
const REFUSED_PAUSE: SignedDuration = SignedDuration::from_secs(30);

/// Pods to make and pods to delete.
pub(super) fn plan(world: &World, now: Now, bookings: &Bookings) -> Vec<Action> {
    let wanted = wanted(world);
    let mut actions = Vec::new();
    let namespaces: BTreeSet<&str> = wanted.keys().map(|id| id.namespace.as_str()).collect();
    for (id, pod) in &wanted {
        match world.pods.get(id) {
            None => actions.push(Action::CreatePod {
                pod: Box::new(pod.clone()),
            }),
            Some(running) => actions.extend(replace(id, pod, running, now, bookings)),
        }
    }
    // Access comes before the first pod that needs it; making it again is harmless, but not free.
    if actions
        .iter()
        .any(|a| matches!(a, Action::CreatePod { .. }))
    {
        let mut with_access: Vec<Action> = namespaces
            .into_iter()
            .map(|n| Action::EnsureAccess {
                namespace: n.to_owned(),
            })
            .collect();
        with_access.append(&mut actions);
        actions = with_access;
    }
    actions.extend(unwanted(world, &wanted, bookings));
    // From a node that shall be empty pods go by eviction alone.
    actions.retain(|action| !deletes_on_closing_node(world, action));
    actions
}

/// All pods that should be, by id.
fn wanted(world: &World) -> BTreeMap<Id, Pod> {
    let mut wanted = BTreeMap::new();
    for (id, group) in world.groups.iter() {
        if group.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let fits = fit(world, id, group);
        for node in fits.iter().filter(|f| f.problem.is_none()) {
            for lane in &group.spec.lanes {
                let pod = template::sealer(world, id, group, lane, &node.node);
                wanted.insert(Id::of(&pod), pod);
            }
        }
    }
    for (id, batch) in world.batches.iter() {
        if batch.metadata.deletion_timestamp.is_none()
            && !batch.spec.suspend
            && let Some(pod) = template::prover(world, id, batch)
        {
            wanted.insert(Id::of(&pod), pod);
        }
    }
    wanted
}

fn replace(id: &Id, wanted: &Pod, running: &Pod, now: Now, bookings: &Bookings) -> Option<Action> {
    let uid = running.uid()?;
    if running.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let delete = |reason: String| {
        Some(Action::DeletePod {
            id: id.clone(),
            uid: uid.clone(),
            reason,
        })
    };
    if !is_live(running) {
        let why = refusal(running);
        return if over(running, now) {
            delete(format!("it ended: {why}"))
        } else {
            None
        };
    }
    let hash = |pod: &Pod| pod.annotations().get(annotations::TEMPLATE_HASH).cloned();
    if hash(wanted) != hash(running) && bookings.is_idle(&uid) {
        return delete("its template changed".into());
    }
    None
}

/// Pods of ours that nothing wants any more. A node that is merely cordoned or not ready keeps its pods.
fn unwanted(world: &World, wanted: &BTreeMap<Id, Pod>, bookings: &Bookings) -> Vec<Action> {
    let mut actions = Vec::new();
    for (id, pod) in world.pods.iter() {
        let Some(uid) = pod.uid() else { continue };
        if wanted.contains_key(id) || pod.metadata.deletion_timestamp.is_some() {
            continue;
        }
        if owner_group(world, id, pod).is_some_and(|(group_id, group)| {
            keeps(world, &group_id, group, pod) || !bookings.is_idle(&uid)
        }) {
            continue;
        }
        if owner_is_unreadable(world, id, pod) {
            continue;
        }
        actions.push(Action::DeletePod {
            id: id.clone(),
            uid,
            reason: "its group, lane, batch or node is no longer wanted".into(),
        });
    }
    actions
}

fn deletes_on_closing_node(world: &World, action: &Action) -> bool {
    let Action::DeletePod { id, .. } = action else {
        return false;
    };
    let node = world.pods.get(id).and_then(wanted_node);
    node.is_some_and(|node| drain::node_is_closing(world, node).is_some())
}

/// What is not known to be unwanted goes on.
fn owner_is_unreadable(world: &World, id: &Id, pod: &Pod) -> bool {
    let owner = |plural: &str, label: &str| {
        let name = pod.labels().get(label)?;
        Some((plural.to_owned(), Id::new(&id.namespace, name)))
    };
    let owners = [
        owner("sealinggroups", labels::GROUP),
        owner("postbatches", labels::POST_BATCH),
    ];
    owners
        .into_iter()
        .flatten()
        .any(|owner| world.unreadable.contains_key(&owner))
}

fn owner_group<'a>(world: &'a World, id: &Id, pod: &Pod) -> Option<(Id, &'a SealingGroup)> {
    let group = Id::new(&id.namespace, pod.labels().get(labels::GROUP)?);
    let found = world.groups.get(&group)?;
    Some((group, found))
}

/// Whether a pod's lane and node still belong to its group, though the node takes no new pods now.
fn keeps(world: &World, group_id: &Id, group: &SealingGroup, pod: &Pod) -> bool {
    let lane = pod.labels().get(labels::LANE);
    let Some(node) = pod.spec.as_ref().and_then(|s| s.node_name.as_ref()) else {
        return false;
    };
    group.spec.lanes.iter().any(|l| Some(&l.name) == lane)
        && fit(world, group_id, group)
            .iter()
            .any(|f| &f.node == node && f.passing)
}

fn over(pod: &Pod, now: Now) -> bool {
    let made: Option<Timestamp> = pod.metadata.creation_timestamp.as_ref().map(|t| t.0);
    made.is_none_or(|t| now.wall.duration_since(t) > REFUSED_PAUSE)
}

/// Why a pod failed, in kubelet's words.
pub fn refusal(pod: &Pod) -> String {
    let status = pod.status.as_ref();
    let reason = status
        .and_then(|s| s.reason.clone())
        .unwrap_or_else(|| "Failed".into());
    match status.and_then(|s| s.message.clone()) {
        Some(message) => format!("{reason}: {message}"),
        None => reason,
    }
}
