use filstar_sealing::{Class, task::Skipped};
use jiff::SignedDuration;

use super::*;
use crate::{prove::notes::Attempt, wire::Failure};

const SECOND: Duration = Duration::from_secs(1);

/// Deadline 3 is open from 100 to 160, its challenge is that of epoch 80.
fn due(deadline: u64, open: i64, partitions: u64) -> Due {
    Due {
        window: Window {
            open: Epoch(open),
            deadline,
            close: Epoch(open + 60),
            challenge: Epoch(open - 20),
            fault_cutoff: Epoch(open - 70),
        },
        randomness: Hash32([1; 32]),
        commit: [2; 32],
        partitions: (0..partitions).map(|n| (n, partition())).collect(),
    }
}

fn partition() -> Partition {
    Partition {
        live: [1, 2, 3, 4].into(),
        faulty: [2, 3].into(),
        recovering: [3].into(),
        submitted: false,
    }
}

fn slot(deadline: u64, partition: u64) -> Slot {
    Slot {
        deadline,
        partition,
    }
}

fn second(n: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + n).unwrap()
}

/// Epochs last 30 s.
fn at(epoch: i64) -> Moment {
    Moment {
        epoch: Epoch(epoch),
        now: second(epoch * 30),
        epoch_time: 30 * SECOND,
        read_timeout: 120 * SECOND,
    }
}

fn later(at: Moment, seconds: i64) -> Moment {
    let now = at.now + SignedDuration::from_secs(seconds);
    Moment { now, ..at }
}

fn step(due: &Due, partition: u64, work: Work, again: bool) -> Step {
    Step {
        slot: slot(due.window.deadline, partition),
        window: due.window,
        randomness: due.randomness,
        commit: due.commit,
        work,
        again,
    }
}

fn all() -> BTreeSet<u64> {
    [1, 3, 4].into()
}

fn good(skipped: &[u64]) -> Attempt {
    let skip = |number: &u64| Skipped {
        number: *number,
        class: Class::Temporary,
        reason: "its store did not answer within 2m".into(),
    };
    Attempt {
        proof: Ok(vec![1, 2, 3]),
        post_proof: 10,
        proven: 3 - skipped.len(),
        skipped: skipped.iter().map(skip).collect(),
    }
}

fn bad(class: Class) -> Attempt {
    Attempt::failed(Failure::new(class, "killed"))
}

/// Notes after an attempt at this partition that took a second.
fn learn(notes: &mut Notes, due: &Due, partition: u64, attempt: Attempt, at: Moment) {
    let again = notes.is_proven(slot(due.window.deadline, partition), due);
    let step = step(due, partition, Work::Prove(all()), again);
    notes.proven(&step, attempt, SECOND, at.now);
}

/// What is left of notes after a restart.
fn recalled(notes: &Notes) -> Notes {
    let mut after = Notes::default();
    after.recall(notes.reports().cloned());
    after
}

fn decided(due: &Due, at: &Moment, notes: &Notes) -> Decision {
    decide(
        due,
        slot(due.window.deadline, 0),
        &due.partitions[&0],
        at,
        notes,
    )
}

fn proves(due: &Due, at: &Moment, notes: &Notes) -> bool {
    decided(due, at, notes) == Decision::Do(Work::Prove(all()))
}

fn running(step: Step, took: Duration) -> Running {
    let patience = 600 * SECOND;
    Running {
        step,
        took,
        patience,
    }
}

fn started(plan: &Plan) -> Option<Slot> {
    plan.start.as_ref().map(|s| s.slot)
}

#[test]
fn faulty_sectors_are_proven_only_when_they_recover() {
    assert!(proves(&due(3, 100, 1), &at(81), &Notes::default()));
}

#[test]
fn nothing_is_proven_before_the_challenge_or_after_the_close() {
    for epoch in [79, 80, 160, 200] {
        assert!(
            !proves(&due(3, 100, 1), &at(epoch), &Notes::default()),
            "{epoch}"
        );
    }
}

