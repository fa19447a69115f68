//! `Sector`: one sector's way from its number to its daily proof. Its name is the allocation of its number.
//!
//! Two writers share the status: the operator writes all of it but `sealer`, the sealer pod to which the
//! current task is bound writes `sealer` and nothing else. See `docs/protocol.md`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::{LocalRef, TaskClass};
use crate::miner::SealProofName;

/// One sector's way from its number to its daily proof. Named `<actor id>-<number>`.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[kube(
    group = "filstar.io",
    version = "v1alpha1",
    kind = "Sector",
    plural = "sectors",
    category = "filstar",
    namespaced,
    status = "SectorStatus",
    derive = "PartialEq",
    doc = "Sector is one sector's way from its number to its daily proof. Named <actor id>-<number>: the name is the allocation of the number.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Node", type_ = "string", json_path = ".status.binding.node"),
    printcolumn(name = "Progress", type_ = "string", json_path = ".status.sealer.progress.detail"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Group", type_ = "string", json_path = ".spec.groupRef.name", priority = 1),
    printcolumn(name = "Store", type_ = "string", json_path = ".status.store.name", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].message", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.matches('^[ft]0[1-9][0-9]*-(0|[1-9][0-9]*)$') && int(self.metadata.name.split('-')[1]) == self.spec.number")
        .message("name a Sector <actor id>-<number>, such as f01000-7, with the number of spec.number")
)]
#[serde(rename_all = "camelCase")]
pub struct SectorSpec {
    /// The Miner. Immutable.
    #[x_kube(validation = Rule::new("self == oldSelf").message("minerRef is immutable"))]
    pub miner_ref: LocalRef,
    /// The SealingGroup that seals it. Immutable: a sector never leaves its group.
    #[x_kube(validation = Rule::new("self == oldSelf").message("groupRef is immutable: a sector never leaves its group"))]
    pub group_ref: LocalRef,
    /// Sector number. Immutable.
    #[schemars(range(min = 0))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("number is immutable"))]
    pub number: i64,
    /// Seal proof. Immutable.
    #[x_kube(validation = Rule::new("self == oldSelf").message("sealProof is immutable"))]
    pub seal_proof: SealProofName,
    /// Start no further task. What runs goes on.
    #[serde(default)]
    pub paused: bool,
    /// Whether a repeated phase goes on from what is on disk (`Resume`, default) or starts from nothing.
    #[serde(default)]
    pub restart: Restart,
}

/// Where a repeated phase starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Restart {
    /// From what is on disk and right by its digest.
    #[default]
    Resume,
    /// From nothing.
    FromScratch,
}

/// Where a sector is on its way.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Deserialize,
    Serialize,
    JsonSchema,
)]
pub enum SectorPhase {
    /// The number is taken; no node yet.
    #[default]
    Allocated,
    /// Pieces are written (task `AddPiece`).
    Packing,
    /// Layers are labelled.
    #[serde(rename = "PC1")]
    Pc1,
    /// Trees and replica are made.
    #[serde(rename = "PC2")]
    Pc2,
    /// The pre-commit message is on its way.
    PreCommitting,
    /// Waits for the seed, an interval after the pre-commit landed.
    WaitSeed,
    /// Vanilla proofs of the seal.
    C1,
    /// The SNARK.
    C2,
    /// The prove-commit message is on its way.
    Committing,
    /// Layers and trees that are no longer needed are removed.
    Finalizing,
    /// Files move to a store.
    Landing,
    /// On chain and in a store.
    Proving,
    /// The object is being deleted: files in scratch are removed first.
    Removing,
    /// A person must look; `failure` says at what.
    Failed,
}

impl SectorPhase {
    /// The API's name of the phase.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allocated => "Allocated",
            Self::Packing => "Packing",
            Self::Pc1 => "PC1",
            Self::Pc2 => "PC2",
            Self::PreCommitting => "PreCommitting",
            Self::WaitSeed => "WaitSeed",
            Self::C1 => "C1",
            Self::C2 => "C2",
            Self::Committing => "Committing",
            Self::Finalizing => "Finalizing",
            Self::Landing => "Landing",
            Self::Proving => "Proving",
            Self::Removing => "Removing",
            Self::Failed => "Failed",
        }
    }
}

/// What a sealer pod can be asked to do for a sector.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, JsonSchema,
)]
pub enum TaskKind {
    /// Write the unsealed file.
    AddPiece,
    /// Label the layers.
    #[serde(rename = "PC1")]
    Pc1,
    /// Trees, replica, CommR.
    #[serde(rename = "PC2")]
    Pc2,
    /// Vanilla proofs.
    C1,
    /// The SNARK, verified.
    C2,
    /// Clear the cache.
    Finalize,
    /// Copy to the store that the task names, check, remove the source.
    Land,
    /// Remove all files of the sector in scratch.
    Remove,
}

impl TaskKind {
    /// The API's name of the task.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AddPiece => "AddPiece",
            Self::Pc1 => "PC1",
            Self::Pc2 => "PC2",
            Self::C1 => "C1",
            Self::C2 => "C2",
            Self::Finalize => "Finalize",
            Self::Land => "Land",
            Self::Remove => "Remove",
        }
    }
}

