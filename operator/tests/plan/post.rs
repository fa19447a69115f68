//! Window proofs, as data.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use filstar_chain::message::params::{MinerParams, SubmitWindowedPost};
use filstar_chain::types::bitfield;
use filstar_crds::{
    ChainMessage, ChainMessageSpec, ChainMessageStatus, MessageKind, MessageState, PostBatch,
    ProverReport,
};
use filstar_operator::action::Action;
use filstar_operator::plan::plan;
use filstar_operator::world::World;
use serde_json::json;

use crate::support::*;

/// At epoch 1000 deadline 0 is open, from 990 to 1005.
const OPEN: i64 = 990;

/// The prover's word on partition 2 of the open deadline, with the proof 1, 2, 3.
fn report() -> ProverReport {
    ProverReport {
        deadline: 0,
        partition: 2,
        open: OPEN,
        close: OPEN + 15,
        challenge: OPEN - 5,
        chain_commit_epoch: OPEN - 5,
        chain_commit_rand: STANDARD.encode([7; 32]),
        post_proof: 10,
        proof: Some(STANDARD.encode([1, 2, 3])),
        sectors: 2,
        attempts: 1,
        ..ProverReport::default()
    }
}

fn with(report: ProverReport) -> World {
    let mut world = world();
    say(&mut world, report);
    world
}

fn say(world: &mut World, report: ProverReport) {
    let newer = |b: &PostBatch| b.metadata.resource_version.as_deref() == Some("1");
    let version = if world.batches.get(&id("b")).is_some_and(newer) {
        "2"
    } else {
        "1"
    };
    let mut batch: PostBatch = serde_json::from_value(json!({
        "apiVersion": "filstar.io/v1alpha1", "kind": "PostBatch",
        "metadata": {"name": "b", "namespace": NS, "uid": "b", "resourceVersion": version, "generation": 1},
        "spec": {"minerRef": {"name": "m"}, "parametersPath": "/params", "lane": {"memory": "1Gi"}},
        "status": {},
    }))
    .unwrap();
    batch.status.as_mut().unwrap().prover = vec![report];
    world.batches.apply(batch);
}

fn wish(world: &World) -> Option<(String, ChainMessageSpec)> {
    let actions = plan(world, at(0));
    let mut made = actions.into_iter().filter_map(|a| match a {
        Action::CreateMessage { id, spec, .. } if spec.kind == MessageKind::WindowPost => {
            Some((id.name, *spec))
        }
        _ => None,
    });
    made.next()
}

fn params(spec: &ChainMessageSpec) -> SubmitWindowedPost {
    SubmitWindowedPost::from_cbor(&STANDARD.decode(&spec.params).unwrap()).unwrap()
}

/// The wish that follows from the world, made, in this state.
fn make(world: &mut World, status: ChainMessageStatus) -> String {
    let (name, spec) = wish(world).unwrap();
    let mut made: ChainMessage = message(&name, MessageKind::WindowPost, status);
    made.spec = spec;
    world.messages.apply(made);
    name
}

fn set(world: &mut World, name: &str, status: ChainMessageStatus) {
    let mut made = world.messages.get(&id(name)).unwrap().clone();
    made.status = Some(status);
    made.metadata.resource_version = Some("2".into());
    world.messages.apply(made);
}

/// What the plan makes of a message: its new status, or `None` when it is left as it is or signed.
fn changed(world: &World) -> Option<ChainMessageStatus> {
    let actions = plan(world, at(0));
    actions.into_iter().find_map(|a| match a {
        Action::PatchMessage { status, .. } => Some(*status),
        _ => None,
    })
}

#[test]
fn a_proof_is_sent_with_what_it_leaves_out() {
    let mut said = report();
    (said.skipped_sectors, said.skipped_numbers) = (3, "4-5,17".into());
    let (name, spec) = wish(&with(said)).unwrap();
    assert_eq!(name, "t01000-post-990-0-2-1");
    let params = params(&spec);
    assert_eq!(params.proofs[0].bytes, [1, 2, 3]);
    assert_eq!(params.chain_commit_rand, [7; 32]);
    let skipped = &params.partitions[0].skipped;
    assert_eq!(bitfield::numbers(skipped, 100).unwrap(), [4, 5, 17]);
}

#[test]
fn a_report_that_contradicts_itself_is_not_sent() {
    for (count, numbers) in [(3, ""), (0, "4"), (1, "5"), (1, "x")] {
        let mut said = report();
        said.skipped = vec![filstar_crds::SkippedSector {
            number: 4,
            reason: "gone".into(),
        }];
        (said.skipped_sectors, said.skipped_numbers) = (count, numbers.into());
        assert_eq!(wish(&with(said)), None, "{count} {numbers}");
    }
}

#[test]
fn a_wish_that_is_not_signed_follows_the_commitment_of_the_chain() {
    let mut world = with(report());
    let first = make(&mut world, ChainMessageStatus::default());
    assert_eq!(changed(&world), None);
    let mut moved = report();
    moved.chain_commit_rand = STANDARD.encode([8; 32]);
    say(&mut world, moved);
    let failed = changed(&world).unwrap();
    assert_eq!(failed.state, Some(MessageState::Failed));
    assert_eq!(failed.conditions[0].reason, "Superseded");
    set(&mut world, &first, failed);
    let (name, spec) = wish(&world).unwrap();
    assert_eq!(name, "t01000-post-990-0-2-2");
    assert_eq!(params(&spec).chain_commit_rand, [8; 32]);
}

#[test]
fn a_signed_message_is_left_alone_when_the_commitment_changes() {
    let mut world = with(report());
    make(&mut world, signed(MessageState::Pushed, 3));
    let mut moved = report();
    moved.chain_commit_rand = STANDARD.encode([8; 32]);
    say(&mut world, moved);
    assert_eq!(wish(&world), None);
    assert!(changed(&world).is_none_or(|s| s.state != Some(MessageState::Failed)));
}

#[test]
fn the_same_proof_is_sent_again_when_its_nonce_was_taken_and_not_when_it_was_refused() {
    let mut world = with(report());
    let first = make(&mut world, signed(MessageState::Failed, 3));
    assert!(wish(&world).is_some());
    let refused = ChainMessageStatus {
        exit_code: Some(16),
        ..signed(MessageState::Failed, 3)
    };
    set(&mut world, &first, refused);
    assert_eq!(wish(&world), None);
}

#[test]
fn unsigned_wishes_do_not_count_and_three_signed_ones_are_the_most() {
    let mut world = with(report());
    for n in 1..=6 {
        let failed = ChainMessageStatus {
            state: Some(MessageState::Failed),
            ..ChainMessageStatus::default()
        };
        assert_eq!(make(&mut world, failed), format!("t01000-post-990-0-2-{n}"));
    }
    for nonce in 0..3 {
        make(&mut world, signed(MessageState::Failed, nonce));
    }
    assert_eq!(wish(&world), None);
}
