//! Tasks of sealer pods: bind them, read their reports, decide what an error means.

use filstar_crds::{
    Binding, Restart, SealerReport, SectorPhase, SectorStore, StoreAccess, StoreRef, Task,
    TaskClass, TaskKind, TaskResult, TaskState,
};

use super::super::bookings::NoPlace;
use super::super::pods::Standing;
use super::turn::{Turn, Wait};
use crate::world::{Id, pod, selects};

/// First pause after a temporary error; it doubles each time.
const FIRST_PAUSE_SECONDS: i64 = 10;
/// Longest pause.
const LONGEST_PAUSE_SECONDS: i64 = 600;
/// Temporary errors of one phase before a person must look.
const MAX_TEMPORARY: u32 = 10;
/// Steps back from one phase before a person must look.
const MAX_STEPS_BACK: u32 = 3;

/// How the current task stands.
enum Report {
    /// There is none, or it must be bound again.
    None,
    /// It runs, or a live pod has yet to begin with it.
    Running(String),
    Done(TaskResult),
    Error(TaskClass, String),
}

/// Allocated: choose the node by the pod with the fewest tasks, and begin.
pub(super) fn bind_to_node(turn: &mut Turn<'_>) -> Wait {
    if let Some(wait) = held_back(turn) {
        return wait;
    }
    if let Some(gate) = turn.ledger.holds(turn.id) {
        return Wait::new(gate.gate.closed(), gate.sentence());
    }
    // Room is kept for it on some node; it may take another one with room.
    let (group, miner) = (turn.group, turn.miner);
    let Some(kept) = turn.ledger.release(turn.id, group, miner) else {
        return Wait::new("GatesUnknown", "the gates of its group were not asked yet");
    };
    let (wait, node) = match bind(turn, TaskKind::AddPiece, SectorPhase::Packing) {
        Ok(wait) => (wait, turn.next.binding.as_ref().map(|b| b.node.clone())),
        Err(wait) => (wait, None),
    };
    turn.ledger
        .keep(turn.id, group, miner, node.unwrap_or(kept));
    wait
}

/// A phase that a sealer pod computes: bind its task, wait for it, go on to `then`.
pub(super) fn compute(turn: &mut Turn<'_>, kind: TaskKind, then: SectorPhase) -> Wait {
    match report(turn, kind) {
        Report::Running(detail) => Wait::new("Computing", detail),
        Report::Error(class, error) => failed(turn, class, &error),
        Report::Done(result) => done(turn, kind, &result, then),
        Report::None => held_back(turn).unwrap_or_else(|| {
            let phase = turn.phase();
            match bind(turn, kind, phase) {
                Ok(wait) | Err(wait) => wait,
            }
        }),
    }
}

/// Landing: choose a store, then compute the task; skipped for as long as the group does not finalize.
pub(super) fn land(turn: &mut Turn<'_>) -> Wait {
    if !turn.group.spec.finalize.enabled {
        return Wait::new(
            "FinalizeDisabled",
            "the sector waits in scratch, since finalize.enabled of its group is false",
        );
    }
    if turn.next.store.is_none() {
        match choose_store(turn) {
            Ok(name) => {
                turn.next.store = Some(StoreRef {
                    name,
                    landed: false,
                });
            }
            Err(wait) => return wait,
        }
    }
    compute(turn, TaskKind::Land, SectorPhase::Proving)
}

/// Failed: stays so until the spec is edited, then tries the failed phase again.
pub(super) fn retry_failed(turn: &mut Turn<'_>) -> Wait {
    let Some(failure) = turn.next.failure.clone() else {
        return Wait::new(
            "Failed",
            "the reason was lost; delete the Sector and make another",
        );
    };
    let seen = turn.next.observed_generation;
    if seen.is_some() && seen != turn.sector.metadata.generation && !turn.sector.spec.paused {
        turn.next.failure = None;
        turn.next.attempts = None;
        turn.enter(failure.phase);
        return Wait::new(
            "Retrying",
            "the spec changed: the failed phase is tried again",
        );
    }
    Wait::new(
        "Failed",
        format!(
            "{}: {}. To try again edit the spec (such as spec.restart), or delete the Sector",
            failure.phase.as_str(),
            failure.message.trim_end_matches('.')
        ),
    )
}

