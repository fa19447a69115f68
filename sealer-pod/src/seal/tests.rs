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
    let all = flags.into_iter().map(str::to_owned).chain(folders);
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
