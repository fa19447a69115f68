//! The life of a message, as data.

use crate::support::*;
use filstar_chain::types::Epoch;
use filstar_crds::{ChainMessageStatus, MessageKind, MessageState};
use filstar_operator::action::Action;
use filstar_operator::plan::plan;
use filstar_operator::world::World;

const NAME: &str = "t01000-0-precommit-1";

fn with(status: ChainMessageStatus) -> World {
    let mut world = world();
    world
        .messages
        .apply(message(NAME, MessageKind::PreCommit, status));
    world
}

fn pushed(nonce: u64, epoch: i64) -> ChainMessageStatus {
    ChainMessageStatus {
        pushed_epoch: Some(epoch),
        pushes: 1,
        ..signed(MessageState::Pushed, nonce)
    }
}

#[test]
fn a_wish_is_signed_with_a_nonce_above_all_that_were_ever_signed() {
    let mut world = with(ChainMessageStatus::default());
    world.messages.apply(message(
        "old",
        MessageKind::PreCommit,
        signed(MessageState::Final, 7),
    ));
    let actions = plan(&world, at(0));
    assert!(
        actions
            .iter()
            .any(|a| matches!(a, Action::SignMessage { min_nonce: 8, .. })),
        "{actions:#?}"
    );
}

#[test]
fn one_plan_signs_one_message_for_a_sender() {
    let mut world = with(ChainMessageStatus::default());
    let other = ChainMessageStatus::default();
    world.messages.apply(message(
        "t01000-1-precommit-1",
        MessageKind::PreCommit,
        other,
    ));
    let signs = plan(&world, at(0))
        .into_iter()
        .filter(|a| matches!(a, Action::SignMessage { .. }))
        .count();
    assert_eq!(signs, 1);
}

#[test]
fn a_signed_message_is_pushed_and_keeps_its_nonce_and_bytes() {
    let world = with(signed(MessageState::Signed, 3));
    let actions = plan(&world, at(0));
    let status = new_message(&actions);
    assert!(
        actions
            .iter()
            .any(|a| matches!(a, Action::PushMessage { .. }))
    );
    assert_eq!(
        (status.state, status.nonce),
        (Some(MessageState::Pushed), Some(3))
    );
    assert_eq!(status.versions.len(), 1);
}

#[test]
fn a_pushed_message_is_pushed_again_only_after_some_epochs() {
    let pushes = |epoch| {
        let actions = plan(&with(pushed(3, epoch)), at(0));
        actions
            .iter()
            .any(|a| matches!(a, Action::PushMessage { .. }))
    };
    assert!(!pushes(998));
    assert!(pushes(995));
}

#[test]
fn a_message_that_is_found_has_landed_and_is_final_after_confidence() {
    let mut world = with(pushed(3, 998));
    chain_mut(&mut world)
        .lookups
        .insert("cid-3".into(), found(3, 999, 0));
    let landed = new_message(&plan(&world, at(0))).clone();
    assert_eq!(
        (landed.state, landed.exit_code),
        (Some(MessageState::Landed), Some(0))
    );
    assert!(landed.fee.is_some());
    let mut world = with(landed);
    chain_mut(&mut world)
        .lookups
        .insert("cid-3".into(), found(3, 999, 0));
    assert!(plan(&world, at(0)).is_empty() || !changes_message(&plan(&world, at(0))));
    chain_mut(&mut world).head = Epoch(1005);
    assert_eq!(
        new_message(&plan(&world, at(0))).state,
        Some(MessageState::Final)
    );
}

fn changes_message(actions: &[Action]) -> bool {
    actions
        .iter()
        .any(|a| matches!(a, Action::PatchMessage { .. } | Action::PushMessage { .. }))
}

#[test]
fn a_reorg_that_drops_a_landed_message_pushes_the_same_bytes_again() {
    let mut status = pushed(3, 990);
    status.state = Some(MessageState::Landed);
    status.landed_epoch = Some(999);
    let mut world = with(status.clone());
    assert!(
        !changes_message(&plan(&world, at(0))),
        "not asked yet: nothing is known"
    );
    chain_mut(&mut world).lookups.insert("cid-3".into(), None);
    let dropped = new_message(&plan(&world, at(0))).clone();
    assert_eq!(dropped.state, Some(MessageState::Pushed));
    assert_eq!(dropped.versions, status.versions);
    let mut world = with(dropped);
    chain_mut(&mut world).lookups.insert("cid-3".into(), None);
    assert!(
        plan(&world, at(0))
            .iter()
            .any(|a| matches!(a, Action::PushMessage { .. }))
    );
}

#[test]
fn an_exit_code_fails_the_message_once_it_is_final() {
    let mut world = with(pushed(3, 990));
    chain_mut(&mut world)
        .lookups
        .insert("cid-3".into(), found(3, 991, 16));
    let landed = new_message(&plan(&world, at(0))).clone();
    assert_eq!(landed.state, Some(MessageState::Landed));
    let mut world = with(landed);
    chain_mut(&mut world)
        .lookups
        .insert("cid-3".into(), found(3, 991, 16));
    let failed = new_message(&plan(&world, at(0))).clone();
    assert_eq!(failed.state, Some(MessageState::Failed));
    assert!(failed.conditions[0].message.contains("exit code 16"));
}

#[test]
fn a_nonce_that_something_else_used_fails_the_message_after_confidence() {
    let mut world = with(pushed(3, 998));
    chain_mut(&mut world).lookups.insert("cid-3".into(), None);
    chain_mut(&mut world).senders.get_mut(SENDER).unwrap().nonce = 4;
    assert!(!changes_message(&plan(&world, at(0))));
    chain_mut(&mut world).head = Epoch(1005);
    let failed = new_message(&plan(&world, at(0))).clone();
    assert_eq!(failed.state, Some(MessageState::Failed));
    assert_eq!(failed.conditions[0].reason, "NonceTaken");
}

#[test]
fn a_wish_whose_deadline_passed_is_not_signed() {
    let mut late = message(NAME, MessageKind::WindowPost, ChainMessageStatus::default());
    late.spec.deadline_epoch = Some(1000);
    let mut world = world();
    world.messages.apply(late);
    let actions = plan(&world, at(0));
    assert_eq!(new_message(&actions).state, Some(MessageState::Failed));
}
