//! PC1 is killed, its files are damaged: what it makes in the end is always the same.
#![expect(clippy::unwrap_used, reason = "what a test cannot get fails it")]

use std::{
    cell::Cell,
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicI64, AtomicU32, Ordering},
};

use filstar_kernels::{
    Error,
    graph::{Graph, Row, porep_id},
    memory::Pages,
    parents::{self, ParentsFile, ROW_BYTES},
    pool::Pool,
    sdr::{
        Disk, Job, Kernel, Labels, Lane, Options, RealDisk, Report, Span, distrust, label,
        layer_name,
    },
};
use sha2::{Digest, Sha256};

const NODES: u64 = 64;
const LAYERS: u32 = 3;

fn graph() -> Graph {
    Graph::new(NODES, &porep_id(5)).unwrap()
}

/// What all layers of a sector must be, from the definition.
fn layers(replica_id: [u8; 32]) -> Vec<Vec<u8>> {
    let graph = graph();
    let rows: Vec<Row> = (0..64).map(|n| graph.row(n)).collect();
    let mut previous: Vec<Labels<1>> = vec![[[0; 32]]; 64];
    (1..=LAYERS)
        .map(|layer| {
            let mut current = vec![[[0; 32]]; 64];
            Kernel::PORTABLE.label(&mut Span {
                layer,
                first: 0,
                count: 64,
                rows: &rows,
                replica_ids: &[replica_id],
                previous: &previous,
                current: &mut current,
            });
            previous.clone_from(&current);
            current.into_flattened().into_flattened()
        })
        .collect()
}

/// Some sectors in folders of their own.
struct Sectors(Vec<Lane>);

impl Sectors {
    fn new(dir: &Path, count: u8) -> Self {
        let lane = |n: u8| {
            let folder = dir.join(n.to_string());
            fs::create_dir_all(&folder).unwrap();
            Lane {
                replica_id: [n + 1; 32],
                folder,
            }
        };
        Self((0..count).map(lane).collect())
    }

    fn label(&self, options: Options<'_>) -> Result<Report, Error> {
        label(&Job {
            layers: LAYERS,
            lanes: &self.0,
            rows: &graph(),
            options: Options {
                pages: Pages::Small,
                segment_nodes: 16,
                ..options
            },
        })
    }

    fn finish(&self) -> Report {
        self.label(Options {
            disk: &Dying::after(i64::MAX),
            ..Options::default()
        })
        .unwrap()
    }

    #[track_caller]
    fn assert_right(&self, report: &Report) {
        for (lane, facts) in self.0.iter().zip(&report.layers) {
            for (want, (path, digest)) in layers(lane.replica_id).iter().zip(facts) {
                assert!(fs::read(path).unwrap() == *want, "{}", path.display());
                assert_eq!(<[u8; 32]>::from(Sha256::digest(want)), *digest);
            }
            assert_eq!(facts.len(), LAYERS as usize);
        }
    }

    fn files(&self) -> Vec<PathBuf> {
        let list = |l: &Lane| fs::read_dir(&l.folder).unwrap().map(|e| e.unwrap().path());
        let mut files: Vec<_> = self.0.iter().flat_map(list).collect();
        files.sort();
        files
    }
}

/// A disk that goes on for some bytes and calls, then fails for ever: what was written stays.
#[derive(Debug)]
struct Dying {
    left: AtomicI64,
    kind: io::ErrorKind,
}

impl Dying {
    fn after(left: i64) -> Self {
        Self {
            left: left.into(),
            kind: io::ErrorKind::Other,
        }
    }

    fn take(&self, n: i64) -> io::Result<i64> {
        let before = self.left.fetch_sub(n, Ordering::SeqCst).max(0);
        if before >= n {
            Ok(n)
        } else {
            self.left.store(0, Ordering::SeqCst);
            if before > 0 {
                return Ok(before);
            }
            Err(self.kind.into())
        }
    }
}

impl Disk for Dying {
    fn write(&self, file: &File, bytes: &[u8]) -> io::Result<()> {
        let taken = usize::try_from(self.take(i64::try_from(bytes.len()).unwrap())?).unwrap();
        RealDisk.write(file, &bytes[..taken])?;
        if taken < bytes.len() {
            return Err(self.kind.into());
        }
        Ok(())
    }

    fn sync(&self, _: &File) -> io::Result<()> {
        self.take(1).map(drop)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.take(1)?;
        RealDisk.rename(from, to)
    }
}

/// The same numbers in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % n as u64).unwrap()
    }
}

