//! What a `SealingNode` says about being emptied: conditions, what is still there and why, and what would be lost.

use std::collections::BTreeMap;

use filstar_crds::{NodePod, NodeSector, SealingNodeStatus, TaskState, conditions};

use super::super::Say;
use crate::plan::drain::{View, Why, view};
use crate::world::{Id, Now, World};

/// Bounds of the kind.
const PODS: usize = 256;
const SECTORS: usize = 512;
const WHY: usize = 256;
const LOST: usize = 512;

/// Sets all that the status says about a drain.
pub(super) fn say(
    world: &World,
    now: Now,
    node: &str,
    work: &Work<'_>,
    next: &mut SealingNodeStatus,
) {
    let view = view(world, now, node);
    next.pods = view.as_ref().map(pods).unwrap_or_default();
    next.sectors = view.as_ref().map(sectors).unwrap_or_default();
    next.work_lost = work.lost(node);
    // After a restart nobody has tried to evict yet: what the last try said still holds.
    let unsure = view
        .as_ref()
        .is_some_and(|v| v.blocked.is_none() && v.is_evicting());
    let mut say = Say {
        conditions: &mut next.conditions,
        generation: next.observed_generation,
        now,
    };
    match view {
        None => {
            for kind in [
                conditions::QUIESCING,
                conditions::DRAIN_IN_PROGRESS,
                conditions::DRAIN_BLOCKED,
                conditions::DRAINED,
            ] {
                say.set(kind, false, "NotRequested", "the node takes work");
            }
        }
        Some(view) => say_view(&mut say, node, &view, unsure),
    }
}

fn say_view(say: &mut Say<'_>, node: &str, view: &View, unsure: bool) {
    let reason = match view.request.why {
        Why::Maintenance(_) => "Maintenance",
        Why::Cordoned => "Cordoned",
        Why::NodeMaintenance => "NodeMaintenance",
        Why::TaskOverdue(_) => "TaskOverdue",
    };
    let why = view.request.why.of(node);
    let needing = view.sectors.iter().filter(|s| s.claim.needs_pods()).count();
    let waiting = view.sectors.len() - needing;
    let pods = view.pods.len();
    let kept = if waiting == 0 {
        String::new()
    } else {
        format!("; {} not on chain on its scratch", count(waiting, "sector"))
    };
    let quiet = if needing == 0 {
        format!("{why}; no sector needs it")
    } else {
        format!(
            "{why}; nothing new begins; still at work: {}",
            count(needing, "sector")
        )
    };
    say.set(conditions::QUIESCING, needing > 0, reason, &quiet);
    let drained = view.is_drained();
    let left = format!(
        "{why}; still here: {} at work, {}{kept}",
        count(needing, "sector"),
        count(pods, "pod")
    );
    let empty = format!("{why}; it is empty of our work{kept}. Undo the request to use it again");
    let (progress, done) = if drained {
        (&empty, &empty)
    } else {
        (&left, &left)
    };
    say.set(conditions::DRAIN_IN_PROGRESS, !drained, reason, progress);
    say.set(conditions::DRAINED, drained, reason, done);
    match &view.blocked {
        Some(blocked) => say.set(
            conditions::DRAIN_BLOCKED,
            true,
            blocked.reason,
            &blocked.message,
        ),
        None if unsure => {}
        None => say.set(
            conditions::DRAIN_BLOCKED,
            false,
            "NotBlocked",
            "nothing stands in the way",
        ),
    }
    if !say
        .conditions
        .iter()
        .any(|c| c.type_ == conditions::DRAIN_BLOCKED)
    {
        let text = "nothing stands in the way";
        say.set(conditions::DRAIN_BLOCKED, false, "NotBlocked", text);
    }
}

fn pods(view: &View) -> Vec<NodePod> {
    let one = |(id, why): &(Id, String)| NodePod {
        namespace: id.namespace.clone(),
        name: id.name.clone(),
        why: cut(why, WHY),
    };
    view.pods.iter().take(PODS).map(one).collect()
}

fn sectors(view: &View) -> Vec<NodeSector> {
    let all = view.sectors.iter().take(SECTORS);
    all.map(|held| NodeSector {
        namespace: held.id.namespace.clone(),
        name: held.id.name.clone(),
        phase: held.phase.as_str().into(),
        why: cut(&held.why, WHY),
    })
    .collect()
}

/// Computations by node that would have to begin again, or go back to their last saved piece, if it stopped.
#[derive(Debug)]
pub(in crate::status) struct Work<'w>(BTreeMap<&'w str, Vec<String>>);

impl<'w> Work<'w> {
    /// All that runs.
    pub(in crate::status) fn of(world: &'w World) -> Self {
        let mut work: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (id, sector) in world.sectors.iter() {
            let Some(status) = sector.status.as_ref() else {
                continue;
            };
            let (Some(binding), Some(task), Some(report)) =
                (&status.binding, &status.task, &status.sealer)
            else {
                continue;
            };
            if report.task_id != task.id || report.state != TaskState::Running {
                continue;
            }
            let begun = report
                .started
                .as_ref()
                .map_or_else(String::new, |t| format!(", begun {:.0}", t.0));
            let text = format!("{} of {id}{begun}", task.kind.as_str());
            work.entry(&binding.node).or_default().push(text);
        }
        Self(work)
    }

    fn lost(&self, node: &str) -> Option<String> {
        self.0.get(node).map(|all| cut(&all.join("; "), LOST))
    }
}

fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let head: String = text.chars().take(most - 1).collect();
    format!("{head}…")
}
