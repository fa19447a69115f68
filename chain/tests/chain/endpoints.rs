//! Which node is used: the first that is well, and never one with an old head.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use filstar_chain::endpoints::{Policy, Unwell, lag_epochs};
use filstar_chain::{Class, Endpoints, Network};
use serde_json::{Value, json};

use crate::answers::example;
use crate::server::{Answer, Server};

const NOW: u64 = 1_700_000_000;
const GENESIS_A: &str = "bafy2bzacea3wsdh6y3a36tb3skempjoxqpuyompjbmfeyf34fi3uy6uue42v4";
const GENESIS_B: &str = "bafy2bzacebp3shtrn43k7g3unredz7fxn4gj533d3o43tqn2p2ipxxhrvchve";

/// What a node shows of itself.
#[derive(Clone)]
struct Shows {
    name: &'static str,
    genesis: &'static str,
    head_at: u64,
    up: Arc<AtomicBool>,
}

fn well() -> Shows {
    Shows {
        name: "localnet-1",
        genesis: GENESIS_A,
        head_at: NOW - 10,
        up: Arc::new(AtomicBool::new(true)),
    }
}

fn head(timestamp: u64, cid: &str) -> Value {
    let mut head = example("ChainHead")["result"].clone();
    head["Blocks"][0]["Timestamp"] = json!(timestamp);
    head["Cids"] = json!([{ "/": cid }]);
    head["Blocks"].as_array_mut().unwrap().truncate(1);
    head
}

async fn start(shows: Shows) -> Server {
    Server::start(move |method, _params| answer(&shows, method)).await
}

fn answer(shows: &Shows, method: &str) -> Answer {
    if !shows.up.load(Ordering::Relaxed) {
        return Answer::Http(502, "down".to_owned());
    }
    Answer::Result(match method {
        "StateNetworkName" => json!(shows.name),
        "ChainGetGenesis" => head(1, shows.genesis),
        "ChainHead" => head(shows.head_at, GENESIS_B),
        "StateGetNetworkParams" => {
            json!({"NetworkName": shows.name, "BlockDelaySecs": 30, "PreCommitChallengeDelay": 10})
        }
        other => panic!("unexpected call of {other}"),
    })
}

fn endpoints(servers: &[&Server]) -> Endpoints {
    let names = ["first", "second", "third"];
    let nodes = servers
        .iter()
        .zip(names)
        .map(|(server, name)| server.node(name))
        .collect();
    Endpoints::new(
        nodes,
        Policy {
            network: Network::Devnet,
            max_lag_epochs: 3,
            genesis: None,
        },
    )
}

#[tokio::test]
async fn the_first_node_is_used_while_it_is_well() {
    let (first, second) = (start(well()).await, start(well()).await);
    let healthy = endpoints(&[&first, &second]).healthy(NOW).await.unwrap();
    assert_eq!(healthy.node.name(), "first");
    assert_eq!(healthy.lag_epochs, 0);
    assert_eq!(healthy.params.pre_commit_challenge_delay, 10);
    assert!(second.seen().is_empty());
}

#[tokio::test]
async fn the_next_node_is_used_when_the_first_is_down_and_kept_when_it_returns() {
    let shows = well();
    let (first, second) = (start(shows.clone()).await, start(well()).await);
    let mut endpoints = endpoints(&[&first, &second]);
    shows.up.store(false, Ordering::Relaxed);
    assert_eq!(endpoints.healthy(NOW).await.unwrap().node.name(), "second");
    shows.up.store(true, Ordering::Relaxed);
    assert_eq!(endpoints.healthy(NOW).await.unwrap().node.name(), "second");
}

#[tokio::test]
async fn a_demoted_node_is_asked_after_the_others_and_still_used_when_they_are_down() {
    let shows = well();
    let (first, second) = (start(well()).await, start(shows.clone()).await);
    let mut endpoints = endpoints(&[&first, &second]);
    let healthy = endpoints.healthy(NOW).await.unwrap();
    assert_eq!(healthy.node.name(), "first");
    endpoints.demote(&healthy);
    assert_eq!(endpoints.healthy(NOW).await.unwrap().node.name(), "second");
    shows.up.store(false, Ordering::Relaxed);
    assert_eq!(endpoints.healthy(NOW).await.unwrap().node.name(), "first");
}

#[tokio::test]
async fn endpoints_that_are_made_anew_remember_which_were_demoted() {
    let (first, second) = (start(well()).await, start(well()).await);
    let mut before = endpoints(&[&first, &second]);
    let healthy = before.healthy(NOW).await.unwrap();
    before.demote(&healthy);
    let mut anew = endpoints(&[&first, &second]).after(before);
    assert_eq!(anew.healthy(NOW).await.unwrap().node.name(), "second");
}

#[tokio::test]
async fn of_nodes_that_were_all_demoted_the_one_demoted_first_is_asked_first() {
    let (first, second) = (start(well()).await, start(well()).await);
    let mut endpoints = endpoints(&[&first, &second]);
    for expected in ["first", "second", "first", "second"] {
        let healthy = endpoints.healthy(NOW).await.unwrap();
        assert_eq!(healthy.node.name(), expected);
        endpoints.demote(&healthy);
    }
}

#[tokio::test]
async fn nodes_that_hang_leave_time_for_the_next() {
    let hangs = || Server::start(|_, _| Answer::Silence);
    let (first, second, third) = (hangs().await, hangs().await, start(well()).await);
    let within = std::time::Duration::from_millis(200);
    let mut endpoints = endpoints(&[&first, &second, &third]).within(within);
    assert_eq!(endpoints.healthy(NOW).await.unwrap().node.name(), "third");
}

