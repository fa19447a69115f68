//! Tells people what happened, as Kubernetes events. Best effort: nothing waits for an event, and none is missed
//! by a decision.

use filstar_core::action::{Action, NodeChange, StatusPatch};
use filstar_core::plan::fleet::Fleet;
use filstar_core::plan::{names, overdue, sweep};
use filstar_core::world::{Id, World};
use filstar_crds::{
    MessageState, SealingNodeStatus, Sector, SectorPhase, SectorStatus, SectorStoreStatus,
    conditions,
};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder as Publisher, Reporter};
use kube::{Resource, ResourceExt};
use tokio::sync::mpsc;

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
        | Action::DrawSeed { id, status, .. } => sector_note(world.sectors.get(id)?, status),
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
        Action::DeletePod { id, reason, .. } | Action::ForgetPod { id, reason, .. } => {
            let pod = world.pods.get(id)?;
            Some(about(pod, false, "Replace", "Deleted", reason.clone()))
        }
        Action::EvictPod { .. } | Action::AbortSector { .. } | Action::PatchNode { .. } => {
            drain_step(world, action)
        }
        Action::PatchStatus { id, status } => status_note(world, id, status),
        Action::RemoveGarbage { id, status, .. } => {
            let sweep = status.sweep.as_ref()?;
            let text = format!("pod {} removes files of sectors that ended", sweep.pod_name);
            Some(about(
                world.stores.get(id)?,
                false,
                "Sweep",
                "Removing",
                text,
            ))
        }
        Action::DeleteSealingNode { id, .. } => {
            let node = world.sealing_nodes.get(id)?;
            let text = format!("Node {} left the cluster: its SealingNode goes", id.name);
            Some(about(node, false, "Forget", "Forgotten", text))
        }
        Action::CreateBudget { .. }
        | Action::DeleteBudget { .. }
        | Action::CreateSector { .. }
        | Action::AdoptSector { .. }
        | Action::ClearForgetNode { .. }
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

/// A status that says something else than before.
fn status_note(world: &World, id: &Id, status: &StatusPatch) -> Option<Note> {
    match status {
        StatusPatch::Node(next) => drain_note(world, id, next),
        StatusPatch::Miner(next) => {
            let miner = world.miners.get(id)?;
            let before = miner.status.as_ref().map(|s| &s.conditions);
            turn_note(miner, before, &next.conditions)
        }
        StatusPatch::Group(next) => {
            let group = world.groups.get(id)?;
            let before = group.status.as_ref().map(|s| &s.conditions);
            turn_note(group, before, &next.conditions)
        }
        StatusPatch::Policy(next) => {
            let policy = world.policies.get(id)?;
            let before = policy.status.as_ref().map(|s| &s.conditions);
            turn_note(policy, before, &next.conditions)
        }
        StatusPatch::Store { status: next, .. } => {
            let store = world.stores.get(id)?;
            let before = store.status.as_ref().map(|s| &s.conditions);
            garbage_note(world, id, next).or_else(|| turn_note(store, before, &next.conditions))
        }
        StatusPatch::Batch(next) => {
            let batch = world.batches.get(id)?;
            let before = batch.status.as_ref().map(|s| &s.conditions);
            turn_note(batch, before, &next.conditions)
        }
        StatusPatch::Unreadable { .. } => None,
    }
}

