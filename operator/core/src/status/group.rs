//! What to say about a `SealingGroup`.

use std::collections::BTreeMap;

use filstar_crds::{
    NodeFit, PledgeMode, PodStatus, SealingGroup, SealingGroupStatus, SectorPhase, conditions,
    labels,
};
use filstar_placement::{PodPlan, write_cpus};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::Say;
use crate::plan::fleet::Fleet;
use crate::plan::overdue;
use crate::plan::pledge::{self, Verdict};
use crate::plan::pods;
use crate::world::pod::{condition, refusal};
use crate::world::{Id, Now, World};

/// Pods that the status has room for.
const PODS: usize = 1000;
/// Nodes of which the status says what is left over.
const LEFT_OVER: usize = 200;
/// Nodes named in one message.
const NAMED: usize = 5;

/// The new status, or none when nothing changed.
pub(super) fn status(
    world: &World,
    now: Now,
    (fleet, ledger): (&Fleet, &pledge::Ledger),
    id: &Id,
    group: &SealingGroup,
) -> Option<SealingGroupStatus> {
    let old = group.status.clone().unwrap_or_default();
    let fits: Vec<_> = fleet.fits(id).collect();
    let unfit: Vec<NodeFit> = fits
        .iter()
        .filter_map(|f| {
            Some(NodeFit {
                node: f.node.clone(),
                reason: f.problem.clone()?,
            })
        })
        .collect();
    let left_over: Vec<NodeFit> = fits
        .iter()
        .filter(|f| f.problem.is_none() && !f.left_over.is_empty())
        .map(|f| NodeFit {
            node: f.node.clone(),
            reason: f.left_over.chars().take(500).collect(),
        })
        .take(LEFT_OVER)
        .collect();
    let pods = pod_statuses(world, fleet, id);
    let wanted = fleet
        .pods()
        .filter(|(_, p)| p.wanted && p.group == *id)
        .count();
    let is_ready = |p: &Pod| condition(p, "Ready").is_some_and(|c| c.status == "True");
    let all = world.pods.in_namespace(&id.namespace);
    let ready = all.filter(|(_, p)| belongs(p, id) && is_ready(p)).count();
    let mut next = SealingGroupStatus {
        observed_generation: group.metadata.generation,
        conditions: old.conditions.clone(),
        in_flight: pledge::in_flight(world, id),
        proving: count(world, id, SectorPhase::Proving),
        pods_ready: Some(format!("{ready}/{wanted}")),
        pods,
        sectors: by_phase(world, id),
        gates: Vec::new(),
        last_pledge: pledge::last(world, id, group),
        unfit_nodes: unfit,
        left_over,
        refusals: pods::refusals::count(world, now, fleet, id, &old.refusals),
    };
    let gates = pledge::gates(world, now, ledger, id, group);
    let before = |gate: &Verdict| old.gates.iter().find(|g| g.name == gate.gate.name());
    let told = gates.iter().map(|gate| gate.status(before(gate), now.wall));
    next.gates = told.collect();
    let mut conditions = std::mem::take(&mut next.conditions);
    let mut say = Say {
        conditions: &mut conditions,
        generation: group.metadata.generation,
        now,
    };
    let mut ours = fleet.pods().filter(|(_, p)| p.wanted && p.group == *id);
    let unmade = ours.find_map(|(pod, _)| world.unmade(pod));
    let nodes = fits.len();
    let counts = Counts {
        ready,
        wanted,
        nodes,
    };
    let why = unmade.map_or_else(|| unready(world, fleet, id, &next.pods), Why::Refused);
    say_ready(&mut say, world, (id, group), &next, counts, &why);
    say_pinned(&mut say, &next);
    say_pledge(&mut say, group, &gates, next.in_flight);
    say_on_time(&mut say, world, id, group);
    next.conditions = conditions;
    (next != old).then_some(next)
}

fn belongs(pod: &Pod, id: &Id) -> bool {
    pod.labels().get(labels::GROUP) == Some(&id.name) && pod.metadata.deletion_timestamp.is_none()
}

/// Where a pod is placed, and why there.
fn why(plan: &PodPlan) -> String {
    let mut words: Vec<String> = plan.why.iter().map(ToString::to_string).collect();
    if !plan.groups.is_empty() {
        words.insert(0, format!("core groups {}", write_cpus(&plan.groups)));
    }
    words.join("; ").chars().take(500).collect()
}

