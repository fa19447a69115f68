//! The role against a chain node and an API server that answer what a test tells them to, with task processes that a script
//! plays.

mod fake;

use std::time::{Duration, Instant};

use filstar_crds::{ProverReport, TaskClass};
use serde_json::json;

use self::fake::{Fake, OPEN};
use super::*;

/// Longest that anything here takes on a machine that does much else.
const LONG: Duration = Duration::from_mins(1);

fn on_runtime(test: impl Future<Output = ()>) {
    drop(rustls::crypto::ring::default_provider().install_default());
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().unwrap();
    runtime.block_on(async { timeout(LONG, test).await.unwrap() });
}

fn reports(role: &Role) -> Vec<ProverReport> {
    role.notes.reports().cloned().collect()
}

/// Looks at the chain and does what is due until `done`.
async fn until(role: &mut Role, done: impl Fn(&[ProverReport]) -> bool) -> Vec<ProverReport> {
    let begin = Instant::now();
    loop {
        drop(role.turn().await);
        if !role.hand.is_free() {
            let ended = role.hand.ended().await;
            role.ended(ended);
        }
        let reports = reports(role);
        if role.hand.is_free() && done(&reports) {
            return reports;
        }
        assert!(begin.elapsed() < LONG, "{reports:#?}");
    }
}

fn all_proven(reports: &[ProverReport]) -> bool {
    !reports.is_empty() && reports.iter().all(|r| r.proof.is_some())
}

#[test]
fn the_loop_goes_on_and_tells_while_a_proof_takes_its_time() {
    on_runtime(async {
        let fake = Fake::start(&[(3, &[&[1, 2], &[3, 4]])]).await;
        fake.hold(1);
        let role = fake.role();
        let seen = async {
            fake.until(|s| s.asked("readPartition") == 1).await;
            let before = fake.calls("ChainHead");
            fake.until(|s| s.calls("ChainHead") >= before + 3).await;
            // It was told that both are due.
            assert_eq!(fake.told().len(), 2);
            assert!(fake.told().iter().all(|r| r["proof"].is_null()));
            fake.release(1);
            fake.until(|s| s.told().iter().all(|r| r["proof"] == json!("AQID")))
                .await;
        };
        tokio::select! {
            ended = run(role) => panic!("{ended:?}"),
            () = seen => {}
        }
    });
}

#[test]
fn one_partition_or_deadline_that_cannot_be_proven_does_not_stop_the_others() {
    on_runtime(async {
        let fake = Fake::start(&[(2, &[&[9]]), (3, &[&[1, 2], &[3], &[4, 5]])]).await;
        fake.set(|s| {
            s.head = OPEN - 10;
            s.mute_deadline = Some(2);
            // Synthetic and non-interactive sectors are proven like all others; this one is unknown.
            s.seal_proofs.extend([(1, 10), (2, 15), (3, 99)]);
        });
        let mut role = fake.role();
        let done = |r: &[ProverReport]| r.iter().filter(|r| r.attempts > 0).count() == 3;
        let reports = until(&mut role, done).await;
        let proven: Vec<_> = reports.iter().map(|r| r.proof.is_some()).collect();
        assert_eq!(proven, [true, false, true]);
        assert_eq!(reports[0].post_proof, 10);
        assert_eq!(reports[1].error_class, Some(TaskClass::Temporary));
        assert!(
            role.turn().await.is_err(),
            "the pod says that it cannot see a deadline"
        );
    });
}

#[test]
fn a_proof_whose_process_was_killed_is_made_again() {
    on_runtime(async {
        let fake = Fake::start(&[(3, &[&[1, 2]])]).await;
        fake.kill(1);
        let mut role = fake.role();
        let failed = until(&mut role, |r| r[0].error.is_some()).await;
        assert_eq!(failed[0].error_class, Some(TaskClass::Temporary));
        fake.spare(1);
        let reports = until(&mut role, all_proven).await;
        assert!(reports[0].attempts > 1);
    });
}

#[test]
fn a_reorg_across_the_challenge_changes_what_the_proof_commits_to() {
    on_runtime(async {
        let fake = Fake::start(&[(3, &[&[1, 2]])]).await;
        let mut role = fake.role();
        let before = until(&mut role, all_proven).await.remove(0);
        fake.set(|s| s.tickets = [8; 32]);
        role.turn().await.unwrap();
        let after = reports(&role).remove(0);
        assert_ne!(before.chain_commit_rand, after.chain_commit_rand);
        assert_eq!(before.proof, after.proof);
        assert!(role.hand.is_free());
        assert_eq!(fake.asked("windowPartition"), 1);
    });
}

