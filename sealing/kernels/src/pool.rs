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
//! Processes share a folder. Each holder has a file in it that it keeps locked while it lives, with
//! three numbers: bytes of a layer, bytes of the layer in work, its turn while it waits. A file that
//! nobody keeps locked is a dead holder's, and removed: the kernel has taken its memory back before.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read, Seek, Write},
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
        let (path, file) = self.locked(|| self.new_file())?;
        let mut holder = Holder {
            pool: self.clone(),
            path,
            file,
            now: Holding {
                layer,
                ..Holding::default()
            },
        };
        holder.wait_for(layer, stop)?;
        Ok(holder)
    }

    /// A file that nobody has, locked. Other containers may have processes of the same number.
    fn new_file(&self) -> io::Result<(PathBuf, File)> {
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let name = format!("{}-{number}.{SUFFIX}", std::process::id());
            let path = self.folder.join(name);
            match File::create_new(&path) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                file => {
                    let file = file?;
                    file.lock()?;
                    return Ok((path, file));
                }
            }
        }
    }

    /// Does something while no other process looks at the folder or changes it.
    fn locked<T>(&self, f: impl FnOnce() -> io::Result<T>) -> Result<T> {
        let path = self.folder.join("lock");
        let mut options = File::options();
        let lock = options.create(true).truncate(false).write(true).open(&path);
        lock.and_then(|lock| {
            lock.lock()?;
            f()
        })
        .map_err(Error::io("use", &self.folder))
    }

    /// The other holders that live. The lock is held.
    fn others(&self, own: &Path) -> io::Result<Vec<Holding>> {
        let mut others = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if path == own || path.extension().is_none_or(|e| e != SUFFIX) {
                continue;
            }
            let mut file = match File::open(&path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                file => file?,
            };
            match file.try_lock() {
                Ok(()) => fs::remove_file(&path)?,
                Err(TryLockError::WouldBlock) => {
                    let mut text = String::new();
                    file.read_to_string(&mut text)?;
                    // Created, and not yet written: it holds nothing.
                    others.extend(parse(&text));
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
        let (file, now) = (&mut self.file, self.now);
        self.pool.locked(|| write(file, &now))
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

    /// Takes what is wanted where it is this one's turn and there is enough.
    fn ask(&mut self) -> Result<bool> {
        let Self {
            pool,
            path,
            file,
            now,
        } = self;
        pool.locked(|| {
            let mut all = pool.others(path)?;
            if now.turn == 0 {
                now.turn = all.iter().map(|h| h.turn).max().unwrap_or(0) + 1;
            }
            all.push(*now);
            give(pool.bytes, &mut all);
            *now = all.pop().unwrap_or(*now);
            write(file, now)?;
            Ok(now.wants == 0)
        })
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // Unlocked with the file; who finds it then may remove it as well.
        drop(fs::remove_file(&self.path));
    }
}

fn write(file: &mut File, h: &Holding) -> io::Result<()> {
    let inside = u8::from(h.inside);
    let text = format!(
        "{} {} {} {} {inside}\n",
        h.layer, h.growing, h.wants, h.turn
    );
    file.rewind()?;
    file.set_len(0)?;
    file.write_all(text.as_bytes())
}

fn parse(text: &str) -> Option<Holding> {
    let numbers: Option<Vec<u64>> = text.split_whitespace().map(|n| n.parse().ok()).collect();
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

#[cfg(test)]
mod tests;
