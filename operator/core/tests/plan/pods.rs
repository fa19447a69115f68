//! Pods beside one another: refused, replaced, left over, and on nodes that are not well.

use crate::places::{
    ALL, bound, counted, deletes, env, inventory, lanes, large_node, made, running,
};
use crate::support::*;
use filstar_core::action::{Action, StatusPatch};
use filstar_core::plan::pledge::Gate;
use filstar_core::plan::{names, plan};
use filstar_core::status::status;
use filstar_core::world::World;
use filstar_crds::*;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

/// Two lanes on node-a, each with a pod that runs.
fn two_lanes() -> World {
    let mut world = large_node();
    lanes(
        &mut world,
        json!([
            {"name": "a", "phases": ["AddPiece", "PC1", "PC2"], "cpus": 1, "memory": "8Gi"},
            {"name": "b", "phases": ["C1", "C2", "Finalize"], "cpus": 1, "memory": "8Gi"},
        ]),
        "Kubelet",
    );
    let pods = made(&world);
    assert_eq!(pods.len(), 2);
    for pod in pods {
        world.pods.apply(measured(running(pod)));
    }
    world
}

/// A pod that says how full its disks are, and what it was made from as before.
fn measured(pod: Pod) -> Pod {
    with_disks(pod, 9 << 20, 9 << 20)
}

/// Kubelet refuses a pod that was made there anew.
fn refuse(world: &mut World, pod: &Pod, version: u32) {
    let mut pod = pod.clone();
    pod.metadata.uid = Some(format!("refused-{version}"));
    pod.metadata.resource_version = Some(version.to_string());
    let status = json!({"phase": "Failed", "reason": "TopologyAffinityError"});
    pod.status = serde_json::from_value(status).unwrap();
    world.pods.apply(pod);
}

/// The pod of a lane.
fn pod_of(world: &World, lane: &str) -> Pod {
    let name = id(&names::sealer_pod("g", lane, "node-a", 0));
    world.pods.get(&name).unwrap().clone()
}

fn makes(world: &World, second: i64) -> bool {
    let actions = plan(world, at(second));
    actions
        .iter()
        .any(|a| matches!(a, Action::CreatePod { .. }))
}

#[test]
fn refusals_grow_beside_a_pod_that_is_ready_whichever_comes_first() {
    for lane in ["a", "b"] {
        let mut world = two_lanes();
        let pod = pod_of(&world, lane);
        let (mut now, mut version) = (0, 10);
        for (turn, pause) in [(1, 30), (2, 60), (3, 120)] {
            version += 1;
            refuse(&mut world, &pod, version);
            let counts = |world: &mut World, now| counted(world, now).map(|r| r.count);
            assert_eq!(counts(&mut world, now), Some(turn), "lane {lane}");
            for second in [0, 1, pause - 1] {
                assert_eq!(counts(&mut world, now + second), Some(turn), "counted once");
            }
            assert!(!deletes(&world, now + pause - 1));
            now += pause;
            assert!(deletes(&world, now), "lane {lane} is tried again");
            let refused = id(&names::sealer_pod("g", lane, "node-a", 0));
            let uid = format!("refused-{version}");
            world.pods.bury(&refused, Some(&uid));
            assert_eq!(counts(&mut world, now), Some(turn), "no pod is no success");
            assert!(makes(&world, now));
        }
        let mut well = pod;
        well.metadata.uid = Some("well".into());
        world.pods.apply(well);
        assert_eq!(counted(&mut world, now), None, "all are ready: it is over");
    }
}

#[test]
fn pods_that_are_refused_one_after_the_other_in_one_try_count_once() {
    let mut world = two_lanes();
    let [a, b] = ["a", "b"].map(|lane| pod_of(&world, lane));
    refuse(&mut world, &a, 11);
    assert_eq!(counted(&mut world, 0).unwrap().count, 1);
    refuse(&mut world, &b, 12);
    let refusal = counted(&mut world, 5).unwrap();
    assert_eq!((refusal.count, refusal.pods.len()), (1, 2));
    assert_eq!(refusal.next.0, at(30).wall, "the pause is not begun anew");
}

