//! What all sealers say of their disks, read once for a plan.

use filstar_crds::{Disks, labels};
use kube::ResourceExt;

use crate::world::pod::is_live;
use crate::world::{Id, World};

/// What one sealer pod says.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    /// Its group.
    pub(super) group: Id,
    /// Its node.
    pub(super) node: String,
    /// Its disks; none while it has said nothing.
    pub(super) disks: Option<Disks>,
}

/// Of all live sealer pods that have a node.
pub(super) fn of(world: &World) -> Vec<Reading> {
    let pods = world.pods.iter().filter(|(_, pod)| is_live(pod));
    pods.filter_map(|(id, pod)| {
        let group = Id::new(&id.namespace, pod.labels().get(labels::GROUP)?);
        let node = pod.spec.as_ref()?.node_name.clone()?;
        let disks = Disks::of(pod.annotations());
        Some(Reading { group, node, disks })
    })
    .collect()
}
