use std::sync::{
    Barrier,
    atomic::{AtomicU64, Ordering},
};

use proptest::prelude::*;

use super::*;

const BLOCK: u64 = 10;

fn newcomer(layer: u64, turn: u64) -> Holding {
    Holding {
        layer,
        wants: layer,
        turn,
        ..Holding::default()
    }
}

fn held(holders: &[Holding]) -> u64 {
    let inside = holders.iter().filter(|h| h.inside);
    inside.map(|h| h.layer + h.growing).sum()
}

/// Some PC1 of several layers, moved in any order: each step labels a block or waits for one.
struct World {
    bytes: u64,
    holders: Vec<Holding>,
    layers_left: Vec<u32>,
    turns: u64,
}

impl World {
    fn new(bytes: u64, layers: &[u64], count: u32) -> Self {
        Self {
            bytes,
            holders: layers
                .iter()
                .zip(1..)
                .map(|(l, t)| newcomer(*l, t))
                .collect(),
            layers_left: vec![count; layers.len()],
            turns: layers.len() as u64,
        }
    }

    fn is_done(&self) -> bool {
        self.layers_left.iter().all(|l| *l == 0)
    }

    /// Whether this one moved.
    fn step(&mut self, i: usize) -> bool {
        if self.layers_left[i] == 0 {
            return false;
        }
        if self.holders[i].wants == 0 {
            self.turns += 1;
            self.holders[i].wants = BLOCK;
            self.holders[i].turn = self.turns;
        }
        // As a process does: it sees what all would be given, and takes its own part.
        let mut all = self.holders.clone();
        give(self.bytes, &mut all);
        let moved = all[i].wants == 0;
        self.holders[i] = all[i];
        if self.holders[i].growing == self.holders[i].layer {
            self.holders[i].growing = 0;
            self.layers_left[i] -= 1;
            if self.layers_left[i] == 0 {
                self.holders[i] = Holding::default();
            }
        }
        moved
    }
}

proptest! {
    #[test]
    fn prop_all_come_to_their_end_within_the_bytes_in_any_order(
        layers in prop::collection::vec(1u64..8, 1..7),
        spare in 0u64..200,
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..600),
    ) {
        let layers: Vec<_> = layers.iter().map(|l| l * BLOCK).collect();
        let bytes = 2 * layers.iter().max().unwrap() + spare;
        let mut world = World::new(bytes, &layers, 3);
        for at in order {
            world.step(at.index(layers.len()));
            prop_assert!(held(&world.holders) <= bytes);
            prop_assert!(is_safe(bytes, &world.holders));
        }
        while !world.is_done() {
            let moved = (0..layers.len()).filter(|i| world.step(*i)).count();
            prop_assert!(moved > 0, "nobody can move: {:?}", world.holders);
            prop_assert!(held(&world.holders) <= bytes);
        }
    }
}

/// Rounds in which each of some PC1 labels a block or waits, all begun at once.
fn rounds(n: u32, layers: u32) -> u32 {
    let layer = 64 * BLOCK;
    let bytes = Pool::bytes_for(n.into(), layer);
    let mut world = World::new(bytes, &vec![layer; n as usize], layers);
    let mut rounds = 0;
    while !world.is_done() {
        for i in 0..n as usize {
            world.step(i);
        }
        rounds += 1;
    }
    rounds
}

#[test]
fn holders_wait_once_and_seldom_afterwards_when_the_pool_has_the_bytes_of_the_formula() {
    for n in 1..=8 {
        let (once, longer) = (rounds(n, 11), rounds(n, 22));
        assert!(once <= 64 * (11 + 3), "{n}: {once} rounds");
        assert!(
            longer - once <= 64 * (11 + 1),
            "{n}: {once}, {longer} rounds"
        );
    }
}

#[test]
fn formula_holds_21_sectors_of_32_gib_in_one_tib() {
    assert_eq!(Pool::bytes_for(1, 32), 64);
    assert_eq!(Pool::bytes_for(2, 32), 112);
    assert_eq!(Pool::bytes_for(21, 32 << 30), 1024 << 30);
}

#[test]
fn newcomer_waits_until_there_is_room_for_its_layer() {
    let mut all = [newcomer(40, 1), newcomer(40, 2), newcomer(40, 3)];
    give(120, &mut all);
    assert_eq!(all.map(|h| h.inside), [true, true, false]);
    all[0] = Holding::default();
    give(120, &mut all);
    assert!(all[2].inside);
}

