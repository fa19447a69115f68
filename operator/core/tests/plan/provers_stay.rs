//! What makes a prover anew, and what does not: a proof under way, a node that refuses it, another prover.

use crate::places::{env, inventory, made, running};
use crate::provers::*;
use crate::support::*;
use filstar_core::action::{Action, StatusPatch};
use filstar_core::plan::{names, plan};
use filstar_core::status::status;
use filstar_core::world::{Id, World};
use filstar_crds::*;
use k8s_openapi::api::core::v1::{Node, NodeSystemInfo, Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use serde_json::{Value, json};

/// A batch at deadlines in these states, the oldest first.
fn batch_at(version: u32, lane: &Value, states: &[&str]) -> PostBatch {
    let deadline = |(i, state): (usize, &&str)| json!({"index": i, "open": 900 + 15 * i, "state": state, "sectors": 1});
    let deadlines: Vec<Value> = states.iter().enumerate().map(deadline).collect();
    let mut batch = batch(version, lane);
    batch.status = serde_json::from_value(json!({ "deadlines": deadlines })).unwrap();
    batch
}

/// The prover's pod says something else.
fn prover_says(world: &mut World, version: u32, status: Value) {
    let mut pod = prover(world).unwrap().clone();
    pod.metadata.resource_version = Some(version.to_string());
    pod.status = Some(serde_json::from_value::<PodStatus>(status).unwrap());
    world.pods.apply(pod);
}

/// Writes what is to be said of the batch at a time. Returns what that is about its CPUs.
fn record(world: &mut World, second: i64) -> (String, String) {
    let found = status(world, at(second)).into_iter().find_map(|a| {
        let Action::PatchStatus { status, .. } = a else {
            return None;
        };
        let StatusPatch::Batch(status) = *status else {
            return None;
        };
        Some(status)
    });
    let mut batch = world.batches.get(&id("b")).unwrap().clone();
    if let Some(status) = found {
        newer(&mut batch.metadata.resource_version);
        batch.status = Some(status);
        world.batches.apply(batch.clone());
    }
    let mut said = batch.status.unwrap().conditions.into_iter();
    let said = said.find(|c| c.type_ == conditions::PLACEMENT_VERIFIED);
    said.map(|c| (c.reason, c.message)).unwrap()
}

/// The pod that is made for the prover now.
fn made_prover(world: &World) -> Pod {
    made(world).into_iter().find(is_prover).unwrap()
}

/// Whether it goes to any node and asks for no CPUs.
fn shares(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref().unwrap();
    let resources = spec.containers[0].resources.as_ref().unwrap();
    let asks = resources.requests.as_ref().unwrap().contains_key("cpu");
    spec.affinity.is_none() && !asks && env(pod, "FILSTAR_CPUSET").is_none()
}

/// The pod, which sees the store that has this number.
fn with_mark(mut pod: Pod, mark: u64) -> Pod {
    let disk = Disk {
        device: 2,
        capacity: 10 << 20,
        free: 9 << 20,
        mark: Some(mark),
    };
    let disks = Disks {
        scratch: Some(disk),
        stores: [("store-a".to_owned(), disk)].into(),
    };
    let notes = pod.metadata.annotations.get_or_insert_default();
    notes.insert(annotations::DISKS.into(), disks.to_text().unwrap());
    pod.metadata.resource_version = Some(mark.to_string());
    pod
}

fn node_with(world: &World, version: &str, change: impl FnOnce(&mut Node)) -> Node {
    let mut node = world.nodes.get(&Id::new("", "node-a")).unwrap().clone();
    node.metadata.resource_version = Some(version.into());
    change(&mut node);
    node
}

/// An upgrade must not make all provers anew, in the middle of proofs.
#[test]
fn template_of_a_prover_without_a_place_has_nothing_of_places() {
    let mut world = shared_node("Agent");
    world
        .batches
        .apply(batch(2, &json!({"cpus": 1, "memory": "1Gi"})));
    let prover = made_prover(&world);
    let mut spec = serde_json::to_value(prover.spec.as_ref().unwrap()).unwrap();
    // The one key that the template always has, and the pod only with secrets.
    spec["imagePullSecrets"] = Value::Null;
    let hash = names::fnv1a(spec.to_string().as_bytes());
    assert_eq!(
        prover.annotations()[annotations::TEMPLATE_HASH],
        format!("{hash:016x}")
    );
}

#[test]
fn prover_ends_its_proof_before_a_change_of_its_spec_makes_it_anew() {
    for lane in [own_cpus(), json!({"cpus": 1, "memory": "1Gi"})] {
        let mut world = shared_node("Agent");
        world.batches.apply(batch(2, &lane));
        run_all(&mut world);
        let mut other = lane.clone();
        other["memory"] = json!("2Gi");
        world
            .batches
            .apply(batch_at(3, &other, &["Accepted", "Proving"]));
        assert!(!deletes_prover(&world), "its proof is under way");
        let mut over = world.clone();
        over.batches
            .apply(batch_at(4, &other, &["Accepted", "Accepted"]));
        assert!(deletes_prover(&over), "between two proofs");
        // A prover that fails may be what the change is for.
        let mut fails = world.clone();
        fails
            .batches
            .apply(batch_at(4, &other, &["Missed", "Proving"]));
        assert!(deletes_prover(&fails), "it proves nothing in time");
        let waiting = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        let container = json!({"name": "prove", "image": "", "imageID": "", "ready": false, "restartCount": 3, "state": waiting});
        let status = json!({"phase": "Running", "containerStatuses": [container]});
        prover_says(&mut world, 2, status);
        assert!(deletes_prover(&world), "nothing runs there");
    }
}

#[test]
fn prover_that_runs_stays_when_its_node_loses_a_label() {
    let mut world = shared_node("Agent");
    let labelled = node_with(&world, "3", |node| {
        node.metadata.labels = Some([("disk".to_owned(), "x".to_owned())].into());
    });
    world.nodes.apply(labelled);
    let mut choosy = batch(2, &own_cpus());
    choosy.spec.node_selector = [("disk".to_owned(), "x".to_owned())].into();
    world.batches.apply(choosy.clone());
    run_all(&mut world);
    let plain = node_with(&world, "4", |node| node.metadata.labels = None);
    world.nodes.apply(plain);
    assert!(!deletes_prover(&world), "Kubernetes lets it run as well");
    choosy.metadata.resource_version = Some("3".into());
    choosy.spec.node_selector = [("disk".to_owned(), "y".to_owned())].into();
    world.batches.apply(choosy);
    assert!(deletes_prover(&world), "it was asked to go elsewhere");
}

#[test]
fn prover_keeps_its_place_when_the_operator_starts_before_the_agent_of_a_new_boot() {
    for backend in ["Agent", "Kubelet"] {
        let mut world = shared_node(backend);
        run_all(&mut world);
        let node = node_with(&world, "3", |node| {
            node.status.as_mut().unwrap().node_info = Some(NodeSystemInfo {
                boot_id: "another".into(),
                ..NodeSystemInfo::default()
            });
        });
        world.nodes.apply(node);
        assert!(!deletes_prover(&world), "{backend}");
    }
}

#[test]
fn new_prover_takes_nothing_from_one_that_lives() {
    let lanes = [
        json!({"cpus": 4, "memory": "1Gi", "coreGroups": {}, "backend": "Kubelet"}),
        json!({"cpus": 1, "memory": "60Gi", "coreGroups": {}, "backend": "Agent"}),
    ];
    for lane in lanes {
        let mut world = shared_node("Agent");
        world.groups = filstar_core::world::Index::default();
        world.batches.apply(batch(2, &lane));
        run_all(&mut world);
        let before = cpus(prover(&world).unwrap());
        let mut new = batch(3, &lane);
        new.metadata.name = Some("a".into());
        new.metadata.uid = Some("a".into());
        world.batches.apply(new);
        let actions = plan(&world, at(0));
        let deletes = |a: &Action| matches!(a, Action::DeletePod { .. });
        assert!(!actions.iter().any(deletes), "{lane}");
        run_all(&mut world);
        assert_eq!(cpus(prover(&world).unwrap()), before, "{lane}");
        assert_eq!(world.pods.len(), 2, "both prove: {lane}");
    }
}

#[test]
fn prover_that_kubelet_refuses_shares_for_an_hour_and_says_so() {
    let mut world = shared_node("Kubelet");
    run_all(&mut world);
    assert!(!shares(prover(&world).unwrap()));
    let status = json!({"phase": "Failed", "reason": "TopologyAffinityError", "message": "no NUMA node has 2 CPUs"});
    prover_says(&mut world, 2, status);
    let (reason, message) = record(&mut world, 0);
    assert_eq!(reason, "Refused");
    assert!(
        message.contains("node node-a") && message.contains("no NUMA node has 2 CPUs"),
        "{message}"
    );
    assert!(deletes_prover(&world));
    remove(&mut world, &id(PROVER));
    assert_eq!(record(&mut world, 0).0, "Refused", "it is not forgotten");
    let again = made_prover(&world);
    assert!(shares(&again), "proving goes before CPUs of its own");
    let mut again = running(again);
    again.metadata.uid = Some("second".into());
    again.metadata.creation_timestamp = Some(Time(at(0).wall));
    world.pods.apply(again);
    let said = record(&mut world, 3599);
    assert_eq!(said, ("Refused".to_owned(), message));
    assert!(!deletes_prover_at(&world, 3599));
    // Another lane is another question.
    let mut other = world.batches.get(&id("b")).unwrap().clone();
    other.metadata.resource_version = Some("99".into());
    other.metadata.generation = Some(99);
    let mut changed = world.clone();
    changed.batches.apply(other);
    assert!(deletes_prover_at(&changed, 60));
    assert_eq!(record(&mut world, 3600).0, "Moving");
    assert!(deletes_prover_at(&world, 3600));
    remove(&mut world, &id(PROVER));
    assert!(!shares(&made_prover(&world)), "it is tried again");
}

#[test]
fn prover_that_the_scheduler_has_no_room_for_shares_after_a_minute() {
    let mut world = shared_node("Agent");
    run_all(&mut world);
    let mut pod = prover(&world).unwrap().clone();
    pod.spec.as_mut().unwrap().node_name = None;
    pod.metadata.resource_version = Some("2".into());
    world.pods.apply(pod);
    let stuck = json!({
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "0/1 nodes are available: 1 Insufficient cpu.", "lastTransitionTime": at(0).wall.to_string(),
    });
    let status = json!({"phase": "Pending", "conditions": [stuck]});
    prover_says(&mut world, 3, status);
    assert_eq!(record(&mut world, 59).0, "Unknown");
    assert!(!deletes_prover_at(&world, 59), "others may be leaving");
    let (reason, message) = record(&mut world, 60);
    assert_eq!(reason, "Refused");
    assert!(message.contains("Insufficient cpu"), "{message}");
    assert!(deletes_prover_at(&world, 60));
    remove(&mut world, &id(PROVER));
    assert!(shares(&made_prover(&world)));
}

#[test]
fn prover_gets_no_place_on_a_node_that_does_not_see_its_stores() {
    let mut world = shared_node("Agent");
    world.batches = filstar_core::world::Index::default();
    run_all(&mut world);
    world.batches.apply(batch(1, &own_cpus()));
    run_all(&mut world);
    let shares = prover(&world).unwrap().clone();
    world.pods.apply(with_mark(shares, 7));
    let roomy = node_with(&world, "1", |node| {
        node.metadata.name = Some("node-b".into());
        node.metadata.uid = Some("node-b".into());
    });
    world.nodes.apply(roomy);
    world.sealing_nodes.apply(inventory("node-b"));
    assert!(
        !deletes_prover(&world),
        "nobody says that its files are there"
    );
    assert_eq!(says(&world).0, "NoRoom");
    world.pods.apply(with_mark(sealer_pod("node-b"), 6));
    assert!(!deletes_prover(&world), "there are others");
    world.pods.apply(with_mark(sealer_pod("node-b"), 7));
    assert_eq!(says(&world).0, "Moving");
    assert!(deletes_prover(&world));
}
