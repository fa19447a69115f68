//! Files that survive a crash: written under a temporary name, synced, renamed, folder synced.
//!
//! Effects: the file system. Never: a half-written file under its final name.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

const BUFFER_BYTES: usize = 1 << 20;

/// The temporary name that belongs to `path`.
pub fn temporary(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    path.with_file_name(name)
}

/// Makes renames and removals in a folder durable.
///
/// # Errors
/// When the folder cannot be opened or synced.
pub fn sync_dir(dir: &Path) -> Result<()> {
    let d = File::open(dir).map_err(Error::io("open", dir))?;
    d.sync_all().map_err(Error::io("sync", dir))
}

/// Creates a folder and its parents.
///
/// # Errors
/// When it cannot be created.
pub fn create_dir(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).map_err(Error::io("create", dir))
}

/// Syncs `from`, gives it the name `to` and syncs the folder.
///
/// # Errors
/// When `from` cannot be synced or renamed.
pub fn publish(from: &Path, to: &Path) -> Result<()> {
    let f = File::open(from).map_err(Error::io("open", from))?;
    f.sync_all().map_err(Error::io("sync", from))?;
    fs::rename(from, to).map_err(Error::io("rename", from))?;
    sync_dir(parent(to))
}

/// Writes a whole file durably.
///
/// # Errors
/// When any step fails; the final name is then untouched.
pub fn write(path: &Path, content: &[u8]) -> Result<()> {
    create_dir(parent(path))?;
    let tmp = temporary(path);
    let mut f = File::create(&tmp).map_err(Error::io("create", &tmp))?;
    f.write_all(content).map_err(Error::io("write", &tmp))?;
    drop(f);
    publish(&tmp, path)
}

/// Removes a file, and says whether it was there.
///
/// # Errors
/// When it is there and cannot be removed.
pub fn remove(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(Error::io("remove", path)(e)),
    }
}

/// Removes a folder with all in it, and says whether it was there.
///
/// # Errors
/// When it is there and cannot be removed.
pub fn remove_dir(path: &Path) -> Result<bool> {
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(Error::io("remove", path)(e)),
    }
}

/// Size of a file, or none when it is not there.
///
/// # Errors
/// When the system cannot tell.
pub fn size(path: &Path) -> Result<Option<u64>> {
    match fs::metadata(path) {
        Ok(m) => Ok(Some(m.len())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("look at", path)(e)),
    }
}

/// Whether two paths lead to one file or folder, by symlinks and mounts too; one that is not there is no other.
///
/// # Errors
/// When the system cannot tell.
pub fn is_same(a: &Path, b: &Path) -> Result<bool> {
    let which = |path: &Path| match fs::metadata(path) {
        Ok(m) => Ok(Some((m.dev(), m.ino()))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("look at", path)(e)),
    };
    let a = which(a)?;
    Ok(a.is_some() && a == which(b)?)
}

/// Names of the files in a folder, sorted; empty when there is no such folder.
///
/// # Errors
/// When the folder cannot be read.
pub fn list(dir: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(d) => d,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io("list", dir)(e)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(Error::io("list", dir))?;
        if let Ok(name) = entry.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// SHA-256 of a file, hexadecimal.
///
/// # Errors
/// When the file cannot be read.
pub fn sha256(path: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    each_block(path, |block| {
        hash.update(block);
        Ok(())
    })?;
    Ok(hex::encode(hash.finalize()))
}

/// Copies a file to a new one, syncs it, and returns the SHA-256 of what was read.
///
/// # Errors
/// When reading, writing or syncing fails.
pub fn copy(from: &Path, to: &Path) -> Result<String> {
    let mut out = File::create(to).map_err(Error::io("create", to))?;
    let mut hash = Sha256::new();
    each_block(from, |block| {
        hash.update(block);
        out.write_all(block).map_err(Error::io("write", to))
    })?;
    out.sync_all().map_err(Error::io("sync", to))?;
    Ok(hex::encode(hash.finalize()))
}

/// Reads a file block by block.
///
/// # Errors
/// When reading fails, or what `f` returns.
pub fn each_block(path: &Path, mut f: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => f(&buffer[..n])?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::io("read", path)(e)),
        }
    }
}

/// The folder of a file.
pub(crate) fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or_else(|| Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_leaves_no_temporary_file_and_replaces_the_old_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b.json");
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(list(&dir.path().join("a")).unwrap(), ["b.json"]);
    }

    #[test]
    fn vector_sha256_of_abc() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        write(&path, b"abc").unwrap();
        let want = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(&path).unwrap(), want);
        assert_eq!(copy(&path, &dir.path().join("y")).unwrap(), want);
    }

    #[test]
    fn missing_file_is_named_in_the_error() {
        let e = sha256(Path::new("/nonexistent/s-t01000-7")).unwrap_err();
        assert!(e.to_string().contains("/nonexistent/s-t01000-7"), "{e}");
    }
}