#[test]
fn sector_that_never_fits_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let pool = Pool::open(dir.path(), 127).unwrap();
    for layer in [0, 64, u64::MAX] {
        let e = pool.enter(layer, &|| false).unwrap_err();
        assert!(matches!(e, Error::Memory(_)), "{e}");
    }
}

#[test]
fn dead_holder_is_forgotten_and_one_that_waits_can_be_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let dead = dir.path().join("7-0.holder");
    let full = Holding {
        layer: 64,
        growing: 64,
        inside: true,
        ..Holding::default()
    };
    write(&mut File::create(&dead).unwrap(), &full).unwrap();
    assert_eq!(parse(&fs::read(&dead).unwrap()), Some(full));
    let pool = Pool::open(dir.path(), 128).unwrap();
    let mut holder = pool.enter(64, &|| false).unwrap();
    holder.grow(64, &|| false).unwrap();
    assert!(!dead.exists());
    let e = pool.enter(64, &|| true).unwrap_err();
    assert!(matches!(e, Error::Stopped), "{e}");
    drop(holder);
    pool.enter(64, &|| true).unwrap();
}

fn only_file(folder: &Path) -> PathBuf {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().flatten().collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.pop().unwrap().path()
}

#[test]
fn holder_whose_file_is_damaged_writes_it_anew_and_nobody_is_given_memory_before() {
    let dir = tempfile::tempdir().unwrap();
    let pool = Pool::open(dir.path(), 256).unwrap();
    let mut holder = pool.enter(64, &|| false).unwrap();
    let path = only_file(dir.path());
    let said = fs::read(&path).unwrap();
    let mut damages = vec![b"".to_vec(), b"nonsense".to_vec(), vec![0xff; 300]];
    // Any one byte: the line has a check.
    damages.extend((0..said.len() - 1).map(|at| {
        let mut damaged = said.clone();
        damaged[at] ^= 1;
        damaged
    }));
    for damage in damages {
        // In place: it stays the holder's file, with its lock.
        fs::write(&path, &damage).unwrap();
        let e = pool.enter(64, &|| true).unwrap_err();
        assert!(matches!(e, Error::Stopped), "{damage:?}: {e}");
        holder.next_layer().unwrap();
        assert_eq!(fs::read(&path).unwrap(), said);
        drop(pool.enter(64, &|| true).unwrap());
    }
    holder.grow(64, &|| true).unwrap();
}

#[test]
fn holder_whose_file_is_gone_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("pool");
    let pool = Pool::open(&folder, 256).unwrap();
    let damages: [fn(&Path); 3] = [
        |folder| fs::remove_file(only_file(folder)).unwrap(),
        |folder| fs::remove_dir_all(folder).unwrap(),
        |folder| {
            // As if nobody had been there, with a file of the same name.
            let file = only_file(folder);
            fs::remove_dir_all(folder).unwrap();
            fs::create_dir(folder).unwrap();
            fs::write(file, "").unwrap();
        },
    ];
    for damage in damages {
        let mut holder = pool.enter(64, &|| false).unwrap();
        damage(&folder);
        let e = holder.grow(32, &|| false).unwrap_err();
        assert!(matches!(e, Error::Io { .. }), "{e}");
        assert!(e.to_string().contains(folder.to_str().unwrap()), "{e}");
        assert!(holder.next_layer().is_err());
        drop(holder);
        // The next one starts with a folder that is as it should be.
        let pool = Pool::open(&folder, 256).unwrap();
        drop(pool.enter(64, &|| true).unwrap());
    }
}

#[test]
fn holders_that_end_disturb_nobody_who_looks() {
    let dir = tempfile::tempdir().unwrap();
    let pool = Pool::open(dir.path(), 4096).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..300 {
                    drop(pool.enter(64, &|| false).unwrap());
                }
            });
        }
    });
}

#[test]
fn holders_in_files_stay_within_the_bytes_and_come_to_their_end() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = Pool::bytes_for(3, 64);
    let pool = Pool::open(dir.path(), bytes).unwrap();
    let (sum, begin) = (AtomicU64::new(0), Barrier::new(4));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                begin.wait();
                let mut holder = pool.enter(64, &|| false).unwrap();
                let add = |n| assert!(sum.fetch_add(n, Ordering::SeqCst) + n <= bytes);
                add(64);
                for _ in 0..3 {
                    for to in (16..=64).step_by(16) {
                        holder.grow(to, &|| false).unwrap();
                        add(16);
                    }
                    sum.fetch_sub(64, Ordering::SeqCst);
                    holder.next_layer().unwrap();
                }
                sum.fetch_sub(64, Ordering::SeqCst);
            });
        }
    });
    assert_eq!(sum.into_inner(), 0);
}
