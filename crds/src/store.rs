//! `SectorStore`: a long-term storage path.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::node_path;

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
    printcolumn(name = "Capacity", type_ = "string", json_path = ".status.capacity", priority = 1),
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
    #[schemars(length(min = 2, max = 512), regex(pattern = r"^/[^:]+$"))]
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
    /// `Ready`, `Full`.
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
}
