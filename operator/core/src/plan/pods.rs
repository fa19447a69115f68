//! Pods: one for each lane and node that fits, one for each post batch.
//!
//! A pod whose template changed is replaced when it is idle. A pod that kubelet refused (`Failed`) stays for a
//! while with its reason, so that a node that refuses does not see a storm of pods.

mod backend;
pub(crate) mod fallback;
mod fit;
mod lost;
mod mounts;
pub mod refusals;
mod standing;
mod template;

use std::collections::BTreeSet;

use filstar_crds::{PostBatch, Sector, SectorPhase, annotations, labels};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

pub(super) use fit::takes_prover;
pub use fit::{Fit, fit};
pub(in crate::plan) use fit::{Room, has_stores, lasting, passing, refused};
pub(crate) use mounts::{Mounts, mounts};
pub(in crate::plan) use standing::{Roll, Standing, Standings};

use super::bookings::Bookings;
use super::drain;
use super::fleet::{Fleet, Planned, Seat};
use super::names;
use crate::action::Action;
use crate::world::node::not_ready;
use crate::world::pod::{is_live, node, refusal, runs};
use crate::world::{Id, Now, World};
use template::Hashes;

/// How long a prover pod that kubelet refused stays before another is made.
const REFUSED_PAUSE: SignedDuration = SignedDuration::from_secs(30);

/// Pods to make and pods to delete.
pub(super) fn plan(
    world: &World,
    now: Now,
    fleet: &Fleet,
    roll: &Roll<'_>,
    bookings: &Bookings,
) -> Vec<Action> {
    let mut actions = Vec::new();
    for ((id, planned), (hash, there)) in fleet.pods().zip(&roll.planned) {
        if let Some(hash) = hash {
            actions.extend(sealer(world, now, hash, bookings, id, planned, *there));
        }
    }
    let provers = provers(world, now, fleet);
    for (batch, pod) in &provers {
        let id = Id::of(pod);
        let Some(running) = world.pods.get(&id) else {
            actions.push(create(pod.clone()));
            continue;
        };
        match lost::forget(world, now, *batch, running) {
            Some(action) => actions.push(action),
            None if goes_on_proving(world, now, batch.1, running) => {}
            None => {
                let hash = pod.annotations().get(annotations::TEMPLATE_HASH);
                let hash = hash.map(String::as_str);
                actions.extend(replace(&id, hash, running, now, bookings));
            }
        }
    }
    let provers: BTreeSet<Id> = provers.iter().map(|(_, pod)| Id::of(pod)).collect();
    for (id, pod) in &roll.others {
        actions.extend(unwanted(world, fleet, &provers, bookings, id, pod));
    }
    // From a node that shall be empty pods go by eviction alone.
    actions.retain(|action| !deletes_on_closing_node(world, action));
    with_access(actions)
}

/// The same for one pod.
pub(super) fn one(
    world: &World,
    now: Now,
    fleet: &Fleet,
    bookings: &Bookings,
    id: &Id,
) -> Vec<Action> {
    let planned = fleet.pod(id).filter(|p| p.wanted);
    let there = world.pods.get(id);
    let made = planned.and_then(|planned| {
        let hash = Hashes::default().of(world, planned)?;
        sealer(world, now, &hash, bookings, id, planned, there)
    });
    let made = made.filter(|action| !deletes_on_closing_node(world, action));
    with_access(made.into_iter().collect())
}

/// Access comes before the first pod that needs it; making it again is harmless, but not free.
fn with_access(actions: Vec<Action>) -> Vec<Action> {
    let namespaces: BTreeSet<String> = actions
        .iter()
        .filter_map(|action| {
            if let Action::CreatePod { pod } = action {
                pod.namespace()
            } else {
                None
            }
        })
        .collect();
    let access = namespaces
        .into_iter()
        .map(|namespace| Action::EnsureAccess { namespace });
    access.chain(actions).collect()
}

fn create(pod: Pod) -> Action {
    Action::CreatePod { pod: Box::new(pod) }
}

/// What to do about one sealer pod that shall be. `there`: the pod of this name that is there.
fn sealer(
    world: &World,
    now: Now,
    hash: &str,
    bookings: &Bookings,
    id: &Id,
    planned: &Planned,
    there: Option<&Pod>,
) -> Option<Action> {
    let group = world.groups.get(&planned.group)?;
    let Some(running) = there else {
        if refusals::pauses(group, &planned.node, now) {
            return None;
        }
        return template::sealer(world, planned, hash).map(create);
    };
    if is_live(running) || running.metadata.deletion_timestamp.is_some() {
        return replace(id, Some(hash), running, now, bookings);
    }
    // Kubelet refused it: it stays with its reason until that is counted and the pause is over.
    let uid = running.uid()?;
    refusals::is_over(group, &planned.node, &uid, now).then(|| Action::DeletePod {
        id: id.clone(),
        uid,
        reason: format!("it ended: {}", refusal(running)),
    })
}

