//! JSON-RPC 2.0 as data: what goes over the wire, and no transport.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// A call. Parameters are positional.
#[derive(Debug, Serialize)]
pub struct Request<'a> {
    jsonrpc: &'static str,
    id: u64,
    /// The method with its prefix, `Filecoin.…`.
    pub method: &'a str,
    /// The parameters, in order.
    pub params: &'a [Value],
}

impl<'a> Request<'a> {
    /// A call of `method`.
    pub fn new(id: u64, method: &'a str, params: &'a [Value]) -> Self {
        Self {
            jsonrpc: "2.0",
            id,
            method,
            params,
        }
    }
}

/// What the node says when it refuses a call.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ErrorObject {
    /// The number; see the classification in [`crate::node::error`].
    #[serde(default)]
    pub code: i64,
    /// The text. Most refusals can be told apart by it alone.
    #[serde(default)]
    pub message: String,
}

#[derive(Deserialize)]
struct Response {
    #[serde(default)]
    result: Option<Box<RawValue>>,
    #[serde(default)]
    error: Option<ErrorObject>,
}

/// Reads the body of an answer: the raw JSON of the result, or the node's refusal.
///
/// A missing result reads as `null`: that is how Go answers a method without a result.
///
/// # Errors
/// The body is not a JSON-RPC answer.
pub fn parse_response(body: &[u8]) -> serde_json::Result<Result<String, ErrorObject>> {
    let response: Response = serde_json::from_slice(body)?;
    Ok(match (response.error, response.result) {
        (Some(error), _) => Err(error),
        (None, Some(result)) => Ok(Box::<str>::from(result).into_string()),
        (None, None) => Ok("null".to_owned()),
    })
}
