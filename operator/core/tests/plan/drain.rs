//! Draining a node, as data: every phase, every policy, with and without a deadline.

use crate::support::*;
use filstar_core::action::{Action, NodeChange};
use filstar_core::plan::drain::{Claim, node_is_closing, view};
use filstar_core::plan::plan;
use filstar_core::world::{Refused, World};
use filstar_crds::{
    Failure, MessageKind, MessageState, NotOnChain, Sector, SectorPhase, TaskClass, TaskKind,
};
use serde_json::json;

/// A node that somebody cordoned.
fn cordoned(name: &str) -> k8s_openapi::api::core::v1::Node {
    let mut node = node(name);
    node.metadata.resource_version = Some("2".into());
    node.spec = Some(serde_json::from_value(json!({"unschedulable": true})).unwrap());
    node
}

/// What a person writes into `spec.maintenance` of node-a; the deadline in seconds.
pub(super) fn maintenance(world: &mut World, policy: Option<&str>, deadline: Option<i64>) {
    let deadline = deadline.map(|s| at(s).wall.to_string());
    let wish = json!({
        "apiVersion": "filstar.io/v1alpha1", "kind": "SealingNode",
        "metadata": {"name": "node-a", "uid": "sn", "resourceVersion": "2", "generation": 2},
        "spec": {"maintenance": {"notOnChain": policy, "deadline": deadline, "reason": "new disks"}},
    });
    world
        .sealing_nodes
        .apply(serde_json::from_value(wish).unwrap());
}

fn running(phase: SectorPhase, kind: TaskKind) -> Sector {
    with_task(sector(phase), kind, Some(json!({"state": "Running"})))
}

fn failed(phase: SectorPhase) -> Sector {
    let mut sector = sector(SectorPhase::Failed);
    sector.status.as_mut().unwrap().failure = Some(Failure {
        phase,
        class: TaskClass::Fatal,
        message: "no".into(),
    });
    sector
}

fn claim_of(sector: &Sector, policy: &str, deadline: Option<i64>, now: i64) -> Option<Claim> {
    let mut world = world();
    maintenance(&mut world, Some(policy), deadline);
    world.sectors.apply(sector.clone());
    let view = view(&world, at(now), "node-a").unwrap();
    view.sectors.first().map(|s| s.claim)
}

#[test]
fn a_sector_off_chain_goes_or_waits_by_policy_and_its_task_ends_by_the_deadline() {
    use Claim::{Goes, MayEnd, Stops, Waits};
    for sector in [
        running(SectorPhase::Packing, TaskKind::AddPiece),
        running(SectorPhase::Pc1, TaskKind::Pc1),
        running(SectorPhase::Pc2, TaskKind::Pc2),
    ] {
        assert_eq!(claim_of(&sector, "Delete", None, 0), Some(Goes));
        assert_eq!(claim_of(&sector, "Delete", Some(100), 0), Some(Goes));
        assert_eq!(claim_of(&sector, "Checkpoint", None, 0), Some(Stops));
        assert_eq!(claim_of(&sector, "Checkpoint", Some(100), 0), Some(MayEnd));
        assert_eq!(claim_of(&sector, "Checkpoint", Some(100), 100), Some(Stops));
    }
    for sector in [
        sector(SectorPhase::Packing),
        sector(SectorPhase::Pc1),
        sector(SectorPhase::Pc2),
        sector(SectorPhase::PreCommitting),
        failed(SectorPhase::Pc1),
    ] {
        for deadline in [None, Some(100)] {
            assert_eq!(claim_of(&sector, "Delete", deadline, 0), Some(Goes));
            assert_eq!(claim_of(&sector, "Checkpoint", deadline, 0), Some(Waits));
        }
    }
}

#[test]
fn a_sector_on_chain_is_finished_whatever_the_policy_and_the_deadline_say() {
    for sector in [
        sector(SectorPhase::WaitSeed),
        running(SectorPhase::C1, TaskKind::C1),
        running(SectorPhase::C2, TaskKind::C2),
        sector(SectorPhase::Committing),
        sector(SectorPhase::Finalizing),
        sector(SectorPhase::Landing),
        failed(SectorPhase::C2),
    ] {
        for policy in ["Delete", "Checkpoint"] {
            for now in [0, 100, 200] {
                let claim = claim_of(&sector, policy, Some(100), now);
                assert_eq!(claim, Some(Claim::Finishes), "{:?}", sector.status);
            }
        }
    }
}

#[test]
fn a_sector_whose_files_are_gone_asks_nothing_of_its_node() {
    for phase in [SectorPhase::Proving, SectorPhase::Landing] {
        let mut landed = sector(phase);
        landed.status.as_mut().unwrap().store = Some(filstar_crds::StoreRef {
            name: "store-a".into(),
            landed: true,
        });
        assert_eq!(claim_of(&landed, "Delete", None, 0), None);
    }
    let mut unbound = sector(SectorPhase::Allocated);
    unbound.status.as_mut().unwrap().binding = None;
    assert_eq!(claim_of(&unbound, "Delete", None, 0), None);
}

