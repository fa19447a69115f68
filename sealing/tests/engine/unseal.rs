//! Unsealing against the data that was sealed and against the reference library; killed, damaged, asked for wrongly.

use std::{fs, num::NonZeroUsize, os::unix::fs::symlink, path::Path, sync::Mutex};

use crate::replica::{Replica, unseal, unseal_telling};
use crate::support::{Sector, assert_names, isolated, isolated_for};
use crate::victim;
use blstrs::Scalar;
use filstar_kernels::{
    poseidon::{Node, add, subtract},
    sdr,
};
use filstar_sealing::{
    Class, Error, Hash32, Own, SealProof, Stock, Task, durable, engine::Engine, steps::Progress,
    task::Unseal,
};

const NONE: &str = "/nonexistent";
const SMALL: SealProof = SealProof::StackedDrg2KiBV1P1;
const LARGE: SealProof = SealProof::StackedDrg8MiBV1P1;
const SEALED: &str = "sealed/s-t01000-7";

fn alone(name: &str, body: impl FnOnce(&Path)) {
    isolated(name, Path::new(NONE), body);
}

fn flip(path: &Path, at: usize) {
    let mut content = fs::read(path).unwrap();
    content[at] ^= 1;
    fs::write(path, content).unwrap();
}

#[track_caller]
fn assert_says(error: &Error, class: Class, words: &[&str]) {
    assert_eq!(error.class(), class, "{error}");
    for word in words {
        assert!(error.to_string().contains(word), "{word:?}: {error}");
    }
}

/// By our engine, its portable kernels and the library; each over what the one before left.
fn data_comes_back(dir: &Path, proof: SealProof) {
    let r = Replica::new(dir, proof, &Stock);
    let portable = Own {
        threads: NonZeroUsize::MIN,
        labels: sdr::Kernel::PORTABLE,
        ..Own::default()
    };
    let before = r.replica();
    for engine in [&Own::default() as &dyn Engine, &portable, &Stock] {
        let made = unseal(r.input(), engine).unwrap();
        assert_eq!(made.file, r.s.place.unsealed());
        assert_eq!(made.comm_d, r.comm_d);
        r.assert_unsealed(engine.name());
        assert!(r.replica() == before, "{}", engine.name());
        fs::remove_file(made.file).unwrap();
    }
}

#[test]
fn unsealed_data_is_what_was_sealed_and_the_librarys_at_2_kib() {
    let name = "unsealed_data_is_what_was_sealed_and_the_librarys_at_2_kib";
    alone(name, |dir| data_comes_back(dir, SMALL));
}

#[test]
fn unsealed_data_is_what_was_sealed_and_the_librarys_at_8_mib() {
    let name = "unsealed_data_is_what_was_sealed_and_the_librarys_at_8_mib";
    isolated_for(LARGE, name, Path::new(NONE), |dir| {
        data_comes_back(dir, LARGE);
    });
}

#[test]
fn data_that_is_there_is_taken_and_other_data_replaced() {
    let name = "data_that_is_there_is_taken_and_other_data_replaced";
    alone(name, |dir| {
        let r = Replica::new(dir, SMALL, &Own::default());
        let first = r.unseal().unwrap();
        // Nothing but the data is needed any more, and what a killed attempt left behind goes.
        let hidden = dir.join("hidden");
        fs::rename(r.s.place.sealed(), &hidden).unwrap();
        fs::create_dir_all(r.s.place.unsealing()).unwrap();
        assert_eq!(r.unseal().unwrap(), first);
        r.assert_unsealed("again");
        fs::rename(hidden, r.s.place.sealed()).unwrap();
        for other in [&[1u8; 2048][..], &[1u8; 77]] {
            fs::write(r.s.place.unsealed(), other).unwrap();
            r.unseal().unwrap();
            r.assert_unsealed("over other data");
        }
    });
}

#[test]
fn progress_tells_of_layers_and_of_data_and_only_grows() {
    let name = "progress_tells_of_layers_and_of_data_and_only_grows";
    isolated_for(LARGE, name, Path::new(NONE), |dir| {
        let r = Replica::new(dir, LARGE, &Own::default());
        let told = Mutex::new(Vec::new());
        let engine = Own {
            threads: NonZeroUsize::MIN,
            ..Own::default()
        };
        let tell = |p: Progress| told.lock().unwrap().push(p);
        unseal_telling(r.input(), &engine, &tell).unwrap();
        let told = told.into_inner().unwrap();
        assert!(told.is_sorted_by_key(|p| p.percent), "{told:?}");
        for part in ["Unseal: layer 1 of 2", "Unseal: data, node", "CommD"] {
            assert!(
                told.iter().any(|p| p.detail.contains(part)),
                "{part}: {told:?}"
            );
        }
    });
}

