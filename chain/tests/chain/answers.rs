//! Lotus's own examples go through the client: what it asks, and what it reads.

use std::sync::OnceLock;

use filstar_chain::gas::FeeSpec;
use filstar_chain::message::SignedMessageJson;
use filstar_chain::node::{
    ActorReader as _, ChainReader as _, Error, MessageReader as _, MinerReader as _,
    NodeSigner as _, PreCommitInfo, RandomnessReader as _, SectorReader as _, pending_of,
};
use filstar_chain::randomness::Tag;
use filstar_chain::types::bitfield;
use filstar_chain::{
    ActorId, AttoFil, Epoch, LocalSigner, Message, Network, Node, SealProof, SectorNumber,
    SectorSize, SignedMessage, TipSetKey, parse_address,
};
use serde_json::{Value, json};

use crate::server::{Answer, Server};

/// The examples of one method: `params` and `result`.
pub(crate) fn example(method: &str) -> &'static Value {
    static EXAMPLES: OnceLock<Value> = OnceLock::new();
    let text = include_str!("../../testdata/answers.json");
    &EXAMPLES.get_or_init(|| serde_json::from_str(text).unwrap())[method]
}

pub(crate) fn signed_example() -> SignedMessage {
    let json = example("MpoolPush")["params"][0].clone();
    serde_json::from_value::<SignedMessageJson>(json)
        .unwrap()
        .try_into()
        .unwrap()
}

const MINER: ActorId = ActorId(1234);

fn key() -> TipSetKey {
    serde_json::from_value(example("StateMinerInfo")["params"][1].clone()).unwrap()
}

/// A mainnet node that answers every method with its example.
async fn lotus() -> (Server, Node) {
    let server = Server::start(|method, _params| match example(method).get("result") {
        None => Answer::Refusal(-32601, format!("method '{method}' not found")),
        Some(result) => Answer::Result(result.clone()),
    })
    .await;
    let node = Node::new(server.endpoint("lotus"), Network::Mainnet).unwrap();
    (server, node)
}

/// The last call had the parameters of lotus's example.
fn asked_like(server: &Server, method: &str) {
    let seen = server.seen();
    let last = seen.last().unwrap();
    assert_eq!(last.method, format!("Filecoin.{method}"));
    assert_eq!(last.params, example(method)["params"], "{method}");
}

#[tokio::test]
async fn the_head_of_mainnet_is_read() {
    let (server, node) = lotus().await;
    let head = node.chain_head().await.unwrap();
    asked_like(&server, "ChainHead");
    assert_eq!(head.height, Epoch(4_863_283));
    assert_eq!(head.base_fee(), AttoFil::from(20_592_036));
    assert_eq!(head.parents().0.len(), 3);
    assert!(head.timestamp() > 1_600_000_000);
    assert_eq!(head.blocks.len(), head.key.0.len());
}

#[tokio::test]
async fn the_network_is_read() {
    let (server, node) = lotus().await;
    assert_eq!(node.network_name().await.unwrap(), "lotus");
    assert_eq!(node.network_version(&key()).await.unwrap(), 29);
    asked_like(&server, "StateNetworkVersion");
    let params = node.network_params().await.unwrap();
    assert_eq!(
        (params.block_delay_secs, params.pre_commit_challenge_delay),
        (42, 10101)
    );
}

#[tokio::test]
async fn a_miner_is_read() {
    let (server, node) = lotus().await;
    let info = node.miner_info(MINER, &key()).await.unwrap();
    asked_like(&server, "StateMinerInfo");
    assert_eq!(info.sector_size, 34_359_738_368);
    assert!(info.may_send(&parse_address("f01234").unwrap()));
    assert!(!info.may_send(&parse_address("f01235").unwrap()));
    assert!(node.miner_power(MINER, &key()).await.unwrap().has_min_power);
    asked_like(&server, "StateMinerPower");
    assert!(
        node.miner_available_balance(MINER, &key())
            .await
            .unwrap()
            .is_zero()
    );
    asked_like(&server, "StateMinerAvailableBalance");
    assert_eq!(
        node.proving_deadline(MINER, &key()).await.unwrap().index,
        42
    );
    asked_like(&server, "StateMinerProvingDeadline");
    let deadlines = node.deadlines(MINER, &key()).await.unwrap();
    asked_like(&server, "StateMinerDeadlines");
    assert!(deadlines[0].post_submissions.get(5));
    let partitions = node.partitions(MINER, 42, &key()).await.unwrap();
    asked_like(&server, "StateMinerPartitions");
    assert!(partitions[0].active_sectors.get(5));
    assert!(node.faults(MINER, &key()).await.unwrap().get(5));
    asked_like(&server, "StateMinerFaults");
    assert!(node.allocated(MINER, &key()).await.unwrap().is_empty());
    asked_like(&server, "StateMinerAllocated");
    assert!(
        node.sector_allocated(MINER, SectorNumber(9), &key())
            .await
            .unwrap()
    );
    asked_like(&server, "StateMinerSectorAllocated");
}

