//! What an action is called, what it is about, and whether it talks to a chain.

use filstar_core::action::{Action, Collateral, StatusPatch};
use filstar_core::world::Id;

/// Name of the kind of action, for logs and metrics.
pub fn name(action: &Action) -> &'static str {
    match action {
        Action::CreateSector { .. } => "CreateSector",
        Action::AdoptSector { .. } => "AdoptSector",
        Action::PatchSector { .. } => "PatchSector",
        Action::ClearForgetNode { .. } => "ClearForgetNode",
        Action::DrawTicket { .. } => "DrawTicket",
        Action::DrawSeed { .. } => "DrawSeed",
        Action::ReleaseSector { .. } => "ReleaseSector",
        Action::DeleteSector { .. } => "DeleteSector",
        Action::CreateMessage { .. } => "CreateMessage",
        Action::SignMessage { .. } => "SignMessage",
        Action::PushMessage { .. } => "PushMessage",
        Action::PatchMessage { .. } => "PatchMessage",
        Action::DeleteMessage { .. } => "DeleteMessage",
        Action::EnsureAccess { .. } => "EnsureAccess",
        Action::CreatePod { .. } => "CreatePod",
        Action::DeletePod { .. } => "DeletePod",
        Action::ForgetPod { .. } => "ForgetPod",
        Action::AbortSector { .. } => "AbortSector",
        Action::EvictPod { .. } => "EvictPod",
        Action::CreateBudget { .. } => "CreateBudget",
        Action::DeleteBudget { .. } => "DeleteBudget",
        Action::PatchNode { .. } => "PatchNode",
        Action::DeleteSealingNode { .. } => "DeleteSealingNode",
        Action::RemoveGarbage { .. } => "RemoveGarbage",
        Action::PatchStatus { .. } => "PatchStatus",
    }
}

/// The object that an action is about: its kind and its id.
pub fn target(action: &Action) -> (&'static str, Id) {
    match action {
        Action::CreateSector { id, .. }
        | Action::AdoptSector { id, .. }
        | Action::PatchSector { id, .. }
        | Action::ClearForgetNode { id, .. }
        | Action::DrawTicket { id, .. }
        | Action::DrawSeed { id, .. }
        | Action::ReleaseSector { id, .. }
        | Action::DeleteSector { id, .. }
        | Action::AbortSector { id, .. } => ("Sector", id.clone()),
        Action::CreateMessage { id, .. }
        | Action::SignMessage { id, .. }
        | Action::PushMessage { id, .. }
        | Action::PatchMessage { id, .. }
        | Action::DeleteMessage { id, .. } => ("ChainMessage", id.clone()),
        Action::EnsureAccess { namespace } => ("Namespace", Id::new("", namespace)),
        Action::CreatePod { pod } => ("Pod", Id::of(&**pod)),
        Action::DeletePod { id, .. }
        | Action::ForgetPod { id, .. }
        | Action::EvictPod { id, .. } => ("Pod", id.clone()),
        Action::CreateBudget { budget } => ("PodDisruptionBudget", Id::of(&**budget)),
        Action::DeleteBudget { id, .. } => ("PodDisruptionBudget", id.clone()),
        Action::PatchNode { id, .. } => ("Node", id.clone()),
        Action::DeleteSealingNode { id, .. } => ("SealingNode", id.clone()),
        Action::RemoveGarbage { id, .. } => ("SectorStore", id.clone()),
        Action::PatchStatus { id, status } => (status_kind(status), id.clone()),
    }
}

fn status_kind(status: &StatusPatch) -> &'static str {
    match status {
        StatusPatch::Miner(_) => "Miner",
        StatusPatch::Group(_) => "SealingGroup",
        StatusPatch::Policy(_) => "GasPolicy",
        StatusPatch::Store { .. } => "SectorStore",
        StatusPatch::Batch(_) => "PostBatch",
        StatusPatch::Node(_) => "SealingNode",
        StatusPatch::Unreadable { .. } => "Unreadable",
    }
}

/// The Miner whose chain an action talks to; none when it does not. Such actions wait for no other Miner's.
pub fn lane(action: &Action) -> Option<&Id> {
    match action {
        Action::DrawTicket { miner, .. }
        | Action::DrawSeed { miner, .. }
        | Action::SignMessage { miner, .. }
        | Action::PushMessage { miner, .. } => Some(miner),
        Action::RemoveGarbage { checks, .. } => checks.first().map(|check| &check.miner),
        Action::CreateMessage { collateral, .. } => match collateral {
            Collateral::None => None,
            Collateral::Deposit { miner, .. } | Collateral::Pledge { miner, .. } => Some(miner),
        },
        Action::CreateSector { .. }
        | Action::AdoptSector { .. }
        | Action::PatchSector { .. }
        | Action::ClearForgetNode { .. }
        | Action::ReleaseSector { .. }
        | Action::DeleteSector { .. }
        | Action::PatchMessage { .. }
        | Action::DeleteMessage { .. }
        | Action::EnsureAccess { .. }
        | Action::CreatePod { .. }
        | Action::DeletePod { .. }
        | Action::ForgetPod { .. }
        | Action::AbortSector { .. }
        | Action::EvictPod { .. }
        | Action::CreateBudget { .. }
        | Action::DeleteBudget { .. }
        | Action::PatchNode { .. }
        | Action::DeleteSealingNode { .. }
        | Action::PatchStatus { .. } => None,
    }
}
