//! Nodes that have left the cluster: who waits for them, for how long, and what becomes of it then.

use crate::support::*;
use filstar_core::action::{Action, StatusPatch};
use filstar_core::plan::plan;
use filstar_core::status::status;
use filstar_core::world::{Id, World};
use filstar_crds::{
    Failure, NotOnChain, SealingNode, Sector, SectorPhase, SectorStatus, StoreRef, TaskClass,
    TaskKind, annotations, conditions,
};
use k8s_openapi::api::core::v1::Node;
use serde_json::json;

/// Six hours, as is the default.
pub(super) const GRACE: i64 = 6 * 3600;

/// Phases that a sector reaches without a pre-commit, and those that it does not.
const OFF_CHAIN: [SectorPhase; 4] = [
    SectorPhase::Packing,
    SectorPhase::Pc1,
    SectorPhase::Pc2,
    SectorPhase::PreCommitting,
];
const NEEDY_ON_CHAIN: [SectorPhase; 4] = [
    SectorPhase::C1,
    SectorPhase::C2,
    SectorPhase::Finalizing,
    SectorPhase::Landing,
];

/// A sector with its files on node-a, which is not there; node-b is, with its pod.
pub(super) fn without_node(sector: Sector, policy: NotOnChain) -> World {
    let mut world = world();
    let mut group = group();
    group.spec.drain.not_on_chain = policy;
    group.spec.pledge.max_in_flight = 0;
    group.metadata.resource_version = Some("2".into());
    world.groups.apply(group);
    let gone: Node = node("node-a");
    world.nodes.delete(&gone);
    world.pods = filstar_core::world::Index::default();
    world.nodes.apply(node("node-b"));
    world.pods.apply(sealer_pod("node-b"));
    world.sectors.apply(sector);
    world
}

/// What people write when the node does not come back.
pub(super) fn forget(sector: &mut Sector, node: &str) {
    let told = (annotations::FORGET_NODE.to_owned(), node.to_owned());
    sector
        .metadata
        .annotations
        .get_or_insert_default()
        .extend([told]);
}

/// Writes what a plan at this second wants for the sector; a word that says nothing any more is taken back first.
pub(super) fn follow(world: &mut World, second: i64) -> SectorStatus {
    let mut actions = plan(world, at(second));
    if takes_back(&actions) {
        change(world, |s| s.metadata.annotations = None);
        actions = plan(world, at(second));
    }
    let next = new_status(&actions).clone();
    change(world, |s| s.status = Some(next.clone()));
    next
}

/// The sector becomes another version of itself.
pub(super) fn change(world: &mut World, how: impl FnOnce(&mut Sector)) {
    let mut sector = world.sectors.get(&id("t01000-0")).unwrap().clone();
    newer(&mut sector.metadata.resource_version);
    how(&mut sector);
    world.sectors.apply(sector);
}

/// Whether a plan takes the word back, and does nothing else with the sector.
pub(super) fn takes_back(actions: &[Action]) -> bool {
    let clears = |a: &Action| matches!(a, Action::ClearForgetNode { .. });
    let writes = |a: &Action| matches!(a, Action::PatchSector { .. } | Action::AbortSector { .. });
    actions.iter().any(clears) && !actions.iter().any(writes)
}

fn node_gone(status: &SectorStatus) -> Option<bool> {
    let mut all = status.conditions.iter();
    let found = all.find(|c| c.type_ == conditions::NODE_GONE)?;
    Some(found.status == "True")
}

pub(super) fn ready(status: &SectorStatus) -> (&str, &str) {
    let mut all = status.conditions.iter();
    let found = all.find(|c| c.type_ == "Ready").unwrap();
    (&found.reason, &found.message)
}

pub(super) fn aborts(actions: &[Action]) -> usize {
    let abort = |a: &&Action| matches!(a, Action::AbortSector { .. });
    actions.iter().filter(abort).count()
}

/// What a plan does about sectors; budgets and pods are another matter.
fn of_sectors(actions: &[Action]) -> Vec<&Action> {
    let other = |a: &&Action| !matches!(a, Action::CreateBudget { .. } | Action::DeletePod { .. });
    actions.iter().filter(other).collect()
}

/// The node is there again, installed anew.
pub(super) fn comes_back(world: &mut World) {
    let mut back = node("node-a");
    back.metadata.uid = Some("another".into());
    world.nodes.apply(back);
    world.pods.apply(sealer_pod("node-a"));
}

