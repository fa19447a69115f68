//! Lotus JSON-RPC v1 over HTTP: who may call what, which function answers.
//!
//! Effects: none of its own; the functions behind it change the chain or the wallet.

mod admin;
mod args;
#[expect(clippy::unnecessary_wraps, reason = "all methods are of one type")]
mod chain;
mod gas;
mod lotus;
mod miner;
#[expect(clippy::unnecessary_wraps, reason = "all methods are of one type")]
mod mpool;
mod sector;
mod state;
mod wallet;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State as Shared;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::chain::{Chain, ChainError};
use crate::jwt::{self, Permission};
use crate::keys::{KeyError, Keystore};
use args::Args;

/// What is behind the RPC.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) chain: Chain,
    pub(crate) keystore: Keystore,
    pub(crate) secret: Vec<u8>,
}

/// A node that several requests share, and a bell that rings at each new head.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    node: Arc<Mutex<Node>>,
    bell: Arc<watch::Sender<i64>>,
}

impl Handle {
    pub(crate) fn new(node: Node) -> Self {
        let (bell, _) = watch::channel(0);
        Self {
            node: Arc::new(Mutex::new(node)),
            bell: Arc::new(bell),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Node> {
        // A panic while the lock was held leaves a node that may be half changed: go on from disk.
        self.node.lock().unwrap_or_else(|_| std::process::abort())
    }

    /// Tells those who wait that something may have changed.
    pub(crate) fn ring(&self) {
        self.bell.send_modify(|count| *count += 1);
    }
}

/// An answer that is an error.
#[derive(Debug)]
pub(crate) struct RpcError {
    pub(crate) code: i64,
    pub(crate) message: String,
}

impl RpcError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            code: 1,
            message: message.into(),
        }
    }

    fn params(message: impl Into<String>) -> Self {
        Self {
            code: -32602,
            message: message.into(),
        }
    }

    fn out_of_gas(message: impl Into<String>) -> Self {
        Self {
            code: 2,
            message: message.into(),
        }
    }

    fn actor_not_found() -> Self {
        Self {
            code: 11,
            message: "actor not found".to_owned(),
        }
    }
}

impl From<ChainError> for RpcError {
    fn from(e: ChainError) -> Self {
        Self::new(e.to_string())
    }
}

impl From<KeyError> for RpcError {
    fn from(e: KeyError) -> Self {
        Self::new(e.to_string())
    }
}

impl From<fil_actors_shared::v18::ActorError> for RpcError {
    fn from(e: fil_actors_shared::v18::ActorError) -> Self {
        Self::new(e.msg())
    }
}

impl From<anyhow::Error> for RpcError {
    fn from(e: anyhow::Error) -> Self {
        Self::new(e.to_string())
    }
}

type Answer = Result<Value, RpcError>;
type Function = fn(&mut Node, &Args) -> Answer;

/// A method: an answer at once, or one that may have to wait for the chain (`None`: not yet).
#[derive(Clone, Copy)]
enum Method {
    Now(Permission, Function),
    Wait(fn(&mut Node, &Args) -> Result<Option<Value>, RpcError>),
}

fn method(name: &str) -> Option<Method> {
    chain::method(name)
        .or_else(|| state::method(name))
        .or_else(|| miner::method(name))
        .or_else(|| sector::method(name))
        .or_else(|| gas::method(name))
        .or_else(|| mpool::method(name))
        .or_else(|| wallet::method(name))
        .or_else(|| admin::method(name))
}

/// The HTTP service.
pub(crate) fn router(handle: Handle) -> Router {
    Router::new()
        .route("/rpc/v1", post(rpc))
        .route("/rpc/v0", post(rpc))
        .route("/healthz", get(healthz))
        .route("/history", get(history))
        .with_state(handle)
}

async fn healthz(Shared(handle): Shared<Handle>) -> Response {
    let height = handle.lock().chain.head().height;
    (StatusCode::OK, format!("ok, head {height}\n")).into_response()
}

async fn history(Shared(handle): Shared<Handle>) -> Response {
    let content = handle.lock().chain.read_history();
    match content {
        Ok(bytes) => ([(header::CONTENT_TYPE, "application/x-ndjson")], bytes).into_response(),
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, e.to_string()).into_response(),
    }
}

