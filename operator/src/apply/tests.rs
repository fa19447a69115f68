//! Signing and pushing against a server on loopback that plays the API server and the chain node.

mod draining;
mod sweeping;

use filstar_core::world::World;
use filstar_crds::{ChainMessage, MessageState, Miner};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::testing::{Server, message, miner, signed_message};
use super::*;

struct Bench {
    server: Server,
    applier: Applier,
    role: watch::Sender<Role>,
    world: World,
}

const MESSAGE: &str = "t01000-7-precommit-1";

impl Bench {
    async fn new() -> Self {
        let server = Server::start().await;
        let (role, receiver) = watch::channel(Role::Leader {
            renewed: Instant::now(),
        });
        let connections = Connections::default();
        let miner_id = Id::new("ns", "m");
        connections.set(&miner_id, Some(server.node()));
        let client = server.client();
        let secrets = Secrets::new(client.clone());
        let metrics = Arc::new(Metrics::new().unwrap());
        let applier = Applier::new(client, receiver, connections, secrets, metrics);
        let mut world = World::default();
        world
            .miners
            .apply(serde_json::from_value::<Miner>(miner()).unwrap());
        Self {
            server,
            applier,
            role,
            world,
        }
    }

    /// Puts a message onto the API server and into the world.
    fn put(&mut self, object: Value) {
        let typed: ChainMessage = serde_json::from_value(object.clone()).unwrap();
        self.world.messages.apply(typed);
        self.server.put(object);
    }

    fn live(&self, name: &str) -> ChainMessage {
        serde_json::from_value(self.server.get(name)).unwrap()
    }

    async fn sign(&mut self, name: &str, min_nonce: u64) -> Applied {
        let id = Id::new("ns", name);
        let resource_version = self
            .world
            .messages
            .get(&id)
            .unwrap()
            .resource_version()
            .unwrap();
        let miner = Id::new("ns", "m");
        let action = Action::SignMessage {
            id,
            miner,
            min_nonce,
            spendable: None,
            resource_version,
        };
        self.apply(action).await
    }

    /// Signs a proof that may reserve so much; the fee cap that it gets.
    async fn fee_cap(&mut self, spendable: u64) -> u64 {
        let mut object = message(MESSAGE);
        object["spec"]["kind"] = json!("WindowPost");
        object["spec"]["deadlineEpoch"] = json!(60);
        self.put(object);
        let action = Action::SignMessage {
            id: Id::new("ns", MESSAGE),
            miner: Id::new("ns", "m"),
            min_nonce: 0,
            spendable: Some(spendable.into()),
            resource_version: "10".into(),
        };
        self.apply(action).await.result.unwrap();
        let status = self.live(MESSAGE).status.unwrap();
        status.versions[0].gas_fee_cap.parse().unwrap()
    }

    async fn push(&mut self, name: &str) -> Applied {
        let id = Id::new("ns", name);
        let object = self.world.messages.get(&id).unwrap();
        let mut status = object.status.clone().unwrap_or_default();
        status.state = Some(MessageState::Pushed);
        status.pushes += 1;
        let resource_version = object.resource_version().unwrap();
        let miner = Id::new("ns", "m");
        let action = Action::PushMessage {
            id,
            miner,
            status: Box::new(status),
            resource_version,
        };
        self.apply(action).await
    }

    async fn apply(&mut self, action: Action) -> Applied {
        let scene = Scene::of(&self.world, &action);
        let mut applied = self.applier.apply(action, scene).await;
        for change in applied.changes.drain(..) {
            change(&mut self.world);
        }
        applied
    }
}

#[tokio::test]
async fn signing_stores_the_signed_bytes_and_pushes_nothing() {
    let mut bench = Bench::new().await;
    bench.put(message(MESSAGE));
    bench.sign(MESSAGE, 3).await.result.unwrap();
    let status = bench.live(MESSAGE).status.unwrap();
    assert_eq!(
        (status.state, status.nonce),
        (Some(MessageState::Signed), Some(5))
    );
    let signed = signed_message(&status.versions[0].bytes);
    assert_eq!(signed.cid().to_string(), status.versions[0].cid);
    assert_eq!(
        signed.message.nonce, 5,
        "the chain has used 5 nonces, the pool none beyond"
    );
    assert_eq!(bench.server.calls("MpoolPush").len(), 0);
    let known = bench.world.messages.get(&Id::new("ns", MESSAGE)).unwrap();
    assert_eq!(
        known.status.as_ref().unwrap().nonce,
        Some(5),
        "what was written is in the world"
    );
}

