//! The base fee rule, costs, caps and replacements.

use filstar_chain::gas::{
    Bid, Fees, MessageKind, cap_fees, cost, default_max_fee, highest_base_fee,
    min_replacement_premium, next_base_fee, next_base_fee_after, premium_at_target, raise_cap,
    replacement,
};
use filstar_chain::{ActorId, AttoFil, Message};
use proptest::prelude::*;

fn bid(nonce: u64, gas_limit: u64, gas_fee_cap: u64, gas_premium: u64) -> Bid {
    Bid {
        sender: ActorId(100).address(),
        nonce,
        gas_limit,
        gas_fee_cap: gas_fee_cap.into(),
        gas_premium: gas_premium.into(),
    }
}

fn fees(gas_limit: u64, gas_fee_cap: u64, gas_premium: u64) -> Fees {
    Fees {
        gas_limit,
        gas_fee_cap: gas_fee_cap.into(),
        gas_premium: gas_premium.into(),
    }
}

#[test]
fn vector_next_base_fee_of_fip_0115() {
    for (base_fee, premium, next) in [
        (100, 13, 100),
        (100, 26, 113),
        (801, 201, 901),
        (808, 203, 909),
    ] {
        let computed = next_base_fee(&AttoFil::from(base_fee), &AttoFil::from(premium));
        assert_eq!(
            computed,
            AttoFil::from(next),
            "base fee {base_fee}, premium {premium}"
        );
    }
}

#[test]
fn next_base_fee_falls_by_an_eighth_when_nobody_bids() {
    let decayed = |base_fee: u64| next_base_fee(&AttoFil::from(base_fee), &AttoFil::zero());
    assert_eq!(decayed(801), AttoFil::from(700));
    assert_eq!(decayed(808), AttoFil::from(707));
    assert_eq!(decayed(100), AttoFil::from(100));
}

#[test]
fn premium_at_target_is_zero_until_the_messages_reach_it() {
    let base_fee = AttoFil::from(100);
    let short = [bid(0, 7_999_999_999, 1000, 50)];
    assert_eq!(premium_at_target(&base_fee, short), AttoFil::zero());
    let just = [bid(0, 7_999_999_999, 1000, 50), bid(1, 1, 1000, 7)];
    assert_eq!(premium_at_target(&base_fee, just), AttoFil::from(7));
}

#[test]
fn premium_at_target_counts_a_message_in_two_blocks_once() {
    let base_fee = AttoFil::from(100);
    let twice = [
        bid(0, 5_000_000_000, 1000, 50),
        bid(0, 5_000_000_000, 1000, 50),
    ];
    assert_eq!(premium_at_target(&base_fee, twice), AttoFil::zero());
}

#[test]
fn premium_at_target_is_what_the_fee_cap_leaves() {
    let base_fee = AttoFil::from(100);
    assert_eq!(
        premium_at_target(&base_fee, [bid(0, 8_000_000_000, 130, 50)]),
        AttoFil::from(30)
    );
    assert_eq!(
        premium_at_target(&base_fee, [bid(0, 8_000_000_000, 90, 50)]),
        AttoFil::zero()
    );
}

#[test]
fn cost_burns_the_base_fee_for_gas_used_and_tips_for_the_limit() {
    let cost = cost(&fees(1100, 500, 10), 1000, &AttoFil::from(100));
    assert_eq!(cost.base_fee_burn, AttoFil::from(100_000));
    assert_eq!(cost.miner_tip, AttoFil::from(11_000));
    assert_eq!(cost.over_estimation_burn, AttoFil::zero());
    assert_eq!(cost.total(), AttoFil::from(111_000));
}

