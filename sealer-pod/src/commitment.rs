//! Commitments as the chain writes them: CIDs that hold the 32 bytes.
//!
//! # Source
//! Multicodec table: `fil-commitment-unsealed` 0xf101 with `sha2-256-trunc254-padded` 0x1012,
//! `fil-commitment-sealed` 0xf102 with `poseidon-bls12_381-a2-fc1` 0xb401.

use cid::{Cid, multihash::Multihash};
use filstar_sealing::{Class, Hash32};

use crate::wire::Failure;

/// Which commitment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `CommD`.
    Data,
    /// `CommR`.
    Replica,
}

impl Kind {
    const fn codes(self) -> (u64, u64) {
        match self {
            Self::Data => (0xf101, 0x1012),
            Self::Replica => (0xf102, 0xb401),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Data => "CommD",
            Self::Replica => "CommR",
        }
    }
}

/// The CID of a commitment.
pub(crate) fn to_cid(kind: Kind, hash: Hash32) -> Cid {
    let (codec, code) = kind.codes();
    let multihash = Multihash::wrap(code, &hash.0).expect("32 bytes fit into 64");
    Cid::new_v1(codec, multihash)
}

/// The commitment in a CID.
///
/// # Errors
/// `Permanent` when the CID is of another kind.
pub(crate) fn from_cid(kind: Kind, cid: &Cid) -> Result<Hash32, Failure> {
    let hash = cid.hash();
    let digest = <[u8; 32]>::try_from(hash.digest());
    match digest {
        Ok(bytes) if (cid.codec(), hash.code()) == kind.codes() => Ok(Hash32(bytes)),
        Ok(_) | Err(_) => Err(Failure::new(
            Class::Permanent,
            format!("{cid} is no {}", kind.name()),
        )),
    }
}

/// The commitment in the text of a CID.
///
/// # Errors
/// `Permanent` when it is no CID or of another kind.
pub(crate) fn parse(kind: Kind, text: &str) -> Result<Hash32, Failure> {
    let cid = Cid::try_from(text).map_err(|e| {
        Failure::new(
            Class::Permanent,
            format!("{} {text:?} is no CID: {e}", kind.name()),
        )
    })?;
    from_cid(kind, &cid)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The zero commitment of 2 KiB, as every devnet of lotus shows it.
    #[test]
    fn vector_comm_d_of_an_empty_2_kib_sector() {
        let hash = "fc7e928296e516faade986b28f92d44a4f24b935485223376a799027bc18f833";
        let hash: Hash32 = hash.parse().unwrap();
        let text = to_cid(Kind::Data, hash).to_string();
        assert_eq!(
            text,
            "baga6ea4seaqpy7usqklokfx2vxuynmupslkeutzexe2uqurdg5vhtebhxqmpqmy"
        );
        assert_eq!(parse(Kind::Data, &text), Ok(hash));
    }

    #[test]
    fn commitment_of_the_other_kind_is_refused() {
        let text = to_cid(Kind::Replica, Hash32([1; 32])).to_string();
        assert!(text.starts_with("bagboea4b5abc"), "{text}");
        assert_eq!(parse(Kind::Replica, &text), Ok(Hash32([1; 32])));
        assert!(parse(Kind::Data, &text).is_err());
        assert!(parse(Kind::Data, "nonsense").is_err());
    }
}
