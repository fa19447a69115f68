//! Why an action was not done.

use filstar_chain::class::Class;
use filstar_chain::{message, node, wallet};
use filstar_core::world::Id;

use crate::secrets;

/// An action was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The object changed since the plan: plan again.
    #[error("it changed meanwhile")]
    Conflict,
    /// The name is taken.
    #[error("the name is taken")]
    Taken,
    /// The object is gone.
    #[error("it is gone")]
    Gone,
    /// The reason for a delete no longer holds.
    #[error("the reason for it no longer holds: {0}")]
    NoLongerDue(&'static str),
    /// We do not lead, or not for long enough.
    #[error("this process does not hold the Lease")]
    NotLeader,
    /// The API server did not answer in time. The write may have been made.
    #[error("the API server did not answer in time")]
    Timeout,
    /// The API server refuses.
    #[error("the API server refuses: {0}")]
    Refused(String),
    /// The API server cannot be reached, or its answer cannot be read. The write may have been made.
    #[error("the API server: {0}")]
    Api(Box<kube::Error>),
    /// No chain node is healthy.
    #[error("no chain node of Miner {0} is in use")]
    NotConnected(Id),
    /// A chain node's answer.
    #[error(transparent)]
    Chain(node::Error),
    /// Bytes are not what they should be.
    #[error(transparent)]
    Bytes(#[from] message::Error),
    /// Signing failed.
    #[error(transparent)]
    Wallet(#[from] wallet::Error),
    /// A Secret cannot be used.
    #[error(transparent)]
    Secret(#[from] secrets::Error),
    /// An object has a value that cannot be used.
    #[error("{0}")]
    Invalid(String),
    /// A pod may not be evicted now.
    #[error("{message}")]
    EvictionRefused {
        /// The disruption budget that speaks against it, if it is one.
        budget: Option<String>,
        /// What the API server says.
        message: String,
    },
    /// The fee bound is too low for the base fee.
    #[error("{0}")]
    FeeBound(String),
}

impl Error {
    /// Sorts an error of the API client.
    pub(super) fn from_api(error: kube::Error) -> Self {
        let kube::Error::Api(status) = error else {
            return Self::Api(Box::new(error));
        };
        match status.code {
            409 if status.is_already_exists() => Self::Taken,
            409 => Self::Conflict,
            404 => Self::Gone,
            400..=499 if status.code != 429 => Self::Refused(status.message.clone()),
            _ => Self::Api(Box::new(kube::Error::Api(status))),
        }
    }

    /// Whether the write may have been made although it failed.
    pub(super) fn is_unclear(&self) -> bool {
        matches!(self, Self::Timeout | Self::Api(_))
    }

    /// Whether the world was only older than we thought: plan again, nothing is wrong.
    pub fn is_harmless(&self) -> bool {
        matches!(
            self,
            Self::Conflict | Self::Taken | Self::Gone | Self::NoLongerDue(_) | Self::NotLeader
        )
    }

    /// Whether the API server answered, and the answer is no.
    pub(super) fn is_refusal(&self) -> bool {
        let is_answer = |error: &kube::Error| matches!(error, kube::Error::Api(_));
        matches!(self, Self::Refused(_)) || matches!(self, Self::Api(error) if is_answer(error))
    }

    /// What to do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::Conflict
            | Self::Taken
            | Self::Gone
            | Self::NoLongerDue(_)
            | Self::NotLeader
            | Self::Timeout
            | Self::Api(_)
            | Self::NotConnected(_)
            | Self::EvictionRefused { .. }
            | Self::FeeBound(_) => Class::Temporary,
            Self::Refused(_) | Self::Invalid(_) => Class::Permanent,
            Self::Chain(error) => error.class(),
            Self::Bytes(error) => error.class(),
            Self::Wallet(error) => error.class(),
            Self::Secret(error) => error.class(),
        }
    }

    /// Name of the variant, for metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Conflict => "Conflict",
            Self::Taken => "Taken",
            Self::Gone => "Gone",
            Self::NoLongerDue(_) => "NoLongerDue",
            Self::NotLeader => "NotLeader",
            Self::Timeout => "Timeout",
            Self::Refused(_) => "Refused",
            Self::Api(_) => "Api",
            Self::NotConnected(_) => "NotConnected",
            Self::Chain(_) => "Chain",
            Self::Bytes(_) => "Bytes",
            Self::Wallet(_) => "Wallet",
            Self::Secret(_) => "Secret",
            Self::Invalid(_) => "Invalid",
            Self::EvictionRefused { .. } => "EvictionRefused",
            Self::FeeBound(_) => "FeeBound",
        }
    }
}
