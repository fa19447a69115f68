//! A Sector that is being deleted: its files in scratch go first, then our finalizer.

use filstar_crds::{
    Sector, SectorPhase, SectorStatus, Task, TaskKind, TaskState, TimelineEntry, finalizers,
};
use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::super::bookings::Bookings;
use super::say;
use super::turn::Wait;
use super::work::report_of;
use crate::action::Action;
use crate::world::pod::is_live;
use crate::world::{Id, Now, World, selects};

/// Between two attempts.
const PAUSE: SignedDuration = SignedDuration::from_secs(30);

pub(super) fn plan(
    world: &World,
    now: Now,
    bookings: &mut Bookings,
    id: &Id,
    sector: &Sector,
) -> Vec<Action> {
    if !sector
        .finalizers()
        .iter()
        .any(|f| f == finalizers::SECTOR_FILES)
    {
        return Vec::new();
    }
    let status = sector.status.clone().unwrap_or_default();
    if nothing_in_scratch(&status) || is_removed(&status) || nobody_can(world, id, sector, &status)
    {
        let uid = sector.uid().unwrap_or_default();
        return vec![Action::ReleaseSector {
            id: id.clone(),
            uid,
        }];
    }
    ask_a_pod(world, now, bookings, id, sector, status)
}

fn nothing_in_scratch(status: &SectorStatus) -> bool {
    status.binding.is_none() || status.store.as_ref().is_some_and(|s| s.landed)
}

fn is_removed(status: &SectorStatus) -> bool {
    let task = status.task.as_ref().filter(|t| t.kind == TaskKind::Remove);
    report_of(status.sealer.as_ref(), task).is_some_and(|r| r.state == TaskState::Succeeded)
}

/// The group is gone, or its selector no longer names the node: no pod of ours will ever come there.
fn nobody_can(world: &World, id: &Id, sector: &Sector, status: &SectorStatus) -> bool {
    let group_id = Id::new(&id.namespace, &sector.spec.group_ref.name);
    let Some(group) = world.groups.get(&group_id) else {
        return true;
    };
    let node = status.binding.as_ref().map(|b| b.node.as_str());
    group.metadata.deletion_timestamp.is_some()
        || node
            .and_then(|node| world.nodes.get(&Id::new("", node)))
            .is_none_or(|node| !selects(&group.spec.node_selector, node))
}

fn ask_a_pod(
    world: &World,
    now: Now,
    bookings: &mut Bookings,
    id: &Id,
    sector: &Sector,
    mut next: SectorStatus,
) -> Vec<Action> {
    let report = next.sealer.take();
    let before = next.clone();
    let current = next.task.as_ref().filter(|t| t.kind == TaskKind::Remove);
    let failed = report_of(report.as_ref(), current).filter(|r| r.state == TaskState::Failed);
    let alive = current.is_some_and(|t| {
        let pod = world.pods.get(&Id::new(&id.namespace, &t.pod_name));
        pod.is_some_and(|p| p.uid().as_ref() == Some(&t.pod_uid) && is_live(p))
    });
    let error = failed.and_then(|r| r.error.clone());
    let ended = failed.and_then(|r| r.finished.as_ref()).map(|t| t.0);
    let resting = ended.is_some_and(|t| now.wall.duration_since(t) < PAUSE);
    if next.phase != Some(SectorPhase::Removing) {
        next.phase = Some(SectorPhase::Removing);
        let started = Time(now.wall);
        next.timeline.push(TimelineEntry {
            phase: SectorPhase::Removing,
            started,
            seconds: None,
        });
    }
    if !alive || (error.is_some() && !resting) {
        next.task = None;
        let group_id = Id::new(&id.namespace, &sector.spec.group_ref.name);
        let node = next.binding.as_ref().map(|b| b.node.clone());
        if let Some(group) = world.groups.get(&group_id)
            && let Ok(place) =
                bookings.take(now, &group_id, group, TaskKind::Remove, node.as_deref(), id)
        {
            next.tasks += 1;
            next.task = Some(Task {
                id: format!("remove-{}", next.tasks),
                kind: TaskKind::Remove,
                pod_name: place.pod,
                pod_uid: place.uid,
                from_scratch: false,
            });
        }
    }
    let wait = match error {
        Some(error) => Wait::new("RemoveFailed", error),
        None => Wait::new("Removing", "its files in scratch are being removed"),
    };
    say::conditions(now, sector, &mut next, &wait);
    say::changed(id, sector, &before, next)
}
