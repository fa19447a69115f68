//! What goes wrong with disks, for every kind of file: found, named, repaired from the last good
//! piece; nothing good is lost.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::support::{
    Sector, alone, assert_names, assert_says, cache_file, die_at, flip, isolated,
};
use filstar_sealing::{
    Class, Context, Hash32, Own, SealProof, Stock, Task, durable,
    engine::{Data, Engine, SealJob},
    params::{Purpose, needed, parents_bytes, parents_name},
    run,
    steps::Point,
    task::Pc1,
};

const PROOF: SealProof = SealProof::StackedDrg2KiBV1P1;

/// Where a sector has a kind of file.
type PathOf = fn(&Sector) -> PathBuf;

#[test]
fn one_wrong_byte_in_what_pc1_made_is_named_and_pc1_repairs_it() {
    let name = "one_wrong_byte_in_what_pc1_made_is_named_and_pc1_repairs_it";
    alone(name, |dir| {
        let files = ["layer-1", "layer-2", "tree-d"];
        for (number, file) in (1..).zip(files) {
            let file = format!("sc-02-data-{file}.dat");
            let (s, twin) = (
                Sector::new(&dir.join("a"), number),
                Sector::new(&dir.join("b"), number),
            );
            s.add_piece().unwrap();
            s.pc1().unwrap();
            flip(&cache_file(&s, &file), 2000);
            assert_names(&s.pc2().unwrap_err(), &file);
            s.pc1().unwrap();
            assert_eq!(s.pc2().unwrap(), twin.sealed());
        }
    });
}

/// All that a sealed sector is made of, by name; `t_aux` names its folder, which differs.
fn content(s: &Sector) -> BTreeMap<String, Vec<u8>> {
    let names = durable::list(&s.place.cache()).unwrap().into_iter();
    let kept =
        names.filter(|n| n == "p_aux" || Path::new(n).extension().is_some_and(|e| e == "dat"));
    let mut files: BTreeMap<_, _> = kept
        .map(|n| (n.clone(), fs::read(cache_file(s, &n)).unwrap()))
        .collect();
    files.insert("sealed".into(), fs::read(s.place.sealed()).unwrap());
    files
}

fn cut(path: &Path) {
    let content = fs::read(path).unwrap();
    fs::write(path, &content[..content.len() / 2]).unwrap();
}

fn zero_tail(path: &Path) {
    let mut content = fs::read(path).unwrap();
    let half = content.len() / 2;
    content[half..].fill(0);
    fs::write(path, content).unwrap();
}

