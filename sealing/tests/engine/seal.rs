//! Whole sectors of 2 KiB without SNARKs: every step repeated, killed, damaged.

use std::{
    fs::{self, File},
    os::unix::fs::symlink,
    path::Path,
};

use crate::support::{Sector, assert_names, die_at, isolated};
use filstar_sealing::{Class, Hash32, Own, run, steps::Point, task::Pc1};
use filstar_sealing::{Context, Task};

fn alone(name: &str, body: impl FnOnce(&Path)) {
    isolated(name, Path::new("/nonexistent"), body);
}

fn flip(path: &Path) {
    let mut content = fs::read(path).unwrap();
    content[77] ^= 1;
    fs::write(path, content).unwrap();
}

fn cut(path: &Path) {
    let len = fs::metadata(path).unwrap().len();
    File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_len(len / 2)
        .unwrap();
}

#[test]
fn every_step_gives_the_same_result_when_run_again() {
    alone("every_step_gives_the_same_result_when_run_again", |dir| {
        let s = Sector::new(dir, 7);
        for _ in 0..2 {
            s.add_piece().unwrap();
        }
        assert_eq!(s.pc1().unwrap(), s.pc1().unwrap());
        assert_eq!(s.pc2().unwrap(), s.pc2().unwrap());
        let first = fs::read(s.c1().unwrap().file).unwrap();
        assert_eq!(first, fs::read(s.c1().unwrap().file).unwrap());
        assert_eq!(s.finalize().unwrap(), s.finalize().unwrap());
    });
}

/// `matches_reference`: what surrounds the library changes nothing of its results.
#[test]
fn commitments_match_the_bare_library() {
    alone("commitments_match_the_bare_library", |dir| {
        use filecoin_proofs_api::{RegisteredSealProof as P, UnpaddedBytesAmount, seal};
        let s = Sector::new(dir, 7);
        let ours = s.sealed();
        let bare = dir.join("bare");
        fs::create_dir_all(bare.join("cache")).unwrap();
        let (data, sealed) = (bare.join("data"), bare.join("sealed"));
        let mut file = File::options()
            .create_new(true)
            .write(true)
            .open(&data)
            .unwrap();
        let all = UnpaddedBytesAmount(2032);
        let zeros = std::io::Read::take(std::io::repeat(0), 2032);
        let (piece, _) =
            seal::add_piece(P::StackedDrg2KiBV1_1, zeros, &mut file, all, &[]).unwrap();
        File::create(&sealed).unwrap();
        let pc1 = seal::seal_pre_commit_phase1(
            P::StackedDrg2KiBV1_1,
            bare.join("cache"),
            &data,
            &sealed,
            s.place.sector.prover_id(),
            7.into(),
            s.ticket.0,
            &[piece],
        );
        let pc2 = seal::seal_pre_commit_phase2(pc1.unwrap(), bare.join("cache"), &sealed).unwrap();
        assert_eq!(ours.comm_d, Hash32(pc2.comm_d));
        assert_eq!(ours.comm_r, Hash32(pc2.comm_r));
        assert_eq!(
            fs::read(s.place.sealed()).unwrap(),
            fs::read(sealed).unwrap()
        );
        assert_eq!(
            fs::read(s.place.unsealed()).unwrap(),
            fs::read(data).unwrap()
        );
    });
}

#[test]
fn crash_after_pc2_encoded_the_replica_changes_nothing() {
    alone(
        "crash_after_pc2_encoded_the_replica_changes_nothing",
        |dir| {
            let (s, twin) = (
                Sector::new(&dir.join("a"), 7),
                Sector::new(&dir.join("b"), 7),
            );
            s.add_piece().unwrap();
            s.pc1().unwrap();
            for _ in 0..3 {
                die_at(&s.pc2_task(), Point::Pc2);
            }
            assert_eq!(s.pc2().unwrap(), twin.sealed());
            s.c1().unwrap();
        },
    );
}

