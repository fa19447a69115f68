//! Where pods go, which tasks they get, and what happens when kubelet says no.

use std::collections::BTreeSet;

use crate::support::*;
use filstar_core::action::{Action, StatusPatch};
use filstar_core::plan::{Planner, names, plan, pods};
use filstar_core::status::status;
use filstar_core::world::{Id, World};
use filstar_crds::*;
use filstar_placement::POOL_BYTES;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

/// A node of four core groups of two cores, on two NUMA nodes.
pub(crate) fn inventory(name: &str) -> SealingNode {
    let group = |id: u32| json!({"id": id, "package": 0, "numaNode": id / 2, "cores": [[2 * id], [2 * id + 1]], "l3": 1});
    let numa = |id: u32| json!({"id": id, "cpus": "", "memory": 64u64 << 30, "hugepages": []});
    let groups: Vec<Value> = (0..4).map(group).collect();
    let mut node = SealingNode::default();
    node.metadata.name = Some(name.into());
    node.metadata.uid = Some(name.into());
    node.metadata.resource_version = Some("1".into());
    let inventory = json!({"bootId": "b", "kernel": "k", "packages": 1, "coreGroups": groups, "numaNodes": [numa(0), numa(1)]});
    node.status = Some(serde_json::from_value(json!({"inventory": inventory})).unwrap());
    node
}

pub(crate) fn lanes(world: &mut World, lanes: Value, backend: &str) {
    let mut group = world.groups.get(&id("g")).unwrap().clone();
    newer(&mut group.metadata.resource_version);
    group.spec.lanes = serde_json::from_value(lanes).unwrap();
    group.spec.placement = serde_json::from_value(json!({"backend": backend})).unwrap();
    world.groups.apply(group);
}

pub(crate) const ALL: [&str; 6] = ["AddPiece", "PC1", "PC2", "C1", "C2", "Finalize"];

pub(crate) fn large_node() -> World {
    let mut world = world();
    world.pods = filstar_core::world::Index::default();
    let mut node = node("node-a");
    node.metadata.resource_version = Some("2".into());
    node.status.as_mut().unwrap().allocatable =
        serde_json::from_value(json!({"cpu": "8", "memory": "128Gi"})).unwrap();
    world.nodes.apply(node);
    world
}

pub(crate) fn made(world: &World) -> Vec<Pod> {
    let actions = plan(world, at(0));
    let pods = actions.into_iter().filter_map(|a| match a {
        Action::CreatePod { pod } => Some(*pod),
        _ => None,
    });
    pods.collect()
}

pub(crate) fn env(pod: &Pod, name: &str) -> Option<String> {
    let env = pod.spec.as_ref()?.containers[0].env.as_ref()?;
    env.iter().find(|e| e.name == name)?.value.clone()
}

pub(crate) fn running(mut pod: Pod) -> Pod {
    pod.metadata.uid = Some(format!("uid-{}", pod.metadata.name.as_ref().unwrap()));
    pod.metadata.resource_version = Some("1".into());
    pod.spec.as_mut().unwrap().node_name = Some("node-a".into());
    pod.status = serde_json::from_value(json!({
        "phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
    }))
    .unwrap();
    pod
}

fn problem(world: &World) -> String {
    pods::fit(world, &id("g"))[0]
        .problem
        .clone()
        .unwrap_or_default()
}

#[test]
fn core_groups_need_the_word_of_the_node_agent() {
    let mut world = large_node();
    lanes(
        &mut world,
        json!([{"name": "seal", "phases": ALL, "cpus": 2, "memory": "8Gi", "coreGroups": {}, "pods": "Auto"}]),
        "Kubelet",
    );
    assert!(made(&world).is_empty());
    assert!(
        problem(&world).contains("has not reported the core groups"),
        "{}",
        problem(&world)
    );
    world.sealing_nodes.apply(inventory("node-a"));
    let pods = made(&world);
    assert_eq!(pods.len(), 3, "one group is left to the system");
    let names: BTreeSet<String> = pods
        .iter()
        .map(|p| p.metadata.name.clone().unwrap())
        .collect();
    assert!(names.contains(&names::sealer_pod("g", "seal", "node-a", 2)));
    let limits = pods[0].spec.as_ref().unwrap().containers[0]
        .resources
        .as_ref()
        .unwrap()
        .limits
        .clone()
        .unwrap();
    assert_eq!(limits["cpu"].0, "2");
    assert!(
        env(&pods[0], "FILSTAR_CPUSET").is_none(),
        "kubelet chooses the CPUs"
    );
}

