//! Positional parameters of a call, in lotus's JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cid::Cid;
use fvm_ipld_bitfield::BitField;
use fvm_ipld_encoding::RawBytes;
use fvm_shared::address::{Address, Network};
use fvm_shared::crypto::signature::{Signature, SignatureType};
use fvm_shared::econ::TokenAmount;
use fvm_shared::message::Message;
use num_bigint::BigInt;
use serde_json::Value;

use super::RpcError;
use crate::message::SignedMessage;

/// The parameters of one call.
#[derive(Debug)]
pub(crate) struct Args(Vec<Value>);

static NULL: Value = Value::Null;

impl Args {
    pub(crate) fn new(params: Value) -> Self {
        if params.is_null() {
            return Self(Vec::new());
        }
        let one_or_many = params.as_array().cloned();
        Self(one_or_many.unwrap_or_else(|| vec![params]))
    }

    /// A parameter as it came; null when it is missing.
    pub(crate) fn raw(&self, index: usize) -> &Value {
        self.0.get(index).unwrap_or(&NULL)
    }

    pub(crate) fn i64(&self, index: usize) -> Result<i64, RpcError> {
        self.raw(index)
            .as_i64()
            .ok_or_else(|| bad(index, "a number"))
    }

    pub(crate) fn u64(&self, index: usize) -> Result<u64, RpcError> {
        self.raw(index)
            .as_u64()
            .ok_or_else(|| bad(index, "a number that is not negative"))
    }

    pub(crate) fn str(&self, index: usize) -> Result<&str, RpcError> {
        self.raw(index)
            .as_str()
            .ok_or_else(|| bad(index, "a string"))
    }

    pub(crate) fn address(&self, index: usize) -> Result<Address, RpcError> {
        parse_address(self.str(index)?)
    }

    pub(crate) fn bytes(&self, index: usize) -> Result<Vec<u8>, RpcError> {
        bytes(self.raw(index)).ok_or_else(|| bad(index, "base64"))
    }

    pub(crate) fn cid(&self, index: usize) -> Result<Cid, RpcError> {
        cid(self.raw(index)).ok_or_else(|| bad(index, "a CID"))
    }

    /// A list; none for null.
    fn list(&self, index: usize, wanted: &str) -> Result<Option<&Vec<Value>>, RpcError> {
        let value = self.raw(index);
        if value.is_null() {
            return Ok(None);
        }
        value.as_array().map(Some).ok_or_else(|| bad(index, wanted))
    }

    /// A tipset key; empty for null.
    pub(crate) fn key(&self, index: usize) -> Result<Vec<Cid>, RpcError> {
        let list = self.list(index, "a tipset key")?.into_iter().flatten();
        list.map(|v| cid(v).ok_or_else(|| bad(index, "a list of CIDs")))
            .collect()
    }

    /// A bit field; none for null.
    pub(crate) fn bitfield(&self, index: usize) -> Result<Option<BitField>, RpcError> {
        let wanted = "a bit field";
        let Some(runs) = self.list(index, wanted)? else {
            return Ok(None);
        };
        bitfield(runs).map(Some).ok_or_else(|| bad(index, wanted))
    }

    pub(crate) fn message(&self, index: usize) -> Result<Message, RpcError> {
        message(self.raw(index))
    }

    pub(crate) fn signed_message(&self, index: usize) -> Result<SignedMessage, RpcError> {
        let value = self.raw(index);
        let message = message(&value["Message"])?;
        let signature = signature(&value["Signature"]).ok_or_else(|| bad(index, "a signature"))?;
        Ok(SignedMessage { message, signature })
    }
}

fn bad(index: usize, wanted: &str) -> RpcError {
    RpcError::params(format!(
        "unmarshaling params for parameter {index}: expected {wanted}"
    ))
}

