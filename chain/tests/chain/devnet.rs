//! The client against another implementation of the chain: a running devnet, which shares no code with it.
//!
//! Run with a devnet of settings `--demo`: `scripts/with-devnet cargo test … --test chain -- --ignored devnet` starts one on
//! loopback; for another set `FILSTAR_DEVNET_URL` (`http://127.0.0.1:1234/rpc/v1`) and `FILSTAR_DEVNET_DIR` (its folder).

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use filstar_chain::endpoints::{Healthy, Policy};
use filstar_chain::gas::{self, FeeSpec};
use filstar_chain::message::params::{
    MinerParams as _, PreCommitSectorBatch2, SectorPreCommit, SubmitWindowedPost, exit,
};
use filstar_chain::node::{
    ActorReader as _, ChainReader as _, Error, MessageLookup, MessageReader as _, MinerReader as _,
    NodeSigner as _, PreCommitInfo, Pusher as _, RandomnessReader as _, SectorReader as _,
};
use filstar_chain::randomness::{Tag, miner_entropy};
use filstar_chain::types::bitfield;
use filstar_chain::{
    ActorId, AttoFil, Cid, Class, Endpoint, Endpoints, Epoch, LocalSigner, Message, Network, Node,
    SealProof, SectorNumber, SectorSize, SignedMessage, TipSetKey, Token,
};

const MINER: ActorId = ActorId(1000);

fn setting(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("set {name}: see the head of this file"))
}