fn held_back(turn: &Turn<'_>) -> Option<Wait> {
    if turn.sector.spec.paused {
        return Some(Wait::new("Paused", "spec.paused is true"));
    }
    if turn.group.spec.paused {
        return Some(Wait::new("GroupPaused", "the group is paused"));
    }
    let attempts = turn.next.attempts.as_ref()?;
    let until = attempts.not_before.as_ref()?.0;
    (attempts.phase == turn.phase() && until > turn.now.wall).then(|| {
        Wait::new(
            "BackOff",
            format!(
                "tried {} times; next at {until:.0}. Last error: {}",
                attempts.failed,
                attempts.last_error.as_deref().unwrap_or("unknown")
            ),
        )
    })
}

fn report(turn: &Turn<'_>, kind: TaskKind) -> Report {
    let Some(task) = turn.next.task.as_ref().filter(|t| t.kind == kind) else {
        return Report::None;
    };
    let status = turn.sector.status.as_ref();
    let report = status
        .and_then(|s| s.sealer.as_ref())
        .filter(|r| r.task_id == task.id);
    match report.map(|r| (r.state, r)) {
        Some((TaskState::Succeeded, r)) => Report::Done(r.result.clone().unwrap_or_default()),
        Some((TaskState::Failed, r)) => Report::Error(
            r.error_class.unwrap_or(TaskClass::Temporary),
            r.error.clone().unwrap_or_else(|| "no reason given".into()),
        ),
        Some((TaskState::Running, _)) | None if !turn.bookings.has_pod(turn.id, task) => {
            Report::None
        }
        Some((TaskState::Running, _)) => Report::Running(running(task)),
        None => Report::Running(format!(
            "pod {} is about to begin {}",
            task.pod_name,
            kind.as_str()
        )),
    }
}

fn running(task: &Task) -> String {
    format!(
        "pod {} computes {}; the column Progress says how far it is",
        task.pod_name,
        task.kind.as_str()
    )
}

/// Binds a task to a pod and enters `phase` if that is a new one.
fn bind(turn: &mut Turn<'_>, kind: TaskKind, phase: SectorPhase) -> Result<Wait, Wait> {
    let node = turn.next.binding.as_ref().map(|b| b.node.clone());
    let (now, group_id, group) = (turn.now, turn.group_id, turn.group);
    let place = if let Some(node) = node.as_deref() {
        turn.bookings
            .take(now, group_id, group, kind, Some(node), turn.id)
    } else {
        let (ledger, miner) = (&*turn.ledger, turn.miner);
        let takes = |node: &str| ledger.takes(group_id, group, miner, node);
        turn.bookings
            .take_node(now, group_id, group, kind, turn.id, takes)
    };
    turn.bookings
        .wait(turn.id, group_id, node.as_deref(), place.is_err());
    let place = place.map_err(|no| no_place(no, kind, node.as_deref()))?;
    if turn.phase() != phase {
        turn.enter(phase);
    }
    turn.next.binding.get_or_insert_with(|| Binding {
        node: place.node.clone(),
        scratch: turn.group.spec.scratch.host_path.clone(),
    });
    turn.next.tasks += 1;
    let task = Task {
        id: format!("{}-{}", kind.as_str().to_lowercase(), turn.next.tasks),
        kind,
        pod_name: place.pod,
        pod_uid: place.uid,
        from_scratch: turn.sector.spec.restart == Restart::FromScratch,
    };
    let wait = Wait::new("Computing", running(&task));
    turn.next.task = Some(task);
    Ok(wait)
}