#[test]
fn crash_after_pc1_wrote_layers_changes_nothing() {
    alone("crash_after_pc1_wrote_layers_changes_nothing", |dir| {
        let (s, twin) = (
            Sector::new(&dir.join("a"), 7),
            Sector::new(&dir.join("b"), 7),
        );
        s.add_piece().unwrap();
        let task = Task::Pc1(Pc1 {
            place: s.place.clone(),
            ticket: s.ticket,
        });
        die_at(&task, Point::Pc1);
        cut(&s.place.cache().join("sc-02-data-tree-d.dat"));
        fs::write(s.place.sealed(), b"half a file").unwrap();
        s.pc1().unwrap();
        assert_eq!(s.pc2().unwrap(), twin.sealed());
    });
}

#[test]
fn layers_of_another_ticket_are_never_taken() {
    alone("layers_of_another_ticket_are_never_taken", |dir| {
        let s = Sector::new(&dir.join("a"), 7);
        let other = Sector {
            ticket: Hash32([8; 32]),
            ..s.clone()
        };
        s.add_piece().unwrap();
        let task = Task::Pc1(Pc1 {
            place: s.place.clone(),
            ticket: s.ticket,
        });
        die_at(&task, Point::Pc1);
        other.pc1().unwrap();
        let sealed = other.pc2().unwrap();
        let twin = Sector {
            ticket: Hash32([8; 32]),
            ..Sector::new(&dir.join("b"), 7)
        };
        assert_eq!(sealed, twin.sealed());
    });
}

#[test]
fn another_ticket_starts_afresh_and_later_steps_want_pc1_again() {
    alone(
        "another_ticket_starts_afresh_and_later_steps_want_pc1_again",
        |dir| {
            let s = Sector::new(dir, 7);
            let first = s.sealed();
            let other = Sector {
                ticket: Hash32([8; 32]),
                ..s.clone()
            };
            assert_names(&other.pc2().unwrap_err(), "s-t01000-7");
            other.pc1().unwrap();
            assert_ne!(other.pc2().unwrap().comm_r, first.comm_r);
            assert_names(&s.c1().unwrap_err(), "s-t01000-7");
            assert_eq!(s.sealed(), first);
        },
    );
}

#[test]
fn another_seed_makes_other_proofs_and_c2_wants_its_own() {
    alone(
        "another_seed_makes_other_proofs_and_c2_wants_its_own",
        |dir| {
            let s = Sector::new(dir, 7);
            s.sealed();
            let first = fs::read(s.c1().unwrap().file).unwrap();
            let other = Sector {
                seed: Hash32([6; 32]),
                ..s.clone()
            };
            assert_names(&other.c2().unwrap_err(), "s-t01000-7");
            assert_ne!(first, fs::read(other.c1().unwrap().file).unwrap());
            assert_names(&s.c2().unwrap_err(), "s-t01000-7");
        },
    );
}

#[test]
fn damaged_layer_is_named_and_pc1_repairs_it() {
    alone("damaged_layer_is_named_and_pc1_repairs_it", |dir| {
        for (number, damage) in [
            (1, flip as fn(&Path)),
            (2, cut),
            (3, |p| {
                fs::remove_file(p).unwrap();
            }),
        ] {
            let s = Sector::new(&dir.join("a"), number);
            let twin = Sector::new(&dir.join("b"), number);
            s.add_piece().unwrap();
            s.pc1().unwrap();
            let layer = "sc-02-data-layer-1.dat";
            damage(&s.place.cache().join(layer));
            assert_names(&s.pc2().unwrap_err(), layer);
            s.pc1().unwrap();
            assert_eq!(s.pc2().unwrap(), twin.sealed());
        }
    });
}

#[test]
fn damaged_file_between_pc2_and_c1_is_named() {
    alone("damaged_file_between_pc2_and_c1_is_named", |dir| {
        let files = [
            "sc-02-data-tree-c.dat",
            "sc-02-data-tree-r-last.dat",
            "p_aux",
        ];
        for (number, file) in (1..).zip(files) {
            let s = Sector::new(dir, number);
            let good = s.sealed();
            cut(&s.place.cache().join(file));
            assert_names(&s.c1().unwrap_err(), file);
            assert_eq!(s.pc2().unwrap(), good, "PC2 repairs {file}");
            s.c1().unwrap();
        }
    });
}

#[test]
fn spoilt_c1_output_is_named_by_c2() {
    alone("spoilt_c1_output_is_named_by_c2", |dir| {
        let s = Sector::new(dir, 7);
        s.sealed();
        flip(&s.c1().unwrap().file);
        assert_names(&s.c2().unwrap_err(), "c1-output.json");
    });
}

