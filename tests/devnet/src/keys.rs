//! Keys, signatures and the keystore: secp256k1 and BLS, in lotus's formats.
//!
//! Effects: the keystore writes one file of mode 0600 for each key.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bls_signatures::Serialize as _;
use fvm_shared::address::{Address, Protocol};
use fvm_shared::crypto::signature::{Signature, SignatureType};
use k256::ecdsa::{RecoveryId, Signature as EcdsaSignature, SigningKey, VerifyingKey};
use rand::RngCore as _;
use serde::{Deserialize, Serialize};

use crate::codec::{blake2b256, expand};
use crate::files;

/// What went wrong with a key or a signature.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    #[error("key type {0:?} is not known: use \"secp256k1\" or \"bls\"")]
    Kind(String),
    #[error("not a private key: {0}")]
    Private(String),
    #[error("signature verification failed: {0}")]
    Signature(String),
    #[error("cannot write the key: {0}")]
    Io(#[from] std::io::Error),
}

/// The two kinds of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum KeyKind {
    #[serde(rename = "secp256k1")]
    Secp256k1,
    #[serde(rename = "bls")]
    Bls,
}

impl KeyKind {
    pub(crate) fn parse(name: &str) -> Result<Self, KeyError> {
        match name {
            "secp256k1" => Ok(Self::Secp256k1),
            "bls" => Ok(Self::Bls),
            other => Err(KeyError::Kind(other.to_owned())),
        }
    }
}

/// A key as lotus keeps and exports it.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct KeyInfo {
    #[serde(rename = "Type")]
    pub(crate) kind: KeyKind,
    /// Base64; 32 bytes: big-endian for secp256k1, little-endian for BLS.
    #[serde(rename = "PrivateKey")]
    pub(crate) private: String,
}

impl std::fmt::Debug for KeyInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyInfo")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl KeyInfo {
    /// The string that `lotus wallet export` prints.
    pub(crate) fn export(&self) -> String {
        hex::encode(
            serde_json::json!({ "Type": self.kind, "PrivateKey": self.private }).to_string(),
        )
    }
}

enum Secret {
    Secp256k1(Box<SigningKey>),
    Bls(bls_signatures::PrivateKey),
}

/// A private key, ready to sign.
pub(crate) struct Key {
    secret: Secret,
    pub(crate) address: Address,
    pub(crate) info: KeyInfo,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Key {
    pub(crate) fn from_info(info: KeyInfo) -> Result<Self, KeyError> {
        let private = |e: &dyn std::fmt::Display| KeyError::Private(e.to_string());
        let bytes = STANDARD.decode(&info.private).map_err(|e| private(&e))?;
        let (secret, address) = match info.kind {
            KeyKind::Secp256k1 => {
                let key = SigningKey::from_slice(&bytes).map_err(|e| private(&e))?;
                let point = key.verifying_key().to_encoded_point(false);
                let address = Address::new_secp256k1(point.as_bytes()).map_err(|e| private(&e))?;
                (Secret::Secp256k1(Box::new(key)), address)
            }
            KeyKind::Bls => {
                let key =
                    bls_signatures::PrivateKey::from_bytes(&bytes).map_err(|e| private(&e))?;
                let address =
                    Address::new_bls(&key.public_key().as_bytes()).map_err(|e| private(&e))?;
                (Secret::Bls(key), address)
            }
        };
        Ok(Self {
            secret,
            address,
            info,
        })
    }

    /// A fresh key.
    pub(crate) fn generate(kind: KeyKind) -> Self {
        let mut seed = [0u8; 64];
        rand::rngs::OsRng.fill_bytes(&mut seed);
        Self::from_seed(kind, &seed)
    }

    /// The key that follows from a seed. Anyone who knows the seed has the key.
    pub(crate) fn from_seed(kind: KeyKind, seed: &[u8]) -> Self {
        for attempt in 0u8..=255 {
            let mut bytes = expand(&[b"filstar devnet key", seed, &[attempt]], 32);
            if kind == KeyKind::Bls {
                // Below the group order, which starts with 0x73; the last byte is the highest.
                bytes[31] &= 0x3f;
            }
            let info = KeyInfo {
                kind,
                private: STANDARD.encode(&bytes),
            };
            if let Ok(key) = Self::from_info(info) {
                return key;
            }
        }
        unreachable!("256 hashes in a row outside the range of the curve: chance below 2^-8000")
    }

    pub(crate) fn sign(&self, data: &[u8]) -> Signature {
        match &self.secret {
            Secret::Secp256k1(key) => {
                let (signature, recovery) = key
                    .sign_prehash_recoverable(&blake2b256(&[data]))
                    .expect("invariant: a hash of 32 bytes can be signed");
                let mut bytes = signature.to_bytes().to_vec();
                bytes.push(recovery.to_byte());
                Signature::new_secp256k1(bytes)
            }
            Secret::Bls(key) => Signature::new_bls(key.sign(data).as_bytes()),
        }
    }
}

/// Checks a signature against the address whose key must have made it.
pub(crate) fn verify(
    signature: &Signature,
    data: &[u8],
    address: &Address,
) -> Result<(), KeyError> {
    let fail = |why: &str| Err(KeyError::Signature(why.to_owned()));
    match (signature.sig_type, address.protocol()) {
        (SignatureType::Secp256k1, Protocol::Secp256k1) => {
            verify_secp256k1(signature, data, address)
        }
        (SignatureType::BLS, Protocol::BLS) => {
            let key = bls_signatures::PublicKey::from_bytes(&address.payload_bytes());
            let sig = bls_signatures::Signature::from_bytes(&signature.bytes);
            match (key, sig) {
                (Ok(key), Ok(sig)) if bls_signatures::verify_messages(&sig, &[data], &[key]) => {
                    Ok(())
                }
                (Ok(_), Ok(_)) => fail("bls signature failed to verify"),
                (Err(_), _) => fail("not a BLS public key"),
                (_, Err(_)) => fail("not a BLS signature"),
            }
        }
        _ => fail("signature type does not fit the address"),
    }
}

fn verify_secp256k1(signature: &Signature, data: &[u8], address: &Address) -> Result<(), KeyError> {
    let bad = |e: &dyn std::fmt::Display| KeyError::Signature(e.to_string());
    if signature.bytes.len() != 65 {
        return Err(KeyError::Signature(
            "a secp256k1 signature has 65 bytes".to_owned(),
        ));
    }
    let parsed = EcdsaSignature::from_slice(&signature.bytes[..64]).map_err(|e| bad(&e))?;
    let recovery = RecoveryId::try_from(signature.bytes[64]).map_err(|e| bad(&e))?;
    let key = VerifyingKey::recover_from_prehash(&blake2b256(&[data]), &parsed, recovery)
        .map_err(|e| bad(&e))?;
    let signer =
        Address::new_secp256k1(key.to_encoded_point(false).as_bytes()).map_err(|e| bad(&e))?;
    if signer == *address {
        Ok(())
    } else {
        Err(KeyError::Signature(format!(
            "signed by {signer}, not by {address}"
        )))
    }
}

/// The aggregate of BLS signatures, as a block header carries it; of none, the point at infinity.
pub(crate) fn aggregate_bls<'a>(signatures: impl Iterator<Item = &'a Signature>) -> Signature {
    let parsed: Vec<_> = signatures
        .filter_map(|s| bls_signatures::Signature::from_bytes(&s.bytes).ok())
        .collect();
    let mut infinity = vec![0u8; 96];
    infinity[0] = 0xc0;
    let bytes = if parsed.is_empty() {
        infinity
    } else {
        bls_signatures::aggregate(&parsed).map_or(infinity, |s| s.as_bytes())
    };
    Signature::new_bls(bytes)
}

