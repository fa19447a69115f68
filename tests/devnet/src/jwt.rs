//! Bearer tokens as lotus makes them: JWT, HS256, payload `{"Allow":["read",…]}`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// What a token allows. Each is asked for by name; `admin` does not imply the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Permission {
    Read,
    Write,
    Sign,
    Admin,
}

impl Permission {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Sign => "sign",
            Self::Admin => "admin",
        }
    }

    /// The first `n` permissions, as lotus makes its tokens: each level has all below it.
    pub(crate) fn up_to(self) -> Vec<Self> {
        [Self::Read, Self::Write, Self::Sign, Self::Admin]
            .into_iter()
            .filter(|p| *p <= self)
            .collect()
    }
}

#[derive(Serialize, Deserialize)]
struct Payload {
    #[serde(rename = "Allow")]
    allow: Vec<String>,
}

/// A token for these permissions.
pub(crate) fn issue(secret: &[u8], allow: &[Permission]) -> String {
    let names: Vec<&str> = allow.iter().map(|p| p.name()).collect();
    let payload = serde_json::json!({ "Allow": names }).to_string();
    let head = URL_SAFE_NO_PAD.encode(br#"{"alg":"HS256","typ":"JWT"}"#);
    let body = format!("{head}.{}", URL_SAFE_NO_PAD.encode(payload));
    let mac = URL_SAFE_NO_PAD.encode(hmac_sha256(secret, body.as_bytes()));
    format!("{body}.{mac}")
}

/// The permissions of a token, or none if it is not ours.
pub(crate) fn verify(secret: &[u8], token: &str) -> Option<Vec<Permission>> {
    let (body, mac) = token.rsplit_once('.')?;
    let (head, payload) = body.split_once('.')?;
    let head: serde_json::Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(head).ok()?).ok()?;
    if head.get("alg")?.as_str()? != "HS256" {
        return None;
    }
    let mac = URL_SAFE_NO_PAD.decode(mac).ok()?;
    if !equal(&mac, &hmac_sha256(secret, body.as_bytes())) {
        return None;
    }
    let payload: Payload = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    Some(
        payload
            .allow
            .iter()
            .filter_map(|name| parse(name))
            .collect(),
    )
}

/// A permission by its name.
pub(crate) fn parse(name: &str) -> Option<Permission> {
    match name {
        "read" => Some(Permission::Read),
        "write" => Some(Permission::Write),
        "sign" => Some(Permission::Sign),
        "admin" => Some(Permission::Admin),
        _ => None,
    }
}

/// Comparison whose time does not tell where the difference is.
fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0u8, |acc, (x, y)| acc | (x ^ y)) == 0
}

fn hmac_sha256(secret: &[u8], data: &[u8]) -> [u8; 32] {
    let mut key = [0u8; 64];
    if secret.len() > key.len() {
        key[..32].copy_from_slice(&Sha256::digest(secret));
    } else {
        key[..secret.len()].copy_from_slice(secret);
    }
    let inner = Sha256::new()
        .chain_update(key.map(|b| b ^ 0x36))
        .chain_update(data)
        .finalize();
    Sha256::new()
        .chain_update(key.map(|b| b ^ 0x5c))
        .chain_update(inner)
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vector_hmac_of_rfc_4231_case_2() {
        let mac = hmac_sha256(b"Jefe", b"what do ya want for nothing?");
        assert_eq!(
            hex::encode(mac),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn token_gives_its_permissions_back_and_no_others() {
        let token = issue(b"secret", &Permission::Write.up_to());
        assert_eq!(
            verify(b"secret", &token),
            Some(vec![Permission::Read, Permission::Write])
        );
    }

    #[test]
    fn token_of_another_secret_or_changed_is_refused() {
        let token = issue(b"secret", &Permission::Read.up_to());
        assert_eq!(verify(b"other", &token), None);
        let strong = issue(b"x", &Permission::Admin.up_to());
        let forged: Vec<&str> = strong
            .split('.')
            .take(2)
            .chain(token.rsplit('.').take(1))
            .collect();
        assert_eq!(verify(b"secret", &forged.join(".")), None);
        assert_eq!(verify(b"secret", "nonsense"), None);
    }
}