async fn rpc(Shared(handle): Shared<Handle>, headers: HeaderMap, body: Bytes) -> Response {
    let Some(allowed) = permissions(&handle, &headers) else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    let request: Value = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(e) => {
            let error = RpcError {
                code: -32700,
                message: format!("unmarshaling request: {e}"),
            };
            return reply(&envelope(&Value::Null, Err(error)), true);
        }
    };
    if let Value::Array(batch) = &request {
        let mut answers = Vec::with_capacity(batch.len());
        for one in batch {
            answers.push(answer(&handle, &allowed, one).await.0);
        }
        return reply(&Value::Array(answers), false);
    }
    let (value, failed) = answer(&handle, &allowed, &request).await;
    reply(&value, failed)
}

fn reply(value: &Value, failed: bool) -> Response {
    // As go-jsonrpc: what never reached a method is HTTP 500, an error of a method is 200.
    let status = if failed {
        StatusCode::INTERNAL_SERVER_ERROR
    } else {
        StatusCode::OK
    };
    (
        status,
        [(header::CONTENT_TYPE, "application/json")],
        value.to_string(),
    )
        .into_response()
}

/// What the caller may do: reading without a token; none for a token that is not ours.
fn permissions(handle: &Handle, headers: &HeaderMap) -> Option<Vec<Permission>> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Some(vec![Permission::Read]);
    };
    let token = value.to_str().ok()?.strip_prefix("Bearer ")?.trim();
    let secret = handle.lock().secret.clone();
    jwt::verify(&secret, token)
}

fn envelope(id: &Value, answer: Answer) -> Value {
    match answer {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        Err(e) => {
            json!({ "jsonrpc": "2.0", "id": id, "error": { "code": e.code, "message": e.message } })
        }
    }
}

/// The answer to one request, and whether it reached no method.
async fn answer(handle: &Handle, allowed: &[Permission], request: &Value) -> (Value, bool) {
    let id = request.get("id").cloned().unwrap_or(Value::Null);
    let full = request
        .get("method")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let name = full.strip_prefix("Filecoin.").unwrap_or(full);
    let known = if full.starts_with("Filecoin.") || full.starts_with("Devnet.") {
        method(name)
    } else {
        None
    };
    let Some(found) = known else {
        let message = format!("method '{full}' not found");
        return (
            envelope(
                &id,
                Err(RpcError {
                    code: -32601,
                    message,
                }),
            ),
            true,
        );
    };
    let needed = match found {
        Method::Now(permission, _) => permission,
        Method::Wait(_) => Permission::Read,
    };
    if !allowed.contains(&needed) {
        let short = name.strip_prefix("Devnet.").unwrap_or(name);
        let message = format!(
            "missing permission to invoke '{short}' (need '{}')",
            needed.name()
        );
        return (envelope(&id, Err(RpcError::new(message))), false);
    }
    let params = request.get("params").cloned().unwrap_or(Value::Null);
    let result = run(handle.clone(), found, Args::new(params)).await;
    (envelope(&id, result), false)
}

async fn run(handle: Handle, method: Method, args: Args) -> Answer {
    let mut bell = handle.bell.subscribe();
    let args = Arc::new(args);
    loop {
        let (h, a) = (handle.clone(), Arc::clone(&args));
        // Verifying a proof or waiting for the disk must not hold up other requests.
        let done = tokio::task::spawn_blocking(move || {
            let mut node = h.lock();
            match method {
                Method::Now(_, function) => function(&mut node, &a).map(Some),
                Method::Wait(function) => function(&mut node, &a),
            }
        })
        .await;
        match done {
            Ok(Ok(Some(value))) => {
                handle.ring();
                return Ok(value);
            }
            Ok(Ok(None)) => {
                // The bell, or a look every now and then.
                if let Ok(Err(_)) =
                    tokio::time::timeout(Duration::from_secs(5), bell.changed()).await
                {
                    return Err(RpcError::new("the node is going down"));
                }
            }
            Ok(Err(e)) => return Err(e),
            Err(e) => return Err(RpcError::new(format!("internal error: {e}"))),
        }
    }
}
