//! Pledging and pods, as data.

use crate::support::*;
use filstar_chain::types::BitField;
use filstar_core::action::Action;
use filstar_core::plan::{plan, pledge, pods};
use filstar_core::world::{ChainProblem, Settings, World};
use filstar_crds::SectorPhase;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

fn pledged(world: &World) -> Vec<String> {
    plan(world, at(0))
        .into_iter()
        .filter_map(|a| match a {
            Action::CreateSector { id, .. } => Some(id.name),
            _ => None,
        })
        .collect()
}

#[test]
fn a_group_pledges_one_sector_at_a_time_up_to_its_number_in_flight() {
    let mut world = world();
    assert_eq!(pledged(&world), ["t01000-0"]);
    world.sectors.apply(sector(SectorPhase::Pc1));
    assert_eq!(pledged(&world), ["t01000-1"]);
    let mut second = sector(SectorPhase::Pc1);
    second.metadata.name = Some("t01000-1".into());
    second.spec.number = 1;
    world.sectors.apply(second);
    assert!(pledged(&world).is_empty());
}

#[test]
fn numbers_that_the_actor_used_or_the_miner_reserves_are_skipped() {
    let mut world = world();
    let mut miner = miner();
    miner.metadata.resource_version = Some("2".into());
    miner.spec.sector_numbers.max = Some(20);
    miner.spec.sector_numbers.reserved = vec!["0-4".into()];
    world.miners.apply(miner);
    chain_mut(&mut world).allocated = BitField::try_from_bits([5, 6]).unwrap();
    assert_eq!(pledged(&world), ["t01000-7"]);
}

#[test]
fn no_sector_is_pledged_past_the_last_number() {
    let mut world = world();
    chain_mut(&mut world).allocated = BitField::try_from_bits([0, 1]).unwrap();
    assert!(pledged(&world).is_empty());
    assert!(!crate::gates::verdict(&world, pledge::Gate::SectorNumber).open);
}

#[test]
fn nothing_is_pledged_while_the_chain_cannot_be_trusted() {
    let mut world = world();
    world.chains.get_mut(&id("m")).unwrap().problem =
        Some(ChainProblem::OutOfSync("the head is 40 epochs old".into()));
    assert!(pledged(&world).is_empty());
    let gate = crate::gates::verdict(&world, pledge::Gate::ChainSync);
    assert!(!gate.open && gate.reason.contains("40 epochs"), "{gate:?}");
}

#[test]
fn every_lane_gets_a_pod_on_every_node_that_fits() {
    let mut world = world();
    world.nodes.apply(node("node-b"));
    let actions = plan(&world, at(0));
    let made: Vec<_> = actions
        .iter()
        .filter_map(|a| match a {
            Action::CreatePod { pod } => Some(pod),
            _ => None,
        })
        .collect();
    assert_eq!(made.len(), 1, "node-a has its pod");
    let spec = made[0].spec.as_ref().unwrap();
    let limits = spec.containers[0]
        .resources
        .as_ref()
        .unwrap()
        .limits
        .as_ref()
        .unwrap();
    assert_eq!(limits["cpu"].0, "1");
    assert_eq!(
        spec.containers[0]
            .resources
            .as_ref()
            .unwrap()
            .requests
            .as_ref(),
        Some(limits)
    );
    assert!(spec.node_name.is_none(), "the scheduler places pods");
    assert!(
        actions
            .iter()
            .any(|a| matches!(a, Action::EnsureAccess { namespace } if namespace == NS))
    );
}

#[test]
fn pods_take_image_secrets_and_lag_of_what_the_operator_and_the_miner_say() {
    let mut world = world();
    world.settings = Settings {
        sealer_image: "registry.example/sealer:1".into(),
        pull_policy: "Always".into(),
        pull_secrets: vec!["registry".into()],
    };
    world.nodes.apply(node("node-b"));
    world.batches.apply(serde_json::from_value(json!({
        "apiVersion": "filstar.io/v1alpha1",
        "kind": "PostBatch",
        "metadata": {"name": "b", "namespace": NS, "uid": "b-uid", "resourceVersion": "1"},
        "spec": {"minerRef": {"name": "m"}, "parametersPath": "/p", "lane": {"cpus": 0, "memory": "1Gi"}},
    }))
    .unwrap());
    let actions = plan(&world, at(0));
    let made: Vec<_> = actions
        .iter()
        .filter_map(|a| match a {
            Action::CreatePod { pod } => pod.spec.as_ref(),
            _ => None,
        })
        .collect();
    assert_eq!(made.len(), 2, "a sealer and a prover");
    for spec in &made {
        let container = &spec.containers[0];
        assert_eq!(
            container.image.as_deref(),
            Some("registry.example/sealer:1")
        );
        assert_eq!(container.image_pull_policy.as_deref(), Some("Always"));
        let secrets = spec.image_pull_secrets.as_ref().unwrap();
        assert_eq!(secrets[0].name, "registry");
    }
    let lag = world
        .miners
        .get(&id("m"))
        .unwrap()
        .spec
        .chain
        .max_lag_epochs;
    let prover = made.iter().find(|s| s.containers[0].name == "prove");
    let env = prover.unwrap().containers[0].env.as_ref().unwrap();
    let told = env.iter().find(|e| e.name == "FILSTAR_MAX_LAG_EPOCHS");
    assert_eq!(told.unwrap().value, Some(lag.to_string()));
}

