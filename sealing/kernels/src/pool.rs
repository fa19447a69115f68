//! How much memory several PC1 may take for their layers, and whose turn it is.
//!
//! A sector holds the layer before the one in work, whole, and of the one in work as much as is
//! labelled. When n sectors are at different places, each 1/n of a layer behind the next, they hold
//! S·(3n+1)/2 together instead of 2nS ([`Pool::bytes_for`]). Nobody arranges these distances: who
//! finds no memory waits, those that are further go on, and after a layer the distances are there.
//! Sectors in lock step are one holder.
//!
//! # Why it never stands still
//! Memory is given only when afterwards there is an order in which all holders can finish the layer
//! in work one after the other, each with what is free and what those before it gave back (the
//! banker's rule). So whoever needs least to finish its layer is always given what it asks for, and
//! at its layer's end gives all of that back.
//!
//! # Shape
//! Processes share a folder, which is locked for each look. Each holder has a file in it that it keeps locked while it
//! lives, with four numbers: bytes of a layer, of the layer in work, that it waits for, and its turn. A file that nobody
//! keeps locked is a dead holder's, and removed: the kernel has taken its memory back before.
//!
//! # Damage
//! A file that says nothing is written anew by its holder at its next look; until then nobody is given memory. A holder
//! whose file is gone stops: the others do not know any more what it holds.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use crate::error::{Error, Result};

/// Between two looks whether there is memory.
const WAIT: Duration = Duration::from_millis(50);
const SUFFIX: &str = "holder";
/// Holders of this process so far.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// What one holder has, and wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// Bytes of a layer: of the one before the one in work, or of the first. Held from the start.
    pub layer: u64,
    /// Bytes of the layer in work; at most a layer's.
    pub growing: u64,
    /// Bytes more that it waits for, 0 when it does not wait. As a newcomer it waits for `layer`.
    pub wants: u64,
    /// Those with a lower number wait longer.
    pub turn: u64,
    /// Whether it has come in; before, it holds nothing.
    pub inside: bool,
}

impl Holding {
    fn given(self) -> Self {
        let growing = if self.inside {
            self.growing + self.wants
        } else {
            0
        };
        Self {
            growing,
            wants: 0,
            turn: 0,
            inside: true,
            ..self
        }
    }
}

/// Whether all who are inside can finish the layer in work, in some order.
pub fn is_safe(bytes: u64, holders: &[Holding]) -> bool {
    let inside = || holders.iter().filter(|h| h.inside);
    let held = inside().try_fold(0u64, |sum, h| {
        sum.checked_add(h.layer)?.checked_add(h.growing)
    });
    let Some(mut free) = held.and_then(|h| bytes.checked_sub(h)) else {
        return false;
    };
    let mut left: Vec<_> = inside()
        .map(|h| (h.layer.saturating_sub(h.growing), h.growing))
        .collect();
    left.sort_unstable();
    left.into_iter().all(|(needs, gives_back)| {
        let can = needs <= free;
        free = free.saturating_add(gives_back);
        can
    })
}

/// Gives memory to those who wait, the longest first, where that is safe.
pub fn give(bytes: u64, holders: &mut [Holding]) {
    let mut waiting: Vec<_> = (0..holders.len())
        .filter(|i| holders[*i].wants > 0)
        .collect();
    waiting.sort_by_key(|i| holders[*i].turn);
    for i in waiting {
        let before = holders[i];
        holders[i] = before.given();
        if !is_safe(bytes, holders) {
            holders[i] = before;
        }
    }
}

/// Memory that PC1 of one machine or pod share.
#[derive(Clone, Debug)]
pub struct Pool {
    folder: PathBuf,
    bytes: u64,
}

impl Pool {
    /// A pool of so many bytes, known to all who name the same folder; it is made when it is not
    /// there. All must say the same size.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(folder: &Path, bytes: u64) -> Result<Self> {
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        Ok(Self {
            folder: folder.to_owned(),
            bytes,
        })
    }

    /// Bytes for so many holders, with layers of so many bytes, that seldom wait: S·(3n+1)/2.
    pub const fn bytes_for(holders: u64, layer: u64) -> u64 {
        layer.saturating_mul(3 * holders + 1) / 2
    }

    /// Its bytes.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Waits until there is room for another holder with layers of so many bytes. Asks `stop` often.
    ///
    /// # Errors
    /// `Memory` when there never is; `Stopped` when asked; what the file system says.
    pub fn enter(&self, layer: u64, stop: &dyn Fn() -> bool) -> Result<Holder> {
        if layer == 0 || layer.checked_mul(2).is_none_or(|need| need > self.bytes) {
            return Err(Error::Memory(format!(
                "PC1 of layers of {layer} bytes needs two of them, and the pool has {} bytes",
                self.bytes
            )));
        }
        let now = Holding {
            layer,
            ..Holding::default()
        };
        let (path, file) = self.locked(|| self.new_file(&now))?;
        let mut holder = Holder {
            pool: self.clone(),
            path,
            file,
            now,
        };
        holder.wait_for(layer, stop)?;
        Ok(holder)
    }

    /// A file that nobody has, locked, with what it says. Other containers may have processes of the same number.
    fn new_file(&self, now: &Holding) -> io::Result<(PathBuf, File)> {
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let name = format!("{}-{number}.{SUFFIX}", std::process::id());
            let path = self.folder.join(name);
            match File::create_new(&path) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                file => {
                    let mut file = file?;
                    file.lock()?;
                    write(&mut file, now)?;
                    return Ok((path, file));
                }
            }
        }
    }

    /// Does something while no other process looks at the folder or changes it.
    fn locked<T>(&self, f: impl FnOnce() -> io::Result<T>) -> Result<T> {
        // The folder itself is the lock: a file in it could be taken away while somebody waits for it.
        let folder = File::open(&self.folder);
        folder
            .and_then(|folder| {
                folder.lock()?;
                f()
            })
            .map_err(Error::io("use", &self.folder))
    }

    /// The other holders that live; none while one of them does not say what it holds. The lock is held.
    fn others(&self, own: &Path) -> io::Result<Option<Vec<Holding>>> {
        let mut others = Some(Vec::new());
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let path = entry.path();
            let ours =
                path.extension().is_some_and(|e| e == SUFFIX) && entry.file_type()?.is_file();
            if path == own || !ours {
                continue;
            }
            let mut file = match File::open(&path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                file => file?,
            };
            match file.try_lock() {
                Ok(()) => match fs::remove_file(&path) {
                    // One that ends takes its own file away, without asking.
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    removed => removed?,
                },
                Err(TryLockError::WouldBlock) => {
                    let mut text = Vec::new();
                    file.read_to_end(&mut text)?;
                    others = parse(&text).and_then(|holding| {
                        let mut all = others?;
                        all.push(holding);
                        Some(all)
                    });
                }
                Err(TryLockError::Error(e)) => return Err(e),
            }
        }
        Ok(others)
    }
}

