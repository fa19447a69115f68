//! Disks that are full or cannot be read: the file is named, nothing good goes.

use std::{
    fs,
    os::unix::fs::{MetadataExt, symlink},
    path::Path,
};

use crate::support::{Sector, alone, assert_says, cache_file};
use filstar_sealing::{Class, Hash32};

/// A name that leads to a device which is always full.
#[test]
fn full_disk_names_file_and_remedy_and_loses_nothing() {
    alone("full_disk_names_file_and_remedy_and_loses_nothing", |dir| {
        let s = Sector::new(dir, 7);
        let sealed = s.sealed();
        let tmp = s.place.ledger().join("c1-output.json.tmp");
        symlink("/dev/full", &tmp).unwrap();
        let e = s.c1().unwrap_err();
        assert_says(&e, Class::Temporary, &["c1-output.json", "Free space"]);
        fs::remove_file(&tmp).unwrap();
        assert_eq!(s.pc2().unwrap(), sealed, "what was done stays done");
        s.c1().unwrap();
    });
}

#[test]
fn full_store_names_the_file_and_the_source_stays() {
    alone("full_store_names_the_file_and_the_source_stays", |dir| {
        let (s, store) = (Sector::new(&dir.join("scratch"), 7), dir.join("store"));
        let sealed = s.sealed();
        s.finalize().unwrap();
        // The facts are what makes a sector belong to a store; they come last.
        let facts = s.at(&store).place.facts();
        fs::create_dir_all(facts.parent().unwrap()).unwrap();
        let tmp = facts.with_extension("json.tmp");
        symlink("/dev/full", &tmp).unwrap();
        let e = s.land(&store, &sealed).unwrap_err();
        assert_says(&e, Class::Temporary, &["s-t01000-7.json", "Free space"]);
        assert!(s.place.sealed().exists(), "nothing good is deleted");
        fs::remove_file(&tmp).unwrap();
        s.land(&store, &sealed).unwrap();
        s.at(&store)
            .vanilla(sealed.comm_r, Hash32([3; 32]))
            .unwrap();
    });
}

/// Reading the memory of a process at address 0 fails as a broken disk does.
#[test]
fn read_error_names_the_file_and_is_temporary() {
    alone("read_error_names_the_file_and_is_temporary", |dir| {
        let s = Sector::new(dir, 7);
        let comm_r = s.sealed().comm_r;
        let aux = cache_file(&s, "p_aux");
        fs::remove_file(&aux).unwrap();
        symlink("/proc/self/mem", &aux).unwrap();
        let e = s.vanilla(comm_r, s.seed).unwrap_err();
        assert_says(&e, Class::Temporary, &["read", "p_aux"]);
    });
}

#[test]
fn mark_of_a_begun_pc1_that_cannot_be_read_costs_no_layer() {
    alone(
        "mark_of_a_begun_pc1_that_cannot_be_read_costs_no_layer",
        |dir| {
            let s = Sector::new(dir, 7);
            s.add_piece().unwrap();
            s.pc1().unwrap();
            let ledger = s.place.ledger();
            fs::remove_file(ledger.join("pc1.json")).unwrap();
            let layer = cache_file(&s, "sc-02-data-layer-1.dat");
            let inode = |path: &Path| fs::metadata(path).map(|m| m.ino()).ok();
            let before = inode(&layer);
            let mark = ledger.join("pc1-begun.json");
            let text = fs::read(&mark).unwrap();
            fs::remove_file(&mark).unwrap();
            symlink("/proc/self/mem", &mark).unwrap();
            let e = s.pc1().unwrap_err();
            assert_says(&e, Class::Temporary, &["read", "pc1-begun.json"]);
            assert_eq!(inode(&layer), before);
            fs::remove_file(&mark).unwrap();
            fs::write(&mark, text).unwrap();
            s.pc1().unwrap();
            assert_eq!(inode(&layer), before);
        },
    );
}
