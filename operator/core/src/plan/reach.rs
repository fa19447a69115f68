//! Whether a Miner's prover reads what its sealers land.
//!
//! A `hostPath` is a directory of each node: what is landed there is seen by no other node, unless one network file system
//! is mounted under the path everywhere. So each sealer gives its stores a number, and provers say which numbers they
//! see. Where a prover sees another one, or none, nothing lands and nothing begins: such a sector would be faulty from
//! its first deadline on.

use std::collections::{BTreeMap, BTreeSet};

use filstar_crds::{Disk, Disks, PostBatch, SectorStore, StoreAccess};
use kube::ResourceExt;

use super::names;
use super::pledge::Readings;
use super::pods::mounts;
use crate::world::{Id, World, pod};

/// What to do about it, for conditions.
pub(crate) fn help(store: &SectorStore) -> &'static str {
    if store.spec.volume.host_path.is_some() {
        "a hostPath is a directory of each node: use nfs or a pvc, or mount one network file system under this path on all \
         nodes, or give store and SealingGroup a nodeSelector that names the prover's node"
    } else {
        "let the prover's node mount the same volume: see nodeSelector of the store and of the PostBatch"
    }
}

/// Why what lands in a store from a node is not proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Far {
    /// The prover sees something else; otherwise it, or the sealer, has not said yet what it sees.
    pub(crate) known: bool,
    /// Who does not see what, for people.
    pub(crate) text: String,
}

/// A prover that shall run.
#[derive(Clone, Debug)]
struct Prover {
    pod: String,
    node: Option<String>,
    /// Stores that it mounts.
    mounts: BTreeSet<String>,
    /// Those that it has seen; none while it has said nothing.
    sees: Option<BTreeMap<String, Disk>>,
}

/// Stores and nodes out of the reach of provers.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// By store, node and Miner.
    far: BTreeMap<(Id, String, Id), Far>,
}

impl Reach {
    /// From what sealers and provers say.
    pub(super) fn of(world: &World, readings: &Readings) -> Self {
        let mut provers: BTreeMap<Id, Vec<Prover>> = BTreeMap::new();
        for (id, batch) in world.batches.iter() {
            if !batch.spec.suspend && batch.metadata.deletion_timestamp.is_none() {
                let miner = Id::new(&id.namespace, &batch.spec.miner_ref.name);
                let prover = Prover::of(world, id, batch);
                provers.entry(miner).or_default().push(prover);
            }
        }
        let mut reach = Self::default();
        if provers.is_empty() {
            return reach;
        }
        for (group_id, node, disks) in readings.disks() {
            let Some(group) = world.groups.get(group_id) else {
                continue;
            };
            let miner = Id::new(&group_id.namespace, &group.spec.miner_ref.name);
            let Some(provers) = provers.get(&miner) else {
                continue;
            };
            for (name, disk) in &disks.stores {
                let Some((id, store)) = world.stores.find(&group_id.namespace, name) else {
                    continue;
                };
                let mut all = provers.iter().map(|p| p.misses(name, store, node, disk));
                if let Some(Some(far)) = all.try_fold(None, |_, far| far.map(Some)) {
                    let key = (id.clone(), node.to_owned(), miner.clone());
                    reach.far.insert(key, far);
                }
            }
        }
        reach
    }

    /// Why what a Miner's sealers land in a store from a node is not proven; none when it is, or nobody proves.
    pub(crate) fn far(&self, store: &Id, node: &str, miner: &Id) -> Option<&Far> {
        if self.far.is_empty() {
            return None;
        }
        self.far
            .get(&(store.clone(), node.to_owned(), miner.clone()))
    }

    /// What is known to be out of reach: store, node, Miner and why.
    pub(crate) fn known(&self) -> impl Iterator<Item = (&Id, &str, &Id, &str)> {
        let known = self.far.iter().filter(|(_, far)| far.known);
        known.map(|((store, node, miner), far)| (store, node.as_str(), miner, far.text.as_str()))
    }
}

impl Prover {
    fn of(world: &World, id: &Id, batch: &PostBatch) -> Self {
        let name = names::prover_pod(&id.name);
        let pod = world.pods.find(&id.namespace, &name).map(|(_, pod)| pod);
        let pod = pod.filter(|pod| pod::is_live(pod));
        Self {
            node: pod.and_then(pod::node).map(str::to_owned),
            mounts: mounts(world, id, batch)
                .stores
                .iter()
                .map(|(name, _)| (*name).to_owned())
                .collect(),
            sees: pod
                .and_then(|pod| Disks::of(pod.annotations()))
                .map(|disks| disks.stores),
            pod: name,
        }
    }

    /// Why it does not read what is landed in a store from a node, where the sealer sees this disk.
    fn misses(&self, name: &str, store: &SectorStore, node: &str, disk: &Disk) -> Option<Far> {
        if store.spec.access == StoreAccess::WriteOnly {
            return None;
        }
        let far = |known, text: String| Some(Far { known, text });
        let pod = &self.pod;
        if !self.mounts.contains(name) {
            return far(true, format!("pod {pod} does not mount it"));
        }
        if self.node.as_deref() == Some(node) {
            return None;
        }
        let its_own = store.spec.volume.host_path.is_some();
        let Some(seen) = self.sees.as_ref().and_then(|sees| sees.get(name)) else {
            // Other volumes are the same everywhere, as far as anybody knows.
            let text = format!("pod {pod} has not said yet whether it sees what is written there");
            return if its_own { far(false, text) } else { None };
        };
        match (disk.mark, seen.mark) {
            (Some(written), Some(seen)) if written == seen => None,
            (Some(_), Some(_)) => {
                let on = self.node.as_deref().unwrap_or("?");
                let text = format!("pod {pod} on {on} sees other files than are written on {node}");
                far(true, text)
            }
            (None, _) if its_own => {
                let text = format!("the sealer on {node} has not given the store its number yet");
                far(false, text)
            }
            (Some(_), None) if its_own => far(
                false,
                format!("pod {pod} has not found the store's number yet"),
            ),
            (_, None) | (None, _) => None,
        }
    }
}
