//! Networks, and how addresses and ids are written on them.

use std::fmt;
use std::str::FromStr;

use fvm_shared::address::{Address, Network as AddressNetwork};
use serde::{Deserialize, Serialize};

use super::Error;

/// Which Filecoin network. It fixes the address prefix and the network name and genesis that a node must report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// The real one.
    Mainnet,
    /// The public test network.
    Calibration,
    /// Any private network.
    Devnet,
}

impl Network {
    /// The prefix of addresses.
    pub fn prefix(self) -> char {
        match self {
            Self::Mainnet => 'f',
            Self::Calibration | Self::Devnet => 't',
        }
    }

    /// What `StateNetworkName` must answer; none for a devnet, which may have any name but the public ones.
    pub fn state_network_name(self) -> Option<&'static str> {
        match self {
            Self::Mainnet => Some("mainnet"),
            Self::Calibration => Some("calibrationnet"),
            Self::Devnet => None,
        }
    }

    /// The CID of the genesis block of a public network.
    pub fn genesis(self) -> Option<&'static str> {
        match self {
            Self::Mainnet => Some("bafy2bzacecnamqgqmifpluoeldx7zzglxcljo6oja4vrmtj7432rphldpdmm2"),
            Self::Calibration => {
                Some("bafy2bzacecyaggy24wol5ruvs6qm73gjibs2l2iyhcqmvi7r7a4ph7zx3yqd4")
            }
            Self::Devnet => None,
        }
    }

    /// Checks what a node answered to `StateNetworkName`.
    ///
    /// # Errors
    /// [`Error::WrongNetwork`].
    pub fn check_name(self, found: &str) -> Result<(), Error> {
        let ok = match self.state_network_name() {
            Some(name) => name == found,
            None => ![Self::Mainnet, Self::Calibration]
                .iter()
                .any(|public| public.state_network_name() == Some(found)),
        };
        let expected = match self.state_network_name() {
            Some(name) => format!("\"{name}\""),
            None => "a private network".to_owned(),
        };
        if ok {
            Ok(())
        } else {
            Err(Error::WrongNetwork {
                found: found.to_owned(),
                expected,
            })
        }
    }

    /// Writes an address as this network does.
    pub fn format(self, address: &Address) -> String {
        let text = address.to_string();
        // The first character is the prefix of a process-wide network that we never set.
        format!("{}{}", self.prefix(), text.get(1..).unwrap_or_default())
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mainnet => "mainnet",
            Self::Calibration => "calibration",
            Self::Devnet => "devnet",
        })
    }
}

impl FromStr for Network {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        [Self::Mainnet, Self::Calibration, Self::Devnet]
            .into_iter()
            .find(|network| network.to_string() == text)
            .ok_or_else(|| Error::Network {
                text: text.to_owned(),
            })
    }
}

/// Reads an address with either prefix.
///
/// # Errors
/// [`Error::Address`].
pub fn parse_address(text: &str) -> Result<Address, Error> {
    let network = if text.starts_with('t') {
        AddressNetwork::Testnet
    } else {
        AddressNetwork::Mainnet
    };
    network
        .parse_address(text)
        .map_err(|source| Error::Address {
            text: text.to_owned(),
            reason: source.to_string(),
        })
}

/// The number of an actor: `1000` in `f01000`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ActorId(pub u64);

impl ActorId {
    /// The id address.
    pub fn address(self) -> Address {
        Address::new_id(self.0)
    }

    /// As the network writes it: `f01000` or `t01000`.
    pub fn format(self, network: Network) -> String {
        network.format(&self.address())
    }
}

impl FromStr for ActorId {
    type Err = Error;

    /// Reads `f01000`, `t01000` or `1000`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let digits = text
            .strip_prefix("f0")
            .or_else(|| text.strip_prefix("t0"))
            .unwrap_or(text);
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        plain
            .then(|| digits.parse().ok())
            .flatten()
            .map(Self)
            .ok_or_else(|| Error::ActorId {
                text: text.to_owned(),
            })
    }
}

impl fmt::Display for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a sector; unique per miner, for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SectorNumber(pub u64);

impl fmt::Display for SectorNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<u64> for SectorNumber {
    fn from(number: u64) -> Self {
        Self(number)
    }
}