/// Nodes for which a plan makes pods.
fn made_on(world: &World, second: i64) -> Vec<String> {
    let actions = plan(world, at(second)).into_iter();
    let mut nodes: Vec<String> = actions
        .filter_map(|a| match a {
            Action::CreatePod { pod } => filstar_core::world::pod::node(&pod).map(str::to_owned),
            _ => None,
        })
        .collect();
    nodes.sort();
    nodes
}

#[test]
fn whatever_kubelet_refuses_a_pod_for_pauses_that_node_and_no_other() {
    for (reason, message) in [
        (
            "TopologyAffinityError",
            "Resources cannot be allocated with Topology locality",
        ),
        (
            "UnexpectedAdmissionError",
            "Allocate failed due to no healthy devices present",
        ),
        ("OutOfcpu", "Node didn't have enough resource: cpu"),
        ("OutOfmemory", "Node didn't have enough resource: memory"),
        (
            "NodeAffinity",
            "Pod was rejected: Predicate NodeAffinity failed",
        ),
        (
            "SMTAlignmentError",
            "not enough free physical CPUs available on the node",
        ),
    ] {
        let mut world = world();
        world.nodes.apply(node("node-b"));
        let mut pod = sealer_pod("node-a");
        pod.metadata.uid = Some("refused".into());
        pod.metadata.resource_version = Some("11".into());
        let status = json!({"phase": "Failed", "reason": reason, "message": message});
        pod.status = serde_json::from_value(status).unwrap();
        world.pods.apply(pod);
        let refusal = counted(&mut world, 0).unwrap();
        assert_eq!((refusal.node.as_str(), refusal.count), ("node-a", 1));
        assert_eq!(refusal.reason, format!("{reason}: {message}"));
        let name = id(&names::sealer_pod("g", "seal", "node-a", 0));
        world.pods.bury(&name, Some("refused"));
        assert_eq!(made_on(&world, 29), ["node-b"], "{reason}");
        assert_eq!(made_on(&world, 30), ["node-a", "node-b"], "{reason}");
    }
}

/// What kubelet and the sealer say of a pod that has not the CPUs that it was promised: the condition is a readiness gate.
fn unverified(mut pod: Pod) -> Pod {
    newer(&mut pod.metadata.resource_version);
    pod.status = serde_json::from_value(json!({"phase": "Running", "conditions": [
        {"type": "ContainersReady", "status": "True"},
        {"type": "Ready", "status": "False", "reason": "ReadinessGatesNotReady"},
        {"type": conditions::POD_PLACEMENT_VERIFIED, "status": "False", "reason": "CpusetMismatch",
         "message": "cpus 8 (0-7) of 1 asked, memory nodes 0"},
    ]}))
    .unwrap();
    pod
}

#[test]
fn a_pod_whose_placement_is_not_verified_gets_no_task_under_policy_required() {
    let mut world = two_lanes();
    world.sectors.apply(sector(SectorPhase::Pc2));
    assert_eq!(bound(&world, 0, TaskKind::Pc2).len(), 1);
    for lane in ["a", "b"] {
        let pod = unverified(pod_of(&world, lane));
        world.pods.apply(pod);
    }
    assert!(bound(&world, 0, TaskKind::Pc2).is_empty());
    world.sectors.apply(fresh_sector());
    assert!(bound(&world, 0, TaskKind::AddPiece).is_empty());
    let (status, _, text) = group_says(&world, conditions::PLACEMENT_VERIFIED).unwrap();
    assert_eq!(status, "False");
    assert!(text.contains("cpus 8 (0-7) of 1 asked"), "{text}");
}

#[test]
fn a_pod_waits_for_its_placement_only_under_policy_required() {
    for (policy, gates) in [("Required", 1), ("Preferred", 0)] {
        let mut world = large_node();
        let mut group = world.groups.get(&id("g")).unwrap().clone();
        newer(&mut group.metadata.resource_version);
        group.spec.placement = serde_json::from_value(json!({"policy": policy})).unwrap();
        world.groups.apply(group);
        let pod = made(&world).remove(0);
        let said = env(&pod, "FILSTAR_PLACEMENT_POLICY");
        assert_eq!(said.as_deref(), Some(policy));
        let gate = pod.spec.unwrap().readiness_gates.unwrap_or_default();
        assert_eq!(gate.len(), gates, "{policy}");
        assert!(
            gate.iter()
                .all(|g| g.condition_type == conditions::POD_PLACEMENT_VERIFIED)
        );
    }
}