/// One PC1's part of a pool; given back when it is dropped.
#[derive(Debug)]
pub struct Holder {
    pool: Pool,
    path: PathBuf,
    file: File,
    now: Holding,
}

impl Holder {
    /// Waits until the layer in work may have so many bytes. Asks `stop` often.
    ///
    /// # Errors
    /// `Stopped` when asked; `Input` for more than a layer; what the file system says.
    pub fn grow(&mut self, to: u64, stop: &dyn Fn() -> bool) -> Result<()> {
        if to > self.now.layer {
            return Err(Error::Input(format!("{to} bytes are more than a layer")));
        }
        let more = to.saturating_sub(self.now.growing);
        if more == 0 {
            Ok(())
        } else {
            self.wait_for(more, stop)
        }
    }

    /// Bytes of the layer in work.
    pub const fn growing(&self) -> u64 {
        self.now.growing
    }

    /// The layer in work is done and the one before it is given back: the next one begins.
    ///
    /// # Errors
    /// What the file system says.
    pub fn next_layer(&mut self) -> Result<()> {
        self.now.growing = 0;
        let pool = self.pool.clone();
        pool.locked(|| {
            self.is_there()?;
            write(&mut self.file, &self.now)
        })
    }

    fn wait_for(&mut self, more: u64, stop: &dyn Fn() -> bool) -> Result<()> {
        self.now.wants = more;
        while !self.ask()? {
            if stop() {
                return Err(Error::Stopped);
            }
            thread::sleep(WAIT);
        }
        Ok(())
    }

    /// Whether the others see its file.
    fn is_there(&self) -> io::Result<()> {
        let id = |of: &fs::Metadata| (of.dev(), of.ino());
        let there = fs::symlink_metadata(&self.path).is_ok_and(|there| {
            let own = self.file.metadata();
            own.is_ok_and(|own| id(&own) == id(&there))
        });
        if there {
            Ok(())
        } else {
            let name = self.path.file_name().unwrap_or_default();
            Err(io::Error::other(format!(
                "somebody took {} away, which says what this process holds; it goes on where it was when it is started again",
                name.display()
            )))
        }
    }

    /// Takes what is wanted where it is this one's turn and there is enough.
    fn ask(&mut self) -> Result<bool> {
        let pool = self.pool.clone();
        pool.locked(|| {
            self.is_there()?;
            if let Some(mut all) = pool.others(&self.path)? {
                if self.now.turn == 0 {
                    self.now.turn = all.iter().map(|h| h.turn).max().unwrap_or(0) + 1;
                }
                all.push(self.now);
                give(pool.bytes, &mut all);
                self.now = all.pop().unwrap_or(self.now);
            }
            write(&mut self.file, &self.now)?;
            Ok(self.now.wants == 0)
        })
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // Unlocked with the file; who finds it then may remove it as well.
        drop(fs::remove_file(&self.path));
    }
}

/// Over what was there, and of the same length: a full disk does not keep it from saying what it holds.
fn write(file: &mut File, h: &Holding) -> io::Result<()> {
    let inside = u8::from(h.inside);
    let held = format!(
        "{:20} {:20} {:20} {:20} {inside}",
        h.layer, h.growing, h.wants, h.turn
    );
    let text = format!("{held} {:016x}\n", check(held.as_bytes()));
    file.rewind()?;
    file.write_all(text.as_bytes())?;
    file.set_len(text.len() as u64)
}

fn parse(text: &[u8]) -> Option<Holding> {
    let (said, check_of) = std::str::from_utf8(text)
        .ok()?
        .trim_end()
        .rsplit_once(' ')?;
    if u64::from_str_radix(check_of, 16).ok()? != check(said.as_bytes()) {
        return None;
    }
    let numbers: Option<Vec<u64>> = said.split_whitespace().map(|n| n.parse().ok()).collect();
    let [layer, growing, wants, turn, inside] = numbers?[..] else {
        return None;
    };
    Some(Holding {
        layer,
        growing,
        wants,
        turn,
        inside: inside == 1,
    })
}

/// FNV-1a: enough to see that a line is not as it was written.
fn check(text: &[u8]) -> u64 {
    text.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests;
