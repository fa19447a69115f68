//! Registered proofs: their names, numbers and sector sizes.
//!
//! The numbers are those of the actors (`RegisteredSealProof`, `RegisteredPoStProof`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::Error;

/// The size of a sector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SectorSize {
    /// 2 KiB, for tests.
    Kib2,
    /// 8 MiB, for tests.
    Mib8,
    /// 512 MiB, for tests.
    Mib512,
    /// 32 GiB.
    Gib32,
    /// 64 GiB.
    Gib64,
}

impl SectorSize {
    /// Unit: bytes.
    pub fn bytes(self) -> u64 {
        match self {
            Self::Kib2 => 2 << 10,
            Self::Mib8 => 8 << 20,
            Self::Mib512 => 512 << 20,
            Self::Gib32 => 32 << 30,
            Self::Gib64 => 64 << 30,
        }
    }

    /// The size of so many bytes.
    pub fn from_bytes(bytes: u64) -> Option<Self> {
        [
            Self::Kib2,
            Self::Mib8,
            Self::Mib512,
            Self::Gib32,
            Self::Gib64,
        ]
        .into_iter()
        .find(|size| size.bytes() == bytes)
    }
}

impl fmt::Display for SectorSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kib2 => "2KiB",
            Self::Mib8 => "8MiB",
            Self::Mib512 => "512MiB",
            Self::Gib32 => "32GiB",
            Self::Gib64 => "64GiB",
        })
    }
}

macro_rules! seal_proofs {
    ($($name:ident = $number:literal $size:ident $family:literal;)*) => {
        /// How a sector is sealed. The name is the same in specs, on the command line and in logs.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum SealProof {
            $(
                #[doc = concat!("Registered seal proof ", stringify!($number), " (", $family, ").")]
                $name,
            )*
        }

        impl SealProof {
            /// All there are, by number.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The registered number, as in messages and answers.
            pub fn number(self) -> i64 {
                match self { $(Self::$name => $number,)* }
            }

            /// The size of the sectors it seals.
            pub fn sector_size(self) -> SectorSize {
                match self { $(Self::$name => SectorSize::$size,)* }
            }

            /// The name.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }
        }
    };
}

seal_proofs! {
    StackedDrg2KiBV1 = 0 Kib2 "V1, obsolete";
    StackedDrg8MiBV1 = 1 Mib8 "V1, obsolete";
    StackedDrg512MiBV1 = 2 Mib512 "V1, obsolete";
    StackedDrg32GiBV1 = 3 Gib32 "V1, obsolete";
    StackedDrg64GiBV1 = 4 Gib64 "V1, obsolete";
    StackedDrg2KiBV1P1 = 5 Kib2 "V1.1";
    StackedDrg8MiBV1P1 = 6 Mib8 "V1.1";
    StackedDrg512MiBV1P1 = 7 Mib512 "V1.1";
    StackedDrg32GiBV1P1 = 8 Gib32 "V1.1";
    StackedDrg64GiBV1P1 = 9 Gib64 "V1.1";
    StackedDrg2KiBV1P1Synthetic = 10 Kib2 "V1.1, synthetic";
    StackedDrg8MiBV1P1Synthetic = 11 Mib8 "V1.1, synthetic";
    StackedDrg512MiBV1P1Synthetic = 12 Mib512 "V1.1, synthetic";
    StackedDrg32GiBV1P1Synthetic = 13 Gib32 "V1.1, synthetic";
    StackedDrg64GiBV1P1Synthetic = 14 Gib64 "V1.1, synthetic";
    StackedDrg2KiBV1P2Ni = 15 Kib2 "V1.2, non-interactive";
    StackedDrg8MiBV1P2Ni = 16 Mib8 "V1.2, non-interactive";
    StackedDrg512MiBV1P2Ni = 17 Mib512 "V1.2, non-interactive";
    StackedDrg32GiBV1P2Ni = 18 Gib32 "V1.2, non-interactive";
    StackedDrg64GiBV1P2Ni = 19 Gib64 "V1.2, non-interactive";
}

impl SealProof {
    /// The proof with this registered number.
    pub fn from_number(number: i64) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|proof| proof.number() == number)
    }

    /// The window proof (V1P1) of sectors sealed so.
    pub fn window_post_proof(self) -> PostProof {
        PostProof(10 + self.size_index())
    }

    /// The winning proof of sectors sealed so.
    pub fn winning_post_proof(self) -> PostProof {
        PostProof(self.size_index())
    }

    fn size_index(self) -> i64 {
        match self.sector_size() {
            SectorSize::Kib2 => 0,
            SectorSize::Mib8 => 1,
            SectorSize::Mib512 => 2,
            SectorSize::Gib32 => 3,
            SectorSize::Gib64 => 4,
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

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL
            .iter()
            .copied()
            .find(|proof| proof.name() == text)
            .ok_or_else(|| Error::SealProof {
                text: text.to_owned(),
            })
    }
}

impl Serialize for SealProof {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(self.number())
    }
}

impl<'de> Deserialize<'de> for SealProof {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = i64::deserialize(deserializer)?;
        Self::from_number(number)
            .ok_or_else(|| de::Error::custom(format!("{number} is not a registered seal proof")))
    }
}

/// The registered number of a proof of spacetime: 0–4 winning, 5–9 window V1, 10–14 window V1P1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PostProof(pub i64);

impl PostProof {
    /// Whether it proves a window.
    pub fn is_window(self) -> bool {
        (5..=14).contains(&self.0)
    }
}