fn no_place(no: NoPlace, kind: TaskKind, node: Option<&str>) -> Wait {
    let place = node.map_or_else(String::new, |n| {
        format!(" on node {n}, where its files are")
    });
    match no {
        NoPlace::NoPod => Wait::new(
            "NoSealerPod",
            format!(
                "no ready pod of the group computes {}{place}; see the group's conditions",
                kind.as_str()
            ),
        ),
        NoPlace::Busy(pod, full) => Wait::new(
            "SealersBusy",
            format!(
                "no pod has room for {}{place}; pod {pod}: {full}",
                kind.as_str()
            ),
        ),
        NoPlace::Jitter(pod) => Wait::new(
            "StartJitter",
            format!("pod {pod} waits its part of the lane's startJitter"),
        ),
        NoPlace::Overdue(pod) => Wait::new(
            "SealerOverdue",
            format!("pod {pod} gets no new task while one there is over its time"),
        ),
        NoPlace::Closed(pod, Standing::Outdated) => Wait::new(
            "SealerOutdated",
            format!(
                "pod {pod} gets no new task: another is made in its place when its tasks are done"
            ),
        ),
        NoPlace::Closed(pod, Standing::LeftOver) => Wait::new(
            "SealerLeftOver",
            format!(
                "pod {pod} gets no new sector: its group has no place on its node any more; see unfitNodes of the group"
            ),
        ),
        NoPlace::Closed(pod, Standing::GpuFailed(why)) => Wait::new(
            "GpuFailed",
            format!(
                "pod {pod} gets no new task while {why}; when another GPU is free there, delete the pod to get it"
            ),
        ),
        NoPlace::NoWay(missing) => Wait::new(
            "CannotFinish",
            format!("no node can take the sector all its way; {missing}"),
        ),
        NoPlace::Starting(pod) => Wait::new("SealerStarting", format!("pod {pod} is starting")),
    }
}

/// Takes over a task's result.
fn done(turn: &mut Turn<'_>, kind: TaskKind, result: &TaskResult, then: SectorPhase) -> Wait {
    if let Some(missing) = missing(kind, result) {
        return failed(
            turn,
            TaskClass::Temporary,
            &format!("the sealer's result has no {missing}"),
        );
    }
    match kind {
        TaskKind::Pc1 => turn.next.comm_d.clone_from(&result.comm_d),
        TaskKind::Pc2 => {
            turn.next.comm_d.clone_from(&result.comm_d);
            turn.next.comm_r.clone_from(&result.comm_r);
        }
        TaskKind::C2 => turn.next.proof.clone_from(&result.proof),
        TaskKind::Land => {
            if let Some(store) = &mut turn.next.store {
                store.landed = true;
            }
        }
        TaskKind::AddPiece | TaskKind::C1 | TaskKind::Finalize | TaskKind::Remove => {}
    }
    if turn
        .next
        .attempts
        .as_ref()
        .is_some_and(|a| a.phase == turn.phase())
    {
        turn.next.attempts = None;
    }
    turn.enter(then);
    Wait::new(then.as_str(), format!("{} is done", kind.as_str()))
}

fn missing(kind: TaskKind, result: &TaskResult) -> Option<&'static str> {
    match kind {
        TaskKind::Pc1 if result.comm_d.is_none() => Some("commD"),
        TaskKind::Pc2 if result.comm_r.is_none() || result.comm_d.is_none() => Some("commR"),
        TaskKind::C2 if result.proof.is_none() => Some("proof"),
        TaskKind::Pc1
        | TaskKind::Pc2
        | TaskKind::C2
        | TaskKind::AddPiece
        | TaskKind::C1
        | TaskKind::Finalize
        | TaskKind::Land
        | TaskKind::Remove => None,
    }
}

/// What an error means for what happens next.
pub(super) fn failed(turn: &mut Turn<'_>, class: TaskClass, error: &str) -> Wait {
    let failed = turn
        .next
        .attempts
        .as_ref()
        .filter(|a| a.phase == turn.phase())
        .map_or(0, |a| a.failed);
    let doublings = failed.min(10);
    let pause = (FIRST_PAUSE_SECONDS << doublings).min(LONGEST_PAUSE_SECONDS);
    let failed = turn.count_failure(error, pause);
    match class {
        TaskClass::Temporary if failed <= MAX_TEMPORARY => {
            turn.next.task = None;
            Wait::new(
                "BackOff",
                format!("tried {failed} times; will try again. Last error: {error}"),
            )
        }
        TaskClass::Permanent | TaskClass::Corrupt if failed <= MAX_STEPS_BACK => {
            let back = one_back(turn.phase());
            turn.enter(back);
            Wait::new("SteppedBack", format!("back to {}: {error}", back.as_str()))
        }
        TaskClass::Temporary | TaskClass::Permanent | TaskClass::Corrupt => {
            turn.fail(class, format!("tried {failed} times; {error}"))
        }
        TaskClass::Fatal => turn.fail(class, error),
    }
}

