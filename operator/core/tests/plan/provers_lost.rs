//! Provers on nodes that died: their pods are not waited for where another node takes the prover.

use crate::places::{made, running};
use crate::provers::*;
use crate::support::*;
use filstar_core::action::Action;
use filstar_core::plan::plan;
use filstar_core::world::World;
use filstar_crds::*;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

/// Two nodes with room; the prover runs on the first and sees store 7, as a sealer on the second does.
fn two_nodes() -> World {
    let mut world = world();
    world.groups = filstar_core::world::Index::default();
    world
        .batches
        .apply(batch(2, &json!({"cpus": 1, "memory": "1Gi"})));
    let prover = made(&world).into_iter().find(is_prover).unwrap();
    world.pods = filstar_core::world::Index::default();
    world.pods.apply(with_mark(running(prover), 7));
    for name in ["node-a", "node-b"] {
        let mut node = node(name);
        node.metadata.resource_version = Some("2".into());
        node.status.as_mut().unwrap().allocatable =
            serde_json::from_value(json!({"cpu": "8", "memory": "64Gi"})).unwrap();
        world.nodes.apply(node);
    }
    world.pods.apply(with_mark(sealer_pod("node-b"), 7));
    world
}

fn with_mark(mut pod: Pod, mark: u64) -> Pod {
    let disk = json!({"device": 2, "capacity": 100, "free": 90, "mark": mark});
    let disks = json!({"scratch": disk, "stores": {"store-a": disk}});
    let notes = pod.metadata.annotations.get_or_insert_default();
    notes.insert(annotations::DISKS.into(), disks.to_string());
    pod
}

/// Node a is silent since a second.
fn dies(world: &mut World, second: i64) {
    let mut node: Node = node("node-a");
    node.metadata.resource_version = Some("3".into());
    let silent = json!([{
        "type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown",
        "lastTransitionTime": at(second).wall.to_string(),
    }]);
    node.status.as_mut().unwrap().conditions = serde_json::from_value(silent).unwrap();
    world.nodes.apply(node);
}

/// Its pod was to end by a second.
fn ends(world: &mut World, second: i64) {
    let mut pod = prover(world).unwrap().clone();
    pod.metadata.deletion_timestamp = Some(Time(at(second).wall));
    pod.metadata.resource_version = Some("8".into());
    world.pods.apply(pod);
}

fn forgets(world: &World, second: i64) -> Option<String> {
    plan(world, at(second)).into_iter().find_map(|a| match a {
        Action::ForgetPod { id, reason, .. } if id.name == PROVER => Some(reason),
        _ => None,
    })
}

#[test]
fn a_prover_that_does_not_end_is_let_go_of_so_that_another_node_proves() {
    let mut world = two_nodes();
    assert_eq!(forgets(&world, 0), None);
    ends(&mut world, 30);
    assert_eq!(forgets(&world, 80), None, "it may be ending");
    let why = forgets(&world, 100).unwrap();
    assert!(why.contains("node-a does not say"), "{why}");
    remove(&mut world, &id(PROVER));
    assert!(made(&world).iter().any(is_prover), "another one is made");
}

#[test]
fn a_prover_that_tolerates_a_silent_node_is_let_go_of_too() {
    let mut world = two_nodes();
    dies(&mut world, 0);
    assert_eq!(forgets(&world, 290), None, "it may come back");
    assert!(forgets(&world, 310).unwrap().contains("not ready since"));
}

#[test]
fn a_lost_prover_stays_where_no_other_node_takes_it() {
    for change in 0..3 {
        let mut world = two_nodes();
        ends(&mut world, 0);
        assert!(forgets(&world, 900).is_some());
        match change {
            0 => {
                let sealer = world
                    .pods
                    .iter()
                    .find(|(pod, _)| pod.name != PROVER)
                    .unwrap();
                let mut other = with_mark(sealer.1.clone(), 6);
                other.metadata.resource_version = Some("9".into());
                world.pods.apply(other);
            }
            1 => world.nodes = filstar_core::world::Index::default(),
            _ => {
                let mut full = node("node-b");
                full.metadata.resource_version = Some("3".into());
                full.spec = serde_json::from_value(json!({"unschedulable": true, "taints": [
                    {"key": "x", "effect": "NoSchedule"}]}))
                .unwrap();
                world.nodes.apply(full);
            }
        }
        assert_eq!(forgets(&world, 900), None, "{change}");
    }
}

/// The deadline is being proven, and the pod was made from another template.
#[test]
fn a_prover_that_sees_no_chain_has_no_proof_to_lose() {
    let outdated = |status: &str, since: i64| {
        let mut world = two_nodes();
        let mut batch = batch(3, &json!({"cpus": 1, "memory": "2Gi"}));
        let proving =
            json!({"deadlines": [{"index": 0, "open": 990, "state": "Proving", "sectors": 1}]});
        batch.status = serde_json::from_value(proving).unwrap();
        world.batches.apply(batch);
        let mut pod = prover(&world).unwrap().clone();
        let says = json!({"phase": "Running", "conditions": [{
            "type": "ContainersReady", "status": status, "lastTransitionTime": at(since).wall.to_string(),
        }]});
        pod.status = serde_json::from_value(says).unwrap();
        pod.metadata.resource_version = Some("8".into());
        world.pods.apply(pod);
        world
    };
    assert!(!deletes_prover_at(&outdated("True", 0), 900));
    assert!(
        !deletes_prover_at(&outdated("False", 800), 900),
        "it may see it again"
    );
    assert!(deletes_prover_at(&outdated("False", 0), 900));
}

/// What a node mounts while a pod runs must be seen in it.
#[test]
fn a_prover_sees_disks_that_are_mounted_while_it_runs() {
    let mut world = two_nodes();
    remove(&mut world, &id(PROVER));
    let prover = made(&world).into_iter().find(is_prover).unwrap();
    let mounts = prover
        .spec
        .unwrap()
        .containers
        .remove(0)
        .volume_mounts
        .unwrap();
    for mount in mounts.iter().filter(|m| m.mount_path != "/tmp") {
        assert_eq!(
            mount.mount_propagation.as_deref(),
            Some("HostToContainer"),
            "{mount:?}"
        );
    }
}