#[test]
fn a_node_that_is_too_small_says_so_and_gets_no_pod() {
    let mut big = group();
    big.spec.lanes[0].cpus = 8;
    let mut world = world();
    big.metadata.resource_version = Some("2".into());
    world.groups.apply(big);
    let fits = pods::fit(&world, &id("g"));
    assert_eq!(
        fits[0].problem.as_deref(),
        Some("lane seal needs 8 CPUs, 1 are free")
    );
}

#[test]
fn a_cordoned_node_keeps_its_pod_and_gets_no_new_one() {
    let mut world = world();
    let mut cordoned = node("node-a");
    cordoned.metadata.resource_version = Some("2".into());
    cordoned.spec =
        Some(serde_json::from_value(serde_json::json!({"unschedulable": true})).unwrap());
    world.nodes.apply(cordoned);
    let actions = plan(&world, at(0));
    assert!(
        !actions
            .iter()
            .any(|a| matches!(a, Action::CreatePod { .. } | Action::DeletePod { .. })),
        "{actions:#?}"
    );
}

#[test]
fn a_pod_with_work_outlives_a_change_of_its_template() {
    let mut world = world();
    let busy = with_task(
        sector(SectorPhase::Pc1),
        filstar_crds::TaskKind::Pc1,
        Some(serde_json::json!({"state": "Running"})),
    );
    world.sectors.apply(busy);
    assert!(
        !plan(&world, at(0))
            .iter()
            .any(|a| matches!(a, Action::DeletePod { .. }))
    );
    let idle = crate::support::world();
    assert!(
        plan(&idle, at(0))
            .iter()
            .any(|a| matches!(a, Action::DeletePod { .. }))
    );
}

/// A sector on node-a, another that has no node yet, and a second sealer pod on node-b.
fn with_second_node(pod: Pod) -> World {
    let mut world = world();
    world.nodes.apply(node("node-b"));
    world.sectors.apply(sector(SectorPhase::WaitSeed));
    world.sectors.apply(fresh_sector());
    chain_mut(&mut world)
        .precommits
        .insert(0, Some(pre_commit(995, COMM_R)));
    world.pods.apply(pod);
    world
}

fn made_now(node: &str) -> Pod {
    let mut pod = sealer_pod(node);
    pod.metadata.creation_timestamp = Some(Time(at(0).wall));
    pod
}

/// The node that the second sector is bound to.
fn bound(world: &World, second: i64) -> Option<String> {
    plan(world, at(second)).iter().find_map(|a| match a {
        Action::PatchSector { id, status, .. } if id.name == "t01000-1" => {
            status.binding.as_ref().map(|b| b.node.clone())
        }
        _ => None,
    })
}

#[test]
fn new_sectors_go_to_the_node_with_the_fewest_even_while_its_pod_starts() {
    let mut starting = made_now("node-b");
    starting.status = None;
    let world = with_second_node(starting);
    assert_eq!(bound(&world, 5), None);
    assert_eq!(
        bound(&world, 120).as_deref(),
        Some("node-a"),
        "a pod that never comes holds up nobody"
    );
}

#[test]
fn new_sectors_wait_for_a_ready_pod_that_has_yet_to_measure_its_scratch() {
    let mut silent = made_now("node-b");
    silent.metadata.annotations = None;
    let world = with_second_node(silent);
    assert_eq!(bound(&world, 5), None);
    assert_eq!(bound(&world, 120).as_deref(), Some("node-a"));
    let world = with_second_node(made_now("node-b"));
    assert_eq!(bound(&world, 5).as_deref(), Some("node-b"));
}

#[test]
fn sectors_of_other_groups_do_not_make_two_of_one_group_wait_for_one_pod() {
    let mut world = with_second_node(made_now("node-b"));
    for number in [7, 8] {
        let mut other = sector(SectorPhase::WaitSeed);
        other.metadata.name = Some(format!("t01000-{number}"));
        other.spec.number = number;
        other.spec.group_ref.name = "other".into();
        let binding = other.status.as_mut().and_then(|s| s.binding.as_mut());
        binding.unwrap().node = "node-b".into();
        world.sectors.apply(other);
    }
    assert_eq!(bound(&world, 5).as_deref(), Some("node-b"));
}
