//! A namespace to test with: one sector that is proving, one in PC2.

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::snapshot::Snapshot;

/// A time, by its second.
pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// The namespace, as the API server would give it.
pub(crate) fn demo() -> Snapshot {
    Snapshot {
        namespace: "filstar-demo".into(),
        miners: vec![object("Miner", "demo", miner())],
        groups: vec![object("SealingGroup", "demo", group())],
        stores: vec![object("SectorStore", "demo", store())],
        sectors: vec![
            object("Sector", "t01000-0", proving()),
            object("Sector", "t01000-1", in_pc2()),
        ],
        messages: vec![
            object(
                "ChainMessage",
                "t01000-0-commit-0",
                message("ProveCommit", "Final", 0),
            ),
            object(
                "ChainMessage",
                "t01000-1-precommit-0",
                message("PreCommit", "Failed", 16),
            ),
        ],
        batches: vec![object("PostBatch", "demo", batch())],
    }
    .sorted()
}

fn object<K: DeserializeOwned>(kind: &str, name: &str, mut body: Value) -> K {
    body["apiVersion"] = json!("filstar.io/v1alpha1");
    body["kind"] = json!(kind);
    body["metadata"] = json!({ "name": name, "namespace": "filstar-demo" });
    serde_json::from_value(body).unwrap()
}

fn conditions(ready: bool, reason: &str) -> Value {
    let status = if ready { "True" } else { "False" };
    json!([{ "type": "Ready", "status": status, "reason": reason, "message": "",
             "lastTransitionTime": at(0).to_string() }])
}

/// Well, and with a gate closed.
fn pledge_closed() -> Value {
    let mut all = conditions(true, "Ready");
    let mut pledge = conditions(false, "Balance")[0].take();
    pledge["type"] = json!("PledgeOpen");
    if let Some(list) = all.as_array_mut() {
        list.push(pledge);
    }
    all
}

fn miner() -> Value {
    json!({
        "spec": {
            "actorId": "t01000", "network": "devnet", "sealProof": "StackedDrg2KiBV1P1",
            "chain": { "endpoints": [{ "name": "a", "url": "http://devnet:1234/rpc/v1" }] },
            "senders": { "preCommit": "t1a", "commit": "t1a", "post": "t1a" },
            "signer": { "type": "Node" },
        },
        "status": {
            "conditions": conditions(true, "Ready"), "power": "2KiB",
            "availableBalance": "12.5 FIL", "nextSectorNumber": 2,
        },
    })
}

fn group() -> Value {
    json!({
        "spec": {
            "minerRef": { "name": "demo" },
            "scratch": { "hostPath": "/a", "parametersPath": "/b" },
            "lanes": [{ "name": "seal", "phases": ["PC1"], "cpus": 1, "memory": "4Gi" }],
        },
        "status": {
            "conditions": pledge_closed(), "inFlight": 1, "proving": 1, "podsReady": "1/1",
            "pods": [{ "name": "demo-seal-x", "lane": "seal", "node": "node-a", "phase": "Running",
                       "pinned": true, "placement": "cpus 1 of 1 asked, memory nodes 0" }],
            "gates": [
                { "name": "ChainSync", "open": true, "reason": "the chain node is in sync" },
                { "name": "Balance", "open": false, "reason": "1 FIL available, 5.21 FIL needed" },
            ],
        },
    })
}

fn store() -> Value {
    json!({
        "spec": { "volume": { "hostPath": "/store" } },
        "status": { "conditions": conditions(true, "Ready"), "sectors": 1, "usedPercent": 3 },
    })
}

fn sector(number: i64, status: &Value) -> Value {
    json!({
        "spec": { "minerRef": { "name": "demo" }, "groupRef": { "name": "demo" }, "number": number,
                  "sealProof": "StackedDrg2KiBV1P1" },
        "status": status,
    })
}

fn proving() -> Value {
    sector(
        0,
        &json!({
            "conditions": conditions(true, "Proving"), "phase": "Proving",
            "binding": { "node": "node-a", "scratch": "/a" },
            "store": { "name": "demo", "landed": true },
            "timeline": [
                { "phase": "PC1", "started": at(1000).to_string(), "seconds": 3 },
                { "phase": "C2", "started": at(1003).to_string(), "seconds": 117 },
                { "phase": "Proving", "started": at(1120).to_string() },
            ],
        }),
    )
}

fn in_pc2() -> Value {
    sector(
        1,
        &json!({
            "conditions": conditions(false, "PC2"), "phase": "PC2",
            "binding": { "node": "node-b", "scratch": "/a" },
            "timeline": [{ "phase": "PC2", "started": at(1000).to_string() }],
        }),
    )
}

fn message(kind: &str, state: &str, exit: i64) -> Value {
    json!({
        "spec": { "minerRef": { "name": "demo" }, "kind": kind, "from": "t1a", "to": "t01000",
                  "method": 34, "params": "", "value": "0 attoFIL", "maxFee": "1 FIL" },
        "status": { "conditions": conditions(exit == 0, state), "state": state, "nonce": 4,
                    "landedEpoch": 50, "exitCode": exit, "gasUsed": 77, "fee": "0.0021 FIL",
                    "pushes": 1 },
    })
}

fn batch() -> Value {
    json!({
        "spec": { "minerRef": { "name": "demo" }, "parametersPath": "/b",
                  "lane": { "cpus": 0, "memory": "2Gi" } },
        "status": {
            "conditions": conditions(true, "Ready"), "accepted": 3,
            "deadlines": [{ "index": 3, "open": 60, "state": "Accepted", "sectors": 1,
                            "messages": ["t01000-post-60-3-0"], "landedEpoch": 62 }],
            "prover": [],
        },
    })
}