/// The phase that makes what a phase needs. A sector on chain whose replica is damaged in scratch is sealed again, with the
/// same ticket to the same replica: PC2 says what is still good for it, and the chain is not asked for anything twice.
fn one_back(phase: SectorPhase) -> SectorPhase {
    match phase {
        SectorPhase::Allocated | SectorPhase::Packing | SectorPhase::Pc1 => SectorPhase::Packing,
        SectorPhase::Pc2 => SectorPhase::Pc1,
        SectorPhase::C1 | SectorPhase::Finalizing | SectorPhase::Landing => SectorPhase::Pc2,
        SectorPhase::C2 | SectorPhase::Committing => SectorPhase::C1,
        SectorPhase::PreCommitting
        | SectorPhase::WaitSeed
        | SectorPhase::Proving
        | SectorPhase::Removing
        | SectorPhase::Failed => phase,
    }
}

/// The least filled store that takes a sector now.
fn choose_store(turn: &Turn<'_>) -> Result<String, Wait> {
    let selector = &turn.group.spec.finalize.store_selector;
    let (mut reasons, mut far) = (Vec::new(), 0);
    let mut best: Option<(u32, &str)> = None;
    for (id, store) in turn.world.stores.in_namespace(&turn.id.namespace) {
        if !selects(selector, store) || store.spec.access == StoreAccess::ReadOnly {
            continue;
        }
        let used = store
            .status
            .as_ref()
            .and_then(|s| s.used_percent)
            .unwrap_or(0);
        let node = turn.next.binding.as_ref().map_or("", |b| b.node.as_str());
        let unseen = turn.ledger.reach.far(id, node, turn.miner_id);
        far += usize::from(unseen.is_some());
        let refused = unseen.map(|far| far.text.clone());
        match refused.or_else(|| refuses(turn, &id.name, store, used)) {
            Some(reason) => reasons.push(format!("{}: {reason}", id.name)),
            None if best.is_none_or(|(least, _)| used < least) => best = Some((used, &id.name)),
            None => {}
        }
    }
    best.map(|(_, name)| name.to_owned()).ok_or_else(|| {
        if reasons.is_empty() {
            Wait::new("NoStore", "no SectorStore that takes sectors matches the group's finalize.storeSelector; create one")
        } else if far == reasons.len() {
            let text = format!("nobody would prove the sector in a store of its node: {}", reasons.join("; "));
            Wait::new("StoreOutOfReach", format!("{text}; see the conditions of the stores"))
        } else {
            Wait::new("StoresBusy", reasons.join("; "))
        }
    })
}

fn refuses(turn: &Turn<'_>, name: &str, store: &SectorStore, used: u32) -> Option<String> {
    if used >= store.spec.max_used_percent {
        return Some(format!("full ({used} % used)"));
    }
    let landing = turn.bookings.landing(&Id::new(&turn.id.namespace, name));
    if landing >= store.spec.max_landings {
        return Some(format!(
            "{} sectors are landing already",
            store.spec.max_landings
        ));
    }
    let node = turn.next.binding.as_ref().map(|b| b.node.as_str());
    let volume = pod::store_volume(name);
    let mut pods = turn.bookings.ready(turn.group_id, node);
    let mounted = node.is_some()
        && pods.any(|id| {
            let pod = turn.world.pods.get(id);
            pod.is_some_and(|p| pod::has_volume(p, &volume))
        });
    (!mounted).then(|| "no ready pod on the sector's node mounts it".to_owned())
}

/// The report that a sealer wrote about the current task.
pub(super) fn report_of<'a>(
    sealer: Option<&'a SealerReport>,
    task: Option<&Task>,
) -> Option<&'a SealerReport> {
    let task = task?;
    sealer.filter(|r| r.task_id == task.id)
}
