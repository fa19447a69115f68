//! Provers with core groups of their own: no sealer shares them, whoever was there first.

use std::collections::BTreeSet;

use crate::places::{ALL, env, inventory, lanes, large_node, made, running};
use crate::support::*;
use filstar_core::action::{Action, StatusPatch};
use filstar_core::plan::plan;
use filstar_core::status::status;
use filstar_core::world::{Id, World};
use filstar_crds::*;
use filstar_placement::parse_cpus;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};

pub(crate) const PROVER: &str = "prover-b";

pub(crate) fn batch(version: u32, lane: &Value) -> PostBatch {
    serde_json::from_value(json!({
        "apiVersion": "filstar.io/v1alpha1", "kind": "PostBatch",
        "metadata": {"name": "b", "namespace": NS, "uid": "b", "resourceVersion": version.to_string(), "generation": version},
        "spec": {"minerRef": {"name": "m"}, "parametersPath": "/p", "lane": lane},
    }))
    .unwrap()
}

/// Two CPUs that the prover binds itself to.
pub(crate) fn own_cpus() -> Value {
    json!({"cpus": 2, "memory": "1Gi", "coreGroups": {}, "backend": "Agent"})
}

/// Four core groups of two CPUs, a group that takes all that is left but the first, and a prover.
pub(crate) fn shared_node(backend: &str) -> World {
    let mut world = large_node();
    world.sealing_nodes.apply(inventory("node-a"));
    lanes(
        &mut world,
        json!([{"name": "seal", "phases": ALL, "cpus": 2, "memory": "8Gi", "coreGroups": {}, "pods": "Auto"}]),
        backend,
    );
    let lane = json!({"cpus": 1, "memory": "1Gi", "coreGroups": {}, "backend": backend});
    world.batches.apply(batch(1, &lane));
    world
}

pub(crate) fn is_prover(pod: &Pod) -> bool {
    pod.labels().contains_key(labels::POST_BATCH)
}

/// CPUs that a pod binds itself to.
pub(crate) fn cpus(pod: &Pod) -> BTreeSet<u32> {
    let set = env(pod, "FILSTAR_CPUSET").unwrap_or_default();
    parse_cpus(&set).unwrap().into_iter().collect()
}

pub(crate) fn run_all(world: &mut World) {
    for pod in made(world) {
        world.pods.apply(running(pod));
    }
}

/// The prover among the pods of a world.
pub(crate) fn prover(world: &World) -> Option<&Pod> {
    world.pods.get(&id(PROVER))
}

pub(crate) fn says(world: &World) -> (String, String) {
    let found = status(world, at(0)).into_iter().find_map(|a| {
        let Action::PatchStatus { status, .. } = a else {
            return None;
        };
        let StatusPatch::Batch(status) = *status else {
            return None;
        };
        let mut all = status.conditions.into_iter();
        all.find(|c| c.type_ == conditions::PLACEMENT_VERIFIED)
    });
    let said = found.unwrap();
    (said.reason, said.message)
}

pub(crate) fn deletes_prover(world: &World) -> bool {
    deletes_prover_at(world, 0)
}

pub(crate) fn deletes_prover_at(world: &World, second: i64) -> bool {
    let actions = plan(world, at(second));
    actions
        .iter()
        .any(|a| matches!(a, Action::DeletePod { id, .. } if id.name == PROVER))
}

pub(crate) fn remove(world: &mut World, id: &Id) {
    let uid = world.pods.get(id).and_then(Pod::uid);
    world.pods.bury(id, uid.as_deref());
}

#[test]
fn prover_and_sealers_that_bind_themselves_have_core_groups_apart() {
    let pods = made(&shared_node("Agent"));
    let prover = pods.iter().find(|p| is_prover(p)).unwrap();
    assert_eq!(
        cpus(prover).len(),
        2,
        "one CPU is rounded up to a whole group"
    );
    assert_eq!(pods.len(), 3, "the first group is left to the system");
    let all: BTreeSet<u32> = pods.iter().flat_map(cpus).collect();
    assert_eq!(all.len(), 6, "nobody shares");
    assert_eq!(filstar_core::world::pod::node(prover), Some("node-a"));
    let resources = prover.spec.as_ref().unwrap().containers[0]
        .resources
        .clone()
        .unwrap();
    assert_eq!(resources.requests.unwrap()["cpu"].0, "2");
    let limits = resources.limits.unwrap();
    assert!(
        !limits.contains_key("cpu"),
        "kubelet's static manager must leave it alone"
    );
}

#[test]
fn kubelet_is_asked_for_as_many_cpus_as_whole_groups_have_and_sealers_leave_them() {
    let pods = made(&shared_node("Kubelet"));
    assert_eq!(pods.len(), 3);
    let prover = pods.iter().find(|p| is_prover(p)).unwrap();
    let resources = prover.spec.as_ref().unwrap().containers[0]
        .resources
        .clone()
        .unwrap();
    assert_eq!(resources.limits.unwrap()["cpu"].0, "2");
    assert!(
        env(prover, "FILSTAR_CPUSET").is_none(),
        "kubelet chooses them"
    );
}

#[test]
fn prover_without_core_groups_goes_where_the_scheduler_wants() {
    let mut world = shared_node("Agent");
    world
        .batches
        .apply(batch(2, &json!({"cpus": 1, "memory": "1Gi"})));
    let pods = made(&world);
    let prover = pods.iter().find(|p| is_prover(p)).unwrap();
    assert_eq!(filstar_core::world::pod::node(prover), None);
    assert_eq!(pods.len(), 4, "sealers have all that they may");
}

