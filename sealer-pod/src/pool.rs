//! The memory that all PC1 of this pod share for their layers: where its account is kept, and how large it is.
//!
//! The operator says how large, since its admission counts on that number; the processes keep the account among themselves.
//! Effects: a folder among the temporary files.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

/// The variable that names the pool to a PC1 process: a folder of all of them, a colon, bytes.
pub(crate) const VARIABLE: &str = "FILSTAR_PC1_POOL";
/// Name of the folder.
const FOLDER: &str = "pc1-pool";

/// The pool of this pod.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    folder: PathBuf,
    bytes: u64,
}

impl Shared {
    /// A pool of so many bytes; none for 0. What an earlier container of this pod kept account of is forgotten: its
    /// processes ended with it.
    pub(crate) fn new(tmp: &Path, bytes: u64) -> Option<Self> {
        let folder = tmp.join(FOLDER);
        drop(remove(&folder));
        (bytes > 0).then_some(Self { folder, bytes })
    }

    /// The value of the variable for a process that is about to start. The folder is there then: what else is in its place
    /// is taken away.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn for_process(&self) -> io::Result<OsString> {
        let folder = &self.folder;
        let make = || {
            if fs::symlink_metadata(folder).is_ok_and(|there| !there.is_dir()) {
                remove(folder)?;
            }
            fs::create_dir_all(folder)
        };
        make().map_err(|e| {
            let text = format!(
                "{}, where PC1 keep account of memory: {e}",
                folder.display()
            );
            io::Error::new(e.kind(), text)
        })?;
        let mut value = folder.clone().into_os_string();
        value.push(format!(":{}", self.bytes));
        Ok(value)
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(there) if there.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests;