fn pod_statuses(world: &World, fleet: &Fleet, id: &Id) -> Vec<PodStatus> {
    let pods = world
        .pods
        .in_namespace(&id.namespace)
        .filter(|(_, pod)| belongs(pod, id));
    pods.map(|(pod_id, pod)| {
        let pinned = condition(pod, conditions::POD_PLACEMENT_VERIFIED);
        PodStatus {
            name: pod_id.name.clone(),
            lane: pod.labels().get(labels::LANE).cloned().unwrap_or_default(),
            node: pod
                .spec
                .as_ref()
                .and_then(|s| s.node_name.clone())
                .unwrap_or_default(),
            phase: phase(pod),
            pinned: pinned.map(|c| c.status == "True"),
            placement: pinned.and_then(|c| c.message.clone()),
            why: fleet.pod(pod_id).map(|p| why(&p.plan)),
        }
    })
    .take(PODS)
    .collect()
}

/// The pod's phase, with the reason that Kubernetes gives when it is not well.
fn phase(pod: &Pod) -> String {
    let status = pod.status.as_ref();
    let phase = status
        .and_then(|s| s.phase.clone())
        .unwrap_or_else(|| "Pending".into());
    match phase.as_str() {
        "Failed" => format!("Failed: {}", refusal(pod)),
        "Pending" | "Running" => match waiting(pod).or_else(|| unscheduled(pod)) {
            Some(why) => format!("{phase}: {why}"),
            None => phase,
        },
        _ => phase,
    }
}

fn waiting(pod: &Pod) -> Option<String> {
    let containers = pod.status.as_ref()?.container_statuses.as_ref()?;
    let waiting = containers
        .iter()
        .find_map(|c| c.state.as_ref()?.waiting.as_ref())?;
    let reason = waiting.reason.clone()?;
    (reason != "ContainerCreating").then_some(reason)
}

fn unscheduled(pod: &Pod) -> Option<String> {
    let scheduled = condition(pod, "PodScheduled")?;
    if scheduled.status == "True" {
        return None;
    }
    scheduled.message.clone()
}

fn sectors<'a>(world: &'a World, id: &'a Id) -> impl Iterator<Item = SectorPhase> + 'a {
    world
        .sectors
        .in_namespace(&id.namespace)
        .filter(|(_, s)| s.spec.group_ref.name == id.name)
        .map(|(_, s)| s.status.as_ref().and_then(|s| s.phase).unwrap_or_default())
}

fn count(world: &World, id: &Id, phase: SectorPhase) -> u32 {
    u32::try_from(sectors(world, id).filter(|p| *p == phase).count()).unwrap_or(u32::MAX)
}

fn by_phase(world: &World, id: &Id) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for phase in sectors(world, id) {
        *counts.entry(phase.as_str().to_owned()).or_insert(0) += 1;
    }
    counts
}

/// Pods and nodes of a group.
#[derive(Clone, Copy)]
struct Counts {
    ready: usize,
    wanted: usize,
    nodes: usize,
}

/// Why not all pods are ready, as far as it is known.
enum Why {
    /// The API server does not let one be made.
    Refused(String),
    /// One is not ready.
    Unready(String),
    /// All that are wanted are there and ready, or are to be made.
    Unknown,
}

/// The first pod that is not ready, with what there is to say of it: what Kubernetes says, else what the kernel says of its
/// place, else who knows more.
fn unready(world: &World, fleet: &Fleet, id: &Id, pods: &[PodStatus]) -> Why {
    let is_ready = |p: &PodStatus| {
        let pod = world.pods.get(&Id::new(&id.namespace, &p.name));
        let ready = pod.and_then(|pod| condition(pod, "Ready"));
        ready.is_some_and(|c| c.status == "True")
    };
    let ours = |p: &&PodStatus| fleet.pod(&Id::new(&id.namespace, &p.name)).is_some();
    let mut all: Vec<&PodStatus> = pods.iter().filter(ours).filter(|p| !is_ready(p)).collect();
    all.sort_by_key(|p| p.phase == "Running" || p.phase == "Pending");
    let Some(pod) = all.first() else {
        return Why::Unknown;
    };
    let text = match (pod.phase.as_str(), pod.pinned, &pod.placement) {
        ("Running", Some(false), Some(placement)) => format!("{} has {placement}", pod.name),
        ("Running" | "Pending", ..) => format!(
            "{} is {}: kubectl -n {} describe pod {0} says why",
            pod.name, pod.phase, id.namespace
        ),
        _ => format!("{} is {}", pod.name, pod.phase),
    };
    Why::Unready(text)
}

/// Why no pod of the group can be anywhere; none when one can.
fn nowhere(
    group: &SealingGroup,
    next: &SealingGroupStatus,
    counts: Counts,
) -> Option<(&'static str, String)> {
    if counts.nodes == 0 {
        let text = if group.spec.node_selector.is_empty() {
            "the cluster has no nodes"
        } else {
            "no node has the labels of spec.nodeSelector; label a node or change the selector"
        };
        return Some(("NoNodes", text.to_owned()));
    }
    if counts.wanted > 0 {
        return None;
    }
    let named = next.unfit_nodes.iter().take(NAMED);
    let named: Vec<String> = named.map(|n| format!("{}: {}", n.node, n.reason)).collect();
    let rest = match next.unfit_nodes.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    Some(("NoNodeFits", format!("{}{rest}", named.join("; "))))
}

