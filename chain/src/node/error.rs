//! What a node refuses, and what that means.
//!
//! Most refusals have code 1 and differ by their text alone. Texts are matched narrowly; whatever is not
//! recognised is Temporary.
//! Source: lotus `api/api_errors.go`, `chain/messagepool/messagepool.go`, go-jsonrpc `auth`; Forest `rpc`.

use crate::class::Class;
use crate::rpc::ErrorObject;
use crate::transport;
use crate::types;

/// A call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It did not get through.
    #[error(transparent)]
    Transport(#[from] transport::Error),
    /// A value in a call or an answer is not what it should be.
    #[error(transparent)]
    Value(#[from] types::Error),
    /// The token is good for less than the call needs.
    #[error(
        "endpoint {endpoint}: the token may not call {method}: it needs the permission \
         \"{needs}\"; make a token with it (lotus auth create-token --perm {needs}) and put it into the Secret"
    )]
    MissingPermission {
        /// The endpoint's name.
        endpoint: String,
        /// The method.
        method: &'static str,
        /// The permission: read, write, sign or admin.
        needs: String,
    },
    /// The node has no such method.
    #[error(
        "endpoint {endpoint} does not offer {method}: use a lotus or Forest node of a supported version"
    )]
    NoSuchMethod {
        /// The endpoint's name.
        endpoint: String,
        /// The method.
        method: &'static str,
    },
    /// No such actor in that state.
    #[error("{method}: there is no such actor on this chain: {message}")]
    ActorNotFound {
        /// The method.
        method: &'static str,
        /// The node's text.
        message: String,
    },
    /// The epoch has no tipset.
    #[error("{method}: the epoch has no blocks")]
    NullRound {
        /// The method.
        method: &'static str,
    },
    /// The node does not hold that old a state or block.
    #[error(
        "endpoint {endpoint} no longer has the state that {method} needs: ask an archive node ({message})"
    )]
    Forgotten {
        /// The endpoint's name.
        endpoint: String,
        /// The method.
        method: &'static str,
        /// The node's text.
        message: String,
    },
    /// The message would run out of gas in one block.
    #[error("{method}: the message runs out of gas: send fewer sectors in it ({message})")]
    OutOfGas {
        /// The method.
        method: &'static str,
        /// The node's text.
        message: String,
    },
    /// The message would fail on chain.
    #[error("{method}: the message would fail on chain{}: {message}", exit_code.map_or(String::new(), |code| format!(" with exit code {code}")))]
    Execution {
        /// The method.
        method: &'static str,
        /// The actor's exit code, when the text tells it.
        exit_code: Option<u32>,
        /// The node's text.
        message: String,
    },
    /// The message pool refuses the message.
    #[error("{method}: the message pool refuses the message ({refusal}): {message}")]
    Pool {
        /// The method.
        method: &'static str,
        /// Why, as a value.
        refusal: PoolRefusal,
        /// The node's text.
        message: String,
    },
    /// Anything else the node says.
    #[error("endpoint {endpoint}, {method}: {message} (code {code})")]
    Refused {
        /// The endpoint's name.
        endpoint: String,
        /// The method.
        method: &'static str,
        /// The node's number.
        code: i64,
        /// The node's text.
        message: String,
    },
    /// The answer is not what the method answers.
    #[error("{method}: the answer cannot be read ({reason}): {body}")]
    Unreadable {
        /// The method.
        method: &'static str,
        /// What the parser says.
        reason: String,
        /// The start of the answer.
        body: String,
    },
    /// The call cannot be written down.
    #[error("{method}: the call cannot be written ({reason})")]
    Unwritable {
        /// The method.
        method: &'static str,
        /// Why.
        reason: String,
    },
}

/// Why a message pool refuses a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PoolRefusal {
    /// The same bytes are in the pool: as good as success.
    AlreadyThere,
    /// The nonce has landed.
    NonceTooLow,
    /// The nonce is too far ahead.
    NonceGap,
    /// Another message has the nonce and bids as much.
    PremiumTooLow,
    /// The fee cap is below the network's least.
    FeeCapTooLow,
    /// The sender cannot pay.
    NotEnoughFunds,
    /// The sender has too many messages waiting.
    TooMany,
    /// The message is too long.
    TooBig,
    /// The signature does not fit.
    BadSignature,
    /// No block can ever hold the message as it is.
    NotValid,
}

impl std::fmt::Display for PoolRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::AlreadyThere => "already there",
            Self::NonceTooLow => "nonce has landed",
            Self::NonceGap => "nonce too far ahead",
            Self::PremiumTooLow => "replacement bids too little",
            Self::FeeCapTooLow => "fee cap too low",
            Self::NotEnoughFunds => "sender has not enough funds",
            Self::TooMany => "too many pending",
            Self::TooBig => "message too big",
            Self::BadSignature => "bad signature",
            Self::NotValid => "not valid in any block",
        })
    }
}

impl PoolRefusal {
    fn class(self) -> Class {
        match self {
            Self::AlreadyThere
            | Self::NonceGap
            | Self::PremiumTooLow
            | Self::NotEnoughFunds
            | Self::TooMany => Class::Temporary,
            Self::NonceTooLow
            | Self::FeeCapTooLow
            | Self::TooBig
            | Self::BadSignature
            | Self::NotValid => Class::Permanent,
        }
    }

