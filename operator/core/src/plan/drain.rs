//! Emptying a node so that nothing is lost.
//!
//! A node is asked to be empty by `spec.maintenance` of its `SealingNode`, or by a cordon, whoever set it: we do so
//! ourselves for a task over its time whose lane asks for that. No new work comes to it. Sectors on chain finish there; sectors that are not wait on its scratch or are deleted, by policy.
//! Then its pods leave by eviction, so that every disruption budget is heard.
//!
//! In: the world and the time. Out: at most one bounded step for each node; each leaves the world such that the next
//! plan finds the next step, so a crash in between loses nothing. Never: a sector on chain is deleted, or a pod is
//! evicted while a sector on the node needs one.

mod claim;
mod cordon;
mod guard;
mod provers;
mod request;
mod view;

use std::collections::BTreeSet;

use filstar_crds::{Sector, labels};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

pub use claim::{Claim, OnChain, gave_up, node_with_files, on_chain};
pub use cordon::{Mark, mark};
pub use cordon::{Wish, change};
pub(in crate::plan) use provers::has_proof_to_lose;
pub use request::{Closing, Request, Why, node_is_closing, request};
pub use view::{Blocked, Held, View, view};

use crate::action::Action;
use crate::world::pod::node as wanted_node;
use crate::world::{Id, Now, World};

/// Sectors that one plan deletes on one node.
const DELETIONS: usize = 8;
/// Pods that one plan evicts on one node.
const EVICTIONS: usize = 5;

/// The next step for each node.
pub(super) fn plan(world: &World, now: Now, closing: &Closing) -> Vec<Action> {
    let mut actions = cordon::plan(world, now);
    actions.extend(guard::plan(world, now, closing));
    for (node, request) in closing.iter() {
        actions.extend(step(world, now, node, request));
    }
    actions
}

/// What a sector asks of its node, while that is asked to be empty, and who asks.
pub(super) fn claim<'c>(
    world: &World,
    now: Now,
    closing: &'c Closing,
    id: &Id,
    sector: &Sector,
) -> Option<(&'c Request, Claim)> {
    if closing.is_empty() {
        return None;
    }
    let request = closing.get(node_of(sector)?)?;
    Some((request, claim::claim(world, now, request, id, sector)))
}

fn step(world: &World, now: Now, node: &str, request: &Request) -> Vec<Action> {
    let mut actions = Vec::new();
    // Groups whose sectors still need their pods there.
    let mut busy: BTreeSet<Id> = BTreeSet::new();
    for (id, sector) in sectors_on(world, node) {
        let claim = claim::claim(world, now, request, id, sector);
        if claim.needs_pods() {
            busy.insert(Id::new(&id.namespace, &sector.spec.group_ref.name));
        }
        if claim == Claim::Goes && actions.len() < DELETIONS {
            actions.extend(abort(id, sector, node, request));
        }
    }
    let free = |group: &Id| !busy.contains(group) && !guard::stands(world, group, node);
    let leaving = sealers_on(world, node)
        .filter(|(_, pod, group)| pod.metadata.deletion_timestamp.is_none() && free(group))
        .filter_map(|(id, pod, _)| evict(id, pod, node));
    let provers = provers::leaving(world, node).filter_map(|(id, pod)| evict(id, pod, node));
    actions.extend(leaving.chain(provers).take(EVICTIONS));
    actions
}

fn abort(id: &Id, sector: &Sector, node: &str, request: &Request) -> Option<Action> {
    Some(Action::AbortSector {
        id: id.clone(),
        uid: sector.uid()?,
        resource_version: sector.resource_version()?,
        reason: format!(
            "{}; the sector is not on chain and notOnChain is Delete",
            request.why.of(node)
        ),
        gone: None,
    })
}

fn evict(id: &Id, pod: &Pod, node: &str) -> Option<Action> {
    Some(Action::EvictPod {
        id: id.clone(),
        uid: pod.uid()?,
        node: node.to_owned(),
    })
}

/// The node that has a sector's files.
fn node_of(sector: &Sector) -> Option<&str> {
    let binding = sector.status.as_ref()?.binding.as_ref()?;
    Some(&binding.node)
}

fn sectors_on<'a>(world: &'a World, node: &'a str) -> impl Iterator<Item = (&'a Id, &'a Sector)> {
    world
        .sectors
        .iter()
        .filter(move |(_, sector)| node_of(sector) == Some(node))
}

/// Sealer pods that are on a node, or were made for it, with their groups.
fn sealers_on<'a>(world: &'a World, node: &'a str) -> impl Iterator<Item = (&'a Id, &'a Pod, Id)> {
    world.pods.iter().filter_map(move |(id, pod)| {
        let group = Id::new(&id.namespace, pod.labels().get(labels::GROUP)?);
        (wanted_node(pod) == Some(node)).then_some((id, pod, group))
    })
}