#[tokio::test]
async fn two_messages_of_one_sender_never_get_one_nonce_even_when_the_plan_is_old() {
    let mut bench = Bench::new().await;
    bench.put(message("t01000-7-precommit-1"));
    bench.put(message("t01000-8-precommit-1"));
    bench.sign("t01000-7-precommit-1", 7).await.result.unwrap();
    bench.sign("t01000-8-precommit-1", 7).await.result.unwrap();
    let nonce = |name| bench.live(name).status.unwrap().nonce.unwrap();
    assert_eq!(nonce("t01000-7-precommit-1"), 7);
    assert_eq!(nonce("t01000-8-precommit-1"), 8);
}

#[tokio::test]
async fn a_store_whose_answer_is_lost_is_found_and_not_signed_again() {
    let mut bench = Bench::new().await;
    bench.put(message(MESSAGE));
    bench.server.lose_next_answer();
    bench.sign(MESSAGE, 0).await.result.unwrap();
    let status = bench.live(MESSAGE).status.unwrap();
    assert_eq!(status.versions.len(), 1);
    assert_eq!(bench.server.patches().len(), 1);
    bench.put(message("t01000-8-precommit-1"));
    bench.sign("t01000-8-precommit-1", 0).await.result.unwrap();
    assert_eq!(
        bench.live("t01000-8-precommit-1").status.unwrap().nonce,
        Some(6)
    );
}

#[tokio::test]
async fn a_message_that_changed_since_the_plan_is_not_signed() {
    let mut bench = Bench::new().await;
    bench.put(message(MESSAGE));
    bench.server.touch(MESSAGE);
    let result = bench.sign(MESSAGE, 0).await.result;
    assert!(matches!(result, Err(Error::Conflict)), "{result:?}");
    assert_eq!(bench.live(MESSAGE).status, None);
}

#[tokio::test]
async fn pushing_hands_over_exactly_the_stored_bytes_and_then_says_so() {
    let mut bench = Bench::new().await;
    bench.put(message(MESSAGE));
    bench.sign(MESSAGE, 0).await.result.unwrap();
    let stored = signed_message(&bench.live(MESSAGE).status.unwrap().versions[0].bytes);
    bench.push(MESSAGE).await.result.unwrap();
    let pushed = bench.server.calls("MpoolPush");
    assert_eq!(pushed.len(), 1);
    assert_eq!(
        pushed[0][0]["Message"]["Nonce"],
        json!(stored.message.nonce)
    );
    assert_eq!(
        bench.live(MESSAGE).status.unwrap().state,
        Some(MessageState::Pushed)
    );
}

#[tokio::test]
async fn a_message_that_the_node_has_already_counts_as_pushed() {
    let mut bench = Bench::new().await;
    bench.put(message(MESSAGE));
    bench.sign(MESSAGE, 0).await.result.unwrap();
    bench
        .server
        .refuse("MpoolPush", 1, "message with nonce already exists");
    bench.push(MESSAGE).await.result.unwrap();
    assert_eq!(
        bench.live(MESSAGE).status.unwrap().state,
        Some(MessageState::Pushed)
    );
}

#[tokio::test]
async fn nothing_is_pushed_when_the_message_changed_since_the_plan() {
    let mut bench = Bench::new().await;
    bench.put(message(MESSAGE));
    bench.sign(MESSAGE, 0).await.result.unwrap();
    bench.server.touch(MESSAGE);
    let result = bench.push(MESSAGE).await.result;
    assert!(matches!(result, Err(Error::Conflict)), "{result:?}");
    assert_eq!(bench.server.calls("MpoolPush").len(), 0);
}

#[tokio::test]
async fn a_message_that_would_fail_is_not_signed_and_says_why_once() {
    let mut bench = Bench::new().await;
    bench.put(message(MESSAGE));
    let text = "message execution failed (exit=[16], ticket too old)";
    bench.server.refuse("GasEstimateMessageGas", 1, text);
    let result = bench.sign(MESSAGE, 0).await.result;
    assert!(matches!(result, Err(Error::Chain(_))), "{result:?}");
    let status = bench.live(MESSAGE).status.unwrap();
    assert_eq!(status.state, None);
    assert_eq!(status.conditions[0].reason, "WouldFail");
    assert!(status.conditions[0].message.contains("ticket too old"));
    let writes = bench.server.patches().len();
    bench.sign(MESSAGE, 0).await.result.unwrap_err();
    assert_eq!(
        bench.server.patches().len(),
        writes,
        "the same again is not written"
    );
}