#[test]
fn submitted_bit_counts_only_while_the_deadline_is_open() {
    let mut due = due(3, 100, 1);
    due.partitions.get_mut(&0).unwrap().submitted = true;
    assert!(proves(&due, &at(90), &Notes::default()));
    assert!(!proves(&due, &at(110), &Notes::default()));
}

#[test]
fn what_only_waits_to_be_proven_is_proven() {
    let (due, mut notes) = (due(3, 100, 1), Notes::default());
    notes.observe(&due, Epoch(90));
    assert!(proves(&due, &at(90), &notes));
}

#[test]
fn ready_proof_is_kept_until_the_challenge_changes() {
    let (mut due, mut notes) = (due(3, 100, 1), Notes::default());
    learn(&mut notes, &due, 0, good(&[]), at(90));
    for epoch in [90, 110, 159] {
        assert!(matches!(
            decided(&due, &at(epoch), &notes),
            Decision::Rest(_)
        ));
    }
    // The proof of the period before is none of this.
    let next = self::due(3, 2980, 1);
    assert!(proves(&next, &at(2970), &notes));
    due.randomness = Hash32([9; 32]);
    assert!(matches!(
        decided(&due, &at(90), &notes),
        Decision::Do(Work::Check(_))
    ));
}

#[test]
fn a_proof_from_before_a_restart_is_checked_without_what_it_leaves_out() {
    let (due, mut before) = (due(3, 100, 1), Notes::default());
    learn(&mut before, &due, 0, good(&[3]), at(90));
    let mut notes = recalled(&before);
    let claimed: BTreeSet<u64> = [1, 4].into();
    let check = Work::Check(claimed);
    assert_eq!(decided(&due, &at(110), &notes), Decision::Do(check.clone()));
    let checked = step(&due, 0, check.clone(), false);
    // A check that could not be made says nothing against the proof: it is made again after a pause.
    let lost = Failure::new(Class::Temporary, "killed");
    notes.checked(&checked, &Err(lost), at(110).now);
    assert!(matches!(decided(&due, &at(110), &notes), Decision::Rest(_)));
    assert_eq!(
        decided(&due, &later(at(110), 10), &notes),
        Decision::Do(check)
    );
    notes.checked(&checked, &Ok(()), at(110).now);
    assert!(matches!(decided(&due, &at(110), &notes), Decision::Rest(_)));
    let wrong = Failure::new(Class::Permanent, "no");
    notes.checked(&checked, &Err(wrong), at(110).now);
    assert!(proves(&due, &at(110), &notes));
}

#[test]
fn a_temporary_failure_is_repeated_with_growing_pauses_until_it_is_too_late() {
    let (due, mut notes) = (due(3, 100, 1), Notes::default());
    let mut now = at(110);
    for pause in [10, 20, 40, 80, 120, 120] {
        learn(&mut notes, &due, 0, bad(Class::Temporary), now);
        // A restart keeps it.
        notes = recalled(&notes);
        assert!(!proves(&due, &later(now, pause - 1), &notes), "{pause}");
        now = later(now, pause);
        assert!(proves(&due, &now, &notes), "{pause}");
    }
    let last = |epoch| Moment {
        epoch: Epoch(epoch),
        ..now
    };
    assert!(proves(&due, &last(157), &notes));
    assert!(!proves(&due, &last(158), &notes));
}

#[test]
fn a_clock_that_was_set_back_keeps_nobody_waiting() {
    let (due, mut notes) = (due(3, 100, 1), Notes::default());
    learn(&mut notes, &due, 0, bad(Class::Temporary), at(110));
    assert!(proves(&due, &later(at(110), -100_000), &notes));
}

#[test]
fn what_may_be_chance_is_repeated_once_and_what_needs_a_person_never() {
    let (due, much_later) = (due(3, 100, 1), later(at(120), 100_000));
    for (class, repeated) in [
        (Class::Temporary, [true, true]),
        (Class::Corrupt, [true, true]),
        (Class::Permanent, [true, false]),
        (Class::Fatal, [false, false]),
    ] {
        let mut notes = Notes::default();
        for again in repeated {
            learn(&mut notes, &due, 0, bad(class), at(110));
            assert_eq!(proves(&due, &much_later, &notes), again, "{class}");
        }
    }
}

