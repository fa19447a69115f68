//! Stores that the prover does not see as sealers do: nothing lands there, and everybody says so beforehand.

use crate::gates::verdict;
use crate::places::bound;
use crate::support::*;
use filstar_core::action::{Action, StatusPatch};
use filstar_core::plan::drain::view;
use filstar_core::plan::plan;
use filstar_core::plan::pledge::Gate;
use filstar_core::status::status;
use filstar_core::world::World;
use filstar_crds::*;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

fn batch() -> PostBatch {
    serde_json::from_value(json!({
        "apiVersion": "filstar.io/v1alpha1", "kind": "PostBatch",
        "metadata": {"name": "b", "namespace": NS, "uid": "b", "resourceVersion": "1", "generation": 1},
        "spec": {"minerRef": {"name": "m"}, "parametersPath": "/p", "lane": {"cpus": 1, "memory": "1Gi"}},
    }))
    .unwrap()
}

/// What a prover says of store-a.
#[derive(Clone, Copy)]
enum Seen {
    Nothing,
    NoNumberYet,
    Number(u64),
}

/// A pod that sees this number in store-a.
fn seeing(mut pod: Pod, mark: Option<u64>) -> Pod {
    let annotations = pod.metadata.annotations.get_or_insert_default();
    let mut disks = Disks::of(annotations).unwrap_or_default();
    disks.stores.entry("store-a".into()).or_default().mark = mark;
    annotations.insert(annotations::DISKS.into(), disks.to_text().unwrap());
    pod
}

fn prover(node: &str, seen: Seen) -> Pod {
    let pod = json!({
        "metadata": {"name": "prover-b", "namespace": NS, "uid": "p", "resourceVersion": "1",
            "labels": {"filstar.io/post-batch": "b", "app.kubernetes.io/managed-by": "filstar"}},
        "spec": {"nodeName": node, "containers": []},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    });
    let pod = serde_json::from_value(pod).unwrap();
    match seen {
        Seen::Nothing => pod,
        Seen::NoNumberYet => seeing(pod, None),
        Seen::Number(mark) => seeing(pod, Some(mark)),
    }
}

/// Sealers on node-a and node-b that see these numbers, and a prover on node-a.
fn two(a: u64, b: u64, seen: Seen) -> World {
    let mut world = world();
    world.nodes.apply(node("node-b"));
    world.pods = filstar_core::world::Index::default();
    world.pods.apply(seeing(sealer_pod("node-a"), Some(a)));
    world.pods.apply(seeing(sealer_pod("node-b"), Some(b)));
    world.batches.apply(batch());
    world.pods.apply(prover("node-a", seen));
    world
}

/// A finished sector on a node.
fn landing(world: &mut World, node: &str) {
    let mut finished = sector(SectorPhase::Landing);
    finished
        .status
        .as_mut()
        .unwrap()
        .binding
        .as_mut()
        .unwrap()
        .node = node.into();
    world.sectors.apply(finished);
}

fn lands(world: &World, node: &str) -> bool {
    let mut world = world.clone();
    landing(&mut world, node);
    !bound(&world, 0, TaskKind::Land).is_empty()
}

fn says(world: &World, what: &str, kind: &str) -> Option<(String, String, String)> {
    status(world, at(0)).into_iter().find_map(|a| {
        let Action::PatchStatus { status, .. } = a else {
            return None;
        };
        let all = match (*status, what) {
            (StatusPatch::Store { status: s, .. }, "store") => s.conditions,
            (StatusPatch::Batch(s), "batch") => s.conditions,
            _ => return None,
        };
        let c = all.into_iter().find(|c| c.type_ == kind)?;
        Some((c.status, c.reason, c.message))
    })
}