/// An address of either network prefix.
pub(crate) fn parse_address(text: &str) -> Result<Address, RpcError> {
    Network::Testnet
        .parse_address(text)
        .or_else(|_| Network::Mainnet.parse_address(text))
        .map_err(|e| RpcError::params(format!("invalid address {text:?}: {e}")))
}

fn bytes(value: &Value) -> Option<Vec<u8>> {
    if value.is_null() {
        return Some(Vec::new());
    }
    STANDARD.decode(value.as_str()?).ok()
}

pub(crate) fn cid(value: &Value) -> Option<Cid> {
    value.get("/")?.as_str()?.parse().ok()
}

fn bitfield(runs: &[Value]) -> Option<BitField> {
    let mut bits = Vec::new();
    let (mut at, mut set) = (0u64, false);
    for run in runs {
        let len = run.as_u64()?;
        if set {
            // No miner of a test has more sectors than this.
            if len > 1 << 20 {
                return None;
            }
            bits.extend(at..at.checked_add(len)?);
        }
        at = at.checked_add(len)?;
        set = !set;
    }
    BitField::try_from_bits(bits).ok()
}

/// An amount: a decimal string; nothing is zero.
pub(crate) fn token(value: &Value) -> Option<TokenAmount> {
    if value.is_null() || value.as_str() == Some("") {
        return Some(TokenAmount::default());
    }
    value
        .as_str()?
        .parse::<BigInt>()
        .ok()
        .map(TokenAmount::from_atto)
}

fn signature(value: &Value) -> Option<Signature> {
    let sig_type = match value.get("Type")?.as_u64()? {
        1 => SignatureType::Secp256k1,
        2 => SignatureType::BLS,
        _ => return None,
    };
    Some(Signature {
        sig_type,
        bytes: bytes(value.get("Data")?)?,
    })
}

pub(crate) fn message(value: &Value) -> Result<Message, RpcError> {
    let fail = |field: &str| RpcError::params(format!("unmarshaling message: field {field}"));
    let address = |field: &str| {
        value[field]
            .as_str()
            .ok_or_else(|| fail(field))
            .and_then(parse_address)
    };
    let number = |field: &str| {
        let value = &value[field];
        if value.is_null() {
            Ok(0)
        } else {
            value.as_u64().ok_or_else(|| fail(field))
        }
    };
    let amount = |field: &str| token(&value[field]).ok_or_else(|| fail(field));
    Ok(Message {
        version: number("Version")?,
        to: address("To")?,
        from: address("From")?,
        sequence: number("Nonce")?,
        value: amount("Value")?,
        method_num: number("Method")?,
        params: RawBytes::new(bytes(&value["Params"]).ok_or_else(|| fail("Params"))?),
        gas_limit: number("GasLimit")?,
        gas_fee_cap: amount("GasFeeCap")?,
        gas_premium: amount("GasPremium")?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bitfield_reads_run_lengths_that_begin_with_zeros() {
        let args = Args::new(json!([[5, 1, 2, 2], null, [0]]));
        let bits: Vec<u64> = args.bitfield(0).unwrap().unwrap().iter().collect();
        assert_eq!(bits, [5, 8, 9]);
        assert!(args.bitfield(1).unwrap().is_none());
        assert!(args.bitfield(2).unwrap().unwrap().is_empty());
    }

    #[test]
    fn address_of_either_prefix_is_the_same() {
        assert_eq!(parse_address("f01000").ok(), parse_address("t01000").ok());
        assert!(parse_address("x01000").is_err());
    }

    #[test]
    fn message_accepts_null_for_what_go_leaves_empty() {
        let value = json!({ "Version": 0, "To": "t01000", "From": "t0100", "Value": "7", "Method": 5,
            "Params": null, "GasFeeCap": "", "GasPremium": null });
        let message = message(&value).unwrap();
        assert_eq!(message.value, TokenAmount::from_atto(7));
        assert!(message.params.is_empty() && message.gas_limit == 0);
    }
}