#[test]
fn a_pre_commit_that_is_wished_for_or_seen_makes_a_sector_one_on_chain() {
    let claim = |world: &mut World, phase| {
        maintenance(world, Some("Delete"), None);
        world.sectors.apply(sector(phase));
        view(world, at(0), "node-a").unwrap().sectors[0].claim
    };
    let name = "t01000-0-precommit-1";
    let wished = |state| message(name, MessageKind::PreCommit, signed(state, 3));
    let mut pushed = world();
    pushed.messages.apply(wished(MessageState::Pushed));
    assert_eq!(
        claim(&mut pushed, SectorPhase::PreCommitting),
        Claim::Finishes
    );
    let mut failed = world();
    failed.messages.apply(wished(MessageState::Failed));
    assert_eq!(claim(&mut failed, SectorPhase::PreCommitting), Claim::Goes);
    let mut seen = world();
    let on_chain = Some(pre_commit(995, COMM_R));
    chain_mut(&mut seen).precommits.insert(0, on_chain);
    assert_eq!(claim(&mut seen, SectorPhase::Pc2), Claim::Finishes);
}

#[test]
fn a_sector_that_had_a_pre_commit_stays_while_the_chain_does_not_answer() {
    let mut world = world();
    maintenance(&mut world, Some("Delete"), None);
    world.chains.clear();
    let mut stepped_back = sector(SectorPhase::Pc2);
    stepped_back.status.as_mut().unwrap().commit_deadline = Some(90_000);
    world.sectors.apply(stepped_back);
    let held = view(&world, at(0), "node-a").unwrap().sectors.remove(0);
    assert_eq!(held.claim, Claim::Finishes);
    assert!(held.why.contains("the chain has not said"), "{}", held.why);
}

fn with(sector: Sector) -> World {
    let mut world = world();
    world.nodes.apply(cordoned("node-a"));
    world.sectors.apply(sector);
    world
}

fn evicts(actions: &[Action]) -> bool {
    actions.iter().any(
        |a| matches!(a, Action::EvictPod { uid, node, .. } if !uid.is_empty() && node == "node-a"),
    )
}

#[test]
fn a_checkpointed_sector_loses_its_task_and_nothing_else_and_goes_on_afterwards() {
    let world = with(running(SectorPhase::Pc1, TaskKind::Pc1));
    let actions = plan(&world, at(0));
    let status = new_status(&actions);
    assert_eq!(reason(status), "NodeMaintenance");
    assert_eq!(
        (status.phase, &status.task),
        (Some(SectorPhase::Pc1), &None)
    );
    assert!(status.binding.is_some() && status.ticket.is_some());
    assert!(!evicts(&actions), "the task is taken away first");
    let mut world = world;
    let mut waits = sector(SectorPhase::Pc1);
    waits.metadata.resource_version = Some("2".into());
    waits.status = Some(status.clone());
    world.sectors.apply(waits);
    assert!(evicts(&plan(&world, at(1))));
    let mut back = node("node-a");
    back.metadata.resource_version = Some("3".into());
    world.nodes.apply(back);
    let actions = plan(&world, at(2));
    let task = new_status(&actions).task.as_ref().unwrap();
    assert_eq!((task.kind, task.from_scratch), (TaskKind::Pc1, false));
}

#[test]
fn a_result_that_is_there_is_taken_over_and_no_further_task_begins() {
    let done = with_task(
        sector(SectorPhase::Pc1),
        TaskKind::Pc1,
        Some(json!({"state": "Succeeded", "result": {"commD": COMM_D}})),
    );
    let status = new_status(&plan(&with(done), at(0))).clone();
    assert_eq!((status.phase, status.task), (Some(SectorPhase::Pc2), None));
}

#[test]
fn no_pre_commit_is_wished_for_from_a_closing_node() {
    let actions = plan(&with(sector(SectorPhase::PreCommitting)), at(0));
    let wishes = |a: &Action| matches!(a, Action::CreateMessage { .. });
    assert!(!actions.iter().any(wishes), "{actions:#?}");
    assert_eq!(reason(new_status(&actions)), "NodeMaintenance");
}

