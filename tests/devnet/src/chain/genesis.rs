//! The first tipset: accounts with money, miners with their keys.

use std::sync::Arc;

use fil_actor_miner_state::v18::{MinerInfo, PowerPair, State};
use fvm_ipld_blockstore::Blockstore as _;
use fvm_shared::ActorID;
use fvm_shared::econ::TokenAmount;
use fvm_shared::sector::RegisteredSealProof;

use super::ChainError;
use super::tipset::{Header, StoredTipset, Tipset, messages_root};
use crate::actor::save_state;
use crate::codec::{cbor, cbor_cid, expand};
use crate::config::{Config, ConfigError, MinerConfig, Rules, amount};
use crate::keys::{Key, KeyKind, aggregate_bls};
use crate::state::{Actor, Code, MinerHead, REWARD_ACTOR, World};
use crate::store::{Blocks, Overlay};

/// The keys of a miner, as they follow from the seed.
#[derive(Debug)]
pub(crate) struct MinerKeys {
    pub(crate) owner: Key,
    pub(crate) worker: Key,
    pub(crate) control: Vec<Key>,
}

/// The keys of one miner: owner and control addresses secp256k1, worker BLS.
pub(crate) fn miner_keys(config: &Config, miner: &MinerConfig) -> MinerKeys {
    let key = |kind, role: &str| {
        Key::from_seed(
            kind,
            format!("{}/miner/{}/{role}", config.seed, miner.actor_id).as_bytes(),
        )
    };
    MinerKeys {
        owner: key(KeyKind::Secp256k1, "owner"),
        worker: key(KeyKind::Bls, "worker"),
        control: (0..miner.control_keys)
            .map(|i| key(KeyKind::Secp256k1, &format!("control/{i}")))
            .collect(),
    }
}

/// The key of the account number `index`.
pub(crate) fn account_key(config: &Config, index: u32) -> Key {
    Key::from_seed(
        KeyKind::Secp256k1,
        format!("{}/account/{index}", config.seed).as_bytes(),
    )
}

/// The genesis tipset and its blocks.
pub(crate) fn make(config: &Config, rules: &Rules) -> Result<(Tipset, Blocks), ChainError> {
    let mut blocks = Blocks::default();
    let mut world = World::new();
    let overlay = Overlay::new(&blocks);
    let money = amount("accountBalance", &config.account_balance)?;
    for index in 0..config.accounts {
        endow(&mut world, &account_key(config, index), &money);
    }
    for miner in &config.miners {
        add_miner(&overlay, &mut world, config, rules, miner, &money)?;
    }
    let highest = config
        .miners
        .iter()
        .map(|m| m.actor_id)
        .max()
        .unwrap_or(1000);
    world.reserve_ids_below(highest + 1);
    // What is not owned by anyone yet, so that sums look like a network's.
    world.credit(REWARD_ACTOR, &TokenAmount::from_whole(1_100_000_000i64));
    let root = cbor(&world);
    let state_root = cbor_cid(&root);
    let new = overlay.into_new();
    for (cid, block) in new {
        blocks.insert(cid, block);
    }
    blocks.insert(state_root, root);

    let header = Header {
        miner: fvm_shared::address::Address::new_id(0),
        ticket: expand(
            &[
                b"genesis",
                config.seed.as_bytes(),
                config.network_name.as_bytes(),
            ],
            96,
        ),
        election: Vec::new(),
        beacon: Vec::new(),
        parents: Vec::new(),
        parent_weight: 0,
        height: 0,
        parent_state_root: state_root,
        parent_receipts: cbor_cid(&cbor(&Vec::<u8>::new())),
        messages: messages_root(&[]),
        bls_aggregate: aggregate_bls(std::iter::empty()),
        timestamp: config.genesis_time_ms / 1_000,
        signature: None,
        parent_base_fee: amount("initialBaseFee", &config.initial_base_fee)?,
    };
    let world = Arc::new(world);
    let stored = StoredTipset {
        blocks: vec![header],
        counts: vec![0],
        messages: Vec::new(),
        receipts: Vec::new(),
        state_root,
        history_end: 0,
    };
    Ok((Tipset::new(stored, Arc::clone(&world), world), blocks))
}

fn endow(world: &mut World, key: &Key, money: &TokenAmount) -> ActorID {
    let id = world.ensure_account(&key.address).unwrap_or_default();
    world.credit(id, money);
    id
}

fn add_miner(
    store: &Overlay<'_>,
    world: &mut World,
    config: &Config,
    rules: &Rules,
    miner: &MinerConfig,
    money: &TokenAmount,
) -> Result<(), ChainError> {
    let keys = miner_keys(config, miner);
    let owner = endow(world, &keys.owner, money);
    let worker = endow(world, &keys.worker, money);
    let control = keys
        .control
        .iter()
        .map(|key| endow(world, key, money))
        .collect();
    let proof = RegisteredSealProof::from(miner.seal_proof)
        .registered_window_post_proof()
        .map_err(ConfigError::Value)?;
    let info = MinerInfo::new(owner, worker, control, Vec::new(), Vec::new(), proof)?;
    let block = cbor(&info);
    let info_cid = cbor_cid(&block);
    store
        .put_keyed(&info_cid, &block)
        .map_err(|e| ChainError::Corrupt(e.to_string()))?;

    let period = rules.policy.wpost_proving_period;
    let start = miner.period_offset.rem_euclid(period);
    let start = if start > 0 { start - period } else { 0 };
    let index = u64::try_from(-start / rules.policy.wpost_challenge_window).unwrap_or(0);
    let state = State::new(&rules.policy, store, info_cid, start, index)?;
    let head = MinerHead {
        state: save_state(store, &state)?,
        cron: None,
        power: PowerPair::zero(),
    };
    let balance = amount("balance", &miner.balance)?;
    world.insert(
        miner.actor_id,
        Actor {
            miner: Some(head),
            ..Actor::new(Code::Miner, balance)
        },
    );
    Ok(())
}
