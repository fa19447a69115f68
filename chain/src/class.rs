//! What a caller should do about an error: the class every error of this crate has.

use std::fmt;

/// What to do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Try again, with growing pauses, maybe at another endpoint.
    Temporary,
    /// This attempt's inputs are no good: trying the same again cannot help.
    Permanent,
    /// Bytes are not what they claim to be.
    Corrupt,
    /// A person must look.
    Fatal,
}

impl Class {
    /// Whether the same attempt may succeed later.
    pub fn is_temporary(self) -> bool {
        self == Self::Temporary
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Temporary => "Temporary",
            Self::Permanent => "Permanent",
            Self::Corrupt => "Corrupt",
            Self::Fatal => "Fatal",
        })
    }
}