#[test]
fn a_sector_never_gets_a_pod_of_another_group_on_its_node() {
    let mut world = two_lanes();
    let mut other = world.groups.get(&id("g")).unwrap().clone();
    other.metadata.name = Some("h".into());
    other.metadata.uid = Some("uid-h".into());
    world.groups.apply(other);
    let pods = made(&world);
    assert_eq!(pods.len(), 2);
    for pod in pods {
        assert_eq!(pod.metadata.labels.as_ref().unwrap()[labels::GROUP], "h");
        world.pods.apply(measured(running(pod)));
    }
    world.sectors.apply(sector(SectorPhase::Pc2));
    let own = names::sealer_pod("g", "a", "node-a", 0);
    assert_eq!(pc2_on(&world), Some(own));
    // Those of the other group are idle and on the same node.
    for lane in ["a", "b"] {
        let pod = pod_of(&world, lane);
        let name = id(pod.metadata.name.as_ref().unwrap());
        world.pods.bury(&name, pod.metadata.uid.as_deref());
    }
    assert_eq!(pc2_on(&world), None);
    world.sectors.apply(fresh_sector());
    assert!(bound(&world, 0, TaskKind::AddPiece).is_empty());
}

/// Another image: every pod is made from another template.
fn new_image(world: &mut World) {
    let mut group = world.groups.get(&id("g")).unwrap().clone();
    group.spec.image = Some("sealer:2".into());
    group.metadata.generation = Some(2);
    group.metadata.resource_version = Some("90".into());
    world.groups.apply(group);
}

fn waits(world: &World, second: i64) -> Option<(String, String)> {
    let actions = plan(world, at(second));
    actions.iter().find_map(|a| match a {
        Action::PatchSector { status, .. } => {
            let ready = status.conditions.iter().find(|c| c.type_ == "Ready")?;
            Some((ready.reason.clone(), ready.message.clone()))
        }
        _ => None,
    })
}

#[test]
fn a_pod_of_an_old_template_gets_nothing_that_computes_and_is_replaced_under_a_backlog() {
    let mut world = two_lanes();
    world.sectors.apply(sector(SectorPhase::Pc2));
    assert_eq!(bound(&world, 0, TaskKind::Pc2).len(), 1);
    new_image(&mut world);
    assert!(bound(&world, 0, TaskKind::Pc2).is_empty());
    assert_eq!(waits(&world, 0).unwrap().0, "SealerOutdated");
    assert!(deletes(&world, 0), "it is idle");
    // In the new pod the sector goes on.
    let old = id(&names::sealer_pod("g", "a", "node-a", 0));
    let uid = world.pods.get(&old).unwrap().metadata.uid.clone();
    world.pods.bury(&old, uid.as_deref());
    let new = made(&world).remove(0);
    let mut new = measured(running(new));
    new.metadata.uid = Some("new".into());
    world.pods.apply(new);
    assert_eq!(bound(&world, 1, TaskKind::Pc2).len(), 1);
}

#[test]
fn a_pod_of_an_old_template_still_lands_what_is_finished() {
    let mut world = two_lanes();
    world.sectors.apply(sector(SectorPhase::Landing));
    new_image(&mut world);
    assert_eq!(bound(&world, 0, TaskKind::Land).len(), 1);
}

#[test]
fn a_pod_whose_group_has_no_place_on_its_node_any_more_finishes_what_is_there_and_begins_nothing() {
    let mut world = two_lanes();
    let mut small = world.nodes.iter().next().unwrap().1.clone();
    small.status.as_mut().unwrap().allocatable =
        serde_json::from_value(json!({"cpu": "1", "memory": "8Gi"})).unwrap();
    small.metadata.resource_version = Some("3".into());
    world.nodes.apply(small);
    assert!(deletes(&world, 0), "nothing is there");
    for phase in [SectorPhase::Pc2, SectorPhase::WaitSeed] {
        let mut world = world.clone();
        world.sectors.apply(sector(phase));
        assert!(!deletes(&world, 0), "{phase:?}");
    }
    let mut bound_there = world.clone();
    bound_there.sectors.apply(sector(SectorPhase::Pc2));
    assert_eq!(bound(&bound_there, 0, TaskKind::Pc2).len(), 1);
    let mut fresh = sector(SectorPhase::Allocated);
    fresh.status.as_mut().unwrap().binding = None;
    world.sectors.apply(fresh);
    assert!(bound(&world, 0, TaskKind::AddPiece).is_empty());
}

