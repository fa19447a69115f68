//! `SealingGroup`: servers that seal together for one Miner.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::{DrainSpec, LocalRef, Toleration, length_of_time, memory, node_path};
use crate::count::{Count, PerCore};
use crate::pledge::{GateStatus, LastPledge, Pledge};
use crate::timeout::LaneTaskTimeout;

/// Servers that seal together for one Miner. A sector never leaves its group.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[kube(
    group = "filstar.io",
    version = "v1alpha1",
    kind = "SealingGroup",
    plural = "sealinggroups",
    shortname = "sg",
    category = "filstar",
    namespaced,
    status = "SealingGroupStatus",
    derive = "PartialEq",
    doc = "SealingGroup is a set of servers that seal together for one Miner: which nodes, what pods on each, and how many sectors at once.",
    scale(spec_replicas_path = ".spec.pledge.maxInFlight", status_replicas_path = ".status.inFlight"),
    printcolumn(name = "Miner", type_ = "string", json_path = ".spec.minerRef.name"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Pods", type_ = "string", json_path = ".status.podsReady"),
    printcolumn(name = "Pinned", type_ = "string", json_path = ".status.conditions[?(@.type=='PlacementVerified')].status"),
    printcolumn(name = "InFlight", type_ = "integer", json_path = ".status.inFlight"),
    printcolumn(name = "Proving", type_ = "integer", json_path = ".status.proving"),
    printcolumn(name = "Pledge", type_ = "string", json_path = ".status.conditions[?(@.type=='PledgeOpen')].reason"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].message", priority = 1),
    printcolumn(name = "PledgeMessage", type_ = "string", json_path = ".status.conditions[?(@.type=='PledgeOpen')].message", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.spec.placement.policy == 'Preferred' || self.spec.lanes.all(l, l.cpus > 0)").message("a lane with cpus: 0 shares CPUs and cannot prove its placement: give it cpus, or set placement.policy: Preferred"),
    validation = Rule::new("!has(self.spec.env) || !('FILSTAR_PC1_POOL' in self.spec.env)").message("FILSTAR_PC1_POOL is set by the sealer: use memoryPool of the lane"),
    validation = Rule::new("!has(self.spec.env) || !('FILSTAR_ENGINE' in self.spec.env) || self.spec.env['FILSTAR_ENGINE'] != 'stock' || self.spec.lanes.all(l, !('PC1' in l.phases) || (has(l.memoryPool) && !l.memoryPool))").message("the stock engine knows no pool of layer memory: set memoryPool: false on lanes with PC1"),
    validation = Rule::new("self.spec.scratch.hostPath == oldSelf.spec.scratch.hostPath || !has(self.status) || !has(self.status.inFlight) || self.status.inFlight == 0").message("scratch.hostPath cannot change while sectors are in work (status.inFlight), since their files are there: scale the group to 0 and wait until all are proven, or make another SealingGroup"),
    validation = Rule::new("self.metadata.name.size() <= 40").message("the name of a SealingGroup has at most 40 characters, since pods and labels carry it")
)]
#[serde(rename_all = "camelCase")]
pub struct SealingGroupSpec {
    /// The Miner whose sectors are sealed here. Immutable.
    #[x_kube(validation = Rule::new("self == oldSelf").message("minerRef is immutable: make another SealingGroup"))]
    pub miner_ref: LocalRef,
    /// Labels that a node must have; all nodes when left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that sealer pods tolerate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub tolerations: Vec<Toleration>,
    /// Image of sealer pods; the operator's own choice when left out. A pod of another image begins nothing that computes
    /// and is replaced when it is idle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// PriorityClass of sealer pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub priority_class_name: Option<String>,
    /// Where sectors are while they are sealed.
    pub scratch: Scratch,
    /// How pods get their CPUs, and whether a pod that cannot prove it may compute.
    #[serde(default)]
    pub placement: Placement,
    /// What runs on each node: one pod for each lane.
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(
        merge_strategy = ListMerge::Map(vec!["name".into()]),
        validation = Rule::new("['AddPiece','PC1','PC2','C1','C2','Finalize'].all(p, self.exists(l, p in l.phases))")
            .message("the lanes together must have the phases AddPiece, PC1, PC2, C1, C2 and Finalize, or no sector can be finished")
    )]
    pub lanes: Vec<Lane>,
    /// How sectors come into being.
    #[serde(default)]
    pub pledge: Pledge,
    /// How finished sectors leave scratch.
    #[serde(default)]
    pub finalize: Finalize,
    /// What happens to sectors when their node is drained.
    #[serde(default)]
    pub drain: DrainSpec,
    /// Start nothing new: no sectors, no tasks. What runs goes on.
    #[serde(default)]
    pub paused: bool,
    /// Environment of task processes, for settings of the proof library; a change counts from the next task.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub env: BTreeMap<String, String>,
}