#[tokio::test]
async fn a_miner_without_a_new_worker_or_control_addresses_is_read() {
    let mut info = example("StateMinerInfo")["result"].clone();
    info["NewWorker"] = json!("<empty>");
    info["ControlAddresses"] = json!(null);
    info["PeerId"] = json!(null);
    info["PendingBeneficiaryTerm"] = json!(null);
    let server = Server::start(move |_, _| Answer::Result(info.clone())).await;
    let read = server.node("main").miner_info(MINER, &key()).await.unwrap();
    assert_eq!(read.new_worker, None);
    assert!(read.control_addresses.is_empty());
}

#[tokio::test]
async fn sectors_are_read() {
    let (server, node) = lotus().await;
    let info = node
        .sector_info(MINER, SectorNumber(9), &key())
        .await
        .unwrap()
        .unwrap();
    asked_like(&server, "StateSectorGetInfo");
    assert_eq!(info.seal_proof, SealProof::StackedDrg32GiBV1P1);
    let none = bitfield::of([]).unwrap();
    assert_eq!(
        node.sectors(MINER, Some(&none), &key()).await.unwrap(),
        [info]
    );
    asked_like(&server, "StateMinerSectors");
    let pre = node
        .precommit_info(MINER, SectorNumber(9), &key())
        .await
        .unwrap()
        .unwrap();
    asked_like(&server, "StateSectorPreCommitInfo");
    assert_eq!(pre.pre_commit_epoch, Epoch(10101));
    assert!(pre.info.unsealed_cid.is_some());
    let at = node
        .sector_partition(MINER, SectorNumber(9), &key())
        .await
        .unwrap();
    asked_like(&server, "StateSectorPartition");
    assert_eq!((at.deadline, at.partition), (42, 42));
    let ends = node
        .sector_expiration(MINER, SectorNumber(9), &key())
        .await
        .unwrap();
    asked_like(&server, "StateSectorExpiration");
    assert_eq!(ends.on_time, Epoch(10101));
}

