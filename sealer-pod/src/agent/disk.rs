//! File systems for sectors in work: how large, how free, what they lie on, and whether they are well.
//!
//! Each is asked in a thread of its own, so that one that hangs (a dead NFS server, a dying disk) is said to hang and
//! holds up nobody.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use filstar_crds::{DiskKind, ScratchDisk};
use rustix::fs::{major, minor, statvfs};

/// A file system that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(1);
/// Free space is told in hundredths of the size.
const STEPS: u64 = 100;

/// One directory on the node, and where we see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// On the node.
    pub(crate) path: String,
    /// Here.
    pub(crate) seen_at: PathBuf,
}

/// The file systems that are watched.
#[derive(Debug)]
pub(crate) struct Disks {
    watched: Vec<(Place, Option<Receiver<ScratchDisk>>)>,
}

impl Disks {
    pub(crate) fn new(places: Vec<Place>) -> Self {
        let watched = places.into_iter().map(|place| (place, None)).collect();
        Self { watched }
    }

    /// All of them as they are now. `before` stands for the size of one that hangs.
    pub(crate) fn look(&mut self, before: &[ScratchDisk]) -> Vec<ScratchDisk> {
        self.look_for(before, PATIENCE, |place| read(Path::new("/"), place))
    }

    fn look_for(
        &mut self,
        before: &[ScratchDisk],
        patience: Duration,
        read: impl Fn(&Place) -> ScratchDisk + Clone + Send + 'static,
    ) -> Vec<ScratchDisk> {
        for (place, answer) in &mut self.watched {
            // The thread of an earlier look may still hang: there is never a second one.
            if answer.is_none() {
                let (sender, receiver) = channel();
                let (place, read) = (place.clone(), read.clone());
                let started = thread::Builder::new()
                    .name("disk".into())
                    .stack_size(128 << 10);
                drop(started.spawn(move || sender.send(read(&place))));
                *answer = Some(receiver);
            }
        }
        let (mut disks, begin) = (Vec::new(), Instant::now());
        for (place, answer) in &mut self.watched {
            // All together get the time of one: our own health is asked for meanwhile.
            let left = patience.saturating_sub(begin.elapsed());
            let disk = match answer.as_ref().map(|a| a.recv_timeout(left)) {
                Some(Ok(disk)) => {
                    *answer = None;
                    settled(before.iter().find(|d| d.path == place.path), disk)
                }
                Some(Err(RecvTimeoutError::Timeout)) => hanging(place, before),
                Some(Err(RecvTimeoutError::Disconnected)) | None => {
                    *answer = None;
                    hanging(place, before)
                }
            };
            disks.push(disk);
        }
        disks
    }
}

fn hanging(place: &Place, before: &[ScratchDisk]) -> ScratchDisk {
    let old = before.iter().find(|d| d.path == place.path).cloned();
    ScratchDisk {
        path: place.path.clone(),
        why: Some("it does not answer".into()),
        ..old.unwrap_or_default()
    }
}

/// Free space in steps. It stays as it was until it moved by more than a step, so that a value at the border of two
/// steps is not written again and again.
fn settled(old: Option<&ScratchDisk>, mut now: ScratchDisk) -> ScratchDisk {
    let step = (now.capacity / STEPS).max(1);
    let exact = now.free;
    now.free = exact / step * step;
    if let Some(old) = old
        && old.capacity == now.capacity
        && exact.saturating_add(step) > old.free
        && exact < old.free.saturating_add(2 * step)
        // Nothing left is worth saying at once.
        && (exact >= step || old.free == 0)
    {
        now.free = old.free;
    }
    now
}

/// Reads one file system; `/proc` and `/sys` below `root`.
fn read(root: &Path, place: &Place) -> ScratchDisk {
    let mut disk = ScratchDisk {
        path: place.path.clone(),
        ..ScratchDisk::default()
    };
    let (space, meta) = match (statvfs(&place.seen_at), fs::metadata(&place.seen_at)) {
        (Ok(space), Ok(meta)) => (space, meta),
        (Err(e), _) => {
            disk.why = Some(format!("it cannot be read: {e}"));
            return disk;
        }
        (_, Err(e)) => {
            disk.why = Some(format!("it cannot be read: {e}"));
            return disk;
        }
    };
    disk.capacity = space.f_blocks.saturating_mul(space.f_frsize);
    disk.free = space.f_bavail.saturating_mul(space.f_frsize);
    let device = format!("{}:{}", major(meta.dev()), minor(meta.dev()));
    let table = fs::read_to_string(root.join("proc/self/mountinfo")).unwrap_or_default();
    let mount = Mount::of(&table, &device, &place.seen_at);
    let block = block_device(root, &device, mount.as_ref());
    disk.kind = kind(block.as_deref(), mount.as_ref());
    disk.why = problem(root, block.as_deref(), mount.as_ref());
    disk
}

