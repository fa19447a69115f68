use filstar_chain::node::Error as NodeError;
use filstar_chain::types::{Epoch, Network};
use serde_json::json;

use super::*;

fn spec(signer: &str) -> MinerSpec {
    serde_json::from_value(json!({
        "actorId": "t01000", "network": "devnet",
        "chain": {"endpoints": [
            {"name": "a", "url": "http://lotus-a:1234/rpc/v1"},
            {"name": "b", "url": "http://user:pw@lotus-b:1234/rpc/v1"},
        ]},
        "senders": {"preCommit": "t1a", "commit": "t1a", "post": "t1a"},
        "signer": {"type": signer}, "sealProof": "StackedDrg2KiBV1P1",
    }))
    .unwrap()
}

fn unreachable(endpoint: &str) -> Unwell {
    let reason = "connection refused".to_owned();
    Unwell::Node(NodeError::Transport(TransportError::Unreachable {
        endpoint: endpoint.into(),
        reason,
    }))
}

#[test]
fn an_endpoint_that_does_not_answer_is_named_with_its_url_and_the_error() {
    let none = NoneHealthy {
        reasons: vec![unreachable("a")],
    };
    let problem = of_endpoints(&none, &spec("Node"));
    assert_eq!(problem.reason(), "ChainUnreachable");
    assert!(
        problem.message().contains("http://lotus-a:1234/rpc/v1"),
        "{}",
        problem.message()
    );
    assert!(
        problem.message().contains("connection refused"),
        "{}",
        problem.message()
    );
}

#[test]
fn credentials_in_a_url_are_not_shown() {
    let none = NoneHealthy {
        reasons: vec![unreachable("b")],
    };
    let problem = of_endpoints(&none, &spec("Node"));
    assert!(!problem.message().contains("pw"), "{}", problem.message());
    assert!(
        problem.message().contains("…@lotus-b:1234"),
        "{}",
        problem.message()
    );
}

#[test]
fn what_a_person_must_solve_decides_over_what_may_pass_and_all_is_told() {
    let found = Network::Mainnet.check_name("calibrationnet").unwrap_err();
    let wrong = Unwell::Network {
        endpoint: "b".into(),
        source: found,
    };
    let none = NoneHealthy {
        reasons: vec![unreachable("a"), wrong],
    };
    let problem = of_endpoints(&none, &spec("Node"));
    assert_eq!(problem.reason(), "WrongNetwork");
    assert!(
        problem.message().contains("connection refused"),
        "{}",
        problem.message()
    );
}

#[test]
fn a_head_that_is_too_old_is_out_of_sync_with_its_numbers() {
    let behind = Unwell::Behind {
        endpoint: "a".into(),
        head: Epoch(90),
        lag_epochs: 12,
        max_lag_epochs: 5,
    };
    let problem = of_endpoints(
        &NoneHealthy {
            reasons: vec![behind],
        },
        &spec("Node"),
    );
    assert_eq!(problem.reason(), "OutOfSync");
    assert!(
        problem
            .message()
            .contains("12 epochs behind (head 90, at most 5"),
        "{}",
        problem.message()
    );
}

#[test]
fn a_token_needs_sign_only_when_the_node_signs() {
    let has = ["read".to_owned(), "write".to_owned()];
    assert_eq!(permissions("a", &has, &spec("Secret")), None);
    let problem = permissions("a", &has, &spec("Node")).unwrap();
    assert_eq!(problem.reason(), "MissingPermission");
    assert!(
        problem.message().contains("--perm sign"),
        "{}",
        problem.message()
    );
    let problem = permissions("a", &["read".to_owned()], &spec("Secret")).unwrap();
    assert!(
        problem.message().contains("--perm write"),
        "{}",
        problem.message()
    );
}

#[test]
fn an_unknown_network_version_stops_decisions() {
    assert_eq!(version(28), None);
    assert_eq!(version(29).unwrap().reason(), "UnknownNetworkVersion");
}

#[test]
fn a_sector_size_that_is_not_the_actors_is_named_with_both_sizes() {
    assert_eq!(sector_size(2048, &spec("Node")), None);
    let problem = sector_size(34_359_738_368, &spec("Node")).unwrap();
    assert_eq!(problem.reason(), "SealProofMismatch");
    assert!(problem.message().contains("2048") && problem.message().contains("34359738368"));
}

#[test]
fn an_actor_that_does_not_exist_is_named_with_the_network() {
    let error = NodeError::ActorNotFound {
        method: "StateMinerInfo",
        message: "actor not found".into(),
    };
    let problem = of_node(&error, &spec("Node"));
    assert_eq!(problem.reason(), "ActorNotFound");
    assert!(
        problem
            .message()
            .contains("devnet has no miner actor t01000"),
        "{}",
        problem.message()
    );
}