#[test]
fn wrong_byte_in_the_replica_is_named_and_the_right_one_needs_no_new_layers() {
    let name = "wrong_byte_in_the_replica_is_named_and_the_right_one_needs_no_new_layers";
    alone(name, |dir| {
        let r = Replica::new(dir, SMALL, &Own::default());
        let good = fs::read(r.s.place.sealed()).unwrap();
        // Another number of the field, and one that is none.
        for (at, byte, words) in [
            (700, good[700] ^ 1, "CommD"),
            (32 * 9 + 31, 0xff, "node 9 "),
        ] {
            let mut bad = good.clone();
            bad[at] = byte;
            fs::write(r.s.place.sealed(), &bad).unwrap();
            for _ in 0..2 {
                let e = r.unseal().unwrap_err();
                assert_names(&e, SEALED);
                assert_says(&e, Class::Corrupt, &[words]);
            }
            assert_eq!(fs::read(r.s.place.sealed()).unwrap(), bad);
            r.assert_nothing_unsealed();
            assert!(r.layer(2).exists(), "nothing good is deleted");
        }
        fs::write(r.s.place.sealed(), good).unwrap();
        let told = Mutex::new(String::new());
        let tell = |p: Progress| told.lock().unwrap().push_str(&p.detail);
        unseal_telling(r.input(), &Own::default(), &tell).unwrap();
        let told = told.into_inner().unwrap();
        assert!(!told.contains("layer 1 of"), "labelled again: {told}");
        r.assert_unsealed("with the right replica");
    });
}

/// The library has no digests to name a layer by; the replica is named all the same.
#[test]
fn wrong_byte_in_the_replica_is_named_with_the_librarys_engine() {
    let name = "wrong_byte_in_the_replica_is_named_with_the_librarys_engine";
    alone(name, |dir| {
        let r = Replica::new(dir, SMALL, &Own::default());
        flip(&r.s.place.sealed(), 700);
        assert_names(&unseal(r.input(), &Stock).unwrap_err(), SEALED);
        r.assert_nothing_unsealed();
        flip(&r.s.place.sealed(), 700);
        unseal(r.input(), &Stock).unwrap();
        r.assert_unsealed("with the right replica");
    });
}

#[test]
fn wrong_ticket_or_commitment_is_corrupt_and_the_right_one_goes_on() {
    let name = "wrong_ticket_or_commitment_is_corrupt_and_the_right_one_goes_on";
    alone(name, |dir| {
        let r = Replica::new(dir, SMALL, &Own::default());
        let wrong = Hash32([8; 32]);
        for input in [
            Unseal {
                ticket: wrong,
                ..r.input()
            },
            Unseal {
                comm_d: wrong,
                ..r.input()
            },
        ] {
            let e = unseal(input, &Own::default()).unwrap_err();
            assert_says(&e, Class::Corrupt, &[SEALED, "ticket", &wrong.to_string()]);
            r.assert_nothing_unsealed();
        }
        r.unseal().unwrap();
        r.assert_unsealed("after wrong tickets");
    });
}

#[test]
fn replica_of_another_size_is_named_before_anything_is_labelled() {
    let name = "replica_of_another_size_is_named_before_anything_is_labelled";
    alone(name, |dir| {
        let r = Replica::new(dir, SMALL, &Own::default());
        let path = r.s.place.sealed();
        let good = fs::read(&path).unwrap();
        fs::write(&path, &good[..2000]).unwrap();
        let e = r.unseal().unwrap_err();
        assert_says(&e, Class::Corrupt, &[SEALED, "2000 bytes, not 2048"]);
        fs::remove_file(&path).unwrap();
        assert_says(&r.unseal().unwrap_err(), Class::Corrupt, &[SEALED, "gone"]);
        assert!(!r.s.place.unsealing().exists());
    });
}

/// A name that leads to a device which is always full.
#[test]
fn full_disk_names_file_and_remedy_and_keeps_the_layers() {
    let name = "full_disk_names_file_and_remedy_and_keeps_the_layers";
    alone(name, |dir| {
        let r = Replica::new(dir, SMALL, &Own::default());
        symlink("/dev/full", durable::temporary(&r.s.place.unsealed())).unwrap();
        let e = r.unseal().unwrap_err();
        assert_says(&e, Class::Temporary, &["unsealed/s-t01000-7", "Free space"]);
        assert!(r.layer(2).exists());
        r.unseal().unwrap();
        r.assert_unsealed("with room");
    });
}

