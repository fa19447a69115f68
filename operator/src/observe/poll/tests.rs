//! Polls of chain nodes on loopback whose heads are fine.

use std::convert::Infallible;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use filstar_core::world::World;

use super::*;

const CID: &str = "bafy2bzacecnamqgqmifpluoeldx7zzglxcljo6oja4vrmtj7432rphldpdmm2";

/// What a node does with the first call beyond its head.
#[derive(Clone, Copy)]
enum State {
    Fails,
    Hangs,
    Denies,
    /// Runs a version that no operator knows, and answers what proving needs.
    Proves(u32),
}

/// Starts a node; its URL.
async fn node(state: State) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/rpc/v1", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = service_fn(move |request| answer(state, request));
            let http = hyper::server::conn::http1::Builder::new();
            tokio::spawn(async move {
                drop(http.serve_connection(TokioIo::new(stream), service).await);
            });
        }
    });
    url
}

async fn answer(
    state: State,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let call: Value = serde_json::from_slice(&body).unwrap();
    let method = call["method"].as_str().unwrap();
    let result = match (method.trim_start_matches("Filecoin."), state) {
        ("StateNetworkName", _) => json!("localnet-1"),
        ("ChainGetGenesis" | "ChainHead", _) => tipset(),
        ("StateGetNetworkParams", _) => {
            json!({"NetworkName": "localnet-1", "BlockDelaySecs": 30, "PreCommitChallengeDelay": 10})
        }
        ("StateNetworkVersion", State::Proves(version)) => {
            json!(version)
        }
        (_, State::Hangs) => std::future::pending().await,
        (method, State::Proves(_)) => match proving(method) {
            Some(result) => result,
            None => return Ok(refusal(&call, "actor code is not known to this node")),
        },
        (_, State::Fails) => {
            return Ok(refusal(&call, "stateful call: cannot load the state"));
        }
        (_, State::Denies) => {
            let text = "missing permission to invoke 'StateNetworkVersion' (need 'read')";
            return Ok(refusal(&call, text));
        }
    };
    Ok(reply(
        &json!({"jsonrpc": "2.0", "id": call["id"], "result": result}),
    ))
}

/// What a node says of a miner with one partition, in deadline 0.
fn proving(method: &str) -> Option<Value> {
    let claim = json!({"RawBytePower": "0", "QualityAdjPower": "0"});
    let partition = json!({
        "AllSectors": [0, 1], "FaultySectors": [0], "RecoveringSectors": [0], "LiveSectors": [0, 1],
        "ActiveSectors": [0, 1],
    });
    Some(match method {
        "StateMinerInfo" => json!({
            "Owner": "t0100", "Worker": "t0101", "NewWorker": "<empty>", "ControlAddresses": null,
            "WindowPoStProofType": 10, "SectorSize": 2048, "WindowPoStPartitionSectors": 2,
        }),
        "EthBaseFee" => json!("0x64"),
        "StateMinerPower" => {
            json!({"MinerPower": claim, "TotalPower": claim, "HasMinPower": false})
        }
        "StateMinerAvailableBalance" => json!("0"),
        "StateMinerProvingDeadline" => json!({
            "CurrentEpoch": 50, "PeriodStart": 45, "Index": 0, "Open": 45, "Close": 60, "Challenge": 40,
            "FaultCutoff": 35, "WPoStPeriodDeadlines": 1, "WPoStProvingPeriod": 15, "WPoStChallengeWindow": 15,
            "WPoStChallengeLookback": 5, "FaultDeclarationCutoff": 10,
        }),
        "StateMinerDeadlines" => json!([{"PostSubmissions": [0], "DisputableProofCount": 0}]),
        "StateMinerFaults" | "StateMinerAllocated" => json!([0]),
        "StateMinerPartitions" => json!([partition]),
        _ => return None,
    })
}

fn refusal(call: &Value, text: &str) -> Response<Full<Bytes>> {
    let error = json!({"code": 1, "message": text});
    reply(&json!({"jsonrpc": "2.0", "id": call["id"], "error": error}))
}

fn reply(body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    let json = "application/json".parse().unwrap();
    response.headers_mut().insert("content-type", json);
    response
}