#[tokio::test]
async fn a_fee_bound_below_the_base_fee_takes_no_nonce() {
    let mut bench = Bench::new().await;
    let mut object = message(MESSAGE);
    object["spec"]["maxFee"] = json!("1 attoFIL");
    bench.put(object);
    let result = bench.sign(MESSAGE, 0).await.result;
    assert!(matches!(result, Err(Error::FeeBound(_))), "{result:?}");
    let status = bench.live(MESSAGE).status.unwrap();
    assert_eq!(
        (status.nonce, status.conditions[0].reason.as_str()),
        (None, "FeeBound")
    );
}

#[tokio::test]
async fn nothing_is_signed_stored_or_pushed_without_the_lease() {
    let mut bench = Bench::new().await;
    bench.put(message(MESSAGE));
    bench.role.send_replace(Role::Follower);
    let result = bench.sign(MESSAGE, 0).await.result;
    assert!(matches!(result, Err(Error::NotLeader)), "{result:?}");
    assert!(bench.server.patches().is_empty());
    bench.role.send_replace(Role::Leader {
        renewed: Instant::now(),
    });
    bench.sign(MESSAGE, 0).await.result.unwrap();
    bench.role.send_replace(Role::Lost);
    bench.push(MESSAGE).await.result.unwrap_err();
    assert!(bench.server.calls("MpoolPush").is_empty());
}

/// A pre-commit for sector 7, and the sector that waits for it.
fn for_a_sector() -> (Value, Value) {
    let mut wish = message(MESSAGE);
    wish["spec"]["sectors"] = json!([7]);
    let sector = json!({
        "apiVersion": "filstar.io/v1alpha1", "kind": "Sector",
        "metadata": {"name": "t01000-7", "namespace": "ns", "uid": "s", "resourceVersion": "10"},
        "spec": {"minerRef": {"name": "m"}, "groupRef": {"name": "g"}, "number": 7,
            "sealProof": "StackedDrg2KiBV1P1"},
        "status": {"phase": "PreCommitting", "messages": {"preCommit": MESSAGE}},
    });
    (wish, sector)
}

#[tokio::test]
async fn a_pre_commit_is_signed_only_for_a_sector_that_waits_for_it_at_that_very_moment() {
    let (wish, sector) = for_a_sector();
    let mut leaving = sector.clone();
    leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let mut another = sector.clone();
    another["status"] = json!({"phase": "PC1"});
    for there in [None, Some(leaving), Some(another)] {
        let mut bench = Bench::new().await;
        bench.put(wish.clone());
        if let Some(there) = there {
            bench.server.put(there);
        }
        let result = bench.sign(MESSAGE, 0).await.result;
        assert!(matches!(result, Err(Error::NoLongerDue(_))), "{result:?}");
        assert!(bench.server.patches().is_empty());
        assert!(bench.server.calls("WalletSignMessage").is_empty());
    }
    let mut bench = Bench::new().await;
    bench.put(wish);
    bench.server.put(sector);
    bench.sign(MESSAGE, 0).await.result.unwrap();
}

#[tokio::test]
async fn a_pre_commit_is_signed_only_while_the_node_with_its_replica_is_there() {
    let (wish, mut sector) = for_a_sector();
    sector["status"]["binding"] = json!({"node": "node-a", "scratch": "/scratch"});
    let mut bench = Bench::new().await;
    bench.put(wish);
    bench.server.put(sector);
    let result = bench.sign(MESSAGE, 0).await.result;
    assert!(matches!(result, Err(Error::NoLongerDue(_))), "{result:?}");
    assert!(bench.server.calls("WalletSignMessage").is_empty());
    let node = json!({"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": "node-a", "uid": "n", "resourceVersion": "10"}});
    bench.server.put(node);
    bench.sign(MESSAGE, 0).await.result.unwrap();
}

#[tokio::test]
async fn a_proof_may_land_at_any_base_fee_of_its_window_as_far_as_money_allows() {
    // The node's estimate: a cap of 200 per gas at a base fee of 100, for a million gas. Ten epochs are left.
    let mut bench = Bench::new().await;
    let cap = bench.fee_cap(u64::MAX).await;
    let mut highest = 100_u64;
    for _ in 0..10 {
        highest += highest.div_ceil(8);
    }
    assert_eq!(cap, highest + 10, "the base fee and the premium");
    let mut bench = Bench::new().await;
    assert_eq!(bench.fee_cap(300_000_000).await, 300);
    let mut bench = Bench::new().await;
    assert_eq!(bench.fee_cap(1).await, 200, "never below the estimate");
}
