//! What can go wrong with files and inputs of the kernels.

use std::{
    io,
    path::{Path, PathBuf},
};

/// An error of a kernel; names the file or value that it is about.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An operation of the file system failed.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb: `read`, `create`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file has another size or content than it must have.
    #[error("{}: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A value that no caller may give.
    #[error("{0}")]
    Input(String),
    /// The machine has not enough memory.
    #[error("{0}")]
    Memory(String),
    /// Who started the work does not want it any more.
    #[error("stopped as asked")]
    Stopped,
}

/// Result of a kernel that works on files.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
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