/// What to do to which file.
type Damage = (&'static str, fn(&Path));

const DAMAGE: [Damage; 8] = [
    ("layer-2", |p| fs::remove_file(p).unwrap()),
    ("layer-1", cut),
    ("layer-1", |p| flip(p, 777)),
    ("layer-2", |p| flip(p, 777)),
    ("layer-2", zero_tail),
    ("tree-d", cut),
    ("tree-d", zero_tail),
    ("tree-d", |p| flip(p, 64 * 32 + 5)),
];

/// Each damage to a sector of its own, which must end as one that nothing happened to.
fn each_damage(dir: &Path, survive: impl Fn(&Sector, &str, &dyn Fn())) {
    let twin = Sector::new(&dir.join("twin"), 7);
    twin.sealed();
    for (number, (file, damage)) in DAMAGE.into_iter().enumerate() {
        let s = Sector::new(&dir.join(number.to_string()), 7);
        s.add_piece().unwrap();
        let path = cache_file(&s, &format!("sc-02-data-{file}.dat"));
        survive(&s, file, &|| damage(&path));
        assert!(content(&s) == content(&twin), "{file}, damage {number}");
    }
}

/// Where the reference library takes files by their sizes: killed before PC1 is recorded, damaged, run again.
#[test]
fn damage_before_pc1_is_recorded_never_reaches_the_replica() {
    let name = "damage_before_pc1_is_recorded_never_reaches_the_replica";
    alone(name, |dir| {
        each_damage(dir, |s, file, damage| {
            let pc1 = Task::Pc1(Pc1 {
                place: s.place.clone(),
                ticket: s.ticket,
            });
            die_at(&pc1, Point::Pc1);
            damage();
            s.pc1().unwrap();
            // PC1 reads back what it builds upon; the rest is compared before PC2.
            if let Err(e) = s.pc2() {
                assert_names(&e, file);
                s.pc1().unwrap();
                s.pc2().unwrap();
            }
        });
    });
}

#[test]
fn damage_between_pc1_and_pc2_is_named_and_never_reaches_the_replica() {
    let name = "damage_between_pc1_and_pc2_is_named_and_never_reaches_the_replica";
    alone(name, |dir| {
        each_damage(dir, |s, file, damage| {
            s.pc1().unwrap();
            damage();
            assert_names(&s.pc2().unwrap_err(), file);
            s.pc1().unwrap();
            s.pc2().unwrap();
        });
    });
}

/// C1 names it, PC2 is asked next and asks for PC1: as the operator goes back.
#[test]
fn damage_to_what_pc1_made_between_pc2_and_c1_is_named_and_repaired() {
    let name = "damage_to_what_pc1_made_between_pc2_and_c1_is_named_and_repaired";
    alone(name, |dir| {
        let gone: fn(&Path) = |p| fs::remove_file(p).unwrap();
        let damage: [Damage; 7] = [
            ("layer-1", gone),
            ("layer-2", gone),
            ("tree-d", gone),
            ("layer-1", cut),
            ("layer-2", cut),
            ("tree-d", cut),
            // Of the right size: found once the library cannot make its proofs.
            ("tree-d", zero_tail),
        ];
        let twin = Sector::new(&dir.join("twin"), 7);
        let sealed = twin.sealed();
        for (number, (file, damage)) in damage.into_iter().enumerate() {
            let s = Sector::new(&dir.join(number.to_string()), 7);
            s.sealed();
            damage(&cache_file(&s, &format!("sc-02-data-{file}.dat")));
            assert_names(&s.c1().unwrap_err(), file);
            assert_eq!(s.pc2().unwrap_err().class(), Class::Corrupt, "{file}");
            s.pc1().unwrap();
            assert_eq!(s.pc2().unwrap(), sealed, "{file}");
            s.c1().unwrap();
            assert!(content(&s) == content(&twin), "{file}, damage {number}");
        }
    });
}

/// Hours of work, and as good as before.
#[test]
fn wrong_byte_in_tree_d_costs_no_layer() {
    alone("wrong_byte_in_tree_d_costs_no_layer", |dir| {
        let (s, twin) = (
            Sector::new(&dir.join("a"), 7),
            Sector::new(&dir.join("b"), 7),
        );
        s.add_piece().unwrap();
        s.pc1().unwrap();
        let layers = || {
            let of = |layer: &str| fs::metadata(cache_file(&s, layer)).unwrap();
            let names = ["sc-02-data-layer-1.dat", "sc-02-data-layer-2.dat"];
            names
                .map(of)
                .map(|m| (m.ino(), m.modified().unwrap(), m.len()))
        };
        let before = layers();
        flip(&cache_file(&s, "sc-02-data-tree-d.dat"), 2000);
        assert_names(&s.pc2().unwrap_err(), "tree-d");
        assert_eq!(layers(), before);
        s.pc1().unwrap();
        assert_eq!(layers(), before);
        assert_eq!(s.pc2().unwrap(), twin.sealed());
    });
}

/// The replica is encoded in place by the reference library; twice gives another one.
#[test]
fn pc2_over_a_finished_or_half_finished_one_gives_the_same() {
    let name = "pc2_over_a_finished_or_half_finished_one_gives_the_same";
    alone(name, |dir| {
        let s = Sector::new(dir, 7);
        s.sealed();
        let want = content(&s);
        for engine in [&Stock as &dyn Engine, &Own::default()] {
            let again = Context {
                from_scratch: true,
                ..Context::quiet(engine)
            };
            run(&s.pc2_task(), &again).unwrap();
            assert!(content(&s) == want, "{engine:?}");
            fs::remove_file(s.place.ledger().join("pc2.json")).unwrap();
            die_at(&s.pc2_task(), Point::Pc2);
            run(&s.pc2_task(), &Context::quiet(engine)).unwrap();
            assert!(content(&s) == want, "{engine:?}");
        }
    });
}

#[test]
fn wrong_byte_in_the_data_is_named_by_pc1() {
    alone("wrong_byte_in_the_data_is_named_by_pc1", |dir| {
        let s = Sector::new(dir, 7);
        let pieces = s.add_piece().unwrap().pieces;
        flip(&s.place.unsealed(), 1000);
        fs::create_dir_all(s.place.cache()).unwrap();
        fs::create_dir_all(dir.join("sealed")).unwrap();
        let job = SealJob {
            place: &s.place,
            ticket: s.ticket,
            pieces: &pieces,
            sums: &[],
            progress: &|_| {},
        };
        let e = Own::default().pc1(&job, Data::Unsealed).unwrap_err();
        assert_names(&e, "unsealed/s-t01000-7");
    });
}

/// What PC2 makes, with a byte in each that does not go unseen.
const MADE_BY_PC2: [(&str, usize, PathOf); 5] = [
    // Of tree-c a node in the row below the root, which nearly every path passes.
    ("tree-c", (64 + 3) * 32 + 11, |s| {
        cache_file(s, "sc-02-data-tree-c.dat")
    }),
    ("tree-r-last", 11, |s| {
        cache_file(s, "sc-02-data-tree-r-last.dat")
    }),
    ("p_aux", 11, |s| cache_file(s, "p_aux")),
    ("t_aux", 11, |s| cache_file(s, "t_aux")),
    ("sealed", 11, |s| s.place.sealed()),
];

#[test]
fn one_wrong_byte_in_what_pc2_made_is_named_by_c1_or_finalize_and_repaired() {
    let name = "one_wrong_byte_in_what_pc2_made_is_named_by_c1_or_finalize_and_repaired";
    alone(name, |dir| {
        for (number, (file, at, path)) in (1..).zip(MADE_BY_PC2) {
            let s = Sector::new(dir, number);
            let sealed = s.sealed();
            flip(&path(&s), at);
            let named = match s.c1() {
                Err(e) => e,
                Ok(_) => s.finalize().unwrap_err(),
            };
            assert_names(&named, file);
            assert_eq!(s.pc2().unwrap(), sealed, "PC2 repairs {file}");
            s.c1().unwrap();
            s.finalize().unwrap();
            s.land(&dir.join("store"), &sealed).unwrap();
        }
    });
}

/// A proof was made by then, and is on chain: what it was made of is read once more while there is something to make it of.
#[test]
fn one_wrong_byte_after_c1_is_named_before_the_layers_go() {
    let name = "one_wrong_byte_after_c1_is_named_before_the_layers_go";
    alone(name, |dir| {
        let lasting = MADE_BY_PC2.into_iter().filter(|(f, ..)| *f != "tree-c");
        for (number, (file, at, path)) in (1..).zip(lasting) {
            let s = Sector::new(dir, number);
            let sealed = s.sealed();
            s.c1().unwrap();
            flip(&path(&s), at);
            assert_names(&s.finalize().unwrap_err(), file);
            for kept in ["layer-1", "layer-2", "tree-d", "tree-c"] {
                let kept = cache_file(&s, &format!("sc-02-data-{kept}.dat"));
                assert!(kept.exists(), "{file}: {}", kept.display());
            }
            assert_eq!(s.pc2().unwrap(), sealed, "PC2 repairs {file}");
            s.finalize().unwrap();
            s.land(&dir.join("store"), &sealed).unwrap();
        }
    });
}

/// The layers are gone by then. The ticket is not, and the data is zeros: the same replica is made again.
#[test]
fn damage_after_finalize_is_named_by_landing_and_repaired_from_nothing() {
    let name = "damage_after_finalize_is_named_by_landing_and_repaired_from_nothing";
    alone(name, |dir| {
        let (s, store) = (Sector::new(&dir.join("scratch"), 7), dir.join("store"));
        let sealed = s.sealed();
        s.finalize().unwrap();
        flip(&s.place.sealed(), 11);
        assert_names(&s.land(&store, &sealed).unwrap_err(), "sealed/s-t01000-7");
        assert_eq!(s.pc2().unwrap_err().class(), Class::Corrupt);
        s.pc1().unwrap();
        assert_eq!(s.pc2().unwrap(), sealed);
        s.finalize().unwrap();
        s.land(&store, &sealed).unwrap();
        s.at(&store)
            .vanilla(sealed.comm_r, Hash32([3; 32]))
            .unwrap();
    });
}

#[test]
fn stale_trees_of_the_right_size_are_never_taken() {
    alone("stale_trees_of_the_right_size_are_never_taken", |dir| {
        let (s, other, twin) = (
            Sector::new(&dir.join("a"), 7),
            Sector::new(&dir.join("b"), 8),
            Sector::new(&dir.join("c"), 7),
        );
        other.sealed();
        s.add_piece().unwrap();
        s.pc1().unwrap();
        for name in [
            "sc-02-data-tree-c.dat",
            "sc-02-data-tree-r-last.dat",
            "p_aux",
            "t_aux",
        ] {
            fs::copy(cache_file(&other, name), cache_file(&s, name)).unwrap();
        }
        fs::copy(other.place.sealed(), s.place.sealed()).unwrap();
        assert_eq!(s.pc2().unwrap(), twin.sealed());
    });
}

#[test]
fn parents_cache_that_is_cut_off_is_named_and_does_not_kill() {
    let name = "parents_cache_that_is_cut_off_is_named_and_does_not_kill";
    alone(name, |dir| {
        let parents = std::env::var("FIL_PROOFS_PARENT_CACHE").unwrap();
        let path = Path::new(&parents).join(parents_name(PROOF).unwrap());
        let s = Sector::new(dir, 7);
        s.add_piece().unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_len(parents_bytes(PROOF) / 2).unwrap();
        let by_stock = Task::Pc1(Pc1 {
            place: s.place.clone(),
            ticket: s.ticket,
        });
        let e = run(&by_stock, &Context::quiet(&Stock)).unwrap_err();
        assert_says(
            &e,
            Class::Temporary,
            &["v28-sdr-parent", "sealer-pod params"],
        );
        // Our own engine makes it again.
        let labelled = s.pc1().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), parents_bytes(PROOF));
        let twin = Sector::new(&dir.join("twin"), 7);
        twin.add_piece().unwrap();
        assert_eq!(twin.pc1().unwrap(), labelled);
        for layer in ["sc-02-data-layer-1.dat", "sc-02-data-layer-2.dat"] {
            let content = |s: &Sector| fs::read(cache_file(s, layer)).unwrap();
            assert_eq!(content(&twin), content(&s), "{layer}");
        }
    });
}