#[test]
fn a_directory_of_one_node_takes_sectors_of_the_provers_node_alone_and_says_why() {
    for seen in [1, Disk::NO_MARK] {
        let world = two(1, 2, Seen::Number(seen));
        assert!(lands(&world, "node-a"), "the prover runs there");
        assert!(!lands(&world, "node-b"));
        let gate = verdict(&world, Gate::NodeMaintenance);
        assert!(gate.open, "node-a takes sectors");
        assert!(
            gate.reason.contains("node-b has only stores that are not proven (store store-a: pod prover-b on node-a sees"),
            "{}",
            gate.reason
        );
        let (is, reason, text) = says(&world, "store", "Ready").unwrap();
        assert_eq!((is.as_str(), reason.as_str()), ("False", "OutOfReach"));
        assert!(
            text.contains("from node node-b") && text.contains("use nfs"),
            "{text}"
        );
        let (is, reason, text) = says(&world, "batch", "Covered").unwrap();
        assert_eq!(
            (is.as_str(), reason.as_str()),
            ("False", "StoresOutOfReach")
        );
        assert!(text.contains("store-a from node node-b"), "{text}");
        // A finished sector waits in scratch and says what for.
        let mut finished = world;
        landing(&mut finished, "node-b");
        let actions = plan(&finished, at(0));
        let next = new_status(&actions);
        assert_eq!(crate::support::reason(next), "StoreOutOfReach");
        assert!(next.store.is_none(), "it may land elsewhere later");
    }
}

#[test]
fn new_sectors_go_where_the_prover_sees_them() {
    let mut world = two(1, 2, Seen::Number(1));
    // node-a has one sector more, so node-b would be next.
    world.sectors.apply(sector(SectorPhase::WaitSeed));
    world.sectors.apply(fresh_sector());
    let on = |world: &World| {
        plan(world, at(0)).into_iter().find_map(|a| match a {
            Action::PatchSector { id, status, .. } if id.name == "t01000-1" => {
                status.binding.map(|b| b.node)
            }
            _ => None,
        })
    };
    assert_eq!(on(&world).as_deref(), Some("node-a"));
    world.pods.bury(&id("prover-b"), Some("p"));
    let mut shared = prover("node-a", Seen::Number(2));
    shared.metadata.uid = Some("p2".into());
    world.pods.apply(shared);
    assert_eq!(
        on(&world).as_deref(),
        Some("node-b"),
        "it sees what node-b writes"
    );
}

#[test]
fn a_directory_that_all_nodes_share_is_like_any_other_store() {
    let world = two(1, 1, Seen::Number(1));
    assert!(lands(&world, "node-a") && lands(&world, "node-b"));
    assert_eq!(says(&world, "store", "Ready").unwrap().1, "Mounted");
    assert_eq!(says(&world, "batch", "Covered").unwrap().1, "Covered");
}

#[test]
fn a_directory_is_waited_for_while_the_prover_has_not_said_what_it_sees() {
    for seen in [Seen::Nothing, Seen::NoNumberYet] {
        waits_for_the_prover(two(1, 2, seen));
    }
}

fn waits_for_the_prover(world: World) {
    assert!(lands(&world, "node-a"), "it runs there");
    assert!(!lands(&world, "node-b"));
    assert_eq!(says(&world, "batch", "Covered").unwrap().1, "Covered");
    let gate = verdict(&world, Gate::NodeMaintenance);
    assert!(!gate.reason.contains("node-b"), "{}", gate.reason);
    let mut nfs = world;
    let mut store = store("store-a");
    store.metadata.resource_version = Some("2".into());
    store.spec.volume =
        serde_json::from_value(json!({"nfs": {"server": "s", "path": "/e"}})).unwrap();
    nfs.stores.apply(store);
    assert!(lands(&nfs, "node-b"), "an export is the same everywhere");
}

#[test]
fn nothing_is_held_where_nobody_proves() {
    let mut world = two(1, 2, Seen::Number(1));
    world.batches = filstar_core::world::Index::default();
    assert!(lands(&world, "node-b"));
}

