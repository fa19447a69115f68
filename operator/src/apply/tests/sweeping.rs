//! Files are removed of sectors that the chain has just said to have ended for good, and of no others.

use filstar_chain::types::ActorId;
use filstar_core::action::EndedCheck;
use filstar_crds::{SectorStore, SectorStoreStatus};

use super::*;

fn store() -> Value {
    json!({
        "apiVersion": "filstar.io/v1alpha1", "kind": "SectorStore",
        "metadata": {"name": "cold", "namespace": "ns", "uid": "c", "resourceVersion": "10"},
        "spec": {"volume": {"hostPath": "/cold"}},
    })
}

/// A chain at epoch 50 that has used the numbers 0 to 9; of these, one after another, some live.
fn chain(server: &Server, lives: &[Value]) {
    server.answers("StateMinerAllocated", [json!([0, 10])]);
    let deadline = json!({
        "Challenge": 1, "Close": 1, "CurrentEpoch": 50, "FaultCutoff": 1, "FaultDeclarationCutoff": 1,
        "Index": 0, "Open": 1, "PeriodStart": 1, "WPoStChallengeLookback": 1,
        "WPoStChallengeWindow": 1, "WPoStPeriodDeadlines": 1, "WPoStProvingPeriod": 1,
    });
    server.answers("StateMinerProvingDeadline", [deadline]);
    let partitions = lives.iter().map(|live| {
        json!([{"AllSectors": [0, 10], "FaultySectors": [0], "RecoveringSectors": [0],
                "LiveSectors": live, "ActiveSectors": live}])
    });
    server.answers("StateMinerPartitions", partitions);
    server.answers("StateSectorPreCommitInfo", [Value::Null]);
}

async fn remove(bench: &mut Bench, numbers: &str, checked: bool) -> Result<String, Error> {
    let status: SectorStoreStatus = serde_json::from_value(json!({
        "sweeps": 2,
        "sweep": {"id": "remove-2", "kind": "Remove", "podName": "p", "podUid": "u",
                  "sectors": [{"actor": "t01000", "numbers": numbers}]},
    }))
    .unwrap();
    let check = EndedCheck {
        miner: Id::new("ns", "m"),
        actor: ActorId(if checked { 1000 } else { 1001 }),
        confidence: 5,
    };
    let action = Action::RemoveGarbage {
        id: Id::new("ns", "cold"),
        status: Box::new(status),
        checks: vec![check],
        resource_version: "10".into(),
    };
    bench.apply(action).await.result?;
    let live: SectorStore = serde_json::from_value(bench.server.get("cold")).unwrap();
    let sweep = live.status.unwrap().sweep.unwrap();
    Ok(sweep.sectors[0].numbers.clone())
}

async fn bench(lives: &[Value]) -> Bench {
    let bench = Bench::new().await;
    bench.server.put(store());
    chain(&bench.server, lives);
    bench
}

#[tokio::test]
async fn sectors_that_ended_are_removed_after_the_chain_was_asked_twice() {
    let mut bench = bench(&[json!([0, 3])]).await;
    assert_eq!(remove(&mut bench, "3-5,9", true).await.unwrap(), "3-5,9");
    let past = bench.server.calls("ChainGetTipSetByHeight");
    assert_eq!(past[0][0], 45, "confidence epochs before the head");
    assert_eq!(bench.server.calls("StateMinerPartitions").len(), 2);
}

#[tokio::test]
async fn sectors_that_live_or_were_never_used_or_wait_for_a_proof_are_left_out() {
    let mut living = bench(&[json!([4, 1])]).await;
    assert_eq!(
        remove(&mut living, "3-5,9-12", true).await.unwrap(),
        "3,5,9"
    );
    let mut open = bench(&[json!([0])]).await;
    let cid = json!({"/": "bafy2bzacecnamqgqmifpluoeldx7zzglxcljo6oja4vrmtj7432rphldpdmm2"});
    let pre_commit = json!({
        "Info": {"DealIDs": null, "Expiration": 1, "SealProof": 5, "SealRandEpoch": 1, "SealedCID": cid,
                 "SectorNumber": 3, "UnsealedCid": null},
        "PreCommitDeposit": "0", "PreCommitEpoch": 40,
    });
    open.server
        .answers("StateSectorPreCommitInfo", [pre_commit]);
    let error = remove(&mut open, "3", true).await.unwrap_err();
    assert!(matches!(error, Error::NoLongerDue(_)), "{error}");
    assert!(open.server.patches().is_empty());
}

#[tokio::test]
async fn end_that_may_be_undone_is_waited_for() {
    // Now 4 does not live, five epochs ago it did.
    let mut bench = bench(&[json!([0]), json!([4, 1])]).await;
    let error = remove(&mut bench, "3-5", true).await.unwrap_err();
    assert!(error.to_string().contains("not final yet"), "{error}");
    assert!(bench.server.patches().is_empty());
}

#[tokio::test]
async fn nothing_is_removed_without_an_answer_or_on_an_old_view() {
    let mut bench = bench(&[json!([0])]).await;
    let error = remove(&mut bench, "3", false).await.unwrap_err();
    assert!(matches!(error, Error::Invalid(_)), "{error}");
    bench.server.refuse("StateMinerPartitions", 1, "no state");
    let error = remove(&mut bench, "3", true).await.unwrap_err();
    assert!(matches!(error, Error::Chain(_)), "{error}");
    bench.server.allow("StateMinerPartitions");
    bench.server.touch("cold");
    let error = remove(&mut bench, "3", true).await.unwrap_err();
    assert!(matches!(error, Error::Conflict), "{error}");
    assert!(bench.server.patches().is_empty());
}