#[test]
fn c2_without_parameters_says_how_to_get_them() {
    alone("c2_without_parameters_says_how_to_get_them", |dir| {
        let s = Sector::new(dir, 7);
        s.sealed();
        s.c1().unwrap();
        let e = s.c2().unwrap_err();
        assert_eq!(e.class(), Class::Temporary);
        assert!(e.to_string().contains("sealer-pod params"), "{e}");
    });
}

#[test]
fn from_scratch_repeats_pc1_and_pc2() {
    alone("from_scratch_repeats_pc1_and_pc2", |dir| {
        let s = Sector::new(dir, 7);
        let first = s.sealed();
        let engine = Own::default();
        let context = Context {
            from_scratch: true,
            ..Context::quiet(&engine)
        };
        let pc1 = Task::Pc1(Pc1 {
            place: s.place.clone(),
            ticket: s.ticket,
        });
        run(&pc1, &context).unwrap();
        assert!(!s.place.ledger().join("pc2.json").exists());
        run(&s.pc2_task(), &context).unwrap();
        assert_eq!(s.pc2().unwrap(), first);
    });
}

#[test]
fn sector_lands_once_and_is_readable_there() {
    alone("sector_lands_once_and_is_readable_there", |dir| {
        let (s, store) = (Sector::new(&dir.join("scratch"), 7), dir.join("store"));
        let sealed = s.sealed();
        s.finalize().unwrap();
        let first = s.land(&store, &sealed).unwrap();
        assert!(!s.place.sealed().exists() && !s.place.cache().exists());
        assert_eq!(
            s.land(&store, &sealed).unwrap(),
            first,
            "source gone, target there: done"
        );
        let there = s.at(&store);
        assert!(there.place.facts().exists());
        there.vanilla(sealed.comm_r, Hash32([3; 32])).unwrap();
        assert!(!there.place.cache().join("sc-02-data-layer-1.dat").exists());
        assert!(!store.join("landing/s-t01000-7").exists());
    });
}

#[test]
fn landing_in_the_scratch_folder_itself_is_refused_under_any_name() {
    let name = "landing_in_the_scratch_folder_itself_is_refused_under_any_name";
    alone(name, |dir| {
        let (scratch, link, other) = (dir.join("scratch"), dir.join("link"), dir.join("other"));
        let s = Sector::new(&scratch, 7);
        let sealed = s.sealed();
        s.finalize().unwrap();
        let files = || {
            let cache = fs::read(s.place.cache().join("p_aux")).unwrap();
            (fs::read(s.place.sealed()).unwrap(), cache)
        };
        let before = files();
        symlink(&scratch, &link).unwrap();
        fs::create_dir_all(&other).unwrap();
        symlink(scratch.join("cache"), other.join("cache")).unwrap();
        for store in [&scratch, &link, &other] {
            let e = s.land(store, &sealed).unwrap_err();
            assert_eq!(e.class(), Class::Fatal, "{e}");
            assert!(e.to_string().contains("another directory"), "{e}");
            assert!(files() == before, "{}", store.display());
        }
        fs::remove_file(other.join("cache")).unwrap();
        s.land(&other, &sealed).unwrap();
    });
}

/// What was landed once is not removed in the name of its source.
#[test]
fn sector_that_is_its_own_copy_in_the_store_is_never_removed() {
    let name = "sector_that_is_its_own_copy_in_the_store_is_never_removed";
    alone(name, |dir| {
        let (s, store) = (Sector::new(&dir.join("scratch"), 7), dir.join("store"));
        let sealed = s.sealed();
        s.finalize().unwrap();
        s.land(&store, &sealed).unwrap();
        let there = s.at(&store).place;
        symlink(there.sealed(), s.place.sealed()).unwrap();
        let e = s.land(&store, &sealed).unwrap_err();
        assert_eq!(e.class(), Class::Fatal, "{e}");
        assert!(s.place.sealed().exists() && there.sealed().exists());
    });
}