fn labelled(name: &str, labels: Value) -> Node {
    let mut node = node(name);
    node.metadata.resource_version = Some("2".into());
    node.metadata.labels = serde_json::from_value(labels).unwrap();
    node
}

fn chosen(name: &str, second: i64, selector: Value) -> SectorStore {
    let mut store = store(name);
    store.metadata.resource_version = Some("2".into());
    store.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
        at(second).wall,
    ));
    store.spec.node_selector = serde_json::from_value(selector).unwrap();
    store.spec.volume =
        serde_json::from_value(json!({"nfs": {"server": "s", "path": "/e"}})).unwrap();
    store
}

/// The prover pod that a plan makes: its node selector and its stores.
fn made(world: &World) -> (Value, Vec<String>) {
    let pod = plan(world, at(0)).into_iter().find_map(|a| match a {
        Action::CreatePod { pod } if pod.metadata.name.as_deref() == Some("prover-b") => Some(pod),
        _ => None,
    });
    let spec = pod.unwrap().spec.unwrap();
    let stores = spec.volumes.unwrap().into_iter().map(|v| v.name);
    let stores = stores.filter(|n| n.starts_with("store-")).collect();
    (json!(spec.node_selector.unwrap_or_default()), stores)
}

#[test]
fn a_prover_goes_where_the_stores_of_its_miner_can_be_mounted() {
    let mut world = world();
    world.batches.apply(batch());
    world
        .nodes
        .apply(labelled("node-a", json!({"rack": "1", "nas": "yes"})));
    world.nodes.apply(labelled("node-b", json!({"rack": "2"})));
    world
        .stores
        .apply(chosen("store-a", 0, json!({"rack": "1"})));
    let (selector, stores) = made(&world);
    assert_eq!(
        (selector, stores),
        (json!({"rack": "1"}), vec!["store-store-a".to_owned()])
    );
    world.stores.apply(chosen("b", 1, json!({"nas": "yes"})));
    let (selector, stores) = made(&world);
    assert_eq!(selector, json!({"rack": "1", "nas": "yes"}));
    assert_eq!(stores, ["store-b", "store-store-a"]);
    // What only another Miner's sectors land in is not its business.
    let mut theirs = chosen("c", 2, json!({"rack": "2"}));
    theirs.metadata.labels = Some([("of".to_owned(), "x".to_owned())].into());
    world.stores.apply(theirs);
    let mut ours = world.groups.get(&id("g")).unwrap().clone();
    ours.metadata.resource_version = Some("2".into());
    ours.spec.finalize.store_selector = [("of".to_owned(), "m".to_owned())].into();
    let mut other = ours.clone();
    world.groups.apply(ours);
    other.metadata.name = Some("x".into());
    other.metadata.uid = Some("x".into());
    other.spec.miner_ref.name = "x".into();
    other.spec.finalize.store_selector = [("of".to_owned(), "x".to_owned())].into();
    world.groups.apply(other);
    assert_eq!(made(&world).1, ["store-b", "store-store-a"]);
}

#[test]
fn stores_that_no_node_can_mount_together_are_named_and_the_older_is_proven() {
    let mut world = world();
    world.batches.apply(batch());
    world.nodes.apply(labelled("node-a", json!({"rack": "1"})));
    world.nodes.apply(labelled("node-b", json!({"nas": "yes"})));
    world
        .stores
        .apply(chosen("store-a", 1, json!({"rack": "1"})));
    world.stores.apply(chosen("b", 2, json!({"nas": "yes"})));
    assert_eq!(made(&world).1, ["store-store-a"]);
    let (is, reason, text) = says(&world, "batch", "Covered").unwrap();
    assert_eq!((is.as_str(), reason.as_str()), ("False", "StoresApart"));
    assert!(text.contains("store b"), "{text}");
}