fn tipset() -> Value {
    let link = json!({"/": CID});
    json!({"Cids": [link], "Height": 50, "Blocks": [{
        "Miner": "t01000", "Height": 50, "Parents": [link], "ParentStateRoot": link,
        "Timestamp": Timestamp::now().as_second(), "ParentBaseFee": "100",
    }]})
}

async fn poll(states: &[State]) -> Poll {
    let mut endpoints = Vec::new();
    for (index, state) in states.iter().enumerate() {
        endpoints.push(json!({"name": format!("node-{index}"), "url": node(*state).await}));
    }
    let spec: MinerSpec = serde_json::from_value(json!({
        "actorId": "t01000", "network": "devnet", "chain": {"endpoints": endpoints},
        "senders": {"preCommit": "t1a", "commit": "t1b", "post": "t1b"},
        "signer": {"type": "Node"}, "sealProof": "StackedDrg2KiBV1P1",
    }))
    .unwrap();
    drop(rustls::crypto::ring::default_provider().install_default());
    let nowhere = kube::Config::new("http://127.0.0.1:9".parse().unwrap());
    let secrets = Secrets::new(kube::Client::try_from(nowhere).unwrap());
    let metrics = Arc::new(Metrics::new().unwrap());
    let connections = Connections::default();
    Poll::new(Id::new("ns", "m"), spec, connections, secrets, metrics)
}

/// The problem that a poll tells.
async fn problem_of(poll: &mut Poll) -> ChainProblem {
    let spec = poll.spec.clone();
    let (change, _) = poll.poll(&spec, &Questions::default()).await;
    let mut world = World::default();
    change.unwrap()(&mut world);
    world.chains[&poll.id].problem.clone().unwrap()
}

#[tokio::test]
async fn the_next_endpoint_is_asked_when_calls_of_the_first_fail_though_its_head_is_fine() {
    for state in [State::Fails, State::Denies] {
        let mut poll = poll(&[state, State::Proves(99)]).await;
        let problem = problem_of(&mut poll).await;
        assert_eq!(problem.reason(), "UnknownNetworkVersion", "{problem:?}");
    }
}

#[tokio::test]
async fn the_next_endpoint_is_asked_when_calls_of_the_first_hang_though_its_head_is_fine() {
    let mut poll = poll(&[State::Hangs, State::Proves(99)]).await;
    poll.allowed = Duration::from_secs(2);
    let problem = problem_of(&mut poll).await;
    assert_eq!(problem.reason(), "UnknownNetworkVersion", "{problem:?}");
}

#[tokio::test]
async fn under_an_unknown_version_proofs_go_on_and_nothing_else_does() {
    let mut poll = poll(&[State::Proves(99)]).await;
    let spec = poll.spec.clone();
    let (change, _) = poll.poll(&spec, &Questions::default()).await;
    let mut world = World::default();
    change.unwrap()(&mut world);
    assert!(world.chain(&poll.id).is_none(), "nothing is sealed or paid");
    let view = &world.chains[&poll.id];
    assert_eq!(
        view.problem.as_ref().unwrap().reason(),
        "UnknownNetworkVersion"
    );
    let facts = world.chain_for_proofs(&poll.id).unwrap();
    assert_eq!(facts.unproven(0).len(), 1);
    assert!(
        poll.connections.get(&poll.id).is_some(),
        "messages have a node to go to"
    );
    let (change, _) = poll.poll(&spec, &Questions::default()).await;
    assert!(change.is_none(), "the same again is not told");
}

#[tokio::test]
async fn each_endpoint_is_asked_once_in_a_poll_and_all_are_named_when_none_answers() {
    let mut poll = poll(&[State::Fails, State::Fails]).await;
    let problem = problem_of(&mut poll).await;
    assert_eq!(problem.reason(), "ChainUnreachable");
    let said = problem.message();
    assert!(said.contains("node-0") && said.contains("node-1"), "{said}");
    let spec = poll.spec.clone();
    let (change, _) = poll.poll(&spec, &Questions::default()).await;
    assert!(change.is_none(), "the same again is not told");
}
