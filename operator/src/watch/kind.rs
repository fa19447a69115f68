//! The kinds that the world holds: where each is kept, and which parts of it nobody reads.

use std::fmt::Debug;

use filstar_core::world::{Index, World};
use filstar_crds::{
    ChainMessage, GasPolicy, Miner, PostBatch, SealingGroup, SealingNode, Sector, SectorStore,
};
use k8s_openapi::api::core::v1::{Node, Pod, Volume};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Resource;
use serde::de::DeserializeOwned;

use super::ours;

/// A kind that the world holds.
pub trait Kind:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static
{
    /// Plural of the kind.
    const PLURAL: &'static str;

    /// Where the world keeps its objects.
    fn index(world: &mut World) -> &mut Index<Self>;

    /// Drops what nobody reads, to keep the world small.
    fn slim(&mut self) {
        self.meta_mut().managed_fields = None;
    }

    /// Which objects we watch; all when none.
    fn selector() -> Option<String> {
        None
    }
}

impl Kind for Miner {
    const PLURAL: &'static str = "miners";
    fn index(world: &mut World) -> &mut Index<Self> {
        &mut world.miners
    }
}

impl Kind for SealingGroup {
    const PLURAL: &'static str = "sealinggroups";
    fn index(world: &mut World) -> &mut Index<Self> {
        &mut world.groups
    }
}

impl Kind for GasPolicy {
    const PLURAL: &'static str = "gaspolicies";
    fn index(world: &mut World) -> &mut Index<Self> {
        &mut world.policies
    }
}

impl Kind for SectorStore {
    const PLURAL: &'static str = "sectorstores";
    fn index(world: &mut World) -> &mut Index<Self> {
        &mut world.stores
    }
}

impl Kind for PostBatch {
    const PLURAL: &'static str = "postbatches";
    fn index(world: &mut World) -> &mut Index<Self> {
        &mut world.batches
    }
}

impl Kind for SealingNode {
    const PLURAL: &'static str = "sealingnodes";
    fn index(world: &mut World) -> &mut Index<Self> {
        &mut world.sealing_nodes
    }
}

impl Kind for Sector {
    const PLURAL: &'static str = "sectors";
    fn index(world: &mut World) -> &mut Index<Self> {
        &mut world.sectors
    }
}

impl Kind for ChainMessage {
    const PLURAL: &'static str = "chainmessages";
    fn index(world: &mut World) -> &mut Index<Self> {
        &mut world.messages
    }
}

impl Kind for Pod {
    const PLURAL: &'static str = "pods";

    fn index(world: &mut World) -> &mut Index<Self> {
        &mut world.pods
    }

    fn slim(&mut self) {
        self.metadata.managed_fields = None;
        // The template's hash stands for the rest; which stores a pod mounts is read from the volumes' names.
        if let Some(spec) = &mut self.spec {
            for volume in spec.volumes.iter_mut().flatten() {
                *volume = Volume {
                    name: std::mem::take(&mut volume.name),
                    ..Volume::default()
                };
            }
            for container in &mut spec.containers {
                container.env = None;
                container.volume_mounts = None;
            }
        }
        if let Some(status) = &mut self.status {
            status.pod_ips = None;
            status.host_ips = None;
        }
    }

    fn selector() -> Option<String> {
        Some(ours())
    }
}

impl Kind for PodDisruptionBudget {
    const PLURAL: &'static str = "poddisruptionbudgets";

    fn index(world: &mut World) -> &mut Index<Self> {
        &mut world.budgets
    }

    /// How many pods they count now moves all the time, and we only ask whether they are there.
    fn slim(&mut self) {
        self.metadata.managed_fields = None;
        self.status = None;
    }

    fn selector() -> Option<String> {
        Some(ours())
    }
}

impl Kind for Node {
    const PLURAL: &'static str = "nodes";

    fn index(world: &mut World) -> &mut Index<Self> {
        &mut world.nodes
    }

    /// Heartbeats of nodes change nothing that we read.
    fn slim(&mut self) {
        self.metadata.managed_fields = None;
        // Ours tell whose a cordon is.
        if let Some(annotations) = &mut self.metadata.annotations {
            annotations.retain(|name, _| name.starts_with("filstar.io/"));
        }
        if let Some(status) = &mut self.status {
            status.images = None;
            status.volumes_attached = None;
            status.volumes_in_use = None;
            for condition in status.conditions.iter_mut().flatten() {
                condition.last_heartbeat_time = None;
            }
        }
    }
}