fn say_ready(
    say: &mut Say<'_>,
    world: &World,
    (id, group): (&Id, &SealingGroup),
    next: &SealingGroupStatus,
    counts: Counts,
    why: &Why,
) {
    let Counts { ready, wanted, .. } = counts;
    let miner = &group.spec.miner_ref.name;
    let pods = format!("{ready} of {wanted} sealer pods are ready");
    let (ok, stalled, reason, text) = if let Some((reason, text)) = nowhere(group, next, counts) {
        (false, true, reason, text)
    } else if world.miner_of(&id.namespace, miner).is_none() {
        let text = format!("there is no Miner {miner} in this namespace: create it");
        (false, true, "NoMiner", text)
    } else if group.spec.paused {
        let text = "spec.paused is true: nothing new is started";
        (false, false, "Paused", text.to_owned())
    } else if ready < wanted {
        let (reason, why) = match why {
            Why::Refused(why) => ("PodRefused", format!("; {why}")),
            Why::Unready(why) => ("PodsNotReady", format!("; {why}")),
            Why::Unknown => ("PodsNotReady", String::new()),
        };
        (false, false, reason, format!("{pods}{why}"))
    } else {
        (true, false, "Ready", pods)
    };
    say.set(conditions::READY, ok, reason, &text);
    say.set(conditions::RECONCILING, !ok && !stalled, reason, &text);
    say.set(conditions::STALLED, stalled, reason, &text);
}

fn say_pinned(say: &mut Say<'_>, next: &SealingGroupStatus) {
    let loose = next.pods.iter().find(|p| p.pinned == Some(false));
    let unknown = next.pods.iter().find(|p| p.pinned.is_none());
    let kind = conditions::PLACEMENT_VERIFIED;
    if next.pods.is_empty() {
        say.set(kind, false, "NoPods", "there is no sealer pod yet");
    } else if let Some(pod) = loose {
        let text = format!(
            "pod {}: {}; its node needs kubelet's static CPU manager",
            pod.name,
            pod.placement
                .as_deref()
                .unwrap_or("not the CPUs that it was promised")
        );
        say.set(kind, false, "CpusetMismatch", &text);
    } else if let Some(pod) = unknown {
        say.set(
            kind,
            false,
            "Unknown",
            &format!("pod {} has not said yet", pod.name),
        );
    } else {
        say.set(
            kind,
            true,
            "Verified",
            "every sealer pod has the CPUs that it was promised, by the kernel's word",
        );
    }
}

/// Nothing as long as no lane has a bound.
fn say_on_time(say: &mut Say<'_>, world: &World, id: &Id, group: &SealingGroup) {
    let kind = conditions::TASKS_ON_TIME;
    let known = say.conditions.iter().any(|c| c.type_ == kind);
    if !known && group.spec.lanes.iter().all(|l| l.task_timeouts.is_empty()) {
        return;
    }
    let mut late = overdue::of_group(world, id);
    let named: Vec<String> = late
        .by_ref()
        .take(NAMED)
        .map(|(sector, why)| format!("{}: {}", sector.name, why.message))
        .collect();
    let more = match late.count() {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    if named.is_empty() {
        say.set(kind, true, "OnTime", "no task is over its time");
    } else {
        let text = format!("{}{more}", named.join("; "));
        say.set(kind, false, "TaskOverdue", &text);
    }
}

fn say_pledge(say: &mut Say<'_>, group: &SealingGroup, gates: &[Verdict], in_flight: u32) {
    let kind = conditions::PLEDGE_OPEN;
    let closed: Vec<&Verdict> = gates.iter().filter(|gate| !gate.open).collect();
    let sentences: Vec<String> = closed.iter().map(|gate| gate.sentence()).collect();
    let sentences = sentences.join(". ");
    if group.spec.pledge.mode == PledgeMode::Manual {
        let text = "pledge.mode is Manual: create Sectors, or set it to Auto";
        let text = if closed.is_empty() {
            text.to_owned()
        } else {
            format!("{text}. Sectors that are created wait: {sentences}")
        };
        say.set(kind, false, "Manual", &text);
        return;
    }
    match closed.first() {
        Some(gate) => say.set(kind, false, gate.gate.name(), &sentences),
        None if in_flight >= group.spec.pledge.max_in_flight => {
            let text = format!("{in_flight} sectors are in work, as many as pledge.maxInFlight");
            say.set(kind, true, "Full", &text);
        }
        None => say.set(kind, true, "Open", "all gates are open"),
    }
}
