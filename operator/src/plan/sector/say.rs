//! What a sector's conditions say.

use filstar_crds::{Sector, SectorPhase, SectorStatus, conditions, set_condition};
use kube::ResourceExt;

use super::turn::Wait;
use crate::action::Action;
use crate::world::{Id, Now};

/// Sets the conditions of a sector that waits for `wait`.
pub(super) fn conditions(now: Now, sector: &Sector, next: &mut SectorStatus, wait: &Wait) {
    let phase = next.phase.unwrap_or_default();
    let ready = phase == SectorPhase::Proving;
    let stalled = phase == SectorPhase::Failed;
    set(
        now,
        sector,
        next,
        (ready, !ready && !stalled, stalled),
        wait,
    );
}

/// A sector whose surroundings are wrong: only its conditions change.
pub(super) fn stalled(now: Now, id: &Id, sector: &Sector, wait: &Wait) -> Vec<Action> {
    let mut before = sector.status.clone().unwrap_or_default();
    before.sealer = None;
    let mut next = before.clone();
    next.observed_generation = sector.metadata.generation;
    set(now, sector, &mut next, (false, false, true), wait);
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

fn set(
    now: Now,
    sector: &Sector,
    next: &mut SectorStatus,
    states: (bool, bool, bool),
    wait: &Wait,
) {
    let (ready, reconciling, stalled) = states;
    for (kind, state) in [
        (conditions::READY, ready),
        (conditions::RECONCILING, reconciling),
        (conditions::STALLED, stalled),
    ] {
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
