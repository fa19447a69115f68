//! PC1 with our kernels against the reference library; sectors in lock step; killed and damaged.

use std::{collections::BTreeMap, fs, path::Path};

use crate::support::{Sector, assert_names, isolated, isolated_for};
use crate::victim;
use filstar_kernels::sdr;
use filstar_sealing::{
    Class, Context, Own, Place, SealProof, Stock, Task, durable,
    engine::{Data, Engine, SealJob},
    run,
    task::Pc1,
};

const NONE: &str = "/nonexistent";
const SMALL: SealProof = SealProof::StackedDrg2KiBV1P1;
const LARGE: SealProof = SealProof::StackedDrg8MiBV1P1;

/// SHA-256 of what PC1 leaves behind, by name.
fn files(place: &Place) -> BTreeMap<String, String> {
    let names = durable::list(&place.cache()).unwrap();
    names
        .into_iter()
        .filter(|n| Path::new(n).extension().is_some_and(|e| e == "dat"))
        .map(|name| {
            let digest = durable::sha256(&place.cache().join(&name)).unwrap();
            (name, digest)
        })
        .collect()
}

fn task(s: &Sector) -> Task {
    Task::Pc1(Pc1 {
        place: s.place.clone(),
        ticket: s.ticket,
    })
}

fn sized(mut sector: Sector, proof: SealProof) -> Sector {
    sector.place.proof = proof;
    sector
}

fn by(engine: &dyn Engine, s: &Sector) -> BTreeMap<String, String> {
    s.add_piece().unwrap();
    run(&task(s), &Context::quiet(engine)).unwrap();
    files(&s.place)
}

fn same_as_the_library(proof: SealProof, dir: &Path) {
    let sector = |folder: &str| sized(Sector::new(&dir.join(folder), 7), proof);
    let want = by(&Stock, &sector("stock"));
    assert_eq!(want.len(), 3, "{want:?}");
    assert_eq!(by(&Own::default(), &sector("own")), want);
    let portable = Own {
        labels: sdr::Kernel::PORTABLE,
        ..Own::default()
    };
    assert_eq!(by(&portable, &sector("portable")), want);
}

#[test]
fn layers_and_tree_d_are_those_of_the_library_at_2_kib() {
    let name = "layers_and_tree_d_are_those_of_the_library_at_2_kib";
    isolated(name, Path::new(NONE), |dir| same_as_the_library(SMALL, dir));
}

#[test]
fn layers_and_tree_d_are_those_of_the_library_at_8_mib() {
    let name = "layers_and_tree_d_are_those_of_the_library_at_8_mib";
    isolated_for(LARGE, name, Path::new(NONE), |dir| {
        same_as_the_library(LARGE, dir);
    });
}

#[test]
fn sectors_in_lock_step_are_what_each_is_alone() {
    let name = "sectors_in_lock_step_are_what_each_is_alone";
    isolated(name, Path::new(NONE), |dir| {
        for count in [2, 4] {
            let sectors: Vec<_> = (0..count)
                .map(|n| Sector::new(&dir.join(count.to_string()), n))
                .collect();
            let pieces: Vec<_> = sectors
                .iter()
                .map(|s| s.add_piece().unwrap().pieces)
                .collect();
            let jobs: Vec<_> = sectors
                .iter()
                .zip(&pieces)
                .map(|(s, pieces)| SealJob {
                    place: &s.place,
                    ticket: s.ticket,
                    pieces,
                    sums: &[],
                    progress: &|_| {},
                })
                .collect();
            for job in &jobs {
                fs::create_dir_all(job.place.cache()).unwrap();
                fs::create_dir_all(job.place.sealed().parent().unwrap()).unwrap();
            }
            let own = Own::default();
            let made = own.pc1_together(&jobs, Data::Zeros).unwrap();
            for (s, made) in sectors.iter().zip(made) {
                let alone = Sector::new(&dir.join("alone"), s.place.sector.number);
                assert_eq!(files(&s.place), by(&own, &alone));
                assert_eq!(made.digests.len(), 2);
            }
        }
    });
}

