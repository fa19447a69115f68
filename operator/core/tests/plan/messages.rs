//! The life of a message, as data.

use crate::support::*;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use filstar_chain::message::params::{
    MinerParams, PostPartition, PostProofBytes, SubmitWindowedPost,
};
use filstar_chain::types::{AttoFil, BitField, Epoch, PostProof, bitfield};
use filstar_core::action::Action;
use filstar_core::plan::plan;
use filstar_core::world::World;
use filstar_crds::{
    ChainMessage, ChainMessageStatus, MessageKind, MessageRefs, MessageState, Sector, SectorPhase,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

const NAME: &str = "t01000-0-precommit-1";

pub(crate) fn with(status: ChainMessageStatus) -> World {
    let mut world = world();
    world.sectors.apply(waiting(NAME));
    world
        .messages
        .apply(message(NAME, MessageKind::PreCommit, status));
    world
}

/// Sector 0, which waits for this pre-commit.
fn waiting(name: &str) -> Sector {
    let mut sector = sector(SectorPhase::PreCommitting);
    sector.status.as_mut().unwrap().messages = Some(MessageRefs {
        pre_commit: Some(name.into()),
        ..MessageRefs::default()
    });
    sector
}

/// The messages that a plan asks to be signed, in order.
pub(crate) fn signing(world: &World) -> Vec<String> {
    let signs = plan(world, at(0)).into_iter().filter_map(|a| match a {
        Action::SignMessage { id, .. } => Some(id.name),
        _ => None,
    });
    signs.collect()
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
fn a_wish_that_cannot_be_signed_holds_up_no_other_of_its_sender() {
    let mut refused = ChainMessageStatus::default();
    refused.conditions.push(condition("FeeBound"));
    let mut world = with(refused);
    for name in ["p-1", "p-2"] {
        let wish = message(name, MessageKind::WindowPost, ChainMessageStatus::default());
        world.messages.apply(wish);
    }
    assert_eq!(signing(&world), ["p-1", "p-2", NAME]);
}

fn condition(reason: &str) -> k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition {
    serde_json::from_value(serde_json::json!({
        "type": "Ready", "status": "False", "reason": reason, "message": "as a test says",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }))
    .unwrap()
}

#[test]
fn a_wish_whose_sector_is_gone_fails_unsigned() {
    let wished = || with(ChainMessageStatus::default());
    let mut absent = wished();
    absent.sectors.bury(&id("t01000-0"), Some("uid-t01000-0"));
    let mut leaving = wished();
    let mut sector = waiting(NAME);
    sector.metadata.deletion_timestamp = Some(Time(at(0).wall));
    sector.metadata.resource_version = Some("2".into());
    leaving.sectors.apply(sector);
    // The same number again, made later.
    let mut another = wished();
    let mut old = message(NAME, MessageKind::PreCommit, ChainMessageStatus::default());
    old.metadata.creation_timestamp = Some(Time(at(0).wall));
    old.metadata.resource_version = Some("2".into());
    another.messages.apply(old);
    let mut young = waiting(NAME);
    young.metadata.creation_timestamp = Some(Time(at(60).wall));
    young.metadata.resource_version = Some("2".into());
    another.sectors.apply(young);
    for world in [absent, leaving, another] {
        assert_eq!(signing(&world), [""; 0]);
        let failed = new_message(&plan(&world, at(0))).clone();
        assert_eq!(failed.state, Some(MessageState::Failed));
        assert_eq!(failed.conditions[0].reason, "SectorGone");
    }
}

#[test]
fn a_wish_that_its_sector_does_not_name_yet_waits() {
    let mut world = with(ChainMessageStatus::default());
    let mut sector = waiting("another");
    sector.metadata.resource_version = Some("2".into());
    world.sectors.apply(sector);
    assert_eq!(signing(&world), [""; 0]);
    assert!(!changes_message(&plan(&world, at(0))));
}

/// The wish for a proof of partition 1 of deadline 0, whose window is open.
fn proof(world: &World) -> ChainMessage {
    let params = SubmitWindowedPost {
        deadline: 0,
        partitions: vec![PostPartition {
            index: 1,
            skipped: BitField::new(),
        }],
        proofs: vec![PostProofBytes {
            proof: PostProof(10),
            bytes: vec![1; 192],
        }],
        chain_commit_epoch: Epoch(990),
        chain_commit_rand: vec![2; 32],
    };
    let mut wish = message(
        "proof",
        MessageKind::WindowPost,
        ChainMessageStatus::default(),
    );
    wish.spec.params = BASE64.encode(params.to_cbor().unwrap());
    wish.spec.deadline_epoch = Some(world.chain(&id("m")).unwrap().deadline.close.0);
    wish
}

#[test]
fn a_proof_that_the_chain_has_already_is_signed_only_if_a_reorg_drops_it() {
    let mut world = world();
    let wish = proof(&world);
    world.messages.apply(wish.clone());
    assert_eq!(signing(&world), ["proof"]);
    chain_mut(&mut world).proven[0] = bitfield::of([0, 1]).unwrap();
    assert_eq!(signing(&world), [""; 0]);
    let held = new_message(&plan(&world, at(0))).clone();
    assert_eq!(
        (held.state, held.conditions[0].reason.as_str()),
        (None, "AlreadyProven")
    );
    let mut said = wish;
    said.status = Some(held);
    said.metadata.resource_version = Some("2".into());
    world.messages.apply(said);
    assert!(!changes_message(&plan(&world, at(0))), "it is said once");
    chain_mut(&mut world).proven[0] = bitfield::of([0]).unwrap();
    assert_eq!(signing(&world), ["proof"]);
    // The window closes; the chain forgets its proofs.
    let close = chain_mut(&mut world).deadline.close;
    chain_mut(&mut world).head = close;
    let failed = new_message(&plan(&world, at(0))).clone();
    assert_eq!(failed.state, Some(MessageState::Failed));
    assert!(failed.conditions[0].message.contains("not needed"));
}

/// What a wish may reserve.
fn spendable(world: &World, name: &str) -> Option<AttoFil> {
    let found = plan(world, at(0)).into_iter().find_map(|a| match a {
        Action::SignMessage { id, spendable, .. } if id.name == name => Some(spendable),
        _ => None,
    });
    found.unwrap()
}

#[test]
fn a_proof_may_reserve_a_share_of_what_its_sender_has_left_and_other_messages_nothing() {
    let mut world = with(ChainMessageStatus::default());
    let wish = proof(&world);
    world.messages.apply(wish);
    assert_eq!(spendable(&world, NAME), None);
    // 100 FIL for its own partition and all other messages.
    assert_eq!(spendable(&world, "proof"), Some(AttoFil::from_fil(50)));
    // Of four partitions one is proven, and others have lost their sectors.
    chain_mut(&mut world).partitions[0] = bitfield::of([0, 2, 5, 9]).unwrap();
    chain_mut(&mut world).proven[0] = bitfield::of([0]).unwrap();
    assert_eq!(spendable(&world, "proof"), Some(AttoFil::from_fil(25)));
    // What is on its way may take its own: 20 FIL of value and 40 FIL of gas.
    let mut status = signed(MessageState::Pushed, 7);
    status.versions[0].gas_fee_cap = AttoFil::from_fil(40).div_floor(1_000_000).to_atto_string();
    let mut other = message("other", MessageKind::WindowPost, status);
    other.spec.value = "20 FIL".into();
    world.messages.apply(other);
    assert_eq!(spendable(&world, "proof"), Some(AttoFil::from_fil(10)));
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

/// Does what plans ask for this message from epoch to epoch; which of the epochs pushed it.
fn follow(world: &mut World, epochs: std::ops::RangeInclusive<i64>) -> Vec<i64> {
    let mut pushes = Vec::new();
    for epoch in epochs {
        chain_mut(world).head = Epoch(epoch);
        let found = plan(world, at(0)).into_iter().find_map(|a| match a {
            Action::PatchMessage { status, .. } => Some((status, false)),
            Action::PushMessage { status, .. } => Some((status, true)),
            _ => None,
        });
        let Some((status, push)) = found else {
            continue;
        };
        if push {
            pushes.push(epoch);
        }
        let mut next = message(NAME, MessageKind::PreCommit, *status);
        next.metadata.resource_version = Some(epoch.to_string());
        world.messages.apply(next);
    }
    pushes
}

fn status_of(world: &World) -> ChainMessageStatus {
    world
        .messages
        .get(&id(NAME))
        .unwrap()
        .status
        .clone()
        .unwrap()
}

#[test]
fn a_nonce_that_something_else_used_fails_the_message_after_confidence_and_is_not_pushed() {
    for confidence in [1, 2, 6, 20] {
        for before in [pushed(3, 998), signed(MessageState::Signed, 3)] {
            let mut world = with(before);
            let mut miner = miner();
            miner.spec.confidence = confidence;
            miner.metadata.resource_version = Some("2".into());
            world.miners.apply(miner);
            chain_mut(&mut world).lookups.insert("cid-3".into(), None);
            chain_mut(&mut world).senders.get_mut(SENDER).unwrap().nonce = 4;
            let last = 1000 + confidence;
            assert_eq!(follow(&mut world, 1000..=last - 1), [0_i64; 0]);
            assert_ne!(status_of(&world).state, Some(MessageState::Failed));
            assert_eq!(status_of(&world).conditions[0].reason, "NonceUsed");
            assert_eq!(follow(&mut world, last..=last), [0_i64; 0]);
            let failed = status_of(&world);
            assert_eq!(failed.state, Some(MessageState::Failed), "{confidence}");
            assert_eq!(failed.conditions[0].reason, "NonceTaken");
        }
    }
}

#[test]
fn a_message_whose_nonce_a_reorg_gave_back_is_pushed_at_once() {
    let mut world = with(pushed(3, 998));
    chain_mut(&mut world).lookups.insert("cid-3".into(), None);
    chain_mut(&mut world).senders.get_mut(SENDER).unwrap().nonce = 4;
    assert_eq!(follow(&mut world, 1000..=1003), [0_i64; 0]);
    chain_mut(&mut world).senders.get_mut(SENDER).unwrap().nonce = 3;
    assert_eq!(follow(&mut world, 1004..=1004), [1004]);
    assert_eq!(status_of(&world).nonce_used_epoch, None);
    chain_mut(&mut world).senders.get_mut(SENDER).unwrap().nonce = 4;
    follow(&mut world, 1005..=1010);
    assert_eq!(
        status_of(&world).state,
        Some(MessageState::Pushed),
        "it counts anew"
    );
}

#[test]
fn a_message_that_was_not_found_out_about_is_neither_pushed_nor_failed() {
    let mut world = with(pushed(3, 998));
    chain_mut(&mut world).senders.get_mut(SENDER).unwrap().nonce = 4;
    assert_eq!(follow(&mut world, 1000..=1100), [0_i64; 0]);
    assert_eq!(status_of(&world), pushed(3, 998));
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

/// A message that was final at epoch 1000, of a Miner that is content with two epochs.
fn final_message(kind: MessageKind, exit_code: i64) -> World {
    let mut status = pushed(3, 990);
    status.state = Some(if exit_code == 0 {
        MessageState::Final
    } else {
        MessageState::Failed
    });
    (status.landed_epoch, status.exit_code) = (Some(992), Some(exit_code));
    let mut world = world();
    let mut miner = miner();
    miner.spec.confidence = 2;
    miner.metadata.resource_version = Some("2".into());
    world.miners.apply(miner);
    world.messages.apply(message(NAME, kind, status));
    chain_mut(&mut world).senders.get_mut(SENDER).unwrap().nonce = 4;
    world
}

#[test]
fn a_reorg_deeper_than_the_confidence_brings_a_final_message_back() {
    for kind in [MessageKind::WindowPost, MessageKind::PreCommit] {
        for exit_code in [0, 16] {
            let mut world = final_message(kind, exit_code);
            assert!(!changes_message(&plan(&world, at(0))));
            chain_mut(&mut world).senders.get_mut(SENDER).unwrap().nonce = 3;
            let dropped = new_message(&plan(&world, at(0))).clone();
            assert_eq!(dropped.state, Some(MessageState::Pushed));
            assert_eq!((dropped.nonce, dropped.exit_code), (Some(3), None));
            // A node that is behind does not show it yet.
            chain_mut(&mut world).head = Epoch(993);
            assert!(!changes_message(&plan(&world, at(0))));
            chain_mut(&mut world).senders.clear();
            chain_mut(&mut world).head = Epoch(1000);
            assert!(!changes_message(&plan(&world, at(0))), "nothing is known");
        }
    }
}

#[test]
fn a_refused_or_displaced_proof_does_not_wait_for_a_great_confidence() {
    let mut landed = pushed(3, 990);
    landed.state = Some(MessageState::Landed);
    (landed.landed_epoch, landed.exit_code) = (Some(995), Some(16));
    let mut displaced = pushed(3, 998);
    displaced.nonce_used_epoch = Some(995);
    for (before, found) in [(landed, found(3, 995, 16)), (displaced, None)] {
        for (kind, fails) in [
            (MessageKind::WindowPost, true),
            (MessageKind::PreCommit, false),
        ] {
            let mut world = world();
            world.sectors.apply(waiting(NAME));
            let mut miner = miner();
            miner.spec.confidence = 900;
            miner.metadata.resource_version = Some("2".into());
            world.miners.apply(miner);
            world.messages.apply(message(NAME, kind, before.clone()));
            chain_mut(&mut world).senders.get_mut(SENDER).unwrap().nonce = 4;
            chain_mut(&mut world)
                .lookups
                .insert("cid-3".into(), found.clone());
            let failed = plan(&world, at(0)).into_iter().any(|a| {
                matches!(a, Action::PatchMessage { status, .. }
                    if status.state == Some(MessageState::Failed))
            });
            assert_eq!(failed, fails, "{kind:?}");
        }
    }
}
