//! Layers on disk: written as they grow, read back as far as they are good.
//!
//! ```text
//! sc-02-data-layer-3.dat            a whole layer
//! sc-02-data-layer-3.dat.part       one that grows
//! sc-02-data-layer-3.dat.journal    how far either is good
//! ```
//! Never: a mark in a journal before its labels are on the disk; a whole layer without a journal.

use std::{
    fmt, fs,
    fs::File,
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::journal::{Head, Mark};
use crate::error::{Error, Result};

const LABEL_BYTES: u64 = 32;
const BUFFER_BYTES: usize = 1 << 20;
/// What writing past the page cache wants places, sizes and memory to be multiples of.
const PAGE: usize = 4096;

/// What a layer is written with. Tests put disks here that are full or die.
pub trait Disk: fmt::Debug + Sync {
    /// Writes all bytes at the file's end.
    ///
    /// # Errors
    /// What the file system says.
    fn write(&self, file: &File, bytes: &[u8]) -> io::Result<()>;

    /// Waits until a file or folder is on the disk.
    ///
    /// # Errors
    /// What the file system says.
    fn sync(&self, file: &File) -> io::Result<()>;

    /// Gives a file another name.
    ///
    /// # Errors
    /// What the file system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
}

/// The disk as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn write(&self, mut file: &File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }
}

/// File name of a layer.
pub fn layer_name(layer: u32) -> String {
    format!("sc-02-data-layer-{layer}.dat")
}

/// Takes a layer's right to be whole, after somebody found that it is not what was written. The next
/// [`label`](super::label) reads it again, goes on after the last good segment, and keeps the layers
/// after it, which were made of the right labels.
///
/// # Errors
/// When it is there and cannot be renamed.
pub fn distrust(layer: &Path) -> Result<()> {
    let mut part = layer.as_os_str().to_owned();
    part.push(".part");
    match fs::rename(layer, &part) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("rename", layer)(e)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// One layer of one lane.
#[derive(Clone, Debug)]
pub(super) struct LayerFile {
    folder: PathBuf,
    head: Head,
}

/// What of a layer was found on disk.
#[derive(Debug)]
pub(super) struct Found {
    /// Whether the file has its final name.
    pub(super) whole: bool,
    /// How far it says to be good.
    pub(super) marks: Vec<Mark>,
}

/// How far a layer was read and found good.
#[derive(Debug, Default)]
pub(super) struct Good {
    /// Whether it was read from a file with its final name.
    whole: bool,
    /// Its marks, each with the hash after it.
    pub(super) marks: Vec<(Mark, Sha256)>,
    /// What is wrong after them.
    pub(super) damage: Option<String>,
}

impl Good {
    /// Its last node that is good, and all before it.
    pub(super) fn nodes(&self) -> u64 {
        self.marks.last().map_or(0, |(m, _)| m.nodes)
    }

    /// Forgets what is after a node.
    pub(super) fn cut(&mut self, nodes: u64) {
        self.marks.retain(|(m, _)| m.nodes <= nodes);
    }
}

impl LayerFile {
    pub(super) const fn new(folder: PathBuf, head: Head) -> Self {
        Self { folder, head }
    }

    /// The file when it is whole.
    pub(super) fn path(&self) -> PathBuf {
        self.folder.join(layer_name(self.head.layer))
    }

    fn with(&self, suffix: &str) -> PathBuf {
        let name = layer_name(self.head.layer);
        self.folder.join(format!("{name}.{suffix}"))
    }

    fn part(&self) -> PathBuf {
        self.with("part")
    }

    fn journal(&self) -> PathBuf {
        self.with("journal")
    }

    /// Looks what is there, by names, sizes and the journal; reads no labels.
    pub(super) fn find(&self) -> Result<Found> {
        let mut marks = self.head.marks(&read_text(&self.journal())?);
        let whole = size(&self.path())?;
        if whole == Some(self.head.nodes * LABEL_BYTES)
            && marks.last().is_some_and(|m| m.nodes == self.head.nodes)
        {
            return Ok(Found { whole: true, marks });
        }
        let part = size(&self.part())?.unwrap_or(0);
        marks.retain(|m| m.nodes * LABEL_BYTES <= part);
        Ok(Found {
            whole: false,
            marks,
        })
    }

    /// Reads labels up to the last mark, as far as digests are right, and gives each run of labels
    /// to `take` with the number of its first node. What was given after the last good mark is
    /// damaged.
    pub(super) fn read(
        &self,
        found: &Found,
        mut take: impl FnMut(u64, &[[u8; 32]]),
    ) -> Result<Good> {
        let path = if found.whole {
            self.path()
        } else {
            self.part()
        };
        let mut good = Good {
            whole: found.whole,
            ..Good::default()
        };
        if found.marks.is_empty() {
            return Ok(good);
        }
        let mut file = File::open(&path).map_err(Error::io("open", &path))?;
        let (mut hash, mut at) = (Sha256::new(), 0);
        let mut buffer = vec![0; BUFFER_BYTES];
        for mark in &found.marks {
            while at < mark.nodes {
                let want = (mark.nodes - at).min((BUFFER_BYTES / 32) as u64);
                let bytes = usize::try_from(want * LABEL_BYTES).unwrap_or(BUFFER_BYTES);
                let bytes = &mut buffer[..bytes];
                file.read_exact(bytes).map_err(Error::io("read", &path))?;
                hash.update(&*bytes);
                take(at, bytes.as_chunks().0);
                at += want;
            }
            if Mark::of(at, &hash) != *mark {
                let from = good.nodes();
                good.damage = Some(format!(
                    "{}: labels of nodes {from} to {at} are not what was written (SHA-256 differs)",
                    path.display()
                ));
                break;
            }
            good.marks.push((*mark, hash.clone()));
        }
        Ok(good)
    }

    /// Leaves of the layer what is good, under the name of one that grows, ready to go on.
    pub(super) fn reopen<'d>(&self, good: &Good, disk: &'d dyn Disk) -> Result<Writer<'d>> {
        let (path, part) = (self.path(), self.part());
        if size(&path)?.is_some() {
            if !good.whole || good.marks.is_empty() {
                remove(&path)?;
            } else {
                // What was recorded as whole is a part from now on; the journal knows how far.
                disk.rename(&path, &part)
                    .map_err(Error::io("rename", &path))?;
            }
        }
        let bytes = good.nodes() * LABEL_BYTES;
        let mut options = File::options();
        let labels = options.create(true).append(true).open(&part);
        let labels = labels.and_then(|file| file.set_len(bytes).map(|()| file));
        let labels = labels.map_err(Error::io("open", &part))?;
        // Not all file systems have this.
        let direct = options.create(false).custom_flags(libc::O_DIRECT);
        let direct = direct.open(&part).ok();
        let marks: Vec<_> = good.marks.iter().map(|(m, _)| *m).collect();
        let journal = self.begin_journal(&marks, disk)?;
        sync_folder(&self.folder, disk)?;
        Ok(Writer {
            layer: self.clone(),
            labels,
            direct,
            journal,
            nodes: good.nodes(),
            hash: good.marks.last().map_or_else(Sha256::new, |m| m.1.clone()),
            disk,
        })
    }

    /// Puts a new journal into the place of an old one, in one step.
    fn begin_journal(&self, marks: &[Mark], disk: &dyn Disk) -> Result<File> {
        let (path, new) = (self.journal(), self.with("journal.tmp"));
        let file = File::create(&new).map_err(Error::io("create", &new))?;
        disk.write(&file, self.head.text(marks).as_bytes())
            .and_then(|()| disk.sync(&file))
            .map_err(Error::io("write", &new))?;
        disk.rename(&new, &path)
            .map_err(Error::io("rename", &new))?;
        Ok(file)
    }
}

