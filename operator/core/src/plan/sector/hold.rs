//! A sector whose node takes no new work, and that is not on chain: it gets no task, and the one that it has ends or
//! is taken away.

use filstar_crds::{SectorPhase, TaskKind, TaskState};

use super::super::drain::{self, Claim};
use super::turn::{Turn, Wait};
use super::work::report_of;

/// Why the sector does not go on; none when it does.
pub(super) fn hold(turn: &mut Turn<'_>) -> Option<Wait> {
    let closing = turn.bookings.closing();
    let (request, claim) = drain::claim(turn.world, turn.now, closing, turn.id, turn.sector)?;
    let then = match claim {
        Claim::None | Claim::Finishes | Claim::Leaves | Claim::MayEnd => return None,
        Claim::Stops | Claim::Waits => {
            "it waits there with its files and goes on when the node is back"
        }
        Claim::Goes => "it is being deleted, since notOnChain is Delete",
    };
    // A result that is there is taken over: it is no new work.
    if turn.phase() == SectorPhase::Failed || has_ended(turn) {
        return None;
    }
    let node = turn.next.binding.as_ref().map_or("", |b| b.node.as_str());
    let why = request.why.of(node);
    if turn.next.task.is_some() {
        turn.next.task = None;
    }
    Some(Wait::new(
        "NodeMaintenance",
        format!("{why}; the sector is not on chain, and {then}"),
    ))
}

fn has_ended(turn: &Turn<'_>) -> bool {
    let Some(task) = turn.next.task.as_ref() else {
        return false;
    };
    let of_phase = match turn.phase() {
        SectorPhase::Packing => TaskKind::AddPiece,
        SectorPhase::Pc1 => TaskKind::Pc1,
        SectorPhase::Pc2 => TaskKind::Pc2,
        SectorPhase::Allocated
        | SectorPhase::PreCommitting
        | SectorPhase::WaitSeed
        | SectorPhase::C1
        | SectorPhase::C2
        | SectorPhase::Committing
        | SectorPhase::Finalizing
        | SectorPhase::Landing
        | SectorPhase::Proving
        | SectorPhase::Removing
        | SectorPhase::Failed => return false,
    };
    let sealer = turn.sector.status.as_ref().and_then(|s| s.sealer.as_ref());
    let report = report_of(sealer, Some(task)).filter(|_| task.kind == of_phase);
    report.is_some_and(|r| r.state != TaskState::Running)
}
