//! The rules of the miner actor, on a whole chain with proofs that are good when they say so.

use fil_actor_miner_state::v18::{
    DeclareFaultsParams, DeclareFaultsRecoveredParams, ExpirationExtension2,
    ExtendSectorExpiration2Params, FaultDeclaration, PreCommitSectorBatchParams2,
    RecoveryDeclaration, TerminateSectorsParams, TerminateSectorsReturn, TerminationDeclaration,
    WithdrawBalanceParams, WithdrawBalanceReturn,
};
use fil_actors_shared::v18::BatchReturn;
use fvm_ipld_bitfield::BitField;
use fvm_shared::econ::TokenAmount;
use fvm_shared::sector::RegisteredSealProof;

use crate::codec::from_cbor;
use crate::keys::Key;
use crate::state::BURNT_FUNDS;
use crate::testing::{MINER, TestChain, config};

fn bits(numbers: &[u64]) -> BitField {
    BitField::try_from_bits(numbers.iter().copied()).unwrap()
}

fn one(
    chain: &TestChain,
    change: impl FnOnce(&mut fil_actor_miner_state::v18::SectorPreCommitInfo),
) -> PreCommitSectorBatchParams2 {
    let mut info = chain.pre_commit_info(1);
    change(&mut info);
    PreCommitSectorBatchParams2 {
        sectors: vec![info],
    }
}

#[test]
fn pre_commit_locks_the_deposit_and_allocates_the_number() {
    let mut chain = TestChain::new();
    chain.advance(3);
    assert_eq!(chain.pre_commit(&[5, 9]).exit_code, 0);
    let state = chain.state();
    assert_eq!(
        state.pre_commit_deposits,
        chain.chain.rules.deposit.clone() * 2u64
    );
    assert!(
        state
            .get_precommitted_sector(&chain.chain.scratch(), 9)
            .unwrap()
            .is_some()
    );
    assert_eq!(
        chain.pre_commit(&[9]).exit_code,
        16,
        "the number is taken for ever"
    );
}

#[test]
fn pre_commit_is_refused_for_each_broken_rule() {
    let mut chain = TestChain::new();
    chain.advance(3);
    let epoch = chain.epoch();
    let cases = [
        (
            one(&chain, |s| s.seal_rand_epoch = epoch + 1),
            "must be before now",
        ),
        (
            one(&chain, |s| s.expiration = epoch + 100),
            "must be after activation",
        ),
        (one(&chain, |s| s.expiration -= 100), "must exceed"),
        (
            one(&chain, |s| s.expiration = epoch + 1_278 * 2_880 + 50),
            "cannot be more than",
        ),
        (
            one(&chain, |s| s.sealed_cid = crate::codec::cbor_cid(b"x")),
            "sealed CID had wrong prefix",
        ),
        (
            one(&chain, |s| {
                s.seal_proof = RegisteredSealProof::StackedDRG2KiBV1;
            }),
            "unsupported seal proof",
        ),
        (
            one(&chain, |s| {
                s.seal_proof = RegisteredSealProof::StackedDRG8MiBV1P1;
            }),
            "must match miner",
        ),
        (one(&chain, |s| s.deal_ids = vec![1]), "deal IDs"),
        (
            PreCommitSectorBatchParams2 { sectors: vec![] },
            "batch empty",
        ),
    ];
    for (params, text) in cases {
        let receipt = chain.call(28, &params);
        assert_eq!(receipt.exit_code, 16, "{text}");
        assert!(
            receipt.error.contains(text),
            "{} should say {text}",
            receipt.error
        );
    }
}

#[test]
fn pre_commit_of_an_old_ticket_is_refused() {
    let mut chain = TestChain::with(crate::config::Config {
        max_ticket_age: Some(20),
        ..config()
    });
    chain.advance(40);
    let params = one(&chain, |s| s.seal_rand_epoch = 10);
    let receipt = chain.call(28, &params);
    assert!(receipt.error.contains("too old"), "{}", receipt.error);
}

#[test]
fn stranger_may_not_call_the_miner() {
    let mut chain = TestChain::new();
    chain.advance(3);
    let params = one(&chain, |_| {});
    let stranger = chain.stranger();
    assert_eq!(chain.call_from(&stranger, 28, &params).exit_code, 18);
}