#[test]
fn pods_that_bind_themselves_get_cpus_that_nobody_else_has() {
    let mut world = large_node();
    world.sealing_nodes.apply(inventory("node-a"));
    lanes(
        &mut world,
        json!([{"name": "seal", "phases": ALL, "cpus": 2, "memory": "8Gi", "coreGroups": {}, "pods": "Auto"}]),
        "Agent",
    );
    let pods = made(&world);
    let sets: BTreeSet<String> = pods
        .iter()
        .filter_map(|p| env(p, "FILSTAR_CPUSET"))
        .collect();
    assert_eq!(
        sets,
        BTreeSet::from(["2-3".into(), "4-5".into(), "6-7".into()])
    );
    let limits = pods[0].spec.as_ref().unwrap().containers[0]
        .resources
        .as_ref()
        .unwrap()
        .limits
        .clone()
        .unwrap();
    assert!(
        !limits.contains_key("cpu"),
        "kubelet's static manager must leave it alone"
    );
    // What lives keeps its CPUs when the lanes change, and nobody else gets them.
    for pod in pods {
        world.pods.apply(running(pod));
    }
    lanes(
        &mut world,
        json!([
            {"name": "new", "phases": ["AddPiece"], "cpus": 2, "memory": "8Gi", "coreGroups": {}},
            {"name": "seal", "phases": ALL, "cpus": 2, "memory": "8Gi", "coreGroups": {}, "pods": 2},
        ]),
        "Agent",
    );
    let live: BTreeSet<String> = sets;
    for pod in made(&world) {
        let set = env(&pod, "FILSTAR_CPUSET").unwrap();
        assert!(!live.contains(&set), "{set} is held by a live pod");
    }
}

#[test]
fn a_younger_group_takes_nothing_from_an_older_one() {
    let mut world = world();
    let mut other = group();
    other.metadata.name = Some("a".into());
    other.metadata.uid = Some("uid-a".into());
    let time = |second: i64| k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(second).wall);
    other.metadata.creation_timestamp = Some(time(10));
    world.groups.apply(other);
    assert_eq!(pods::fit(&world, &id("g"))[0].problem, None);
    let younger = pods::fit(&world, &id("a"))[0].problem.clone();
    assert_eq!(
        younger.as_deref(),
        Some("lane seal needs 1 CPUs, 0 are free")
    );
}

#[test]
fn limits_change_without_a_new_pod() {
    let mut world = world();
    lanes(
        &mut world,
        json!([{"name": "seal", "phases": ALL, "cpus": 1, "memory": "4Gi"}]),
        "Kubelet",
    );
    world.pods = filstar_core::world::Index::default();
    let pod = made(&world).remove(0);
    assert!(env(&pod, POOL_BYTES).is_some());
    world.pods.apply(running(pod));
    lanes(
        &mut world,
        json!([{"name": "seal", "phases": ALL, "cpus": 1, "memory": "4Gi", "concurrency": 3,
                "concurrencyDuringPost": 1, "startJitter": "1m", "cpuShare": 0.5, "sectorsPerCore": "Auto"}]),
        "Kubelet",
    );
    assert!(
        !plan(&world, at(0))
            .iter()
            .any(|a| matches!(a, Action::DeletePod { .. } | Action::CreatePod { .. }))
    );
}

pub(crate) fn numbered(mut sector: Sector, number: i64) -> Sector {
    let name = format!("t01000-{number}");
    sector.metadata.uid = Some(format!("uid-{name}"));
    sector.metadata.name = Some(name);
    sector.spec.number = number;
    sector
}

/// Sectors that a plan binds a task of this kind to.
pub(crate) fn bound(world: &World, second: i64, kind: TaskKind) -> Vec<String> {
    let bound = plan(world, at(second)).into_iter().filter_map(|a| match a {
        Action::PatchSector { id, status, .. } => {
            status.task.filter(|t| t.kind == kind).map(|_| id.name)
        }
        _ => None,
    });
    bound.collect()
}

fn seeded(phase: SectorPhase) -> Sector {
    let mut sector = sector(phase);
    sector.status.as_mut().unwrap().seed = Some(Randomness {
        epoch: 1005,
        value: "AA==".into(),
    });
    sector
}

