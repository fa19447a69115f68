//! Templates: what all sectors of committed capacity of one size share is made once for each scratch
//! folder and cloned, by reflink where the file system has it.
//!
//! That is tree-d of zeros. (The data itself is a file without blocks, which costs nothing.) Each row
//! of that tree is one value over and over, so it is made without hashing its parts and can be
//! checked without a digest.
//!
//! Effects: `<scratch>/template/`. Never: a template that was not compared with the commitment that
//! zeros must have; another sector's file changed.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    durable,
    error::{Error, Result},
    hash::{Hash32, zero_commitment},
    proof::SealProof,
};

/// Folder of templates inside scratch.
pub(crate) const FOLDER: &str = "template";

const NODE_BYTES: u64 = 32;
const BLOCK_BYTES: usize = 1 << 20;
/// Nodes of a template that are looked at before each use.
const SAMPLES: u64 = 256;

/// What a template was when all of it was compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stamp {
    inode: u64,
    size_bytes: u64,
    changed_seconds: i64,
    changed_nanos: i64,
}

impl Stamp {
    fn of(path: &Path) -> Result<Option<Self>> {
        match fs::metadata(path) {
            Ok(m) => Ok(Some(Self {
                inode: m.ino(),
                size_bytes: m.len(),
                changed_seconds: m.ctime(),
                changed_nanos: m.ctime_nsec(),
            })),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("look at", path)(e)),
        }
    }
}

/// How a file was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cloned {
    /// Both files share their blocks.
    Reflink,
    /// The kernel copied.
    Copied,
}

/// Puts tree-d of zeros at `to`: from the template, which is made or repaired when it has to be.
///
/// # Errors
/// When the file system fails.
pub(crate) fn place_tree_d(scratch: &Path, proof: SealProof, to: &Path) -> Result<Cloned> {
    let template = ensure(scratch, proof)?;
    durable::remove(to)?;
    let tmp = durable::temporary(to);
    durable::remove(&tmp)?;
    let how = clone(&template, &tmp)?;
    durable::publish(&tmp, to)?;
    Ok(how)
}

/// The template, checked: all of it when it changed since it was checked last, samples always.
fn ensure(scratch: &Path, proof: SealProof) -> Result<PathBuf> {
    let dir = scratch.join(FOLDER);
    durable::create_dir(&dir)?;
    let path = dir.join(format!("{proof}-tree-d.dat"));
    let _lock = lock(&dir.join(format!("{proof}.lock")))?;
    let rows = rows(proof)?;
    if is_good(&path, &rows)? {
        return Ok(path);
    }
    if durable::remove(&path)? {
        tracing::warn!(path = %path.display(), "this template is damaged: it is made again");
    }
    let tmp = durable::temporary(&path);
    write(&tmp, &rows)?;
    durable::publish(&tmp, &path)?;
    stamp(&path)?;
    Ok(path)
}

/// One maker at a time; the others wait for it.
fn lock(path: &Path) -> Result<File> {
    let file = File::options().create(true).append(true).open(path);
    let file = file.map_err(Error::io("create", path))?;
    flock(&file, FlockOperation::LockExclusive).map_err(|e| Error::io("lock", path)(e.into()))?;
    Ok(file)
}

/// The value of each row and how often it stands there, leaves first.
///
/// # Errors
/// `Fatal` when the root is not the commitment of zeros: then our hashing is broken.
fn rows(proof: SealProof) -> Result<Vec<(Hash32, u64)>> {
    let (mut node, mut count) = (Hash32::default(), proof.nodes());
    let mut rows = Vec::new();
    while count > 0 {
        rows.push((node, count));
        let hash = Sha256::new().chain_update(node.0).chain_update(node.0);
        node = Hash32(hash.finalize().into()).in_field();
        count /= 2;
    }
    if rows.last().map(|(root, _)| *root) != Some(zero_commitment(proof)) {
        let text = "the root of zeros is not their commitment: this program is broken";
        return Err(Error::Setup(text.to_owned()));
    }
    Ok(rows)
}

fn is_good(path: &Path, rows: &[(Hash32, u64)]) -> Result<bool> {
    let want: u64 = rows.iter().map(|(_, n)| n * NODE_BYTES).sum();
    let Some(now) = Stamp::of(path)?.filter(|s| s.size_bytes == want) else {
        return Ok(false);
    };
    let before = fs::read(stamp_file(path)).ok();
    let before = before.and_then(|text| serde_json::from_slice::<Stamp>(&text).ok());
    if before == Some(now) {
        return samples_hold(path, rows);
    }
    if !all_holds(path, rows)? {
        return Ok(false);
    }
    stamp(path)?;
    Ok(true)
}

fn stamp_file(path: &Path) -> PathBuf {
    path.with_extension("json")
}

fn stamp(path: &Path) -> Result<()> {
    let now = Stamp::of(path)?;
    let text = serde_json::to_vec_pretty(&now)
        .map_err(|e| Error::Setup(format!("{} as JSON: {e}", path.display())))?;
    durable::write(&stamp_file(path), &text)
}