#[test]
fn malformed_parameters_are_21_and_unknown_methods_22() {
    let mut chain = TestChain::new();
    assert_eq!(chain.call(28, &"nonsense").exit_code, 21);
    for removed in [6u64, 7, 8, 25, 26, 27, 29] {
        assert_eq!(chain.call(removed, &()).exit_code, 22);
    }
}

#[test]
fn prove_commit_before_the_seed_is_forbidden_and_after_it_activates() {
    let mut chain = TestChain::new();
    chain.advance(3);
    chain.pre_commit(&[1]);
    let pre_committed = chain.epoch();
    while chain.epoch() < pre_committed + 9 {
        chain.advance(1);
    }
    assert_eq!(
        chain.prove_commit(&[(1, true)], true).exit_code,
        18,
        "at the seed epoch itself"
    );
    let receipt = chain.prove_commit(&[(1, true)], true);
    assert_eq!(receipt.exit_code, 0, "{}", receipt.error);
    let result: BatchReturn = from_cbor(&receipt.return_data).unwrap();
    assert_eq!(result, BatchReturn::ok(1));
    let state = chain.state();
    assert!(state.pre_commit_deposits.is_zero());
    assert_eq!(state.initial_pledge, chain.chain.rules.pledge);
    assert_eq!(
        chain.raw_power(),
        0,
        "no power before the first window proof"
    );
}

#[test]
fn prove_commit_of_good_and_bad_proofs_takes_the_good_ones_unless_all_are_required() {
    let mut chain = TestChain::new();
    chain.advance(3);
    chain.pre_commit(&[1, 2]);
    chain.advance(11);
    let strict = chain.prove_commit(&[(1, true), (2, false)], true);
    assert_eq!(strict.exit_code, 16);
    let lenient = chain.prove_commit(&[(1, true), (2, false)], false);
    let result: BatchReturn = from_cbor(&lenient.return_data).unwrap();
    assert_eq!((result.success_count, result.fail_codes.len()), (1, 1));
    assert_eq!(result.fail_codes[0].idx, 1);
    assert_eq!(chain.prove_commit(&[(2, false)], false).exit_code, 16);
    assert_eq!(
        chain.prove_commit(&[(1, true)], true).exit_code,
        17,
        "it is a sector now"
    );
}

#[test]
fn pre_commit_that_is_never_proven_burns_its_deposit() {
    let limits = crate::config::Config {
        max_prove_commit_duration: Some(30),
        pre_commit_clean_up_delay: Some(5),
        ..config()
    };
    let mut chain = TestChain::with(limits);
    chain.advance(3);
    chain.pre_commit(&[1]);
    let before = chain.balance(MINER);
    chain.advance(31);
    assert_eq!(
        chain.prove_commit(&[(1, true)], false).exit_code,
        16,
        "too late"
    );
    chain.advance(40);
    assert!(chain.state().pre_commit_deposits.is_zero());
    assert_eq!(chain.balance(MINER), before - &chain.chain.rules.deposit);
    assert!(
        chain
            .state()
            .get_precommitted_sector(&chain.chain.scratch(), 1)
            .unwrap()
            .is_none()
    );
    assert_eq!(chain.prove_commit(&[(1, true)], false).exit_code, 17);
}

#[test]
fn window_proof_gives_power_once_and_only_in_its_deadline() {
    let mut chain = TestChain::new();
    chain.advance(3);
    chain.commit(&[1]);
    let (deadline, partition) = chain.location(1);
    let wrong = chain.post_params((deadline + 1) % 8, partition, &[], true);
    chain.advance_to_deadline(deadline);
    assert_eq!(chain.call(5, &wrong).exit_code, 16, "another deadline");
    let bad = chain.post_params(deadline, partition, &[], false);
    let receipt = chain.call(5, &bad);
    assert!(
        receipt.exit_code == 16 && receipt.error.contains("invalid post"),
        "{}",
        receipt.error
    );
    let all_skipped = chain.post_params(deadline, partition, &[1], true);
    assert_eq!(
        chain.call(5, &all_skipped).exit_code,
        16,
        "nothing left to prove"
    );
    let good = chain.post_params(deadline, partition, &[], true);
    assert_eq!(chain.call(5, &good).exit_code, 0);
    assert_eq!(chain.raw_power(), 2_048);
    let again = chain.post_params(deadline, partition, &[], true);
    let receipt = chain.call(5, &again);
    assert!(
        receipt.exit_code == 16 && receipt.error.contains("already proven"),
        "{}",
        receipt.error
    );
}

