//! Hashes, CIDs and CBOR: the few functions that everything else shares.

use cid::Cid;
use cid::multihash::Multihash;
use fvm_ipld_encoding::DAG_CBOR;
use serde::Serialize;
use serde::de::DeserializeOwned;

const BLAKE2B_256: u64 = 0xb220;

/// blake2b with a digest of 32 bytes.
pub(crate) fn blake2b256(parts: &[&[u8]]) -> [u8; 32] {
    let mut state = blake2b_simd::Params::new().hash_length(32).to_state();
    for part in parts {
        state.update(part);
    }
    let mut out = [0u8; 32];
    out.copy_from_slice(state.finalize().as_bytes());
    out
}

/// The CID of a dag-cbor block.
pub(crate) fn cbor_cid(block: &[u8]) -> Cid {
    let hash = Multihash::wrap(BLAKE2B_256, &blake2b256(&[block]))
        .expect("invariant: a digest of 32 bytes fits a multihash of 64");
    Cid::new_v1(DAG_CBOR, hash)
}

/// CBOR of a value that is known to be encodable.
pub(crate) fn cbor<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    fvm_ipld_encoding::to_vec(value)
        .expect("invariant: our own types have no maps with other than text keys")
}

/// A value from CBOR.
pub(crate) fn from_cbor<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, fvm_ipld_encoding::Error> {
    fvm_ipld_encoding::from_slice(bytes)
}

/// Randomness for one purpose: the digest of a ticket or beacon entry, bound to tag, epoch, entropy.
pub(crate) fn draw_randomness(tag: i64, digest: &[u8; 32], epoch: i64, entropy: &[u8]) -> [u8; 32] {
    blake2b256(&[&tag.to_be_bytes(), digest, &epoch.to_be_bytes(), entropy])
}

/// `n` bytes that follow from the parts; used where a real chain has a VRF or a beacon.
pub(crate) fn expand(parts: &[&[u8]], n: usize) -> Vec<u8> {
    let root = blake2b256(parts);
    let mut out = Vec::with_capacity(n + 32);
    let mut counter = 0u8;
    while out.len() < n {
        out.extend_from_slice(&blake2b256(&[&root, &[counter]]));
        counter = counter.wrapping_add(1);
    }
    out.truncate(n);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vector_randomness_is_the_hash_of_tag_digest_epoch_entropy() {
        // Computed with another implementation of blake2b.
        assert_eq!(
            hex::encode(draw_randomness(5, &[7; 32], 1234, b"miner")),
            "8541ae541442bd271de4f35ab231cdf4d6db43c7d06d5d78f6a54329c4fa9d91"
        );
    }

    #[test]
    fn expand_gives_the_length_asked_for_and_differs_by_input() {
        assert_eq!(expand(&[b"a"], 96).len(), 96);
        assert_ne!(expand(&[b"a"], 96), expand(&[b"b"], 96));
    }
}
