//! The way of a sector, as data: a world in, actions out.

use crate::support::*;
use filstar_chain::types::BitField;
use filstar_core::action::{Action, Collateral};
use filstar_core::plan::plan;
use filstar_core::world::{ChainProblem, World};
use filstar_crds::{MessageKind, MessageState, SectorPhase, StoreRef, TaskClass, TaskKind};
use serde_json::json;

fn with(sector: filstar_crds::Sector) -> World {
    let mut world = world();
    world.sectors.apply(sector);
    world
}

fn succeeded(result: &serde_json::Value) -> Option<serde_json::Value> {
    Some(json!({"state": "Succeeded", "result": result}))
}

#[test]
fn a_new_sector_is_adopted_before_anything_else() {
    let mut bare = sector(SectorPhase::Allocated);
    bare.metadata.finalizers = None;
    let actions = plan(&with(bare), at(0));
    assert!(
        actions
            .iter()
            .any(|a| matches!(a, Action::AdoptSector { .. })),
        "{actions:#?}"
    );
    assert!(
        !actions
            .iter()
            .any(|a| matches!(a, Action::PatchSector { .. })),
        "{actions:#?}"
    );
}

#[test]
fn an_allocated_sector_is_bound_to_the_node_of_a_ready_pod() {
    let mut fresh = sector(SectorPhase::Allocated);
    fresh.status.as_mut().unwrap().binding = None;
    let actions = plan(&with(fresh), at(0));
    let status = new_status(&actions);
    assert_eq!(status.phase, Some(SectorPhase::Packing));
    assert_eq!(status.binding.as_ref().unwrap().node, "node-a");
    assert_eq!(status.task.as_ref().unwrap().kind, TaskKind::AddPiece);
}

#[test]
fn two_sectors_never_share_the_place_of_one() {
    let mut world = world();
    for number in 0..2 {
        let mut fresh = sector(SectorPhase::Allocated);
        fresh.metadata.name = Some(format!("t01000-{number}"));
        fresh.metadata.uid = Some(format!("uid-{number}"));
        fresh.spec.number = number;
        fresh.status.as_mut().unwrap().binding = None;
        world.sectors.apply(fresh);
    }
    let bound = plan(&world, at(0))
        .into_iter()
        .filter(|a| matches!(a, Action::PatchSector { status, .. } if status.task.is_some()))
        .count();
    assert_eq!(bound, 1, "the lane has concurrency 1");
}

#[test]
fn pc1_draws_a_ticket_as_old_as_finality_first() {
    let mut s = sector(SectorPhase::Pc1);
    s.status.as_mut().unwrap().ticket = None;
    let actions = plan(&with(s), at(0));
    let Some(Action::DrawTicket { epoch, status, .. }) = actions
        .iter()
        .find(|a| matches!(a, Action::DrawTicket { .. }))
    else {
        panic!("{actions:#?}")
    };
    assert_eq!(epoch.0, 100);
    assert_eq!(status.pre_commit_deadline, Some(100 + 3780));
    assert!(status.task.is_none());
}

#[test]
fn an_expired_ticket_is_drawn_again_unless_a_pre_commit_uses_it() {
    let mut world = with(sector(SectorPhase::Pc1));
    chain_mut(&mut world).head = filstar_chain::types::Epoch(3880);
    assert!(
        plan(&world, at(0))
            .iter()
            .any(|a| matches!(a, Action::DrawTicket { .. }))
    );
    chain_mut(&mut world)
        .precommits
        .insert(0, Some(pre_commit(3000, COMM_R)));
    assert!(
        !plan(&world, at(0))
            .iter()
            .any(|a| matches!(a, Action::DrawTicket { .. }))
    );
}

#[test]
fn pc1_computes_on_without_the_chain_once_it_has_a_ticket() {
    let mut world = with(sector(SectorPhase::Pc1));
    world.chains.get_mut(&id("m")).unwrap().problem =
        Some(ChainProblem::Unreachable("down".into()));
    let actions = plan(&world, at(0));
    assert_eq!(
        new_status(&actions).task.as_ref().unwrap().kind,
        TaskKind::Pc1
    );
}