#[test]
fn window_proof_with_wrong_chain_randomness_is_refused() {
    let mut chain = TestChain::new();
    chain.advance(3);
    chain.commit(&[1]);
    let (deadline, partition) = chain.location(1);
    chain.advance_to_deadline(deadline);
    let mut params = chain.post_params(deadline, partition, &[], true);
    params.chain_commit_rand.0[0] ^= 1;
    assert!(
        chain
            .call(5, &params)
            .error
            .contains("randomness mismatched")
    );
    let mut params = chain.post_params(deadline, partition, &[], true);
    params.chain_commit_epoch = chain.epoch() + 1;
    assert!(
        chain
            .call(5, &params)
            .error
            .contains("must be less than the current epoch")
    );
}

#[test]
fn missed_window_makes_a_fault_that_pays_and_can_be_recovered() {
    let mut chain = TestChain::new();
    chain.advance(3);
    chain.commit(&[1]);
    assert_eq!(chain.prove_window(1).exit_code, 0);
    let (deadline, partition) = chain.location(1);
    let burnt = chain.balance(BURNT_FUNDS);
    chain.advance(135);
    assert_eq!(
        chain.raw_power(),
        0,
        "the second window passed without a proof"
    );
    let fee = chain.balance(BURNT_FUNDS) - &burnt;
    assert!(
        fee < chain.chain.rules.fault_fee,
        "a new fault pays only the daily fee: {fee}"
    );
    chain.advance(120);
    let fee = chain.balance(BURNT_FUNDS) - &burnt;
    assert!(
        fee >= chain.chain.rules.fault_fee,
        "an old fault pays: {fee}"
    );

    let recovery = |sectors| DeclareFaultsRecoveredParams {
        recoveries: vec![RecoveryDeclaration {
            deadline,
            partition,
            sectors,
        }],
    };
    chain.advance_to_deadline(deadline);
    assert_eq!(
        chain.call(11, &recovery(bits(&[1]))).exit_code,
        16,
        "past the cutoff"
    );
    chain.advance(20);
    assert_eq!(chain.call(11, &recovery(bits(&[1]))).exit_code, 0);
    assert_eq!(chain.raw_power(), 0);
    assert_eq!(chain.prove_window(1).exit_code, 0);
    assert_eq!(chain.raw_power(), 2_048);
}

#[test]
fn declared_fault_loses_its_power_at_once() {
    let mut chain = TestChain::new();
    chain.advance(3);
    chain.commit(&[1]);
    chain.prove_window(1);
    let (deadline, partition) = chain.location(1);
    chain.advance(20);
    let params = DeclareFaultsParams {
        faults: vec![FaultDeclaration {
            deadline,
            partition,
            sectors: bits(&[1]),
        }],
    };
    assert_eq!(chain.call(10, &params).exit_code, 0);
    assert_eq!(chain.raw_power(), 0);
}

#[test]
fn skipped_sector_becomes_a_fault_and_the_rest_is_proven() {
    let mut chain = TestChain::new();
    chain.advance(3);
    chain.commit(&[1, 2]);
    let (deadline, partition) = chain.location(1);
    assert_eq!(
        (deadline, partition),
        chain.location(2),
        "two sectors fill one partition"
    );
    chain.advance_to_deadline(deadline);
    let params = chain.post_params(deadline, partition, &[2], true);
    let receipt = chain.call(5, &params);
    assert_eq!(receipt.exit_code, 0, "{}", receipt.error);
    assert_eq!(chain.raw_power(), 2_048);
}

#[test]
fn fault_that_lasts_too_long_ends_the_sector() {
    let limits = crate::config::Config {
        fault_max_age: Some(240),
        ..config()
    };
    let mut chain = TestChain::with(limits);
    chain.advance(3);
    chain.commit(&[1]);
    chain.prove_window(1);
    chain.advance(120 * 5);
    let state = chain.state();
    assert!(
        state.initial_pledge.is_zero(),
        "the pledge is released less the fee"
    );
    assert!(!state.deadline_cron_active);
}

