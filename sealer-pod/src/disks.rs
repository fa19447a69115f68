//! How full scratch and the stores are, and which stores they are: measured here, told as an annotation of our own pod
//! when it changed.
//!
//! A sealer puts a number into each store that has none. A pod elsewhere that reads the same number sees the same files:
//! so the operator knows whether a prover reads what a sealer lands, whatever the volume is.
//! A store that hangs must not hold up anything: it is measured in a thread of its own, and what was told last stays.

use std::{
    collections::hash_map::RandomState,
    convert::Infallible,
    fs::{self, File},
    hash::{BuildHasher, Hasher},
    io::{self, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use filstar_crds::{Disk, Disks};
use futures::FutureExt;
use kube::Client;
use tokio::task::JoinHandle;

use crate::{pod, settings};

/// Between two readings.
const EVERY: Duration = Duration::from_secs(5);
/// The same while a store has no number: sealers may be about to give it one.
const SOON: Duration = Duration::from_secs(1);
/// How long a pod that only reads looks for a number before it says that there is none.
const LOOKS: Duration = Duration::from_mins(1);
/// File of a store with its number.
const MARK: &str = ".filstar-store";

/// Readings, and what was told of them.
#[derive(Debug)]
pub(crate) struct Watch {
    /// None in a pod that only reads: it marks no stores.
    scratch: Option<PathBuf>,
    stores: PathBuf,
    reading: Option<JoinHandle<Disks>>,
    /// When the first reading was wanted.
    begun: Instant,
    /// When the newest reading began.
    began: Instant,
    /// The last whole reading, and when it began.
    last: Option<(Instant, Disks)>,
    next: Instant,
    told: Option<Disks>,
}

impl Watch {
    pub(crate) fn new(scratch: Option<PathBuf>, stores: PathBuf) -> Self {
        Self {
            scratch,
            stores,
            reading: None,
            begun: Instant::now(),
            began: Instant::now(),
            last: None,
            next: Instant::now(),
            told: None,
        }
    }

    /// What is to be told now, if anything; begins another reading when it is time.
    pub(crate) fn news(&mut self) -> Option<Disks> {
        let done = self.reading.as_mut().and_then(FutureExt::now_or_never);
        if let Some(read) = done {
            self.reading = None;
            let read = read.ok();
            let marked = |disk: &Disk| disk.mark.is_some_and(|mark| mark != Disk::NO_MARK);
            let all = read.as_ref().is_some_and(|d| d.stores.values().all(marked));
            let soon = !all && self.scratch.is_none();
            self.next = Instant::now() + if soon { SOON } else { EVERY };
            let read = read?;
            self.last = Some((self.began, read.clone()));
            let old = self.told.as_ref().is_some_and(|told| told.is_like(&read));
            return (!old).then_some(read);
        }
        if self.reading.is_none() && Instant::now() >= self.next {
            let (scratch, stores) = (self.scratch.clone(), self.stores.clone());
            self.began = Instant::now();
            let in_vain = scratch.is_none() && self.begun.elapsed() > LOOKS;
            self.reading = Some(tokio::task::spawn_blocking(move || {
                let mut disks = read(scratch.as_deref(), &stores);
                if in_vain {
                    for disk in disks.stores.values_mut() {
                        disk.mark.get_or_insert(Disk::NO_MARK);
                    }
                }
                disks
            }));
        }
        None
    }

    /// The last reading, if it began after that.
    pub(crate) fn since(&self, when: Instant) -> Option<&Disks> {
        let (began, read) = self.last.as_ref()?;
        (*began >= when).then_some(read)
    }

    /// These were told.
    pub(crate) fn told(&mut self, disks: Disks) {
        self.told = Some(disks);
    }
}

/// Tells what a pod sees that only reads, until the process ends.
pub(crate) async fn tell(client: Client, own: settings::Pod) -> Infallible {
    let mut watch = Watch::new(None, own.stores.clone());
    loop {
        if let Some(news) = watch.news() {
            match pod::call(pod::report_disks(&client, &own, &news)).await {
                Ok(()) => watch.told(news),
                Err(error) => tracing::warn!(%error, "the stores were not told; tried again"),
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Reads them now. What cannot be read is left out.
fn read(scratch: Option<&Path>, stores: &Path) -> Disks {
    let folders = fs::read_dir(stores).into_iter().flatten().flatten();
    let stores = folders.filter_map(|entry| {
        let (name, path) = (entry.file_name().into_string().ok()?, entry.path());
        let mut disk = disk(&path)?;
        disk.mark = mark(&path, scratch.is_some());
        Some((name, disk))
    });
    Disks {
        scratch: scratch.and_then(disk),
        stores: stores.collect(),
    }
}

/// The number of a store; none when it has none and gets none.
fn mark(store: &Path, may_write: bool) -> Option<u64> {
    let read = || {
        let text = fs::read_to_string(store.join(MARK)).ok()?;
        u64::from_str_radix(text.trim(), 16).ok()
    };
    read().or_else(|| {
        if !may_write {
            return None;
        }
        let made = make_mark(store);
        let mark = read();
        if mark.is_none() {
            tracing::warn!(store = %store.display(), ?made, "the store has no number that can be read: see its file {MARK}");
        }
        mark
    })
}

/// Gives a store its number. Of several pods that do so at once one wins, and the file is there whole or not at all.
fn make_mark(store: &Path) -> io::Result<()> {
    // Its keys come from the system's random numbers.
    let number = RandomState::new().build_hasher().finish() | 1;
    let own = store.join(format!("{MARK}.{number:016x}"));
    let mut file = File::create_new(&own)?;
    writeln!(file, "{number:016x}")?;
    file.sync_all()?;
    match fs::hard_link(&own, store.join(MARK)) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        // Some network file systems have no links.
        Err(_) => return fs::rename(&own, store.join(MARK)),
    }
    fs::remove_file(&own)
}

fn disk(folder: &Path) -> Option<Disk> {
    let device = fs::metadata(folder)
        .ok()
        .filter(fs::Metadata::is_dir)?
        .dev();
    let found = rustix::fs::statvfs(folder).ok()?;
    let used = found.f_blocks.saturating_sub(found.f_bfree);
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Some(Disk {
        device,
        capacity: bytes(used.saturating_add(found.f_bavail)),
        free: bytes(found.f_bavail),
        mark: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_one_file_system_have_one_device_and_a_missing_one_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("stores/a")).unwrap();
        fs::write(folder.path().join("stores/file"), "").unwrap();
        let none = folder.path().join("none");
        let read = read(Some(&none), &folder.path().join("stores"));
        assert_eq!(read.scratch, None);
        assert_eq!(read.stores.keys().collect::<Vec<_>>(), ["a"]);
        let here = disk(folder.path()).unwrap();
        assert_eq!(read.stores["a"].device, here.device);
        assert!(here.free <= here.capacity && here.capacity > 0);
    }

    #[test]
    fn a_sealer_marks_a_store_once_and_a_reader_sees_the_same_number_in_the_same_store_alone() {
        let folder = tempfile::tempdir().unwrap();
        let [stores, others] = ["stores", "others"].map(|name| folder.path().join(name));
        fs::create_dir_all(stores.join("a")).unwrap();
        fs::create_dir_all(others.join("a")).unwrap();
        let seen = |by: Option<&Path>, stores: &Path| read(by, stores).stores["a"].mark;
        assert_eq!(seen(None, &stores), None, "a reader writes nothing");
        let number = seen(Some(folder.path()), &stores);
        assert!(number.is_some());
        assert_eq!(seen(Some(folder.path()), &stores), number);
        assert_eq!(seen(None, &stores), number);
        assert_ne!(seen(Some(folder.path()), &others), number);
        let files = fs::read_dir(stores.join("a")).unwrap();
        assert_eq!(files.count(), 1, "nothing else is left in it");
        fs::write(stores.join("a").join(MARK), "what?").unwrap();
        assert_eq!(seen(None, &stores), None);
    }

    #[test]
    fn of_many_that_mark_a_store_at_once_all_see_one_number() {
        let folder = tempfile::tempdir().unwrap();
        let numbers: Vec<Option<u64>> = std::thread::scope(|scope| {
            let each = || mark(folder.path(), true);
            let threads: Vec<_> = (0..16).map(|_| scope.spawn(each)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(numbers[0].is_some());
        assert!(numbers.iter().all(|n| *n == numbers[0]), "{numbers:?}");
    }

    #[tokio::test]
    async fn the_first_reading_is_news_and_the_same_again_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        let mut watch = Watch::new(Some(path.clone()), path);
        let mut next = async || {
            watch.next = Instant::now();
            assert_eq!(watch.news(), None, "it has only begun");
            while !watch.reading.as_ref().unwrap().is_finished() {
                tokio::task::yield_now().await;
            }
            let news = watch.news();
            news.clone().into_iter().for_each(|n| watch.told(n));
            news
        };
        assert!(next().await.is_some());
        let between = Instant::now();
        assert_eq!(next().await, None);
        assert!(watch.since(between).is_some());
        assert_eq!(watch.since(Instant::now()), None);
    }
}
