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

/// What a look at files found that the manifest did not say.
#[derive(Debug)]
pub(super) struct Learned {
    /// By file name: what was said of it, and what is to be.
    entries: BTreeMap<String, (Option<Entry>, Entry)>,
}

impl Learned {
    /// What differs.
    pub(super) fn of(before: &Manifest, after: Manifest) -> Self {
        let differs = |(name, entry): (String, Entry)| {
            let old = before.files.get(&name).cloned();
            (old.as_ref() != Some(&entry)).then_some((name, (old, entry)))
        };
        Self {
            entries: after.files.into_iter().filter_map(differs).collect(),
        }
    }

    pub(super) fn is_nothing(&self) -> bool {
        self.entries.is_empty()
    }

    /// Writes it into the manifest as that is now; the folder's lock is held. What another process said meanwhile stays,
    /// of the same file too: that is another file by then.
    pub(super) fn tell(self, dir: &Path) -> Result<()> {
        let mut now = Manifest::read(dir)?;
        for (name, (old, entry)) in self.entries {
            if now.files.get(&name) == old.as_ref() {
                now.files.insert(name, entry);
            }
        }
        now.write(dir)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(size_bytes: u64) -> Entry {
        Entry {
            size_bytes,
            modified_ns: 0,
            sha256: String::new(),
            origin: Origin::Made,
        }
    }

    fn manifest(files: &[(&str, u64)]) -> Manifest {
        let files = files
            .iter()
            .map(|(name, n)| ((*name).to_owned(), entry(*n)));
        Manifest {
            version: VERSION,
            files: files.collect(),
        }
    }

    #[test]
    fn what_two_processes_learn_at_once_is_kept_of_both() {
        let dir = tempfile::tempdir().unwrap();
        let before = manifest(&[("a", 1), ("b", 1)]);
        before.write(dir.path()).unwrap();
        let learned = Learned::of(&before, manifest(&[("a", 2), ("b", 2), ("c", 2)]));
        // Another process, between our look and our word.
        manifest(&[("a", 1), ("b", 3), ("d", 3)])
            .write(dir.path())
            .unwrap();
        learned.tell(dir.path()).unwrap();
        let want = manifest(&[("a", 2), ("b", 3), ("c", 2), ("d", 3)]);
        assert_eq!(Manifest::read(dir.path()).unwrap(), want);
    }
}