/// What a killed attempt leaves behind is believed by its digests alone.
#[test]
fn damaged_layer_of_an_earlier_attempt_is_made_again() {
    let name = "damaged_layer_of_an_earlier_attempt_is_made_again";
    isolated_for(LARGE, name, Path::new(NONE), |dir| {
        let r = Replica::new(dir, LARGE, &Own::default());
        let hidden = dir.join("hidden");
        for layer in [1, 2] {
            flip(&r.s.place.sealed(), 700);
            r.unseal().unwrap_err();
            flip(&r.s.place.sealed(), 700);
            flip(&r.layer(layer), 5_000_000);
            if layer == 1 {
                // Else nobody would look at the first one.
                fs::rename(r.layer(2), &hidden).unwrap();
            }
            r.unseal().unwrap();
            r.assert_unsealed("from a damaged layer");
            fs::remove_file(r.s.place.unsealed()).unwrap();
        }
    });
}

/// The replica is good: it must not be blamed.
#[test]
fn layer_that_changes_while_it_is_used_is_named_instead_of_the_replica() {
    let name = "layer_that_changes_while_it_is_used_is_named_instead_of_the_replica";
    isolated_for(LARGE, name, Path::new(NONE), |dir| {
        let r = Replica::new(dir, LARGE, &Own::default());
        let engine = Own {
            threads: NonZeroUsize::MIN,
            ..Own::default()
        };
        let once = Mutex::new(Some(r.layer(2)));
        let tell = |p: Progress| {
            if p.detail.contains("data, node")
                && let Some(layer) = once.lock().unwrap().take()
            {
                flip(&layer, (8 << 20) - 32);
            }
        };
        let e = unseal_telling(r.input(), &engine, &tell).unwrap_err();
        assert_names(&e, "unsealing/s-t01000-7/sc-02-data-layer-2.dat");
        r.assert_nothing_unsealed();
        r.unseal().unwrap();
        r.assert_unsealed("after that");
    });
}

#[test]
fn layers_of_a_sector_in_work_are_used_and_never_harmed() {
    let name = "layers_of_a_sector_in_work_are_used_and_never_harmed";
    alone(name, |dir| {
        let r = Replica::with_layers(dir, SMALL, &Own::default());
        let content = || {
            let names = durable::list(&r.s.place.cache()).unwrap().into_iter();
            let read = |n: String| fs::read(r.s.place.cache().join(n)).unwrap();
            names.map(read).collect::<Vec<_>>()
        };
        let before = content();
        let wrong = Unseal {
            ticket: Hash32([8; 32]),
            ..r.input()
        };
        unseal(wrong, &Own::default()).unwrap_err();
        assert!(content() == before, "after a wrong ticket");
        fs::remove_dir_all(r.s.place.unsealing()).unwrap();
        let labelled = Mutex::new(false);
        let tell = |p: Progress| {
            *labelled.lock().unwrap() |= p.detail.contains(": layer");
        };
        unseal_telling(r.input(), &Own::default(), &tell).unwrap();
        assert!(!labelled.into_inner().unwrap());
        r.assert_unsealed("with layers of sealing");
        fs::remove_file(r.s.place.unsealed()).unwrap();
        unseal(r.input(), &Stock).unwrap();
        r.assert_unsealed("by the library");
        assert!(content() == before);
    });
}

