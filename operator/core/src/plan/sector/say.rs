//! What a sector's conditions say.

use filstar_crds::{
    Sector, SectorPhase, SectorStatus, Task, condition_says, conditions, set_condition,
};
use kube::ResourceExt;

use super::super::overdue;
use super::turn::{Turn, Wait};
use crate::action::Action;
use crate::world::{Id, Now};

/// Sets the conditions of a sector that waits for `wait`.
pub(super) fn conditions(now: Now, sector: &Sector, next: &mut SectorStatus, wait: &Wait) {
    let states = states(next);
    set(now, sector, next, states, wait);
}

/// Whether the conditions say so already.
pub(super) fn is_said(generation: Option<i64>, status: &SectorStatus, wait: &Wait) -> bool {
    // They were written in this order, and others behind them.
    KINDS
        .iter()
        .zip(states(status))
        .enumerate()
        .all(|(at, (kind, state))| {
            condition_says(
                status.conditions.get(at..).unwrap_or_default(),
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

/// Says whether the task that the sector has is over its time; nothing as long as that never happened.
pub(super) fn overdue(turn: &mut Turn<'_>) {
    let bound = overdue::bound(turn.world, turn.id, turn.group, turn.sector);
    let goes_on = |task: &Option<Task>| turn.next.task == *task;
    let same = turn
        .sector
        .status
        .as_ref()
        .is_some_and(|s| goes_on(&s.task));
    let late = bound.filter(|bound| same && bound.is_over(turn.now));
    let was = overdue::condition(&turn.next.conditions).is_some();
    let (is, reason, text) = match &late {
        Some(bound) => (true, "TaskOverdue", bound.sentence()),
        None if was => (
            false,
            "OnTime",
            "the task ended, or its lane allows more".to_owned(),
        ),
        None => return,
    };
    condition(turn, conditions::TASK_OVERDUE, is, reason, &text);
}

/// Sets one condition of a sector, unless it says so already: a status that is not touched is not copied.
pub(super) fn condition(turn: &mut Turn<'_>, kind: &str, is: bool, reason: &str, text: &str) {
    let generation = turn.sector.metadata.generation;
    if !condition_says(&turn.next.conditions, kind, is, reason, text, generation) {
        let (next, now) = (&mut *turn.next, turn.now.wall);
        set_condition(
            &mut next.conditions,
            kind,
            is,
            reason,
            text,
            generation,
            now,
        );
    }
}

/// A sector whose surroundings are wrong: only its conditions change.
pub(super) fn stalled(now: Now, id: &Id, sector: &Sector, wait: &Wait) -> Vec<Action> {
    let mut before = sector.status.clone().unwrap_or_default();
    before.sealer = None;
    let mut next = before.clone();
    next.observed_generation = sector.metadata.generation;
    set(now, sector, &mut next, [false, false, true], wait);
    changed(id, sector, &before, next)
}

/// Writes a status that is another one than before.
pub(super) fn changed(
    id: &Id,
    sector: &Sector,
    before: &SectorStatus,
    next: SectorStatus,
) -> Vec<Action> {
    if next == *before {
        return Vec::new();
    }
    let resource_version = sector.resource_version().unwrap_or_default();
    vec![Action::PatchSector {
        id: id.clone(),
        status: Box::new(next),
        resource_version,
        gone: None,
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
