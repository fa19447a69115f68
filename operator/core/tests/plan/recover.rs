//! Recoveries of faulty sectors, as data.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use filstar_chain::message::params::{DeclareFaultsRecovered, MinerParams};
use filstar_chain::proving::DeadlineInfo;
use filstar_chain::types::{Epoch, bitfield};
use filstar_core::action::{Action, StatusPatch};
use filstar_core::plan::plan;
use filstar_core::plan::recover::{Step, standings};
use filstar_core::status::status;
use filstar_core::world::{Faults, World};
use filstar_crds::{
    ChainMessage, ChainMessageSpec, ChainMessageStatus, MessageKind, MessageRefs, MessageState,
    PostBatch, SectorPhase,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::*;

/// Deadline 4 of the chain at epoch 1000 opens at 1050; its cutoff is 1040, and it last closed at 945.
const DEADLINE: u64 = 4;
const OPEN: i64 = 1050;
const CUTOFF: i64 = 1040;

fn batch(spec: Value, faults: &Value) -> PostBatch {
    let mut whole = json!({
        "apiVersion": "filstar.io/v1alpha1", "kind": "PostBatch",
        "metadata": {"name": "b", "namespace": NS, "uid": "b", "resourceVersion": "1", "generation": 1},
        "spec": {"minerRef": {"name": "m"}, "parametersPath": "/params", "lane": {"memory": "1Gi"}},
        "status": {"faults": faults},
    });
    let Value::Object(more) = spec else {
        panic!("a spec is an object")
    };
    whole["spec"].as_object_mut().unwrap().extend(more);
    serde_json::from_value(whole).unwrap()
}

fn vouched(partition: u64, readable: &str, read_epoch: i64) -> Value {
    json!({"deadline": DEADLINE, "partition": partition, "readable": readable, "readEpoch": read_epoch})
}

/// A world in which these sectors of deadline 4 are faulty, and the last of them recover.
fn faulty(partitions: &[(u64, &[u64], &[u64])], reports: &[Value]) -> World {
    let mut world = world();
    let chain = chain_mut(&mut world);
    chain.deadline.period_start = Epoch(990);
    for (partition, faulty, recovering) in partitions {
        let bits = |n: &[u64]| bitfield::of(n.iter().copied()).unwrap();
        let faults = Faults {
            faulty: bits(faulty),
            recovering: bits(recovering),
        };
        chain.faulty += faults.faulty.len();
        chain.recovering += faults.recovering.len();
        chain.faults.insert((DEADLINE, *partition), faults);
    }
    world.batches.apply(batch(json!({}), &json!(reports)));
    world
}

fn set_head(world: &mut World, head: i64) {
    let chain = chain_mut(world);
    chain.head = Epoch(head);
    chain.deadline.current_epoch = Epoch(head);
}

fn wishes(world: &World) -> Vec<(String, ChainMessageSpec)> {
    let actions = plan(world, at(0));
    let made = actions.into_iter().filter_map(|a| match a {
        Action::CreateMessage { id, spec, .. } => Some((id.name, *spec)),
        _ => None,
    });
    made.filter(|(_, s)| s.kind == MessageKind::DeclareRecovered)
        .collect()
}

fn wish(world: &World) -> (String, ChainMessageSpec) {
    let mut all = wishes(world);
    assert_eq!(all.len(), 1, "{all:#?}");
    all.remove(0)
}

/// Partition and sectors.
fn named(spec: &ChainMessageSpec) -> Vec<(u64, Vec<u64>)> {
    let bytes = STANDARD.decode(&spec.params).unwrap();
    let params = DeclareFaultsRecovered::from_cbor(&bytes).unwrap();
    let one = params.recoveries.into_iter().map(|r| {
        assert_eq!(r.deadline, DEADLINE);
        (r.partition, bitfield::numbers(&r.sectors, 1 << 20).unwrap())
    });
    one.collect()
}

fn made(name: &str, spec: ChainMessageSpec, status: ChainMessageStatus) -> ChainMessage {
    let mut message = message(name, MessageKind::DeclareRecovered, status);
    message.spec = spec;
    message
}

fn step(world: &World) -> Step {
    let batch = world.batches.get(&id("b")).unwrap();
    standings(world, &id("b"), batch).remove(0).step
}

#[test]
fn readable_faults_of_a_deadline_are_declared_by_one_message() {
    let reports = [vouched(0, "1-2", 990), vouched(3, "9", 1000)];
    let mut world = faulty(&[(0, &[1, 2], &[]), (3, &[8, 9], &[8])], &reports);
    let mut miner = miner();
    let key = "t17jujyyf4riybpwxramk4btegcuiavhcerkrhx6q";
    miner.spec.senders.recover = Some(key.into());
    miner.metadata.resource_version = Some("2".into());
    world.miners.apply(miner);
    let (name, spec) = wish(&world);
    assert_eq!(name, format!("t01000-recover-{OPEN}-{DEADLINE}-1"));
    assert_eq!(named(&spec), [(0, vec![1, 2]), (3, vec![9])]);
    assert_eq!(spec.sectors, [1, 2, 9]);
    assert_eq!((spec.method, spec.from.as_str()), (11, key));
    assert_eq!(spec.deadline_epoch, Some(CUTOFF - 1));
}

#[test]
fn recoveries_are_sent_by_the_key_of_proofs_when_they_have_none_of_their_own() {
    let world = faulty(&[(0, &[1], &[])], &[vouched(0, "1", 1000)]);
    assert_eq!(wish(&world).1.from, SENDER);
}

#[test]
fn only_what_is_faulty_and_not_yet_recovering_is_declared() {
    let world = faulty(&[(0, &[1, 2], &[2])], &[vouched(0, "1-9", 1000)]);
    assert_eq!(named(&wish(&world).1), [(0, vec![1])]);
    let world = faulty(&[(0, &[1, 2], &[1, 2])], &[vouched(0, "1-9", 1000)]);
    assert!(wishes(&world).is_empty());
}

#[test]
fn nothing_is_declared_on_an_old_word_or_none() {
    for (report, what) in [
        (
            vouched(0, "1", 969),
            "read more than a quarter of a period ago",
        ),
        (vouched(1, "1", 1000), "of another partition"),
        (vouched(0, "2", 1000), "of another sector"),
        (vouched(0, "x", 1000), "not ranges"),
        (
            json!({"deadline": DEADLINE, "partition": 0, "readable": "1"}),
            "without an epoch",
        ),
    ] {
        let world = faulty(&[(0, &[1], &[])], &[report]);
        assert!(wishes(&world).is_empty(), "{what}");
        assert_eq!(step(&world), Step::NoneReadable, "{what}");
    }
    let world = faulty(&[(0, &[1], &[])], &[vouched(0, "1", 970)]);
    assert_eq!(wishes(&world).len(), 1);
}

#[test]
fn a_reading_from_before_the_deadline_closed_says_nothing_of_what_became_of_it() {
    for (read, wanted) in [(944, 0), (945, 1)] {
        let mut world = faulty(&[(0, &[1], &[])], &[vouched(0, "1", read)]);
        chain_mut(&mut world).deadline.period_start = Epoch(870);
        set_head(&mut world, 950);
        assert_eq!(wishes(&world).len(), wanted, "read at {read}");
    }
}

#[test]
fn a_sector_is_never_declared_twice_for_one_window() {
    let reports = [vouched(0, "1-2", 1000)];
    let world = faulty(&[(0, &[1, 2], &[])], &reports);
    let (name, spec) = wish(&world);
    for state in [
        MessageState::Wish,
        MessageState::Signed,
        MessageState::Pushed,
        MessageState::Landed,
        MessageState::Final,
    ] {
        let mut world = faulty(&[(0, &[1, 2], &[])], &reports);
        let status = signed(state, 3);
        world.messages.apply(made(&name, spec.clone(), status));
        assert!(wishes(&world).is_empty(), "{state:?}");
        assert_eq!(step(&world), Step::Declaring(name.clone()), "{state:?}");
    }
}

#[test]
fn what_an_older_message_may_still_declare_is_not_declared_again() {
    let world = faulty(&[(0, &[1], &[])], &[vouched(0, "1", 1000)]);
    let (_, spec) = wish(&world);
    let older = format!("t01000-recover-{}-{DEADLINE}-1", OPEN - 120);
    for (state, again) in [
        (MessageState::Pushed, 0),
        (MessageState::Landed, 0),
        (MessageState::Final, 1),
        (MessageState::Failed, 1),
    ] {
        let mut world = world.clone();
        world
            .messages
            .apply(made(&older, spec.clone(), signed(state, 3)));
        assert_eq!(wishes(&world).len(), again, "{state:?}");
    }
}

#[test]
fn a_failed_declaration_is_followed_by_the_next_three_times() {
    let mut world = faulty(&[(0, &[1], &[])], &[vouched(0, "1", 1000)]);
    for n in 1..=3 {
        let (name, spec) = wish(&world);
        assert_eq!(name, format!("t01000-recover-{OPEN}-{DEADLINE}-{n}"));
        world
            .messages
            .apply(made(&name, spec, signed(MessageState::Failed, n)));
    }
    assert!(wishes(&world).is_empty());
    assert!(matches!(step(&world), Step::GivenUp(_)));
}

#[test]
fn a_declaration_waits_for_missing_sectors_until_a_quarter_of_a_period_is_left() {
    let reports = |epoch| [vouched(0, "1", epoch)];
    let mut world = faulty(&[(0, &[1, 2], &[])], &reports(1000));
    assert!(wishes(&world).is_empty());
    assert_eq!(step(&world), Step::Gathering(Epoch(1010)));
    set_head(&mut world, 1010);
    let (name, spec) = wish(&world);
    assert_eq!(named(&spec), [(0, vec![1])]);
    world
        .messages
        .apply(made(&name, spec, signed(MessageState::Pushed, 3)));
    assert!(wishes(&world).is_empty());
    // The other is found later: it gets a message of its own.
    let mut later = batch(json!({}), &json!([vouched(0, "1-2", 1012)]));
    later.metadata.resource_version = Some("2".into());
    world.batches.apply(later);
    let (name, spec) = wish(&world);
    assert_eq!(name, format!("t01000-recover-{OPEN}-{DEADLINE}-2"));
    assert_eq!(named(&spec), [(0, vec![2])]);
}

#[test]
fn nothing_is_declared_for_a_batch_that_does_not_want_it_or_does_not_prove() {
    for (field, want) in [
        ("declareRecoveries", Step::NotWanted),
        ("suspend", Step::Suspended),
    ] {
        let mut world = faulty(&[(0, &[1], &[])], &[]);
        let spec = json!({field: field == "suspend"});
        let mut other = batch(spec, &json!([vouched(0, "1", 1000)]));
        other.metadata.resource_version = Some("2".into());
        world.batches.apply(other);
        assert!(wishes(&world).is_empty(), "{field}");
        assert_eq!(step(&world), want);
    }
}

#[test]
fn more_sectors_than_one_message_may_name_take_several() {
    let all: Vec<u64> = (0..25_003).collect();
    let (first, last) = all.split_at(25_001);
    let reports = [vouched(0, "0-25000", 1000), vouched(1, "25001-25002", 1000)];
    let mut world = faulty(&[(0, first, &[]), (1, last, &[])], &reports);
    let (name, spec) = wish(&world);
    assert_eq!(named(&spec), [(0, all[..25_000].to_vec())]);
    assert!(spec.sectors.is_empty(), "the list would be too long");
    world
        .messages
        .apply(made(&name, spec, signed(MessageState::Pushed, 3)));
    let rest = named(&wish(&world).1);
    assert_eq!(rest, [(0, vec![25_000]), (1, vec![25_001, 25_002])]);
}

#[test]
fn a_recovery_is_signed_before_other_messages_of_its_sender_but_after_a_window_proof() {
    let mut world = world();
    let mut sealing = sector(SectorPhase::PreCommitting);
    sealing.status.as_mut().unwrap().messages = Some(MessageRefs {
        pre_commit: Some("a".into()),
        ..MessageRefs::default()
    });
    world.sectors.apply(sealing);
    for (name, kind) in [
        ("a", MessageKind::PreCommit),
        ("b", MessageKind::DeclareRecovered),
        ("c", MessageKind::WindowPost),
    ] {
        world
            .messages
            .apply(message(name, kind, ChainMessageStatus::default()));
    }
    let signing = |world: &World| {
        let actions = plan(world, at(0));
        let names = actions.iter().filter_map(|a| match a {
            Action::SignMessage { id, .. } => Some(id.name.clone()),
            _ => None,
        });
        names.collect::<Vec<_>>()
    };
    assert_eq!(signing(&world), ["c", "b", "a"]);
    let mut done = message("c", MessageKind::WindowPost, signed(MessageState::Final, 1));
    done.metadata.resource_version = Some("2".into());
    world.messages.apply(done);
    assert_eq!(signing(&world), ["b", "a"]);
}

fn conditions_of(world: &World) -> Vec<(String, String, String, String)> {
    let mut found = status(world, at(0)).into_iter().filter_map(|a| match a {
        Action::PatchStatus { status, .. } => match *status {
            StatusPatch::Batch(status) => Some(status),
            _ => None,
        },
        _ => None,
    });
    let batch = found.next().unwrap();
    let all = batch.conditions.into_iter();
    all.map(|c| (c.type_, c.status, c.reason, c.message))
        .collect()
}

/// With a prover pod that is ready.
fn with_prover(mut world: World) -> World {
    let mut pod = sealer_pod("node-a");
    pod.metadata.name = Some("prover-b".into());
    pod.metadata.uid = Some("prover-b".into());
    world.pods.apply(pod);
    world
}

fn condition(world: &World, kind: &str) -> (String, String, String) {
    let all = conditions_of(world);
    let found = all.into_iter().find(|c| c.0 == kind).unwrap();
    (found.1, found.2, found.3)
}

#[test]
fn a_sector_that_cannot_be_read_is_named_with_its_file_and_what_to_do() {
    let report = json!({
        "deadline": DEADLINE, "partition": 0, "unreadableSectors": 5, "unreadable": [
            {"number": 7, "reason": "/stores/a/sealed/s-t01000-7: the replica is not there"},
        ],
    });
    let world = with_prover(faulty(&[(0, &[3, 4, 5, 6, 7], &[])], &[report]));
    for kind in ["FaultsReadable", "Ready"] {
        let (status, _, text) = condition(&world, kind);
        assert_eq!(status, "False");
        for part in [
            "sector 7: /stores/a/sealed/s-t01000-7",
            "and 4 more",
            "Bring the files back",
        ] {
            assert!(text.contains(part), "{kind}: {text}");
        }
    }
    assert_eq!(condition(&world, "Stalled").0, "True");
}

#[test]
fn a_batch_says_how_far_the_recovery_is() {
    let reason = |world: World| condition(&with_prover(world), "Ready").1;
    let vouch = [vouched(0, "1", 1000)];
    assert_eq!(reason(faulty(&[(0, &[1], &[])], &[])), "FaultySectors");
    assert_eq!(reason(faulty(&[(0, &[1, 2], &[])], &vouch)), "Gathering");
    assert_eq!(reason(faulty(&[(0, &[1], &[])], &vouch)), "Declaring");
    assert_eq!(reason(faulty(&[(0, &[1], &[1])], &vouch)), "Recovering");
    let mut late = faulty(&[(0, &[1], &[])], &[vouched(0, "1", CUTOFF)]);
    set_head(&mut late, CUTOFF);
    assert_eq!(reason(late), "CutoffPassed");
    assert_eq!(reason(faulty(&[], &[])), "Proving");
}

/// A chain of any shape at any moment.
fn any_deadline() -> impl Strategy<Value = DeadlineInfo> {
    let shape = (1_i64..60, 1_u64..48, 1_i64..40, 0_i64..40);
    (shape, 0_i64..3000, 0_i64..3000).prop_map(|(shape, start, elapsed)| {
        let (window, deadlines, lookback, more) = shape;
        let period = window * i64::try_from(deadlines).unwrap();
        let elapsed = elapsed % period;
        let index = elapsed / window;
        let open = start + index * window;
        DeadlineInfo {
            current_epoch: Epoch(start + elapsed),
            period_start: Epoch(start),
            index: u64::try_from(index).unwrap(),
            open: Epoch(open),
            close: Epoch(open + window),
            challenge: Epoch(open - lookback),
            fault_cutoff: Epoch(open - lookback - more),
            period_deadlines: deadlines,
            proving_period: period,
            challenge_window: window,
            challenge_lookback: lookback,
            fault_declaration_cutoff: lookback + more,
        }
    })
}

/// What the actor asks of a declaration that runs in this epoch, in our own words: the deadline's next end is looked for,
/// and its cutoff must not have come.
fn actor_accepts(info: &DeadlineInfo, deadline: u64, epoch: i64) -> bool {
    let offset = i64::try_from(deadline).unwrap() * info.challenge_window;
    let mut open = info.period_start.0 + offset;
    while epoch >= open + info.challenge_window {
        open += info.proving_period;
    }
    epoch < open - info.fault_declaration_cutoff
}

proptest! {
    #[test]
    fn prop_a_declaration_is_wished_for_exactly_while_the_actor_takes_it(info in any_deadline(), pick in 0_u64..48) {
        let deadline = pick % info.period_deadlines;
        let mut world = world();
        let head = info.current_epoch.0;
        let chain = chain_mut(&mut world);
        chain.head = info.current_epoch;
        chain.deadline = info;
        let faulty = bitfield::of([1]).unwrap();
        chain.faults.insert((deadline, 0), Faults { faulty, ..Faults::default() });
        let report = json!({"deadline": deadline, "partition": 0, "readable": "1", "readEpoch": head});
        world.batches.apply(batch(json!({}), &json!([report])));
        let wished = wishes(&world);
        // It lands in the next epoch at the earliest, and there is time for two more.
        let in_time = (head + 1..head + 3).all(|epoch| actor_accepts(&info, deadline, epoch));
        let open = info.next_window(deadline).unwrap().is_open(info.current_epoch);
        if in_time && !open {
            prop_assert_eq!(wished.len(), 1);
        }
        for (_, spec) in wished {
            prop_assert!(actor_accepts(&info, deadline, head + 1));
            // Signed at the last moment that its deadline allows, it still lands in time.
            let last = spec.deadline_epoch.unwrap();
            prop_assert!(actor_accepts(&info, deadline, last));
            prop_assert!(!actor_accepts(&info, deadline, last + 1));
        }
    }
}
