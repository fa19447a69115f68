use filstar_sealing::task::Skipped;

use super::*;
use crate::prove::plan::{Partition, Work};

fn due(commit: u8, submitted: bool) -> Due {
    let partition = Partition {
        live: (0..4000).collect(),
        submitted,
        ..Partition::default()
    };
    Due {
        window: Window {
            open: Epoch(100),
            deadline: 3,
            close: Epoch(160),
            challenge: Epoch(80),
            fault_cutoff: Epoch(30),
        },
        randomness: Hash32([1; 32]),
        commit: [commit; 32],
        partitions: [(0, partition)].into(),
    }
}

fn step(due: &Due) -> Step {
    Step {
        slot: SLOT,
        window: due.window,
        randomness: due.randomness,
        commit: due.commit,
        work: Work::Prove([1].into()),
        again: false,
    }
}

const SLOT: Slot = Slot {
    deadline: 3,
    partition: 0,
};

fn attempt(skipped: &[u64]) -> Attempt {
    let skip = |number: &u64| Skipped {
        number: *number,
        class: Class::Corrupt,
        reason: "x".repeat(9000),
    };
    Attempt {
        proof: Ok(vec![1, 2, 3]),
        post_proof: 10,
        proven: 1,
        skipped: skipped.iter().map(skip).collect(),
    }
}

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn only(notes: &Notes) -> ProverReport {
    let all: Vec<_> = notes.reports().cloned().collect();
    assert_eq!(all.len(), 1);
    all[0].clone()
}

#[test]
fn a_partition_is_reported_as_soon_as_it_is_due() {
    let mut notes = Notes::default();
    notes.observe(&due(2, false), Epoch(81));
    let report = only(&notes);
    assert_eq!(
        (report.open, report.close, report.sectors),
        (100, 160, 4000)
    );
    assert_eq!(
        (report.proof, report.error, report.attempts),
        (None, None, 0)
    );
}

#[test]
fn a_reorg_under_the_challenge_changes_the_commitment_and_not_the_proof() {
    let mut notes = Notes::default();
    let before = due(2, false);
    notes.observe(&before, Epoch(81));
    let step = step(&before);
    // While it was proven.
    notes.observe(&due(3, false), Epoch(82));
    notes.proven(&step, attempt(&[]), Duration::from_secs(1), now());
    assert_eq!(only(&notes).chain_commit_rand, BASE64.encode([3; 32]));
    // And after that.
    notes.observe(&due(4, false), Epoch(110));
    let report = only(&notes);
    assert_eq!(report.chain_commit_rand, BASE64.encode([4; 32]));
    assert_eq!(report.chain_commit_epoch, 80);
    assert_eq!(report.proof, Some(BASE64.encode([1, 2, 3])));
    assert!(notes.is_proven(SLOT, &due(4, false)));
    // What the chain took is history.
    notes.observe(&due(5, true), Epoch(111));
    assert_eq!(only(&notes).chain_commit_rand, BASE64.encode([4; 32]));
}

#[test]
fn all_that_a_proof_leaves_out_is_told_and_a_few_reasons() {
    let mut notes = Notes::default();
    let left_out: Vec<u64> = (0..3000).filter(|n| n % 2 == 0).collect();
    let due = due(2, false);
    notes.proven(
        &step(&due),
        attempt(&left_out),
        Duration::from_secs(1),
        now(),
    );
    let report = only(&notes);
    assert_eq!(
        (report.skipped_sectors, report.skipped.len()),
        (1500, NAMED)
    );
    let told = filstar_crds::parse_ranges(&report.skipped_numbers).unwrap();
    assert_eq!(told.into_iter().flatten().collect::<Vec<_>>(), left_out);
    assert!(report.skipped.iter().all(|s| s.reason.len() <= 512));
    assert!(serde_json::to_vec(&report).unwrap().len() < 16_000);
}

#[test]
fn a_failure_says_its_class_and_how_often_it_was_tried() {
    let mut notes = Notes::default();
    let step = step(&due(2, false));
    for _ in 0..2 {
        let failure = Failure::new(Class::Temporary, "y".repeat(9000));
        notes.proven(
            &step,
            Attempt::failed(failure),
            Duration::from_secs(1),
            now(),
        );
    }
    let report = only(&notes);
    assert_eq!(
        (report.attempts, report.error_class),
        (2, Some(filstar_crds::TaskClass::Temporary))
    );
    assert!(report.error.unwrap().len() <= 4096);
    assert_eq!(report.skipped_numbers, "");
}

#[test]
fn reports_of_long_ago_are_forgotten() {
    let mut notes = Notes::default();
    notes.observe(&due(2, false), Epoch(81));
    notes.forget_before(Epoch(159));
    assert_eq!(notes.reports().count(), 1);
    notes.forget_before(Epoch(160));
    assert_eq!(notes.reports().count(), 0);
}

#[test]
fn what_was_reported_before_a_restart_is_taken_over_unless_more_is_known() {
    let (now, due) = (now(), due(2, false));
    let mut before = Notes::default();
    before.proven(&step(&due), attempt(&[]), Duration::ZERO, now);
    let proven = only(&before);
    // Only that it is due is known by now.
    let mut notes = Notes::default();
    notes.observe(&due, Epoch(90));
    notes.recall([proven.clone()]);
    assert_eq!(only(&notes), proven);
    assert_eq!(notes.holds(SLOT, &due), None, "it is checked");
    // A proof of our own, or of a later window, stays.
    notes.proven(&step(&due), attempt(&[7]), Duration::ZERO, now);
    let ours = only(&notes);
    notes.recall([proven.clone()]);
    assert_eq!(only(&notes), ours);
    let mut later = super::tests::due(2, false);
    later.window.open = Epoch(2980);
    notes.observe(&later, Epoch(2970));
    notes.recall([proven]);
    assert_eq!(only(&notes).open, 2980);
}