#[test]
fn layers_are_those_of_the_definition_for_every_number_of_lanes() {
    for lanes in [1, 2, 4] {
        for kernel in [Kernel::best(), Kernel::PORTABLE] {
            let dir = tempfile::tempdir().unwrap();
            let sectors = Sectors::new(dir.path(), lanes);
            let options = Options {
                kernel,
                ..Options::default()
            };
            sectors.assert_right(&sectors.label(options).unwrap());
            let again = sectors.label(options).unwrap();
            assert_eq!(again.labelled, 0);
            sectors.assert_right(&again);
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let e = Sectors::new(dir.path(), 3).label(Options::default());
    assert!(matches!(e, Err(Error::Input(_))), "{e:?}");
}

/// Killed at 200 places, some of them in the middle of a write, twice before it may end.
#[test]
fn killed_anywhere_it_ends_the_same() {
    let mut random = Random(0x5eed);
    for point in 0..200 {
        let dir = tempfile::tempdir().unwrap();
        let sectors = Sectors::new(dir.path(), [1, 2, 4][point % 3]);
        let bytes = 7000 * sectors.0.len();
        for _ in 0..2 {
            let dying = Dying::after(i64::try_from(random.below(bytes)).unwrap());
            let options = Options {
                disk: &dying,
                ..Options::default()
            };
            drop(sectors.label(options));
        }
        let report = sectors.finish();
        assert_eq!(report.repaired, [""; 0], "what was marked is good");
        sectors.assert_right(&report);
    }
}

#[test]
fn it_goes_on_where_the_last_mark_is() {
    let dir = tempfile::tempdir().unwrap();
    let sectors = Sectors::new(dir.path(), 1);
    let asked = AtomicU32::new(0);
    let stop = || asked.fetch_add(1, Ordering::SeqCst) == 6;
    let options = Options {
        stop: &stop,
        ..Options::default()
    };
    let e = sectors.label(options).unwrap_err();
    assert!(matches!(e, Error::Stopped), "{e}");
    let (seen, first) = (Cell::new(None), &|p: (u32, u64)| p);
    let progress = |p: filstar_kernels::sdr::Progress| {
        if seen.get().is_none() {
            seen.set(Some(first((p.layer, p.node))));
        }
    };
    let options = Options {
        progress: &progress,
        ..Options::default()
    };
    let report = sectors.label(options).unwrap();
    assert_eq!(report.labelled, 64 * 3 - 64 - 32);
    assert_eq!(seen.get(), Some((2, 48)));
    sectors.assert_right(&report);
}

/// Any byte of any file, in a run that was stopped and in one that was done.
#[test]
fn flipped_byte_is_found_named_and_repaired() {
    let mut random = Random(0xf11b);
    for round in 0..60 {
        let dir = tempfile::tempdir().unwrap();
        let sectors = Sectors::new(dir.path(), 2);
        let dying = Dying::after(if round % 2 == 0 { 9000 } else { i64::MAX });
        let options = Options {
            disk: &dying,
            ..Options::default()
        };
        drop(sectors.label(options));
        let files = sectors.files();
        let file = &files[random.below(files.len())];
        let mut content = fs::read(file).unwrap();
        if content.is_empty() {
            continue;
        }
        let at = random.below(content.len());
        content[at] ^= 1 << random.below(8);
        fs::write(file, content).unwrap();
        // Layers that are whole are read when they are needed: ask for the one after.
        let next = layer_name(LAYERS);
        for lane in &sectors.0 {
            for name in [format!("{next}.journal"), next.clone()] {
                drop(fs::remove_file(lane.folder.join(name)));
            }
        }
        let report = sectors.finish();
        let name = file.file_name().unwrap().to_string_lossy();
        let is_read = name.contains("layer-2.dat") && !name.ends_with("journal");
        if is_read && file.metadata().is_ok() {
            assert!(report.repaired[0].contains(&*name), "{name}: {report:?}");
        }
        if !name.contains("layer-1") {
            sectors.assert_right(&report);
        }
    }
}

/// Layers after it were made of the right labels: they are read again and kept.
#[test]
fn distrusted_layer_is_made_again_from_its_last_good_segment() {
    let dir = tempfile::tempdir().unwrap();
    let sectors = Sectors::new(dir.path(), 1);
    sectors.finish();
    let first = sectors.0[0].folder.join(layer_name(1));
    let mut content = fs::read(&first).unwrap();
    content[40 * 32] ^= 1;
    fs::write(&first, content).unwrap();
    distrust(&first).unwrap();
    distrust(&first).unwrap();
    let report = sectors.finish();
    assert!(report.repaired[0].contains("nodes 32 to 48"), "{report:?}");
    assert_eq!(report.labelled, 32);
    sectors.assert_right(&report);
}

#[test]
fn layer_cut_short_or_of_another_sector_is_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    let (sectors, other) = (
        Sectors::new(&dir.path().join("a"), 1),
        Sectors::new(&dir.path().join("b"), 2),
    );
    sectors.label(Options::default()).unwrap();
    other.label(Options::default()).unwrap();
    let (ours, theirs) = (&sectors.0[0].folder, &other.0[1].folder);
    let second = ours.join(layer_name(2));
    let file = File::options().write(true).open(&second).unwrap();
    file.set_len(100).unwrap();
    for name in [layer_name(3), format!("{}.journal", layer_name(3))] {
        fs::copy(theirs.join(&name), ours.join(&name)).unwrap();
    }
    sectors.assert_right(&sectors.label(Options::default()).unwrap());
}

#[test]
fn full_disk_is_an_error_that_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let sectors = Sectors::new(dir.path(), 1);
    let full = Dying {
        left: 3000.into(),
        kind: io::ErrorKind::StorageFull,
    };
    let options = Options {
        disk: &full,
        ..Options::default()
    };
    let e = sectors.label(options).unwrap_err();
    let Error::Io { path, source, .. } = &e else {
        panic!("{e}")
    };
    assert_eq!(source.kind(), io::ErrorKind::StorageFull);
    assert!(path.to_string_lossy().contains("layer-2.dat"), "{e}");
}