#[tokio::test]
async fn all_sectors_are_asked_for_with_null() {
    let server = Server::start(|_, _| Answer::Result(json!(null))).await;
    assert!(
        server
            .node("main")
            .sectors(MINER, None, &key())
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(server.seen()[0].params[0], json!("t01234"));
    assert_eq!(server.seen()[0].params[1], json!(null));
}

#[tokio::test]
async fn sectors_that_are_not_there_are_none() {
    let server = Server::start(|_, _| Answer::Result(json!(null))).await;
    let node = server.node("main");
    assert_eq!(
        node.sector_info(MINER, SectorNumber(1), &key())
            .await
            .unwrap(),
        None
    );
    assert_eq!(
        node.precommit_info(MINER, SectorNumber(1), &key())
            .await
            .unwrap(),
        None
    );
    let forest =
        Server::start(|_, _| Answer::Refusal(-32603, "precommit info does not exist".to_owned()))
            .await;
    let node = forest.node("forest");
    assert_eq!(
        node.precommit_info(MINER, SectorNumber(1), &key())
            .await
            .unwrap(),
        None
    );
}

#[tokio::test]
async fn deposits_and_pledges_are_asked_for_as_lotus_expects() {
    let (server, node) = lotus().await;
    let asked = example("StateMinerPreCommitDepositForPower")["params"][1].clone();
    let info: PreCommitInfo = serde_json::from_value(asked).unwrap();
    node.precommit_deposit(MINER, &info, &key()).await.unwrap();
    asked_like(&server, "StateMinerPreCommitDepositForPower");
    node.initial_pledge(10101, SectorSize::Gib32, 42, &key())
        .await
        .unwrap();
    asked_like(&server, "StateMinerInitialPledgeForSector");
}

#[tokio::test]
async fn actors_are_read() {
    let (server, node) = lotus().await;
    let address = parse_address("f01234").unwrap();
    assert_eq!(node.actor(&address, &key()).await.unwrap().nonce, 42);
    asked_like(&server, "StateGetActor");
    assert_eq!(node.account_key(&address, &key()).await.unwrap(), address);
    asked_like(&server, "StateAccountKey");
    assert!(node.balance(&address).await.unwrap().is_zero());
    asked_like(&server, "WalletBalance");
}

#[tokio::test]
async fn messages_are_searched_simulated_and_estimated() {
    let (server, node) = lotus().await;
    let cid = filstar_chain::Cid::try_from(
        "bafy2bzacea3wsdh6y3a36tb3skempjoxqpuyompjbmfeyf34fi3uy6uue42v4",
    )
    .unwrap();
    let found = node
        .search_message(&key(), &cid, 10101, true)
        .await
        .unwrap()
        .unwrap();
    asked_like(&server, "StateSearchMsg");
    assert_eq!(
        (
            found.height,
            found.receipt.exit_code,
            found.receipt.gas_used
        ),
        (Epoch(10101), 0, 9)
    );
    assert_eq!(found.receipt.r#return, b"byte array");
    let message = signed_example().message;
    let result = node.call(&message, &key()).await.unwrap();
    assert_eq!(result.receipt.unwrap().exit_code, 0);
    assert_eq!(result.error, "string value");
    let spec = FeeSpec {
        max_fee: Some(AttoFil::zero()),
        maximize_fee_cap: true,
    };
    assert_eq!(
        node.estimate_message_gas(&message, &spec, &key())
            .await
            .unwrap(),
        message
    );
    let sent = server.seen().last().unwrap().params[1].clone();
    assert_eq!(sent["MaxFee"], "0");
    assert_eq!(sent["MaximizeFeeCap"], true);
    let sender = parse_address("f01234").unwrap();
    node.estimate_premium(42, &sender, 9, &key()).await.unwrap();
    asked_like(&server, "GasEstimateGasPremium");
    node.estimate_fee_cap(&message, 9, &key()).await.unwrap();
    assert_eq!(node.mpool_nonce(&sender).await.unwrap(), 42);
    asked_like(&server, "MpoolGetNonce");
    let pool = node.mpool_pending(&key()).await.unwrap();
    asked_like(&server, "MpoolPending");
    assert_eq!(pending_of(&pool, &sender).len(), 1);
    assert!(pending_of(&pool, &parse_address("f01").unwrap()).is_empty());
}

#[tokio::test]
async fn a_message_that_has_not_landed_is_none() {
    let server = Server::start(|_, _| Answer::Result(json!(null))).await;
    let cid = signed_example().cid();
    let found = server
        .node("main")
        .search_message(&TipSetKey::heaviest(), &cid, -1, true)
        .await;
    assert_eq!(found.unwrap(), None);
    assert_eq!(server.seen()[0].params[0], json!([]));
}

#[tokio::test]
async fn the_pool_without_our_kind_of_signature_is_read_without_it() {
    let mut pool = example("MpoolPending")["result"].clone();
    let mut delegated = pool[0].clone();
    delegated["Signature"]["Type"] = json!(3);
    pool.as_array_mut().unwrap().push(delegated);
    let server = Server::start(move |_, _| Answer::Result(pool.clone())).await;
    assert_eq!(
        server
            .node("main")
            .mpool_pending(&TipSetKey::heaviest())
            .await
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn the_next_base_fee_is_the_node_s_own_where_it_has_one() {
    let server = Server::start(|method, _| match method {
        "EthBaseFee" => Answer::Result(json!("0x1f4")),
        other => Answer::Result(example(other)["result"].clone()),
    })
    .await;
    let node = server.node("main");
    let head = node.chain_head().await.unwrap();
    let fees = node.base_fees(&head).await.unwrap();
    assert_eq!(fees.next, AttoFil::from(500));
    assert_eq!(fees.current, AttoFil::from(20_592_036));
}

#[tokio::test]
async fn the_next_base_fee_is_computed_where_the_node_has_none_or_has_it_switched_off() {
    let refusals = [
        (-32601, "method not found"),
        (
            1,
            "module disabled, enable with Fevm.EnableEthRPC / LOTUS_FEVM_ENABLEETHRPC",
        ),
    ];
    for (code, text) in refusals {
        let server = Server::start(move |method, _| match method {
            "EthBaseFee" => Answer::Refusal(code, text.to_owned()),
            other => Answer::Result(example(other)["result"].clone()),
        })
        .await;
        let node = server.node("main");
        let head = node.chain_head().await.unwrap();
        let fees = node.base_fees(&head).await.unwrap();
        // Nearly nobody bids: down by an eighth, rounded up.
        assert_eq!(fees.next, AttoFil::from(20_592_036 - 2_574_005), "{text}");
    }
}

#[tokio::test]
async fn a_base_fee_that_is_no_number_is_unreadable() {
    for bad in ["", "0x", "12", "0xzz"] {
        let server = Server::start(move |method, _| match method {
            "EthBaseFee" => Answer::Result(json!(bad)),
            other => Answer::Result(example(other)["result"].clone()),
        })
        .await;
        let node = server.node("main");
        let head = node.chain_head().await.unwrap();
        let error = node.base_fees(&head).await.unwrap_err();
        assert!(matches!(error, Error::Unreadable { .. }), "{bad}: {error}");
    }
}

#[tokio::test]
async fn randomness_is_asked_for_by_tag_and_must_be_32_bytes() {
    let server = Server::start(|method, _| match method {
        "StateGetRandomnessFromTickets" => {
            Answer::Result(json!("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="))
        }
        _ => Answer::Result(json!("Bw==")),
    })
    .await;
    let node = server.node("main");
    let entropy = [0x43, 0x00, 0xe8, 0x07];
    let head = TipSetKey::heaviest();
    let drawn = node
        .randomness_from_tickets(Tag::SealRandomness, Epoch(100), &entropy, &head)
        .await
        .unwrap();
    assert_eq!(drawn, [0; 32]);
    assert_eq!(server.seen()[0].params, json!([5, 100, "QwDoBw==", []]));
    let error = node
        .randomness_from_beacon(
            Tag::InteractiveSealChallengeSeed,
            Epoch(100),
            &entropy,
            &head,
        )
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("1 bytes instead of 32"),
        "{error}"
    );
}

#[tokio::test]
async fn a_node_that_signs_another_message_is_not_believed() {
    let (server, node) = lotus().await;
    let mut message = signed_example().message;
    assert!(node.wallet_has(&message.from).await.unwrap());
    asked_like(&server, "WalletHas");
    message.nonce += 1;
    let error = node.wallet_sign_message(&message).await.unwrap_err();
    assert!(
        error.to_string().contains("signed another message"),
        "{error}"
    );
}

#[tokio::test]
async fn a_node_s_signature_is_checked() {
    let key = r#"{"Type":"secp256k1","PrivateKey":"8VcW07ADswS4BV2cxi5rnIadVsyTDDhY1NfDH19T8Uo="}"#;
    let signer = LocalSigner::from_lotus(key).unwrap();
    let message = Message::new(signer.address(), MINER.address(), 5, vec![1]);
    let good = signer.sign_message(message.clone()).unwrap();
    let mut bad = good.clone();
    bad.signature.bytes[7] ^= 1;
    for (signed, ok) in [(good, true), (bad, false)] {
        let json = json!(SignedMessageJson::new(&signed, Network::Devnet));
        let server = Server::start(move |_, _| Answer::Result(json.clone())).await;
        let answer = server.node("main").wallet_sign_message(&message).await;
        assert_eq!(answer.is_ok(), ok);
    }
}

#[tokio::test]
async fn token_permissions_are_asked_for() {
    let server = Server::start(|_, _| Answer::Result(json!(["read", "write"]))).await;
    let token = filstar_chain::Token::new("abc");
    let permissions = server.node("main").auth_verify(&token).await.unwrap();
    assert_eq!(permissions, ["read", "write"]);
    assert_eq!(server.seen()[0].params, json!(["abc"]));
}

#[tokio::test]
async fn lotus_s_version_is_read() {
    let version = json!({"Version": "1.36.1+mainnet", "APIVersion": 131_840, "BlockDelay": 30, "Agent": "lotus"});
    let server = Server::start(move |_, _| Answer::Result(version.clone())).await;
    assert_eq!(
        server.node("main").version().await.unwrap().version,
        "1.36.1+mainnet"
    );
}
