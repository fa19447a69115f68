//! The manifest beside the parameters: what each file was when it was made or first checked.

use std::{collections::BTreeMap, fs, io, os::unix::fs::MetadataExt, path::Path};

use serde::{Deserialize, Serialize};

use super::{Depth, Finding};
use crate::{
    durable,
    error::{Error, Result},
};

/// File name of the manifest.
pub(super) const MANIFEST: &str = "filstar-params.json";

const VERSION: u32 = 1;

/// All that is known of a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    version: u32,
    /// By file name.
    pub(super) files: BTreeMap<String, Entry>,
}

/// Where a file came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Origin {
    /// Made on this machine, for tests.
    Made,
    /// Found with the published digest.
    Published,
}

/// One file as it was when it was known to be good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry {
    size_bytes: u64,
    modified_ns: i128,
    sha256: String,
    origin: Origin,
}

impl Manifest {
    /// Reads it; a folder without one has an empty one, and so has a folder whose one is unreadable
    /// (its files are then not trusted, which is the safe side).
    pub(super) fn read(dir: &Path) -> Result<Self> {
        let empty = Self {
            version: VERSION,
            files: BTreeMap::new(),
        };
        let path = dir.join(MANIFEST);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(empty),
            Err(e) => return Err(Error::io("read", path)(e)),
        };
        match serde_json::from_slice::<Self>(&text) {
            Ok(m) if m.version == VERSION => Ok(m),
            Ok(_) | Err(_) => {
                tracing::warn!(path = %path.display(), "manifest is not readable: nothing in the folder is trusted");
                Ok(empty)
            }
        }
    }

    /// Writes it durably.
    pub(super) fn write(&self, dir: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self)
            .map_err(|e| Error::Setup(format!("{MANIFEST} cannot be written as JSON: {e}")))?;
        durable::write(&dir.join(MANIFEST), &text)
    }
}

impl Entry {
    /// Describes a file as it is now.
    pub(super) fn of(path: &Path, origin: Origin) -> Result<Self> {
        let (size_bytes, modified_ns) = stamp(path)?;
        Ok(Self {
            size_bytes,
            modified_ns,
            sha256: durable::sha256(path)?,
            origin,
        })
    }

    /// Size when it was known to be good, bytes.
    pub(super) const fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Compares a file with its description; a changed time with the same content is remembered.
    pub(super) fn compare(&mut self, path: &Path, depth: Depth) -> Result<Finding> {
        let (size, modified) = stamp(path)?;
        if size != self.size_bytes {
            let why = format!("has {size} bytes instead of {}", self.size_bytes);
            return Ok(Finding::Wrong(why));
        }
        if depth == Depth::Quick && modified == self.modified_ns {
            return Ok(Finding::Good);
        }
        if durable::sha256(path)? != self.sha256 {
            let why = "has the right size but another content (SHA-256)".to_owned();
            return Ok(Finding::Wrong(why));
        }
        self.modified_ns = modified;
        Ok(Finding::Good)
    }
}

fn stamp(path: &Path) -> Result<(u64, i128)> {
    let m = fs::metadata(path).map_err(Error::io("look at", path))?;
    Ok((
        m.len(),
        i128::from(m.mtime()) * 1_000_000_000 + i128::from(m.mtime_nsec()),
    ))
}
