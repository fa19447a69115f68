//! `SealingNode`: what a node is made of, whether it is well, and its maintenance.
//!
//! Named like its Node. Three writers: people write the spec, the node's agent `status.inventory` and the conditions
//! of [`AGENT`](crate::conditions::AGENT), the operator all else. See `docs/protocol.md`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::NotOnChain;

/// What a node is made of, whether it is well, and its maintenance. Named like its Node.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[kube(
    group = "filstar.io",
    version = "v1alpha1",
    kind = "SealingNode",
    plural = "sealingnodes",
    shortname = "sn",
    category = "filstar",
    status = "SealingNodeStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "SealingNode says what a node is made of and whether it is well, and asks for its maintenance. It has the name of its Node.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].reason"
    ),
    printcolumn(
        name = "Clock",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='ClockSynced')].status"
    ),
    printcolumn(
        name = "GPUs",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='GpusHealthy')].status"
    ),
    printcolumn(
        name = "Disks",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='DisksHealthy')].status"
    ),
    printcolumn(
        name = "Blocked",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='DrainBlocked')].reason"
    ),
    printcolumn(
        name = "Drained",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Drained')].status"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].message",
        priority = 1
    ),
    printcolumn(
        name = "Lost-If-Stopped",
        type_ = "string",
        json_path = ".status.workLost",
        priority = 1
    ),
    printcolumn(
        name = "Kernel",
        type_ = "string",
        json_path = ".status.inventory.kernel",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct SealingNodeSpec {
    /// Asks for maintenance; taking it away ends it. A cordoned Node means the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<Maintenance>,
}

/// A request to empty the node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Maintenance {
    /// When the node shall be empty at the latest. Until then tasks that run may end by themselves; without it they
    /// are stopped at once. Sectors on chain are finished, even after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Time>,
    /// What becomes of sectors that are not on chain. When left out, `drain.notOnChain` of their groups counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_on_chain: Option<NotOnChain>,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub reason: Option<String>,
}

/// What is known of a node.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SealingNodeStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// By the agent: `ClockSynced`, `GpusHealthy`, `DisksHealthy`. By the operator: `Ready`, `Quiescing`,
    /// `DrainInProgress`, `DrainBlocked`, `Drained`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
    /// What the node is made of; written by its agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inventory: Option<Inventory>,
    /// Sealer pods that are still here while the node is emptied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["namespace".into(), "name".into()]))]
    #[schemars(length(max = 256))]
    pub pods: Vec<NodePod>,
    /// Sectors that are still here while the node is emptied, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["namespace".into(), "name".into()]))]
    #[schemars(length(max = 512))]
    pub sectors: Vec<NodeSector>,
    /// What would be lost if the node stopped now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub work_lost: Option<String>,
}

/// A pod of ours on a node that is being emptied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodePod {
    /// Its namespace.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Its name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// What it waits for.
    #[schemars(length(max = 256))]
    pub why: String,
}

/// A sector on a node that is being emptied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeSector {
    /// Its namespace.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Its name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Its phase.
    #[schemars(length(max = 32))]
    pub phase: String,
    /// Why it is still here.
    #[schemars(length(max = 256))]
    pub why: String,
}

/// What a node is made of, from the kernel, hwloc and NVML. Numbers that move are coarse, so that nothing is written
/// while nothing changes.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inventory {
    /// The kernel's id of this boot: numbers of NUMA nodes and CPUs mean nothing beyond it.
    #[schemars(length(max = 64))]
    pub boot_id: String,
    /// Kernel release.
    #[schemars(length(max = 128))]
    pub kernel: String,
    /// Features of the processor that the sealing engine asks for, such as `sha_ni`; those that it has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[schemars(length(max = 32), inner(length(max = 32)))]
    pub cpu_features: Vec<String>,
    /// Processor packages (sockets).
    pub packages: u32,
    /// NUMA nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["id".into()]))]
    #[schemars(length(max = 128))]
    pub numa_nodes: Vec<NumaNode>,
    /// Cores that share an L3 cache, in the kernel's order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["id".into()]))]
    #[schemars(length(max = 512))]
    pub core_groups: Vec<CoreGroup>,
    /// GPUs that NVML knows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["uuid".into()]))]
    #[schemars(length(max = 32))]
    pub gpus: Vec<Gpu>,
    /// File systems for sectors in work.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["path".into()]))]
    #[schemars(length(max = 32))]
    pub scratch: Vec<ScratchDisk>,
    /// How far the kernel knows its clock to be off, in milliseconds, coarse; absent when the kernel does not know,
    /// because nothing disciplines the clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_offset_ms: Option<i64>,
    /// What kubelet's managers are set to, as far as it shows.
    #[serde(default)]
    pub kubelet: KubeletPolicies,
}