pub(super) fn is_unbound(status: &SectorStatus) -> bool {
    status.phase == Some(SectorPhase::Allocated)
        && status.binding.is_none()
        && status.task.is_none()
        && status.store.is_none()
}

#[test]
fn a_sector_off_chain_waits_for_six_hours_and_then_is_sealed_anew_elsewhere() {
    for phase in OFF_CHAIN {
        let mut world = without_node(sector(phase), NotOnChain::Checkpoint);
        let waits = follow(&mut world, 0);
        assert_eq!(waits.phase, Some(phase));
        let (reason, text) = ready(&waits);
        assert_eq!(reason, "NodeGone");
        assert!(
            text.contains("sealed anew") && text.contains("prune node-a"),
            "{text}"
        );
        assert_eq!(node_gone(&waits), Some(true));
        assert!(
            of_sectors(&plan(&world, at(GRACE - 1))).is_empty(),
            "it is said once, and nothing else is done"
        );
        let anew = follow(&mut world, GRACE);
        assert!(is_unbound(&anew), "{phase:?}: {anew:#?}");
        assert_eq!((anew.ticket.clone(), anew.comm_r.clone()), (None, None));
        assert_eq!(
            (ready(&anew).0, node_gone(&anew)),
            ("BegunAnew", Some(false))
        );
        let bound = follow(&mut world, GRACE + 1);
        assert_eq!(bound.binding.unwrap().node, "node-b");
        assert_eq!(bound.task.unwrap().kind, TaskKind::AddPiece);
    }
}

#[test]
fn a_sector_off_chain_is_deleted_after_the_time_where_the_policy_says_so() {
    for phase in OFF_CHAIN {
        let mut world = without_node(sector(phase), NotOnChain::Delete);
        assert_eq!(aborts(&plan(&world, at(0))), 0);
        let waits = follow(&mut world, 0);
        assert!(
            ready(&waits).1.contains("is deleted"),
            "{}",
            ready(&waits).1
        );
        assert_eq!(aborts(&plan(&world, at(GRACE - 1))), 0);
        assert_eq!(aborts(&plan(&world, at(GRACE))), 1);
    }
}

#[test]
fn the_time_is_the_groups_and_counts_from_when_the_node_was_first_missed() {
    let mut world = without_node(sector(SectorPhase::Pc1), NotOnChain::Delete);
    let mut group = group();
    group.spec.drain.not_on_chain = NotOnChain::Delete;
    group.spec.drain.node_gone_after = "90m".into();
    group.metadata.resource_version = Some("3".into());
    world.groups.apply(group);
    follow(&mut world, 1000);
    assert_eq!(aborts(&plan(&world, at(1000 + 5399))), 0);
    assert_eq!(aborts(&plan(&world, at(1000 + 5400))), 1);
}

#[test]
fn a_person_who_gives_the_node_up_is_not_made_to_wait() {
    let mut given_up = sector(SectorPhase::Pc1);
    forget(&mut given_up, "node-a");
    let world = without_node(given_up.clone(), NotOnChain::Checkpoint);
    assert!(is_unbound(new_status(&plan(&world, at(0)))));
    let world = without_node(given_up.clone(), NotOnChain::Delete);
    assert_eq!(aborts(&plan(&world, at(0))), 1);
    // Another node, or one that is there, is not meant.
    let mut other = sector(SectorPhase::Pc1);
    forget(&mut other, "node-z");
    let mut world = without_node(other, NotOnChain::Checkpoint);
    assert_eq!(follow(&mut world, 0).phase, Some(SectorPhase::Pc1));
    let mut there = without_node(given_up, NotOnChain::Checkpoint);
    comes_back(&mut there);
    let goes_on = follow(&mut there, 0);
    assert_eq!(goes_on.binding.unwrap().node, "node-a");
}

#[test]
fn a_sector_on_chain_waits_and_says_what_to_do_however_long_it_takes() {
    for (phase, policy) in NEEDY_ON_CHAIN
        .into_iter()
        .flat_map(|p| [(p, NotOnChain::Delete), (p, NotOnChain::Checkpoint)])
    {
        let mut on_chain = sector(phase);
        on_chain.status.as_mut().unwrap().commit_deadline = Some(90_000);
        let mut world = without_node(on_chain, policy);
        let pre_commit = pre_commit(995, COMM_R);
        chain_mut(&mut world).precommits.insert(0, Some(pre_commit));
        seed_is(&mut world, 1005);
        let waits = follow(&mut world, 0);
        assert_eq!((waits.phase, ready(&waits).0), (Some(phase), "NodeGone"));
        let text = ready(&waits).1;
        assert!(
            text.contains("prune node-a") && text.contains("Bring the node back"),
            "{text}"
        );
        let lands = matches!(phase, SectorPhase::Finalizing | SectorPhase::Landing);
        assert_eq!(text.contains("by epoch 90000"), !lands, "{text}");
        for later in [1, GRACE, 100 * GRACE] {
            let actions = plan(&world, at(later));
            assert!(of_sectors(&actions).is_empty(), "{phase:?}: {actions:#?}");
        }
    }
}

