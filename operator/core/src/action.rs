//! What a plan can ask for. Each action is one write, or one chain call followed by one write, and is safe to
//! repeat. The plan names the state that it was made for (uid, resourceVersion); apply refuses when it is gone.

use filstar_chain::node::PreCommitInfo;
use filstar_chain::types::{ActorId, AttoFil, Epoch};
use filstar_crds::{
    ChainMessageSpec, ChainMessageStatus, GasPolicyStatus, MinerStatus, PostBatchStatus,
    SealingGroupStatus, SealingNodeStatus, SectorSpec, SectorStatus, SectorStoreStatus,
};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use crate::world::Id;

/// One step of the plan, in the order in which it is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make a Sector: allocates its number. Fails harmlessly when the name is taken.
    CreateSector {
        /// Its id.
        id: Id,
        /// Its spec.
        spec: SectorSpec,
    },
    /// Give a Sector the labels and the finalizer that we need.
    AdoptSector {
        /// Its id.
        id: Id,
        /// Its group's name, for the label.
        group: String,
        /// Its miner's name, for the label.
        miner: String,
    },
    /// Write a Sector's status, all but `sealer`; refused when the object changed since.
    PatchSector {
        /// Its id.
        id: Id,
        /// The operator's part of the status, whole.
        status: Box<SectorStatus>,
        /// Version for which it was planned.
        resource_version: String,
        /// A node that must not be there: the sector begins anew because it is gone.
        gone: Option<String>,
    },
    /// Take a person's word back that the sector's node does not come back; refused while it says something.
    ClearForgetNode {
        /// The Sector.
        id: Id,
        /// Version for which it was planned.
        resource_version: String,
    },
    /// Draw the ticket at this epoch, then write the given status with it.
    DrawTicket {
        /// The Sector.
        id: Id,
        /// Its Miner.
        miner: Id,
        /// Epoch of the ticket.
        epoch: Epoch,
        /// Status to write; its `ticket.value` is empty and is filled in.
        status: Box<SectorStatus>,
        /// Version for which it was planned.
        resource_version: String,
    },
    /// Draw the seed at this epoch, then write the given status with it.
    DrawSeed {
        /// The Sector.
        id: Id,
        /// Its Miner.
        miner: Id,
        /// Epoch of the seed.
        epoch: Epoch,
        /// Status to write; its `seed.value` is empty and is filled in.
        status: Box<SectorStatus>,
        /// Version for which it was planned.
        resource_version: String,
    },
    /// Remove our finalizer from a Sector.
    ReleaseSector {
        /// Its id.
        id: Id,
        /// Its uid.
        uid: String,
    },
    /// Delete a Sector object whose retention is over.
    DeleteSector {
        /// Its id.
        id: Id,
        /// Its uid.
        uid: String,
    },
    /// Wish for a message. The value is computed from the collateral first.
    CreateMessage {
        /// Its id.
        id: Id,
        /// Its spec; `value` is empty and is filled in.
        spec: Box<ChainMessageSpec>,
        /// What goes with it.
        collateral: Collateral,
    },
    /// Estimate gas, take the next nonce, sign, and store the signed bytes. Nothing is pushed.
    SignMessage {
        /// The message.
        id: Id,
        /// Its Miner.
        miner: Id,
        /// Smallest nonce that it may get: all that we ever signed for the sender are below.
        min_nonce: u64,
        /// What it may reserve of its sender's balance so that it lands at a higher base fee too; none when it can wait.
        spendable: Option<AttoFil>,
        /// Version for which it was planned.
        resource_version: String,
    },
    /// Push the newest stored version, then write that it was pushed.
    PushMessage {
        /// The message.
        id: Id,
        /// Its Miner.
        miner: Id,
        /// Status to write after the push.
        status: Box<ChainMessageStatus>,
        /// Version for which it was planned.
        resource_version: String,
    },
    /// Write a message's status.
    PatchMessage {
        /// Its id.
        id: Id,
        /// The whole status.
        status: Box<ChainMessageStatus>,
        /// Version for which it was planned.
        resource_version: String,
    },
    /// Delete a message object whose retention is over.
    DeleteMessage {
        /// Its id.
        id: Id,
        /// Its uid.
        uid: String,
    },
    /// Make the service accounts and role bindings that our pods in a namespace need.
    EnsureAccess {
        /// The namespace.
        namespace: String,
    },
    /// Make a pod. Fails harmlessly when the name is taken.
    CreatePod {
        /// The pod.
        pod: Box<Pod>,
    },
    /// Delete a pod by uid.
    DeletePod {
        /// Its id.
        id: Id,
        /// Its uid.
        uid: String,
        /// Why, for the log and the event.
        reason: String,
    },
    /// Delete the object of a prover's pod without waiting for the kubelet of its node to say that it ended.
    ForgetPod {
        /// Its id.
        id: Id,
        /// Its uid.
        uid: String,
        /// Why, for the log and the event.
        reason: String,
    },
    /// Delete a Sector that is not on chain; refused when it changed since, or a pre-commit is on its way.
    AbortSector {
        /// Its id.
        id: Id,
        /// Its uid.
        uid: String,
        /// Version for which it was planned.
        resource_version: String,
        /// Why, for the log and the event.
        reason: String,
        /// A node that must not be there: the sector goes because it is gone.
        gone: Option<String>,
    },
    /// Ask for a pod to go, by the eviction API; refused when nobody wants its node empty any more.
    EvictPod {
        /// Its id.
        id: Id,
        /// Its uid.
        uid: String,
        /// Its node.
        node: String,
    },
    /// Make a disruption budget. Fails harmlessly when the name is taken.
    CreateBudget {
        /// The budget.
        budget: Box<PodDisruptionBudget>,
    },
    /// Take a disruption budget of ours away.
    DeleteBudget {
        /// Its id.
        id: Id,
        /// Its uid.
        uid: String,
    },
    /// Set or undo our cordon of a Node; refused when the Node is no longer as planned.
    PatchNode {
        /// Its id.
        id: Id,
        /// Its uid.
        uid: String,
        /// What to change.
        change: NodeChange,
    },
    /// Delete a `SealingNode` whose Node is gone; refused when there is one.
    DeleteSealingNode {
        /// Its id.
        id: Id,
        /// Its uid.
        uid: String,
    },
    /// Ask a pod to remove files of sectors that ended on chain, of those that a person has approved. The chain is asked just
    /// before; what has not ended is left out, and while an end is not final nothing is asked for.
    RemoveGarbage {
        /// The store.
        id: Id,
        /// Its status with the sweep that removes.
        status: Box<SectorStoreStatus>,
        /// How to make sure, for each Miner of the sectors' actors.
        checks: Vec<EndedCheck>,
        /// Version for which it was planned.
        resource_version: String,
    },
    /// Write a status.
    PatchStatus {
        /// The object.
        id: Id,
        /// Its status.
        status: Box<StatusPatch>,
    },
}

