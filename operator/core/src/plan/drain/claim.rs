//! What a sector asks of a node that shall be empty.

use filstar_crds::{
    MessageKind, MessageState, NotOnChain, Sector, SectorPhase, SectorStatus, Task, TaskState,
    annotations,
};
use kube::ResourceExt;

use super::Request;
use crate::plan::{message, names};
use crate::world::pod::is_live;
use crate::world::{Id, Now, World};

/// Whether the chain has a sector or its pre-commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnChain {
    /// It has, or a message is on its way that brings it there.
    Yes,
    /// It has not, and nothing is on its way.
    No,
    /// There was a pre-commit once, and the chain has not answered.
    Unknown,
}

/// What a sector asks of its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Nothing: no file of it is there any more.
    None,
    /// It is on chain, or may be: it is finished there.
    Finishes,
    /// It is being removed; its files go first.
    Leaves,
    /// Not on chain; its task runs and may end before the deadline.
    MayEnd,
    /// Not on chain; its task is to be stopped.
    Stops,
    /// Not on chain; it waits there with its files until the node is back.
    Waits,
    /// Not on chain; it is to be deleted.
    Goes,
}

impl Claim {
    /// Whether the node's sealer pods must stay for it.
    pub fn needs_pods(self) -> bool {
        match self {
            Self::Finishes | Self::Leaves | Self::MayEnd | Self::Stops | Self::Goes => true,
            Self::None | Self::Waits => false,
        }
    }

    /// Whether a pod that goes now would lose something: money, or the only way to remove files.
    pub(super) fn is_guarded(self) -> bool {
        match self {
            Self::Finishes | Self::Leaves | Self::Goes => true,
            Self::None | Self::MayEnd | Self::Stops | Self::Waits => false,
        }
    }
}

/// What a sector asks of a node that shall be empty.
pub(super) fn claim(world: &World, now: Now, request: &Request, id: &Id, sector: &Sector) -> Claim {
    let Some(status) = sector.status.as_ref().filter(|s| has_files(s)) else {
        return Claim::None;
    };
    if sector.metadata.deletion_timestamp.is_some() {
        return Claim::Leaves;
    }
    if on_chain(world, id, sector) != OnChain::No {
        return Claim::Finishes;
    }
    let group = Id::new(&id.namespace, &sector.spec.group_ref.name);
    match request.policy(world.groups.get(&group)) {
        NotOnChain::Delete => Claim::Goes,
        NotOnChain::Checkpoint => match running(world, id, status) {
            None => Claim::Waits,
            Some(_) if request.deadline.is_some() && !request.is_overdue(now) => Claim::MayEnd,
            Some(_) => Claim::Stops,
        },
    }
}

/// Whether files of a sector are in its node's scratch.
pub(super) fn has_files(status: &SectorStatus) -> bool {
    status.binding.is_some()
        && status.phase != Some(SectorPhase::Proving)
        && status.store.as_ref().is_none_or(|store| !store.landed)
}

/// The node whose scratch has files of a sector.
pub fn node_with_files(sector: &Sector) -> Option<&str> {
    let status = sector.status.as_ref().filter(|s| has_files(s))?;
    status.binding.as_ref().map(|b| b.node.as_str())
}

/// The node with a sector's files, if a person says that it does not come back.
pub fn gave_up(sector: &Sector) -> Option<&str> {
    let told = sector.annotations().get(annotations::FORGET_NODE)?;
    node_with_files(sector).filter(|node| told == node)
}

/// The task that a live pod has and has not ended.
pub(super) fn running<'a>(world: &World, id: &Id, status: &'a SectorStatus) -> Option<&'a Task> {
    let task = status.task.as_ref()?;
    let report = status.sealer.as_ref().filter(|r| r.task_id == task.id);
    let ended = report.is_some_and(|r| r.state != TaskState::Running);
    let pod = world.pods.find(&id.namespace, &task.pod_name);
    let lives = pod.is_some_and(|(_, p)| p.uid().as_ref() == Some(&task.pod_uid) && is_live(p));
    (!ended && lives).then_some(task)
}

/// Whether a sector is on chain, by its phase, the chain's word and the messages that we wished for. In doubt it may be.
pub fn on_chain(world: &World, id: &Id, sector: &Sector) -> OnChain {
    let Some(status) = sector.status.as_ref() else {
        return OnChain::No;
    };
    if phase_is_on_chain(status) {
        return OnChain::Yes;
    }
    let miner = Id::new(&id.namespace, &sector.spec.miner_ref.name);
    let number = sector.spec.number.unsigned_abs();
    let chain = world.chain(&miner);
    let pre_commit = chain.and_then(|c| c.precommits.get(&number));
    let proven = chain.and_then(|c| c.sectors.get(&number));
    let (Some(pre_commit), Some(proven)) = (pre_commit, proven) else {
        return unasked(world, id, status);
    };
    if pre_commit.is_some() || proven.is_some() || is_wished(world, id) {
        OnChain::Yes
    } else {
        OnChain::No
    }
}

/// Without the chain's word: what never had a pre-commit has none on chain.
fn unasked(world: &World, id: &Id, status: &SectorStatus) -> OnChain {
    let noted = status
        .messages
        .as_ref()
        .is_some_and(|m| m.pre_commit.is_some());
    if is_wished(world, id) {
        OnChain::Yes
    } else if noted || status.commit_deadline.is_some() {
        OnChain::Unknown
    } else {
        OnChain::No
    }
}

/// Whether a pre-commit is wished for that has not failed.
fn is_wished(world: &World, id: &Id) -> bool {
    let prefix = names::sector_message_prefix(&id.name, MessageKind::PreCommit);
    message::newest(world, &id.namespace, &prefix).is_some_and(|(_, message, _)| {
        let state = message.status.as_ref().and_then(|s| s.state);
        state != Some(MessageState::Failed)
    })
}

/// Phases that a sector reaches by a pre-commit on chain; of a failed sector, the phase in which it failed.
pub(super) fn phase_is_on_chain(status: &SectorStatus) -> bool {
    let phase = status.phase.unwrap_or_default();
    let failed_in = status.failure.as_ref().map(|f| f.phase);
    let phase = if phase == SectorPhase::Failed {
        failed_in.unwrap_or(phase)
    } else {
        phase
    };
    match phase {
        SectorPhase::WaitSeed
        | SectorPhase::C1
        | SectorPhase::C2
        | SectorPhase::Committing
        | SectorPhase::Finalizing
        | SectorPhase::Landing
        | SectorPhase::Proving => true,
        SectorPhase::Allocated
        | SectorPhase::Packing
        | SectorPhase::Pc1
        | SectorPhase::Pc2
        | SectorPhase::PreCommitting
        | SectorPhase::Removing
        | SectorPhase::Failed => false,
    }
}