/// The volume of sectors in work, shared by all sealer pods of a node.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Scratch {
    /// Directory on the node, made when missing. It cannot change while sectors are in work: their files are there.
    #[schemars(length(min = 2, max = 512))]
    #[x_kube(validation = node_path())]
    pub host_path: String,
    /// Directory on the node with Groth16 parameters and parents caches, shared by all groups of the node.
    #[schemars(length(min = 2, max = 512))]
    #[x_kube(validation = node_path())]
    pub parameters_path: String,
}

/// How pods get their CPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// Who hands out CPUs. Default `Kubelet`: Guaranteed pods and the static CPU manager. `Agent`: Filstar itself,
    /// on nodes that nothing else uses.
    #[serde(default)]
    pub backend: Backend,
    /// `Required` (default): a pod that cannot prove its CPUs does not compute. `Preferred`: it does, and says so.
    #[serde(default)]
    pub policy: PlacementPolicy,
}

/// Who hands out CPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Backend {
    /// Kubelet's static CPU manager and topology manager.
    #[default]
    Kubelet,
    /// Filstar: core groups of the node agent's inventory are assigned to pods, and the sealer binds itself to
    /// them. For nodes that nothing else uses.
    Agent,
}

/// Whether a pod that cannot prove its placement computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum PlacementPolicy {
    /// It does not.
    #[default]
    Required,
    /// It does, and says so.
    Preferred,
}

/// One pod on each node of the group.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[x_kube(validation = Rule::new("!has(self.taskTimeouts) || self.taskTimeouts.all(t, t.phase in self.phases)")
    .message("taskTimeouts names a phase that the lane does not have: name one of its phases"))]
#[x_kube(validation = Rule::new("!has(self.sectorsPerCore) || type(self.sectorsPerCore) == string || self.sectorsPerCore == 1 || (has(self.concurrency) && (type(self.concurrency) == string || self.sectorsPerCore <= self.concurrency))")
    .message("sectors share a core only when their PC1 run at once: set concurrency to sectorsPerCore or more, or to Auto"))]