/// An object that missed a deadline, stopped being well, needs a person for another reason than before, or is well again.
/// What was never well and needs no person is only beginning.
fn turn_note<K>(object: &K, before: Option<&Vec<Condition>>, next: &[Condition]) -> Option<Note>
where
    K: Resource<DynamicType = ()>,
{
    let find = |all: &[Condition], kind: &str| all.iter().find(|c| c.type_ == kind).cloned();
    let was = |kind: &str| before.and_then(|all| find(all, kind));
    let is = |condition: &Option<Condition>, status: &str| {
        condition.as_ref().is_some_and(|c| c.status == status)
    };
    let tell =
        |c: Condition, warning: bool| Some(about(object, warning, "Watch", &c.reason, c.message));
    let on_time = find(next, conditions::ON_TIME);
    if is(&on_time, "False") && !is(&was(conditions::ON_TIME), "False") {
        return tell(on_time?, true);
    }
    let (old, ready) = (was("Ready"), find(next, "Ready")?);
    let same = old.as_ref().is_some_and(|c| c.reason == ready.reason);
    if ready.status == "True" {
        return tell(ready, false).filter(|_| !is(&old, "True"));
    }
    let stalled = is(&find(next, "Stalled"), "True");
    let news = is(&old, "True") || (stalled && !same);
    tell(ready, true).filter(|_| news)
}

/// A sector that enters a phase, whose node is gone, or whose task is over its time.
fn sector_note(sector: &Sector, next: &SectorStatus) -> Option<Note> {
    let before = sector.status.as_ref().and_then(|s| s.phase);
    let Some(phase) = next.phase.filter(|phase| Some(*phase) != before) else {
        return gone_note(sector, next).or_else(|| overdue_note(sector, next));
    };
    if phase == SectorPhase::Allocated && before.is_some() {
        let ready = next.conditions.iter().find(|c| c.type_ == "Ready")?;
        let (reason, text) = (ready.reason.as_str(), ready.message.clone());
        return Some(about(sector, true, "Seal", reason, text));
    }
    let failed = phase == SectorPhase::Failed;
    let failure = next.failure.as_ref().filter(|_| failed);
    let text = failure.map_or_else(
        || format!("the sector is in phase {}", phase.as_str()),
        |f| format!("failed in phase {}: {}", f.phase.as_str(), f.message),
    );
    let reason = if failed { "Failed" } else { phase.as_str() };
    Some(about(sector, failed, "Seal", reason, text))
}