/// What is known of a sector. The operator writes all but `sealer`.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SectorStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready` (true from Proving on), `Reconciling`, `Stalled`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = 8))]
    pub conditions: Vec<Condition>,
    /// Where the sector is on its way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<SectorPhase>,
    /// Node and scratch directory that hold its files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<Binding>,
    /// Seal randomness, drawn before PC1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<Randomness>,
    /// Interactive randomness, drawn after the pre-commit landed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<Randomness>,
    /// Epoch by which the pre-commit must land, or the ticket is too old.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_commit_deadline: Option<i64>,
    /// Epoch by which the prove-commit must land, or the deposit is burnt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit_deadline: Option<i64>,
    /// Epoch at which the sector's commitment ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiration: Option<i64>,
    /// Commitment to the data, a CID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub comm_d: Option<String>,
    /// Commitment to the replica, a CID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub comm_r: Option<String>,
    /// The seal proof, base64; kept until the prove-commit message holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 262_144))]
    pub proof: Option<String>,
    /// What a sealer pod is asked to do now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
    /// Tasks that the sector ever had; the next one gets the next number.
    #[serde(default)]
    pub tasks: i64,
    /// Failed attempts of the phase that failed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<Attempts>,
    /// Names of its ChainMessages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<MessageRefs>,
    /// Store that it lands or landed in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreRef>,
    /// Why the sector failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Start and length of each phase, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub timeline: Vec<TimelineEntry>,
    /// Written by the sealer pod that the task is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealer: Option<SealerReport>,
}

/// Where a sector's files are while it is sealed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Binding {
    /// Name of the node.
    pub node: String,
    /// Scratch directory on the node.
    pub scratch: String,
}

/// Randomness of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Randomness {
    /// Epoch it is of.
    pub epoch: i64,
    /// 32 bytes, base64.
    #[schemars(length(max = 64))]
    pub value: String,
}

/// One piece of work for one pod. A sealer works on a task only when `podUid` is its own.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Task {
    /// Unique for this sector: `<kind>-<n>`, where n is `status.tasks` when it was made.
    #[schemars(length(max = 64))]
    pub id: String,
    /// What to do.
    pub kind: TaskKind,
    /// Name of the pod that shall do it.
    #[schemars(length(max = 253))]
    pub pod_name: String,
    /// Uid of that pod.
    #[schemars(length(max = 64))]
    pub pod_uid: String,
    /// Start from nothing rather than from what is on disk.
    #[serde(default)]
    pub from_scratch: bool,
}

/// Failed attempts of a phase.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Attempts {
    /// The phase.
    pub phase: SectorPhase,
    /// Attempts that failed.
    pub failed: u32,
    /// No new attempt before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Time>,
    /// The last error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub last_error: Option<String>,
}

/// Names of a sector's ChainMessages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MessageRefs {
    /// The pre-commit in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_commit: Option<String>,
    /// The prove-commit in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
}

/// Where a sector lands.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoreRef {
    /// Name of the SectorStore.
    pub name: String,
    /// Whether its files are there, complete and checked.
    #[serde(default)]
    pub landed: bool,
}

/// Why a sector failed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// Phase in which it failed.
    pub phase: SectorPhase,
    /// Class of the error.
    pub class: TaskClass,
    /// What happened and what to do.
    #[schemars(length(max = 4096))]
    pub message: String,
}

/// When a phase began and how long it took.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TimelineEntry {
    /// The phase.
    pub phase: SectorPhase,
    /// When it began.
    pub started: Time,
    /// How long it took; absent while it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<i64>,
}

/// What the sealer says of the current task.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SealerReport {
    /// The task that this is about; anything about another task is old.
    #[schemars(length(max = 64))]
    pub task_id: String,
    /// How it stands.
    pub state: TaskState,
    /// When the sealer began with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<Time>,
    /// How far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// What it made; present when `Succeeded`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<TaskResult>,
    /// Class of its error; present when `Failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_class: Option<TaskClass>,
    /// Its error: which file, what happened, what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub error: Option<String>,
}

/// How a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum TaskState {
    /// It is computed.
    Running,
    /// It is done; `result` holds what it made.
    Succeeded,
    /// It failed; `error` says why.
    Failed,
}

/// How far a task is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// Done, in percent.
    #[schemars(range(min = 0, max = 100))]
    pub percent: u32,
    /// For people, such as `PC1 layer 3/11 41%`.
    #[schemars(length(max = 256))]
    pub detail: String,
}

/// What tasks make; each kind fills its own fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskResult {
    /// `PC1` and `PC2`: commitment to the data, a CID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub comm_d: Option<String>,
    /// `PC2`: commitment to the replica, a CID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub comm_r: Option<String>,
    /// `C2`: the proof, base64, verified by the sealer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 262_144))]
    pub proof: Option<String>,
    /// `Land`: name of the store that has the files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub store: Option<String>,
}
