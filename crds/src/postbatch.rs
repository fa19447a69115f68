//! `PostBatch`: who proves a miner's partitions, and how that goes.
//!
//! The prover decides alone what is due, from the chain; so proofs go on while the operator is down. It writes
//! `status.prover`; the operator turns each report into a ChainMessage and writes the rest.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::{LocalRef, TaskClass, Toleration, length_of_time, memory, node_path};
use crate::sealinggroup::{Backend, LaneCoreGroups};

/// Who proves a miner's partitions.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[kube(
    group = "filstar.io",
    version = "v1alpha1",
    kind = "PostBatch",
    plural = "postbatches",
    shortname = "pb",
    category = "filstar",
    namespaced,
    status = "PostBatchStatus",
    derive = "PartialEq",
    doc = "PostBatch says who proves a miner's partitions every day, and shows how that goes, deadline by deadline.",
    printcolumn(name = "Miner", type_ = "string", json_path = ".spec.minerRef.name"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "OnTime", type_ = "string", json_path = ".status.conditions[?(@.type=='OnTime')].status"),
    printcolumn(name = "Accepted", type_ = "integer", json_path = ".status.accepted"),
    printcolumn(name = "Faulty", type_ = "integer", json_path = ".status.faultySectors"),
    printcolumn(name = "Recovering", type_ = "integer", json_path = ".status.recoveringSectors"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].message", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 40").message("the name of a PostBatch has at most 40 characters, since pods and labels carry it")
)]
#[serde(rename_all = "camelCase")]
pub struct PostBatchSpec {
    /// The Miner whose partitions are proven: all of them. Immutable.
    #[x_kube(validation = Rule::new("self == oldSelf").message("minerRef is immutable: make another PostBatch"))]
    pub miner_ref: LocalRef,
    /// Labels of the node that proves. Those that the Miner's stores ask for in their `nodeSelector` are added.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the prover pod tolerates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub tolerations: Vec<Toleration>,
    /// Image of the prover pod; the operator's own choice when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// Directory on the node with Groth16 parameters.
    #[schemars(length(min = 2, max = 512))]
    #[x_kube(validation = node_path())]
    pub parameters_path: String,
    /// What the prover pod gets.
    pub lane: ProverLane,
    /// A sector whose files do not answer within this time is skipped, such as `2m`. Default `2m`.
    #[serde(default = "default_read_timeout")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = length_of_time())]
    pub read_timeout: String,
    /// Stop proving. Sectors become faulty and cost money once their deadline passes.
    #[serde(default)]
    pub suspend: bool,
    /// Declare faulty sectors recovered that the prover reads again, before the cutoff of their deadline. Default true.
    #[serde(default = "default_declare_recoveries")]
    pub declare_recoveries: bool,
}

fn default_declare_recoveries() -> bool {
    true
}

fn default_read_timeout() -> String {
    "2m".into()
}

/// What the prover pod gets.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[x_kube(validation = Rule::new("self.cpus > 0 || (!has(self.coreGroups) && self.backend == 'Kubelet')")
    .message("coreGroups and backend Agent give out CPUs: set cpus to as many as the prover needs"))]
#[serde(rename_all = "camelCase")]
pub struct ProverLane {
    /// Whole exclusive CPUs; 0 means the shared ones. With `coreGroups` they are rounded up to whole core groups.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1024))]
    pub cpus: u32,
    /// Whole core groups (CPUs that share an L3 cache) on one NUMA node, which no sealer gets; needs the inventory of the
    /// node agent. Of the nodes that the prover may run on it takes the first with room, and those where it runs before
    /// others. While none has room it runs on shared CPUs, and condition `PlacementVerified` says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub core_groups: Option<LaneCoreGroups>,
    /// Who hands out the CPUs, as in a SealingGroup: `Kubelet` (default), or `Agent` on nodes whose sealers bind themselves:
    /// the prover does the same.
    #[serde(default)]
    pub backend: Backend,
    /// Memory, such as `32Gi`.
    #[schemars(length(max = 24))]
    #[x_kube(validation = memory())]
    pub memory: String,
}

