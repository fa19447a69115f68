//! What the books depend on, beside sectors, pods, places and the chain.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::world::{Id, World};

/// The specs of all Miners and groups, by their versions. While these stay the same the books can be renewed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::plan) struct Key {
    miners: Vec<Version>,
    groups: Vec<Version>,
}

/// Id, uid and generation, and whether the object leaves.
type Version = (Id, Option<String>, Option<i64>, bool);

impl Key {
    pub(in crate::plan) fn of(world: &World) -> Self {
        let version = |(id, meta): (&Id, &ObjectMeta)| {
            let leaves = meta.deletion_timestamp.is_some();
            (id.clone(), meta.uid.clone(), meta.generation, leaves)
        };
        let miners = world.miners.iter().map(|(id, m)| (id, &m.metadata));
        let groups = world.groups.iter().map(|(id, g)| (id, &g.metadata));
        Self {
            miners: miners.map(version).collect(),
            groups: groups.map(version).collect(),
        }
    }
}