/// A change of a Node's cordon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeChange {
    /// Cordon it, and mark the cordon as ours.
    Cordon,
    /// Cordon it, and mark the cordon as that of a task over its time.
    CordonForTask {
        /// Which task, in words.
        task: String,
    },
    /// Somebody took our cordon away: it is no longer ours.
    MarkLifted,
    /// Undo our cordon.
    Uncordon,
    /// Take the mark away.
    Unmark,
}

/// A status of an object of users, whole as far as the operator owns it.
#[derive(Clone, Debug, PartialEq)]
pub enum StatusPatch {
    /// A Miner's.
    Miner(MinerStatus),
    /// A `SealingGroup`'s.
    Group(SealingGroupStatus),
    /// A `GasPolicy`'s.
    Policy(GasPolicyStatus),
    /// A `SectorStore`'s.
    Store {
        /// The status; sealers' parts are left out of the write.
        status: Box<SectorStoreStatus>,
        /// Version for which it was planned.
        resource_version: String,
    },
    /// A `PostBatch`'s.
    Batch(PostBatchStatus),
    /// A `SealingNode`'s; the agent's part is left out of the write.
    Node(SealingNodeStatus),
    /// A condition on an object that our types cannot read: kind (plural), reason, message.
    Unreadable {
        /// Plural of the kind.
        plural: String,
        /// What is wrong and what to do.
        message: String,
    },
}

/// How to make sure that sectors of an actor have ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedCheck {
    /// The Miner whose chain is asked.
    pub miner: Id,
    /// Its actor.
    pub actor: ActorId,
    /// After so many epochs nothing is undone any more.
    pub confidence: i64,
}

/// What a message must bring along.
#[derive(Clone, Debug, PartialEq)]
pub enum Collateral {
    /// Nothing: the message locks nothing, or the miner's own balance pays.
    None,
    /// The deposit of a pre-commit.
    Deposit {
        /// The Miner.
        miner: Id,
        /// The pre-commit.
        info: Box<PreCommitInfo>,
    },
    /// The pledge of a sector, less the deposit that it has.
    Pledge {
        /// The Miner.
        miner: Id,
        /// Sector size in bytes.
        sector_size: u64,
        /// From now to the sector's end, in epochs.
        duration: i64,
        /// Deposit already locked.
        deposit: AttoFil,
    },
}
