//! What must hold of the chain itself: money, forks, restarts, lookups.

use fvm_shared::address::Address;
use fvm_shared::econ::TokenAmount;

use super::reorg::Drop;
use crate::keys::{Key, KeyKind};
use crate::testing::{MINER, TestChain, config};

fn send(chain: &mut TestChain, value: i64) -> cid::Cid {
    let key = chain.stranger();
    let mut message = chain.message(&key, Address::new_id(MINER), 0, Vec::new());
    message.value = TokenAmount::from_atto(value);
    chain.push(&key, message).unwrap()
}

fn keys_of(chain: &TestChain) -> Vec<Vec<cid::Cid>> {
    chain.chain.tipsets.iter().map(|t| t.key.clone()).collect()
}

#[test]
fn same_seed_and_same_messages_make_the_same_chain() {
    let make = || {
        let mut chain = TestChain::new();
        chain.advance(3);
        chain.commit(&[1]);
        chain.prove_window(1);
        keys_of(&chain)
    };
    assert_eq!(make(), make());
}

#[test]
fn money_is_never_made_or_lost_but_by_fund() {
    let mut chain = TestChain::new();
    let total = chain.chain.head().state.total();
    send(&mut chain, 5);
    chain.advance(3);
    chain.commit(&[1, 2]);
    chain.prove_window(1);
    chain.advance(300);
    assert_eq!(chain.chain.head().state.total(), total);
    let new = Key::from_seed(KeyKind::Bls, b"new").address;
    chain
        .chain
        .change_settings(|s| s.funds.push((new, TokenAmount::from_whole(7))))
        .unwrap();
    chain.advance(2);
    assert_eq!(
        chain.chain.head().state.total(),
        total + TokenAmount::from_whole(7)
    );
    assert_eq!(chain.chain.sender(&new).balance, TokenAmount::from_whole(7));
}

#[test]
fn lookup_at_a_tipset_sees_the_state_before_its_messages() {
    let mut chain = TestChain::new();
    chain.advance(2);
    let before = chain.balance(MINER);
    send(&mut chain, 11);
    chain.advance(1);
    let head = chain.chain.head();
    assert_eq!(head.parent_state.get(MINER).unwrap().balance, before);
    assert_eq!(
        head.state.get(MINER).unwrap().balance,
        before + TokenAmount::from_atto(11)
    );
}

#[test]
fn search_finds_a_message_in_the_child_of_its_tipset() {
    let mut chain = TestChain::new();
    chain.advance(2);
    let cid = send(&mut chain, 1);
    chain.advance(1);
    let included = chain.epoch();
    let head = chain.chain.head().clone();
    assert!(
        chain.chain.search(&head, &cid, -1, true).unwrap().is_none(),
        "not executed by a child yet"
    );
    chain.advance(3);
    let head = chain.chain.head().clone();
    let found = chain.chain.search(&head, &cid, -1, true).unwrap().unwrap();
    assert_eq!(found.tipset.height, included + 1);
    assert_eq!(found.message, cid);
    let unknown = crate::codec::cbor_cid(b"unknown");
    let error = chain.chain.search(&head, &unknown, -1, true).unwrap_err();
    assert!(error.to_string().starts_with("failed to load message"));
}

#[test]
fn search_names_the_replacement_that_landed_instead() {
    let mut chain = TestChain::new();
    chain.advance(2);
    let key = chain.stranger();
    let first = chain.message(&key, Address::new_id(MINER), 0, Vec::new());
    let mut second = first.clone();
    second.gas_premium = TokenAmount::from_atto(200_000);
    let old = chain.push(&key, first).unwrap();
    let new = chain.push(&key, second).unwrap();
    chain.advance(2);
    let head = chain.chain.head().clone();
    assert_eq!(
        chain
            .chain
            .search(&head, &old, -1, true)
            .unwrap()
            .unwrap()
            .message,
        new
    );
    assert!(chain.chain.search(&head, &old, -1, false).is_err());
}

