//! Lotus's forms of a key: a small JSON, and the hex of it.

use std::fmt;

use serde::Deserialize;
use zeroize::{Zeroize, Zeroizing};

use super::Error;

/// The kind of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// f1 addresses.
    Secp256k1,
    /// f3 addresses.
    Bls,
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Secp256k1 => "secp256k1",
            Self::Bls => "bls",
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct KeyInfo {
    r#type: String,
    private_key: String,
}

impl Drop for KeyInfo {
    fn drop(&mut self) {
        self.private_key.zeroize();
    }
}

/// Reads either form.
pub(super) fn parse(text: &str) -> Result<(KeyKind, Zeroizing<Vec<u8>>), Error> {
    let text = text.trim();
    let json: Zeroizing<Vec<u8>> = if text.starts_with('{') {
        Zeroizing::new(text.as_bytes().to_vec())
    } else {
        Zeroizing::new(hex::decode(text).map_err(|_would_quote_the_key| Error::Form)?)
    };
    let info: KeyInfo =
        serde_json::from_slice(&json).map_err(|_would_quote_the_key| Error::Form)?;
    let kind = match info.r#type.as_str() {
        "secp256k1" => KeyKind::Secp256k1,
        "bls" => KeyKind::Bls,
        _ => return Err(Error::Kind),
    };
    let secret = crate::types::json::from_base64(&info.private_key)
        .map_err(|_would_quote_the_key| Error::Form)?;
    Ok((kind, Zeroizing::new(secret)))
}

/// Writes the hex form.
pub(super) fn export(kind: KeyKind, secret: &[u8; 32]) -> Zeroizing<String> {
    let key = Zeroizing::new(crate::types::json::to_base64(secret));
    let json = Zeroizing::new(format!(
        r#"{{"Type":"{kind}","PrivateKey":"{}"}}"#,
        key.as_str()
    ));
    Zeroizing::new(hex::encode(json.as_bytes()))
}