#[test]
fn results_are_taken_over_and_the_next_phase_begins() {
    let result = json!({"commD": COMM_D, "commR": COMM_R});
    let s = with_task(sector(SectorPhase::Pc2), TaskKind::Pc2, succeeded(&result));
    let actions = plan(&with(s), at(60));
    let status = new_status(&actions);
    assert_eq!(status.phase, Some(SectorPhase::PreCommitting));
    assert_eq!(status.comm_r.as_deref(), Some(COMM_R));
    assert!(status.task.is_none());
    assert_eq!(
        status.timeline.last().unwrap().phase,
        SectorPhase::PreCommitting
    );
}

#[test]
fn a_report_about_another_task_is_ignored() {
    let mut s = with_task(
        sector(SectorPhase::Pc2),
        TaskKind::Pc2,
        succeeded(&json!({"commD": COMM_D, "commR": COMM_R})),
    );
    s.status.as_mut().unwrap().sealer.as_mut().unwrap().task_id = "task-0".into();
    let actions = plan(&with(s), at(0));
    assert_eq!(new_status(&actions).phase, Some(SectorPhase::Pc2));
}

#[test]
fn a_task_of_a_lost_pod_is_bound_again_and_is_no_failure() {
    let mut s = with_task(
        sector(SectorPhase::Pc1),
        TaskKind::Pc1,
        Some(json!({"state": "Running"})),
    );
    s.status.as_mut().unwrap().task.as_mut().unwrap().pod_uid = "gone".into();
    let actions = plan(&with(s), at(0));
    let status = new_status(&actions);
    assert_eq!(status.task.as_ref().unwrap().id, "pc1-2");
    assert!(status.attempts.is_none());
}

#[test]
fn temporary_errors_pause_longer_each_time_and_end_in_failed() {
    let error = json!({"state": "Failed", "errorClass": "Temporary", "error": "disk full"});
    let mut s = with_task(sector(SectorPhase::Pc1), TaskKind::Pc1, Some(error));
    let actions = plan(&with(s.clone()), at(0));
    let status = new_status(&actions);
    assert_eq!(status.attempts.as_ref().unwrap().failed, 1);
    assert_eq!(status.phase, Some(SectorPhase::Pc1));
    s.status.as_mut().unwrap().attempts = Some(filstar_crds::Attempts {
        phase: SectorPhase::Pc1,
        failed: 10,
        not_before: None,
        last_error: None,
    });
    let actions = plan(&with(s), at(0));
    let status = new_status(&actions);
    assert_eq!(status.phase, Some(SectorPhase::Failed));
    assert_eq!(status.failure.as_ref().unwrap().class, TaskClass::Temporary);
}

#[test]
fn a_corrupt_file_sends_the_sector_back_one_phase() {
    let error = json!({"state": "Failed", "errorClass": "Corrupt", "error": "layer 1"});
    let s = with_task(sector(SectorPhase::Pc2), TaskKind::Pc2, Some(error));
    let actions = plan(&with(s), at(0));
    assert_eq!(new_status(&actions).phase, Some(SectorPhase::Pc1));
}

#[test]
fn the_pre_commit_is_wished_for_once_with_its_deposit() {
    let world = with(sector(SectorPhase::PreCommitting));
    let actions = plan(&world, at(0));
    let Some(Action::CreateMessage {
        id,
        spec,
        collateral,
    }) = actions
        .iter()
        .find(|a| matches!(a, Action::CreateMessage { .. }))
    else {
        panic!("{actions:#?}")
    };
    assert_eq!(id.name, "t01000-0-precommit-1");
    assert_eq!((spec.kind, spec.method), (MessageKind::PreCommit, 28));
    assert!(matches!(collateral, Collateral::Deposit { .. }));
}

#[test]
fn a_message_that_an_earlier_run_made_is_found_by_its_name() {
    let mut world = with(sector(SectorPhase::PreCommitting));
    let made = message(
        "t01000-0-precommit-1",
        MessageKind::PreCommit,
        signed(MessageState::Pushed, 4),
    );
    world.messages.apply(made);
    let actions = plan(&world, at(0));
    assert!(
        !actions
            .iter()
            .any(|a| matches!(a, Action::CreateMessage { .. })),
        "{actions:#?}"
    );
    let refs = new_status(&actions).messages.as_ref().unwrap();
    assert_eq!(refs.pre_commit.as_deref(), Some("t01000-0-precommit-1"));
}