#[test]
fn reorg_takes_a_message_back_and_returns_it_after_the_delay() {
    let mut chain = TestChain::new();
    chain.advance(3);
    let cid = send(&mut chain, 9);
    chain.advance(2);
    let before = keys_of(&chain);
    let height = chain.epoch();
    let result = chain.chain.reorg(3, &Drop::None, 2).unwrap();
    assert_eq!(result.returned, [cid]);
    assert_eq!(chain.epoch(), height);
    assert_ne!(keys_of(&chain).last(), before.last());
    let head = chain.chain.head().clone();
    assert!(chain.chain.search(&head, &cid, -1, true).unwrap().is_none());
    assert!(
        chain.chain.by_key(before.last().unwrap()).is_ok(),
        "the old fork can still be asked"
    );
    chain.advance(4);
    let head = chain.chain.head().clone();
    let found = chain.chain.search(&head, &cid, -1, true).unwrap().unwrap();
    assert_eq!(found.tipset.height, height + 3);
    assert_eq!(
        chain
            .chain
            .read_history()
            .unwrap()
            .split(|b| *b == b'\n')
            .count(),
        2
    );
}

#[test]
fn reorg_that_drops_a_message_frees_its_nonce_and_its_history() {
    let mut chain = TestChain::new();
    chain.advance(3);
    let cid = send(&mut chain, 9);
    chain.advance(2);
    let result = chain.chain.reorg(2, &Drop::All, 0).unwrap();
    assert_eq!(result.dropped, [cid]);
    chain.advance(3);
    assert_eq!(chain.chain.next_nonce(&chain.stranger().address), 0);
    assert!(chain.chain.read_history().unwrap().is_empty());
    assert_eq!(
        chain.chain.find_message(&cid).unwrap().message.value,
        TokenAmount::from_atto(9)
    );
}

#[test]
fn reorg_moves_tickets_but_not_the_beacon() {
    let mut chain = TestChain::new();
    chain.advance(6);
    let digests = |chain: &TestChain| {
        let head = chain.chain.head();
        (
            chain.chain.ticket_digest(head, 5).unwrap(),
            chain.chain.beacon_digest(head, 5).unwrap(),
        )
    };
    let before = digests(&chain);
    chain.chain.reorg(3, &Drop::None, 0).unwrap();
    let after = digests(&chain);
    assert_ne!(before.0, after.0);
    assert_eq!(before.1, after.1);
}

#[test]
fn null_round_has_the_ticket_before_it_and_a_beacon_entry_of_its_own() {
    let mut chain = TestChain::new();
    chain.advance(4);
    chain.chain.change_settings(|s| s.null_rounds = 2).unwrap();
    chain.advance(4);
    let head = chain.chain.head().clone();
    assert_eq!(head.height, 8);
    assert_eq!(chain.chain.seen_from(&head, 6, true).unwrap().height, 4);
    assert_eq!(chain.chain.seen_from(&head, 6, false).unwrap().height, 7);
    let ticket = |epoch| chain.chain.ticket_digest(&head, epoch).unwrap();
    assert!(ticket(6) == ticket(4) && ticket(7) != ticket(4));
    let beacon = |epoch| chain.chain.beacon_digest(&head, epoch).unwrap();
    assert_ne!(beacon(6), beacon(5));
    let seven = chain.chain.at_height(7).unwrap();
    assert_eq!(
        seven.blocks[0]
            .beacon
            .iter()
            .map(|e| e.round)
            .collect::<Vec<_>>(),
        [5, 6, 7]
    );
}

#[test]
fn deadline_that_ends_in_a_null_round_is_closed_all_the_same() {
    let mut chain = TestChain::new();
    chain.advance(3);
    chain.commit(&[1]);
    chain.prove_window(1);
    chain
        .chain
        .change_settings(|s| s.null_rounds = 200)
        .unwrap();
    chain.advance(201);
    assert_eq!(chain.raw_power(), 0);
}