#[test]
fn a_sector_on_chain_gets_its_tasks_on_a_closing_node_and_keeps_the_pods() {
    let mut c1 = sector(SectorPhase::C1);
    c1.status.as_mut().unwrap().seed = Some(filstar_crds::Randomness {
        epoch: 1005,
        value: "AA==".into(),
    });
    let mut world = with(c1);
    let on_chain = Some(pre_commit(995, COMM_R));
    chain_mut(&mut world).precommits.insert(0, on_chain);
    let actions = plan(&world, at(0));
    assert_eq!(
        new_status(&actions).task.as_ref().unwrap().kind,
        TaskKind::C1
    );
    assert!(!evicts(&actions), "{actions:#?}");
    assert!(
        actions
            .iter()
            .any(|a| matches!(a, Action::CreateBudget { .. })),
        "kubectl drain must wait as well"
    );
}

#[test]
fn a_new_sector_is_not_bound_to_a_closing_node() {
    let mut fresh = sector(SectorPhase::Allocated);
    fresh.status.as_mut().unwrap().binding = None;
    let mut world = with(fresh);
    assert_eq!(new_status(&plan(&world, at(0))).binding, None);
    world.nodes.apply(node("node-b"));
    world.pods.apply(sealer_pod("node-b"));
    let actions = plan(&world, at(0));
    assert_eq!(
        new_status(&actions).binding.as_ref().unwrap().node,
        "node-b"
    );
    assert!(node_is_closing(&world, "node-a").is_some());
    assert!(node_is_closing(&world, "node-b").is_none());
}

#[test]
fn delete_ends_sectors_off_chain_only_and_only_at_the_version_that_was_judged() {
    let aborts = |sector: Sector| {
        let mut world = world();
        maintenance(&mut world, Some("Delete"), None);
        world.sectors.apply(sector);
        plan(&world, at(0)).into_iter().find_map(|a| match a {
            Action::AbortSector {
                resource_version, ..
            } => Some(resource_version),
            _ => None,
        })
    };
    assert_eq!(
        aborts(running(SectorPhase::Pc1, TaskKind::Pc1)).as_deref(),
        Some("1")
    );
    assert_eq!(aborts(sector(SectorPhase::WaitSeed)), None);
}

#[test]
fn the_policy_of_the_group_counts_when_the_node_says_none() {
    let mut world = world();
    let mut group = group();
    group.spec.drain.not_on_chain = NotOnChain::Delete;
    group.metadata.resource_version = Some("2".into());
    world.groups.apply(group);
    world.sectors.apply(sector(SectorPhase::Pc1));
    maintenance(&mut world, None, None);
    assert_eq!(
        view(&world, at(0), "node-a").unwrap().sectors[0].claim,
        Claim::Goes
    );
}

#[test]
fn a_budget_stands_while_a_sector_needs_its_pods_and_goes_before_the_pods_do() {
    let mut world = with(sector(SectorPhase::Pc1));
    let mut waits = sector(SectorPhase::WaitSeed);
    waits.metadata.name = Some("t01000-1".into());
    waits.metadata.uid = Some("uid-1".into());
    waits.spec.number = 1;
    world.sectors.apply(waits.clone());
    let budget = plan(&world, at(0)).into_iter().find_map(|a| match a {
        Action::CreateBudget { budget } => Some(*budget),
        _ => None,
    });
    let mut budget = budget.unwrap();
    let spec = budget.spec.clone().unwrap();
    let selector = spec.selector.unwrap().match_labels.unwrap();
    assert_eq!(selector["filstar.io/node"], "node-a");
    budget.metadata.uid = Some("b".into());
    budget.metadata.resource_version = Some("5".into());
    world.budgets.apply(budget);
    assert!(
        !plan(&world, at(0))
            .iter()
            .any(|a| matches!(a, Action::CreateBudget { .. }))
    );
    let status = waits.status.as_mut().unwrap();
    status.phase = Some(SectorPhase::Proving);
    waits.metadata.resource_version = Some("2".into());
    world.sectors.apply(waits);
    let actions = plan(&world, at(0));
    let deletes = |a: &Action| matches!(a, Action::DeleteBudget { uid, .. } if uid == "b");
    assert!(actions.iter().any(deletes), "{actions:#?}");
    assert!(!evicts(&actions), "the budget goes first");
    world.budgets = filstar_core::world::Index::default();
    assert!(evicts(&plan(&world, at(1))));
}

#[test]
fn an_evicted_pod_is_not_made_again_and_no_pod_is_deleted_on_a_closing_node() {
    let mut world = with(sector(SectorPhase::Pc1));
    world.groups = filstar_core::world::Index::default();
    let actions = plan(&world, at(0));
    assert!(
        !actions
            .iter()
            .any(|a| matches!(a, Action::DeletePod { .. })),
        "{actions:#?}"
    );
    let mut world = with(sector(SectorPhase::Pc1));
    world.pods = filstar_core::world::Index::default();
    let actions = plan(&world, at(0));
    assert!(
        !actions
            .iter()
            .any(|a| matches!(a, Action::CreatePod { .. })),
        "{actions:#?}"
    );
    assert!(view(&world, at(0), "node-a").unwrap().is_drained());
}