    fn of(text: &str) -> Option<Self> {
        const TEXTS: &[(&str, PoolRefusal)] = &[
            (
                "message with nonce already exists",
                PoolRefusal::AlreadyThere,
            ),
            (
                "already in mpool, increase gaspremium",
                PoolRefusal::PremiumTooLow,
            ),
            (
                "replace by fee has too low gaspremium",
                PoolRefusal::PremiumTooLow,
            ),
            (
                "replacement message has too low gas premium",
                PoolRefusal::PremiumTooLow,
            ),
            ("message nonce too low", PoolRefusal::NonceTooLow),
            ("message sequence too low", PoolRefusal::NonceTooLow),
            ("unfulfilled nonce gap", PoolRefusal::NonceGap),
            ("gas fee cap too low", PoolRefusal::FeeCapTooLow),
            ("not enough funds", PoolRefusal::NotEnoughFunds),
            ("too many pending messages", PoolRefusal::TooMany),
            ("message too big", PoolRefusal::TooBig),
            ("signature verification failed", PoolRefusal::BadSignature),
            // A bare "validation failure" says that it may be taken later: a fee cap below what the base fee asks, or a
            // state that the node could not read. These do not.
            ("not valid for block inclusion", PoolRefusal::NotValid),
            ("will not be included in a block", PoolRefusal::NotValid),
            ("invalid to address", PoolRefusal::NotValid),
            ("more filecoin than will ever exist", PoolRefusal::NotValid),
            ("not a valid top-level sender", PoolRefusal::NotValid),
        ];
        TEXTS
            .iter()
            .find(|(part, _)| text.contains(part))
            .map(|(_, refusal)| *refusal)
    }
}

impl Error {
    /// What to do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::Transport(error) => error.class(),
            Self::Value(error) => error.class(),
            Self::MissingPermission { .. } | Self::NoSuchMethod { .. } => Class::Fatal,
            Self::ActorNotFound { .. }
            | Self::NullRound { .. }
            | Self::OutOfGas { .. }
            | Self::Execution { .. }
            | Self::Unwritable { .. } => Class::Permanent,
            Self::Pool { refusal, .. } => refusal.class(),
            Self::Forgotten { .. } | Self::Refused { .. } | Self::Unreadable { .. } => {
                Class::Temporary
            }
        }
    }

    /// A short name of the variant, for metric labels.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Transport(_) => "Transport",
            Self::Value(_) => "Value",
            Self::MissingPermission { .. } => "MissingPermission",
            Self::NoSuchMethod { .. } => "NoSuchMethod",
            Self::ActorNotFound { .. } => "ActorNotFound",
            Self::NullRound { .. } => "NullRound",
            Self::Forgotten { .. } => "Forgotten",
            Self::OutOfGas { .. } => "OutOfGas",
            Self::Execution { .. } => "Execution",
            Self::Pool { .. } => "Pool",
            Self::Refused { .. } => "Refused",
            Self::Unreadable { .. } => "Unreadable",
            Self::Unwritable { .. } => "Unwritable",
        }
    }

    /// Classifies a refusal of the node.
    pub fn refused(endpoint: &str, method: &'static str, refusal: ErrorObject) -> Self {
        let ErrorObject { code, message } = refusal;
        let endpoint = endpoint.to_owned();
        let text = message.to_ascii_lowercase();
        if text.contains("missing permission to invoke") {
            return Self::MissingPermission {
                endpoint,
                method,
                needs: needed_permission(&text),
            };
        }
        match code {
            -32601 => return Self::NoSuchMethod { endpoint, method },
            2 => return Self::OutOfGas { method, message },
            // Lotus until version 1.34 says 3.
            3 if text.contains("actor not found") => {
                return Self::ActorNotFound { method, message };
            }
            11 if !text.contains("message execution failed") => {
                return Self::ActorNotFound { method, message };
            }
            12 => return Self::NullRound { method },
            _ => {}
        }
        if text.contains("message execution failed") || code == 3 {
            return Self::Execution {
                method,
                exit_code: exit_code(&message),
                message,
            };
        }
        if let Some(refusal) = pushes(method).then(|| PoolRefusal::of(&text)).flatten() {
            return Self::Pool {
                method,
                refusal,
                message,
            };
        }
        if text.contains("actor not found") {
            return Self::ActorNotFound { method, message };
        }
        if text.contains("block not found") || text.contains("ipld: could not find") {
            return Self::Forgotten {
                endpoint,
                method,
                message,
            };
        }
        Self::Refused {
            endpoint,
            method,
            code,
            message,
        }
    }
}

fn pushes(method: &str) -> bool {
    method.starts_with("Mpool")
}

/// The permission in `missing permission to invoke 'MpoolPush' (need 'write')`.
fn needed_permission(text: &str) -> String {
    let after = text.split_once("need '").map(|(_, after)| after);
    let needed = after
        .and_then(|after| after.split_once('\''))
        .map(|(needed, _)| needed);
    match needed {
        Some(known @ ("read" | "write" | "sign" | "admin")) => known.to_owned(),
        Some(_) | None => "write".to_owned(),
    }
}

/// The number in `exit=[16]`, `exit=[ErrIllegalArgument(16)]`, `exit SysErrOutOfGas(7), …` or `(RetCode=16)`.
fn exit_code(message: &str) -> Option<u32> {
    const FRAMES: [(&str, char); 3] = [("exit=[", ']'), ("failed: exit ", ','), ("RetCode=", ')')];
    let framed = FRAMES.iter().find_map(|(start, end)| {
        let (_, after) = message.split_once(start)?;
        after.split(*end).next()
    })?;
    let digits = match framed.split_once('(') {
        Some((_name, rest)) => rest.trim_end_matches(')'),
        None => framed,
    };
    digits.trim().parse().ok()
}
