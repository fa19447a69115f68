//! Keys that we hold ourselves: reading them, their addresses, signing messages, checking signatures.
//!
//! A key comes in lotus's forms: `{"Type":"bls","PrivateKey":"<base64>"}`, or the hex of that text (`lotus wallet
//! export`). It is wiped from memory when dropped and never printed.
//!
//! What is signed: the bytes of the CID of the unsigned message. secp256k1 signs their blake2b-256 (65 bytes,
//! recoverable); BLS signs them directly (96 bytes in G2).

mod bls;
mod key_info;
mod secp;

use std::fmt;

use fvm_shared::address::{Address, Protocol};
use zeroize::Zeroizing;

pub use self::key_info::KeyKind;
use crate::class::Class;
use crate::message::{Message, Signature, SignatureKind, SignedMessage};

/// A key cannot be read or used. No variant carries any part of a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Neither of lotus's forms.
    #[error(
        "the key is not in a form of lotus: give the output of \"lotus wallet export\" (hex), or \
         {{\"Type\":\"bls\",\"PrivateKey\":\"<base64>\"}}"
    )]
    Form,
    /// A kind of key that we do not use.
    #[error("keys of this type are not supported: use \"bls\" or \"secp256k1\"")]
    Kind,
    /// Not a valid key of that kind.
    #[error(
        "the private key is not a valid {0} key: it must be 32 bytes, not zero and below the order of the curve"
    )]
    Invalid(KeyKind),
    /// The message is someone else's.
    #[error("this key is for {own}, the message is from {from}")]
    WrongSender {
        /// The key's address.
        own: Box<Address>,
        /// The message's sender.
        from: Box<Address>,
    },
    /// The signature does not fit.
    #[error("the signature does not fit the message and the address {0}")]
    BadSignature(Box<Address>),
}

impl Error {
    /// What to do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::Form | Self::Kind | Self::Invalid(_) => Class::Fatal,
            Self::WrongSender { .. } => Class::Permanent,
            Self::BadSignature(_) => Class::Corrupt,
        }
    }
}

/// A key that we hold.
#[derive(Clone)]
pub struct LocalSigner {
    kind: KeyKind,
    secret: Zeroizing<[u8; 32]>,
    address: Address,
}

impl fmt::Debug for LocalSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalSigner")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl LocalSigner {
    /// Makes a signer of 32 secret bytes: big-endian for secp256k1, little-endian for BLS, as lotus stores them.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub fn from_secret(kind: KeyKind, secret: &[u8]) -> Result<Self, Error> {
        let bytes: [u8; 32] = secret
            .try_into()
            .map_err(|_wrong_length| Error::Invalid(kind))?;
        let secret = Zeroizing::new(bytes);
        let address = match kind {
            KeyKind::Secp256k1 => secp::address(&secret),
            KeyKind::Bls => bls::address(&secret),
        }
        .ok_or(Error::Invalid(kind))?;
        Ok(Self {
            kind,
            secret,
            address,
        })
    }

    /// Reads a key in either of lotus's forms: the hex of `lotus wallet export`, or the JSON itself.
    ///
    /// # Errors
    /// [`Error::Form`], [`Error::Kind`], [`Error::Invalid`]: all Fatal.
    pub fn from_lotus(text: &str) -> Result<Self, Error> {
        let (kind, secret) = key_info::parse(text)?;
        Self::from_secret(kind, &secret)
    }

    /// The hex form, as `lotus wallet import` reads it. This is the key itself.
    pub fn to_lotus_export(&self) -> Zeroizing<String> {
        key_info::export(self.kind, &self.secret)
    }

    /// The kind of the key.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The key's address: f1 or f3.
    pub fn address(&self) -> Address {
        self.address
    }

    /// Signs bytes.
    ///
    /// # Panics
    /// Never: the key was checked when it was read.
    pub fn sign(&self, bytes: &[u8]) -> Signature {
        match self.kind {
            KeyKind::Secp256k1 => Signature {
                kind: SignatureKind::Secp256k1,
                bytes: secp::sign(&self.secret, bytes)
                    .expect("invariant: from_secret accepts valid keys only"),
            },
            KeyKind::Bls => Signature {
                kind: SignatureKind::Bls,
                bytes: bls::sign(&self.secret, bytes)
                    .expect("invariant: from_secret accepts valid keys only"),
            },
        }
    }

    /// Signs a message of this key's address. The same message always gets the same signature.
    ///
    /// # Errors
    /// [`Error::WrongSender`].
    pub fn sign_message(&self, message: Message) -> Result<SignedMessage, Error> {
        if message.from != self.address {
            return Err(Error::WrongSender {
                own: Box::new(self.address),
                from: Box::new(message.from),
            });
        }
        let signature = self.sign(&message.unsigned_cid().to_bytes());
        Ok(SignedMessage { message, signature })
    }
}

/// Checks a signature over bytes by a key address.
///
/// # Errors
/// [`Error::BadSignature`], Corrupt.
pub fn verify(signature: &Signature, bytes: &[u8], address: &Address) -> Result<(), Error> {
    let fits = match (signature.kind, address.protocol()) {
        (SignatureKind::Secp256k1, Protocol::Secp256k1) => {
            secp::verify(&signature.bytes, bytes, address)
        }
        (SignatureKind::Bls, Protocol::BLS) => bls::verify(&signature.bytes, bytes, address),
        (SignatureKind::Secp256k1 | SignatureKind::Bls, _) => false,
    };
    if fits {
        Ok(())
    } else {
        Err(Error::BadSignature(Box::new(*address)))
    }
}

/// Checks the signature of a message.
///
/// # Errors
/// [`Error::BadSignature`], Corrupt.
pub fn verify_message(signed: &SignedMessage) -> Result<(), Error> {
    verify(
        &signed.signature,
        &signed.message.unsigned_cid().to_bytes(),
        &signed.message.from,
    )
}
