//! What can go wrong in the engine, and what a caller should do about it.
//!
//! Every error has a class, which decides, and a text, which names the file or value and what to do.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// What a caller does about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Class {
    /// Nothing is wrong with the inputs: try again, with growing pauses, perhaps elsewhere.
    Temporary,
    /// The inputs of this attempt are no good: go back one phase.
    Permanent,
    /// A file is not what it should be: what was found damaged is removed; compute it again from
    /// the last good one.
    Corrupt,
    /// Only a person can help; the text says how.
    Fatal,
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

/// Result of the engine.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of the engine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An operation of the file system failed.
    #[error("{action} {}: {source}{}", path.display(), remedy(source.kind()))]
    Io {
        /// What was tried, as a verb: `read`, `create`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is missing, has another size or other content than recorded.
    #[error("{}: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it and what happens next.
        why: String,
    },
    /// A value in the request cannot be right.
    #[error("{0}")]
    Input(String),
    /// The proof library refused or failed.
    #[error("{step}: {text}")]
    Prover {
        /// The step that failed, such as `PC2`.
        step: &'static str,
        /// The library's words.
        text: String,
    },
    /// Parameters or parents are not where they must be. Temporary, although a person must put them
    /// there: a sector that waits loses time, one that is given up loses its deposit.
    #[error("{0}")]
    Parameters(String),
    /// The machine or the installation is not as it must be.
    #[error("{0}")]
    Setup(String),
}

impl Error {
    /// What to do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::Io { source, .. } if needs_a_person(source.kind()) => Class::Fatal,
            Self::Io { .. } | Self::Prover { .. } | Self::Parameters(_) => Class::Temporary,
            Self::Damaged { .. } => Class::Corrupt,
            Self::Input(_) => Class::Permanent,
            Self::Setup(_) => Class::Fatal,
        }
    }

    /// Wraps an error of the file system.
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    pub(crate) fn damaged(path: &Path, why: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            why: why.into(),
        }
    }
}

/// What to do about an error of the file system, where there is something to do.
fn remedy(kind: io::ErrorKind) -> &'static str {
    use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    if [StorageFull, QuotaExceeded].contains(&kind) {
        ". Free space on this disk, or give it more; nothing was removed, and the task goes on where \
         it was"
    } else if kind == ReadOnlyFilesystem {
        ". A mount turns read-only after errors of its disk: see the kernel's log of the node"
    } else if kind == PermissionDenied {
        ". The folder must be writable by the user of this pod (65532)"
    } else {
        ""
    }
}

/// Trying again does not help: a right, a mount or a setting is wrong.
fn needs_a_person(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{NotADirectory, PermissionDenied, ReadOnlyFilesystem, Unsupported};
    [
        NotADirectory,
        PermissionDenied,
        ReadOnlyFilesystem,
        Unsupported,
    ]
    .contains(&kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_disk_is_temporary_and_says_what_to_do() {
        let full = Error::io("write", "/scratch/x")(io::ErrorKind::StorageFull.into());
        assert_eq!(full.class(), Class::Temporary);
        let text = full.to_string();
        assert!(
            text.contains("/scratch/x") && text.contains("Free space"),
            "{text}"
        );
        let denied = Error::io("write", "/scratch/x")(io::ErrorKind::PermissionDenied.into());
        assert_eq!(denied.class(), Class::Fatal);
    }
}
