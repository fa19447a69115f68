//! Reads Secrets that Miners name: chain tokens and keys.
//!
//! Never: their values in any text. What is read is kept for a short time, so that polls do not ask each time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use filstar_chain::class::Class;
use filstar_chain::types::{Address, Network};
use filstar_chain::wallet::LocalSigner;
use filstar_core::world::Id;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

/// How long what was read counts.
const FRESH: Duration = Duration::from_secs(15);
/// A call that takes longer has failed.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The values of one Secret by key.
pub type Values = Arc<BTreeMap<String, Zeroizing<Vec<u8>>>>;

/// A Secret cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// There is none.
    #[error("Secret {0} does not exist: create it, or correct the name in the Miner")]
    Missing(Id),
    /// We may not read it.
    #[error(
        "the operator may not read Secret {0}: allow it to (chart value rbac.secretNamespaces)"
    )]
    Forbidden(Id),
    /// It lacks the key.
    #[error("Secret {id} has no key `{key}`: add it, or name another key in the Miner")]
    NoKey {
        /// The Secret.
        id: Id,
        /// The key.
        key: String,
    },
    /// A value is no token.
    #[error("Secret {id}, key `{key}`: this is not text")]
    NotText {
        /// The Secret.
        id: Id,
        /// The key.
        key: String,
    },
    /// A value is no key.
    #[error("Secret {id}, key `{key}`: {reason}")]
    BadKey {
        /// The Secret.
        id: Id,
        /// The key.
        key: String,
        /// What the parser says, without the value.
        reason: String,
    },
    /// No value is the sender's key.
    #[error("Secret {id} holds no key of {sender}: add it (lotus wallet export {sender})")]
    NoSigner {
        /// The Secret.
        id: Id,
        /// The sender.
        sender: String,
    },
    /// The API server did not say.
    #[error("Secret {id} cannot be read: {reason}")]
    Api {
        /// The Secret.
        id: Id,
        /// Why.
        reason: String,
    },
}

impl Error {
    /// What to do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::Api { .. } => Class::Temporary,
            Self::Missing(_)
            | Self::Forbidden(_)
            | Self::NoKey { .. }
            | Self::NotText { .. }
            | Self::BadKey { .. }
            | Self::NoSigner { .. } => Class::Fatal,
        }
    }
}

/// Reads Secrets.
#[derive(Clone)]
pub struct Secrets {
    client: Client,
    read: Arc<Mutex<BTreeMap<Id, (Instant, Values)>>>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets(***)")
    }
}

impl Secrets {
    /// A reader.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            read: Arc::default(),
        }
    }

    /// All values of a Secret.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Forbidden`], [`Error::Api`].
    pub async fn values(&self, id: &Id) -> Result<Values, Error> {
        let mut read = self.read.lock().await;
        read.retain(|_, (when, _)| when.elapsed() < FRESH);
        if let Some((_, values)) = read.get(id) {
            return Ok(values.clone());
        }
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &id.namespace);
        let reason = |reason: String| Error::Api {
            id: id.clone(),
            reason,
        };
        let answer = tokio::time::timeout(TIMEOUT, api.get(&id.name)).await;
        let secret = match answer {
            Err(_elapsed) => return Err(reason("no answer in time".into())),
            Ok(Err(kube::Error::Api(s))) if s.is_not_found() => {
                return Err(Error::Missing(id.clone()));
            }
            Ok(Err(kube::Error::Api(s))) if s.is_forbidden() => {
                return Err(Error::Forbidden(id.clone()));
            }
            Ok(Err(error)) => return Err(reason(error.to_string())),
            Ok(Ok(secret)) => secret,
        };
        let values = secret.data.unwrap_or_default().into_iter();
        let values: Values = Arc::new(values.map(|(k, v)| (k, Zeroizing::new(v.0))).collect());
        read.insert(id.clone(), (Instant::now(), values.clone()));
        Ok(values)
    }

    /// One value as text.
    ///
    /// # Errors
    /// Any but the errors of keys.
    pub async fn text(&self, id: &Id, key: &str) -> Result<Zeroizing<String>, Error> {
        let values = self.values(id).await?;
        let value = values.get(key);
        let value = value.ok_or_else(|| Error::NoKey {
            id: id.clone(),
            key: key.into(),
        })?;
        text(id, key, value)
    }

    /// The signer of an address, among the keys of a Secret.
    ///
    /// # Errors
    /// Any.
    pub async fn signer(
        &self,
        id: &Id,
        sender: &Address,
        network: Network,
    ) -> Result<LocalSigner, Error> {
        let values = self.values(id).await?;
        pick(id, &values, sender, network)
    }
}

fn text(id: &Id, key: &str, value: &[u8]) -> Result<Zeroizing<String>, Error> {
    std::str::from_utf8(value)
        .map(|text| Zeroizing::new(text.to_owned()))
        .map_err(|_would_quote| Error::NotText {
            id: id.clone(),
            key: key.into(),
        })
}

/// Finds the signer of an address. A value that is no key is reported only when the signer is not found.
fn pick(
    id: &Id,
    values: &BTreeMap<String, Zeroizing<Vec<u8>>>,
    sender: &Address,
    network: Network,
) -> Result<LocalSigner, Error> {
    let mut bad = None;
    for (key, value) in values {
        let bad_key = |reason| Error::BadKey {
            id: id.clone(),
            key: key.clone(),
            reason,
        };
        let signer = text(id, key, value)
            .and_then(|text| LocalSigner::from_lotus(&text).map_err(|e| bad_key(e.to_string())));
        match signer {
            Ok(signer) if signer.address() == *sender => return Ok(signer),
            Ok(_) => {}
            Err(error) => bad = bad.or(Some(error)),
        }
    }
    let sender = network.format(sender);
    Err(bad.unwrap_or(Error::NoSigner {
        id: id.clone(),
        sender,
    }))
}

#[cfg(test)]
mod tests {
    use filstar_chain::wallet::KeyKind;

    use super::*;

    fn secret(values: &[(&str, &str)]) -> BTreeMap<String, Zeroizing<Vec<u8>>> {
        let one = |(k, v): &(&str, &str)| ((*k).to_owned(), Zeroizing::new(v.as_bytes().to_vec()));
        values.iter().map(one).collect()
    }

    #[test]
    fn the_key_of_the_sender_is_found_among_others_whatever_it_is_called() {
        let first = LocalSigner::from_secret(KeyKind::Secp256k1, &[1; 32]).unwrap();
        let second = LocalSigner::from_secret(KeyKind::Bls, &[2; 32]).unwrap();
        let (a, b) = (first.to_lotus_export(), second.to_lotus_export());
        let values = secret(&[("junk", "no key"), ("x", &a), ("y", &b)]);
        let id = Id::new("ns", "keys");
        let found = pick(&id, &values, &second.address(), Network::Devnet).unwrap();
        assert_eq!(found.address(), second.address());
    }

    #[test]
    fn a_value_that_is_no_key_is_named_without_being_quoted() {
        let sender = LocalSigner::from_secret(KeyKind::Bls, &[2; 32])
            .unwrap()
            .address();
        let values = secret(&[("junk", "s3cret-text")]);
        let error = pick(&Id::new("ns", "keys"), &values, &sender, Network::Devnet).unwrap_err();
        assert!(error.to_string().contains("key `junk`"), "{error}");
        assert!(!error.to_string().contains("s3cret"), "{error}");
        let none = pick(
            &Id::new("ns", "keys"),
            &secret(&[]),
            &sender,
            Network::Devnet,
        )
        .unwrap_err();
        assert!(none.to_string().contains("holds no key of t3"), "{none}");
    }
}