#[test]
fn prover_that_lives_keeps_its_core_group_while_everything_around_it_changes() {
    let mut world = shared_node("Agent");
    run_all(&mut world);
    let before = cpus(prover(&world).unwrap());
    lanes(
        &mut world,
        json!([{"name": "new", "phases": ["AddPiece"], "cpus": 4, "memory": "8Gi", "coreGroups": {}, "gpus": 0}]),
        "Agent",
    );
    assert!(!deletes_prover(&world));
    // An agent that is silent takes nothing away.
    let mut planner = filstar_core::plan::Planner::default();
    planner.full(&world, at(0));
    world.sealing_nodes = filstar_core::world::Index::default();
    let actions = planner.full(&world, at(1));
    let touched = |a: &Action| matches!(a, Action::DeletePod { id, .. } if id.name == PROVER);
    assert!(!actions.iter().any(touched));
    assert_eq!(cpus(prover(&world).unwrap()), before);
}

#[test]
fn prover_that_finds_no_room_shares_and_says_so_until_a_sealer_goes() {
    let mut world = shared_node("Agent");
    let lane = batch(1, &own_cpus());
    world.batches = filstar_core::world::Index::default();
    run_all(&mut world);
    assert_eq!(world.pods.len(), 3, "sealers have all groups that they may");
    world.batches.apply(lane);
    run_all(&mut world);
    let shares = prover(&world).unwrap();
    assert!(cpus(shares).is_empty() && filstar_core::world::pod::node(shares) == Some("node-a"));
    assert!(!deletes_prover(&world), "it stays as it is");
    let (reason, message) = says(&world);
    assert_eq!(reason, "NoRoom");
    assert!(
        message.contains("node-a: needs 1 whole core groups"),
        "{message}"
    );
    // A sealer goes: the prover gets its group, and no other sealer.
    let sealers = world.pods.iter().filter(|(_, p)| !is_prover(p));
    let gone = sealers.map(|(id, _)| id.clone()).next().unwrap();
    remove(&mut world, &gone);
    assert!(made(&world).is_empty(), "its group is the prover's now");
    assert_eq!(says(&world).0, "Moving");
    assert!(deletes_prover(&world));
    let mut proving = batch(2, &own_cpus());
    proving.status = serde_json::from_value(json!({
        "deadlines": [{"index": 0, "open": 990, "state": "Proving", "sectors": 1}],
    }))
    .unwrap();
    let mut busy = world.clone();
    busy.batches.apply(proving);
    assert!(
        !deletes_prover(&busy),
        "a proof under way is not ended for it"
    );
    remove(&mut world, &id(PROVER));
    let again = made(&world).remove(0);
    assert_eq!(
        (again.name_any(), cpus(&again).len()),
        (PROVER.to_owned(), 2)
    );
}

#[test]
fn what_the_kernel_gave_the_prover_is_in_the_status_of_its_batch() {
    let mut world = shared_node("Agent");
    run_all(&mut world);
    assert_eq!(says(&world).0, "Unknown");
    let mut pod = prover(&world).unwrap().clone();
    pod.metadata.resource_version = Some("2".into());
    let conditions = &mut pod.status.as_mut().unwrap().conditions;
    conditions.as_mut().unwrap().push(
        serde_json::from_value(json!({
            "type": "filstar.io/PlacementVerified", "status": "True", "reason": "Verified",
            "message": "cpus 2 (6-7) of 2 asked, memory nodes 0, bound by itself",
        }))
        .unwrap(),
    );
    world.pods.apply(pod);
    let (reason, message) = says(&world);
    assert_eq!(reason, "Verified");
    assert!(
        message.starts_with("pod prover-b on node node-a: cpus 2 (6-7)")
            && message.contains("core groups"),
        "{message}"
    );
}

/// What the operator asks for comes true, in any order, while people change their minds and pods go.
#[test]
fn no_two_live_pods_ever_share_a_core_group() {
    for seed in 1..150 {
        let mut luck = Luck::new(seed * 7919);
        let mut world = shared_node("Agent");
        let mut version = 1;
        for _ in 0..25 {
            match luck.below(5) {
                0 => {
                    version += 1;
                    let lane = json!({"cpus": 1 + luck.below(4), "memory": "1Gi", "backend": "Agent", "coreGroups": {}});
                    let mut batch = batch(version, &lane);
                    batch.spec.suspend = luck.below(4) == 0;
                    world.batches.apply(batch);
                }
                1 => lanes(
                    &mut world,
                    json!([{"name": "seal", "phases": ALL, "cpus": 1 + luck.below(4), "memory": "8Gi", "coreGroups": {},
                            "pods": 1 + luck.below(3)}]),
                    "Agent",
                ),
                2 => {
                    let all: Vec<Id> = world.pods.iter().map(|(id, _)| id.clone()).collect();
                    if let Some(id) = all.get(usize::try_from(luck.below(4)).unwrap()) {
                        remove(&mut world, id);
                    }
                }
                _ => follow(&mut world, &mut luck),
            }
            check(&world, seed);
        }
    }
}

fn follow(world: &mut World, luck: &mut Luck) {
    for action in plan(world, at(0)) {
        if luck.below(4) == 0 {
            continue;
        }
        match action {
            Action::CreatePod { pod } => {
                let mut pod = running(*pod);
                pod.metadata.uid = Some(format!("uid-{}", luck.below(u64::MAX)));
                world.pods.apply(pod);
            }
            Action::DeletePod { id, .. } => remove(world, &id),
            _ => {}
        }
    }
}

fn check(world: &World, seed: u64) {
    let mut taken = BTreeSet::new();
    for (id, pod) in world.pods.iter() {
        let groups: BTreeSet<u32> = cpus(pod).iter().map(|cpu| cpu / 2).collect();
        for group in groups {
            assert!(
                taken.insert(group),
                "seed {seed}: {id} has group {group} of another pod"
            );
        }
    }
}
