//! Windows of deadlines, compared with the actors' own arithmetic.

use fil_actor_miner_state::v18::{DeadlineInfo as ActorsDeadline, deadline_is_mutable};
use fil_actors_shared::v18::runtime::Policy;
use filstar_chain::Epoch;
use filstar_chain::proving::DeadlineInfo;
use proptest::prelude::*;

use crate::answers::example;

fn mainnet(period_start: i64, index: u64, current: i64) -> ActorsDeadline {
    ActorsDeadline::new(period_start, index, current, 48, 2880, 60, 20, 70)
}

fn ours(theirs: &ActorsDeadline) -> DeadlineInfo {
    serde_json::from_value(serde_json::to_value(theirs).unwrap()).unwrap()
}

#[test]
fn deadlines_are_read_from_the_answer_of_a_node() {
    let info: DeadlineInfo =
        serde_json::from_value(example("StateMinerProvingDeadline")["result"].clone()).unwrap();
    assert_eq!(info.period_deadlines, 42);
    assert_eq!(info.proving_period, 10101);
}

#[test]
fn windows_open_close_and_cut_off_where_the_actor_says() {
    let window = ours(&mainnet(1000, 2, 1130)).current();
    assert_eq!((window.open, window.close), (Epoch(1120), Epoch(1180)));
    assert_eq!(
        (window.challenge, window.fault_cutoff),
        (Epoch(1100), Epoch(1050))
    );
    assert!(window.is_open(Epoch(1120)) && window.is_open(Epoch(1179)));
    assert!(!window.is_open(Epoch(1119)) && !window.is_open(Epoch(1180)));
    assert!(window.is_challenged(Epoch(1101)) && !window.is_challenged(Epoch(1100)));
    assert!(window.can_declare(Epoch(1049)) && !window.can_declare(Epoch(1050)));
}

#[test]
fn deadlines_that_do_not_exist_have_no_window() {
    let info = ours(&mainnet(1000, 2, 1130));
    assert_eq!(info.next_window(48), None);
    assert_eq!(info.next_window(u64::MAX), None);
    let absurd = DeadlineInfo {
        period_deadlines: u64::MAX,
        ..info
    };
    assert!(absurd.upcoming().len() <= 1024);
}

#[test]
fn upcoming_windows_come_in_the_order_in_which_they_open() {
    let upcoming = ours(&mainnet(1000, 2, 1130)).upcoming();
    assert_eq!(upcoming.len(), 48);
    let deadlines: Vec<u64> = upcoming.iter().map(|window| window.deadline).collect();
    assert_eq!(deadlines[..3], [2, 3, 4]);
    assert_eq!(deadlines[46..], [0, 1]);
}

proptest! {
    #[test]
    fn prop_next_windows_are_those_of_the_actor(
        period_start in 0_i64..10_000_000,
        into in 0_i64..2880,
        deadline in 0_u64..48,
    ) {
        let current = period_start + into;
        let info = ours(&mainnet(period_start, u64::try_from(into / 60).unwrap(), current));
        let theirs = mainnet(period_start, deadline, current).next_not_elapsed();
        let window = info.next_window(deadline).unwrap();
        prop_assert_eq!(window.open.0, theirs.open);
        prop_assert_eq!(window.close.0, theirs.close);
        prop_assert_eq!(window.challenge.0, theirs.challenge);
        prop_assert_eq!(window.fault_cutoff.0, theirs.fault_cutoff);
        prop_assert_eq!(
            info.is_mutable(deadline),
            deadline_is_mutable(&Policy::default(), period_start, deadline, current)
        );
    }
}
