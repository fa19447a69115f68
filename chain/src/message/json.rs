//! Messages in the nodes' JSON. Addresses are written as the network does; either prefix is read.

use serde::{Deserialize, Serialize};

use super::{Message, Signature, SignatureKind, SignedMessage};
use crate::types::{AttoFil, Error, Network, json, parse_address};

/// A message in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct MessageJson {
    version: u64,
    to: String,
    from: String,
    nonce: u64,
    value: AttoFil,
    gas_limit: u64,
    gas_fee_cap: AttoFil,
    gas_premium: AttoFil,
    method: u64,
    #[serde(default, with = "json::bytes")]
    params: Vec<u8>,
}

impl MessageJson {
    /// The JSON of a message on this network.
    pub fn new(message: &Message, network: Network) -> Self {
        Self {
            version: message.version,
            to: network.format(&message.to),
            from: network.format(&message.from),
            nonce: message.nonce,
            value: message.value.clone(),
            gas_limit: message.gas_limit,
            gas_fee_cap: message.gas_fee_cap.clone(),
            gas_premium: message.gas_premium.clone(),
            method: message.method,
            params: message.params.clone(),
        }
    }
}

impl TryFrom<MessageJson> for Message {
    type Error = Error;

    fn try_from(json: MessageJson) -> Result<Self, Error> {
        Ok(Self {
            version: json.version,
            to: parse_address(&json.to)?,
            from: parse_address(&json.from)?,
            nonce: json.nonce,
            value: json.value,
            gas_limit: json.gas_limit,
            gas_fee_cap: json.gas_fee_cap,
            gas_premium: json.gas_premium,
            method: json.method,
            params: json.params,
        })
    }
}

/// A signed message in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SignedMessageJson {
    message: MessageJson,
    signature: SignatureJson,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SignatureJson {
    r#type: u8,
    #[serde(with = "json::bytes")]
    data: Vec<u8>,
}

impl SignedMessageJson {
    /// The JSON of a signed message on this network.
    pub fn new(signed: &SignedMessage, network: Network) -> Self {
        Self {
            message: MessageJson::new(&signed.message, network),
            signature: SignatureJson {
                r#type: signed.signature.kind.number(),
                data: signed.signature.bytes.clone(),
            },
        }
    }
}

impl TryFrom<SignedMessageJson> for SignedMessage {
    type Error = Error;

    fn try_from(json: SignedMessageJson) -> Result<Self, Error> {
        let number = json.signature.r#type;
        let kind = SignatureKind::from_number(number).ok_or(Error::SignatureKind { number })?;
        let signature = Signature {
            kind,
            bytes: json.signature.data,
        };
        Ok(Self {
            message: json.message.try_into()?,
            signature,
        })
    }
}