/// One line of `/proc/self/mountinfo`, as far as it is of use.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    kind: String,
    source: String,
    read_only: bool,
}

impl Mount {
    /// The mount of this device that holds `path`, the deepest one.
    fn of(table: &str, device: &str, path: &Path) -> Option<Self> {
        let mut best: Option<(usize, Self)> = None;
        for line in table.lines() {
            let Some((left, right)) = line.split_once(" - ") else {
                continue;
            };
            let left: Vec<&str> = left.split(' ').collect();
            let [_, _, of, _, point, ..] = left.as_slice() else {
                continue;
            };
            let point = point.replace("\\040", " ");
            if *of != device || !path.starts_with(&point) {
                continue;
            }
            let mut right = right.split(' ');
            let (Some(kind), Some(source)) = (right.next(), right.next()) else {
                continue;
            };
            // The options of the file system itself: those of our own mount are read-only by our own wish.
            let read_only = right
                .next()
                .is_some_and(|o| o.split(',').any(|o| o == "ro"));
            if best
                .as_ref()
                .is_none_or(|(length, _)| *length <= point.len())
            {
                let mount = Self {
                    kind: kind.into(),
                    source: source.into(),
                    read_only,
                };
                best = Some((point.len(), mount));
            }
        }
        best.map(|(_, mount)| mount)
    }
}

/// The folder of a block device in `/sys`, for a partition that of its disk.
fn block_device(root: &Path, device: &str, mount: Option<&Mount>) -> Option<PathBuf> {
    let mut folder = fs::canonicalize(root.join("sys/dev/block").join(device)).ok();
    if folder.is_none() {
        // btrfs has a device number of its own.
        let name = mount?.source.strip_prefix("/dev/")?.to_owned();
        folder = fs::canonicalize(root.join("sys/class/block").join(name)).ok();
    }
    let folder = folder?;
    if folder.join("partition").exists() {
        return folder.parent().map(Path::to_owned);
    }
    Some(folder)
}

fn kind(block: Option<&Path>, mount: Option<&Mount>) -> DiskKind {
    let file_system = mount.map(|m| m.kind.as_str()).unwrap_or_default();
    match file_system {
        "tmpfs" | "ramfs" | "hugetlbfs" => return DiskKind::Memory,
        "nfs" | "nfs4" | "cifs" | "smb3" | "ceph" | "lustre" | "beegfs" | "glusterfs" | "9p" => {
            return DiskKind::Network;
        }
        _ => {}
    }
    block.map_or(DiskKind::Unknown, |folder| block_kind(folder, 0))
}

/// Of several disks below (RAID, LVM, encryption) the slowest counts.
fn block_kind(folder: &Path, depth: u32) -> DiskKind {
    /// Layers of device mapper that we look through.
    const DEEPEST: u32 = 8;
    let below = fs::read_dir(folder.join("slaves"))
        .into_iter()
        .flatten()
        .flatten();
    let below: Vec<PathBuf> = below
        .filter_map(|e| fs::canonicalize(e.path()).ok())
        .collect();
    if !below.is_empty() && depth < DEEPEST {
        let kinds = below.iter().map(|folder| {
            let disk = folder
                .parent()
                .filter(|_| folder.join("partition").exists());
            block_kind(disk.unwrap_or(folder), depth + 1)
        });
        let slowness = |kind: &DiskKind| match kind {
            DiskKind::Nvme => 0,
            DiskKind::Ssd => 1,
            DiskKind::Hdd => 2,
            DiskKind::Memory | DiskKind::Network | DiskKind::Unknown => 3,
        };
        return kinds.max_by_key(slowness).unwrap_or_default();
    }
    let name = folder
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    if name.starts_with("nvme") {
        return DiskKind::Nvme;
    }
    match fs::read_to_string(folder.join("queue/rotational"))
        .as_deref()
        .map(str::trim)
    {
        Ok("0") => DiskKind::Ssd,
        Ok("1") => DiskKind::Hdd,
        _ => DiskKind::Unknown,
    }
}

fn problem(root: &Path, block: Option<&Path>, mount: Option<&Mount>) -> Option<String> {
    if mount.is_some_and(|m| m.read_only) {
        return Some("the file system is read-only: the kernel does that after errors".into());
    }
    let number = |path: PathBuf| -> u64 {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    };
    let source = mount.and_then(|m| m.source.strip_prefix("/dev/"));
    if let Some(name) = source {
        let errors = number(root.join("sys/fs/ext4").join(name).join("errors_count"));
        if errors > 0 {
            return Some(format!("ext4 counts {errors} errors: check it with fsck"));
        }
    }
    let missing = number(block?.join("md/degraded"));
    (missing > 0).then(|| format!("{missing} disks of its RAID are missing"))
}

#[cfg(test)]
mod tests;
