//! Window proofs, as data.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use filstar_chain::message::params::{MinerParams, SubmitWindowedPost};
use filstar_chain::types::bitfield;
use filstar_core::action::{Action, StatusPatch};
use filstar_core::plan::plan;
use filstar_core::world::{ChainProblem, World};
use filstar_crds::{
    ChainMessage, ChainMessageSpec, ChainMessageStatus, MessageKind, MessageState, PostBatch,
    ProverReport, conditions,
};
use serde_json::json;

use crate::messages;
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

#[test]
fn a_proof_that_ran_out_of_gas_is_sent_again() {
    let mut world = with(report());
    make(
        &mut world,
        ChainMessageStatus {
            exit_code: Some(7),
            ..signed(MessageState::Failed, 3)
        },
    );
    assert_eq!(wish(&world).unwrap().0, "t01000-post-990-0-2-2");
}

#[test]
fn the_word_of_a_suspended_batch_counts_less_than_that_of_the_prover() {
    let mut world = with(report());
    make(&mut world, ChainMessageStatus::default());
    let mut old = world.batches.get(&id("b")).unwrap().clone();
    (old.metadata.name, old.metadata.uid) = (Some("a".into()), Some("a".into()));
    old.spec.suspend = true;
    old.status.as_mut().unwrap().prover[0].chain_commit_rand = STANDARD.encode([9; 32]);
    world.batches.apply(old);
    assert_eq!(changed(&world), None, "not superseded");
}

/// What the batch says of being on time, when so much of the window is over and these partitions are proven.
fn on_time(head: i64, proven: &[u64]) -> (String, String) {
    let mut world = with(report());
    let chain = chain_mut(&mut world);
    chain.head = filstar_chain::types::Epoch(head);
    chain.partitions[0] = bitfield::of([0, 2, 3]).unwrap();
    chain.proven[0] = bitfield::of(proven.iter().copied()).unwrap();
    let said = filstar_core::status::status(&world, at(0))
        .into_iter()
        .find_map(|a| match a {
            Action::PatchStatus { status, .. } => match *status {
                StatusPatch::Batch(status) => Some(status),
                _ => None,
            },
            _ => None,
        });
    let mut said = said.unwrap().conditions.into_iter();
    let said = said.find(|c| c.type_ == conditions::ON_TIME).unwrap();
    (said.reason, said.message)
}

#[test]
fn half_a_window_before_its_end_it_is_said_what_has_no_proof() {
    assert_eq!(on_time(996, &[]).0, "OnTime");
    let (reason, message) = on_time(998, &[2]);
    assert_eq!(reason, "InDanger");
    assert!(
        message.contains("closes at epoch 1005") && message.contains("partition 0, 3:"),
        "{message}"
    );
    assert_eq!(on_time(998, &[0, 2, 3]).0, "OnTime");
    assert_eq!(on_time(1005, &[]).0, "OnTime", "it is not open any more");
}

#[test]
fn under_rules_that_we_do_not_know_proofs_are_signed_and_what_is_signed_is_pushed_and_no_more() {
    let mut world = messages::with(ChainMessageStatus::default());
    for (name, kind) in [
        ("p", MessageKind::WindowPost),
        ("r", MessageKind::DeclareRecovered),
    ] {
        world
            .messages
            .apply(message(name, kind, ChainMessageStatus::default()));
    }
    let signed = message(
        "old",
        MessageKind::PreCommit,
        signed(MessageState::Signed, 3),
    );
    world.messages.apply(signed);
    let set = |world: &mut World, problem| {
        world.chains.get_mut(&id("m")).unwrap().problem = Some(problem);
    };
    set(&mut world, ChainProblem::UnknownNetworkVersion("99".into()));
    assert_eq!(messages::signing(&world), ["p", "r"]);
    let pushes = |a: &Action| matches!(a, Action::PushMessage { .. });
    assert!(
        plan(&world, at(0)).iter().any(pushes),
        "others wait behind its nonce"
    );
    set(&mut world, ChainProblem::OutOfSync("old".into()));
    assert_eq!(messages::signing(&world), [""; 0]);
    assert!(!plan(&world, at(0)).iter().any(pushes));
}