/// The ends of every row, and nodes spread over the file.
fn samples_hold(path: &Path, rows: &[(Hash32, u64)]) -> Result<bool> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let mut start = 0;
    for (value, count) in rows {
        let step = (count / SAMPLES).max(1);
        let inner = (0..*count).step_by(usize::try_from(step).unwrap_or(usize::MAX));
        for i in inner.chain([count - 1]) {
            let mut node = [0; 32];
            file.read_exact_at(&mut node, (start + i) * NODE_BYTES)
                .map_err(Error::io("read", path))?;
            if node != value.0 {
                return Ok(false);
            }
        }
        start += count;
    }
    Ok(true)
}

fn all_holds(path: &Path, rows: &[(Hash32, u64)]) -> Result<bool> {
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    let mut found = vec![0; BLOCK_BYTES];
    let mut good = true;
    blocks(rows, |want| {
        let found = &mut found[..want.len()];
        file.read_exact(found).map_err(Error::io("read", path))?;
        good &= found == want;
        Ok(good)
    })?;
    Ok(good)
}

fn write(path: &Path, rows: &[(Hash32, u64)]) -> Result<()> {
    let mut file = File::create(path).map_err(Error::io("create", path))?;
    blocks(rows, |block| {
        file.write_all(block).map_err(Error::io("write", path))?;
        Ok(true)
    })
}

/// The content of the tree, in blocks; `f` says whether to go on.
fn blocks(rows: &[(Hash32, u64)], mut f: impl FnMut(&[u8]) -> Result<bool>) -> Result<()> {
    for (value, count) in rows {
        let block = value.0.repeat(BLOCK_BYTES / 32);
        let mut left = count * NODE_BYTES;
        while left > 0 {
            let now = usize::try_from(left).map_or(block.len(), |l| l.min(block.len()));
            if !f(&block[..now])? {
                return Ok(());
            }
            left -= now as u64;
        }
    }
    Ok(())
}

/// Clones a file to a new one: shared blocks where the file system can, else a copy by the kernel.
fn clone(from: &Path, to: &Path) -> Result<Cloned> {
    let source = File::open(from).map_err(Error::io("open", from))?;
    let target = File::create(to).map_err(Error::io("create", to))?;
    if rustix::fs::ioctl_ficlone(&target, &source).is_ok() {
        return Ok(Cloned::Reflink);
    }
    // The library's copy is copy_file_range where there is that, and reads and writes elsewhere.
    let copied = io::copy(&mut &source, &mut &target).map_err(Error::io("write", to))?;
    let want = source.metadata().map_err(Error::io("look at", from))?.len();
    if copied == want {
        Ok(Cloned::Copied)
    } else {
        let why = format!("only {copied} of {want} bytes could be copied");
        Err(Error::damaged(from, why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROOF: SealProof = SealProof::StackedDrg2KiBV1P1;

    fn place(dir: &Path) -> Vec<u8> {
        let to = dir.join("tree-d.dat");
        place_tree_d(dir, PROOF, &to).unwrap();
        fs::read(to).unwrap()
    }

    /// A tree over zeros, hashed node by node.
    fn honest() -> Vec<u8> {
        let mut row = vec![[0u8; 32]; 64];
        let mut all = row.concat();
        while row.len() > 1 {
            let parent = |p: &[[u8; 32]]| {
                let hash = Sha256::new().chain_update(p[0]).chain_update(p[1]);
                Hash32(hash.finalize().into()).in_field().0
            };
            row = row.chunks(2).map(parent).collect();
            all.extend(row.concat());
        }
        all
    }

    #[test]
    fn tree_d_of_zeros_is_the_tree_over_zeros() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            assert!(place(dir.path()) == honest());
        }
    }

    #[test]
    fn damaged_template_is_found_and_made_again() {
        let dir = tempfile::tempdir().unwrap();
        place(dir.path());
        let template = dir.path().join(FOLDER).join(format!("{PROOF}-tree-d.dat"));
        for damage in [
            |p: &Path| {
                let mut bytes = fs::read(p).unwrap();
                bytes[1000] ^= 1;
                fs::write(p, bytes).unwrap();
            },
            |p: &Path| fs::write(p, b"short").unwrap(),
            |p: &Path| fs::remove_file(p).unwrap(),
            |p: &Path| fs::remove_file(stamp_file(p)).unwrap(),
            |p: &Path| fs::write(stamp_file(p), b"{").unwrap(),
        ] {
            damage(&template);
            assert!(place(dir.path()) == honest());
            assert!(fs::read(&template).unwrap() == honest());
        }
    }

    #[test]
    fn clone_is_a_file_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        place(dir.path());
        fs::write(dir.path().join("tree-d.dat"), b"spoilt").unwrap();
        assert!(place(dir.path()) == honest());
    }
}