#[test]
fn a_number_that_the_actor_has_used_is_never_committed_again() {
    let mut world = with(sector(SectorPhase::PreCommitting));
    chain_mut(&mut world).allocated = BitField::try_from_bits([0]).unwrap();
    let actions = plan(&world, at(0));
    assert_eq!(new_status(&actions).phase, Some(SectorPhase::Failed));
    assert!(
        !actions
            .iter()
            .any(|a| matches!(a, Action::CreateMessage { .. }))
    );
}

#[test]
fn a_pre_commit_of_another_replica_is_fatal() {
    let mut world = with(sector(SectorPhase::PreCommitting));
    chain_mut(&mut world)
        .precommits
        .insert(0, Some(pre_commit(990, COMM_D)));
    let actions = plan(&world, at(0));
    assert_eq!(
        new_status(&actions).failure.as_ref().unwrap().class,
        TaskClass::Fatal
    );
}

#[test]
fn the_seed_is_drawn_only_after_confidence() {
    let mut world = with(sector(SectorPhase::WaitSeed));
    chain_mut(&mut world)
        .precommits
        .insert(0, Some(pre_commit(985, COMM_R)));
    assert!(
        !plan(&world, at(0))
            .iter()
            .any(|a| matches!(a, Action::DrawSeed { .. }))
    );
    chain_mut(&mut world).head = filstar_chain::types::Epoch(1001);
    let actions = plan(&world, at(0));
    assert!(
        actions
            .iter()
            .any(|a| matches!(a, Action::DrawSeed { epoch, .. } if epoch.0 == 995))
    );
}

#[test]
fn a_reorg_that_drops_the_pre_commit_sends_the_sector_back() {
    for phase in [
        SectorPhase::WaitSeed,
        SectorPhase::C1,
        SectorPhase::C2,
        SectorPhase::Committing,
    ] {
        let actions = plan(&with(sector(phase)), at(0));
        let status = new_status(&actions);
        assert_eq!(status.phase, Some(SectorPhase::PreCommitting), "{phase:?}");
        assert!(status.seed.is_none());
    }
}

#[test]
fn a_reorg_that_moves_the_pre_commit_draws_the_seed_again() {
    let mut s = sector(SectorPhase::C2);
    s.status.as_mut().unwrap().seed = Some(filstar_crds::Randomness {
        epoch: 995,
        value: "AA==".into(),
    });
    let mut world = with(s);
    chain_mut(&mut world)
        .precommits
        .insert(0, Some(pre_commit(986, COMM_R)));
    let actions = plan(&world, at(0));
    assert_eq!(new_status(&actions).phase, Some(SectorPhase::WaitSeed));
}

#[test]
fn a_sector_is_finalized_only_when_its_commit_is_final() {
    let mut world = with(sector(SectorPhase::Committing));
    chain_mut(&mut world)
        .sectors
        .insert(0, Some(on_chain(COMM_R)));
    let name = "t01000-0-commit-1";
    world.messages.apply(message(
        name,
        MessageKind::ProveCommit,
        signed(MessageState::Landed, 5),
    ));
    assert_eq!(
        new_status(&plan(&world, at(0))).phase,
        Some(SectorPhase::Committing)
    );
    let mut done = message(
        name,
        MessageKind::ProveCommit,
        signed(MessageState::Final, 5),
    );
    done.metadata.resource_version = Some("2".into());
    world.messages.apply(done);
    assert_eq!(
        new_status(&plan(&world, at(0))).phase,
        Some(SectorPhase::Finalizing)
    );
}

#[test]
fn a_sector_lands_in_a_store_that_its_pod_mounts() {
    let actions = plan(&with(sector(SectorPhase::Landing)), at(0));
    let status = new_status(&actions);
    assert_eq!(
        status.store,
        Some(StoreRef {
            name: "store-a".into(),
            landed: false
        })
    );
    assert_eq!(status.task.as_ref().unwrap().kind, TaskKind::Land);
}

#[test]
fn a_landed_sector_is_proving_and_ready() {
    let mut s = with_task(
        sector(SectorPhase::Landing),
        TaskKind::Land,
        succeeded(&json!({"store": "store-a"})),
    );
    s.status.as_mut().unwrap().store = Some(StoreRef {
        name: "store-a".into(),
        landed: false,
    });
    let actions = plan(&with(s), at(0));
    let status = new_status(&actions);
    assert_eq!(status.phase, Some(SectorPhase::Proving));
    assert!(status.store.as_ref().unwrap().landed);
    assert_eq!(
        status
            .conditions
            .iter()
            .find(|c| c.type_ == "Ready")
            .unwrap()
            .status,
        "True"
    );
}

