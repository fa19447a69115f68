//! What a sector's conditions say.

use filstar_crds::{Sector, SectorPhase, SectorStatus, condition_says, conditions, set_condition};
use kube::ResourceExt;

use super::turn::Wait;
use crate::action::Action;
use crate::world::{Id, Now};

/// Sets the conditions of a sector that waits for `wait`.
pub(super) fn conditions(now: Now, sector: &Sector, next: &mut SectorStatus, wait: &Wait) {
    let states = states(next);
    set(now, sector, next, states, wait);
}

/// Whether the conditions say so already.
pub(super) fn is_said(generation: Option<i64>, status: &SectorStatus, wait: &Wait) -> bool {
    KINDS.iter().zip(states(status)).all(|(kind, state)| {
        condition_says(
            &status.conditions,
            kind,
            state,
            wait.reason,
            &wait.message,
            generation,
        )
    })
}

const KINDS: [&str; 3] = [
    conditions::READY,
    conditions::RECONCILING,
    conditions::STALLED,
];

/// What each of [`KINDS`] is.
fn states(status: &SectorStatus) -> [bool; 3] {
    let phase = status.phase.unwrap_or_default();
    let ready = phase == SectorPhase::Proving;
    let stalled = phase == SectorPhase::Failed;
    [ready, !ready && !stalled, stalled]
}

/// A sector whose surroundings are wrong: only its conditions change.
pub(super) fn stalled(now: Now, id: &Id, sector: &Sector, wait: &Wait) -> Vec<Action> {
    let mut before = sector.status.clone().unwrap_or_default();
    before.sealer = None;
    let mut next = before.clone();
    next.observed_generation = sector.metadata.generation;
    set(now, sector, &mut next, [false, false, true], wait);
    if next == before {
        return Vec::new();
    }
    let resource_version = sector.resource_version().unwrap_or_default();
    vec![Action::PatchSector {
        id: id.clone(),
        status: Box::new(next),
        resource_version,
    }]
}

fn set(now: Now, sector: &Sector, next: &mut SectorStatus, states: [bool; 3], wait: &Wait) {
    for (kind, state) in KINDS.into_iter().zip(states) {
        set_condition(
            &mut next.conditions,
            kind,
            state,
            wait.reason,
            &wait.message,
            sector.metadata.generation,
            now.wall,
        );
    }
}
