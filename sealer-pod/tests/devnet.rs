//! A sector from nothing to on chain with the program's own tasks, on a devnet that already runs.
//!
//! Ignored unless asked for, since it takes a C2 and a chain:
//! `FILSTAR_TEST_DEVNET=<folder of the chain> FILSTAR_TEST_STORE=<folder to land in> cargo test
//! --release --workspace --test devnet -- --ignored --nocapture`

#![expect(clippy::unwrap_used, reason = "what a test cannot get fails it")]

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use cid::{Cid, multihash::Multihash};
use filstar_chain::{
    ActorId, Address, AttoFil, Endpoint, Epoch, LocalSigner, Message, Network, Node, SealProof,
    SectorNumber, Token,
    gas::FeeSpec,
    message::params::{MinerParams, PreCommitSectorBatch2, ProveCommitSectors3, SectorPreCommit},
    node::{ActorReader, ChainReader, MessageReader, Pusher, RandomnessReader, SectorReader},
    randomness::{Tag, miner_entropy},
    types::TipSetKey,
};
use serde_json::{Value, json};

const MINER: ActorId = ActorId(1000);

fn task(task: &str, scratch: &Path, number: u64, more: &Value) -> Value {
    let params = filstar_sealing::params::default_dir();
    let mut child = Command::new(env!("CARGO_BIN_EXE_sealer-pod"))
        .arg("task")
        .env("FIL_PROOFS_PARAMETER_CACHE", &params)
        .env(
            "FIL_PROOFS_PARENT_CACHE",
            format!("{}/parents/", params.display()),
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let sector = json!({"actor": MINER.0, "number": number});
    let place = json!({"sector": sector, "proof": "StackedDrg2KiBV1P1", "root": scratch});
    let mut input = json!({"place": place});
    input
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let request = json!({"task": {"task": task, "input": input}});
    child
        .stdin
        .take()
        .unwrap()
        .write_all(format!("{request}\n").as_bytes())
        .unwrap();
    let out = child.wait_with_output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    println!(
        "{task}: {}",
        last.to_string().chars().take(150).collect::<String>()
    );
    last["result"]["output"].clone()
}

struct Chain {
    node: Node,
    signer: LocalSigner,
}

impl Chain {
    fn open(dir: &Path) -> Self {
        let token = std::fs::read_to_string(dir.join("token-admin")).unwrap();
        let url = std::env::var("FILSTAR_TEST_DEVNET_URL")
            .unwrap_or_else(|_| "http://127.0.0.1:1234/rpc/v1".into());
        let endpoint = Endpoint::new("devnet", url, Some(Token::new(&token)));
        let node = Node::new(endpoint, Network::Devnet).unwrap();
        let key = std::fs::read_to_string(dir.join("keys/miner-1000-control-0.key")).unwrap();
        Self {
            node,
            signer: LocalSigner::from_lotus(key.trim()).unwrap(),
        }
    }

    async fn head(&self) -> Epoch {
        self.node.chain_head().await.unwrap().height
    }

    async fn wait(&self, epoch: Epoch) {
        while self.head().await < epoch {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn send<P: MinerParams>(&self, params: &P, value: u64) {
        let any = TipSetKey::heaviest();
        let from: Address = self.signer.address();
        let mut message = Message::to_miner(from, MINER, params).unwrap();
        message.value = AttoFil::from_fil(value);
        let mut message = self
            .node
            .estimate_message_gas(&message, &FeeSpec::default(), &any)
            .await
            .unwrap();
        message.nonce = self.node.actor(&from, &any).await.unwrap().nonce;
        let signed = self.signer.sign_message(message).unwrap();
        let cid = self.node.push(&signed).await.unwrap();
        loop {
            let found = self
                .node
                .search_message(&any, &cid, -1, true)
                .await
                .unwrap();
            if let Some(found) = found {
                println!("{}: {:?}", P::NAME, found.receipt);
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

fn cid(codec: u64, code: u64, hex: &Value) -> Cid {
    let bytes = hex::decode(hex.as_str().unwrap()).unwrap();
    Cid::new_v1(codec, Multihash::wrap(code, &bytes).unwrap())
}

#[tokio::test]
#[ignore = "needs a running devnet and parameters"]
async fn sector_is_sealed_committed_and_landed() {
    let dir = PathBuf::from(std::env::var_os("FILSTAR_TEST_DEVNET").unwrap());
    let store = PathBuf::from(std::env::var_os("FILSTAR_TEST_STORE").unwrap());
    let number: u64 = std::env::var("FILSTAR_TEST_NUMBER").map_or(0, |n| n.parse().unwrap());
    let chain = Chain::open(&dir);
    let scratch = tempfile::tempdir().unwrap();
    let (any, entropy) = (TipSetKey::heaviest(), miner_entropy(MINER));
    chain.wait(Epoch(20)).await;
    let epoch = Epoch(chain.head().await.0 - 10);
    let tag = Tag::SealRandomness;
    let ticket = chain
        .node
        .randomness_from_tickets(tag, epoch, &entropy, &any)
        .await
        .unwrap();
    let ticket = json!({"ticket": hex::encode(ticket)});
    let run = |name: &str, more: &Value| task(name, scratch.path(), number, more);
    run("addPiece", &json!({}));
    run("pc1", &ticket);
    let sealed = run("pc2", &ticket);
    let pre_commit = SectorPreCommit {
        seal_proof: SealProof::from_number(5).unwrap(),
        sector_number: SectorNumber(number),
        sealed_cid: cid(0xf102, 0xb401, &sealed["commR"]),
        seal_rand_epoch: epoch,
        deal_ids: vec![],
        expiration: Epoch(epoch.0 + 1_000_000),
        unsealed_cid: None,
    };
    chain
        .send(
            &PreCommitSectorBatch2 {
                sectors: vec![pre_commit],
            },
            1,
        )
        .await;
    let number_ = SectorNumber(number);
    let info = chain
        .node
        .precommit_info(MINER, number_, &any)
        .await
        .unwrap()
        .unwrap();
    let delay = chain
        .node
        .network_params()
        .await
        .unwrap()
        .pre_commit_challenge_delay;
    let at = Epoch(info.pre_commit_epoch.0 + delay);
    chain.wait(Epoch(at.0 + 2)).await;
    let tag = Tag::InteractiveSealChallengeSeed;
    let seed = chain
        .node
        .randomness_from_beacon(tag, at, &entropy, &any)
        .await
        .unwrap();
    let both = json!({"ticket": ticket["ticket"], "seed": hex::encode(seed)});
    run("c1", &both);
    let proof = hex::decode(run("c2", &both)["proof"].as_str().unwrap()).unwrap();
    chain
        .send(&ProveCommitSectors3::single_proofs([(number_, proof)]), 1)
        .await;
    run("finalize", &json!({}));
    let facts = json!({"commR": sealed["commR"], "commD": sealed["commD"],
                       "ticket": ticket["ticket"], "ticketEpoch": epoch});
    run("land", &json!({"store": store, "facts": facts}));
    let info = chain.node.sector_info(MINER, number_, &any).await.unwrap();
    println!("{info:?}");
    assert!(info.is_some(), "the chain knows the sector");
}