#[test]
fn a_deleted_sector_leaves_no_files_in_scratch() {
    let mut s = sector(SectorPhase::Pc1);
    s.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
        at(0).wall,
    ));
    let actions = plan(&with(s.clone()), at(0));
    assert_eq!(
        new_status(&actions).task.as_ref().unwrap().kind,
        TaskKind::Remove
    );
    let removed = with_task(s, TaskKind::Remove, succeeded(&json!({})));
    let actions = plan(&with(removed), at(0));
    assert!(
        actions
            .iter()
            .any(|a| matches!(a, Action::ReleaseSector { .. })),
        "{actions:#?}"
    );
}

#[test]
fn a_paused_sector_gets_no_task() {
    let mut s = sector(SectorPhase::Pc1);
    s.spec.paused = true;
    let actions = plan(&with(s), at(0));
    assert_eq!(reason(new_status(&actions)), "Paused");
    assert!(new_status(&actions).task.is_none());
}

#[test]
fn a_failed_sector_is_tried_again_when_its_spec_is_edited() {
    let mut s = sector(SectorPhase::Failed);
    s.status.as_mut().unwrap().failure = Some(filstar_crds::Failure {
        phase: SectorPhase::Pc1,
        class: TaskClass::Fatal,
        message: "no space".into(),
    });
    assert_eq!(
        new_status(&plan(&with(s.clone()), at(0))).phase,
        Some(SectorPhase::Failed)
    );
    s.metadata.generation = Some(2);
    assert_eq!(
        new_status(&plan(&with(s), at(0))).phase,
        Some(SectorPhase::Pc1)
    );
}

#[test]
fn a_second_look_at_an_unchanged_world_asks_for_nothing() {
    for phase in [SectorPhase::WaitSeed, SectorPhase::Proving] {
        let mut world = with(sector(phase));
        chain_mut(&mut world)
            .precommits
            .insert(0, Some(pre_commit(995, COMM_R)));
        let first = plan(&world, at(0));
        let mut again = sector(phase);
        again.metadata.resource_version = Some("2".into());
        again.status = Some(new_status(&first).clone());
        world.sectors.apply(again);
        chain_mut(&mut world).head = filstar_chain::types::Epoch(1001);
        let second = plan(&world, at(1));
        assert!(
            !second
                .iter()
                .any(|a| matches!(a, Action::PatchSector { .. })),
            "{phase:?}: {second:#?}"
        );
    }
}

#[test]
fn a_sector_on_chain_never_waits_behind_a_computation_to_land() {
    let mut world = with(sector(SectorPhase::Finalizing));
    let running = Some(json!({"state": "Running"}));
    let mut other = with_task(sector(SectorPhase::C2), TaskKind::C2, running);
    other.metadata.name = Some("t01000-1".into());
    other.metadata.uid = Some("uid-1".into());
    other.spec.number = 1;
    other.status.as_mut().unwrap().seed = Some(filstar_crds::Randomness {
        epoch: 1000,
        value: "AA==".into(),
    });
    world.sectors.apply(other);
    chain_mut(&mut world)
        .precommits
        .insert(1, Some(pre_commit(990, COMM_R)));
    let bound = plan(&world, at(0)).into_iter().any(|a| {
        matches!(a, Action::PatchSector { id, status, .. }
            if id.name == "t01000-0" && status.task.is_some())
    });
    assert!(bound);
}

#[test]
fn a_pre_commit_is_called_lost_only_by_a_chain_that_has_come_far_enough() {
    let name = "t01000-0-precommit-1";
    let mut world = with(sector(SectorPhase::PreCommitting));
    let mut landed = signed(MessageState::Final, 5);
    landed.landed_epoch = Some(1020);
    world
        .messages
        .apply(message(name, MessageKind::PreCommit, landed));
    // Another endpoint, which lags behind.
    for head in [1000, 1020, 1025] {
        chain_mut(&mut world).head = filstar_chain::types::Epoch(head);
        let actions = plan(&world, at(0));
        let status = new_status(&actions);
        assert_eq!(status.phase, Some(SectorPhase::PreCommitting), "{head}");
        assert_eq!(reason(status), "WaitMessage");
    }
    chain_mut(&mut world).head = filstar_chain::types::Epoch(1026);
    assert_eq!(
        new_status(&plan(&world, at(0))).phase,
        Some(SectorPhase::Failed)
    );
}
