use filstar_crds::Miner;
use serde_json::{Value, json};

use super::*;

fn miner(name: &str, version: &str) -> Value {
    json!({
        "apiVersion": "filstar.io/v1alpha1", "kind": "Miner",
        "metadata": {
            "name": name, "namespace": "ns", "uid": format!("uid-{name}"), "resourceVersion": version,
            "managedFields": [{"manager": "kubectl", "operation": "Update"}],
        },
        "spec": {
            "actorId": "t01000", "network": "devnet",
            "chain": {"endpoints": [{"name": "a", "url": "http://a/rpc/v1"}]},
            "senders": {"preCommit": "t1a", "commit": "t1a", "post": "t1a"},
            "signer": {"type": "Node"}, "sealProof": "StackedDrg2KiBV1P1",
        },
    })
}

fn guarded(object: Value) -> Guarded<Miner> {
    serde_json::from_value(object).unwrap()
}

fn broken(name: &str) -> Value {
    let mut object = miner(name, "5");
    object["spec"]["network"] = json!("nonet");
    object
}

#[test]
fn an_object_that_cannot_be_read_is_told_apart_and_stops_nobody() {
    let mut world = World::default();
    assert!(applied(guarded(broken("bad")))(&mut world));
    assert!(applied(guarded(miner("good", "6")))(&mut world));
    assert_eq!(world.miners.len(), 1);
    let key = ("miners".to_owned(), Id::new("ns", "bad"));
    let reason = &world.unreadable[&key].reason;
    assert!(reason.starts_with("spec.network: "), "{reason}");
    assert!(reason.contains("nonet"), "{reason}");
    assert!(
        !applied(guarded(broken("bad")))(&mut world),
        "the same again is no news"
    );
}

#[test]
fn an_object_that_becomes_readable_again_is_no_longer_unreadable() {
    let mut world = World::default();
    applied(guarded(broken("a")))(&mut world);
    assert!(applied(guarded(miner("a", "7")))(&mut world));
    assert!(world.unreadable.is_empty());
    assert_eq!(world.miners.len(), 1);
}

#[test]
fn what_we_reported_of_an_unreadable_object_is_known_again_after_a_restart() {
    let mut object = broken("a");
    object["status"] = json!({"conditions": [{
        "type": "Ready", "status": "False", "reason": "Unreadable", "message": "told",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }]});
    let mut world = World::default();
    applied(guarded(object))(&mut world);
    let why = world.unreadable.values().next().unwrap();
    assert_eq!(why.reported.as_deref(), Some("told"));
}

#[test]
fn managed_fields_are_not_kept() {
    let mut world = World::default();
    applied(guarded(miner("a", "7")))(&mut world);
    let kept = world.miners.get(&Id::new("ns", "a")).unwrap();
    assert!(kept.metadata.managed_fields.is_none());
}

#[test]
fn what_a_new_listing_lacks_is_gone_readable_or_not() {
    let mut world = World::default();
    applied(guarded(miner("a", "7")))(&mut world);
    applied(guarded(miner("b", "8")))(&mut world);
    applied(guarded(broken("c")))(&mut world);
    assert!(listed::<Miner>([Id::new("ns", "b")].into())(&mut world));
    assert!(world.miners.get(&Id::new("ns", "a")).is_none());
    assert!(world.miners.get(&Id::new("ns", "b")).is_some());
    assert!(world.unreadable.is_empty());
}

#[test]
fn a_deleted_object_is_gone_and_a_younger_one_of_its_name_stays() {
    let mut world = World::default();
    applied(guarded(miner("a", "7")))(&mut world);
    let mut younger = miner("a", "9");
    younger["metadata"]["uid"] = json!("younger");
    let old = guarded(miner("a", "8"));
    assert!(deleted(&old)(&mut world));
    assert!(world.miners.is_empty());
    applied(guarded(younger))(&mut world);
    assert!(!deleted(&old)(&mut world));
    assert_eq!(world.miners.len(), 1);
}