#[test]
fn after_a_restart_a_proof_is_verified_and_not_made_again() {
    on_runtime(async {
        let fake = Fake::start(&[(3, &[&[1, 2], &[3]])]).await;
        let before = until(&mut fake.role(), all_proven).await;
        let mut role = fake.role();
        role.notes.recall(before.clone());
        let asked = fake.asked("verifyWindowPoSt");
        let after = until(&mut role, |_| fake.asked("verifyWindowPoSt") == asked + 2).await;
        assert_eq!(before, after);
        assert_eq!(fake.asked("windowPartition"), 2);
    });
}

#[test]
fn a_restart_in_the_middle_of_a_proof_begins_it_anew() {
    on_runtime(async {
        let fake = Fake::start(&[(3, &[&[1, 2]])]).await;
        fake.hold(1);
        let mut first = fake.role();
        first.turn().await.unwrap();
        let told = reports(&first);
        drop(first);
        fake.release(1);
        let mut second = fake.role();
        second.notes.recall(told);
        until(&mut second, all_proven).await;
    });
}

#[test]
fn a_proof_that_nobody_needs_any_more_is_ended() {
    on_runtime(async {
        let fake = Fake::start(&[(3, &[&[1, 2]])]).await;
        fake.hold(1);
        let mut role = fake.role();
        role.turn().await.unwrap();
        assert!(!role.hand.is_free());
        fake.set(|s| s.head = OPEN + 60);
        role.turn().await.unwrap();
        assert!(role.hand.is_free());
        let report = reports(&role).remove(0);
        assert!(report.error.unwrap().contains("closed"));
    });
}

#[test]
fn what_was_left_out_for_a_while_is_proven_before_the_deadline_opens() {
    on_runtime(async {
        let fake = Fake::start(&[(3, &[&[1, 2]])]).await;
        fake.set(|s| s.head = OPEN - 10);
        fake.lose(2);
        let mut role = fake.role();
        let partly = until(&mut role, all_proven).await;
        assert_eq!(
            (partly[0].sectors, partly[0].skipped_numbers.as_str()),
            (1, "2")
        );
        fake.find(2);
        let whole = until(&mut role, |r| r[0].skipped_sectors == 0).await;
        assert_eq!((whole[0].sectors, whole[0].attempts), (2, 2));
    });
}

#[test]
fn a_prover_that_starts_without_an_api_server_proves_and_later_tells_nothing_worse_than_was_told() {
    on_runtime(async {
        let fake = Fake::start(&[(3, &[&[1, 2], &[3]])]).await;
        let mut before = until(&mut fake.role(), all_proven).await;
        before.truncate(1);
        before[0].attempts = 7;
        // Of two partitions the first was proven before, and nobody sent it yet.
        fake.set(|s| {
            s.before = before.clone();
            s.api_is_down = true;
        });
        let made = fake.asked("windowPartition");
        fake.hold(1);
        let mut role = fake.role();
        role.recalls = tell::RECALLS;
        let seen = async {
            fake.until(|s| s.asked("readPartition") > made).await;
            assert_eq!(fake.tells(), 0);
            fake.set(|s| s.api_is_down = false);
            fake.until(|s| s.told().iter().any(|r| r["attempts"] == json!(7)))
                .await;
            assert_eq!(fake.told()[0]["proof"], json!("AQID"));
            fake.release(1);
        };
        tokio::select! {
            ended = run(role) => panic!("{ended:?}"),
            () = seen => {}
        }
    });
}

#[test]
fn what_was_told_is_told_again_since_somebody_may_have_written_over_it() {
    on_runtime(async {
        let fake = Fake::start(&[(3, &[&[1, 2]])]).await;
        let mut role = fake.role();
        role.recall().await;
        until(&mut role, all_proven).await;
        role.tell().await;
        role.tell().await;
        assert_eq!(fake.tells(), 1, "not at once");
        let (_, when) = role.told.as_mut().unwrap();
        *when = when.checked_sub(tell::AGAIN).unwrap();
        role.tell().await;
        assert_eq!(fake.tells(), 2);
    });
}

#[test]
fn a_wrong_clock_is_said_and_proofs_go_on() {
    on_runtime(async {
        for ahead in [-3600, 3600] {
            let fake = Fake::start(&[(3, &[&[1, 2]])]).await;
            fake.set(|s| s.ahead = ahead);
            let mut role = fake.role();
            until(&mut role, all_proven).await;
            let said = role.turn().await.unwrap_err().to_string();
            let word = if ahead < 0 { "behind" } else { "set the clock" };
            assert!(said.contains(word), "{said}");
            // A node that is far behind what was seen before shows windows that are over.
            fake.set(|s| s.head = OPEN - 200);
            assert!(role.turn().await.is_err());
            assert_eq!(role.seen, Epoch(OPEN + 10));
        }
    });
}