#[test]
fn cost_burns_for_a_limit_far_above_what_was_used() {
    // Limit 1500, used 1000: over = 1500 − 1100 = 400; burnt gas = 500 × 400 / 1000 = 200.
    let above = cost(&fees(1500, 500, 0), 1000, &AttoFil::from(100));
    assert_eq!(above.over_estimation_burn, AttoFil::from(20_000));
    // Far above, over is bounded by what was used: all unused gas is burnt.
    let far = cost(&fees(5000, 500, 0), 1000, &AttoFil::from(100));
    assert_eq!(far.over_estimation_burn, AttoFil::from(400_000));
    let nothing_used = cost(&fees(5000, 500, 0), 0, &AttoFil::from(100));
    assert_eq!(nothing_used.over_estimation_burn, AttoFil::from(500_000));
}

#[test]
fn cost_never_exceeds_the_fee_cap() {
    let capped = cost(&fees(1000, 80, 10), 1000, &AttoFil::from(100));
    assert_eq!(capped.total(), AttoFil::from(80_000));
}

fn message(fees: &Fees) -> Message {
    let mut message = Message::new(ActorId(100).address(), ActorId(1000).address(), 5, vec![]);
    fees.set(&mut message);
    message
}

#[test]
fn cap_fees_cuts_cap_and_premium_to_the_limit_of_money() {
    let mut capped = message(&fees(1000, 500, 400));
    cap_fees(&mut capped, &AttoFil::from(100_000));
    assert_eq!(Fees::of(&capped), fees(1000, 100, 100));
    let mut cheap = message(&fees(1000, 50, 40));
    cap_fees(&mut cheap, &AttoFil::from(100_000));
    assert_eq!(Fees::of(&cheap), fees(1000, 50, 40));
    let mut no_gas = message(&fees(0, 50, 40));
    cap_fees(&mut no_gas, &AttoFil::from(1));
    assert_eq!(Fees::of(&no_gas), fees(0, 50, 40));
}

#[test]
fn replacement_premium_is_a_tenth_and_one_more() {
    assert_eq!(
        min_replacement_premium(&AttoFil::from(100_000)),
        AttoFil::from(110_001)
    );
    assert_eq!(
        min_replacement_premium(&AttoFil::from(9)),
        AttoFil::from(10)
    );
    assert_eq!(min_replacement_premium(&AttoFil::zero()), AttoFil::from(1));
}

#[test]
fn replacement_bids_more_when_the_fees_have_risen() {
    let (old, estimate) = (fees(1000, 300, 100), fees(1200, 900, 110));
    let new = replacement(
        &old,
        &estimate,
        &AttoFil::from(200),
        25,
        &AttoFil::from(1_000_000),
    )
    .unwrap();
    assert_eq!(new, fees(1000, 900, 125));
}

#[test]
fn replacement_is_not_made_when_it_cannot_help() {
    let much = AttoFil::from(1_000_000_000);
    let old = fees(1000, 900, 100);
    assert_eq!(
        replacement(&old, &fees(1000, 900, 100), &AttoFil::from(200), 25, &much),
        None
    );
    let dear = fees(1000, 5000, 100);
    assert_eq!(
        replacement(
            &old,
            &dear,
            &AttoFil::from(200),
            25,
            &AttoFil::from(4_999_999)
        ),
        None
    );
}

#[test]
fn default_max_fees_are_those_of_lotus_miner() {
    let shown = |kind, sectors| default_max_fee(kind, sectors).to_string();
    assert_eq!(shown(MessageKind::PreCommit, 1), "0.025 FIL");
    assert_eq!(shown(MessageKind::PreCommit, 4), "0.08 FIL");
    assert_eq!(shown(MessageKind::ProveCommit, 1), "0.05 FIL");
    assert_eq!(shown(MessageKind::ProveCommit, 4), "0.12 FIL");
    assert_eq!(shown(MessageKind::WindowPost, 1), "5 FIL");
    assert_eq!(shown(MessageKind::Terminate, 1), "0.5 FIL");
}