/// Garbage that is found or could not be removed, and what was removed.
fn garbage_note(world: &World, id: &Id, next: &SectorStoreStatus) -> Option<Note> {
    let store = world.stores.get(id)?;
    let before = store.status.as_ref();
    let removed = next.removed.as_ref();
    if let Some(now) = removed.filter(|now| before.and_then(|s| s.removed.as_ref()) != Some(*now)) {
        let was = before.and_then(|s| s.removed.as_ref());
        let sectors = now.sectors - was.map_or(0, |r| r.sectors);
        let bytes = now.bytes - was.map_or(0, |r| r.bytes);
        let size = sweep::human(bytes);
        let text = format!("files of {sectors} sectors that ended were removed: {size}");
        return Some(about(store, false, "Sweep", "Removed", text));
    }
    let find = |all: &[Condition]| {
        let is = |c: &&Condition| c.type_ == conditions::GARBAGE_FOUND && c.status == "True";
        all.iter().find(is).cloned()
    };
    let now = find(&next.conditions)?;
    let was = before.and_then(|s| find(&s.conditions));
    if was.is_some_and(|was| was.reason == now.reason) {
        return None;
    }
    let failed = now.reason == "RemovalFailed";
    let told = failed || now.reason == "WaitsForApproval";
    told.then(|| about(store, failed, "Sweep", &now.reason, now.message))
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

/// A node that has just left the cluster with a sector's files: what becomes of it.
fn gone_note(sector: &Sector, next: &SectorStatus) -> Option<Note> {
    let is = |all: &[Condition]| {
        let mut all = all.iter();
        all.any(|c| c.type_ == conditions::NODE_GONE && c.status == "True")
    };
    let before = sector.status.as_ref();
    if before.is_some_and(|s| is(&s.conditions)) || !is(&next.conditions) {
        return None;
    }
    // What follows from it, where something does; otherwise that it is so.
    let all = next.conditions.iter();
    let mut said = all.filter(|c| c.type_ == "Ready" || c.type_ == conditions::NODE_GONE);
    let text = said.find(|c| c.reason == "NodeGone")?.message.clone();
    Some(about(sector, true, "Seal", "NodeGone", text))
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
            gone: None,
        }
    }

    fn turned(
        before: &[(&str, &str, &str)],
        next: &[(&str, &str, &str)],
    ) -> Option<(String, bool)> {
        let all = |of: &[(&str, &str, &str)]| -> Vec<Condition> {
            let one = |(kind, status, reason): &(&str, &str, &str)| {
                let value = json!({"type": kind, "status": status, "reason": reason, "message": reason,
                    "lastTransitionTime": "2026-01-01T00:00:00Z"});
                serde_json::from_value(value).unwrap()
            };
            of.iter().map(one).collect()
        };
        let world = world("PC1");
        let (_, sector) = world.sectors.iter().next().unwrap();
        let note = turn_note(sector, Some(&all(before)), &all(next));
        note.map(|note| (note.reason, note.warning))
    }

    #[test]
    fn an_object_that_stops_being_well_and_is_well_again_is_told_once_each() {
        let well = [("Ready", "True", "Ready")];
        let down = [("Ready", "False", "ProverNotReady")];
        let warned = Some(("ProverNotReady".to_owned(), true));
        assert_eq!(turned(&well, &down), warned);
        assert_eq!(turned(&down, &down), None);
        assert_eq!(turned(&down, &well), Some(("Ready".to_owned(), false)));
        assert_eq!(turned(&well, &well), None);
        assert_eq!(turned(&[], &[("Ready", "False", "Starting")]), None);
    }

    #[test]
    fn what_needs_a_person_is_told_for_each_reason_and_a_missed_deadline_before_all() {
        let stalled = |reason| [("Ready", "False", reason), ("Stalled", "True", reason)];
        let told = |reason: &str| Some((reason.to_owned(), true));
        assert_eq!(turned(&[], &stalled("NoMiner")), told("NoMiner"));
        let other = turned(&stalled("NoMiner"), &stalled("NoNodes"));
        assert_eq!(other, told("NoNodes"));
        assert_eq!(turned(&stalled("NoNodes"), &stalled("NoNodes")), None);
        let (on_time, missed) = (("OnTime", "True", "OnTime"), ("OnTime", "False", "Missed"));
        let ready = ("Ready", "True", "Proving");
        assert_eq!(turned(&[on_time, ready], &[missed, ready]), told("Missed"));
        assert_eq!(turned(&[missed, ready], &[missed, ready]), None);
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

    #[test]
    fn a_node_that_is_gone_is_told_once_and_so_is_a_sector_that_begins_anew() {
        let condition = |kind: &str, status: &str, reason: &str| {
            let value = json!({"type": kind, "status": status, "reason": reason, "message": reason,
                "lastTransitionTime": "2026-01-01T00:00:00Z"});
            serde_json::from_value::<Condition>(value).unwrap()
        };
        let mut action = patch(SectorPhase::WaitSeed);
        let Action::PatchSector { status, .. } = &mut action else {
            panic!("a patch of a sector")
        };
        status.conditions = vec![
            condition("Ready", "False", "WaitSeed"),
            condition("NodeGone", "True", "NodeGone"),
        ];
        let gone = status.conditions.clone();
        let told = note(&world("WaitSeed"), &action).unwrap();
        assert_eq!((told.reason.as_str(), told.warning), ("NodeGone", true));
        let mut known = world("WaitSeed");
        let id = Id::new("ns", "t01000-7");
        let mut sector = known.sectors.get(&id).unwrap().clone();
        sector.metadata.resource_version = Some("2".into());
        sector.status.as_mut().unwrap().conditions = gone;
        known.sectors.apply(sector);
        assert_eq!(note(&known, &action), None);
        let mut anew = patch(SectorPhase::Allocated);
        if let Action::PatchSector { status, .. } = &mut anew {
            status.conditions = vec![condition("Ready", "False", "BegunAnew")];
        }
        let told = note(&known, &anew).unwrap();
        assert_eq!((told.reason.as_str(), told.warning), ("BegunAnew", true));
    }
}