#[test]
fn parents_file_of_another_size_or_graph_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("parents");
    let make = |graph: &Graph| parents::write(graph, 2, &mut File::create(&path).unwrap()).unwrap();
    let refused = |e: Error| {
        assert!(matches!(e, Error::Damaged { .. }), "{e}");
        assert!(e.to_string().contains("parents"), "{e}");
    };
    make(&Graph::new(NODES, &porep_id(6)).unwrap());
    let file = ParentsFile::open(&path, NODES).unwrap();
    refused(file.compare(&graph(), 4, 9).unwrap_err());
    make(&graph());
    let file = ParentsFile::open(&path, NODES).unwrap();
    file.compare(&graph(), 4, 9).unwrap();
    let raw = File::options().read(true).write(true).open(&path).unwrap();
    let mut byte = [0];
    raw.read_exact_at(&mut byte, 33 * ROW_BYTES as u64).unwrap();
    raw.write_all_at(&[byte[0] ^ 1], 33 * ROW_BYTES as u64)
        .unwrap();
    refused(file.compare(&graph(), NODES, 0).unwrap_err());
    // Cut while it is in use.
    raw.set_len(NODES * ROW_BYTES as u64 - 1).unwrap();
    refused(ParentsFile::open(&path, NODES).unwrap_err());
    let sectors = Sectors::new(dir.path(), 1);
    let e = label(&Job {
        layers: LAYERS,
        lanes: &sectors.0,
        rows: &file,
        options: Options::default(),
    });
    refused(e.unwrap_err());
}

/// Labels three sectors at once, in memory for three by the formula.
fn all_at_once(dir: &Path) {
    // A layer here is less than a block of 4 KiB.
    let pool = Pool::open(&dir.join("pool"), Pool::bytes_for(3, 4096)).unwrap();
    std::thread::scope(|scope| {
        for n in 0..3 {
            let (pool, folder) = (&pool, dir.join(format!("sectors-{n}")));
            scope.spawn(move || {
                let options = Options {
                    pool: Some(pool),
                    ..Options::default()
                };
                let sectors = Sectors::new(&folder, 1);
                let report = sectors.label(options).unwrap();
                sectors.assert_right(&report);
            });
        }
    });
    let left = fs::read_dir(dir.join("pool")).unwrap();
    assert_eq!(left.count(), 0, "nobody holds anything");
}

#[test]
fn sectors_that_share_a_pool_make_the_same_layers_within_its_bytes() {
    let dir = tempfile::tempdir().unwrap();
    all_at_once(dir.path());
}

#[test]
fn sectors_that_were_killed_at_different_places_go_on_all_at_once_in_a_pool() {
    for kill in [500, 1500, 2100] {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..3 {
            let sectors = Sectors::new(&dir.path().join(format!("sectors-{n}")), 1);
            let options = Options {
                disk: &Dying::after(kill * (n + 1)),
                ..Options::default()
            };
            sectors.label(options).unwrap_err();
        }
        all_at_once(dir.path());
    }
}
