//! PC1 of several sectors in one process: each is what it would be alone, and none takes another with it.

use std::{collections::BTreeMap, fs, num::NonZeroUsize, path::Path, sync::Mutex};

use crate::support::{Sector, isolated, isolated_for};
use crate::victim;
use filstar_sealing::{
    Class, Context, Error, Own, Result, SealProof, SectorId, Stock, Task, durable, run,
    steps::{Together, pc1_together},
    task::{Pc1, Pc1Output},
};

const NONE: &str = "/nonexistent";
const LARGE: SealProof = SealProof::StackedDrg8MiBV1P1;

fn task(s: &Sector) -> Pc1 {
    Pc1 {
        place: s.place.clone(),
        ticket: s.ticket,
    }
}

/// Sectors with data.
fn sectors(dir: &Path, proof: SealProof, count: u64) -> Vec<Sector> {
    let sector = |number| {
        let mut s = Sector::new(dir, number);
        s.place.proof = proof;
        s.remove().unwrap();
        s.add_piece().unwrap();
        s
    };
    (0..count).map(sector).collect()
}

type Ends = BTreeMap<u64, Result<Pc1Output>>;

/// Runs all of them; returns the ends, and who was told progress.
fn together(sectors: &[Sector], per_core: usize) -> (Ends, Vec<u64>) {
    let (ends, told) = (Mutex::new(Ends::new()), Mutex::new(Vec::new()));
    let inputs: Vec<_> = sectors.iter().map(task).collect();
    let context = Together {
        engine: &Own::default(),
        per_core: NonZeroUsize::new(per_core).unwrap(),
        progress: &|id: SectorId, _| told.lock().unwrap().push(id.number),
        ended: &|id: SectorId, end| {
            let before = ends.lock().unwrap().insert(id.number, end);
            assert!(before.is_none(), "{id} ended twice");
        },
    };
    pc1_together(&inputs, &context);
    (ends.into_inner().unwrap(), told.into_inner().unwrap())
}

fn files(s: &Sector) -> BTreeMap<String, String> {
    let names = durable::list(&s.place.cache()).unwrap().into_iter();
    let kept = names.filter(|n| Path::new(n).extension().is_some_and(|e| e == "dat"));
    kept.map(|n| {
        (
            n.clone(),
            durable::sha256(&s.place.cache().join(n)).unwrap(),
        )
    })
    .collect()
}

fn by_the_library(dir: &Path, like: &[Sector]) -> Vec<BTreeMap<String, String>> {
    let theirs = sectors(dir, like[0].place.proof, like.len() as u64);
    let each = theirs.iter().map(|s| {
        run(&Task::Pc1(task(s)), &Context::quiet(&Stock)).unwrap();
        files(s)
    });
    each.collect()
}

fn all(sectors: &[Sector]) -> Vec<BTreeMap<String, String>> {
    sectors.iter().map(files).collect()
}

#[test]
fn two_and_four_sectors_are_those_of_the_library_and_each_is_recorded() {
    let name = "two_and_four_sectors_are_those_of_the_library_and_each_is_recorded";
    isolated_for(LARGE, name, Path::new(NONE), |dir| {
        let want = by_the_library(&dir.join("stock"), &sectors(dir, LARGE, 4));
        for count in [2, 4] {
            let ours = sectors(&dir.join(count.to_string()), LARGE, count);
            let (ends, mut told) = together(&ours, 4);
            assert_eq!(all(&ours), want[..ours.len()]);
            told.sort_unstable();
            told.dedup();
            assert_eq!(told, (0..count).collect::<Vec<_>>());
            for s in &ours {
                let end = ends[&s.place.sector.number].as_ref().unwrap();
                assert_eq!(s.pc1().unwrap(), *end, "from its record");
            }
            assert!(ours[0].pc2().is_ok());
        }
    });
}

#[test]
fn sector_that_cannot_begin_or_fails_leaves_the_others_alone() {
    let name = "sector_that_cannot_begin_or_fails_leaves_the_others_alone";
    isolated(name, Path::new(NONE), |dir| {
        let proof = SealProof::StackedDrg2KiBV1P1;
        let ours = sectors(&dir.join("ours"), proof, 6);
        let want = by_the_library(&dir.join("stock"), &ours);
        fs::remove_dir_all(ours[1].place.ledger()).unwrap();
        ours[4].pc1().unwrap();
        // The layer cannot be written where a folder is.
        ours[2].pc1().unwrap();
        let record = ours[2].place.ledger().join("pc1.json");
        fs::remove_file(record).unwrap();
        let layer = ours[2].place.cache().join("sc-02-data-layer-2.dat");
        fs::remove_file(&layer).unwrap();
        fs::create_dir(layer.with_extension("dat.part")).unwrap();
        let (ends, _) = together(&ours, 4);
        let class = |n: u64| ends[&n].as_ref().map_err(Error::class).map(|_| ());
        assert_eq!(class(1), Err(Class::Corrupt), "it has no data");
        let error = ends[&2].as_ref().unwrap_err().to_string();
        assert!(error.contains("s-t01000-2"), "{error}");
        for good in [0, 3, 4, 5] {
            assert_eq!(class(good), Ok(()));
            let at = usize::try_from(good).unwrap();
            assert_eq!(files(&ours[at]), want[at]);
        }
    });
}

/// Runs what a parent test asks for, to be killed by it.
#[test]
fn victim() {
    if let Some(dir) = victim::asked() {
        let sector = |number| {
            let mut s = Sector::new(Path::new(&dir), number);
            s.place.proof = LARGE;
            s
        };
        together(&[0, 1, 2, 3].map(sector), 4);
    }
}

/// By signal 9; `FILSTAR_KILLS` says how often.
#[test]
fn sectors_in_lock_step_that_are_killed_go_on_together_or_alone() {
    let name = "sectors_in_lock_step_that_are_killed_go_on_together_or_alone";
    isolated_for(LARGE, name, Path::new(NONE), |dir| {
        let scratch = dir.join("scratch");
        sectors(&scratch, LARGE, 4);
        let whole = victim::undisturbed(&scratch);
        let kills = victim::kills(2);
        let want = by_the_library(&dir.join("stock"), &sectors(&scratch, LARGE, 4));
        for kill in 0..kills {
            let ours = sectors(&scratch, LARGE, 4);
            victim::killed_within(&scratch, whole);
            if kill % 2 == 0 {
                assert!(together(&ours, 4).0.values().all(Result::is_ok));
            } else {
                for s in &ours {
                    s.pc1().unwrap();
                }
            }
            assert_eq!(all(&ours), want);
        }
    });
}