/// A prover on node-a, which shall be empty; node-b has so much room and sees this number.
fn leaving(cpu: &str, mark: u64) -> World {
    let mut world = two(1, mark, Seen::Number(1));
    let mut cordoned = node("node-a");
    cordoned.metadata.resource_version = Some("2".into());
    cordoned.spec = serde_json::from_value(json!({"unschedulable": true})).unwrap();
    world.nodes.apply(cordoned);
    let mut other = node("node-b");
    other.metadata.resource_version = Some("2".into());
    other.status.as_mut().unwrap().allocatable =
        serde_json::from_value(json!({"cpu": cpu, "memory": "8Gi"})).unwrap();
    world.nodes.apply(other);
    let mut sealer = seeing(sealer_pod("node-b"), Some(mark));
    sealer.metadata.resource_version = Some("2".into());
    let container =
        json!({"name": "seal", "resources": {"requests": {"cpu": "1", "memory": "4Gi"}}});
    sealer.spec.as_mut().unwrap().containers = vec![serde_json::from_value(container).unwrap()];
    world.pods.apply(sealer);
    world
}

fn evicts_prover(world: &World) -> bool {
    let actions = plan(world, at(0));
    actions
        .iter()
        .any(|a| matches!(a, Action::EvictPod { id, .. } if id.name == "prover-b"))
}

#[test]
fn a_prover_is_evicted_only_when_another_node_has_the_room_and_the_same_stores() {
    assert!(evicts_prover(&leaving("2", 1)));
    for (world, why) in [
        (leaving("1", 1), "the only CPU there is a sealer's"),
        (leaving("2", 2), "another directory"),
    ] {
        assert!(!evicts_prover(&world), "{why}");
        let blocked = view(&world, at(0), "node-a").unwrap().blocked.unwrap();
        assert_eq!(blocked.reason, "ProverHasNoOtherNode", "{why}");
    }
    let mut large = leaving("2", 1);
    let mut batch = batch();
    batch.spec.lane.memory = "5Gi".into();
    batch.metadata.resource_version = Some("2".into());
    large.batches.apply(batch);
    assert!(!evicts_prover(&large), "4 of 8 GiB are a sealer's");
}

#[test]
fn a_drain_names_a_pod_that_does_not_stop() {
    let mut world = leaving("2", 1);
    let name = id(&filstar_core::plan::names::sealer_pod(
        "g", "seal", "node-a", 0,
    ));
    let mut pod = world.pods.get(&name).unwrap().clone();
    pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
        at(30).wall,
    ));
    pod.metadata.resource_version = Some("3".into());
    world.pods.apply(pod);
    let blocked = |second| view(&world, at(second), "node-a").unwrap().blocked;
    assert_eq!(blocked(60), None);
    let blocked = blocked(151).unwrap();
    assert_eq!(blocked.reason, "PodDoesNotStop");
    assert!(blocked.message.contains("--force"), "{}", blocked.message);
}

#[test]
fn a_pod_that_the_api_server_refuses_is_named_by_its_group_and_its_batch() {
    let mut world = world();
    world.batches.apply(batch());
    let sealer = filstar_core::plan::names::sealer_pod("g", "seal", "node-a", 0);
    let words = "the API server refuses: violates PodSecurity \"restricted\"";
    for name in [sealer.as_str(), "prover-b"] {
        world.unmade.insert(id(name), words.into());
    }
    let ready = |world: &World| crate::pods::group_says(world, "Ready").unwrap();
    assert_eq!(ready(&world).1, "Ready", "it is there meanwhile");
    world.pods = filstar_core::world::Index::default();
    let (is, reason, text) = ready(&world);
    assert_eq!((is.as_str(), reason.as_str()), ("False", "PodRefused"));
    assert!(
        text.contains(&sealer) && text.contains("PodSecurity"),
        "{text}"
    );
    let (_, reason, text) = says(&world, "batch", "Ready").unwrap();
    assert_eq!(reason, "PodRefused");
    assert!(
        text.contains("prover-b") && text.contains("PodSecurity"),
        "{text}"
    );
}
