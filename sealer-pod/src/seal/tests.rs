//! The loop's turns, against an API server that never answers.

use std::{net::TcpListener, path::Path};

use clap::Parser;
use filstar_crds::SectorPhase;
use serde_json::json;

use super::*;

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    seal: settings::Seal,
}

/// A sealer whose packets are all dropped.
fn sealer(server: &TcpListener, dir: &Path) -> Sealer {
    sealer_with(server, dir, &[])
}

fn sealer_with(server: &TcpListener, dir: &Path, more: &[&str]) -> Sealer {
    // Another test may have chosen already.
    drop(rustls::crypto::ring::default_provider().install_default());
    let url = format!("http://{}", server.local_addr().unwrap());
    let config = kube::Config::new(url.parse().unwrap());
    let client = Client::try_from(config).unwrap();
    let path = |name: &str| format!("--{name}={}", dir.join(name).display());
    let flags = [
        "sealer",
        "--pod-name=p",
        "--pod-namespace=n",
        "--pod-uid=u",
        "--group=g",
    ];
    let folders = ["scratch", "stores", "tmp", "params"].map(path);
    let all = flags.iter().chain(more).map(|f| (*f).to_owned());
    let all = all.chain(folders);
    let settings = Flags::parse_from(all).seal;
    Sealer::new(settings, client, Health::new(), Metrics::new().unwrap()).unwrap()
}

fn landing(store: &str) -> Sector {
    let sector = json!({
        "apiVersion": "filstar.io/v1alpha1", "kind": "Sector",
        "metadata": {"name": "t01000-7"},
        "spec": {"minerRef": {"name": "m"}, "groupRef": {"name": "g"}, "number": 7,
                 "sealProof": "StackedDrg2KiBV1P1"},
        "status": {"phase": SectorPhase::Landing, "store": {"name": store}},
    });
    serde_json::from_value(sector).unwrap()
}

#[tokio::test]
async fn server_that_drops_packets_holds_up_neither_cancels_nor_the_loop() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut sealer = sealer(&server, dir.path());
    for number in 0..17 {
        let begun = report("PC1-1", TaskState::Running, Timestamp::now());
        sealer.reports.set(&format!("t01000-{number}"), begun);
    }
    // A task that nobody wants any more.
    let process = tokio::spawn(std::future::pending::<()>());
    let running = Running {
        task_id: "PC2-1".to_owned(),
        kind: "PC2",
        started: Timestamp::now(),
        process: process.abort_handle(),
    };
    sealer.running.insert("t01000-99".to_owned(), running);
    sealer.synced = true;
    let turns = async {
        for _ in 0..3 {
            sealer.look_around();
            sealer.tell();
            sealer.act().await;
        }
    };
    // One call alone takes 15 s to fail.
    tokio::time::timeout(Duration::from_secs(10), turns)
        .await
        .unwrap();
    assert!(sealer.running.is_empty());
    assert!(process.await.unwrap_err().is_cancelled());
    assert_eq!(
        sealer.reports.due(Instant::now()),
        [],
        "all are on their way"
    );
}

#[tokio::test]
async fn store_is_told_by_what_was_measured_after_the_landing() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("stores/cold")).unwrap();
    let mut sealer = sealer(&server, dir.path());
    sealer
        .sectors
        .insert("t01000-7".to_owned(), landing("cold"));
    sealer.landed_in_its_store("t01000-7");
    sealer.tell_stores();
    assert_eq!(sealer.landed.len(), 1, "nothing was measured since");
    let asked = Instant::now();
    while sealer.disks.since(asked).is_none() {
        drop(sealer.disks.news());
        tokio::task::yield_now().await;
    }
    let calls = sealer.calls.len();
    sealer.tell_stores();
    assert_eq!((sealer.landed.len(), sealer.calls.len()), (0, calls + 1));
}

/// A sector with a task for our pod.
fn bound(kind: &str) -> Sector {
    let mut sector = landing("cold");
    let status = sector.status.as_mut().unwrap();
    status.phase = Some(SectorPhase::Packing);
    status.task = Some(
        serde_json::from_value(
            json!({"id": "task-1", "kind": kind, "podName": "p", "podUid": "u"}),
        )
        .unwrap(),
    );
    sector
}

#[tokio::test]
async fn a_pod_without_the_cpus_it_asked_for_computes_nothing_when_the_policy_is_required() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    // More than any machine has: the verdict is false.
    let asked = "--cpus=99999";
    let run = async |policy: &str| {
        let policy = format!("--placement-policy={policy}");
        let mut sealer = sealer_with(&server, dir.path(), &[asked, &policy]);
        sealer.starter = Starter::of_script(dir.path(), "#!/bin/sh\ncat >/dev/null\n");
        sealer.lane = Some((Instant::now(), Lane::default()));
        sealer.synced = true;
        let sector = bound("AddPiece");
        sealer.sectors.insert("t01000-7".to_owned(), sector);
        assert!(!sealer.verdict.verified);
        sealer.act().await;
        sealer
    };
    let mut required = run("Required").await;
    assert!(required.running.is_empty() && required.reports.known().is_empty());
    let why = required.not_ready().unwrap();
    assert!(why.contains("of 99999 asked"), "{why}");
    let preferred = run("Preferred").await;
    assert!(preferred.running.contains_key("t01000-7"));
    assert_eq!(preferred.not_ready(), None);
    // It begins as soon as the kernel says what was promised.
    required.verdict.verified = true;
    required.lane = Some((Instant::now(), Lane::default()));
    required.act().await;
    assert!(required.running.contains_key("t01000-7"));
    assert_eq!(required.not_ready(), None);
}