fn file(path: &str) -> String {
    let path = PathBuf::from(setting("FILSTAR_DEVNET_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn node(permission: &str) -> Node {
    let token = Token::new(&file(&format!("token-{permission}")));
    let endpoint = Endpoint::new("devnet", setting("FILSTAR_DEVNET_URL"), Some(token));
    Node::new(endpoint, Network::Devnet).unwrap()
}

/// A healthy node; a chain that has just begun has its first tipset soon.
async fn healthy() -> Healthy {
    loop {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let policy = Policy {
            network: Network::Devnet,
            max_lag_epochs: 30,
            genesis: None,
        };
        let found = Endpoints::new(vec![node("write")], policy)
            .healthy(now)
            .await
            .unwrap();
        if found.head.height > Epoch(0) {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn control() -> LocalSigner {
    LocalSigner::from_lotus(&file("keys/miner-1000-control-0.key")).unwrap()
}

/// CommR as a CID: the codec and hash of sealed sectors.
fn sealed(seed: u8) -> Cid {
    let hash = cid::multihash::Multihash::<64>::wrap(0xb401, &[seed & 0x3f; 32]).unwrap();
    Cid::new_v1(0xf102, hash)
}

fn pre_commit(head: Epoch, number: u64) -> SectorPreCommit {
    SectorPreCommit {
        seal_proof: SealProof::StackedDrg2KiBV1P1,
        sector_number: SectorNumber(number),
        sealed_cid: sealed(7),
        seal_rand_epoch: head - 1,
        deal_ids: vec![],
        expiration: head + 86_550 + 190 * 2880,
        unsealed_cid: None,
    }
}

#[tokio::test]
#[ignore = "needs a running devnet"]
async fn devnet_answers_every_read() {
    let Healthy {
        node, head, params, ..
    } = healthy().await;
    let key = &head.key;
    assert!(params.block_delay_secs >= 1);
    assert_eq!(node.network_version(key).await.unwrap(), 28);
    assert!(node.version().await.unwrap().version.contains("devnet"));
    let token = Token::new(&file("token-write"));
    assert!(
        node.auth_verify(&token)
            .await
            .unwrap()
            .contains(&"write".to_owned())
    );
    let fees = node.base_fees(&head).await.unwrap();
    assert!(fees.next >= AttoFil::from(gas::MIN_BASE_FEE_ATTO));
    let before = node.tipset_by_height(head.height - 1, key).await.unwrap();
    assert!(before.height < head.height);

    let info = node.miner_info(MINER, key).await.unwrap();
    assert_eq!(info.sector_size, 2048);
    assert_eq!(
        info.window_post_proof_type,
        SealProof::StackedDrg2KiBV1P1.window_post_proof()
    );
    let worker = node.account_key(&info.worker, key).await.unwrap();
    assert_eq!(node.lookup_id(&worker, key).await.unwrap(), info.worker);
    let id = node.lookup_id(&control().address(), key).await.unwrap();
    assert!(info.may_send(&id));
    node.actor(&id, key).await.unwrap();
    assert!(!node.balance(&id).await.unwrap().is_zero());
    node.miner_power(MINER, key).await.unwrap();
    node.miner_available_balance(MINER, key).await.unwrap();
    let deadline = node.proving_deadline(MINER, key).await.unwrap();
    let deadlines = node.deadlines(MINER, key).await.unwrap();
    assert_eq!(deadlines.len() as u64, deadline.period_deadlines);
    assert_eq!(deadline.upcoming().len() as u64, deadline.period_deadlines);
    node.partitions(MINER, 0, key).await.unwrap();
    node.sectors(MINER, None, key).await.unwrap();
    node.faults(MINER, key).await.unwrap();
    node.recoveries(MINER, key).await.unwrap();
    let allocated = node.allocated(MINER, key).await.unwrap();
    assert!(!allocated.get(1 << 20));
    let number = SectorNumber(1 << 20);
    assert!(!node.sector_allocated(MINER, number, key).await.unwrap());
    assert_eq!(node.sector_info(MINER, number, key).await.unwrap(), None);
    assert_eq!(node.precommit_info(MINER, number, key).await.unwrap(), None);
    assert!(node.sector_partition(MINER, number, key).await.is_err());
    node.mpool_pending(&TipSetKey::heaviest()).await.unwrap();
    node.estimate_premium(10, &control().address(), 1_000_000, key)
        .await
        .unwrap();
}

#[tokio::test]
#[ignore = "needs a running devnet"]
async fn devnet_prices_a_sector_and_draws_randomness() {
    let Healthy { node, head, .. } = healthy().await;
    let pre = pre_commit(head.height, 1 << 20);
    let info = PreCommitInfo {
        seal_proof: pre.seal_proof,
        sector_number: pre.sector_number,
        sealed_cid: pre.sealed_cid,
        seal_rand_epoch: pre.seal_rand_epoch,
        deal_ids: vec![],
        expiration: pre.expiration,
        unsealed_cid: None,
    };
    let deposit = node
        .precommit_deposit(MINER, &info, &head.key)
        .await
        .unwrap();
    let pledge = node
        .initial_pledge(500_000, SectorSize::Kib2, 0, &head.key)
        .await
        .unwrap();
    assert!(!deposit.is_zero() && !pledge.is_zero());
    let entropy = miner_entropy(MINER);
    let epoch = head.height - 1;
    let ticket = node
        .randomness_from_tickets(Tag::SealRandomness, epoch, &entropy, &head.key)
        .await
        .unwrap();
    let seed = node
        .randomness_from_beacon(
            Tag::InteractiveSealChallengeSeed,
            epoch,
            &entropy,
            &head.key,
        )
        .await
        .unwrap();
    assert_ne!(ticket, seed);
}

#[tokio::test]
#[ignore = "needs a running devnet"]
async fn devnet_reads_our_parameters_and_refuses_wrong_ones_by_exit_code() {
    let Healthy { node, head, .. } = healthy().await;
    let from = control().address();
    let good = PreCommitSectorBatch2 {
        sectors: vec![pre_commit(head.height, 1 << 20)],
    };
    let message = Message::to_miner(from, MINER, &good).unwrap();
    let result = node.call(&message, &head.key).await.unwrap();
    assert_eq!(
        result.receipt.unwrap().exit_code,
        exit::OK,
        "{}",
        result.error
    );

    let late = SectorPreCommit {
        expiration: head.height,
        ..pre_commit(head.height, 1 << 20)
    };
    let bad = PreCommitSectorBatch2 {
        sectors: vec![late],
    };
    let message = Message::to_miner(from, MINER, &bad).unwrap();
    let result = node.call(&message, &head.key).await.unwrap();
    assert_eq!(result.receipt.unwrap().exit_code, 16, "{}", result.error);
    let error = node
        .estimate_message_gas(&message, &FeeSpec::default(), &head.key)
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::Execution {
                exit_code: Some(16),
                ..
            }
        ),
        "{error}"
    );

    let garbage = Message::new(
        from,
        MINER.address(),
        SubmitWindowedPost::METHOD,
        vec![0x83, 1, 2],
    );
    let result = node.call(&garbage, &head.key).await.unwrap();
    assert_eq!(result.receipt.unwrap().exit_code, 21, "{}", result.error);
}

/// Signs what `build` makes of the next nonce, and pushes it.
async fn send(node: &Node, signer: &LocalSigner, mut message: Message) -> SignedMessage {
    message.nonce = node.mpool_nonce(&signer.address()).await.unwrap();
    let max_fee: AttoFil = "0.1 FIL".parse().unwrap();
    let spec = FeeSpec {
        max_fee: Some(max_fee.clone()),
        maximize_fee_cap: false,
    };
    let head = TipSetKey::heaviest();
    let mut priced = node
        .estimate_message_gas(&message, &spec, &head)
        .await
        .unwrap();
    assert_eq!(
        (priced.nonce, &priced.params),
        (message.nonce, &message.params)
    );
    gas::cap_fees(&mut priced, &max_fee);
    let signed = signer.sign_message(priced).unwrap();
    assert_eq!(node.push(&signed).await.unwrap(), signed.cid());
    signed
}

/// Asks until the message has landed.
async fn landed(node: &Node, cid: &Cid) -> MessageLookup {
    for _ in 0..120 {
        let found = node
            .search_message(&TipSetKey::heaviest(), cid, -1, true)
            .await
            .unwrap();
        if let Some(found) = found {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    panic!("{cid} did not land");
}

#[tokio::test]
#[ignore = "needs a running devnet"]
async fn devnet_lands_a_message_of_each_kind_of_key_once_and_charges_what_we_compute() {
    let node = node("write");
    for name in ["miner-1000-worker", "account-0"] {
        let signer = LocalSigner::from_lotus(&file(&format!("keys/{name}.key"))).unwrap();
        assert_eq!(
            Network::Devnet.format(&signer.address()),
            file(&format!("keys/{name}.address")).trim()
        );
        let before = node.balance(&signer.address()).await.unwrap();
        let mut message = Message::new(signer.address(), control().address(), 0, vec![]);
        message.value = AttoFil::from(5);
        let signed = send(&node, &signer, message).await;
        // The same bytes again: they are there already, or have landed.
        if let Err(error) = node.push(&signed).await {
            assert!(matches!(error, Error::Pool { .. }), "{error}");
        }
        let found = landed(&node, &signed.cid()).await;
        assert_eq!((found.message, found.receipt.exit_code), (signed.cid(), 0));
        let parent = node
            .tipset_by_height(found.height - 1, &found.tipset)
            .await
            .unwrap();
        let fees = gas::Fees::of(&signed.message);
        let cost = gas::cost(&fees, found.receipt.gas_used, &parent.base_fee());
        let after = node.balance(&signer.address()).await.unwrap();
        assert_eq!(before - after, cost.total() + AttoFil::from(5), "{name}");
    }
}

#[tokio::test]
#[ignore = "needs a running devnet"]
async fn devnet_pre_commits_and_tells_what_it_holds() {
    let Healthy { node, head, .. } = healthy().await;
    let pool = node.allocated(MINER, &head.key).await.unwrap();
    let number = pool.last().map_or(0, |last| last + 1);
    let pre = pre_commit(head.height, number);
    let params = PreCommitSectorBatch2 {
        sectors: vec![pre.clone()],
    };
    let message = Message::to_miner(control().address(), MINER, &params).unwrap();
    let signed = send(&node, &control(), message).await;
    let found = landed(&node, &signed.cid()).await;
    assert_eq!(found.receipt.exit_code, 0);
    let held = node
        .precommit_info(MINER, SectorNumber(number), &found.tipset)
        .await
        .unwrap();
    let held = held.unwrap();
    assert_eq!(held.info.sealed_cid, pre.sealed_cid);
    assert_eq!(held.info.expiration, pre.expiration);
    let allocated = node.allocated(MINER, &found.tipset).await.unwrap();
    assert!(
        bitfield::numbers(&allocated, 1 << 20)
            .unwrap()
            .contains(&number)
    );
}

#[tokio::test]
#[ignore = "needs a running devnet"]
async fn devnet_signs_with_its_own_wallet_only_for_those_who_may() {
    let message = Message::new(control().address(), MINER.address(), 5, vec![1, 2]);
    let error = node("write")
        .wallet_sign_message(&message)
        .await
        .unwrap_err();
    assert_eq!(error.class(), Class::Fatal);
    assert!(error.to_string().contains("--perm sign"), "{error}");
    let node = node("sign");
    assert!(node.wallet_has(&control().address()).await.unwrap());
    let signed = node.wallet_sign_message(&message).await.unwrap();
    assert_eq!(signed, control().sign_message(message).unwrap());
}

#[tokio::test]
#[ignore = "needs a running devnet"]
async fn devnet_refuses_with_errors_that_we_understand() {
    let reader = node("read");
    let signed = control()
        .sign_message(Message::new(
            control().address(),
            MINER.address(),
            0,
            vec![],
        ))
        .unwrap();
    let error = reader.push(&signed).await.unwrap_err();
    assert!(
        matches!(&error, Error::MissingPermission { needs, .. } if needs == "write"),
        "{error}"
    );
    let error = reader
        .miner_info(ActorId(999_999), &TipSetKey::heaviest())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::ActorNotFound { .. }), "{error}");
    let bad = Endpoint::new(
        "devnet",
        setting("FILSTAR_DEVNET_URL"),
        Some(Token::new("bad")),
    );
    let error = Node::new(bad, Network::Devnet)
        .unwrap()
        .chain_head()
        .await
        .unwrap_err();
    assert!(error.to_string().contains("refuses the token"), "{error}");
}