/// Facts beside the replica say which of the two is wrong.
#[test]
fn landed_replica_is_unsealed_from_its_store_and_its_facts_tell_what_is_wrong() {
    let name = "landed_replica_is_unsealed_from_its_store_and_its_facts_tell_what_is_wrong";
    alone(name, |dir| {
        let (s, store) = (Sector::new(&dir.join("scratch"), 7), dir.join("store"));
        let sealed = s.sealed();
        s.finalize().unwrap();
        s.land(&store, &sealed).unwrap();
        let input = Unseal {
            place: s.place.clone(),
            store: Some(store.clone()),
            ticket: s.ticket,
            comm_d: sealed.comm_d,
        };
        let ask = |input: &Unseal| s.run(&Task::Unseal(input.clone()));
        let nowhere = Unseal {
            store: Some(dir.join("nowhere")),
            ..input.clone()
        };
        let e = ask(&nowhere).unwrap_err();
        assert_says(&e, Class::Temporary, &["nowhere", "does not mount"]);
        let wrong = Hash32([8; 32]);
        let other = Unseal {
            ticket: wrong,
            ..input.clone()
        };
        let want = format!("sealed with ticket {}, not {wrong}", s.ticket);
        assert_says(&ask(&other).unwrap_err(), Class::Corrupt, &[&want]);
        let other = Unseal {
            comm_d: wrong,
            ..input.clone()
        };
        let want = format!("has CommD {}, not {wrong}", sealed.comm_d);
        assert_says(&ask(&other).unwrap_err(), Class::Corrupt, &[&want]);
        let there = s.at(&store).place;
        flip(&there.sealed(), 700);
        let e = ask(&input).unwrap_err();
        assert_says(&e, Class::Corrupt, &["store/sealed/s-t01000-7", "SHA-256"]);
        flip(&there.sealed(), 700);
        ask(&input).unwrap();
        assert_eq!(fs::read(s.place.unsealed()).unwrap(), [0; 2048]);
        assert!(!there.unsealed().exists() && !there.unsealing().exists());
        s.remove().unwrap();
        assert!(!s.place.unsealed().exists());
    });
}

#[test]
fn removed_sector_leaves_nothing_of_an_unsealing_behind() {
    let name = "removed_sector_leaves_nothing_of_an_unsealing_behind";
    alone(name, |dir| {
        let r = Replica::new(dir, SMALL, &Own::default());
        flip(&r.s.place.sealed(), 700);
        r.unseal().unwrap_err();
        assert!(r.s.place.unsealing().exists());
        r.s.remove().unwrap();
        assert!(!r.s.place.unsealing().exists());
    });
}

/// Runs what a parent test asks for, to be killed by it.
#[test]
fn victim() {
    victim::run_task();
}

/// By signal 9, twice for each file; `FILSTAR_KILLS` says how often in all.
#[test]
fn unsealing_killed_at_random_points_ends_identical() {
    let name = "unsealing_killed_at_random_points_ends_identical";
    isolated_for(LARGE, name, Path::new(NONE), |dir| {
        let r = Replica::new(dir, LARGE, &Own::default());
        let before = r.replica();
        let asked = serde_json::to_string(&Task::Unseal(r.input())).unwrap();
        let mut whole = victim::undisturbed(&asked);
        r.assert_unsealed("undisturbed");
        let kills = victim::kills(6);
        let mut in_time = 0;
        for _ in 0..kills.div_ceil(2) {
            fs::remove_file(r.s.place.unsealed()).unwrap();
            for _ in 0..2 {
                if victim::killed_within(&asked, whole) {
                    in_time += 1;
                } else {
                    // The machine has less to do than it had, or much was there: sooner next time.
                    whole /= 2;
                }
                if let Ok(data) = fs::read(r.s.place.unsealed()) {
                    assert!(data == r.data, "what has its name is whole");
                }
            }
            r.unseal().unwrap();
            r.assert_unsealed("after kills");
            assert!(r.replica() == before, "the replica is only read");
        }
        assert!(
            in_time * 3 > kills,
            "{in_time} of {kills} were killed in time"
        );
    });
}

/// p − x for a small x, by the library's arithmetic.
fn below_modulus(x: u64) -> Node {
    (-Scalar::from(x)).to_bytes_le()
}

proptest::proptest! {
    #[test]
    fn prop_decoding_is_the_librarys_subtraction_and_undoes_encoding(
        mut x: [u8; 32],
        mut k: [u8; 32],
        edges in 0u8..5,
    ) {
        (x[31], k[31]) = (x[31] & 0x3f, k[31] & 0x3f);
        match edges {
            0 => x = [0; 32],
            1 => x = below_modulus(1),
            2 => k = below_modulus(1),
            3 => (x, k) = ([0; 32], below_modulus(1)),
            _ => {}
        }
        let number = |node: &Node| Scalar::from_bytes_le(node).unwrap();
        let replica = add(&x, &k).unwrap();
        proptest::prop_assert_eq!(number(&replica), number(&x) + number(&k));
        proptest::prop_assert_eq!(subtract(&replica, &k), Some(x));
        let difference = (number(&x) - number(&k)).to_bytes_le();
        proptest::prop_assert_eq!(subtract(&x, &k), Some(difference));
    }
}
