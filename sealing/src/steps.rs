//! The steps of a sector's life: each checks what it needs, computes, records what it made.
//!
//! In: a [`Task`]. Out: its [`Output`]. Effects: the files of the sector, and no others.
//! Never: a result from files that are not what their record says; a second encoding of a replica.
//!
//! Every step may be killed anywhere and run again. With the same inputs it then returns what it
//! recorded, after checking the files; with other inputs, or without a record, it starts afresh.

mod commit;
mod keep;
mod post;
mod seal;
mod sweep;
mod together;
mod unseal;

use std::{
    fmt,
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};

pub use together::{Together, pc1_together};

use crate::{
    durable,
    engine::Engine,
    error::{Error, Result},
    sector::Place,
    task::{Land, Output, Remove, Task},
};

/// Places in a step where a test may hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// The layers are there, their record is not.
    Pc1,
    /// The replica is encoded, its record is not.
    Pc2,
    /// The SNARK is about to be made.
    C2,
}

impl Point {
    /// Its name in settings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pc1 => "pc1",
            Self::Pc2 => "pc2",
            Self::C2 => "c2",
        }
    }
}

/// How far a step is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Done, in percent.
    pub percent: u32,
    /// For people.
    pub detail: String,
}

/// What a step is run with, besides its input.
pub struct Context<'a> {
    /// Who computes.
    pub engine: &'a dyn Engine,
    /// Whether to forget what this phase left behind, and start it from nothing.
    pub from_scratch: bool,
    /// Told now and then, by any thread, how far the step is.
    pub progress: &'a (dyn Fn(Progress) + Sync),
    /// Called at each [`Point`].
    pub point: &'a dyn Fn(Point),
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("engine", &self.engine)
            .field("from_scratch", &self.from_scratch)
            .finish_non_exhaustive()
    }
}

impl<'a> Context<'a> {
    /// A context that tells nobody anything.
    pub fn quiet(engine: &'a dyn Engine) -> Self {
        Self {
            engine,
            from_scratch: false,
            progress: &|_| {},
            point: &|_| {},
        }
    }

    /// Progress of a part of the step, told as progress of the whole.
    fn part(&self, from: u32, to: u32) -> impl Fn(Progress) + Sync + 'a {
        let tell = self.progress;
        move |p: Progress| {
            tell(Progress {
                percent: from + p.percent.min(100) * (to - from) / 100,
                ..p
            });
        }
    }

    fn say(&self, percent: u32, detail: impl Into<String>) {
        (self.progress)(Progress {
            percent,
            detail: detail.into(),
        });
    }
}

/// Runs a task.
///
/// # Errors
/// See the steps; every error has a class and names the file or value that it is about.
pub fn run(task: &Task, context: &Context<'_>) -> Result<Output> {
    let _lock = task.scratch().map(lock).transpose()?;
    let output = compute(task, context)?;
    unlock(task)?;
    Ok(output)
}

fn compute(task: &Task, context: &Context<'_>) -> Result<Output> {
    Ok(match task {
        Task::AddPiece(input) => Output::AddPiece(seal::add_piece(input, context)?),
        Task::Pc1(input) => Output::Pc1(seal::pc1(input, context)?),
        Task::Pc2(input) => Output::Pc2(seal::pc2(input, context)?),
        Task::C1(input) => Output::C1(commit::c1(input, context)?),
        Task::C2(input) => Output::C2(commit::c2(input, context)?),
        Task::Finalize(input) => Output::Finalize(keep::finalize(input, context)?),
        Task::Land(input) => Output::Land(keep::land(input, context)?),
        Task::Unseal(input) => Output::Unseal(unseal::unseal(input, context)?),
        Task::Remove(input) => Output::Remove(keep::remove(input)?),
        Task::Sweep(input) => Output::Sweep(sweep::sweep(input, context)?),
        Task::VerifySeal(input) => Output::Verified(commit::verify(input, context)?),
        Task::VanillaProof(input) => Output::Proof(post::vanilla_proof(input)?),
        Task::ReadPartition(input) => Output::ReadPartition(post::read_partition(input, context)?),
        Task::WindowPartition(input) => Output::Proof(post::window_partition(input, context)?),
        Task::VerifyWindowPoSt(input) => Output::Verified(post::verify(input, context)?),
    })
}

/// One process at a time works on a sector; the lock goes with the process. One that was just
/// killed may hold it for a moment longer.
fn lock(place: &Place) -> Result<File> {
    const TRIES: u32 = 20;
    const PAUSE: Duration = Duration::from_millis(100);
    let path = lock_file(place);
    durable::create_dir(durable::parent(&path))?;
    let mut last = io::Error::from(io::ErrorKind::WouldBlock);
    for _ in 0..TRIES {
        let file = File::options().create(true).append(true).open(&path);
        let file = file.map_err(Error::io("create", &path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) if is_still(&file, &path) => return Ok(file),
            Ok(()) => continue,
            Err(e) => last = e.into(),
        }
        thread::sleep(PAUSE);
    }
    let action = "lock (another process works on this sector)";
    Err(Error::Io {
        action,
        path,
        source: last,
    })
}

/// Whether the file was not removed, and perhaps made anew, since it was opened.
fn is_still(file: &File, path: &Path) -> bool {
    let same = |a: fs::Metadata, b: fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    file.metadata()
        .ok()
        .zip(fs::metadata(path).ok())
        .is_some_and(|(a, b)| same(a, b))
}

fn lock_file(place: &Place) -> PathBuf {
    place
        .root
        .join("ledger")
        .join(format!("{}.lock", place.sector))
}

/// A sector that has left scratch needs no lock any more. The next one who wants it looks whether
/// the file that was locked is still the one at its path.
fn unlock(task: &Task) -> Result<()> {
    match task {
        Task::Land(Land { place, .. }) | Task::Remove(Remove { place }) => {
            durable::remove(&lock_file(place)).map(drop)
        }
        Task::AddPiece(_)
        | Task::Pc1(_)
        | Task::Pc2(_)
        | Task::C1(_)
        | Task::C2(_)
        | Task::Finalize(_)
        | Task::Unseal(_)
        | Task::Sweep(_)
        | Task::VerifySeal(_)
        | Task::VanillaProof(_)
        | Task::ReadPartition(_)
        | Task::WindowPartition(_)
        | Task::VerifyWindowPoSt(_) => Ok(()),
    }
}
