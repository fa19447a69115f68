//! A chain node: its methods as small traits by concern, over two doors, one for reading and one for writing.
//!
//! ```text
//!  ChainReader MinerReader SectorReader     Pusher  NodeSigner
//!  RandomnessReader ActorReader MessageReader  │        │
//!            │                                 │        │
//!        ReadRpc  ◄── Retry                  WriteRpc (never retried)
//!            └───────────── Node ──────────────┘
//! ```
//! The traits of the upper row are implemented for everything that has the door below it, so a test needs one
//! function that answers raw JSON.

pub mod answers;
pub mod error;
mod readers;
mod retry;
mod writers;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::de::DeserializeOwned;
use serde_json::Value;

pub use self::answers::*;
pub use self::error::Error;
pub use self::readers::{
    ActorReader, ChainReader, MessageReader, MinerReader, RandomnessReader, SectorReader,
};
pub use self::retry::Retry;
pub use self::writers::{NodeSigner, Pusher};
use crate::rpc;
use crate::transport::{self, Endpoint, Http};
use crate::types::Network;

/// An answer that is on its way.
pub type Reply<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// The door for calls that change nothing.
pub trait ReadRpc: Send + Sync {
    /// Calls `Filecoin.<method>`; the answer is the raw JSON of the result.
    fn read_raw(&self, method: &'static str, params: Vec<Value>) -> Reply<'_, String>;

    /// The network, which fixes how addresses are written.
    fn network(&self) -> Network;
}

/// The door for calls that have effects, or that need a key.
pub trait WriteRpc: Send + Sync {
    /// Calls `Filecoin.<method>` once; the answer is the raw JSON of the result.
    ///
    /// A Temporary error proves nothing: the call may have taken effect.
    fn write_raw(&self, method: &'static str, params: Vec<Value>) -> Reply<'_, String>;

    /// The network, which fixes how addresses are written.
    fn write_network(&self) -> Network;
}

/// Reads the raw JSON of a result.
fn decode<T: DeserializeOwned>(method: &'static str, raw: &str) -> Result<T, Error> {
    serde_json::from_str(raw).map_err(|source| Error::Unreadable {
        method,
        reason: source.to_string(),
        body: transport::quote(raw.as_bytes()),
    })
}

/// One chain node over JSON-RPC. Cloning is cheap and shares the connections.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    http: Http,
    network: Network,
    next_id: AtomicU64,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("endpoint", &self.name())
            .field("network", &self.inner.network)
            .finish()
    }
}

impl Node {
    /// A node at this endpoint. No connection is made yet.
    ///
    /// # Errors
    /// The endpoint's settings cannot be used: Fatal.
    pub fn new(endpoint: Endpoint, network: Network) -> Result<Self, Error> {
        let http = Http::new(endpoint)?;
        Ok(Self {
            inner: Arc::new(Inner {
                http,
                network,
                next_id: AtomicU64::new(1),
            }),
        })
    }

    /// The endpoint's name.
    pub fn name(&self) -> &str {
        self.inner.http.name()
    }

    async fn call(&self, method: &'static str, params: Vec<Value>) -> Result<String, Error> {
        let id = self.inner.next_id.fetch_add(1, Ordering::Relaxed);
        let full_name = format!("Filecoin.{method}");
        let body =
            serde_json::to_vec(&rpc::Request::new(id, &full_name, &params)).map_err(|source| {
                Error::Unwritable {
                    method,
                    reason: source.to_string(),
                }
            })?;
        let answer = self.inner.http.post(body).await?;
        let result = rpc::parse_response(&answer).map_err(|source| Error::Unreadable {
            method,
            reason: source.to_string(),
            body: transport::quote(&answer),
        })?;
        tracing::trace!(
            endpoint = self.name(),
            method,
            bytes = answer.len(),
            "answered"
        );
        result.map_err(|refusal| Error::refused(self.name(), method, refusal))
    }
}

impl ReadRpc for Node {
    fn read_raw(&self, method: &'static str, params: Vec<Value>) -> Reply<'_, String> {
        Box::pin(self.call(method, params))
    }

    fn network(&self) -> Network {
        self.inner.network
    }
}

impl WriteRpc for Node {
    fn write_raw(&self, method: &'static str, params: Vec<Value>) -> Reply<'_, String> {
        Box::pin(self.call(method, params))
    }

    fn write_network(&self) -> Network {
        self.inner.network
    }
}
