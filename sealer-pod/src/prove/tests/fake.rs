//! A chain node and an API server in one, and a script that plays task processes.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fs,
    sync::{Arc, Mutex},
};

use clap::Parser as _;
use filstar_sealing::Hash32;
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, Response,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::*;
use crate::commitment::{self, Kind};

/// The deadlines of a test open here, all at once; the head is ten epochs later.
pub(super) const OPEN: i64 = 1000;
const CID: &str = "bafy2bzacea3wsdh6y3a36tb3skempjoxqpuyompjbmfeyf34fi3uy6uue42v4";
const DEADLINES: u64 = 8;

/// What the task processes do: see `hold`, `kill` and `lose` below.
const SCRIPT: &str = r#"#!/bin/sh
cd "$(dirname "$0")"
read -r request
numbers=$(echo "$request" | grep -o '"number":[0-9]*' | cut -d: -f2)
task=$(echo "$request" | grep -o '"task":"[a-zA-Z]*"' | cut -d'"' -f4)
echo "$task" >> asked
good=; skipped=
for n in $numbers; do
  [ -e kill-$n ] && kill -9 $$
  while [ -e hold-$n ]; do sleep 0.02; done
  if [ -e lose-$n ]; then
    skipped="$skipped${skipped:+,}{\"number\":$n,\"class\":\"Temporary\",\"reason\":\"no answer\"}"
  else
    good="$good${good:+,}$n"
  fi
done
case $task in
  readPartition) output="{\"good\":[$good],\"skipped\":[$skipped]}"; name=readPartition ;;
  windowPartition) output='{"proof":"010203"}'; name=proof ;;
  *) output='{"valid":true}'; name=verified ;;
esac
echo "{\"result\":{\"task\":\"$name\",\"output\":$output}}"
"#;

/// What the chain node and the API server show and saw.
pub(super) struct Shows {
    pub(super) head: i64,
    pub(super) tickets: [u8; 32],
    /// The deadline whose partitions it does not tell.
    pub(super) mute_deadline: Option<u64>,
    /// Registered numbers of sectors that are sealed in another way than interactively.
    pub(super) seal_proofs: BTreeMap<u64, i64>,
    deadlines: BTreeMap<u64, Vec<Vec<u64>>>,
    /// Seconds by which the chain's clock is ahead of this machine's.
    pub(super) ahead: i64,
    /// The API server does not answer.
    pub(super) api_is_down: bool,
    /// What the `PostBatch` says of earlier reports.
    pub(super) before: Vec<ProverReport>,
    calls: BTreeMap<String, usize>,
    told: Vec<Value>,
    tells: usize,
}

pub(super) struct Fake {
    shows: Arc<Mutex<Shows>>,
    url: String,
    dir: TempDir,
}

impl Fake {
    /// Deadlines with the sectors of their partitions.
    pub(super) async fn start(deadlines: &[(u64, &[&[u64]])]) -> Self {
        let partitions = |p: &[&[u64]]| p.iter().map(|s| s.to_vec()).collect();
        let shows = Arc::new(Mutex::new(Shows {
            head: OPEN + 10,
            tickets: [7; 32],
            mute_deadline: None,
            seal_proofs: BTreeMap::new(),
            deadlines: deadlines.iter().map(|(d, p)| (*d, partitions(p))).collect(),
            ahead: 0,
            api_is_down: false,
            before: Vec::new(),
            calls: BTreeMap::new(),
            told: Vec::new(),
            tells: 0,
        }));
        let dir = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(serve(listener, shows.clone()));
        Self { shows, url, dir }
    }

    /// A prover that asks this node and tells this server.
    pub(super) fn role(&self) -> Role {
        let path = self.dir.path().display().to_string();
        let rpc = format!("{}/rpc/v1", self.url);
        let arguments = [
            ("--pod-name", "prover-b"),
            ("--pod-namespace", "ns"),
            ("--pod-uid", "u"),
            ("--params", &path),
            ("--stores", &path),
            ("--tmp", &path),
            ("--post-batch", "b"),
            ("--actor", "t01000"),
            ("--network", "devnet"),
            ("--chain", &rpc),
        ];
        let arguments = arguments.iter().flat_map(|(name, value)| [*name, *value]);
        let arguments = ["prove"].into_iter().chain(arguments);
        let settings = Arguments::parse_from(arguments).settings;
        let client = Client::try_from(kube::Config::new(self.url.parse().unwrap())).unwrap();
        let metrics = Metrics::new().unwrap();
        let mut role = Role::new(settings, client, Health::new(), metrics).unwrap();
        role.prover.starter = Starter::of_script(self.dir.path(), SCRIPT);
        role
    }

