//! The way to a node and back: tokens, deadlines, limits, and what each failure says.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use filstar_chain::node::{ChainReader as _, Error, Pusher as _, Retry};
use filstar_chain::transport::Error as Transport;
use filstar_chain::{Class, Endpoint, Network, Node, Token};
use serde_json::json;

use crate::answers::example;
use crate::server::{Answer, Server};

fn named(name: &'static str) -> impl Fn(&str, &serde_json::Value) -> Answer {
    move |_method, _params| Answer::Result(json!(name))
}

fn transport(error: Error) -> Transport {
    let Error::Transport(error) = error else {
        panic!("not a transport error: {error}")
    };
    error
}

#[tokio::test]
async fn calls_carry_the_bearer_token_and_the_full_method_name() {
    let server = Server::start(named("devnet-1")).await;
    assert_eq!(server.node("a").network_name().await.unwrap(), "devnet-1");
    let seen = server.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].method, "Filecoin.StateNetworkName");
    assert_eq!(seen[0].params, json!([]));
    assert_eq!(seen[0].authorization.as_deref(), Some("Bearer s3cret"));
}

#[tokio::test]
async fn calls_without_a_token_have_no_authorization() {
    let server = Server::start(named("devnet-1")).await;
    let endpoint = Endpoint::new("a", server.url(), None);
    Node::new(endpoint, Network::Devnet)
        .unwrap()
        .network_name()
        .await
        .unwrap();
    assert_eq!(server.seen()[0].authorization, None);
}

#[test]
fn tokens_are_never_shown() {
    let endpoint = Endpoint::new("a", "http://localhost/rpc/v1", Some(Token::new("s3cret")));
    let shown = format!("{endpoint:?}");
    assert!(
        shown.contains("Token(***)") && !shown.contains("s3cret"),
        "{shown}"
    );
    let node = Node::new(endpoint, Network::Devnet).unwrap();
    assert!(!format!("{node:?}").contains("s3cret"));
}

#[tokio::test]
async fn a_refused_token_is_fatal_and_says_where_to_put_a_good_one() {
    for status in [401, 403] {
        let server = Server::start(move |_, _| Answer::Http(status, "no".to_owned())).await;
        let error = server.node("main").chain_head().await.unwrap_err();
        assert_eq!(error.class(), Class::Fatal);
        let text = error.to_string();
        assert!(text.contains("main") && text.contains("Secret"), "{text}");
        assert!(matches!(transport(error), Transport::BadToken { .. }));
    }
}

#[tokio::test]
async fn a_wrong_path_is_fatal_and_names_the_right_one() {
    let server = Server::start(|_, _| Answer::Http(404, "404 page not found".to_owned())).await;
    let error = server.node("main").chain_head().await.unwrap_err();
    assert_eq!(error.class(), Class::Fatal);
    assert!(error.to_string().contains("/rpc/v1"), "{error}");
}

#[tokio::test]
async fn a_failing_proxy_is_temporary() {
    let page = "<html>Bad Gateway</html>".to_owned();
    let server = Server::start(move |_, _| Answer::Http(502, page.clone())).await;
    let error = server.node("main").chain_head().await.unwrap_err();
    assert_eq!(error.class(), Class::Temporary);
    assert!(error.to_string().contains("502"), "{error}");
}

#[tokio::test]
async fn a_refusal_with_an_error_status_is_read_from_its_body() {
    let body = r#"{"jsonrpc":"2.0","id":1,"error":{"code":11,"message":"actor not found"}}"#;
    let server = Server::start(move |_, _| Answer::Http(500, body.to_owned())).await;
    let error = server.node("main").chain_head().await.unwrap_err();
    assert!(matches!(error, Error::ActorNotFound { .. }), "{error}");
}

#[tokio::test]
async fn a_page_instead_of_json_is_temporary_and_quoted_in_short() {
    let page = format!("<html>{}</html>", "x".repeat(5000));
    let server = Server::start(move |_, _| Answer::Http(200, page.clone())).await;
    let error = server.node("main").chain_head().await.unwrap_err();
    assert_eq!(error.class(), Class::Temporary);
    assert!(error.to_string().len() < 500, "{error}");
}

#[tokio::test]
async fn a_closed_port_is_temporary_and_named() {
    let endpoint = Endpoint::new("main", "http://user:pw@127.0.0.1:1/rpc/v1", None);
    let error = Node::new(endpoint, Network::Devnet)
        .unwrap()
        .chain_head()
        .await
        .unwrap_err();
    assert_eq!(error.class(), Class::Temporary);
    let text = error.to_string();
    assert!(text.contains("endpoint main cannot be reached"), "{text}");
    assert!(!text.contains("pw"), "{text}");
}

