//! Messages: their fields, their bytes and their names (CIDs).
//!
//! Bytes are CBOR tuples; a name is the blake2b-256 CID of the bytes: of the unsigned message when the
//! signature is BLS (it is aggregated into the block), of the signed one otherwise.
//! Source: Filecoin specification, "Messages"; lotus `chain/types`.

mod json;
pub mod params;

use fvm_ipld_encoding::{DAG_CBOR, strict_bytes};
use fvm_shared::address::Address;
use multihash_codetable::{Code, MultihashDigest};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_tuple::{Deserialize_tuple, Serialize_tuple};

pub use self::json::{MessageJson, SignedMessageJson};
use crate::class::Class;
use crate::types::{AttoFil, Cid};

/// The largest message a node takes into its pool. Unit: bytes of the signed message.
pub const MAX_MESSAGE_BYTES: usize = 64 << 10;

/// Bytes are not what they should be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// They are not the CBOR of that type.
    #[error("these bytes are not the CBOR of {what}: {reason}")]
    Decode {
        /// The type.
        what: &'static str,
        /// What the decoder says.
        reason: String,
    },
    /// The value cannot be encoded.
    #[error("{what} cannot be encoded: {reason}")]
    Encode {
        /// The type.
        what: &'static str,
        /// What the encoder says.
        reason: String,
    },
}

impl Error {
    /// What to do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::Decode { .. } => Class::Corrupt,
            Self::Encode { .. } => Class::Permanent,
        }
    }
}

/// A message as it stands on the chain, unsigned. The order of the fields is the order of the CBOR tuple.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize_tuple, Deserialize_tuple)]
pub struct Message {
    /// Always 0.
    pub version: u64,
    /// Who receives it.
    pub to: Address,
    /// Who sends it: a key address.
    pub from: Address,
    /// The sender's count of messages before this one.
    pub nonce: u64,
    /// The money that goes with it.
    pub value: AttoFil,
    /// Unit: gas.
    pub gas_limit: u64,
    /// The most a unit of gas may cost, base fee and premium together.
    pub gas_fee_cap: AttoFil,
    /// What the block's miner gets for a unit of gas.
    pub gas_premium: AttoFil,
    /// The method of the receiver.
    pub method: u64,
    /// The CBOR of the parameters.
    #[serde(with = "strict_bytes")]
    pub params: Vec<u8>,
}

impl Message {
    /// A message without nonce, gas or value.
    pub fn new(from: Address, to: Address, method: u64, params: Vec<u8>) -> Self {
        Self {
            version: 0,
            to,
            from,
            nonce: 0,
            value: AttoFil::zero(),
            gas_limit: 0,
            gas_fee_cap: AttoFil::zero(),
            gas_premium: AttoFil::zero(),
            method,
            params,
        }
    }

    /// A call of a miner actor.
    ///
    /// # Errors
    /// [`Error::Encode`].
    pub fn to_miner<P: params::MinerParams>(
        from: Address,
        miner: crate::types::ActorId,
        params: &P,
    ) -> Result<Self, Error> {
        Ok(Self::new(
            from,
            miner.address(),
            P::METHOD,
            params.to_cbor()?,
        ))
    }

    /// The most it can cost beyond its value: limit × fee cap.
    pub fn max_fee(&self) -> AttoFil {
        &self.gas_fee_cap * self.gas_limit
    }

    /// The bytes.
    ///
    /// # Panics
    /// Never: every value of this type has CBOR.
    pub fn to_cbor(&self) -> Vec<u8> {
        fvm_ipld_encoding::to_vec(self)
            .expect("invariant: addresses, integers and byte strings always have CBOR")
    }

    /// Reads the bytes.
    ///
    /// # Errors
    /// [`Error::Decode`].
    pub fn from_cbor(bytes: &[u8]) -> Result<Self, Error> {
        decode("a message", bytes)
    }

    /// The CID of the unsigned message: what a wallet signs the bytes of.
    pub fn unsigned_cid(&self) -> Cid {
        cid_of(&self.to_cbor())
    }
}

/// The kind of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SignatureKind {
    /// Of an f1 address: 65 bytes.
    Secp256k1,
    /// Of an f3 address: 96 bytes.
    Bls,
}

impl SignatureKind {
    /// The number in JSON and CBOR.
    pub fn number(self) -> u8 {
        match self {
            Self::Secp256k1 => 1,
            Self::Bls => 2,
        }
    }

    /// The kind with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Secp256k1),
            2 => Some(Self::Bls),
            _ => None,
        }
    }
}

/// A signature.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Signature {
    /// Of which kind.
    pub kind: SignatureKind,
    /// The bytes, without the kind.
    pub bytes: Vec<u8>,
}

impl Serialize for Signature {
    /// One byte string: the kind, then the signature.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = vec![self.kind.number()];
        bytes.extend_from_slice(&self.bytes);
        serializer.serialize_bytes(&bytes)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes: Vec<u8> = strict_bytes::deserialize(deserializer)?;
        let (number, rest) = bytes
            .split_first()
            .ok_or_else(|| de::Error::custom("an empty signature"))?;
        let kind = SignatureKind::from_number(*number)
            .ok_or_else(|| de::Error::custom(format!("signature kind {number} is not ours")))?;
        Ok(Self {
            kind,
            bytes: rest.to_vec(),
        })
    }
}

/// A message and its signature. These bytes are stored before they are pushed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize_tuple, Deserialize_tuple)]
pub struct SignedMessage {
    /// What was signed.
    pub message: Message,
    /// By the key of `message.from`.
    pub signature: Signature,
}

impl SignedMessage {
    /// The bytes.
    ///
    /// # Panics
    /// Never: every value of this type has CBOR.
    pub fn to_cbor(&self) -> Vec<u8> {
        fvm_ipld_encoding::to_vec(self)
            .expect("invariant: a message and a byte string always have CBOR")
    }

    /// Reads the bytes.
    ///
    /// # Errors
    /// [`Error::Decode`].
    pub fn from_cbor(bytes: &[u8]) -> Result<Self, Error> {
        decode("a signed message", bytes)
    }

    /// Its name on the chain.
    pub fn cid(&self) -> Cid {
        match self.signature.kind {
            SignatureKind::Bls => self.message.unsigned_cid(),
            SignatureKind::Secp256k1 => cid_of(&self.to_cbor()),
        }
    }
}

/// The CID of CBOR bytes: version 1, dag-cbor, blake2b-256.
pub(crate) fn cid_of(cbor: &[u8]) -> Cid {
    Cid::new_v1(DAG_CBOR, Code::Blake2b256.digest(cbor))
}

pub(crate) fn decode<T: de::DeserializeOwned>(
    what: &'static str,
    bytes: &[u8],
) -> Result<T, Error> {
    fvm_ipld_encoding::from_slice(bytes).map_err(|source| Error::Decode {
        what,
        reason: source.to_string(),
    })
}
