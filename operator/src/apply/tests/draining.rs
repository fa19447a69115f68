//! What a drain does is checked against what is there at that very moment.

use super::*;

fn node(cordoned: bool) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": "node-a", "uid": "n", "resourceVersion": "10"},
        "spec": {"unschedulable": cordoned},
    })
}

fn pod(uid: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "g-seal-1", "namespace": "ns", "uid": uid, "resourceVersion": "10",
            "labels": {"app.kubernetes.io/managed-by": "filstar"}},
        "spec": {"nodeName": "node-a", "containers": []},
    })
}

fn sector(version: &str, phase: &str) -> Value {
    json!({
        "apiVersion": "filstar.io/v1alpha1", "kind": "Sector",
        "metadata": {"name": "t01000-7", "namespace": "ns", "uid": "s", "resourceVersion": version},
        "spec": {"minerRef": {"name": "m"}, "groupRef": {"name": "g"}, "number": 7,
            "sealProof": "StackedDrg2KiBV1P1"},
        "status": {"phase": phase},
    })
}

async fn evict(bench: &mut Bench) -> Result<(), Error> {
    let action = Action::EvictPod {
        id: Id::new("ns", "g-seal-1"),
        uid: "p".into(),
        node: "node-a".into(),
    };
    bench.apply(action).await.result
}

async fn abort(bench: &mut Bench) -> Result<(), Error> {
    let action = Action::AbortSector {
        id: Id::new("ns", "t01000-7"),
        uid: "s".into(),
        resource_version: "10".into(),
        reason: "a test".into(),
        gone: None,
    };
    bench.apply(action).await.result
}

#[tokio::test]
async fn a_pod_is_evicted_by_its_uid() {
    let mut bench = Bench::new().await;
    bench.server.put(node(true));
    bench.server.put(pod("p"));
    evict(&mut bench).await.unwrap();
    let asked = bench.server.calls("eviction");
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0]["deleteOptions"]["preconditions"]["uid"], "p");
    evict(&mut bench).await.unwrap();
    assert_eq!(
        bench.server.calls("eviction").len(),
        1,
        "it is leaving already"
    );
}

#[tokio::test]
async fn a_pod_of_that_name_that_is_another_one_is_not_evicted() {
    let mut bench = Bench::new().await;
    bench.server.put(node(true));
    bench.server.put(pod("younger"));
    assert!(matches!(evict(&mut bench).await, Err(Error::Gone)));
    assert!(bench.server.calls("eviction").is_empty());
}

#[tokio::test]
async fn nobody_is_evicted_from_a_node_that_is_open_again() {
    let mut bench = Bench::new().await;
    bench.server.put(node(false));
    bench.server.put(pod("p"));
    assert!(matches!(
        evict(&mut bench).await,
        Err(Error::NoLongerDue(_))
    ));
    assert!(bench.server.calls("eviction").is_empty());
}

#[tokio::test]
async fn a_budget_that_refuses_is_known_to_the_world_until_the_pod_goes() {
    let mut bench = Bench::new().await;
    bench.server.put(node(true));
    bench.server.put(pod("p"));
    let text = "The disruption budget keep needs 1 healthy pods and has 1 currently";
    bench.server.refuse("eviction", 0, text);
    let refused = evict(&mut bench).await;
    assert!(
        matches!(refused, Err(Error::EvictionRefused { .. })),
        "{refused:?}"
    );
    let known = &bench.world.refused[&Id::new("ns", "g-seal-1")];
    assert_eq!(
        (known.budget.as_deref(), known.uid.as_str()),
        (Some("keep"), "p")
    );
}

#[tokio::test]
async fn a_sector_off_chain_is_deleted_as_it_was_judged() {
    let mut bench = Bench::new().await;
    bench.server.put(sector("10", "PC1"));
    abort(&mut bench).await.unwrap();
    let deleted = bench.server.calls("DELETE");
    assert_eq!(
        deleted[0]["preconditions"],
        json!({"uid": "s", "resourceVersion": "10"})
    );
}

#[tokio::test]
async fn a_sector_that_changed_or_got_on_chain_meanwhile_is_not_deleted() {
    let mut bench = Bench::new().await;
    bench.server.put(sector("11", "PC1"));
    assert!(matches!(abort(&mut bench).await, Err(Error::Conflict)));
    bench.server.put(sector("10", "WaitSeed"));
    assert!(matches!(
        abort(&mut bench).await,
        Err(Error::NoLongerDue(_))
    ));
    bench.server.put(sector("10", "PreCommitting"));
    bench.server.put(message(MESSAGE));
    assert!(matches!(
        abort(&mut bench).await,
        Err(Error::NoLongerDue(_))
    ));
    assert!(bench.server.calls("DELETE").is_empty());
}

#[tokio::test]
async fn a_pod_that_is_refused_is_known_to_the_world_until_it_is_made() {
    let mut bench = Bench::new().await;
    let id = Id::new("ns", "g-seal-1");
    let make = || Action::CreatePod {
        pod: Box::new(serde_json::from_value(pod("p")).unwrap()),
    };
    bench.server.refuse("create", 0, "violates PodSecurity");
    let refused = bench.apply(make()).await.result;
    assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
    let known = bench.world.unmade(&id).unwrap();
    assert!(known.contains("violates PodSecurity"), "{known}");
    bench.server.allow("create");
    bench.apply(make()).await.result.unwrap();
    assert!(bench.world.unmade.is_empty());
}