#[test]
fn what_was_left_out_is_read_again_until_the_deadline_opens_and_then_proven() {
    let (due, mut notes) = (due(3, 100, 1), Notes::default());
    learn(&mut notes, &due, 0, good(&[3]), at(90));
    let look = Work::Look([3].into());
    assert_eq!(decided(&due, &at(90), &notes), Decision::Do(look.clone()));
    assert!(matches!(decided(&due, &at(100), &notes), Decision::Rest(_)));
    let looked = step(&due, 0, look.clone(), true);
    notes.looked(&looked, false, at(90).now);
    assert!(matches!(
        decided(&due, &later(at(90), 9), &notes),
        Decision::Rest(_)
    ));
    assert_eq!(
        decided(&due, &later(at(90), 10), &notes),
        Decision::Do(look)
    );
    notes.looked(&looked, true, at(91).now);
    assert!(proves(&due, &at(91), &notes));
    assert!(!proves(&due, &at(100), &notes));
    // A proof that holds is not given up for an attempt that failed.
    learn(&mut notes, &due, 0, bad(Class::Temporary), at(92));
    assert!(notes.is_proven(slot(3, 0), &due));
    assert!(matches!(decided(&due, &at(92), &notes), Decision::Rest(_)));
    learn(&mut notes, &due, 0, good(&[]), at(93));
    assert!(matches!(decided(&due, &at(95), &notes), Decision::Rest(_)));
}

#[test]
fn the_deadline_that_closes_first_is_proven_first_and_then_who_was_tried_least() {
    let (late, soon) = (due(4, 160, 2), due(3, 100, 2));
    let dues = [late.clone(), soon.clone()];
    let mut notes = Notes::default();
    let first = plan(&dues, &at(145), &notes, None);
    assert_eq!(started(&first), Some(slot(3, 0)));
    learn(&mut notes, &soon, 0, bad(Class::Temporary), at(100));
    let second = plan(&dues, &at(145), &notes, None);
    assert_eq!(started(&second), Some(slot(3, 1)));
    learn(&mut notes, &soon, 1, good(&[]), at(145));
    let third = plan(&dues, &at(145), &notes, None);
    assert_eq!(started(&third), Some(slot(3, 0)));
    // While it rests, the other deadline's turn has come.
    learn(&mut notes, &soon, 0, bad(Class::Temporary), at(145));
    let fourth = plan(&dues, &at(145), &notes, None);
    assert_eq!(started(&fourth), Some(slot(4, 0)));
}

#[test]
fn one_proof_is_made_at_a_time_and_ends_when_nobody_needs_it() {
    let mut due = due(3, 100, 1);
    let notes = Notes::default();
    let ours = running(step(&due, 0, Work::Prove(all()), false), SECOND);
    let stop = |dues: &[Due], epoch| plan(dues, &at(epoch), &notes, Some(&ours)).stop;
    assert_eq!(
        plan(&[due.clone()], &at(110), &notes, Some(&ours)),
        Plan::default()
    );
    // The chain did not answer for this window, or its head went back.
    assert_eq!(stop(&[], 110), None);
    assert_eq!(stop(&[], 70), None);
    assert_eq!(stop(&[], 160), Some(Stop::Closed));
    let mut moved = due.clone();
    moved.randomness = Hash32([9; 32]);
    assert!(matches!(stop(&[moved], 110), Some(Stop::Useless(_))));
    due.partitions.get_mut(&0).unwrap().submitted = true;
    assert_eq!(stop(&[due.clone()], 99), None);
    assert!(matches!(stop(&[due], 110), Some(Stop::Useless(_))));
}

