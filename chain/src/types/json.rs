//! The JSON forms that lotus uses, as modules for `#[serde(with = …)]`.
//!
//! A nil slice of Go is `null`: every list and byte string here reads `null` as empty.

use cid::Cid;
use serde::{Deserialize, Serialize};

use super::Error;

/// A CID: `{"/": "bafy…"}`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Link {
    /// The CID as text.
    #[serde(rename = "/")]
    pub cid: String,
}

impl Link {
    /// Reads the CID.
    ///
    /// # Errors
    /// [`Error::Cid`].
    pub fn parse(&self) -> Result<Cid, Error> {
        Cid::try_from(self.cid.as_str()).map_err(|source| Error::Cid {
            text: self.cid.clone(),
            reason: source.to_string(),
        })
    }
}

/// Standard base64 with padding.
pub(crate) fn to_base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

pub(crate) fn from_base64(text: &str) -> Result<Vec<u8>, base64::DecodeError> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text)
}

/// A CID.
pub mod cid_link {
    use cid::Cid;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    use super::Link;

    /// Writes `{"/": …}`.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(cid: &Cid, serializer: S) -> Result<S::Ok, S::Error> {
        Link {
            cid: cid.to_string(),
        }
        .serialize(serializer)
    }

    /// Reads `{"/": …}`.
    ///
    /// # Errors
    /// Not a CID.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Cid, D::Error> {
        Link::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// A CID or `null`.
pub mod cid_link_option {
    use cid::Cid;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    use super::Link;

    /// Writes `{"/": …}` or `null`.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(cid: &Option<Cid>, serializer: S) -> Result<S::Ok, S::Error> {
        cid.map(|cid| Link {
            cid: cid.to_string(),
        })
        .serialize(serializer)
    }

    /// Reads `{"/": …}` or `null`.
    ///
    /// # Errors
    /// Not a CID.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Cid>, D::Error> {
        let link: Option<Link> = Option::deserialize(deserializer)?;
        link.map(|link| link.parse())
            .transpose()
            .map_err(de::Error::custom)
    }
}

/// Bytes as base64; `null` is empty.
pub mod bytes {
    use serde::{Deserialize, Deserializer, Serializer, de};

    /// Writes base64.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::to_base64(bytes))
    }

    /// Reads base64.
    ///
    /// # Errors
    /// Not base64.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text: Option<String> = Option::deserialize(deserializer)?;
        super::from_base64(&text.unwrap_or_default()).map_err(de::Error::custom)
    }
}

/// An address with either prefix.
pub mod address {
    use fvm_shared::address::Address;
    use serde::{Deserialize, Deserializer, de};

    use crate::types::parse_address;

    /// Reads an address.
    ///
    /// # Errors
    /// Not an address.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Address, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_address(&text).map_err(de::Error::custom)
    }
}

/// An address that may be absent. Go writes an undefined address as `"<empty>"`.
pub mod address_option {
    use fvm_shared::address::Address;
    use serde::{Deserialize, Deserializer, de};

    use crate::types::parse_address;

    /// Reads an address, `"<empty>"`, `""` or `null`.
    ///
    /// # Errors
    /// Not an address.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Address>, D::Error> {
        let text: Option<String> = Option::deserialize(deserializer)?;
        match text.as_deref() {
            None | Some("" | "<empty>") => Ok(None),
            Some(text) => parse_address(text).map(Some).map_err(de::Error::custom),
        }
    }
}

/// A list of addresses; `null` is empty.
pub mod addresses {
    use fvm_shared::address::Address;
    use serde::{Deserialize, Deserializer, de};

    use crate::types::parse_address;

    /// Reads the list.
    ///
    /// # Errors
    /// Something in it is not an address.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<Address>, D::Error> {
        let texts: Option<Vec<String>> = Option::deserialize(deserializer)?;
        texts
            .unwrap_or_default()
            .iter()
            .map(|text| parse_address(text))
            .collect::<Result<_, _>>()
            .map_err(de::Error::custom)
    }
}

/// A list that Go may write as `null`.
pub mod list {
    use serde::{Deserialize, Deserializer};

    /// Reads a list or `null`.
    ///
    /// # Errors
    /// The elements'.
    pub fn deserialize<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
        deserializer: D,
    ) -> Result<Vec<T>, D::Error> {
        Option::deserialize(deserializer).map(Option::unwrap_or_default)
    }
}