type Step = Box<dyn Fn(&mut TestChain)>;

#[test]
fn chain_is_the_same_after_a_restart_at_any_point() {
    let mut chain = TestChain::new();
    let steps: Vec<Step> = vec![
        Box::new(|c| c.advance(3)),
        Box::new(|c| assert_eq!(c.pre_commit(&[1]).exit_code, 0)),
        Box::new(|c| {
            send(c, 4);
        }),
        Box::new(|c| c.advance(11)),
        Box::new(|c| assert_eq!(c.prove_commit(&[(1, true)], true).exit_code, 0)),
        Box::new(|c| {
            send(c, 5);
        }),
        Box::new(|c| c.chain.change_settings(|s| s.null_rounds = 1).unwrap()),
        Box::new(|c| c.advance(2)),
        Box::new(|c| drop(c.chain.reorg(2, &Drop::None, 1).unwrap())),
        Box::new(|c| c.chain.snapshot().unwrap()),
        Box::new(|c| {
            send(c, 6);
        }),
        Box::new(|c| c.advance(4)),
        Box::new(|c| assert_eq!(c.prove_window(1).exit_code, 0)),
    ];
    for step in steps {
        step(&mut chain);
        let (keys, root) = (keys_of(&chain), chain.chain.head().state_root);
        let pool: Vec<_> = chain.chain.mempool.iter().cloned().collect();
        let settings = chain.chain.settings.clone();
        let history = chain.chain.read_history().unwrap();
        chain = chain.reopen();
        assert_eq!(keys_of(&chain), keys);
        assert_eq!(chain.chain.head().state_root, root);
        assert_eq!(
            chain.chain.mempool.iter().cloned().collect::<Vec<_>>(),
            pool
        );
        assert_eq!(chain.chain.settings, settings);
        assert_eq!(chain.chain.read_history().unwrap(), history);
    }
    assert_eq!(chain.raw_power(), 2_048);
}

#[test]
fn lost_history_file_is_written_again_from_the_chain() {
    let mut chain = TestChain::new();
    chain.advance(2);
    for value in 1..4 {
        send(&mut chain, value);
        chain.advance(2);
    }
    let history = chain.chain.read_history().unwrap();
    let path = chain.dir.path().join(crate::history::FILE);
    for keep in [0, 10, history.len() / 2] {
        std::fs::write(&path, &history[..keep]).unwrap();
        chain = chain.reopen();
        assert_eq!(chain.chain.read_history().unwrap(), history);
    }
}

#[test]
fn pruned_chain_keeps_genesis_and_still_restarts() {
    let mut chain = TestChain::with(crate::config::Config {
        retain_tipsets: 100,
        ..config()
    });
    chain.advance(3);
    chain.commit(&[1]);
    chain.prove_window(1);
    chain.advance(150);
    chain.chain.snapshot().unwrap();
    assert_eq!(chain.chain.tipsets.len(), 100);
    assert_eq!(chain.chain.genesis().height, 0);
    let blocks = chain.chain.blocks.len();
    chain = chain.reopen();
    chain.advance(20);
    assert!(chain.chain.blocks.len() < blocks + 500);
    assert!(chain.state().find_sector(&chain.chain.scratch(), 1).is_ok());
}

#[test]
fn crowd_raises_the_base_fee_and_keeps_out_who_bids_less() {
    let mut chain = TestChain::new();
    chain.advance(2);
    chain
        .chain
        .change_settings(|s| {
            s.congestion = Some(super::Congestion {
                premium: TokenAmount::from_atto(1_000_000),
                until: 60,
            });
        })
        .unwrap();
    let cid = send(&mut chain, 1);
    chain.advance(30);
    assert!(chain.chain.next_base_fee() > TokenAmount::from_atto(1_000));
    assert!(
        chain.chain.mempool.find(&cid).is_some(),
        "the message waits"
    );
    chain.advance(35);
    assert!(chain.chain.mempool.find(&cid).is_none(), "the crowd left");
}