#[test]
fn another_engine_does_not_build_on_our_layers() {
    let name = "another_engine_does_not_build_on_our_layers";
    isolated(name, Path::new(NONE), |dir| {
        let s = Sector::new(dir, 7);
        let want = by(&Own::default(), &s);
        fs::remove_file(s.place.ledger().join("pc1.json")).unwrap();
        fs::write(s.place.cache().join("sc-02-data-layer-1.dat"), [1; 2048]).unwrap();
        assert_eq!(by(&Stock, &s), want);
        assert_eq!(by(&Own::default(), &s), want);
    });
}

/// PC2 names the layer; PC1 makes only what is missing.
#[test]
fn layer_damaged_after_pc1_is_made_again_from_there() {
    let name = "layer_damaged_after_pc1_is_made_again_from_there";
    isolated_for(LARGE, name, Path::new(NONE), |dir| {
        let s = sized(Sector::new(dir, 7), LARGE);
        let want = by(&Own::default(), &s);
        for layer in ["sc-02-data-layer-1.dat", "sc-02-data-layer-2.dat"] {
            let path = s.place.cache().join(layer);
            let mut content = fs::read(&path).unwrap();
            content[5_000_000] ^= 4;
            fs::write(&path, content).unwrap();
            assert_names(&s.pc2().unwrap_err(), layer);
            assert_eq!(by(&Own::default(), &s), want);
        }
    });
}

#[test]
fn parents_file_that_is_wrong_is_made_again_or_named() {
    let name = "parents_file_that_is_wrong_is_made_again_or_named";
    isolated(name, Path::new(NONE), |dir| {
        let s = Sector::new(dir, 7);
        let want = by(&Own::default(), &s);
        let own = Own::default();
        let file = own
            .parents
            .join(filstar_sealing::params::parents_name(SMALL).unwrap());
        for damage in 0..3 {
            let mut content = fs::read(&file).unwrap();
            match damage {
                0 => content[700] ^= 1,
                1 => content.truncate(100),
                _ => content.clear(),
            }
            fs::write(&file, content).unwrap();
            let again = Sector::new(dir, 10 + damage);
            let other = Sector::new(&dir.join("stock"), 10 + damage);
            assert_eq!(by(&own, &again), by(&Stock, &other));
        }
        let elsewhere = Own {
            parents: dir.join("elsewhere"),
            ..Own::default()
        };
        s.remove().unwrap();
        s.add_piece().unwrap();
        let e = run(&task(&s), &Context::quiet(&elsewhere)).unwrap_err();
        assert_eq!(e.class(), Class::Temporary);
        assert!(e.to_string().contains("sealer-pod params"), "{e}");
        assert_eq!(by(&own, &s), want);
    });
}

/// Runs what a parent test asks for, to be killed by it.
#[test]
fn victim() {
    victim::run_task();
}

/// By signal 9, twice in each sector; `FILSTAR_KILLS` says how often in all.
#[test]
fn pc1_killed_at_random_points_ends_identical() {
    let name = "pc1_killed_at_random_points_ends_identical";
    isolated_for(LARGE, name, Path::new(NONE), |dir| {
        let sector = |n| sized(Sector::new(dir, n), LARGE);
        let asked = |s: &Sector| serde_json::to_string(&task(s)).unwrap();
        let first = sector(0);
        first.add_piece().unwrap();
        let whole = victim::undisturbed(asked(&first));
        let kills = victim::kills(8);
        let want = by(&Own::default(), &sector(1));
        for _ in 0..kills.div_ceil(2) {
            let s = sector(1);
            s.remove().unwrap();
            s.add_piece().unwrap();
            for _ in 0..2 {
                victim::killed_within(asked(&s), whole);
            }
            assert_eq!(by(&Own::default(), &s), want);
        }
    });
}