#[tokio::test]
async fn a_node_that_hangs_may_recover() {
    let hangs = Server::start(|_, _| Answer::Silence).await;
    let within = std::time::Duration::from_millis(200);
    let mut endpoints = endpoints(&[&hangs]).within(within);
    let error = endpoints.healthy(NOW).await.unwrap_err();
    assert!(matches!(error.reasons[0], Unwell::Slow { .. }), "{error}");
    assert_eq!(error.class(), Class::Temporary);
}

#[tokio::test]
async fn a_node_with_an_old_head_is_not_used() {
    let old = start(Shows {
        head_at: NOW - 300,
        ..well()
    })
    .await;
    let error = endpoints(&[&old]).healthy(NOW).await.unwrap_err();
    assert!(error.is_behind());
    assert_eq!(error.class(), Class::Temporary);
    assert!(
        error.to_string().contains("first is 9 epochs behind"),
        "{error}"
    );
}

#[tokio::test]
async fn a_head_that_grew_old_while_the_node_was_asked_is_old() {
    let shows = Shows {
        head_at: NOW - 149,
        ..well()
    };
    let quick = start(shows.clone()).await;
    assert_eq!(
        endpoints(&[&quick]).healthy(NOW).await.unwrap().lag_epochs,
        3
    );
    let slow = Server::start(move |method, _params| {
        if method == "StateNetworkName" {
            std::thread::sleep(std::time::Duration::from_millis(1100));
        }
        answer(&shows, method)
    })
    .await;
    assert!(
        endpoints(&[&slow])
            .healthy(NOW)
            .await
            .unwrap_err()
            .is_behind()
    );
}

#[tokio::test]
async fn a_head_from_the_future_points_to_the_clock() {
    let ahead = start(Shows {
        head_at: NOW + 600,
        ..well()
    })
    .await;
    let error = endpoints(&[&ahead]).healthy(NOW).await.unwrap_err();
    assert!(error.to_string().contains("set the clock"), "{error}");
}

#[tokio::test]
async fn a_node_on_another_network_is_fatal_and_named() {
    let other = start(Shows {
        name: "calibrationnet",
        ..well()
    })
    .await;
    let error = endpoints(&[&other]).healthy(NOW).await.unwrap_err();
    assert_eq!(error.class(), Class::Fatal);
    let text = error.to_string();
    assert!(
        text.contains("first") && text.contains("calibrationnet"),
        "{text}"
    );
}

#[tokio::test]
async fn private_networks_are_told_apart_by_their_genesis() {
    let shows = well();
    let first = start(shows.clone()).await;
    let second = start(Shows {
        genesis: GENESIS_B,
        ..well()
    })
    .await;
    let mut endpoints = endpoints(&[&first, &second]);
    endpoints.healthy(NOW).await.unwrap();
    shows.up.store(false, Ordering::Relaxed);
    let error = endpoints.healthy(NOW).await.unwrap_err();
    assert!(
        matches!(error.reasons[1], Unwell::Genesis { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn public_networks_have_a_known_genesis() {
    let fake = start(Shows {
        name: "mainnet",
        ..well()
    })
    .await;
    let policy = Policy {
        network: Network::Mainnet,
        max_lag_epochs: 3,
        genesis: None,
    };
    let error = Endpoints::new(vec![fake.node("fake")], policy)
        .healthy(NOW)
        .await
        .unwrap_err();
    assert!(
        matches!(error.reasons[0], Unwell::Genesis { .. }),
        "{error}"
    );
    assert_eq!(error.class(), Class::Fatal);
}

#[tokio::test]
async fn no_endpoint_at_all_is_said_plainly() {
    let error = endpoints(&[]).healthy(NOW).await.unwrap_err();
    assert_eq!(error.to_string(), "no chain endpoint is set");
    assert_eq!(error.class(), Class::Fatal);
}

#[test]
fn lag_counts_whole_epochs_beyond_the_one_that_is_due() {
    assert_eq!(lag_epochs(NOW, NOW, 30), 0);
    assert_eq!(lag_epochs(NOW - 59, NOW, 30), 0);
    assert_eq!(lag_epochs(NOW - 60, NOW, 30), 1);
    assert_eq!(lag_epochs(NOW + 5, NOW, 30), 0);
    assert_eq!(lag_epochs(0, NOW, 0), NOW - 1);
}

#[tokio::test]
async fn where_all_heads_are_old_the_highest_is_shown_to_who_asks_for_one_and_to_nobody_else() {
    let old = |head_at| Shows { head_at, ..well() };
    let (first, second) = (start(old(NOW - 9000)).await, start(old(NOW + 900)).await);
    let mut endpoints = endpoints(&[&first, &second]);
    assert!(endpoints.healthy(NOW).await.is_err());
    let (shown, old) = endpoints.healthy_or_highest(NOW).await.unwrap();
    assert_eq!(shown.node.name(), "first", "both heads are equally high");
    assert_eq!(old.unwrap().reasons.len(), 2);
    let other = Shows {
        name: "calibrationnet",
        ..well()
    };
    let other = start(other).await;
    let mut endpoints = self::endpoints(&[&other]);
    assert!(endpoints.healthy_or_highest(NOW).await.is_err());
}