    pub(super) fn set(&self, change: impl FnOnce(&mut Shows)) {
        change(&mut self.shows.lock().unwrap());
    }

    /// How often a method was called.
    pub(super) fn calls(&self, method: &str) -> usize {
        let shows = self.shows.lock().unwrap();
        shows.calls.get(method).copied().unwrap_or_default()
    }

    /// The reports that were told last.
    pub(super) fn told(&self) -> Vec<Value> {
        self.shows.lock().unwrap().told.clone()
    }

    /// How often reports were told.
    pub(super) fn tells(&self) -> usize {
        self.shows.lock().unwrap().tells
    }

    /// How many task processes of a kind were started.
    pub(super) fn asked(&self, task: &str) -> usize {
        let text = fs::read_to_string(self.dir.path().join("asked")).unwrap_or_default();
        text.lines().filter(|l| *l == task).count()
    }

    /// Waits for something that the role does.
    pub(super) async fn until(&self, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Processes that have to do with this sector wait.
    pub(super) fn hold(&self, sector: u64) {
        self.mark("hold", sector);
    }

    pub(super) fn release(&self, sector: u64) {
        self.unmark("hold", sector);
    }

    /// Processes that have to do with this sector are killed.
    pub(super) fn kill(&self, sector: u64) {
        self.mark("kill", sector);
    }

    pub(super) fn spare(&self, sector: u64) {
        self.unmark("kill", sector);
    }

    /// The sector cannot be read.
    pub(super) fn lose(&self, sector: u64) {
        self.mark("lose", sector);
    }

    pub(super) fn find(&self, sector: u64) {
        self.unmark("lose", sector);
    }

    fn mark(&self, what: &str, sector: u64) {
        fs::write(self.dir.path().join(format!("{what}-{sector}")), b"").unwrap();
    }

    fn unmark(&self, what: &str, sector: u64) {
        fs::remove_file(self.dir.path().join(format!("{what}-{sector}"))).unwrap();
    }
}

#[derive(clap::Parser)]
struct Arguments {
    #[command(flatten)]
    settings: settings::Prove,
}

async fn serve(listener: TcpListener, shows: Arc<Mutex<Shows>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let shows = shows.clone();
        let answer = service_fn(move |request: Request<Incoming>| {
            let shows = shows.clone();
            async move { Ok::<_, Infallible>(answer(request, &shows).await) }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
    }
}

async fn answer(request: Request<Incoming>, shows: &Mutex<Shows>) -> Response<Full<Bytes>> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut shows = shows.lock().unwrap();
    let answer = if path == "/rpc/v1" {
        let name = body["method"]
            .as_str()
            .unwrap()
            .trim_start_matches("Filecoin.");
        *shows.calls.entry(name.to_owned()).or_default() += 1;
        match shows.call(name, &body["params"]) {
            Some(result) => json!({"jsonrpc": "2.0", "id": body["id"], "result": result}),
            None => json!({"jsonrpc": "2.0", "id": body["id"],
                           "error": {"code": 1, "message": "not today"}}),
        }
    } else if shows.api_is_down {
        json!("not an object")
    } else if path.contains("/pods/") {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "prover-b"}})
    } else {
        if method == Method::PATCH {
            let reports = body["status"]["prover"].as_array();
            shows.told = reports.cloned().unwrap_or_default();
            shows.tells += 1;
        }
        json!({"apiVersion": "filstar.io/v1alpha1", "kind": "PostBatch", "metadata": {"name": "b"},
               "spec": {"minerRef": {"name": "m"}, "parametersPath": "/params",
                        "lane": {"memory": "1Gi"}},
               "status": {"prover": shows.before}})
    };
    let mut response = Response::new(Full::new(Bytes::from(answer.to_string())));
    let json = hyper::header::HeaderValue::from_static("application/json");
    response
        .headers_mut()
        .insert(hyper::header::CONTENT_TYPE, json);
    response
}