#[test]
fn landing_in_a_store_that_is_not_mounted_waits_and_makes_no_folder() {
    let name = "landing_in_a_store_that_is_not_mounted_waits_and_makes_no_folder";
    alone(name, |dir| {
        let (s, store) = (Sector::new(&dir.join("scratch"), 7), dir.join("store"));
        let sealed = s.sealed();
        s.finalize().unwrap();
        let e = s.land_where_it_is(&store, &sealed).unwrap_err();
        assert_eq!(e.class(), Class::Temporary, "{e}");
        let words = format!("{}: this pod does not mount the store", store.display());
        assert!(e.to_string().contains(&words), "{e}");
        assert!(!store.exists() && s.place.sealed().exists());
    });
}

#[test]
fn landing_goes_on_after_half_of_it() {
    alone("landing_goes_on_after_half_of_it", |dir| {
        let (s, store) = (Sector::new(&dir.join("scratch"), 7), dir.join("store"));
        let sealed = s.sealed();
        s.finalize().unwrap();
        let there = s.at(&store).place;
        fs::create_dir_all(there.cache()).unwrap();
        fs::write(there.cache().join("p_aux"), b"half").unwrap();
        fs::create_dir_all(store.join("landing/s-t01000-7/sealed")).unwrap();
        fs::write(store.join("landing/s-t01000-7/sealed/s-t01000-7"), b"half").unwrap();
        s.land(&store, &sealed).unwrap();
        s.at(&store)
            .vanilla(sealed.comm_r, Hash32([3; 32]))
            .unwrap();
    });
}

#[test]
fn landing_a_damaged_sector_names_the_file_and_removes_nothing() {
    alone(
        "landing_a_damaged_sector_names_the_file_and_removes_nothing",
        |dir| {
            let (s, store) = (Sector::new(&dir.join("scratch"), 7), dir.join("store"));
            let sealed = s.sealed();
            flip(&s.place.sealed());
            assert_names(&s.land(&store, &sealed).unwrap_err(), "sealed/s-t01000-7");
            assert!(s.place.sealed().exists() && !s.at(&store).place.sealed().exists());
        },
    );
}

#[test]
fn landing_another_replica_than_the_chains_is_refused() {
    alone(
        "landing_another_replica_than_the_chains_is_refused",
        |dir| {
            let s = Sector::new(&dir.join("scratch"), 7);
            let mut sealed = s.sealed();
            sealed.comm_r = Hash32([1; 32]);
            let e = s.land(&dir.join("store"), &sealed).unwrap_err();
            assert_eq!(e.class(), Class::Permanent, "{e}");
            assert!(s.place.sealed().exists());
        },
    );
}

#[test]
fn removed_sector_leaves_nothing_and_can_be_removed_again() {
    alone(
        "removed_sector_leaves_nothing_and_can_be_removed_again",
        |dir| {
            let s = Sector::new(dir, 7);
            s.sealed();
            s.remove().unwrap();
            s.remove().unwrap();
            for path in [
                s.place.sealed(),
                s.place.unsealed(),
                s.place.cache(),
                s.place.ledger(),
            ] {
                assert!(!path.exists(), "{}", path.display());
            }
        },
    );
}

#[test]
fn reading_a_damaged_sector_names_the_file() {
    alone("reading_a_damaged_sector_names_the_file", |dir| {
        let s = Sector::new(dir, 7);
        let sealed = s.sealed();
        cut(&s.place.sealed());
        assert_names(
            &s.vanilla(sealed.comm_r, s.seed).unwrap_err(),
            "sealed/s-t01000-7",
        );
        cut(&s.place.cache().join("p_aux"));
        assert_names(&s.vanilla(sealed.comm_r, s.seed).unwrap_err(), "p_aux");
    });
}

#[test]
fn two_processes_never_work_on_one_sector() {
    alone("two_processes_never_work_on_one_sector", |dir| {
        let s = Sector::new(dir, 7);
        let inner = s.clone();
        s.add_piece().unwrap();
        let engine = Own::default();
        let context = Context {
            point: &|_| {
                let e = inner.pc2().unwrap_err();
                assert_eq!(e.class(), Class::Temporary, "{e}");
            },
            ..Context::quiet(&engine)
        };
        let task = Task::Pc1(Pc1 {
            place: s.place.clone(),
            ticket: s.ticket,
        });
        run(&task, &context).unwrap();
    });
}
