//! Randomness of the chain: what it is for, and how it is drawn.
//!
//! Source: lotus `chain/rand`; builtin-actors `runtime/src/runtime/randomness.rs`.

use crate::types::{ActorId, Epoch};

/// What randomness is for; the domain separation tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tag {
    /// A block's ticket.
    TicketProduction,
    /// Whether a miner may make a block.
    ElectionProof,
    /// The challenge of a winning proof.
    WinningPostChallengeSeed,
    /// The challenge of a window proof.
    WindowedPostChallengeSeed,
    /// The ticket that sealing starts from; drawn from tickets.
    SealRandomness,
    /// The seed between pre-commit and proof; drawn from the beacon.
    InteractiveSealChallengeSeed,
    /// What a window proof says about the chain; drawn from tickets.
    PostChainCommit,
}

impl Tag {
    /// The number.
    pub fn number(self) -> i64 {
        match self {
            Self::TicketProduction => 1,
            Self::ElectionProof => 2,
            Self::WinningPostChallengeSeed => 3,
            Self::WindowedPostChallengeSeed => 4,
            Self::SealRandomness => 5,
            Self::InteractiveSealChallengeSeed => 6,
            Self::PostChainCommit => 9,
        }
    }
}

/// blake2b-256.
pub(crate) fn blake2b_256(parts: &[&[u8]]) -> [u8; 32] {
    let mut state = blake2b_simd::Params::new().hash_length(32).to_state();
    for part in parts {
        state.update(part);
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(state.finalize().as_bytes());
    hash
}

/// The digest of a ticket's VRF proof or of a beacon entry.
pub fn digest(source: &[u8]) -> [u8; 32] {
    blake2b_256(&[source])
}

/// Draws randomness from a digest, as every node does.
pub fn draw(tag: Tag, digest: &[u8; 32], epoch: Epoch, entropy: &[u8]) -> [u8; 32] {
    blake2b_256(&[
        &tag.number().to_be_bytes(),
        digest,
        &epoch.0.to_be_bytes(),
        entropy,
    ])
}

/// The entropy of all draws for a miner: the CBOR of its id address.
///
/// # Panics
/// Never: an address always has CBOR.
pub fn miner_entropy(miner: ActorId) -> Vec<u8> {
    fvm_ipld_encoding::to_vec(&miner.address())
        .expect("invariant: an id address is a short byte string")
}

/// Cuts randomness to the field of the proofs, as PoSt challenges need it.
pub fn to_field(mut randomness: [u8; 32]) -> [u8; 32] {
    randomness[31] &= 0x3f;
    randomness
}

/// The prover id in proofs: the actor id as ULEB128, padded with zeros.
pub fn prover_id(miner: ActorId) -> [u8; 32] {
    let mut id = [0; 32];
    let mut rest = miner.0;
    for byte in &mut id {
        let low = rest.to_le_bytes()[0] & 0x7f;
        rest >>= 7;
        *byte = if rest == 0 { low } else { low | 0x80 };
        if rest == 0 {
            break;
        }
    }
    id
}