#[test]
fn parameters_that_are_cut_off_are_named_and_do_not_kill() {
    let name = "parameters_that_are_cut_off_are_named_and_do_not_kill";
    let dir = tempfile::tempdir().unwrap();
    let own = std::env::var_os("FIL_PROOFS_PARAMETER_CACHE");
    let params = own.map_or_else(|| dir.path().to_owned(), PathBuf::from);
    isolated(name, &params, |scratch| {
        let all = needed(PROOF).unwrap();
        let porep = all.iter().find(|n| n.purpose == Purpose::PoRep).unwrap();
        // What a manifest says of parameters that were whole.
        let entry = |name: &String| {
            let text = r#"{"sizeBytes": 4000, "modifiedNs": 0, "sha256": "", "origin": "Made"}"#;
            format!("{name:?}: {text}")
        };
        let entries: Vec<_> = porep.files.iter().map(entry).collect();
        let manifest = format!(r#"{{"version": 1, "files": {{{}}}}}"#, entries.join(","));
        fs::write(params.join("filstar-params.json"), manifest).unwrap();
        for file in &porep.files {
            fs::write(params.join(file), [0; 1000]).unwrap();
        }
        let s = Sector::new(scratch, 7);
        s.sealed();
        s.c1().unwrap();
        let e = s.c2().unwrap_err();
        let words = [
            porep.files[0].as_str(),
            "1000 bytes instead of 4000",
            "sealer-pod params",
        ];
        assert_says(&e, Class::Temporary, &words);
    });
}