/// How proving goes. The operator writes all but `prover` and `faults`.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PostBatchStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, `Covered`, `OnTime`, `FaultsReadable`, `PlacementVerified`, `Stalled`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = 8))]
    pub conditions: Vec<Condition>,
    /// Window proofs that the chain accepted, ever.
    #[serde(default)]
    pub accepted: i64,
    /// Sectors that the chain holds for faulty.
    #[serde(default)]
    pub faulty_sectors: i64,
    /// Of these, sectors whose recovery is declared: the next proof of their deadline must include them.
    #[serde(default)]
    pub recovering_sectors: i64,
    /// The last deadline at which each index had sectors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["index".into()]))]
    #[schemars(length(max = 48))]
    pub deadlines: Vec<DeadlineStatus>,
    /// Written by the prover: each partition in its latest deadline, from the challenge on; its proof once that is made. Of more
    /// than fit, those of deadlines that closed go first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["deadline".into(), "partition".into()]))]
    #[schemars(length(max = 1024))]
    pub prover: Vec<ProverReport>,
    /// Written by the prover: partitions with faulty sectors whose recovery is not declared, and which of them it reads
    /// again. Of more partitions than fit, those whose deadlines open first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["deadline".into(), "partition".into()]))]
    #[schemars(length(max = 1024))]
    pub faults: Vec<FaultReport>,
}

/// What became of one deadline.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeadlineStatus {
    /// Index of the deadline.
    pub index: i64,
    /// Epoch at which it opened.
    pub open: i64,
    /// How it stands.
    pub state: DeadlineState,
    /// Sectors to prove.
    pub sectors: i64,
    /// Sectors left out of proofs.
    #[serde(default)]
    pub skipped: i64,
    /// Messages that carried the proofs, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub messages: Vec<String>,
    /// Epoch at which the last of them landed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub landed_epoch: Option<i64>,
}

/// How a deadline stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
pub enum DeadlineState {
    /// The proof is computed or waits for the deadline to open.
    Proving,
    /// A message carries it.
    Submitting,
    /// The chain accepted the proofs of all partitions.
    Accepted,
    /// The deadline closed without a proof of some partition.
    Missed,
}

/// The prover's report on one partition in one deadline. Without a proof and without an error it is still to be proven.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProverReport {
    /// Index of the deadline.
    pub deadline: i64,
    /// Index of the partition.
    pub partition: i64,
    /// Epoch at which the deadline opens; with the indices it names the proof.
    pub open: i64,
    /// Epoch at which it closes.
    pub close: i64,
    /// Epoch of the challenge.
    pub challenge: i64,
    /// Epoch to which the proof commits (`chain_commit_epoch`).
    pub chain_commit_epoch: i64,
    /// Randomness of that epoch, base64, as the chain has it now: a reorg changes it while the proof stays good.
    #[schemars(length(max = 64))]
    pub chain_commit_rand: String,
    /// Registered window PoSt proof type, by number. Says nothing without a proof.
    pub post_proof: i64,
    /// The proof, base64, verified by the prover; absent when it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16_384))]
    pub proof: Option<String>,
    /// Sectors proven, or to be proven.
    pub sectors: i64,
    /// How many sectors were left out.
    #[serde(default)]
    pub skipped_sectors: i64,
    /// All sectors that the proof leaves out, such as `1-5,17`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 65_536))]
    pub skipped_numbers: String,
    /// The first of those that were left out, each with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub skipped: Vec<SkippedSector>,
    /// Why there is no proof.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub error: Option<String>,
    /// Whether the prover tries again: it does so, with growing pauses, when this is `Temporary` or `Corrupt`, and once when
    /// it is `Permanent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_class: Option<TaskClass>,
    /// How often it was tried.
    #[serde(default)]
    pub attempts: i64,
    /// Computing time in milliseconds: reading and SNARK.
    #[serde(default)]
    pub millis: i64,
    /// When it was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<Time>,
}

/// A sector that was left out of a proof.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SkippedSector {
    /// Sector number.
    pub number: i64,
    /// Why.
    #[schemars(length(max = 512))]
    pub reason: String,
}

/// What the prover knows of the faulty sectors of one partition whose recovery is not declared.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FaultReport {
    /// Index of the deadline.
    pub deadline: i64,
    /// Index of the partition.
    pub partition: i64,
    /// Sectors that it read as a proof reads them, such as `1-5,17`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 16_384))]
    pub readable: String,
    /// Epoch of the oldest of these readings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_epoch: Option<i64>,
    /// How many it cannot read.
    #[serde(default)]
    pub unreadable_sectors: i64,
    /// The first of them, each with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub unreadable: Vec<SkippedSector>,
    /// How many it has not tried yet.
    #[serde(default)]
    pub untried_sectors: i64,
}
