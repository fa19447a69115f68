//! Tells people what happened, as Kubernetes events. Best effort: nothing waits for an event, and none is missed
//! by a decision.

use filstar_crds::{
    MessageState, SealingNodeStatus, Sector, SectorPhase, SectorStatus, conditions,
};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder as Publisher, Reporter};
use kube::{Resource, ResourceExt};
use tokio::sync::mpsc;

use crate::action::{Action, NodeChange, StatusPatch};
use crate::plan::fleet::Fleet;
use crate::plan::{names, overdue};
use crate::world::{Id, World};

/// Events that wait to be published; more are dropped.
const BACKLOG: usize = 64;

/// Something to tell about an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    about: ObjectReference,
    warning: bool,
    action: &'static str,
    reason: String,
    text: String,
}

/// Publishes notes in the background.
#[derive(Clone, Debug)]
pub struct Recorder(mpsc::Sender<Note>);

impl Recorder {
    /// Starts the task that publishes.
    pub fn start(client: Client, instance: Option<String>) -> Self {
        let (sender, mut notes) = mpsc::channel::<Note>(BACKLOG);
        let publisher = Publisher::new(
            client,
            Reporter {
                controller: "filstar-operator".into(),
                instance,
            },
        );
        tokio::spawn(async move {
            while let Some(note) = notes.recv().await {
                let event = Event {
                    type_: if note.warning {
                        EventType::Warning
                    } else {
                        EventType::Normal
                    },
                    reason: note.reason,
                    note: Some(note.text.chars().take(1000).collect()),
                    action: note.action.into(),
                    secondary: None,
                };
                if let Err(error) = publisher.publish(&event, &note.about).await {
                    tracing::debug!(%error, "an event was not published");
                }
            }
        });
        Self(sender)
    }

    /// Publishes a note some time, or drops it when too many wait.
    pub fn tell(&self, note: Note) {
        if self.0.try_send(note).is_err() {
            tracing::debug!("too many events wait: one is dropped");
        }
    }
}

/// What there is to tell once an action is done; compared with the world before it.
pub fn note(world: &World, action: &Action) -> Option<Note> {
    match action {
        Action::PatchSector { id, status, .. }
        | Action::DrawTicket { id, status, .. }
        | Action::DrawSeed { id, status, .. } => {
            let sector = world.sectors.get(id)?;
            let before = sector.status.as_ref().and_then(|s| s.phase);
            let Some(phase) = status.phase.filter(|phase| Some(*phase) != before) else {
                return overdue_note(sector, status);
            };
            let failed = phase == SectorPhase::Failed;
            let failure = status.failure.as_ref().filter(|_| failed);
            let text = failure.map_or_else(
                || format!("the sector is in phase {}", phase.as_str()),
                |f| format!("failed in phase {}: {}", f.phase.as_str(), f.message),
            );
            let reason = if failed { "Failed" } else { phase.as_str() };
            Some(about(sector, failed, "Seal", reason, text))
        }
        Action::PatchMessage { id, status, .. } => {
            let message = world.messages.get(id)?;
            let before = message.status.as_ref().and_then(|s| s.state);
            let state = status.state.filter(|state| Some(*state) != before)?;
            let (failed, reason) = match state {
                MessageState::Landed => (false, "Landed"),
                MessageState::Final => (false, "Final"),
                MessageState::Failed => (true, "Failed"),
                // Back from a tipset that was undone.
                MessageState::Pushed => (false, "Pushed"),
                MessageState::Wish | MessageState::Signed => return None,
            };
            let ready = status.conditions.iter().find(|c| c.type_ == "Ready");
            let text = ready.map_or_else(|| reason.to_owned(), |c| c.message.clone());
            Some(about(message, failed, "Send", reason, text))
        }
        Action::DeletePod { id, reason, .. } => {
            let pod = world.pods.get(id)?;
            Some(about(pod, false, "Replace", "Deleted", reason.clone()))
        }
        Action::EvictPod { .. } | Action::AbortSector { .. } | Action::PatchNode { .. } => {
            drain_step(world, action)
        }
        Action::PatchStatus { id, status } => match &**status {
            StatusPatch::Node(next) => drain_note(world, id, next),
            StatusPatch::Miner(_)
            | StatusPatch::Group(_)
            | StatusPatch::Policy(_)
            | StatusPatch::Store(_)
            | StatusPatch::Batch(_)
            | StatusPatch::Unreadable { .. } => None,
        },
        Action::CreateBudget { .. }
        | Action::DeleteBudget { .. }
        | Action::CreateSector { .. }
        | Action::AdoptSector { .. }
        | Action::ReleaseSector { .. }
        | Action::DeleteSector { .. }
        | Action::CreateMessage { .. }
        | Action::SignMessage { .. }
        | Action::PushMessage { .. }
        | Action::DeleteMessage { .. }
        | Action::EnsureAccess { .. }
        | Action::CreatePod { .. } => None,
    }
}

/// A pod that the API server does not let us make, told of its group or batch.
pub fn unmade(world: &World, fleet: &Fleet, pod: &Id) -> Option<Note> {
    let why = world.unmade(pod)?;
    let (action, reason) = ("Create", "PodRefused");
    if let Some(planned) = fleet.pod(pod) {
        let group = world.groups.get(&planned.group)?;
        return Some(about(group, true, action, reason, why));
    }
    let mut batches = world.batches.in_namespace(&pod.namespace);
    let (_, batch) = batches.find(|(id, _)| names::prover_pod(&id.name) == pod.name)?;
    Some(about(batch, true, action, reason, why))
}