/// The seed that the sector has.
fn seed_is(world: &mut World, epoch: i64) {
    let mut sector = world.sectors.get(&id("t01000-0")).unwrap().clone();
    sector.metadata.resource_version = Some("2".into());
    sector.status.as_mut().unwrap().seed = Some(filstar_crds::Randomness {
        epoch,
        value: "AA==".into(),
    });
    world.sectors.apply(sector);
}

#[test]
fn a_sector_on_chain_that_is_given_up_is_sealed_again_with_its_ticket_past_all_gates() {
    for phase in NEEDY_ON_CHAIN.into_iter().chain([SectorPhase::WaitSeed]) {
        let mut given_up = sector(phase);
        forget(&mut given_up, "node-a");
        let ticket = given_up.status.as_ref().unwrap().ticket.clone();
        let mut world = without_node(given_up, NotOnChain::Delete);
        let chain = chain_mut(&mut world);
        chain.precommits.insert(0, Some(pre_commit(995, COMM_R)));
        chain.allocated = filstar_chain::types::BitField::try_from_bits([0]).unwrap();
        // Nothing new could begin: there is no money.
        chain.available = filstar_chain::types::AttoFil::zero();
        for sender in chain.senders.values_mut() {
            sender.balance = filstar_chain::types::AttoFil::zero();
        }
        let again = follow(&mut world, 0);
        assert!(is_unbound(&again), "{phase:?}: {again:#?}");
        assert_eq!(again.ticket, ticket);
        assert_eq!(again.comm_r.as_deref(), Some(COMM_R));
        let bound = follow(&mut world, 1);
        assert_eq!(bound.binding.as_ref().unwrap().node, "node-b", "{bound:#?}");
        assert_eq!(
            (bound.phase, &bound.ticket),
            (Some(SectorPhase::Packing), &ticket)
        );
    }
}

#[test]
fn what_the_chain_alone_decides_goes_on_without_the_node() {
    // The seed is drawn, and what a sealer has computed is taken over.
    let world = without_node(sector(SectorPhase::WaitSeed), NotOnChain::Delete);
    let mut drawn = world;
    chain_mut(&mut drawn)
        .precommits
        .insert(0, Some(pre_commit(900, COMM_R)));
    let actions = plan(&drawn, at(0));
    assert!(
        actions.iter().any(|a| matches!(a, Action::DrawSeed { .. })),
        "{actions:#?}"
    );
    let proof = json!({"state": "Succeeded", "result": {"proof": "cHJvb2Y="}});
    let mut proven = with_task(sector(SectorPhase::C2), TaskKind::C2, Some(proof));
    proven.status.as_mut().unwrap().seed = Some(filstar_crds::Randomness {
        epoch: 910,
        value: "AA==".into(),
    });
    let mut world = without_node(proven, NotOnChain::Delete);
    chain_mut(&mut world)
        .precommits
        .insert(0, Some(pre_commit(900, COMM_R)));
    let next = new_status(&plan(&world, at(0))).clone();
    assert_eq!(next.phase, Some(SectorPhase::Committing));
}

#[test]
fn no_pre_commit_is_wished_for_when_the_replica_is_gone() {
    let world = without_node(sector(SectorPhase::PreCommitting), NotOnChain::Checkpoint);
    let actions = plan(&world, at(0));
    let wishes = |a: &Action| matches!(a, Action::CreateMessage { .. });
    assert!(!actions.iter().any(wishes), "{actions:#?}");
}

#[test]
fn a_node_that_comes_back_in_time_finds_its_sectors() {
    let mut world = without_node(sector(SectorPhase::Pc2), NotOnChain::Delete);
    follow(&mut world, 0);
    comes_back(&mut world);
    let goes_on = follow(&mut world, GRACE);
    assert_eq!(goes_on.task.as_ref().unwrap().kind, TaskKind::Pc2);
    assert_eq!(node_gone(&goes_on), Some(false));
}

