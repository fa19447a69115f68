//! Which tasks compute, and which a lane takes.

use filstar_crds::{Lane, TaskKind};
use filstar_placement::Kind;

use crate::plan::overdue;

/// Whether a task needs the lane's CPUs. The others move files: a sector that is on chain must be in its store
/// before its first deadline, and not wait behind an hour of hashing.
pub(super) fn computes(kind: TaskKind) -> Option<Kind> {
    match kind {
        TaskKind::AddPiece => Some(Kind::AddPiece),
        TaskKind::Pc1 => Some(Kind::Pc1),
        TaskKind::Pc2 => Some(Kind::Pc2),
        TaskKind::C1 => Some(Kind::C1),
        TaskKind::C2 => Some(Kind::C2),
        TaskKind::Finalize | TaskKind::Land | TaskKind::Remove => None,
    }
}

/// Whether a lane has the phase of a task.
pub(super) fn allows(lane: &Lane, kind: TaskKind) -> bool {
    overdue::phase(kind).is_none_or(|phase| lane.phases.contains(&phase))
}