fn sealing_node(spec: &Value) -> Value {
    json!({
        "apiVersion": "filstar.io/v1alpha1", "kind": "SealingNode",
        "metadata": {"name": "node-c", "uid": "n", "resourceVersion": "10"}, "spec": spec,
    })
}

async fn forget(bench: &mut Bench) -> Result<(), Error> {
    let (id, uid) = (Id::new("", "node-c"), "n".to_owned());
    bench
        .apply(Action::DeleteSealingNode { id, uid })
        .await
        .result
}

#[tokio::test]
async fn a_sealing_node_is_deleted_as_it_was_read_and_only_without_node_and_maintenance() {
    let mut bench = Bench::new().await;
    let mut back = node(false);
    back["metadata"]["name"] = json!("node-c");
    bench.server.put(back);
    assert!(matches!(
        forget(&mut bench).await,
        Err(Error::NoLongerDue(_))
    ));
    bench.server.put(sealing_node(
        &json!({"maintenance": {"reason": "new disks"}}),
    ));
    assert!(matches!(
        forget(&mut bench).await,
        Err(Error::NoLongerDue(_))
    ));
    assert!(bench.server.calls("DELETE").is_empty());
    bench.server.put(sealing_node(&json!({})));
    forget(&mut bench).await.unwrap();
    let deleted = bench.server.calls("DELETE");
    assert_eq!(
        deleted[0]["preconditions"],
        json!({"uid": "n", "resourceVersion": "10"})
    );
}

/// A sector with files on node-a, which a person gave up.
fn given_up() -> Value {
    let mut object = sector("10", "PC1");
    object["metadata"]["annotations"] = json!({"filstar.io/forget-node": "node-a", "keep": "this"});
    object["status"]["binding"] = json!({"node": "node-a", "scratch": "/scratch"});
    object
}

#[tokio::test]
async fn a_sector_ends_or_begins_anew_for_a_gone_node_only_if_there_is_none_at_that_very_moment() {
    let id = || Id::new("ns", "t01000-7");
    let end = || Action::AbortSector {
        id: id(),
        uid: "s".into(),
        resource_version: "10".into(),
        reason: "a test".into(),
        gone: Some("node-a".into()),
    };
    let begin = || Action::PatchSector {
        id: id(),
        status: Box::default(),
        resource_version: "10".into(),
        gone: Some("node-a".into()),
    };
    for make in [&end as &dyn Fn() -> Action, &begin] {
        let mut bench = Bench::new().await;
        bench.server.put(given_up());
        bench.server.put(node(false));
        let result = bench.apply(make()).await.result;
        assert!(matches!(result, Err(Error::NoLongerDue(_))), "{result:?}");
        assert!(bench.server.calls("DELETE").is_empty());
        assert!(bench.server.patches().is_empty());
        let mut bench = Bench::new().await;
        bench.server.put(given_up());
        bench.apply(make()).await.result.unwrap();
    }
}

#[tokio::test]
async fn the_word_that_gives_a_node_up_is_taken_back_unless_the_node_is_gone_with_the_files() {
    let clear = || Action::ClearForgetNode {
        id: Id::new("ns", "t01000-7"),
        resource_version: "10".into(),
    };
    let mut bench = Bench::new().await;
    bench.server.put(given_up());
    let result = bench.apply(clear()).await.result;
    assert!(matches!(result, Err(Error::NoLongerDue(_))), "{result:?}");
    assert!(bench.server.patches().is_empty());
    bench.server.put(node(false));
    bench.apply(clear()).await.result.unwrap();
    let left = bench.server.get("t01000-7");
    assert_eq!(left["metadata"]["annotations"], json!({"keep": "this"}));
    assert_eq!(left["status"]["phase"], "PC1");
    // It changed since: perhaps it is bound by now.
    let result = bench.apply(clear()).await.result;
    assert!(matches!(result, Err(Error::Conflict)), "{result:?}");
    let mut unbound = given_up();
    unbound["status"] = json!({"phase": "Allocated"});
    let mut bench = Bench::new().await;
    bench.server.put(unbound);
    bench.apply(clear()).await.result.unwrap();
}

#[tokio::test]
async fn a_pod_that_is_not_waited_for_is_a_prover_and_goes_at_once() {
    let mut bench = Bench::new().await;
    let forget = || Action::ForgetPod {
        id: Id::new("ns", "g-seal-1"),
        uid: "p".into(),
        reason: "a test".into(),
    };
    bench.server.put(pod("p"));
    let refused = bench.apply(forget()).await.result;
    assert!(matches!(refused, Err(Error::NoLongerDue(_))), "{refused:?}");
    let mut prover = pod("p");
    prover["metadata"]["labels"]["filstar.io/post-batch"] = json!("b");
    bench.server.put(prover);
    bench.apply(forget()).await.result.unwrap();
    let asked = bench.server.calls("DELETE");
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0]["gracePeriodSeconds"], 0);
    assert_eq!(asked[0]["preconditions"]["uid"], "p");
}