#[test]
fn a_foreign_budget_that_refuses_is_named() {
    let mut world = with(sector(SectorPhase::Pc1));
    let (id, pod) = world.pods.iter().next().unwrap();
    let refused = Refused {
        uid: pod.metadata.uid.clone().unwrap(),
        budget: Some("keep-two".into()),
        message: "The disruption budget keep-two needs 2 healthy pods and has 2 currently".into(),
    };
    let id = id.clone();
    world.refused.insert(id, refused);
    let blocked = view(&world, at(0), "node-a").unwrap().blocked.unwrap();
    assert_eq!(blocked.reason, "DisruptionBudget");
    assert!(
        blocked.message.contains("ns/keep-two"),
        "{}",
        blocked.message
    );
}

#[test]
fn a_deadline_that_is_over_is_told_with_what_is_left_and_gives_nothing_up() {
    let mut world = world();
    maintenance(&mut world, Some("Delete"), Some(100));
    world.sectors.apply(running(SectorPhase::C2, TaskKind::C2));
    assert!(!view(&world, at(99), "node-a").unwrap().overdue);
    let view = view(&world, at(100), "node-a").unwrap();
    let blocked = view.blocked.unwrap();
    assert_eq!(blocked.reason, "DeadlineReached");
    assert!(
        blocked.message.contains("ns/t01000-0 in C2"),
        "{}",
        blocked.message
    );
    let actions = plan(&world, at(100));
    assert!(
        !evicts(&actions)
            && !actions
                .iter()
                .any(|a| matches!(a, Action::AbortSector { .. }))
    );
}

#[test]
fn a_sector_on_chain_without_a_pod_to_finish_it_says_what_to_do() {
    let mut world = with(sector(SectorPhase::C2));
    world.pods = filstar_core::world::Index::default();
    let blocked = view(&world, at(0), "node-a").unwrap().blocked.unwrap();
    assert_eq!(blocked.reason, "SectorCannotFinish");
    assert!(blocked.message.contains("uncordon"), "{}", blocked.message);
}

#[test]
fn maintenance_cordons_once_and_undoes_only_its_own_cordon() {
    let change = |world: &World| {
        plan(world, at(0)).into_iter().find_map(|a| match a {
            Action::PatchNode { change, .. } => Some(change),
            _ => None,
        })
    };
    let mut open = world();
    maintenance(&mut open, None, None);
    assert_eq!(change(&open), Some(NodeChange::Cordon));
    let mut theirs = world();
    theirs.nodes.apply(cordoned("node-a"));
    assert_eq!(change(&theirs), None);
    maintenance(&mut theirs, None, None);
    assert_eq!(change(&theirs), None);
    let mut ours = world();
    let mut node = cordoned("node-a");
    node.metadata.annotations = Some([("filstar.io/cordon".into(), "ours".into())].into());
    ours.nodes.apply(node);
    assert_eq!(change(&ours), Some(NodeChange::Uncordon));
}

#[test]
fn a_prover_moves_between_deadlines_and_only_where_another_node_takes_it() {
    let mut world = world();
    world.nodes.apply(cordoned("node-a"));
    world.pods = filstar_core::world::Index::default();
    let batch = |state: &str| {
        serde_json::from_value::<filstar_crds::PostBatch>(json!({
            "apiVersion": "filstar.io/v1alpha1", "kind": "PostBatch",
            "metadata": {"name": "b", "namespace": NS, "uid": "b", "resourceVersion": "1"},
            "spec": {"minerRef": {"name": "m"}, "parametersPath": "/p", "lane": {"memory": "1Gi"}},
            "status": {"deadlines": [{"index": 3, "open": 10, "state": state, "sectors": 1}]},
        }))
        .unwrap()
    };
    let pod = json!({
        "metadata": {"name": "prover-b", "namespace": NS, "uid": "p", "resourceVersion": "1",
            "labels": {"filstar.io/post-batch": "b", "app.kubernetes.io/managed-by": "filstar"}},
        "spec": {"nodeName": "node-a", "containers": []},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    });
    world.pods.apply(serde_json::from_value(pod).unwrap());
    world.batches.apply(batch("Accepted"));
    let blocked = view(&world, at(0), "node-a").unwrap().blocked.unwrap();
    assert_eq!(blocked.reason, "ProverHasNoOtherNode");
    assert!(!evicts(&plan(&world, at(0))));
    world.nodes.apply(node("node-b"));
    assert!(evicts(&plan(&world, at(0))));
    let mut proving = batch("Proving");
    proving.metadata.resource_version = Some("2".into());
    world.batches.apply(proving);
    assert!(!evicts(&plan(&world, at(0))));
}