/// The keys of the node's wallet, one file each.
#[derive(Debug)]
pub(crate) struct Keystore {
    dir: PathBuf,
    keys: BTreeMap<Address, Key>,
}

impl Keystore {
    /// Reads every key of the folder.
    pub(crate) fn open(dir: &Path) -> Result<Self, KeyError> {
        files::create_dir(dir)?;
        let mut keys = BTreeMap::new();
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "json") {
                let info: KeyInfo = serde_json::from_slice(&std::fs::read(&path)?)
                    .map_err(|e| KeyError::Private(format!("{}: {e}", path.display())))?;
                let key = Key::from_info(info)?;
                keys.insert(key.address, key);
            }
        }
        Ok(Self {
            dir: dir.to_owned(),
            keys,
        })
    }

    pub(crate) fn add(&mut self, key: Key) -> Result<Address, KeyError> {
        let address = key.address;
        let path = self.dir.join(format!("{address}.json"));
        let json = serde_json::json!({ "Type": key.info.kind, "PrivateKey": key.info.private });
        files::write_secret(&path, json.to_string().as_bytes())?;
        self.keys.insert(address, key);
        Ok(address)
    }

    pub(crate) fn get(&self, address: &Address) -> Option<&Key> {
        self.keys.get(address)
    }

    pub(crate) fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.keys.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> [Key; 2] {
        [
            Key::from_seed(KeyKind::Secp256k1, b"a"),
            Key::from_seed(KeyKind::Bls, b"a"),
        ]
    }

    #[test]
    fn signature_verifies_for_its_data_and_address_only() {
        let [secp, bls] = keys();
        for (key, other) in [(&secp, &bls), (&bls, &secp)] {
            let signature = key.sign(b"data");
            verify(&signature, b"data", &key.address).unwrap();
            assert!(verify(&signature, b"Data", &key.address).is_err());
            assert!(verify(&signature, b"data", &other.address).is_err());
        }
        let stranger = Key::from_seed(KeyKind::Secp256k1, b"b");
        assert!(verify(&secp.sign(b"data"), b"data", &stranger.address).is_err());
    }

    #[test]
    fn signature_with_a_flipped_bit_is_refused() {
        for key in keys() {
            for bit in [0, 77, 300] {
                let mut signature = key.sign(b"data");
                signature.bytes[bit / 8] ^= 1 << (bit % 8);
                assert!(verify(&signature, b"data", &key.address).is_err());
            }
        }
    }

    #[test]
    fn keystore_gives_back_its_keys_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Keystore::open(dir.path()).unwrap();
        for key in keys() {
            store.add(key).unwrap();
        }
        let again = Keystore::open(dir.path()).unwrap();
        assert_eq!(
            again.addresses().collect::<Vec<_>>(),
            store.addresses().collect::<Vec<_>>()
        );
        assert_eq!(again.addresses().count(), 2);
    }

    #[test]
    fn vector_bls_private_key_is_little_endian() {
        // The generator of G1, compressed: the public key of the private key 1.
        let mut one = [0u8; 32];
        one[0] = 1;
        let key = Key::from_info(KeyInfo {
            kind: KeyKind::Bls,
            private: STANDARD.encode(one),
        })
        .unwrap();
        assert!(
            hex::encode(key.address.payload_bytes())
                .starts_with("97f1d3a73197d7942695638c4fa9ac0f")
        );
    }
}
