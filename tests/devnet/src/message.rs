//! Messages and their CIDs.

use cid::Cid;
use fvm_shared::crypto::signature::{Signature, SignatureType};
use fvm_shared::econ::TokenAmount;
use fvm_shared::message::Message;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::codec::{cbor, cbor_cid};

/// A message and the signature over its CID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SignedMessage {
    pub(crate) message: Message,
    pub(crate) signature: Signature,
}

impl Serialize for SignedMessage {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        (&self.message, &self.signature).serialize(s)
    }
}

impl<'de> Deserialize<'de> for SignedMessage {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let (message, signature) = Deserialize::deserialize(d)?;
        Ok(Self { message, signature })
    }
}

impl SignedMessage {
    /// Of the bare message for BLS senders (their signatures are aggregated in a block), of the signed
    /// one otherwise.
    pub(crate) fn cid(&self) -> Cid {
        match self.signature.sig_type {
            SignatureType::BLS => message_cid(&self.message),
            SignatureType::Secp256k1 => cbor_cid(&cbor(self)),
        }
    }

    /// Bytes on chain.
    pub(crate) fn chain_len(&self) -> usize {
        match self.signature.sig_type {
            SignatureType::BLS => cbor(&self.message).len(),
            SignatureType::Secp256k1 => cbor(self).len(),
        }
    }
}

/// The CID of a bare message: its bytes are what a key signs.
pub(crate) fn message_cid(message: &Message) -> Cid {
    cbor_cid(&cbor(message))
}

/// What a sender must own beyond the value: gas limit at the fee cap.
pub(crate) fn required_gas_funds(message: &Message) -> TokenAmount {
    message.gas_fee_cap.clone() * message.gas_limit
}

/// The outcome of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Receipt {
    pub(crate) exit_code: u32,
    #[serde(with = "fvm_ipld_encoding::strict_bytes")]
    pub(crate) return_data: Vec<u8>,
    pub(crate) gas_used: u64,
    /// What the sender paid for gas: burn, tip and overestimation.
    pub(crate) fee: TokenAmount,
    /// What the actor said when it refused.
    pub(crate) error: String,
}
