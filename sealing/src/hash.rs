//! 32-byte values (commitments, tickets, seeds) and the commitment of a piece of zeros.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};

use crate::{error::Error, proof::SealProof};

/// 32 bytes; hexadecimal in JSON and text.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hash32(pub [u8; 32]);

impl Hash32 {
    /// Cut to the field of the proofs, as the chain does with `PoSt` randomness and the proof
    /// library with replica ids: the two highest bits of the last byte are cleared.
    #[must_use]
    pub fn in_field(mut self) -> Self {
        self.0[31] &= 0x3f;
        self
    }
}

impl fmt::Display for Hash32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Hash32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Hash32 {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self, Error> {
        let mut out = [0; 32];
        match hex::decode_to_slice(s, &mut out) {
            Ok(()) => Ok(Self(out)),
            Err(e) => Err(Error::Input(format!(
                "{s:?} is not 32 bytes in hexadecimal: {e}"
            ))),
        }
    }
}

impl Serialize for Hash32 {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash32 {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(de::Error::custom)
    }
}

/// Bytes of any length; hexadecimal in JSON.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct HexBytes(pub Vec<u8>);

impl fmt::Debug for HexBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for HexBytes {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&hex::encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for HexBytes {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        hex::decode(text).map(Self).map_err(de::Error::custom)
    }
}

/// The commitment of a piece of zeros that fills a sector: `CommD` of committed capacity.
///
/// # Source
/// A binary tree of SHA-256 over 32-byte nodes, each result cut to the field.
pub fn zero_commitment(proof: SealProof) -> Hash32 {
    let mut node = Hash32::default();
    for _ in 0..proof.nodes().trailing_zeros() {
        let hash = Sha256::new()
            .chain_update(node.0)
            .chain_update(node.0)
            .finalize();
        node = Hash32(hash.into()).in_field();
    }
    node
}

/// The id that ties a replica to its prover, number, ticket and data.
///
/// # Source
/// SHA-256 over prover id, sector number (big-endian), ticket, `CommD` and the proof's own id.
pub fn replica_id(
    proof: SealProof,
    prover: &[u8; 32],
    number: u64,
    ticket: Hash32,
    comm_d: Hash32,
) -> Hash32 {
    let mut porep_id = [0; 32];
    porep_id[..8].copy_from_slice(&proof.number().to_le_bytes());
    let hash = Sha256::new()
        .chain_update(prover)
        .chain_update(number.to_be_bytes())
        .chain_update(ticket.0)
        .chain_update(comm_d.0)
        .chain_update(porep_id)
        .finalize();
    Hash32(hash.into()).in_field()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The commitments of empty sectors as the network knows them.
    #[test]
    fn vector_zero_commitments_of_2_kib_and_32_gib() {
        let known = [
            (
                SealProof::StackedDrg2KiBV1P1,
                "fc7e928296e516faade986b28f92d44a4f24b935485223376a799027bc18f833",
            ),
            (
                SealProof::StackedDrg32GiBV1P1,
                "077e5fde35c50a9303a55009e3498a4ebedff39c42b710b730d8ec7ac7afa63e",
            ),
        ];
        for (proof, want) in known {
            assert_eq!(zero_commitment(proof).to_string(), want, "{proof}");
        }
    }

    #[test]
    fn hash_of_wrong_length_is_refused() {
        assert!("00ff".parse::<Hash32>().is_err());
    }
}