/// A task that has just gone over its time.
fn overdue_note(sector: &Sector, next: &SectorStatus) -> Option<Note> {
    let before = sector.status.as_ref().map(|s| s.conditions.as_slice());
    if before.and_then(overdue::condition).is_some() {
        return None;
    }
    let late = overdue::condition(&next.conditions)?;
    let text = late.message.clone();
    Some(about(sector, true, "Seal", &late.reason, text))
}

/// One step of a drain.
fn drain_step(world: &World, action: &Action) -> Option<Note> {
    if let Action::EvictPod { id, node, .. } = action {
        let pod = world.pods.get(id)?;
        let text = format!("the pod leaves node {node}, which shall be empty");
        return Some(about(pod, false, "Drain", "Evicted", text));
    }
    if let Action::AbortSector { id, reason, .. } = action {
        let sector = world.sectors.get(id)?;
        return Some(about(sector, true, "Drain", "Deleted", reason.clone()));
    }
    let Action::PatchNode { id, change, .. } = action else {
        return None;
    };
    let node = world.nodes.get(id)?;
    let (warning, reason, text) = match change {
        NodeChange::Cordon => (
            false,
            "Cordoned",
            "cordoned for spec.maintenance of its SealingNode".to_owned(),
        ),
        NodeChange::CordonForTask { task } => (
            true,
            "Cordoned",
            format!(
                "cordoned to be emptied, since {task}; kubectl uncordon {} when it is mended",
                id.name
            ),
        ),
        NodeChange::Uncordon => (
            false,
            "Uncordoned",
            "the maintenance is over: our cordon is undone".to_owned(),
        ),
        NodeChange::MarkLifted | NodeChange::Unmark => return None,
    };
    Some(about(node, warning, "Drain", reason, text))
}

/// A drain that begins, is blocked by something else, ends or is undone.
fn drain_note(world: &World, id: &Id, next: &SealingNodeStatus) -> Option<Note> {
    let node = world.sealing_nodes.get(id)?;
    let before = node.status.as_ref().map(|s| s.conditions.as_slice());
    let find = |all: &[Condition], kind: &str| {
        let is = |c: &&Condition| c.type_ == kind && c.status == "True";
        all.iter().find(is).cloned()
    };
    let was = |kind: &str| before.and_then(|all| find(all, kind));
    let is = |kind: &str| find(&next.conditions, kind);
    let old_reason = was(conditions::DRAIN_BLOCKED).map(|c| c.reason);
    if let Some(blocked) = is(conditions::DRAIN_BLOCKED)
        && old_reason.as_ref() != Some(&blocked.reason)
    {
        let (reason, text) = (blocked.reason, blocked.message);
        return Some(about(node, true, "Drain", &reason, text));
    }
    for (kind, reason) in [
        (conditions::DRAINED, "Drained"),
        (conditions::DRAIN_IN_PROGRESS, "DrainBegins"),
    ] {
        if let (Some(now), None) = (is(kind), was(kind)) {
            return Some(about(node, false, "Drain", reason, now.message));
        }
    }
    None
}

fn about<K>(object: &K, warning: bool, action: &'static str, reason: &str, text: String) -> Note
where
    K: Resource<DynamicType = ()>,
{
    let id = Id::of(object);
    let about = ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        namespace: Some(id.namespace).filter(|n| !n.is_empty()),
        name: Some(id.name),
        uid: object.uid(),
        ..ObjectReference::default()
    };
    Note {
        about,
        warning,
        action,
        reason: reason.into(),
        text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn world(phase: &str) -> World {
        let sector: Sector = serde_json::from_value(json!({
            "apiVersion": "filstar.io/v1alpha1", "kind": "Sector",
            "metadata": {"name": "t01000-7", "namespace": "ns", "uid": "u"},
            "spec": {"minerRef": {"name": "m"}, "groupRef": {"name": "g"}, "number": 7,
                "sealProof": "StackedDrg2KiBV1P1"},
            "status": {"phase": phase},
        }))
        .unwrap();
        let mut world = World::default();
        world.sectors.apply(sector);
        world
    }

    fn patch(phase: SectorPhase) -> Action {
        Action::PatchSector {
            id: Id::new("ns", "t01000-7"),
            status: Box::new(SectorStatus {
                phase: Some(phase),
                ..SectorStatus::default()
            }),
            resource_version: "1".into(),
        }
    }

    #[test]
    fn a_task_that_goes_over_its_time_is_told_once() {
        let late = json!({"type": "TaskOverdue", "status": "True", "reason": "TaskOverdue", "message": "too long",
            "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let late: Condition = serde_json::from_value(late).unwrap();
        let mut action = patch(SectorPhase::Pc1);
        let Action::PatchSector { status, .. } = &mut action else {
            panic!("a patch of a sector")
        };
        status.conditions.push(late.clone());
        let told = note(&world("PC1"), &action).unwrap();
        assert_eq!((told.reason.as_str(), told.warning), ("TaskOverdue", true));
        let mut known = world("PC1");
        let id = Id::new("ns", "t01000-7");
        let mut sector = known.sectors.get(&id).unwrap().clone();
        sector.metadata.resource_version = Some("2".into());
        sector.status.as_mut().unwrap().conditions.push(late);
        known.sectors.apply(sector);
        assert_eq!(note(&known, &action), None);
    }

    #[test]
    fn a_new_phase_is_told_and_the_same_phase_is_not() {
        let told = note(&world("PC1"), &patch(SectorPhase::Pc2)).unwrap();
        assert_eq!((told.reason.as_str(), told.warning), ("PC2", false));
        assert_eq!(told.about.kind.as_deref(), Some("Sector"));
        assert_eq!(note(&world("PC2"), &patch(SectorPhase::Pc2)), None);
        assert!(
            note(&world("PC2"), &patch(SectorPhase::Failed))
                .unwrap()
                .warning
        );
    }
}