#[test]
fn terminate_takes_a_fee_and_releases_the_pledge() {
    let mut chain = TestChain::new();
    chain.advance(3);
    chain.commit(&[1]);
    chain.prove_window(1);
    let (deadline, partition) = chain.location(1);
    let params = TerminateSectorsParams {
        terminations: vec![TerminationDeclaration {
            deadline,
            partition,
            sectors: bits(&[1]),
        }],
    };
    assert_eq!(
        chain.call(9, &params).exit_code,
        16,
        "the deadline is open: not mutable"
    );
    chain.advance(20);
    let before = chain.balance(MINER);
    let params = TerminateSectorsParams {
        terminations: vec![TerminationDeclaration {
            deadline,
            partition,
            sectors: bits(&[1]),
        }],
    };
    let receipt = chain.call(9, &params);
    assert_eq!(receipt.exit_code, 0, "{}", receipt.error);
    assert!(
        from_cbor::<TerminateSectorsReturn>(&receipt.return_data)
            .unwrap()
            .done
    );
    assert!(chain.state().initial_pledge.is_zero());
    assert!(chain.balance(MINER) < before);
    assert_eq!(chain.raw_power(), 0);
}

#[test]
fn extend_moves_the_expiration_of_an_active_sector_only_forward() {
    let mut chain = TestChain::new();
    chain.advance(3);
    chain.commit(&[1]);
    let (deadline, partition) = chain.location(1);
    let store = |chain: &TestChain| {
        chain
            .state()
            .get_sector(&chain.chain.scratch(), 1)
            .unwrap()
            .unwrap()
    };
    let old = store(&chain).expiration;
    let params = |new_expiration| ExtendSectorExpiration2Params {
        extensions: vec![ExpirationExtension2 {
            deadline,
            partition,
            sectors: bits(&[1]),
            sectors_with_claims: vec![],
            new_expiration,
        }],
    };
    assert_ne!(
        chain.call(32, &params(old + 5_000)).exit_code,
        0,
        "not proven yet"
    );
    chain.prove_window(1);
    assert_eq!(chain.call(32, &params(old - 1)).exit_code, 16);
    let receipt = chain.call(32, &params(old + 5_000));
    assert_eq!(receipt.exit_code, 0, "{}", receipt.error);
    assert_eq!(store(&chain).expiration, old + 5_000);
    assert_eq!(chain.raw_power(), 2_048);
}

#[test]
fn withdraw_gives_the_owner_what_is_not_locked() {
    let mut chain = TestChain::new();
    chain.advance(3);
    chain.pre_commit(&[1]);
    let params = WithdrawBalanceParams {
        amount_requested: TokenAmount::from_whole(1_000_000),
    };
    assert_eq!(chain.call(16, &params).exit_code, 18, "the worker may not");
    let owner = Key::from_info(chain.keys.owner.info.clone()).unwrap();
    let receipt = chain.call_from(&owner, 16, &params);
    let result: WithdrawBalanceReturn = from_cbor(&receipt.return_data).unwrap();
    let locked = chain.state().pre_commit_deposits;
    assert_eq!(chain.balance(MINER), locked);
    assert_eq!(
        result.amount_withdrawn,
        TokenAmount::from_whole(1_000) - locked
    );
    let receipt = chain.pre_commit(&[2]);
    assert_eq!(
        receipt.exit_code, 19,
        "no money left for a deposit: {}",
        receipt.error
    );
}

#[test]
fn value_of_a_message_counts_for_the_deposit() {
    let poor = crate::config::MinerConfig {
        balance: "0".to_owned(),
        ..crate::config::MinerConfig::new(MINER)
    };
    let mut chain = TestChain::with(crate::config::Config {
        miners: vec![poor],
        ..config()
    });
    chain.advance(3);
    assert_eq!(chain.pre_commit(&[1]).exit_code, 19);
    let key = Key::from_info(chain.keys.worker.info.clone()).unwrap();
    let params = PreCommitSectorBatchParams2 {
        sectors: vec![chain.pre_commit_info(1)],
    };
    let to = fvm_shared::address::Address::new_id(MINER);
    let mut message = chain.message(&key, to, 28, crate::codec::cbor(&params));
    message.value = chain.chain.rules.deposit.clone();
    let cid = chain.push(&key, message).unwrap();
    chain.advance(1);
    assert_eq!(chain.receipt(&cid).exit_code, 0);
}