#[serde(rename_all = "camelCase")]
pub struct Lane {
    /// Name, unique in the group.
    #[schemars(
        length(min = 1, max = 20),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub name: String,
    /// What the pod computes.
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub phases: Vec<LanePhase>,
    /// Whole CPUs of the pod, exclusive to it. 0 shares those that the node's other pods share, and needs
    /// `placement.policy: Preferred`: for trials and small machines. With `coreGroups` they are rounded up to whole
    /// core groups.
    #[schemars(range(min = 0, max = 1024))]
    pub cpus: u32,
    /// Memory of the pod, such as `64Gi`.
    #[schemars(length(max = 24))]
    #[x_kube(validation = memory())]
    pub memory: String,
    /// Huge pages of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hugepages: Option<LaneHugePages>,
    /// GPUs of the pod (resource `nvidia.com/gpu`), on the NUMA node of its CPUs. Default 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0, max = 64))]
    pub gpus: u32,
    /// Whole core groups (CPUs that share an L3 cache) on one NUMA node; needs the inventory of the node agent.
    /// When left out, CPUs are only counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub core_groups: Option<LaneCoreGroups>,
    /// Pods of this lane on a node: a number (default 1), or `Auto` for as many as core groups, memory, huge pages
    /// and GPUs allow.
    #[serde(default, skip_serializing_if = "Count::is_one")]
    pub pods: Count,
    /// Tasks at once in the pod: a number (default 1), or `Auto` for as many as its memory, cores and GPUs allow.
    /// No task starts that the pod's memory does not hold. Changes count at once, without a restart.
    #[serde(default)]
    pub concurrency: Count,
    /// PC1 sectors that one core hashes in lock step: 1 (default), 2 or 4, or `Auto` for as few as it takes to give
    /// every PC1 task of the pod a core. Sectors together are done sooner than one after the other, and later than
    /// each on a core of its own. A task waits up to 20 seconds for others. Counts from the next task.
    #[serde(default, skip_serializing_if = "PerCore::is_one")]
    pub sectors_per_core: PerCore,
    /// Whether the PC1 tasks of a pod share the memory of their layers, S·(3n+1)/2 for n sectors instead of 2·S·n; default
    /// true. The one that finds none waits. A change makes another pod, when it is idle. The stock engine knows no pool.
    #[serde(default = "default_true")]
    pub memory_pool: bool,
    /// PC1 tasks at once while a window proof is due and a prover runs on the same node. Those that run go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 64))]
    pub concurrency_during_post: Option<u32>,
    /// Longest time, such as `5m`, that a pod which has just become ready waits for its first task; each pod
    /// waits another part of it, so that not all pods of a cluster start at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = length_of_time())]
    pub start_jitter: Option<String>,
    /// Share of the pod's CPUs that one task's worker threads use. Default 0.92. Counts from the next task.
    #[serde(default = "default_share", skip_serializing_if = "is_default_share")]
    #[schemars(range(min = 0.05, max = 1.0))]
    pub cpu_share: f64,
    /// Tasks that may use one GPU at once. Default 1. Fewer where the card's memory does not hold so many.
    #[serde(default = "default_one", skip_serializing_if = "is_one")]
    #[schemars(range(min = 1, max = 16))]
    pub tasks_per_gpu: u32,
    /// How long a task may take, by phase; no bound for phases that are left out. A task over its time goes on, its
    /// pod gets no new task until it ends, and Sector and group say so. `then: DrainNode` empties the node as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 6))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["phase".into()]))]
    pub task_timeouts: Vec<LaneTaskTimeout>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over a reference"
)]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over a reference"
)]
fn is_one(n: &u32) -> bool {
    *n == 1
}

fn default_one() -> u32 {
    1
}

fn default_share() -> f64 {
    0.92
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over a reference"
)]
fn is_default_share(share: &f64) -> bool {
    share.to_bits() == default_share().to_bits()
}

/// Huge pages of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LaneHugePages {
    /// Size of a page.
    pub size: LanePageSize,
    /// All of them together, such as `64Gi`.
    #[schemars(length(max = 24), regex(pattern = r"^[0-9]+(Mi|Gi|Ti)$"))]
    pub amount: String,
}

/// Size of a huge page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum LanePageSize {
    /// 2 MiB.
    #[serde(rename = "2Mi")]
    TwoMi,
    /// 1 GiB.
    #[serde(rename = "1Gi")]
    OneGi,
}

impl LanePageSize {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TwoMi => "2Mi",
            Self::OneGi => "1Gi",
        }
    }

    /// In bytes.
    pub fn bytes(self) -> u64 {
        match self {
            Self::TwoMi => 2 << 20,
            Self::OneGi => 1 << 30,
        }
    }
}

/// Which core groups a lane takes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LaneCoreGroups {
    /// Numbers of the groups that may be taken; all when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub include: Vec<u32>,
    /// `Reverse` (default) takes the highest numbers first, `Forward` the lowest.
    #[serde(default)]
    pub order: LaneCoreGroupOrder,
    /// Leave the first group of the machine to the system. Default true.
    #[serde(default = "default_true")]
    pub skip_first: bool,
}

