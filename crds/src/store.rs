//! `SectorStore`: a long-term storage path.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::{TaskClass, node_path};
use crate::sector::{Progress, TaskState};

/// A long-term storage path, where sectors land and from which they are proven.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[kube(
    group = "filstar.io",
    version = "v1alpha1",
    kind = "SectorStore",
    plural = "sectorstores",
    shortname = "store",
    category = "filstar",
    namespaced,
    status = "SectorStoreStatus",
    derive = "PartialEq",
    doc = "SectorStore is a long-term storage path, where sectors land and from which they are proven.",
    printcolumn(name = "Access", type_ = "string", json_path = ".spec.access"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Sectors", type_ = "integer", json_path = ".status.sectors"),
    printcolumn(name = "Used%", type_ = "integer", json_path = ".status.usedPercent"),
    printcolumn(name = "Garbage", type_ = "string", json_path = ".status.garbage"),
    printcolumn(name = "Capacity", type_ = "string", json_path = ".status.capacity", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].message", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 40").message("the name of a SectorStore has at most 40 characters, since volumes carry it")
)]
#[serde(rename_all = "camelCase")]
pub struct SectorStoreSpec {
    /// The volume; exactly one source.
    pub volume: StoreVolume,
    /// Labels of the nodes that can mount it; all nodes when left out. A prover runs on a node that has the labels of all
    /// stores of its Miner.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub node_selector: BTreeMap<String, String>,
    /// `ReadWrite` (default), `ReadOnly` (nothing lands), `WriteOnly` (nothing is proven from here).
    #[serde(default)]
    pub access: StoreAccess,
    /// Nothing lands once this much is used, in percent. Default 95.
    #[serde(default = "default_max_used")]
    #[schemars(range(min = 1, max = 100))]
    pub max_used_percent: u32,
    /// Sectors that may land at once. Default 1.
    #[serde(default = "default_landings")]
    #[schemars(range(min = 1, max = 64))]
    pub max_landings: u32,
}

fn default_max_used() -> u32 {
    95
}

fn default_landings() -> u32 {
    1
}

/// Where a store is.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.hostPath), has(self.nfs), has(self.pvc)].filter(x, x).size() == 1")
    .message("give exactly one of hostPath, nfs and pvc"))]
pub struct StoreVolume {
    /// A directory on the node, made when missing. Each node has its own, unless a network file system is mounted there
    /// on all of them: what sealers of other nodes land in their own directory the prover does not see. Such nodes seal
    /// nothing, and the conditions of the store and of the PostBatch say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 512))]
    #[x_kube(validation = node_path())]
    pub host_path: Option<String>,
    /// An NFS export.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nfs: Option<NfsVolume>,
    /// Name of a PersistentVolumeClaim in the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub pvc: Option<String>,
}

/// An NFS export.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NfsVolume {
    /// Host name or address of the server.
    #[schemars(length(min = 1, max = 253))]
    pub server: String,
    /// Exported path.
    #[schemars(length(min = 1, max = 512))]
    pub path: String,
}

/// What a store is used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum StoreAccess {
    /// Landing and proving.
    #[default]
    ReadWrite,
    /// Proving only.
    ReadOnly,
    /// Landing only.
    WriteOnly,
}

/// What is in the store.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SectorStoreStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, `Full`, `GarbageFound`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
    /// Sectors that landed here, as far as their Sector objects still exist.
    #[serde(default)]
    pub sectors: u32,
    /// Sectors landing now.
    #[serde(default)]
    pub landing: u32,
    /// Size of the file system, such as `10Ti`; written by a sealer when a sector lands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<String>,
    /// Used part of the file system in percent; written by a sealer when a sector lands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_percent: Option<u32>,
    /// Files here that are of no more use, such as `3 sectors, 96GiB`: of sectors that ended on chain. Nobody removes them
    /// before a person says so; condition `GarbageFound` says how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub garbage: Option<String>,
    /// What a sealer pod is asked to do about files of sectors that ended on chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweep: Option<Sweep>,
    /// Sweeps that were ever asked for; the next one gets the next number.
    #[serde(default)]
    pub sweeps: i64,
    /// What was removed so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed: Option<Removed>,
    /// Written by the sealer pod that is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweeper: Option<SweepReport>,
}

/// One look through a store, or one removal, by one pod. A sealer does it only when `podUid` is its own.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sweep {
    /// Unique for this store: `<kind>-<n>`, where n is `status.sweeps` when it was made.
    #[schemars(length(max = 64))]
    pub id: String,
    /// What to do.
    pub kind: SweepKind,
    /// Name of the pod that shall do it.
    #[schemars(length(max = 253))]
    pub pod_name: String,
    /// Uid of that pod.
    #[schemars(length(max = 64))]
    pub pod_uid: String,
    /// The sectors that it is about; files of others are left alone.
    #[schemars(length(max = 8))]
    pub sectors: Vec<EndedSectors>,
}

/// What a sweep does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum SweepKind {
    /// Say which of the sectors have files here, and how large they are.
    List,
    /// Remove the files of the sectors.
    Remove,
}

/// Sectors of one miner actor.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndedSectors {
    /// The actor, such as `t01000`.
    #[schemars(length(max = 32))]
    pub actor: String,
    /// Their numbers, such as `3-5,17`.
    #[schemars(length(max = 32_768))]
    pub numbers: String,
}

/// What was removed from a store so far.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Removed {
    /// Sectors whose files were removed.
    pub sectors: i64,
    /// Size of these files, in bytes.
    pub bytes: i64,
}

/// What a sealer says of a sweep.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SweepReport {
    /// The sweep that this is about; anything about another one is old.
    #[schemars(length(max = 64))]
    pub id: String,
    /// How it stands.
    pub state: TaskState,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<Time>,
    /// How far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Sectors that have files here (`List`), or whose files were removed (`Remove`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub sectors: Vec<EndedSectors>,
    /// How many they are.
    #[serde(default)]
    pub count: i64,
    /// Size of their files, in bytes, as the file system counts them.
    #[serde(default)]
    pub bytes: i64,
    /// Whether there are more than one sweep takes.
    #[serde(default)]
    pub more: bool,
    /// Class of its error; present when `Failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_class: Option<TaskClass>,
    /// Its error: which file, what happened, what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub error: Option<String>,
}
