//! What all sealers say of their disks, and which of them begin with sectors.
//!
//! Read once for each pod and kept from plan to plan: what follows from a pod alone changes only with the pod.

use std::collections::BTreeMap;

use filstar_crds::{Disks, labels};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::world::pod::{is_live, is_ready};
use crate::world::{Id, World};

/// What one sealer pod says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Reading {
    /// Its group.
    pub(super) group: Id,
    /// Its lane.
    pub(super) lane: Option<String>,
    /// Its node.
    pub(super) node: String,
    /// Whether it is ready.
    pub(super) ready: bool,
    /// Its disks; none while it has said nothing.
    pub(super) disks: Option<Disks>,
}

impl Reading {
    /// Of a live sealer pod that has a node.
    fn of(id: &Id, pod: &Pod) -> Option<Self> {
        if !is_live(pod) {
            return None;
        }
        Some(Self {
            group: Id::new(&id.namespace, pod.labels().get(labels::GROUP)?),
            lane: pod.labels().get(labels::LANE).cloned(),
            node: pod.spec.as_ref()?.node_name.clone()?,
            ready: is_ready(pod),
            disks: Disks::of(pod.annotations()),
        })
    }
}

/// What all of them say, by group and pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Readings(BTreeMap<Id, BTreeMap<Id, Reading>>);

impl Readings {
    /// Of all live sealer pods that have a node.
    pub fn of(world: &World) -> Self {
        let mut this = Self::default();
        for (id, pod) in world.pods.iter() {
            this.put(id, Reading::of(id, pod));
        }
        this
    }

    fn put(&mut self, id: &Id, reading: Option<Reading>) {
        if let Some(reading) = reading {
            let group = match self.0.get_mut(&reading.group) {
                Some(group) => group,
                None => self.0.entry(reading.group.clone()).or_default(),
            };
            group.insert(id.clone(), reading);
        }
    }

    /// Reads one pod again, or forgets it.
    pub(in crate::plan) fn note(&mut self, world: &World, id: &Id) {
        for group in self.0.values_mut() {
            group.remove(id);
        }
        let reading = world.pods.get(id).and_then(|pod| Reading::of(id, pod));
        self.put(id, reading);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Reading> {
        self.0.values().flat_map(BTreeMap::values)
    }

    /// Group, node and disks of all that have measured them.
    pub(in crate::plan) fn disks(&self) -> impl Iterator<Item = (&Id, &str, &Disks)> {
        let all = self.iter();
        all.filter_map(|r| Some((&r.group, r.node.as_str(), r.disks.as_ref()?)))
    }

    /// Those of one group.
    pub(super) fn of_group(&self, group: &Id) -> impl Iterator<Item = &Reading> {
        self.0.get(group).into_iter().flat_map(BTreeMap::values)
    }
}
