use std::os::unix::fs::symlink;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use super::*;

fn disk(free: u64) -> ScratchDisk {
    ScratchDisk {
        path: "/scratch".into(),
        capacity: 1000,
        free,
        ..ScratchDisk::default()
    }
}

#[test]
fn free_space_moves_in_steps_and_stays_between_them() {
    let first = settled(None, disk(567)).free;
    assert_eq!(first, 560);
    for near in [551, 555, 569, 579] {
        assert_eq!(settled(Some(&disk(560)), disk(near)).free, 560, "{near}");
    }
    assert_eq!(settled(Some(&disk(560)), disk(580)).free, 580);
    assert_eq!(settled(Some(&disk(560)), disk(549)).free, 540);
    assert_eq!(
        settled(Some(&disk(10)), disk(9)).free,
        0,
        "full is said at once"
    );
}

#[test]
fn a_larger_file_system_is_told_anew() {
    let mut larger = disk(565);
    larger.capacity = 2000;
    assert_eq!(settled(Some(&disk(560)), larger).free, 560);
}

#[test]
fn one_that_hangs_holds_up_nobody_and_is_asked_once() {
    let place = |path: &str| Place {
        path: path.into(),
        seen_at: path.into(),
    };
    let mut disks = Disks::new(vec![place("/dead"), place("/alive")]);
    let (release, wait) = mpsc::channel::<()>();
    let wait = Arc::new(Mutex::new(wait));
    let asked = Arc::new(Mutex::new(0));
    let read = {
        let asked = asked.clone();
        move |place: &Place| {
            if place.path == "/dead" {
                *asked.lock().unwrap() += 1;
                wait.lock().unwrap().recv().unwrap_err();
            }
            ScratchDisk {
                path: place.path.clone(),
                ..disk(500)
            }
        }
    };
    let before = [ScratchDisk {
        path: "/dead".into(),
        ..disk(700)
    }];
    let patience = Duration::from_millis(20);
    for _ in 0..2 {
        let seen = disks.look_for(&before, patience, read.clone());
        assert_eq!(seen[0].why.as_deref(), Some("it does not answer"));
        assert_eq!((seen[0].capacity, seen[0].free), (1000, 700));
        assert_eq!((seen[1].free, seen[1].why.as_ref()), (500, None));
    }
    assert_eq!(*asked.lock().unwrap(), 1);
    drop(release);
    let seen = disks.look_for(&before, Duration::from_secs(9), read);
    assert_eq!(seen[0].why, None, "and it is well when it answers again");
}

const TABLE: &str = "\
22 1 8:2 / / rw,relatime - ext4 /dev/sda2 rw
30 22 0:40 / /host/ram rw - tmpfs tmpfs rw,size=1g
31 22 259:1 / /host/scratch ro,relatime shared:1 - xfs /dev/nvme0n1p1 rw,attr2
32 22 259:1 /a /host/scratch/deep ro - xfs /dev/nvme0n1p1 ro
33 22 0:50 / /host/store rw - nfs4 server:/store rw
34 22 8:2 /x /host/with\\040space rw - ext4 /dev/sda2 rw
";

fn mount(device: &str, path: &str) -> Option<Mount> {
    Mount::of(TABLE, device, Path::new(path))
}

#[test]
fn the_deepest_mount_of_the_device_counts() {
    assert_eq!(mount("8:2", "/host/other").unwrap().source, "/dev/sda2");
    assert_eq!(mount("0:40", "/host/ram/x").unwrap().kind, "tmpfs");
    assert!(mount("259:1", "/host/scratch/deep/er").unwrap().read_only);
    assert!(mount("8:2", "/host/with space").is_some());
    assert_eq!(mount("9:9", "/host"), None);
}

#[test]
fn our_own_read_only_mount_is_no_problem_and_a_read_only_file_system_is() {
    let root = Path::new("/nowhere");
    assert_eq!(
        problem(root, None, mount("259:1", "/host/scratch").as_ref()),
        None
    );
    let text = problem(root, None, mount("259:1", "/host/scratch/deep").as_ref());
    assert!(text.unwrap().contains("read-only"));
}

/// A `/sys` with a partition of a fast disk, a disk that turns, and a RAID of both.
fn sys() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let make = |path: &str, text: &str| {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let at = |path: &str| dir.path().join(path);
    make("sys/devices/nvme0n1/queue/rotational", "0\n");
    make("sys/devices/nvme0n1/nvme0n1p1/partition", "1\n");
    make("sys/devices/sda/queue/rotational", "1\n");
    make("sys/devices/md0/md/degraded", "1\n");
    make("sys/devices/md0/queue/rotational", "0\n");
    fs::create_dir_all(at("sys/devices/md0/slaves")).unwrap();
    fs::create_dir_all(at("sys/dev/block")).unwrap();
    let link = |to: &str, from: &str| symlink(at(to), at(from)).unwrap();
    link(
        "sys/devices/nvme0n1/nvme0n1p1",
        "sys/devices/md0/slaves/nvme0n1p1",
    );
    link("sys/devices/sda", "sys/devices/md0/slaves/sda");
    link("sys/devices/nvme0n1/nvme0n1p1", "sys/dev/block/259:1");
    link("sys/devices/sda", "sys/dev/block/8:0");
    link("sys/devices/md0", "sys/dev/block/9:0");
    make("sys/fs/ext4/sda/errors_count", "3\n");
    dir
}

#[test]
fn kinds_are_those_of_the_disk_below() {
    let sys = sys();
    let kind_of = |device: &str| {
        let block = block_device(sys.path(), device, None);
        kind(block.as_deref(), None)
    };
    assert_eq!(kind_of("259:1"), DiskKind::Nvme);
    assert_eq!(kind_of("8:0"), DiskKind::Hdd);
    assert_eq!(
        kind_of("9:0"),
        DiskKind::Hdd,
        "a RAID is as slow as its slowest disk"
    );
    assert_eq!(kind_of("7:7"), DiskKind::Unknown);
    assert_eq!(
        kind(None, mount("0:40", "/host/ram").as_ref()),
        DiskKind::Memory
    );
    assert_eq!(
        kind(None, mount("0:50", "/host/store").as_ref()),
        DiskKind::Network
    );
}

#[test]
fn errors_that_the_kernel_counts_are_told() {
    let sys = sys();
    let md = block_device(sys.path(), "9:0", None);
    assert!(
        problem(sys.path(), md.as_deref(), None)
            .unwrap()
            .contains("RAID")
    );
    let bad = Mount {
        kind: "ext4".into(),
        source: "/dev/sda".into(),
        read_only: false,
    };
    assert!(
        problem(sys.path(), None, Some(&bad))
            .unwrap()
            .contains("3 errors")
    );
}

#[test]
fn a_folder_of_this_machine_has_a_size_and_a_missing_one_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let place = |seen_at: PathBuf| Place {
        path: "/x".into(),
        seen_at,
    };
    let here = read(Path::new("/"), &place(dir.path().to_owned()));
    assert!(here.capacity > 0 && here.free <= here.capacity, "{here:?}");
    let gone = read(Path::new("/"), &place(dir.path().join("gone")));
    assert!(gone.why.unwrap().contains("cannot be read"));
}
