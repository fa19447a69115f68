//! Proof types: which sector sizes exist, their names and their numbers on chain.
//!
//! Only the interactive `V1_1` family is here; its window PoSt is `V1_2` (on chain: `V1P1`).

use std::{fmt, str::FromStr};

use filecoin_proofs_api::{RegisteredPoStProof, RegisteredSealProof};
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// A way to seal a sector; it fixes the sector's size.
///
/// # Source
/// Numbers: `RegisteredSealProof` of the actors (5 to 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SealProof {
    /// 2 KiB, for tests.
    StackedDrg2KiBV1P1,
    /// 8 MiB, for tests.
    StackedDrg8MiBV1P1,
    /// 512 MiB, for tests.
    StackedDrg512MiBV1P1,
    /// 32 GiB.
    StackedDrg32GiBV1P1,
    /// 64 GiB.
    StackedDrg64GiBV1P1,
}

impl SealProof {
    /// All of them, smallest first.
    pub const ALL: [Self; 5] = [
        Self::StackedDrg2KiBV1P1,
        Self::StackedDrg8MiBV1P1,
        Self::StackedDrg512MiBV1P1,
        Self::StackedDrg32GiBV1P1,
        Self::StackedDrg64GiBV1P1,
    ];

    /// The name, as in the actors and in our API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::StackedDrg2KiBV1P1 => "StackedDrg2KiBV1P1",
            Self::StackedDrg8MiBV1P1 => "StackedDrg8MiBV1P1",
            Self::StackedDrg512MiBV1P1 => "StackedDrg512MiBV1P1",
            Self::StackedDrg32GiBV1P1 => "StackedDrg32GiBV1P1",
            Self::StackedDrg64GiBV1P1 => "StackedDrg64GiBV1P1",
        }
    }

    /// The number on chain.
    pub const fn number(self) -> i64 {
        match self {
            Self::StackedDrg2KiBV1P1 => 5,
            Self::StackedDrg8MiBV1P1 => 6,
            Self::StackedDrg512MiBV1P1 => 7,
            Self::StackedDrg32GiBV1P1 => 8,
            Self::StackedDrg64GiBV1P1 => 9,
        }
    }

    /// The number of its window PoSt proof on chain.
    pub const fn window_number(self) -> i64 {
        self.number() + 5
    }

    /// The proof with this number on chain.
    pub fn from_number(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.number() == number)
    }

    /// The proof whose window PoSt has this number on chain. How a sector was sealed (interactive, synthetic,
    /// non-interactive) makes no difference to its window PoSt: that goes by its size.
    pub fn from_window_number(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.window_number() == number)
    }

    /// Size of a sector, bytes.
    pub const fn sector_bytes(self) -> u64 {
        match self {
            Self::StackedDrg2KiBV1P1 => 2 << 10,
            Self::StackedDrg8MiBV1P1 => 8 << 20,
            Self::StackedDrg512MiBV1P1 => 512 << 20,
            Self::StackedDrg32GiBV1P1 => 32 << 30,
            Self::StackedDrg64GiBV1P1 => 64 << 30,
        }
    }

    /// Nodes of 32 bytes in a sector.
    pub const fn nodes(self) -> u64 {
        self.sector_bytes() / 32
    }

    /// Layers of PC1.
    pub const fn layers(self) -> u32 {
        match self {
            Self::StackedDrg2KiBV1P1 | Self::StackedDrg8MiBV1P1 | Self::StackedDrg512MiBV1P1 => 2,
            Self::StackedDrg32GiBV1P1 | Self::StackedDrg64GiBV1P1 => 11,
        }
    }

    /// Whether nobody stores value in such sectors, so that their parameters may be made here.
    pub const fn is_test_size(self) -> bool {
        self.sector_bytes() <= 512 << 20
    }

    /// Sectors in one window PoSt partition.
    pub fn window_partition_sectors(self) -> usize {
        self.window().sector_count()
    }

    /// The proof library's name for it.
    pub(crate) const fn seal(self) -> RegisteredSealProof {
        match self {
            Self::StackedDrg2KiBV1P1 => RegisteredSealProof::StackedDrg2KiBV1_1,
            Self::StackedDrg8MiBV1P1 => RegisteredSealProof::StackedDrg8MiBV1_1,
            Self::StackedDrg512MiBV1P1 => RegisteredSealProof::StackedDrg512MiBV1_1,
            Self::StackedDrg32GiBV1P1 => RegisteredSealProof::StackedDrg32GiBV1_1,
            Self::StackedDrg64GiBV1P1 => RegisteredSealProof::StackedDrg64GiBV1_1,
        }
    }

    /// The proof library's name for its window PoSt.
    pub(crate) const fn window(self) -> RegisteredPoStProof {
        match self {
            Self::StackedDrg2KiBV1P1 => RegisteredPoStProof::StackedDrgWindow2KiBV1_2,
            Self::StackedDrg8MiBV1P1 => RegisteredPoStProof::StackedDrgWindow8MiBV1_2,
            Self::StackedDrg512MiBV1P1 => RegisteredPoStProof::StackedDrgWindow512MiBV1_2,
            Self::StackedDrg32GiBV1P1 => RegisteredPoStProof::StackedDrgWindow32GiBV1_2,
            Self::StackedDrg64GiBV1P1 => RegisteredPoStProof::StackedDrgWindow64GiBV1_2,
        }
    }
}

impl fmt::Display for SealProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for SealProof {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|p| p.name() == s)
            .ok_or_else(|| {
                let names = Self::ALL.map(Self::name).join(", ");
                Error::Input(format!("unknown seal proof {s:?}; known are {names}"))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_numbers_and_sizes_agree_with_the_proof_library() {
        for (i, p) in SealProof::ALL.into_iter().enumerate() {
            assert_eq!(p.name().parse::<SealProof>().unwrap(), p);
            assert_eq!(SealProof::from_number(p.number()), Some(p));
            assert_eq!(p.number(), 5 + i64::try_from(i).unwrap());
            assert_eq!(SealProof::from_window_number(10 + p.number() - 5), Some(p));
            assert_eq!(u64::from(p.seal().sector_size()), p.sector_bytes());
            assert_eq!(u64::from(p.window().sector_size()), p.sector_bytes());
        }
        assert_eq!(
            SealProof::StackedDrg32GiBV1P1.window_partition_sectors(),
            2349
        );
        assert_eq!(SealProof::StackedDrg2KiBV1P1.window_partition_sectors(), 2);
    }

    #[test]
    fn unknown_name_is_refused_with_the_known_ones() {
        let e = "StackedDrg2KiBV1".parse::<SealProof>().unwrap_err();
        assert!(e.to_string().contains("StackedDrg2KiBV1P1"));
    }
}