#[tokio::test]
async fn a_silent_node_is_given_up_after_the_deadline() {
    let server = Server::start(|_, _| Answer::Silence).await;
    let endpoint = Endpoint {
        timeout: Duration::from_millis(50),
        ..server.endpoint("main")
    };
    let error = Node::new(endpoint, Network::Devnet)
        .unwrap()
        .chain_head()
        .await
        .unwrap_err();
    assert_eq!(error.class(), Class::Temporary);
    assert!(matches!(transport(error), Transport::Timeout { .. }));
}

#[tokio::test]
async fn an_answer_above_the_limit_is_refused() {
    let long = "x".repeat(100_000);
    let server = Server::start(move |_, _| Answer::Result(json!(long))).await;
    let endpoint = Endpoint {
        max_response_bytes: 1000,
        ..server.endpoint("main")
    };
    let error = Node::new(endpoint, Network::Devnet)
        .unwrap()
        .network_name()
        .await
        .unwrap_err();
    assert!(matches!(
        transport(error),
        Transport::TooLarge {
            limit_bytes: 1000,
            ..
        }
    ));
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let other = Server::start(named("elsewhere")).await;
    let to = other.url().to_owned();
    let server = Server::start(move |_, _| Answer::Redirect(to.clone())).await;
    assert!(server.node("main").network_name().await.is_err());
    assert!(other.seen().is_empty(), "the token went elsewhere");
}

#[test]
fn settings_that_cannot_work_are_fatal_at_once() {
    for url in ["", "localhost:1234", "ws://host/rpc/v1", "http://", "host"] {
        let error = Node::new(Endpoint::new("main", url, None), Network::Devnet).unwrap_err();
        assert_eq!(error.class(), Class::Fatal, "{url}");
        assert!(
            error.to_string().contains("http://host:1234/rpc/v1"),
            "{error}"
        );
    }
    let endpoint = Endpoint::new("main", "http://host/rpc/v1", Some(Token::new("a\nb")));
    let error = Node::new(endpoint, Network::Devnet).unwrap_err();
    assert!(matches!(transport(error), Transport::TokenForm { .. }));
}

/// Fails twice, then answers.
fn flaky() -> impl Fn(&str, &serde_json::Value) -> Answer {
    let calls = AtomicU32::new(0);
    move |_method, _params| match calls.fetch_add(1, Ordering::Relaxed) {
        0 | 1 => Answer::Http(502, "busy".to_owned()),
        _ => Answer::Result(json!("devnet-1")),
    }
}

#[tokio::test]
async fn retry_reads_again_while_the_error_is_temporary() {
    let server = Server::start(flaky()).await;
    let reader = Retry::new(server.node("main"), 3, Duration::ZERO);
    assert_eq!(reader.network_name().await.unwrap(), "devnet-1");
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn retry_gives_up_after_its_attempts() {
    let server = Server::start(flaky()).await;
    let reader = Retry::new(server.node("main"), 2, Duration::ZERO);
    assert!(reader.network_name().await.is_err());
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn retry_does_not_repeat_what_cannot_succeed() {
    let server = Server::start(|_, _| Answer::Http(401, String::new())).await;
    let reader = Retry::new(server.node("main"), 5, Duration::ZERO);
    assert!(reader.network_name().await.is_err());
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn push_is_sent_once_even_when_it_fails_for_a_while() {
    let server = Server::start(flaky()).await;
    let signed = crate::answers::signed_example();
    assert!(server.node("main").push(&signed).await.is_err());
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn push_of_a_message_that_is_already_there_is_success() {
    let text = "message from t01 with nonce 4 already in mpool: message with nonce already exists";
    let server = Server::start(move |_, _| Answer::Refusal(1, text.to_owned())).await;
    let signed = crate::answers::signed_example();
    assert_eq!(
        server.node("main").push(&signed).await.unwrap(),
        signed.cid()
    );
    let mut sent = server.seen()[0].params[0].clone();
    let mut expected = example("MpoolPush")["params"][0].clone();
    for json in [&mut sent, &mut expected] {
        json.as_object_mut().unwrap().remove("CID");
        json["Message"].as_object_mut().unwrap().remove("CID");
    }
    expected["Message"]["From"] = json!("t01234");
    expected["Message"]["To"] = json!("t01234");
    assert_eq!(sent, expected);
}