impl Shows {
    /// None: it refuses.
    fn call(&self, method: &str, params: &Value) -> Option<Value> {
        let base64 = |bytes: [u8; 32]| {
            use base64::Engine as _;
            json!(base64::engine::general_purpose::STANDARD.encode(bytes))
        };
        Some(match method {
            "StateNetworkName" => json!("localnet-1"),
            "ChainGetGenesis" => tipset(0, 1),
            "ChainHead" => tipset(self.head, Timestamp::now().as_second() + self.ahead),
            "StateGetNetworkParams" => {
                json!({"NetworkName": "localnet-1", "BlockDelaySecs": 1, "PreCommitChallengeDelay": 10})
            }
            "StateMinerProvingDeadline" => self.deadline(),
            "StateMinerDeadlines" => {
                let none = json!({"PostSubmissions": [0], "DisputableProofCount": 0});
                json!(vec![none; usize::try_from(DEADLINES).unwrap()])
            }
            "StateMinerPartitions" => {
                let deadline = params[1].as_u64()?;
                if self.mute_deadline == Some(deadline) {
                    return None;
                }
                let partitions = self.deadlines.get(&deadline);
                json!(
                    partitions
                        .into_iter()
                        .flatten()
                        .map(|s| partition(s))
                        .collect::<Vec<_>>()
                )
            }
            "StateMinerSectors" => {
                let runs: Vec<u64> = serde_json::from_value(params[1].clone()).ok()?;
                let bits = filstar_chain::types::bitfield::from_runs(&runs).ok()?;
                json!(bits.iter().map(|n| self.sector(n)).collect::<Vec<_>>())
            }
            "StateMinerFaults" | "StateMinerRecoveries" => json!([0]),
            "StateGetRandomnessFromBeacon" => base64([5; 32]),
            "StateGetRandomnessFromTickets" => base64(self.tickets),
            other => panic!("unexpected call of {other}"),
        })
    }

    /// One deadline after the other; 2 is open just before 3, so that both are challenged for a while.
    fn deadline(&self) -> Value {
        let index = if self.head < OPEN { 2 } else { 3 };
        let open = OPEN - 60 * (3 - index);
        json!({
            "CurrentEpoch": self.head, "PeriodStart": OPEN - 180, "Index": index, "Open": open,
            "Close": open + 60, "Challenge": open - 20, "FaultCutoff": open - 70,
            "WPoStPeriodDeadlines": DEADLINES, "WPoStProvingPeriod": 480, "WPoStChallengeWindow": 60,
            "WPoStChallengeLookback": 20, "FaultDeclarationCutoff": 70,
        })
    }

    fn sector(&self, number: u64) -> Value {
        let comm_r = commitment::to_cid(Kind::Replica, Hash32([3; 32]));
        json!({
            "SectorNumber": number, "SealProof": self.seal_proofs.get(&number).unwrap_or(&5),
            "SealedCID": {"/": comm_r.to_string()}, "Activation": 1, "Expiration": 9999,
            "InitialPledge": "0",
        })
    }
}

fn partition(sectors: &[u64]) -> Value {
    let bits = filstar_chain::types::bitfield::of(sectors.iter().copied()).unwrap();
    let all = json!(filstar_chain::types::bitfield::to_runs(&bits));
    json!({"AllSectors": all, "FaultySectors": [0], "RecoveringSectors": [0],
           "LiveSectors": all, "ActiveSectors": all})
}

fn tipset(height: i64, timestamp: i64) -> Value {
    json!({
        "Cids": [{"/": CID}], "Height": height,
        "Blocks": [{"Miner": "t01000", "Height": height, "Parents": [{"/": CID}],
                    "ParentStateRoot": {"/": CID}, "Timestamp": timestamp, "ParentBaseFee": "100"}],
    })
}
