//! Which pods have room for a task, counted over all tasks in flight and those of this very plan.

use std::collections::{BTreeMap, BTreeSet};

use filstar_crds::{
    Lane, LanePhase, SealingGroup, Sector, SectorPhase, Task, TaskKind, TaskState, labels,
};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::drain::Closing;
use crate::world::{Id, Now, World};

/// A pod that may take a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) pod: String,
    pub(super) uid: String,
    pub(super) node: String,
}

/// How long a new pod may take to become ready before sectors go elsewhere.
const STARTING: SignedDuration = SignedDuration::from_secs(60);

/// Tasks by pod uid, and sectors in work by node.
#[derive(Debug, Default)]
pub(super) struct Bookings {
    /// Tasks that compute: a lane's concurrency bounds them.
    tasks: BTreeMap<String, u32>,
    /// Pods with any task at all.
    used: BTreeSet<String>,
    sectors: BTreeMap<String, u32>,
    /// Nodes that shall be empty: nothing new goes there.
    closing: Closing,
}

/// Why no pod takes a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// There is no ready pod of a lane with this phase (on the sector's node).
    NoPod,
    /// All of them are busy.
    Busy,
    /// The pod on the node with the fewest sectors is about to be ready.
    Starting(String),
}

impl Bookings {
    /// Counts the unfinished tasks of the world.
    pub(super) fn of(world: &World) -> Self {
        let mut bookings = Self {
            closing: Closing::of(world),
            ..Self::default()
        };
        for (_, sector) in world.sectors.iter() {
            if let Some(task) = unfinished(sector) {
                bookings.book(&task.pod_uid, task.kind);
            }
            if let Some(node) = in_work_on(sector) {
                *bookings.sectors.entry(node.to_owned()).or_default() += 1;
            }
        }
        bookings
    }

    /// Chooses the node of a new sector, the one with the fewest sectors in work of those that take one, and books a
    /// task there.
    pub(super) fn take_node(
        &mut self,
        world: &World,
        now: Now,
        group_id: &Id,
        group: &SealingGroup,
        kind: TaskKind,
        takes: impl Fn(&str) -> bool,
    ) -> Result<Place, NoPlace> {
        let pods = live_pods(world, group_id, group).filter(|(_, _, lane)| allows(lane, kind));
        let pods = pods.filter(|(_, pod, _)| {
            wanted_node(pod).is_some_and(|node| takes(node) && self.closing.get(node).is_none())
        });
        let candidates = pods.filter(|(_, pod, _)| is_ready(pod) || is_starting(pod, now));
        let fewest = candidates.min_by_key(|(_, pod, _)| {
            let node = wanted_node(pod).unwrap_or_default();
            (self.sectors.get(node).copied().unwrap_or(0), !is_ready(pod))
        });
        let Some((id, pod, _)) = fewest else {
            return Err(NoPlace::NoPod);
        };
        if !is_ready(pod) {
            return Err(NoPlace::Starting(id.name.clone()));
        }
        let place = self.take(world, group_id, group, kind, wanted_node(pod))?;
        *self.sectors.entry(place.node.clone()).or_default() += 1;
        Ok(place)
    }

    /// Nodes that shall be empty.
    pub(super) fn closing(&self) -> &Closing {
        &self.closing
    }

    /// Whether a pod has no task.
    pub(super) fn is_idle(&self, uid: &str) -> bool {
        !self.used.contains(uid)
    }

    fn book(&mut self, uid: &str, kind: TaskKind) {
        self.used.insert(uid.to_owned());
        if computes(kind) {
            *self.tasks.entry(uid.to_owned()).or_default() += 1;
        }
    }

    /// Books a place for a task of `kind`; on `node` when the sector is bound already.
    pub(super) fn take(
        &mut self,
        world: &World,
        group_id: &Id,
        group: &SealingGroup,
        kind: TaskKind,
        node: Option<&str>,
    ) -> Result<Place, NoPlace> {
        let mut found = Err(NoPlace::NoPod);
        let mut least = u32::MAX;
        for (place, lane) in places(world, group_id, group) {
            if node.is_some_and(|n| n != place.node) || !allows(lane, kind) {
                continue;
            }
            let tasks = self.tasks.get(&place.uid).copied().unwrap_or(0);
            if tasks >= lane.concurrency.0 && computes(kind) {
                found = found.or(Err(NoPlace::Busy));
            } else if tasks < least {
                least = tasks;
                found = Ok(place);
            }
        }
        if let Ok(place) = &found {
            self.book(&place.uid, kind);
        }
        found
    }
}