/// One NUMA node.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NumaNode {
    /// The kernel's number.
    pub id: u32,
    /// Its CPUs, a list such as `0-7,16-23`; empty for memory without CPUs.
    #[schemars(length(max = 4096))]
    pub cpus: String,
    /// Memory, bytes.
    pub memory: u64,
    /// Huge pages by size.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["size".into()]))]
    #[schemars(length(max = 8))]
    pub hugepages: Vec<HugePages>,
}

/// Huge pages of one size on one NUMA node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HugePages {
    /// Size of a page, bytes.
    pub size: u64,
    /// Pages.
    pub total: u64,
    /// Pages that nobody has.
    pub free: u64,
}

/// Cores that share an L3 cache; all cores of a NUMA node where there is no L3.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CoreGroup {
    /// Number, counted from 0 in the order of the machine: `coreGroups` of lanes name groups by it.
    pub id: u32,
    /// Package that it is in.
    pub package: u32,
    /// NUMA node next to it.
    pub numa_node: u32,
    /// Its cores that are online; each a list of its hardware threads, the first thread first.
    #[schemars(length(max = 256), inner(length(min = 1, max = 8)))]
    pub cores: Vec<Vec<u32>>,
    /// L3 cache, bytes; 0 where there is none.
    pub l3: u64,
}

/// A GPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Gpu {
    /// NVML's UUID, such as `GPU-…`.
    #[schemars(length(max = 64))]
    pub uuid: String,
    /// Model.
    #[schemars(length(max = 96))]
    pub model: String,
    /// Memory, bytes.
    pub memory: u64,
    /// PCI address, such as `0000:41:00.0`.
    #[schemars(length(max = 32))]
    pub pci: String,
    /// NUMA node next to it; absent when the machine does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numa_node: Option<u32>,
    /// Whether it can be used.
    #[serde(default)]
    pub health: GpuHealth,
    /// Why it is not `Healthy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub why: Option<String>,
}

/// Whether a GPU can be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum GpuHealth {
    /// It can.
    #[default]
    Healthy,
    /// It can, but slowly: heat or power holds it back.
    Throttled,
    /// It must not: it made errors that spoil results.
    Unhealthy,
    /// It no longer answers.
    Lost,
}

impl GpuHealth {
    /// Whether tasks may run on it.
    pub fn usable(self) -> bool {
        matches!(self, Self::Healthy | Self::Throttled)
    }
}

/// A file system for sectors in work.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScratchDisk {
    /// Directory on the node.
    #[schemars(length(max = 512))]
    pub path: String,
    /// What it lies on.
    #[serde(default)]
    pub kind: DiskKind,
    /// Size, bytes.
    pub capacity: u64,
    /// Free for users, bytes, in steps of a hundredth of the size.
    pub free: u64,
    /// What is wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub why: Option<String>,
}

/// What a file system lies on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum DiskKind {
    /// A disk on the PCI bus.
    #[serde(rename = "NVMe")]
    Nvme,
    /// Another disk without moving parts.
    #[serde(rename = "SSD")]
    Ssd,
    /// A disk that turns.
    #[serde(rename = "HDD")]
    Hdd,
    /// Memory.
    Memory,
    /// Another machine.
    Network,
    /// The kernel does not say.
    #[default]
    Unknown,
}

/// What kubelet's managers are set to, as far as it shows without kubelet's own permissions; absent: it does not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KubeletPolicies {
    /// `none` or `static`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub cpu_manager_policy: Option<String>,
    /// `none`, `Static`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub memory_manager_policy: Option<String>,
    /// `none`, `best-effort`, `restricted` or `single-numa-node`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub topology_manager_policy: Option<String>,
    /// `container` or `pod`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub topology_manager_scope: Option<String>,
    /// CPUs that no pod gets for itself, a list such as `0,16`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub reserved_cpus: Option<String>,
}
