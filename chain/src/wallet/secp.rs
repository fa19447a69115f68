//! secp256k1: f1 addresses, recoverable ECDSA over blake2b-256.

use fvm_shared::address::Address;
use k256::ecdsa::{RecoveryId, Signature, SigningKey, VerifyingKey};

use crate::randomness::blake2b_256;

/// r‖s‖v.
const SIGNATURE_BYTES: usize = 65;

pub(super) fn address(secret: &[u8; 32]) -> Option<Address> {
    let key = SigningKey::from_slice(secret).ok()?;
    address_of(key.verifying_key())
}

fn address_of(key: &VerifyingKey) -> Option<Address> {
    Address::new_secp256k1(key.to_encoded_point(false).as_bytes()).ok()
}

pub(super) fn sign(secret: &[u8; 32], bytes: &[u8]) -> Option<Vec<u8>> {
    let key = SigningKey::from_slice(secret).ok()?;
    let (signature, recovery) = key.sign_prehash_recoverable(&blake2b_256(&[bytes])).ok()?;
    let mut out = signature.to_bytes().to_vec();
    out.push(recovery.to_byte());
    Some(out)
}

pub(super) fn verify(signature: &[u8], bytes: &[u8], address: &Address) -> bool {
    recover(signature, bytes).is_some_and(|signer| signer == *address)
}

fn recover(signature: &[u8], bytes: &[u8]) -> Option<Address> {
    if signature.len() != SIGNATURE_BYTES {
        return None;
    }
    let (rs, v) = signature.split_at(SIGNATURE_BYTES - 1);
    let signature = Signature::from_slice(rs).ok()?;
    let recovery = RecoveryId::from_byte(*v.first()?)?;
    let key =
        VerifyingKey::recover_from_prehash(&blake2b_256(&[bytes]), &signature, recovery).ok()?;
    address_of(&key)
}