/// Whether a task needs the lane's CPUs. The others move files: a sector that is on chain must be in its store
/// before its first deadline, and not wait behind an hour of hashing.
fn computes(kind: TaskKind) -> bool {
    match kind {
        TaskKind::AddPiece | TaskKind::Pc1 | TaskKind::Pc2 | TaskKind::C1 | TaskKind::C2 => true,
        TaskKind::Finalize | TaskKind::Land | TaskKind::Remove => false,
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

fn allows(lane: &Lane, kind: TaskKind) -> bool {
    let phase = match kind {
        TaskKind::AddPiece => LanePhase::AddPiece,
        TaskKind::Pc1 => LanePhase::Pc1,
        TaskKind::Pc2 => LanePhase::Pc2,
        TaskKind::C1 => LanePhase::C1,
        TaskKind::C2 => LanePhase::C2,
        TaskKind::Finalize | TaskKind::Land => LanePhase::Finalize,
        TaskKind::Remove => return true,
    };
    lane.phases.contains(&phase)
}

/// The node that holds a sector's work, unless it is through.
fn in_work_on(sector: &Sector) -> Option<&str> {
    let status = sector.status.as_ref()?;
    match status.phase {
        Some(SectorPhase::Proving | SectorPhase::Removing) => None,
        _ => Some(&status.binding.as_ref()?.node),
    }
}

/// The node of a pod, or the one that it was made for while the scheduler has not placed it.
pub(super) fn wanted_node(pod: &Pod) -> Option<&str> {
    let spec = pod.spec.as_ref()?;
    spec.node_name.as_deref().or_else(|| {
        let affinity = spec.affinity.as_ref()?.node_affinity.as_ref()?;
        let required = affinity
            .required_during_scheduling_ignored_during_execution
            .as_ref()?;
        let term = required.node_selector_terms.first()?;
        let field = term.match_fields.as_ref()?.first()?;
        field.values.as_ref()?.first().map(String::as_str)
    })
}

fn is_starting(pod: &Pod, now: Now) -> bool {
    let made = pod.metadata.creation_timestamp.as_ref().map(|t| t.0);
    made.is_some_and(|t| now.wall.duration_since(t) < STARTING)
}

fn live_pods<'a>(
    world: &'a World,
    group_id: &'a Id,
    group: &'a SealingGroup,
) -> impl Iterator<Item = (&'a Id, &'a Pod, &'a Lane)> {
    world
        .pods
        .in_namespace(&group_id.namespace)
        .filter_map(move |(id, pod)| {
            let ours = pod.labels().get(labels::GROUP) == Some(&group_id.name) && is_live(pod);
            let lane = pod.labels().get(labels::LANE)?;
            let lane = group.spec.lanes.iter().find(|l| &l.name == lane)?;
            ours.then_some((id, pod, lane))
        })
}

/// Ready pods of a group with their lanes.
pub(super) fn places<'a>(
    world: &'a World,
    group_id: &'a Id,
    group: &'a SealingGroup,
) -> impl Iterator<Item = (Place, &'a Lane)> {
    live_pods(world, group_id, group).filter_map(|(id, pod, lane)| {
        let place = Place {
            pod: id.name.clone(),
            uid: pod.uid()?,
            node: pod.spec.as_ref()?.node_name.clone()?,
        };
        is_ready(pod).then_some((place, lane))
    })
}

/// Whether a pod runs, is ready (its placement is verified where that is required) and is not leaving.
pub(super) fn is_ready(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none()
        && condition(pod, "Ready").is_some_and(|status| status == "True")
}

/// Whether a pod may still do something: it is neither gone, nor leaving, nor at its end.
pub(super) fn is_live(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    pod.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Failed" | "Succeeded"))
}

fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a str> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions
        .iter()
        .find(|c| c.type_ == kind)
        .map(|c| c.status.as_str())
}
