//! Which stores a prover mounts, and which nodes can mount them all.

use std::collections::BTreeMap;

use filstar_crds::{PostBatch, SectorStore, StoreAccess};
use k8s_openapi::api::core::v1::Node;

use crate::world::{Id, World, selects};

/// The stores of a prover.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mounts<'a> {
    /// Those that it mounts, by name.
    pub(crate) stores: Vec<(&'a str, &'a SectorStore)>,
    /// Labels that its node must have: the batch's and those of the stores.
    pub(crate) node_selector: BTreeMap<String, String>,
    /// Those that it should mount as well, if one node could mount all.
    pub(crate) apart: Vec<&'a str>,
}

/// All stores of the batch's namespace that can be proven from; of those that only some nodes can mount, the ones of its
/// Miner. One prover has one node: where no node can mount all, older stores come first.
pub(crate) fn mounts<'a>(world: &'a World, id: &'a Id, batch: &PostBatch) -> Mounts<'a> {
    let all = stores(world, &id.namespace).filter(|(_, s)| s.spec.access != StoreAccess::WriteOnly);
    let (chosen, mut stores): (Vec<_>, Vec<_>) =
        all.partition(|(_, store)| !store.spec.node_selector.is_empty());
    let mut node_selector = batch.spec.node_selector.clone();
    let mut apart = Vec::new();
    let mut chosen: Vec<_> = chosen
        .into_iter()
        .filter(|(name, store)| concerns(world, id, batch, name, store))
        .collect();
    chosen.sort_by_key(|(name, store)| {
        let made = store.metadata.creation_timestamp.as_ref().map(|t| t.0);
        (made, *name)
    });
    let fits = |selector: &BTreeMap<String, String>| {
        let mut nodes = world.nodes.iter();
        nodes.any(|(_, node): (&Id, &Node)| selects(selector, node))
    };
    // Without any node that the batch itself names, there is nothing to choose by.
    let none = !chosen.is_empty() && !fits(&node_selector);
    for (name, store) in chosen {
        let mut both = node_selector.clone();
        both.extend(store.spec.node_selector.clone());
        let agree = node_selector.iter().all(|(k, v)| both.get(k) == Some(v));
        if agree && (none || fits(&both)) {
            node_selector = both;
            stores.push((name, store));
        } else {
            apart.push(name);
        }
    }
    stores.sort_by_key(|(name, _)| *name);
    Mounts {
        stores,
        node_selector,
        apart,
    }
}

/// Whether sectors of the batch's Miner may be in a store: a group of it lands there, one of its sectors is there, or
/// nobody lands there.
fn concerns(world: &World, id: &Id, batch: &PostBatch, name: &str, store: &SectorStore) -> bool {
    let miner = &batch.spec.miner_ref;
    if store.spec.access == StoreAccess::ReadOnly {
        // Nobody lands there: whose sectors are in it is not known.
        return true;
    }
    let groups = world.groups.in_namespace(&id.namespace);
    let landing = groups.filter(|(_, g)| selects(&g.spec.finalize.store_selector, store));
    let mut nobody = true;
    for (_, group) in landing {
        nobody = false;
        if group.spec.miner_ref == *miner {
            return true;
        }
    }
    let mut sectors = world.sectors.in_namespace(&id.namespace);
    nobody
        || sectors.any(|(_, sector)| {
            let store = sector.status.as_ref().and_then(|s| s.store.as_ref());
            sector.spec.miner_ref == *miner && store.is_some_and(|s| s.name == name)
        })
}

/// Stores of a namespace that stay.
pub(super) fn stores<'a>(
    world: &'a World,
    namespace: &'a str,
) -> impl Iterator<Item = (&'a str, &'a SectorStore)> {
    world
        .stores
        .in_namespace(namespace)
        .filter(|(_, store)| store.metadata.deletion_timestamp.is_none())
        .map(|(id, store)| (id.name.as_str(), store))
}
