//! What one sector stands for in the books.

use filstar_crds::{Sector, SectorPhase, Task, TaskKind, TaskState};
use jiff::Timestamp;

use crate::plan::overdue;
use crate::world::{Id, World};

/// A group's place on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seat {
    pub(super) group: Id,
    pub(super) node: String,
}

/// What one sector stands for in the books.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entered {
    /// Pod (uid) and kind of its unfinished task.
    pub(super) task: Option<(String, TaskKind)>,
    /// Where its work is, unless it is through.
    pub(super) seat: Option<Seat>,
    /// The store that it is landing in.
    pub(super) landing: Option<Id>,
    /// When its task is over its time.
    pub(super) ends: Option<Timestamp>,
}

impl Entered {
    pub(super) fn of(world: &World, id: &Id, sector: &Sector) -> Self {
        let group = &sector.spec.group_ref.name;
        let bound = world
            .groups
            .find(&id.namespace, group)
            .and_then(|(_, group)| overdue::bound(world, id, group, sector));
        Self {
            task: unfinished(sector).map(|t| (t.pod_uid.clone(), t.kind)),
            seat: in_work_on(sector).map(|node| Seat {
                group: Id::new(&id.namespace, group),
                node: node.to_owned(),
            }),
            landing: landing_in(id, sector),
            ends: bound.map(|bound| bound.ends),
        }
    }
}

/// A sector's task, if it is not finished.
fn unfinished(sector: &Sector) -> Option<&Task> {
    let status = sector.status.as_ref()?;
    let task = status.task.as_ref()?;
    let finished = status
        .sealer
        .as_ref()
        .is_some_and(|report| report.task_id == task.id && report.state != TaskState::Running);
    if finished { None } else { Some(task) }
}

/// The node that holds a sector's work, unless it is through.
fn in_work_on(sector: &Sector) -> Option<&str> {
    let status = sector.status.as_ref()?;
    match status.phase {
        Some(SectorPhase::Proving | SectorPhase::Removing) => None,
        _ => Some(&status.binding.as_ref()?.node),
    }
}

fn landing_in(id: &Id, sector: &Sector) -> Option<Id> {
    let status = sector.status.as_ref()?;
    let store = status.store.as_ref()?;
    (status.phase == Some(SectorPhase::Landing)).then(|| Id::new(&id.namespace, &store.name))
}
