//! The ledger: beside a sector's files, what each phase was computed from and what came out.
//!
//! A phase that finds a record of its own inputs, with all files as recorded, is done. A record of
//! other inputs, or with damaged files, means: compute again.
//!
//! Effects: the file system. Never: a record of files that were not synced before.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use crate::{
    durable,
    error::{Error, Result},
    sector::Place,
};

/// A file as it was when a phase finished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileFact {
    /// Relative to the root folder.
    pub path: PathBuf,
    /// Size, bytes.
    pub size_bytes: u64,
    /// SHA-256, hexadecimal.
    pub sha256: String,
}

impl FileFact {
    /// Syncs a file and describes it.
    pub(crate) fn sync(root: &Path, path: &Path) -> Result<Self> {
        Self::sync_known(root, path, None)
    }

    /// The same for a file whose digest is known since it was written.
    fn sync_known(root: &Path, path: &Path, digest: Option<String>) -> Result<Self> {
        let file = fs::File::open(path).map_err(Error::io("open", path))?;
        file.sync_all().map_err(Error::io("sync", path))?;
        let size_bytes = file.metadata().map_err(Error::io("look at", path))?.len();
        let sha256 = match digest {
            Some(known) => known,
            None => durable::sha256(path)?,
        };
        let relative = path.strip_prefix(root).unwrap_or(path).to_owned();
        Ok(Self {
            path: relative,
            size_bytes,
            sha256,
        })
    }

    /// Compares a file with its description.
    ///
    /// # Errors
    /// `Corrupt`, naming the file, when it differs.
    pub fn check(&self, root: &Path) -> Result<()> {
        self.check_reading(root, |_| {})
    }

    /// The same; what is read on the way is given to `each` too, in order.
    pub(crate) fn check_reading(&self, root: &Path, mut each: impl FnMut(&[u8])) -> Result<()> {
        self.check_size(root)?;
        let path = root.join(&self.path);
        let mut hash = Sha256::new();
        durable::each_block(&path, |block| {
            hash.update(block);
            each(block);
            Ok(())
        })?;
        if hex::encode(hash.finalize()) == self.sha256 {
            return Ok(());
        }
        Err(Error::damaged(
            &path,
            "its content is not what was written (SHA-256 differs)",
        ))
    }

    /// Compares only the size of a file with its description.
    ///
    /// # Errors
    /// `Corrupt`, naming the file, when it differs.
    pub fn check_size(&self, root: &Path) -> Result<()> {
        let path = root.join(&self.path);
        match durable::size(&path)? {
            Some(n) if n == self.size_bytes => Ok(()),
            Some(n) => {
                let why = format!("it has {n} bytes, {} were written", self.size_bytes);
                Err(Error::damaged(&path, why))
            }
            None => Err(Error::damaged(&path, "the file is gone")),
        }
    }
}

/// The phases that leave a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    AddPiece,
    Pc1,
    Pc2,
    C1,
    C2,
}

impl Phase {
    const ALL: [Self; 5] = [Self::AddPiece, Self::Pc1, Self::Pc2, Self::C1, Self::C2];

    const fn file(self) -> &'static str {
        match self {
            Self::AddPiece => "add-piece.json",
            Self::Pc1 => "pc1.json",
            Self::Pc2 => "pc2.json",
            Self::C1 => "c1.json",
            Self::C2 => "c2.json",
        }
    }
}

/// One phase's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record<I, O> {
    version: u32,
    /// What it was computed from.
    pub(crate) input: I,
    /// What came out.
    pub(crate) output: O,
    /// The files that it left.
    pub(crate) files: Vec<FileFact>,
}

const VERSION: u32 = 1;

impl<I, O> Record<I, O>
where
    I: Serialize + DeserializeOwned + PartialEq,
    O: Serialize + DeserializeOwned,
{
    /// Syncs and describes the files, then writes the record.
    pub(crate) fn write(
        place: &Place,
        phase: Phase,
        input: I,
        output: O,
        files: &[PathBuf],
    ) -> Result<Self> {
        Self::write_known(place, phase, input, output, files, &[])
    }

    /// The same with digests that are known since the files were written.
    pub(crate) fn write_known(
        place: &Place,
        phase: Phase,
        input: I,
        output: O,
        files: &[PathBuf],
        known: &[(PathBuf, [u8; 32])],
    ) -> Result<Self> {
        let mut facts = Vec::new();
        for path in files {
            let digest = known.iter().find(|(p, _)| p == path);
            let digest = digest.map(|(_, d)| hex::encode(d));
            facts.push(FileFact::sync_known(&place.root, path, digest)?);
        }
        for dir in folders(files) {
            durable::sync_dir(dir)?;
        }
        let record = Self {
            version: VERSION,
            input,
            output,
            files: facts,
        };
        let path = place.ledger().join(phase.file());
        let text = serde_json::to_vec_pretty(&record)
            .map_err(|e| Error::Setup(format!("{} as JSON: {e}", path.display())))?;
        durable::write(&path, &text)?;
        Ok(record)
    }

    /// The record of a phase, when there is one that can be read.
    pub(crate) fn read(place: &Place, phase: Phase) -> Result<Option<Self>> {
        let path = place.ledger().join(phase.file());
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io("read", path)(e)),
        };
        match serde_json::from_slice::<Self>(&text) {
            Ok(r) if r.version == VERSION => Ok(Some(r)),
            Ok(_) | Err(_) => {
                tracing::warn!(path = %path.display(), "unreadable record: the phase runs again");
                Ok(None)
            }
        }
    }

    /// The record of a phase, when it is of these inputs and its files are whole.
    pub(crate) fn valid(place: &Place, phase: Phase, input: &I) -> Result<Option<Self>> {
        let Some(record) = Self::read(place, phase)? else {
            return Ok(None);
        };
        if record.input != *input {
            return Ok(None);
        }
        for fact in &record.files {
            match fact.check(&place.root) {
                Ok(()) => {}
                Err(Error::Damaged { path, why }) => {
                    tracing::warn!(path = %path.display(), why, "the phase runs again");
                    return Ok(None);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(Some(record))
    }
}

/// Removes the records of a phase and of all after it.
pub(crate) fn forget_from(place: &Place, phase: Phase) -> Result<()> {
    for later in Phase::ALL.into_iter().skip_while(|p| *p != phase) {
        durable::remove(&place.ledger().join(later.file()))?;
    }
    Ok(())
}

fn folders(files: &[PathBuf]) -> Vec<&Path> {
    let mut dirs: Vec<_> = files.iter().map(|f| durable::parent(f)).collect();
    dirs.sort();
    dirs.dedup();
    dirs
}
