//! What people do by mistake, and what they are told: two Miners of one actor, objects that are missing, pods that hang.

use crate::gates::verdict;
use crate::pods::group_says;
use crate::support::*;
use filstar_core::action::{Action, StatusPatch};
use filstar_core::plan::plan;
use filstar_core::plan::pledge::Gate;
use filstar_core::status::status;
use filstar_core::world::{Index, World};
use filstar_crds::*;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

const WISH: &str = "t01000-0-precommit-1";

/// A Miner of the same actor in another namespace, made so many seconds after the one that is there.
fn twin(world: &mut World, later: i64) {
    let at = |second| Some(Time(Timestamp::from_second(second).unwrap()));
    let mut mine = miner();
    newer(&mut mine.metadata.resource_version);
    mine.metadata.creation_timestamp = at(1_000);
    let mut other = miner();
    other.metadata.namespace = Some("other".into());
    other.metadata.creation_timestamp = at(1_000 + later);
    world.miners.apply(mine);
    world.miners.apply(other);
}

/// A sector that waits for its pre-commit, in this state.
fn waiting(state: ChainMessageStatus) -> World {
    let mut world = world();
    let mut sector = sector(SectorPhase::PreCommitting);
    sector.status.as_mut().unwrap().messages = Some(MessageRefs {
        pre_commit: Some(WISH.into()),
        ..MessageRefs::default()
    });
    world.sectors.apply(sector);
    world
        .messages
        .apply(message(WISH, MessageKind::PreCommit, state));
    world
}

fn signs(actions: &[Action]) -> bool {
    let sign = |a: &Action| matches!(a, Action::SignMessage { .. });
    actions.iter().any(sign)
}

#[test]
fn the_younger_of_two_miners_of_one_actor_signs_nothing_and_says_why() {
    let mut older = waiting(ChainMessageStatus::default());
    twin(&mut older, 1);
    assert!(signs(&plan(&older, at(0))), "the older one acts");
    let mut world = waiting(ChainMessageStatus::default());
    twin(&mut world, -1);
    let actions = plan(&world, at(0));
    assert!(!signs(&actions), "{actions:#?}");
    let held = &new_message(&actions).conditions[0];
    assert_eq!(held.reason, "DuplicateActor");
    assert!(held.message.contains("Miner other/m"), "{}", held.message);
}

#[test]
fn what_the_younger_of_two_miners_signed_is_pushed_since_later_nonces_wait_for_it() {
    let mut world = waiting(signed(MessageState::Signed, 0));
    twin(&mut world, -1);
    let actions = plan(&world, at(0));
    let pushes = |a: &Action| matches!(a, Action::PushMessage { .. });
    assert!(actions.iter().any(pushes), "{actions:#?}");
}

#[test]
fn the_younger_of_two_miners_of_one_actor_pledges_and_proves_nothing() {
    let pledges = |world: &World| {
        let actions = plan(world, at(0));
        let creates = |a: &Action| matches!(a, Action::CreateSector { .. });
        actions.iter().any(creates)
    };
    let mut world = world();
    assert!(pledges(&world));
    twin(&mut world, -1);
    assert!(!pledges(&world));
    let gate = verdict(&world, Gate::ChainSync);
    assert!(!gate.open && gate.reason.contains("older"), "{gate:?}");
    let (is, reason, text) = batch_says(&world, "Ready");
    assert_eq!(
        (is.as_str(), reason.as_str()),
        ("False", "DuplicateActor"),
        "{text}"
    );
}

fn batch_says(world: &World, kind: &str) -> (String, String, String) {
    let mut world = world.clone();
    let batch = json!({
        "apiVersion": "filstar.io/v1alpha1", "kind": "PostBatch",
        "metadata": {"name": "b", "namespace": NS, "uid": "b", "resourceVersion": "1", "generation": 1},
        "spec": {"minerRef": {"name": "m"}, "parametersPath": "/p", "lane": {"cpus": 0, "memory": "1Gi"}},
    });
    world.batches.apply(serde_json::from_value(batch).unwrap());
    let said = status(&world, at(0)).into_iter().find_map(|a| match a {
        Action::PatchStatus { status, .. } => match *status {
            StatusPatch::Batch(status) => status.conditions.into_iter().find(|c| c.type_ == kind),
            _ => None,
        },
        _ => None,
    });
    let said = said.unwrap();
    (said.status, said.reason, said.message)
}

#[test]
fn a_group_without_its_miner_is_not_ready_and_names_it() {
    let mut world = world();
    world.miners = Index::default();
    let (is, reason, text) = group_says(&world, "Ready").unwrap();
    assert_eq!((is.as_str(), reason.as_str()), ("False", "NoMiner"));
    assert!(text.contains("Miner m"), "{text}");
}

#[test]
fn a_pod_that_is_not_ready_is_named_with_what_tells_why() {
    let mut world = world();
    let mut pod = sealer_pod("node-a");
    newer(&mut pod.metadata.resource_version);
    let name = pod.metadata.name.clone().unwrap();
    let hangs = json!({"phase": "Pending", "conditions": [{"type": "Ready", "status": "False"}]});
    pod.status = serde_json::from_value(hangs).unwrap();
    world.pods.apply(pod);
    let (is, reason, text) = group_says(&world, "Ready").unwrap();
    assert_eq!((is.as_str(), reason.as_str()), ("False", "PodsNotReady"));
    let wanted = format!("kubectl -n {NS} describe pod {name} says why");
    assert!(text.contains(&wanted), "{text}");
}

#[test]
fn a_sector_that_is_proven_does_not_miss_its_group() {
    let mut world = world();
    world.groups = Index::default();
    world.sectors.apply(sector(SectorPhase::Pc1));
    assert_eq!(reason(new_status(&plan(&world, at(0)))), "NoGroup");
    let mut proven = sector(SectorPhase::Proving);
    newer(&mut proven.metadata.resource_version);
    world.sectors.apply(proven);
    let actions = plan(&world, at(0));
    let says = |a: &Action| matches!(a, Action::PatchSector { .. });
    assert!(!actions.iter().any(says), "{actions:#?}");
}

#[test]
fn a_store_that_is_gone_with_sectors_in_it_is_told_before_their_deadline() {
    let mut world = world();
    let mut landed = sector(SectorPhase::Proving);
    landed.status.as_mut().unwrap().store = Some(StoreRef {
        name: "store-a".into(),
        landed: true,
    });
    world.sectors.apply(landed);
    let (is, ..) = batch_says(&world, "Covered");
    assert_eq!(is, "True");
    world.stores = Index::default();
    let (is, reason, text) = batch_says(&world, "Covered");
    assert_eq!((is.as_str(), reason.as_str()), ("False", "StoreMissing"));
    assert!(
        text.contains("store-a") && text.contains("t01000-0"),
        "{text}"
    );
    let (_, reason, ready) = batch_says(&world, "Ready");
    assert_eq!((reason.as_str(), ready), ("NotCovered", text));
}
