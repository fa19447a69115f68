//! How full scratch and the stores are: measured here, told as an annotation of our own pod when it changed.
//!
//! A store that hangs must not hold up anything: it is measured in a thread of its own, and what was told last stays.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use filstar_crds::{Disk, Disks};
use futures::FutureExt;
use tokio::task::JoinHandle;

/// Between two readings.
const EVERY: Duration = Duration::from_secs(5);

/// Readings, and what was told of them.
#[derive(Debug)]
pub(super) struct Watch {
    scratch: PathBuf,
    stores: PathBuf,
    reading: Option<JoinHandle<Disks>>,
    /// When the newest reading began.
    began: Instant,
    /// The last whole reading, and when it began.
    last: Option<(Instant, Disks)>,
    next: Instant,
    told: Option<Disks>,
}

impl Watch {
    pub(super) fn new(scratch: PathBuf, stores: PathBuf) -> Self {
        Self {
            scratch,
            stores,
            reading: None,
            began: Instant::now(),
            last: None,
            next: Instant::now(),
            told: None,
        }
    }

    /// What is to be told now, if anything; begins another reading when it is time.
    pub(super) fn news(&mut self) -> Option<Disks> {
        let done = self.reading.as_mut().and_then(FutureExt::now_or_never);
        if let Some(read) = done {
            self.reading = None;
            self.next = Instant::now() + EVERY;
            let read = read.ok()?;
            self.last = Some((self.began, read.clone()));
            let old = self.told.as_ref().is_some_and(|told| told.is_like(&read));
            return (!old).then_some(read);
        }
        if self.reading.is_none() && Instant::now() >= self.next {
            let (scratch, stores) = (self.scratch.clone(), self.stores.clone());
            self.began = Instant::now();
            self.reading = Some(tokio::task::spawn_blocking(move || read(&scratch, &stores)));
        }
        None
    }

    /// The last reading, if it began after that.
    pub(super) fn since(&self, when: Instant) -> Option<&Disks> {
        let (began, read) = self.last.as_ref()?;
        (*began >= when).then_some(read)
    }

    /// These were told.
    pub(super) fn told(&mut self, disks: Disks) {
        self.told = Some(disks);
    }
}

/// Reads them now. What cannot be read is left out.
fn read(scratch: &Path, stores: &Path) -> Disks {
    let folders = fs::read_dir(stores).into_iter().flatten().flatten();
    let stores = folders.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        Some((name, disk(&entry.path())?))
    });
    Disks {
        scratch: disk(scratch),
        stores: stores.collect(),
    }
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
        let read = read(&folder.path().join("none"), &folder.path().join("stores"));
        assert_eq!(read.scratch, None);
        assert_eq!(read.stores.keys().collect::<Vec<_>>(), ["a"]);
        let here = disk(folder.path()).unwrap();
        assert_eq!(read.stores["a"].device, here.device);
        assert!(here.free <= here.capacity && here.capacity > 0);
    }

    #[tokio::test]
    async fn the_first_reading_is_news_and_the_same_again_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        let mut watch = Watch::new(path.clone(), path);
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