/// What the agent of node-a says.
fn says(world: &mut World, kind: &str, inventory: &Value) {
    let version = world.sealing_nodes.version() + 1;
    let node = json!({
        "apiVersion": "filstar.io/v1alpha1", "kind": "SealingNode",
        "metadata": {"name": "node-a", "uid": "sn", "resourceVersion": version.to_string()},
        "spec": {},
        "status": {"inventory": inventory, "conditions": [{"type": kind, "status": "False", "reason": "ItFailed",
            "message": "it is broken", "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
    });
    world
        .sealing_nodes
        .apply(serde_json::from_value(node).unwrap());
}

#[test]
fn a_disk_that_fails_or_a_clock_that_is_off_closes_the_node_for_new_work_and_drains_nothing() {
    for kind in ["DisksHealthy", "ClockSynced"] {
        let mut world = world();
        let mut fresh = sector(SectorPhase::Allocated);
        fresh.status.as_mut().unwrap().binding = None;
        world.sectors.apply(fresh);
        assert_eq!(bound(&world, 0, TaskKind::AddPiece).len(), 1);
        let told = inventory("node-a").status.unwrap().inventory.unwrap();
        says(&mut world, kind, &serde_json::to_value(told).unwrap());
        assert!(bound(&world, 0, TaskKind::AddPiece).is_empty(), "{kind}");
        let gate = crate::gates::verdict(&world, Gate::NodeMaintenance);
        assert!(!gate.open, "{kind}");
        assert!(
            gate.reason
                .contains("node-a is unwell (ItFailed: it is broken)"),
            "{}",
            gate.reason
        );
        let fit = filstar_core::plan::pods::fit(&world, &id("g")).remove(0);
        assert!(fit.passing && fit.problem.unwrap().contains("it is broken"));
        // What is there goes on.
        let mut busy = world.clone();
        busy.sectors = filstar_core::world::Index::default();
        busy.sectors.apply(sector(SectorPhase::Pc2));
        assert_eq!(bound(&busy, 0, TaskKind::Pc2).len(), 1, "{kind}");
        let actions = plan(&busy, at(0));
        assert!(
            !actions.iter().any(|a| matches!(
                a,
                Action::EvictPod { .. } | Action::DeletePod { .. } | Action::CreatePod { .. }
            )),
            "{actions:#?}"
        );
        busy.pods = filstar_core::world::Index::default();
        assert!(made(&busy).is_empty(), "no pod is made on it: {kind}");
    }
}

fn gpu(uuid: &str, health: &str) -> Value {
    json!({"uuid": uuid, "model": "m", "memory": 24u64 << 30, "pci": "", "health": health, "why": "Xid 79"})
}

/// Two pods with a GPU each, which their sealers name or do not.
fn two_gpus(named: bool) -> World {
    let mut world = large_node();
    let mut node = world.nodes.iter().next().unwrap().1.clone();
    let allocatable = json!({"cpu": "8", "memory": "128Gi", "nvidia.com/gpu": "2"});
    node.status.as_mut().unwrap().allocatable = serde_json::from_value(allocatable).unwrap();
    node.metadata.resource_version = Some("3".into());
    world.nodes.apply(node);
    lanes(
        &mut world,
        json!([{"name": "seal", "phases": ALL, "cpus": 1, "memory": "8Gi", "gpus": 1, "pods": "Auto"}]),
        "Kubelet",
    );
    with_gpus(
        &mut world,
        &[gpu("GPU-0", "Healthy"), gpu("GPU-1", "Healthy")],
    );
    let pods = made(&world);
    assert_eq!(pods.len(), 2);
    for (n, pod) in pods.into_iter().enumerate() {
        let mut pod = measured(running(pod));
        if named {
            let condition = json!({"type": conditions::POD_PLACEMENT_VERIFIED, "status": "True",
                "message": format!("cpus 1 (1) of 1 asked, memory nodes 0, GPUs GPU-{n} on NUMA node 0")});
            let all = pod.status.as_mut().unwrap().conditions.as_mut().unwrap();
            all.push(serde_json::from_value(condition).unwrap());
        }
        world.pods.apply(pod);
    }
    world
}

fn with_gpus(world: &mut World, gpus: &[Value]) {
    let told = inventory("node-a").status.unwrap().inventory.unwrap();
    let mut told = serde_json::to_value(told).unwrap();
    told["gpus"] = json!(gpus);
    says(world, "GpusHealthy", &told);
}

/// The pod that a PC2 on node-a is bound to.
fn pc2_on(world: &World) -> Option<String> {
    let mut world = world.clone();
    world.sectors.apply(sector(SectorPhase::Pc2));
    plan(&world, at(0)).into_iter().find_map(|a| match a {
        Action::PatchSector { status, .. } => status.task.map(|t| t.pod_name),
        _ => None,
    })
}

#[test]
fn a_gpu_that_is_lost_closes_the_pod_that_has_it_and_no_other() {
    let name = |index| names::sealer_pod("g", "seal", "node-a", index);
    let mut world = two_gpus(true);
    with_gpus(&mut world, &[gpu("GPU-0", "Lost"), gpu("GPU-1", "Healthy")]);
    assert_eq!(pc2_on(&world), Some(name(1)));
    let mut other = two_gpus(true);
    with_gpus(
        &mut other,
        &[gpu("GPU-0", "Healthy"), gpu("GPU-1", "Unhealthy")],
    );
    assert_eq!(pc2_on(&other), Some(name(0)));
    let mut none = two_gpus(true);
    with_gpus(
        &mut none,
        &[gpu("GPU-0", "Throttled"), gpu("GPU-1", "Healthy")],
    );
    assert!(pc2_on(&none).is_some());
}

#[test]
fn a_gpu_that_is_lost_closes_all_pods_with_gpus_that_do_not_say_which_they_have() {
    let mut world = two_gpus(false);
    with_gpus(&mut world, &[gpu("GPU-0", "Lost"), gpu("GPU-1", "Healthy")]);
    assert_eq!(pc2_on(&world), None);
    world.sectors.apply(sector(SectorPhase::Pc2));
    let (reason, text) = waits(&world, 0).unwrap();
    assert_eq!(reason, "GpuFailed");
    assert!(text.contains("GPU GPU-0 is Lost: Xid 79"), "{text}");
}

#[test]
fn no_sector_begins_where_every_pod_of_a_step_has_a_gpu_that_fails_and_none_goes() {
    let mut world = two_gpus(true);
    let mut fresh = sector(SectorPhase::Allocated);
    fresh.status.as_mut().unwrap().binding = None;
    world.sectors.apply(fresh);
    assert_eq!(bound(&world, 0, TaskKind::AddPiece).len(), 1);
    with_gpus(&mut world, &[gpu("GPU-0", "Lost"), gpu("GPU-1", "Lost")]);
    assert!(bound(&world, 0, TaskKind::AddPiece).is_empty());
    assert!(!deletes(&world, 0), "they wait for their GPUs");
    // A device plugin that takes back what fails changes nothing.
    let mut node = world.nodes.iter().next().unwrap().1.clone();
    let allocatable = json!({"cpu": "8", "memory": "128Gi", "nvidia.com/gpu": "0"});
    node.status.as_mut().unwrap().allocatable = serde_json::from_value(allocatable).unwrap();
    node.metadata.resource_version = Some("4".into());
    world.nodes.apply(node);
    assert!(!deletes(&world, 0));
    with_gpus(
        &mut world,
        &[gpu("GPU-0", "Healthy"), gpu("GPU-1", "Healthy")],
    );
    let mut back = world.nodes.iter().next().unwrap().1.clone();
    let allocatable = json!({"cpu": "8", "memory": "128Gi", "nvidia.com/gpu": "2"});
    back.status.as_mut().unwrap().allocatable = serde_json::from_value(allocatable).unwrap();
    back.metadata.resource_version = Some("5".into());
    world.nodes.apply(back);
    assert_eq!(bound(&world, 0, TaskKind::AddPiece).len(), 1);
}

/// The condition of the group that a status asks for.
pub(crate) fn group_says(world: &World, kind: &str) -> Option<(String, String, String)> {
    status(world, at(0)).into_iter().find_map(|a| match a {
        Action::PatchStatus { status, .. } => match *status {
            StatusPatch::Group(status) => {
                let found = status.conditions.into_iter().find(|c| c.type_ == kind)?;
                Some((found.status, found.reason, found.message))
            }
            _ => None,
        },
        _ => None,
    })
}