/// From which end core groups are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum LaneCoreGroupOrder {
    /// The highest numbers first: the system's interrupts and daemons live in the lowest.
    #[default]
    Reverse,
    /// The lowest numbers first.
    Forward,
}

/// A phase that a lane computes.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, JsonSchema,
)]
pub enum LanePhase {
    /// Write the pieces (zeros, for committed capacity).
    AddPiece,
    /// Label the layers (SDR).
    #[serde(rename = "PC1")]
    Pc1,
    /// Trees, replica, CommR.
    #[serde(rename = "PC2")]
    Pc2,
    /// Vanilla proofs of the seal.
    C1,
    /// The SNARK.
    C2,
    /// Clear the cache and land the sector in a store.
    Finalize,
}

/// How finished sectors leave scratch.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Finalize {
    /// Finished sectors land in a store. Default true; when false they wait in scratch.
    #[serde(default = "default_true")]
    pub enabled: bool,
    /// Labels of the SectorStores to land in; all when left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub store_selector: BTreeMap<String, String>,
}

fn default_true() -> bool {
    true
}

impl Default for Finalize {
    fn default() -> Self {
        Self {
            enabled: true,
            store_selector: BTreeMap::new(),
        }
    }
}

/// What the group is doing.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SealingGroupStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, `Reconciling`, `Stalled`, `PlacementVerified`, `PledgeOpen`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
    /// Sectors in work (allocated and not yet proving). What `kubectl scale` shows.
    #[serde(default)]
    pub in_flight: u32,
    /// Sectors proving.
    #[serde(default)]
    pub proving: u32,
    /// Ready pods of wanted pods, such as `2/2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods_ready: Option<String>,
    /// Sealer pods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 1000))]
    pub pods: Vec<PodStatus>,
    /// Sectors by phase.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub sectors: BTreeMap<String, u32>,
    /// What must be true before a sector is pledged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 16))]
    pub gates: Vec<GateStatus>,
    /// The youngest sector of the group; `pledge.delay` counts from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_pledge: Option<LastPledge>,
    /// Nodes that the selector names and that cannot take the lanes, with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["node".into()]))]
    #[schemars(length(max = 1000))]
    pub unfit_nodes: Vec<NodeFit>,
    /// What the lanes leave over on nodes that they fit, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["node".into()]))]
    #[schemars(length(max = 1000))]
    pub left_over: Vec<NodeFit>,
    /// Nodes whose kubelet refused pods, and when the next is made there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["node".into()]))]
    #[schemars(length(max = 1000))]
    pub refusals: Vec<Refusal>,
}

/// A node whose kubelet refuses pods.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// Name of the node.
    #[schemars(length(max = 253))]
    pub node: String,
    /// How often in a row.
    pub count: u32,
    /// Kubelet's words, the last ones.
    #[schemars(length(max = 512))]
    pub reason: String,
    /// No pod is made there before.
    pub next: Time,
    /// Uids of pods that are counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub pods: Vec<String>,
}

/// One sealer pod.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodStatus {
    /// Name of the pod.
    pub name: String,
    /// Lane it is.
    pub lane: String,
    /// Node it runs on.
    pub node: String,
    /// `Pending`, `Running`, `Failed` …, with kubelet's reason where it gave one.
    pub phase: String,
    /// Whether the kernel gave it the CPUs that it was promised; absent until it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<bool>,
    /// What the kernel says, such as `cpus 1 of 1 asked, memory nodes 0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<String>,
    /// Why it is there, such as `core groups 14-15 of NUMA node 1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub why: Option<String>,
}

/// A node that cannot take the group's lanes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeFit {
    /// Name of the node.
    pub node: String,
    /// What is missing, such as `lane seal wants 8 cpus, the node has 1`.
    pub reason: String,
}