/// A layer that grows.
#[derive(Debug)]
pub(super) struct Writer<'d> {
    layer: LayerFile,
    labels: File,
    /// The same file, written past the page cache: that saves a copy, and its pages are for parents.
    direct: Option<File>,
    journal: File,
    nodes: u64,
    hash: Sha256,
    disk: &'d dyn Disk,
}

impl Writer<'_> {
    /// Adds labels; when it returns they are on the disk, and the journal says so.
    pub(super) fn add(&mut self, labels: &[u8]) -> Result<()> {
        let (part, journal) = (self.layer.part(), self.layer.journal());
        self.put(labels).map_err(Error::io("write", &part))?;
        self.hash.update(labels);
        self.nodes += labels.len() as u64 / LABEL_BYTES;
        self.disk
            .sync(&self.labels)
            .map_err(Error::io("sync", &part))?;
        let line = Mark::of(self.nodes, &self.hash).line();
        self.disk
            .write(&self.journal, line.as_bytes())
            .and_then(|()| self.disk.sync(&self.journal))
            .map_err(Error::io("write", journal))
    }

    fn put(&mut self, labels: &[u8]) -> io::Result<()> {
        let at = self.nodes * LABEL_BYTES;
        let fits = labels.len().is_multiple_of(PAGE)
            && labels.as_ptr().addr().is_multiple_of(PAGE)
            && at.is_multiple_of(PAGE as u64);
        if fits && let Some(direct) = &self.direct {
            match self.disk.write(direct, labels) {
                // Another alignment is wanted here, and nothing was written.
                Err(e) if e.kind() == io::ErrorKind::InvalidInput => self.direct = None,
                result => return result,
            }
        }
        self.disk.write(&self.labels, labels)
    }

    /// Whether nothing is missing.
    pub(super) const fn is_whole(&self) -> bool {
        self.nodes == self.layer.head.nodes
    }

    /// Gives the whole layer its name.
    pub(super) fn finish(self) -> Result<()> {
        let part = self.layer.part();
        self.disk
            .rename(&part, &self.layer.path())
            .map_err(Error::io("rename", &part))?;
        sync_folder(&self.layer.folder, self.disk)
    }
}

fn sync_folder(folder: &Path, disk: &dyn Disk) -> Result<()> {
    File::open(folder)
        .and_then(|f| disk.sync(&f))
        .map_err(Error::io("sync", folder))
}

/// A journal's text; what is not text in it was not written by us.
fn read_text(path: &Path) -> Result<String> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(e) => Err(Error::io("read", path)(e)),
    }
}

fn size(path: &Path) -> Result<Option<u64>> {
    match fs::metadata(path) {
        Ok(m) => Ok(Some(m.len())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("look at", path)(e)),
    }
}

fn remove(path: &Path) -> Result<()> {
    fs::remove_file(path).map_err(Error::io("remove", path))
}
