//! The methods that change nothing, by concern. Here: how a call is made and a list is read.

mod actors;
mod chain;
mod messages;
mod miner;
mod sectors;

use serde::Deserialize;
use serde_json::{Value, json};

pub use self::actors::ActorReader;
pub use self::chain::{ChainReader, RandomnessReader};
pub use self::messages::MessageReader;
pub use self::miner::MinerReader;
pub use self::sectors::SectorReader;
use super::{ReadRpc, Reply, decode};
use crate::types::{Cid, TipSetKey, json as wire};

/// Calls a method and reads its answer.
fn read<'a, T, R>(rpc: &'a R, method: &'static str, params: Vec<Value>) -> Reply<'a, T>
where
    T: serde::de::DeserializeOwned + 'a,
    R: ReadRpc + ?Sized,
{
    Box::pin(async move {
        let raw = rpc.read_raw(method, params).await?;
        decode(method, &raw)
    })
}

fn link(cid: &Cid) -> Value {
    json!({ "/": cid.to_string() })
}

fn key(tipset: &TipSetKey) -> Value {
    Value::Array(tipset.0.iter().map(link).collect())
}

/// A list that Go may write as `null`.
#[derive(Deserialize)]
#[serde(bound = "T: Deserialize<'de>")]
struct List<T>(#[serde(deserialize_with = "wire::list::deserialize")] Vec<T>);