#[test]
fn a_node_that_cannot_be_read_is_not_gone() {
    let mut world = without_node(sector(SectorPhase::Pc1), NotOnChain::Delete);
    let why = filstar_core::world::Unreadable {
        reason: "no such field".into(),
        reported: None,
    };
    let key = ("nodes".to_owned(), Id::new("", "node-a"));
    world.unreadable.insert(key, why);
    let status = new_status(&plan(&world, at(0))).clone();
    assert_eq!(node_gone(&status), None);
}

#[test]
fn a_failed_sector_waits_for_a_person_and_goes_when_it_is_given_up() {
    let mut failed = sector(SectorPhase::Failed);
    failed.status.as_mut().unwrap().failure = Some(Failure {
        phase: SectorPhase::Pc1,
        class: TaskClass::Fatal,
        message: "no".into(),
    });
    let mut world = without_node(failed.clone(), NotOnChain::Checkpoint);
    let waits = follow(&mut world, 0);
    assert_eq!((ready(&waits).0, node_gone(&waits)), ("Failed", Some(true)));
    assert_eq!(of_sectors(&plan(&world, at(GRACE))).len(), 0);
    forget(&mut failed, "node-a");
    let world = without_node(failed, NotOnChain::Checkpoint);
    let anew = new_status(&plan(&world, at(0))).clone();
    assert!(is_unbound(&anew) && anew.failure.is_none(), "{anew:#?}");
}

#[test]
fn sectors_whose_files_are_in_a_store_do_not_miss_their_node() {
    let mut landed = sector(SectorPhase::Proving);
    landed.status.as_mut().unwrap().store = Some(StoreRef {
        name: "store-a".into(),
        landed: true,
    });
    let world = without_node(landed, NotOnChain::Delete);
    let actions = plan(&world, at(0));
    assert_eq!(aborts(&actions), 0);
    assert_eq!(node_gone(new_status(&actions)), None);
}

#[test]
fn a_sealing_node_without_a_node_goes_after_six_hours_unless_a_person_asks_something_of_it() {
    let deletes = |world: &World, now: i64| {
        let actions = plan(world, at(now));
        let mut deleted = actions.into_iter().filter_map(|a| match a {
            Action::DeleteSealingNode { id, uid } => Some((id.name, uid)),
            _ => None,
        });
        deleted.next()
    };
    let mut world = World::default();
    let mut object = SealingNode::new("node-c", filstar_crds::SealingNodeSpec::default());
    object.metadata.uid = Some("u".into());
    object.metadata.resource_version = Some("1".into());
    world.sealing_nodes.apply(object.clone());
    assert_eq!(deletes(&world, 10 * GRACE), None, "since when is not known");
    let said = status(&world, at(0)).into_iter().find_map(|a| match a {
        Action::PatchStatus { status, .. } => match *status {
            StatusPatch::Node(status) => Some(status),
            _ => None,
        },
        _ => None,
    });
    object.status = said;
    object.metadata.resource_version = Some("2".into());
    world.sealing_nodes.apply(object.clone());
    assert_eq!(deletes(&world, GRACE - 1), None);
    let found = deletes(&world, GRACE);
    assert_eq!(found, Some(("node-c".to_owned(), "u".to_owned())));
    let mut back = world.clone();
    back.nodes.apply(node("node-c"));
    assert_eq!(deletes(&back, GRACE), None);
    object.spec.maintenance = Some(filstar_crds::Maintenance::default());
    object.metadata.resource_version = Some("3".into());
    world.sealing_nodes.apply(object);
    assert_eq!(deletes(&world, GRACE), None);
    assert!(world.sealing_nodes.get(&Id::new("", "node-c")).is_some());
}

#[test]
fn a_store_that_no_node_can_mount_says_so() {
    let mut world = world();
    let mut store = store("store-a");
    store.spec.node_selector = [("disks".to_owned(), "jbod-7".to_owned())].into();
    store.metadata.resource_version = Some("2".into());
    world.stores.apply(store);
    world.pods = filstar_core::world::Index::default();
    let said = status(&world, at(0)).into_iter().find_map(|a| match a {
        Action::PatchStatus { status, .. } => match *status {
            StatusPatch::Store { status, .. } => Some(*status),
            _ => None,
        },
        _ => None,
    });
    let said = said.unwrap().conditions;
    let ready = said.iter().find(|c| c.type_ == "Ready").unwrap();
    assert_eq!(ready.reason, "NoNode");
    assert!(ready.message.contains("disks=jbod-7"), "{}", ready.message);
}
