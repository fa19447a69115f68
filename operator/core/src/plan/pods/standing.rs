//! Which sealer pods get no new work though they run.
//!
//! A pod that another shall take the place of computes nothing new, or under a backlog it would never be idle. A pod
//! of a group that has no place on its node any more finishes what is bound there, since a sector never leaves its
//! node. A pod whose GPU fails computes nothing new until the GPU is well.

use std::cmp::Ordering;
use std::collections::HashMap;

use filstar_crds::{Gpu, annotations, conditions, labels};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::template::Hashes;
use crate::plan::fleet::Fleet;
use crate::world::pod::{condition, is_live, node};
use crate::world::{Id, World, failed_gpus};

/// Why a pod that runs gets no new work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::plan) enum Standing {
    /// Another pod is made in its place once it is idle: nothing that computes begins there.
    Outdated,
    /// Its group has no place on the node any more: it finishes what is bound there.
    LeftOver,
    /// A GPU of it fails, and why: nothing that computes begins there.
    GpuFailed(String),
}

/// Pods with a standing, by uid. All others are as they shall be.
pub(in crate::plan) type Standings = HashMap<String, Standing>;

/// Pods that shall be and pods that are there, side by side.
#[derive(Debug)]
pub(in crate::plan) struct Roll<'w> {
    /// Of each pod that shall be, in the fleet's order: its template's hash, if it is to be made, and the pod that is
    /// there.
    pub(super) planned: Vec<(Option<String>, Option<&'w Pod>)>,
    /// Pods of ours that are not planned.
    pub(super) others: Vec<(&'w Id, &'w Pod)>,
}

impl<'w> Roll<'w> {
    pub(in crate::plan) fn of(world: &'w World, fleet: &Fleet) -> Self {
        let mut hashes = Hashes::default();
        let mut planned = Vec::new();
        // Both have the same order: they are gone through once.
        let mut there = world.pods.iter().peekable();
        let mut others = Vec::new();
        for (id, pod) in fleet.pods() {
            let mut found = None;
            while let Some((other, _)) = there.peek() {
                match other.cmp(&id) {
                    Ordering::Less => others.extend(there.next()),
                    Ordering::Equal => found = there.next(),
                    Ordering::Greater => break,
                }
            }
            let hash = pod.wanted.then(|| hashes.of(world, pod)).flatten();
            planned.push((hash, found.map(|(_, pod)| pod)));
        }
        others.extend(there);
        Self { planned, others }
    }

    /// The pods that get no new work.
    pub(in crate::plan) fn standings(&self, world: &World, fleet: &Fleet) -> Standings {
        let mut all = Standings::new();
        for (hash, pod) in &self.planned {
            // A pod that does not say what it was made from is not known to be another one.
            if let (Some(hash), Some(pod)) = (hash, pod)
                && said(pod).is_some_and(|said| said != hash)
            {
                put(&mut all, pod, Standing::Outdated);
            }
        }
        for (id, pod) in &self.others {
            let (Some(group), Some(node)) = (pod.labels().get(labels::GROUP), node(pod)) else {
                continue;
            };
            let wanted = fleet.wants(&Id::new(&id.namespace, group), node);
            let standing = if wanted {
                Standing::Outdated
            } else {
                Standing::LeftOver
            };
            put(&mut all, pod, standing);
        }
        gpus(world, &mut all);
        all
    }
}

fn said(pod: &Pod) -> Option<&String> {
    pod.annotations().get(annotations::TEMPLATE_HASH)
}

fn put(all: &mut Standings, pod: &Pod, standing: Standing) {
    if let Some(uid) = pod.uid().filter(|_| is_live(pod)) {
        all.insert(uid, standing);
    }
}

/// Closes the pods of GPUs that fail. Bad GPUs are few: nothing is looked at without one.
fn gpus(world: &World, all: &mut Standings) {
    let bad: HashMap<&str, &filstar_crds::Inventory> = world
        .sealing_nodes
        .iter()
        .filter_map(|(id, node)| {
            let inventory = node.status.as_ref()?.inventory.as_ref()?;
            let fails = failed_gpus(inventory).next().is_some();
            fails.then_some((id.name.as_str(), inventory))
        })
        .collect();
    if bad.is_empty() {
        return;
    }
    for (_, pod) in world.pods.iter().filter(|(_, pod)| has_gpus(pod)) {
        let Some(inventory) = node(pod).and_then(|node| bad.get(node)) else {
            continue;
        };
        let says = condition(pod, conditions::POD_PLACEMENT_VERIFIED);
        let says = says.and_then(|c| c.message.as_deref()).unwrap_or_default();
        let named = |gpu: &Gpu| {
            let word = |c: char| c.is_ascii_alphanumeric() || c == '-';
            says.split(|c: char| !word(c)).any(|text| text == gpu.uuid)
        };
        // Which GPUs a pod has its sealer says. One that names none of the node's may have any.
        let unknown = !inventory.gpus.iter().any(named);
        if let Some(gpu) = failed_gpus(inventory).find(|gpu| unknown || named(gpu)) {
            let why = gpu.why.as_deref().unwrap_or("its agent says so");
            let text = format!("GPU {} is {:?}: {why}", gpu.uuid, gpu.health);
            put(all, pod, Standing::GpuFailed(text));
        }
    }
}

/// Whether it is a sealer pod with GPUs.
fn has_gpus(pod: &Pod) -> bool {
    let containers = pod.spec.iter().flat_map(|s| &s.containers);
    let mut limits = containers.filter_map(|c| c.resources.as_ref()?.limits.as_ref());
    pod.labels().contains_key(labels::GROUP)
        && limits.any(|l| l.contains_key(crate::plan::fleet::GPU))
}
