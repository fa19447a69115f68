//! BLS12-381: f3 addresses, signatures in G2.

use bls_signatures::{PrivateKey, PublicKey, Serialize, Signature, verify_messages};
use fvm_shared::address::Address;

fn key(secret: &[u8; 32]) -> Option<PrivateKey> {
    // The library takes zero for a key: its public key is the point at infinity.
    if secret.iter().all(|byte| *byte == 0) {
        return None;
    }
    PrivateKey::from_bytes(secret).ok()
}

pub(super) fn address(secret: &[u8; 32]) -> Option<Address> {
    Address::new_bls(&key(secret)?.public_key().as_bytes()).ok()
}

pub(super) fn sign(secret: &[u8; 32], bytes: &[u8]) -> Option<Vec<u8>> {
    Some(key(secret)?.sign(bytes).as_bytes())
}

pub(super) fn verify(signature: &[u8], bytes: &[u8], address: &Address) -> bool {
    if address.is_bls_zero_address() {
        return false;
    }
    let key = PublicKey::from_bytes(&address.payload_bytes());
    let signature = Signature::from_bytes(signature);
    match (key, signature) {
        (Ok(key), Ok(signature)) => verify_messages(&signature, &[bytes], &[key]),
        (Ok(_) | Err(_), _) => false,
    }
}