#[test]
fn a_better_proof_and_a_look_give_way_to_what_a_deadline_is_missed_without() {
    let (have, need) = (due(3, 100, 1), due(4, 160, 1));
    let mut notes = Notes::default();
    learn(&mut notes, &have, 0, good(&[3]), at(90));
    let dues = [have.clone(), need.clone()];
    for work in [Work::Look([3].into()), Work::Prove(all())] {
        let better = running(step(&have, 0, work.clone(), true), SECOND);
        let calm = plan(&dues[..1], &at(95), &notes, Some(&better));
        assert_eq!(calm, Plan::default(), "{work:?}");
        let early = Due {
            window: Window {
                challenge: Epoch(80),
                ..need.window
            },
            ..need.clone()
        };
        let urgent = plan(&[have.clone(), early], &at(95), &notes, Some(&better));
        assert_eq!(urgent.stop, Some(Stop::GivesWay), "{work:?}");
        assert_eq!(started(&urgent), Some(slot(4, 0)));
        let open = plan(&dues[..1], &at(100), &notes, Some(&better));
        assert!(matches!(open.stop, Some(Stop::Useless(_))), "{work:?}");
    }
}

#[test]
fn a_proof_that_hangs_does_not_keep_the_others_waiting_for_ever() {
    let due = due(3, 100, 2);
    let mut notes = Notes::default();
    let hangs = |took| running(step(&due, 0, Work::Prove(all()), false), took * SECOND);
    let dues = [due.clone()];
    assert_eq!(plan(&dues, &at(110), &notes, Some(&hangs(600))).stop, None);
    let given_up = plan(&dues, &at(110), &notes, Some(&hangs(601)));
    assert_eq!(given_up.stop, Some(Stop::TooLong));
    assert_eq!(started(&given_up), Some(slot(3, 1)));
    // It is tried again after the others, and then has all the time that is left.
    learn(&mut notes, &due, 0, bad(Class::Temporary), at(110));
    learn(&mut notes, &due, 1, good(&[]), at(120));
    assert_eq!(
        started(&plan(&dues, &at(121), &notes, None)),
        Some(slot(3, 0))
    );
    assert_eq!(plan(&dues, &at(121), &notes, Some(&hangs(3000))).stop, None);
}

#[test]
fn a_proof_that_failed_more_often_does_not_push_out_one_that_is_slow() {
    let due = due(3, 100, 2);
    let mut notes = Notes::default();
    learn(&mut notes, &due, 1, bad(Class::Temporary), at(100));
    let slow = running(step(&due, 0, Work::Prove(all()), false), 3000 * SECOND);
    assert_eq!(plan(&[due], &at(120), &notes, Some(&slow)).stop, None);
}

#[test]
fn patience_comes_from_what_proofs_took_and_else_from_what_is_left() {
    let (due, mut notes) = (due(3, 100, 1), Notes::default());
    assert_eq!(patience(&notes, &due.window, &at(100)), 900 * SECOND);
    learn(&mut notes, &due, 0, good(&[]), at(90));
    assert_eq!(patience(&notes, &due.window, &at(100)), 483 * SECOND);
}

/// A proof takes 25 minutes of a window of which 40 are left at its challenge; two partitions are due.
#[test]
fn a_machine_that_needs_more_than_half_a_window_makes_a_proof_in_the_next_one() {
    let (due, mut notes) = (due(3, 100, 2), Notes::default());
    let first = patience(&notes, &due.window, &at(81));
    assert!(
        first < 1500 * SECOND,
        "it is given up for the other: {first:?}"
    );
    let step = step(&due, 0, Work::Prove(all()), false);
    notes.proven(&step, bad(Class::Temporary), first, at(121).now);
    let notes = recalled(&notes);
    let next = self::due(4, 160, 2);
    assert!(patience(&notes, &next.window, &at(141)) > 1500 * SECOND);
}

#[test]
fn a_chain_node_that_is_behind_does_not_bring_an_earlier_window_back() {
    let (later, mut notes) = (due(3, 2980, 1), Notes::default());
    learn(&mut notes, &later, 0, good(&[]), at(2970));
    let before: Vec<_> = notes.reports().cloned().collect();
    let earlier = due(3, 100, 1);
    notes.observe(&earlier, Epoch(110));
    assert!(matches!(
        decided(&earlier, &at(110), &notes),
        Decision::Rest(_)
    ));
    assert_eq!(notes.reports().cloned().collect::<Vec<_>>(), before);
}