pub(crate) fn contested(memory: &str, concurrency: u32) -> World {
    let mut world = world();
    lanes(
        &mut world,
        json!([{"name": "seal", "phases": ALL, "cpus": 1, "memory": memory, "concurrency": concurrency}]),
        "Kubelet",
    );
    world.sectors.apply(numbered(sector(SectorPhase::Pc2), 0));
    world.sectors.apply(numbered(seeded(SectorPhase::C2), 1));
    world.sectors.apply(numbered(seeded(SectorPhase::C2), 2));
    let chain = chain_mut(&mut world);
    for number in [1, 2] {
        chain
            .precommits
            .insert(number, Some(pre_commit(995, COMM_R)));
    }
    world
}

#[test]
fn c2_comes_before_pc2() {
    let world = contested("8Gi", 1);
    assert_eq!(bound(&world, 0, TaskKind::C2), ["t01000-1"]);
    assert!(bound(&world, 0, TaskKind::Pc2).is_empty());
}

#[test]
fn a_c2_that_lacks_memory_holds_up_no_pc2() {
    // One C2 of 2 KiB takes 2.7 GiB: two do not fit, a PC2 beside one does.
    let world = contested("4Gi", 3);
    assert_eq!(bound(&world, 0, TaskKind::C2), ["t01000-1"]);
    assert_eq!(bound(&world, 0, TaskKind::Pc2), ["t01000-0"]);
}

#[test]
fn a_sector_that_could_not_finish_is_not_begun() {
    let mut world = world();
    lanes(
        &mut world,
        json!([{"name": "seal", "phases": ALL, "cpus": 1, "memory": "2Gi"}]),
        "Kubelet",
    );
    let mut fresh = sector(SectorPhase::Allocated);
    fresh.status.as_mut().unwrap().binding = None;
    world.sectors.apply(fresh);
    let said = plan(&world, at(0)).into_iter().find_map(|a| match a {
        Action::PatchSector { status, .. } => status.conditions.first().cloned(),
        _ => None,
    });
    let said = said.unwrap();
    assert_eq!(said.reason, "CannotFinish");
    assert!(
        said.message
            .contains("one C2 needs 2.63 GiB, the pod has 2 GiB"),
        "{}",
        said.message
    );
}

#[test]
fn a_pod_that_is_just_ready_waits_its_part_of_the_jitter() {
    let mut world = world();
    lanes(
        &mut world,
        json!([{"name": "seal", "phases": ALL, "cpus": 1, "memory": "4Gi", "startJitter": "10m"}]),
        "Kubelet",
    );
    let mut pod = sealer_pod("node-a");
    pod.metadata.resource_version = Some("2".into());
    pod.status = serde_json::from_value(json!({"phase": "Running", "conditions": [
        {"type": "Ready", "status": "True", "lastTransitionTime": at(0).wall.to_string()},
    ]}))
    .unwrap();
    world.pods.apply(pod);
    world.sectors.apply(sector(SectorPhase::Pc2));
    assert!(bound(&world, 0, TaskKind::Pc2).is_empty());
    assert_eq!(
        bound(&world, 600, TaskKind::Pc2).len(),
        1,
        "ten minutes are the longest"
    );
}

#[test]
fn fewer_pc1_start_while_a_window_proof_is_due_on_the_node() {
    let mut world = world();
    lanes(
        &mut world,
        json!([{"name": "seal", "phases": ALL, "cpus": 1, "memory": "4Gi", "concurrency": 2, "concurrencyDuringPost": 0}]),
        "Kubelet",
    );
    world.sectors.apply(sector(SectorPhase::Pc1));
    assert_eq!(bound(&world, 0, TaskKind::Pc1).len(), 1);
    let mut prover = sealer_pod("node-a");
    prover.metadata.name = Some("prover-p".into());
    prover.metadata.uid = Some("uid-prover".into());
    prover.metadata.labels = Some(
        [
            (labels::POST_BATCH.into(), "p".into()),
            (labels::MINER.into(), "m".into()),
        ]
        .into(),
    );
    world.pods.apply(prover);
    chain_mut(&mut world).partitions[0].set(0);
    assert!(bound(&world, 0, TaskKind::Pc1).is_empty());
    chain_mut(&mut world).partitions[0].unset(0);
    assert_eq!(
        bound(&world, 0, TaskKind::Pc1).len(),
        1,
        "a deadline without sectors holds up nobody"
    );
}

