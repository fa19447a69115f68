//! Tasks that run for longer than their lane allows (`taskTimeouts`).
//!
//! Time counts from the sealer's own word that it began. Such a task is not stopped, since it may be nearly done: its
//! pod takes nothing new until the task ends, and the sector and its group say so. Where its lane asks for that, its
//! node is emptied as well.

use std::collections::BTreeMap;

use filstar_crds::{
    LanePhase, SealingGroup, Sector, TaskKind, TaskState, TaskTimeoutAction, conditions, labels,
    parse_duration,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;

use crate::world::{Id, Now, World};

/// The bound of a task that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bound<'w> {
    /// When its time is over.
    pub(super) ends: Timestamp,
    started: Timestamp,
    kind: TaskKind,
    pod: &'w str,
    lane: &'w str,
    after: &'w str,
    then: TaskTimeoutAction,
}

impl Bound<'_> {
    pub(super) fn is_over(&self, now: Now) -> bool {
        now.wall >= self.ends
    }

    /// What a person reads.
    pub(super) fn sentence(&self) -> String {
        let then = match self.then {
            TaskTimeoutAction::CloseLane => "",
            TaskTimeoutAction::DrainNode => {
                " (the lane also asks for its node to be emptied: uncordon it when it is mended)"
            }
        };
        format!(
            "{} on pod {} runs since {:.0}, {}; the pod gets no new task until it ends: see its log, and delete the pod \
             if the task hangs{then}",
            self.kind.as_str(),
            self.pod,
            self.started,
            self.excess(),
        )
    }

    /// The same of the node that is emptied for it, in words that stay true when the task is gone.
    fn accusation(&self, sector: &Id) -> String {
        format!(
            "{} of sector {sector}, begun {:.0}, ran {}",
            self.kind.as_str(),
            self.started,
            self.excess()
        )
    }

    fn excess(&self) -> String {
        format!(
            "longer than the {} that lane {} allows",
            self.after, self.lane
        )
    }
}

/// The bound of a sector's task; none when it does not run, or its lane has none for it.
pub(super) fn bound<'w>(
    world: &'w World,
    id: &Id,
    group: &'w SealingGroup,
    sector: &'w Sector,
) -> Option<Bound<'w>> {
    if group.spec.lanes.iter().all(|l| l.task_timeouts.is_empty()) {
        return None;
    }
    let status = sector.status.as_ref()?;
    let task = status.task.as_ref()?;
    let report = status.sealer.as_ref().filter(|r| r.task_id == task.id)?;
    let started = report.started.as_ref()?.0;
    let phase = phase(task.kind)?;
    let (_, pod) = world.pods.find(&id.namespace, &task.pod_name)?;
    if report.state != TaskState::Running || pod.metadata.uid.as_ref() != Some(&task.pod_uid) {
        return None;
    }
    let lane = pod.labels().get(labels::LANE)?;
    let lane = group.spec.lanes.iter().find(|l| l.name == *lane)?;
    let timeout = lane.task_timeouts.iter().find(|t| t.phase == phase)?;
    let after = SignedDuration::try_from(parse_duration(&timeout.after).ok()?).ok()?;
    Some(Bound {
        ends: started.checked_add(after).ok()?,
        started,
        kind: task.kind,
        pod: &task.pod_name,
        lane: &lane.name,
        after: &timeout.after,
        then: timeout.then,
    })
}

/// Nodes with a task over its time whose lane says `then: DrainNode`; of each, the first such task in words.
pub(super) fn slow_nodes(world: &World, now: Now) -> BTreeMap<&str, String> {
    let drains = |group: &SealingGroup| {
        let mut timeouts = group.spec.lanes.iter().flat_map(|l| &l.task_timeouts);
        timeouts.any(|t| t.then == TaskTimeoutAction::DrainNode)
    };
    let mut nodes = BTreeMap::new();
    for (group_id, group) in world.groups.iter().filter(|(_, g)| drains(g)) {
        let sectors = world.sectors.in_namespace(&group_id.namespace);
        for (id, sector) in sectors.filter(|(_, s)| s.spec.group_ref.name == group_id.name) {
            let Some(bound) = bound(world, id, group, sector) else {
                continue;
            };
            if bound.then != TaskTimeoutAction::DrainNode || !bound.is_over(now) {
                continue;
            }
            let binding = sector.status.as_ref().and_then(|s| s.binding.as_ref());
            if let Some(binding) = binding {
                nodes
                    .entry(binding.node.as_str())
                    .or_insert_with(|| bound.accusation(id));
            }
        }
    }
    nodes
}

/// The phase of a lane that a task belongs to. Files of a sector that is deleted have no bound.
pub(super) fn phase(kind: TaskKind) -> Option<LanePhase> {
    match kind {
        TaskKind::AddPiece => Some(LanePhase::AddPiece),
        TaskKind::Pc1 => Some(LanePhase::Pc1),
        TaskKind::Pc2 => Some(LanePhase::Pc2),
        TaskKind::C1 => Some(LanePhase::C1),
        TaskKind::C2 => Some(LanePhase::C2),
        TaskKind::Finalize | TaskKind::Land => Some(LanePhase::Finalize),
        TaskKind::Remove => None,
    }
}

/// The condition of a sector whose task is over its time.
pub fn condition(all: &[Condition]) -> Option<&Condition> {
    all.iter()
        .find(|c| c.type_ == conditions::TASK_OVERDUE && c.status == "True")
}

/// Sectors of a group whose task is over its time, with their conditions: status and figures never disagree.
pub fn of_group<'w>(
    world: &'w World,
    group: &'w Id,
) -> impl Iterator<Item = (&'w Id, &'w Condition)> {
    let sectors = world.sectors.in_namespace(&group.namespace);
    let ours = sectors.filter(|(_, s)| s.spec.group_ref.name == group.name);
    ours.filter_map(|(id, s)| Some((id, condition(&s.status.as_ref()?.conditions)?)))
}
