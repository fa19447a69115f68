//! The Kubernetes API of Filstar: kinds, fields, defaults and rules, group `filstar.io/v1alpha1`.
//!
//! Users write [`Miner`], [`SealingGroup`], [`GasPolicy`], [`SectorStore`] and [`PostBatch`]; the operator
//! writes [`Sector`] and [`ChainMessage`]; each node's agent makes its [`SealingNode`]. Specs belong to users and are never changed by Filstar. Each
//! writer of a status has a field manager of its own, see [`managers`].
//!
//! The YAML of the CRDs is generated from these types by the program `crdgen`; see [`crds`].

#![expect(
    unreachable_pub,
    reason = "the KubeSchema derive repeats each struct inside a function, where its `pub` reaches nobody"
)]
#![expect(
    clippy::duplicated_attributes,
    reason = "columns of a kind repeat the keys of `printcolumn`, as they must"
)]

mod common;
mod condition;
mod count;
mod disks;
mod gaspolicy;
mod message;
mod miner;
mod names;
mod parse;
mod pledge;
mod postbatch;
mod sealinggroup;
mod sealingnode;
mod sector;
mod store;
mod timeout;

pub use common::{
    DrainSpec, LocalRef, NotOnChain, SecretKeyRef, TaintEffect, TaskClass, Toleration,
    TolerationOperator,
};
pub use condition::{Conditions, condition_says, kinds as conditions, set_condition};
pub use count::{Count, PerCore};
pub use disks::{Disk, Disks};
pub use gaspolicy::{GasMode, GasPolicy, GasPolicySpec, GasPolicyStatus, GasRule, RuleStatus};
pub use message::{
    ChainMessage, ChainMessageSpec, ChainMessageStatus, MessageKind, MessageState, SignedVersion,
};
pub use miner::{
    ChainSpec, Endpoint, Miner, MinerNetwork, MinerSpec, MinerStatus, NonceState, SealProofName,
    SectorNumbers, Senders, Signer, SignerType,
};
pub use names::{annotations, finalizers, labels, managers};
pub use parse::{
    ParseError, format_ranges, parse_bytes, parse_duration, parse_millicpus, parse_ranges,
};
pub use pledge::{
    BalanceGate, GasPriceGate, GateStatus, LandingGate, LastPledge, Pledge, PledgeGates,
    PledgeMode, ScratchSpaceGate, StoreSpaceGate,
};
pub use postbatch::{
    DeadlineState, DeadlineStatus, FaultReport, PostBatch, PostBatchSpec, PostBatchStatus,
    ProverLane, ProverReport, SkippedSector,
};
pub use sealinggroup::{
    Backend, Finalize, Lane, LaneCoreGroupOrder, LaneCoreGroups, LaneHugePages, LanePageSize,
    LanePhase, NodeFit, Placement, PlacementPolicy, PodStatus, Refusal, Scratch, SealingGroup,
    SealingGroupSpec, SealingGroupStatus,
};
pub use sealingnode::{
    CoreGroup, DiskKind, Gpu, GpuHealth, HugePages, Inventory, KubeletPolicies, Maintenance,
    NodePod, NodeSector, NumaNode, ScratchDisk, SealingNode, SealingNodeSpec, SealingNodeStatus,
};
pub use sector::{
    Attempts, Binding, Failure, MessageRefs, Progress, Randomness, Restart, SealerReport, Sector,
    SectorPhase, SectorSpec, SectorStatus, StoreRef, Task, TaskKind, TaskResult, TaskState,
    TimelineEntry,
};
pub use store::{
    EndedSectors, NfsVolume, Removed, SectorStore, SectorStoreSpec, SectorStoreStatus, StoreAccess,
    StoreVolume, Sweep, SweepKind, SweepReport,
};
pub use timeout::{LaneTaskTimeout, TaskTimeoutAction};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// API group of all kinds.
pub const GROUP: &str = "filstar.io";
/// API version of all kinds.
pub const VERSION: &str = "v1alpha1";

/// The definitions of all kinds, in the order in which they are documented.
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![
        Miner::crd(),
        SealingGroup::crd(),
        GasPolicy::crd(),
        SectorStore::crd(),
        PostBatch::crd(),
        SealingNode::crd(),
        Sector::crd(),
        ChainMessage::crd(),
    ]
}