fn refused(world: &mut World, uid: &str) {
    let mut pod = sealer_pod("node-a");
    pod.metadata.uid = Some(uid.into());
    pod.metadata.resource_version = Some(uid.trim_start_matches('u').into());
    pod.status = serde_json::from_value(json!({"phase": "Failed", "reason": "TopologyAffinityError", "message": "Resources cannot be allocated with Topology locality"})).unwrap();
    world.pods.apply(pod);
}

pub(crate) fn counted(world: &mut World, second: i64) -> Option<Refusal> {
    for action in status(world, at(second)) {
        if let Action::PatchStatus { id, status } = action
            && let StatusPatch::Group(status) = *status
        {
            let mut group = world.groups.get(&id).unwrap().clone();
            newer(&mut group.metadata.resource_version);
            group.status = Some(status);
            world.groups.apply(group);
        }
    }
    let group = world.groups.get(&id("g")).unwrap();
    group.status.as_ref().unwrap().refusals.first().cloned()
}

pub(crate) fn deletes(world: &World, second: i64) -> bool {
    plan(world, at(second))
        .iter()
        .any(|a| matches!(a, Action::DeletePod { .. }))
}

#[test]
fn a_node_whose_kubelet_refuses_pods_gets_fewer_and_fewer() {
    let mut world = world();
    let pod_id: Id = id(&names::sealer_pod("g", "seal", "node-a", 0));
    let mut now = 0;
    for (turn, pause) in [(1u32, 30), (2, 60), (3, 120)] {
        refused(&mut world, &format!("u{}", 10 + turn));
        assert!(!deletes(&world, now), "it is not counted yet");
        let refusal = counted(&mut world, now).unwrap();
        assert_eq!(refusal.count, turn);
        assert!(refusal.reason.starts_with("TopologyAffinityError"));
        assert_eq!(
            counted(&mut world, now).unwrap().count,
            turn,
            "counted once"
        );
        assert!(!deletes(&world, now + pause - 1));
        assert!(deletes(&world, now + pause));
        now += pause;
        world.pods.bury(&pod_id, Some(&format!("u{}", 10 + turn)));
        assert!(
            plan(&world, at(now - 1))
                .iter()
                .all(|a| !matches!(a, Action::CreatePod { .. }))
        );
        assert!(
            plan(&world, at(now))
                .iter()
                .any(|a| matches!(a, Action::CreatePod { .. }))
        );
    }
    let mut well = sealer_pod("node-a");
    well.metadata.uid = Some("u99".into());
    world.pods.apply(well);
    assert_eq!(
        counted(&mut world, now),
        None,
        "a group that is ready ends it"
    );
}

#[test]
fn what_follows_from_one_change_is_what_the_whole_plan_says_of_it() {
    let mut world = contested("4Gi", 1);
    let mut planner = Planner::default();
    // The first C2 gets the place; the PC2 waits for it.
    for action in planner.full(&world, at(0)) {
        if let Action::PatchSector { id, status, .. } = action {
            let mut sector = world.sectors.get(&id).unwrap().clone();
            sector.status = Some(*status);
            sector.metadata.resource_version = Some("2".into());
            world.sectors.apply(sector);
        }
    }
    drop(planner.full(&world, at(0)));
    drop(world.take_changes());
    let name = id("t01000-1");
    let mut done = world.sectors.get(&name).unwrap().clone();
    let task = done.status.as_ref().unwrap().task.clone().unwrap();
    let report = json!({"taskId": task.id, "state": "Succeeded", "result": {"proof": "cHJvb2Y="}});
    done.status.as_mut().unwrap().sealer = Some(serde_json::from_value(report).unwrap());
    done.metadata.resource_version = Some("3".into());
    world.sectors.apply(done);
    let changes = world.take_changes();
    let few = planner.changed(&world, at(1), &changes);
    let whole = plan(&world, at(1));
    let touched = |actions: &[Action]| -> BTreeSet<String> {
        let ids = actions.iter().filter_map(|a| match a {
            Action::PatchSector { id, .. } => Some(id.name.clone()),
            _ => None,
        });
        ids.collect()
    };
    assert_eq!(
        touched(&few),
        BTreeSet::from(["t01000-1".into(), "t01000-2".into()]),
        "the next C2 begins at once"
    );
    assert!(
        few.iter().all(|a| whole.contains(a)),
        "{few:#?}\n{whole:#?}"
    );
}
