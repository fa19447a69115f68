//! A node that answers what a test tells it to, over real HTTP on loopback.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use filstar_chain::{Endpoint, Network, Node, Token};
use serde_json::{Value, json};

/// What the server does with a call.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// A result.
    Result(Value),
    /// A JSON-RPC error.
    Refusal(i64, String),
    /// This HTTP status and body.
    Http(u16, String),
    /// A redirect to this place.
    Redirect(String),
    /// Nothing, ever.
    Silence,
}

/// A call as the server saw it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) params: Value,
    pub(crate) authorization: Option<String>,
}

type Script = dyn Fn(&str, &Value) -> Answer + Send + Sync;

struct Inner {
    script: Box<Script>,
    seen: Mutex<Vec<Seen>>,
}

/// The running server.
pub(crate) struct Server {
    inner: Arc<Inner>,
    url: String,
}

impl Server {
    /// Starts a server with this script.
    pub(crate) async fn start(
        script: impl Fn(&str, &Value) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let inner = Arc::new(Inner {
            script: Box::new(script),
            seen: Mutex::default(),
        });
        let app = Router::new()
            .fallback(handle)
            .with_state(Arc::clone(&inner));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/rpc/v1", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { inner, url }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The calls so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.inner
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// An endpoint named `name` with the token `s3cret`.
    pub(crate) fn endpoint(&self, name: &str) -> Endpoint {
        Endpoint::new(name, self.url(), Some(Token::new(" s3cret\n")))
    }

    /// A node named `name` on a devnet.
    pub(crate) fn node(&self, name: &str) -> Node {
        Node::new(self.endpoint(name), Network::Devnet).unwrap()
    }
}

async fn handle(State(inner): State<Arc<Inner>>, headers: HeaderMap, body: Bytes) -> Response {
    let call: Value = serde_json::from_slice(&body).unwrap_or_default();
    let method = call["method"].as_str().unwrap_or_default().to_owned();
    let params = call["params"].clone();
    let authorization = headers
        .get("authorization")
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let seen = Seen {
        method: method.clone(),
        params: params.clone(),
        authorization,
    };
    inner
        .seen
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(seen);
    let method = method.strip_prefix("Filecoin.").unwrap_or(&method);
    match (inner.script)(method, &params) {
        Answer::Result(result) => {
            axum::Json(json!({ "jsonrpc": "2.0", "id": call["id"], "result": result }))
                .into_response()
        }
        Answer::Refusal(code, message) => {
            let error = json!({ "code": code, "message": message });
            axum::Json(json!({ "jsonrpc": "2.0", "id": call["id"], "error": error }))
                .into_response()
        }
        Answer::Http(status, body) => (StatusCode::from_u16(status).unwrap(), body).into_response(),
        Answer::Redirect(to) => {
            (StatusCode::TEMPORARY_REDIRECT, [("location", to)]).into_response()
        }
        Answer::Silence => std::future::pending().await,
    }
}