/// The prover pods that shall be, each with its batch.
fn provers<'w>(world: &'w World, now: Now, fleet: &Fleet) -> Vec<((&'w Id, &'w PostBatch), Pod)> {
    let shared: Seat = Err(String::new());
    let wanted = world
        .batches
        .iter()
        .filter(|(_, batch)| batch.metadata.deletion_timestamp.is_none() && !batch.spec.suspend);
    wanted
        .filter_map(|(id, batch)| {
            let name = names::prover_pod(&id.name);
            let there = world.pods.find(&id.namespace, &name).map(|(_, pod)| pod);
            let shares = fallback::shares(batch, there, now);
            let seat = fleet.prover(id).map(|s| if shares { &shared } else { s });
            let pod = template::prover(world, id, batch, seat)?;
            Some(((id, batch), pod))
        })
        .collect()
}

/// Whether a prover is at a proof that comes to something: whatever changes waits for its end. One that does not run, or
/// whose node does not answer, or that sees no chain, proves nothing.
fn goes_on_proving(world: &World, now: Now, batch: &PostBatch, running: &Pod) -> bool {
    let node = node(running).and_then(|name| world.nodes.find("", name));
    let answers = node.is_some_and(|(_, node)| not_ready(node).is_none());
    let runs = is_live(running) && runs(running) && !lost::is_blind(running, now);
    drain::has_proof_to_lose(batch) && runs && answers
}

fn replace(
    id: &Id,
    wanted: Option<&str>,
    running: &Pod,
    now: Now,
    bookings: &Bookings,
) -> Option<Action> {
    let uid = running.metadata.uid.as_ref()?;
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
    let hash = running.annotations().get(annotations::TEMPLATE_HASH);
    if wanted != hash.map(String::as_str) && bookings.is_idle(uid) {
        return delete("its template changed".into());
    }
    None
}

/// A pod of ours that is not planned, and that nothing else wants. A node that is merely cordoned or not ready keeps its pods.
fn unwanted(
    world: &World,
    fleet: &Fleet,
    provers: &BTreeSet<Id>,
    bookings: &Bookings,
    id: &Id,
    pod: &Pod,
) -> Option<Action> {
    let uid = pod.uid()?;
    if provers.contains(id) || pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    // A pod with work outlives its group's wish for it, not its group.
    let has_work = pod.labels().get(labels::GROUP).is_some_and(|group| {
        let group = Id::new(&id.namespace, group);
        let needed = || node(pod).is_some_and(|node| finishes(world, fleet, &group, node));
        world.groups.get(&group).is_some() && (!bookings.is_idle(&uid) || needed())
    });
    if has_work || owner_is_unreadable(world, id, pod) {
        return None;
    }
    Some(Action::DeletePod {
        id: id.clone(),
        uid,
        reason: "its group, lane, batch or node is no longer wanted".into(),
    })
}

/// Whether sectors of a group must be finished on a node where the group has no place any more: they never leave it.
fn finishes(world: &World, fleet: &Fleet, group: &Id, node: &str) -> bool {
    let there = |sector: &Sector| {
        let status = sector.status.as_ref();
        let bound = status.and_then(|s| s.binding.as_ref());
        let phase = status.and_then(|s| s.phase).unwrap_or_default();
        sector.spec.group_ref.name == group.name
            && bound.is_some_and(|b| b.node == node)
            && !matches!(
                phase,
                SectorPhase::Proving | SectorPhase::Failed | SectorPhase::Removing
            )
    };
    let mut sectors = world.sectors.in_namespace(&group.namespace);
    !fleet.wants(group, node) && sectors.any(|(_, sector)| there(sector))
}

fn deletes_on_closing_node(world: &World, action: &Action) -> bool {
    let Action::DeletePod { id, .. } = action else {
        return false;
    };
    let node = world.pods.get(id).and_then(node);
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

fn over(pod: &Pod, now: Now) -> bool {
    let made: Option<Timestamp> = pod.metadata.creation_timestamp.as_ref().map(|t| t.0);
    made.is_none_or(|t| now.wall.duration_since(t) > REFUSED_PAUSE)
}