proptest! {
    #[test]
    fn prop_base_fee_moves_by_an_eighth_at_most(base_fee in 100_u64..u64::MAX / 4, premium in any::<u64>()) {
        let next = next_base_fee(&base_fee.into(), &premium.into());
        let eighth = AttoFil::from(base_fee.div_ceil(8));
        prop_assert!(next <= &AttoFil::from(base_fee) + &eighth);
        prop_assert!(next >= AttoFil::from(base_fee).saturating_sub(&eighth));
        prop_assert!(next >= AttoFil::from(100));
    }

    #[test]
    fn prop_base_fee_does_not_depend_on_the_order_of_messages(
        mut limits in prop::collection::vec((1_u64..3_000_000_000, 100_u64..100_000, 0_u64..100_000), 1..20),
        base_fee in 100_u64..50_000,
    ) {
        let bids = |limits: &[(u64, u64, u64)]| -> Vec<Bid> {
            limits.iter().map(|(limit, cap, premium)| bid(*limit, *limit, *cap, *premium)).collect()
        };
        limits.sort_unstable();
        limits.dedup_by_key(|(limit, ..)| *limit);
        let forward = next_base_fee_after(&base_fee.into(), bids(&limits));
        limits.reverse();
        prop_assert_eq!(forward, next_base_fee_after(&base_fee.into(), bids(&limits)));
    }

    #[test]
    fn prop_capped_messages_cannot_cost_more(
        limit in any::<u64>(), cap in any::<u64>(), premium in any::<u64>(), max in any::<u64>(),
        used in any::<u64>(), base_fee in any::<u64>(),
    ) {
        let mut capped = message(&fees(limit, cap, premium));
        cap_fees(&mut capped, &max.into());
        let cost = cost(&Fees::of(&capped), used.min(limit), &base_fee.into());
        prop_assert!(limit == 0 || cost.total() <= AttoFil::from(max));
    }

    #[test]
    fn prop_no_base_fee_goes_beyond_the_highest(
        base_fee in 100_u64..u64::MAX / 4, premiums in prop::collection::vec(any::<u64>(), 0..70),
    ) {
        let highest = highest_base_fee(&base_fee.into(), u64::try_from(premiums.len()).unwrap());
        let last = premiums.iter().fold(AttoFil::from(base_fee), |fee, p| next_base_fee(&fee, &(*p).into()));
        prop_assert!(last <= highest);
    }

    #[test]
    fn prop_a_raised_cap_is_never_lower_and_costs_what_is_allowed_at_most(
        limit in 0_u64..10_000_000_000, cap in any::<u32>(), premium in any::<u32>(), base_fee in 100_u32..,
        epochs in 0_u64..100, most in any::<u64>(),
    ) {
        let before = message(&fees(limit, cap.into(), premium.into()));
        let mut raised = before.clone();
        raise_cap(&mut raised, &u64::from(base_fee).into(), epochs, &most.into());
        prop_assert!(raised.gas_fee_cap >= before.gas_fee_cap);
        prop_assert_eq!(&raised.gas_premium, &before.gas_premium);
        let same = raised.gas_fee_cap == before.gas_fee_cap;
        prop_assert!(same || raised.max_fee() <= AttoFil::from(most));
    }

    #[test]
    fn prop_replacements_meet_the_rule_of_the_pool(
        old in any::<(u32, u32)>(), estimate in any::<(u32, u32)>(), base_fee in 100_u32..,
    ) {
        let old = fees(1000, old.0.into(), old.1.into());
        let estimate = fees(1000, estimate.0.into(), estimate.1.into());
        let unlimited = AttoFil::from_fil(1_000_000);
        if let Some(new) = replacement(&old, &estimate, &u64::from(base_fee).into(), 0, &unlimited) {
            prop_assert!(new.gas_premium >= min_replacement_premium(&old.gas_premium));
            prop_assert!(new.gas_fee_cap >= new.gas_premium);
            prop_assert_eq!(new.gas_limit, old.gas_limit);
        }
    }
}
