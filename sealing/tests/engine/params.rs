//! Folders of parameters: what is trusted, what is made again, what is only complained about.

use std::{cell::RefCell, fs, sync::Mutex, thread};

use filstar_sealing::{
    Class, SealProof, durable,
    params::{Depth, Finding, Purpose, Wanted, check, ensure, needed},
};

fn parents(depth: Depth) -> Wanted {
    let purposes = vec![Purpose::Parents];
    Wanted {
        purposes,
        depth,
        ..Wanted::all(SealProof::StackedDrg2KiBV1P1)
    }
}

fn file() -> String {
    let all = needed(SealProof::StackedDrg2KiBV1P1).unwrap();
    all.into_iter()
        .find(|n| n.purpose == Purpose::Parents)
        .unwrap()
        .files
        .remove(0)
}

#[test]
fn files_are_made_once_and_then_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let said = Mutex::new(Vec::new());
    let say = |p: filstar_sealing::params::Progress| said.lock().unwrap().push(p.text);
    assert!(
        ensure(dir.path(), &parents(Depth::Quick), &say)
            .unwrap()
            .is_good()
    );
    assert!(
        said.lock()
            .unwrap()
            .iter()
            .any(|t| t.contains("is not there; making the parents"))
    );
    said.lock().unwrap().clear();
    assert!(
        ensure(dir.path(), &parents(Depth::Full), &say)
            .unwrap()
            .is_good()
    );
    assert!(said.lock().unwrap().is_empty(), "nothing to do");
}

#[test]
fn file_without_a_manifest_is_not_trusted_and_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(file());
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, vec![0; 64 * 56]).unwrap();
    let report = check(dir.path(), &parents(Depth::Quick)).unwrap();
    assert_eq!(report.files, [(file(), Finding::Unknown)]);
    assert!(report.complaints()[0].contains("not trusted"));
    assert!(
        ensure(dir.path(), &parents(Depth::Quick), &|_| {})
            .unwrap()
            .is_good()
    );
    assert_ne!(fs::read(path).unwrap(), vec![0; 64 * 56]);
}

#[test]
fn damaged_file_is_named_and_made_again() {
    let dir = tempfile::tempdir().unwrap();
    ensure(dir.path(), &parents(Depth::Quick), &|_| {}).unwrap();
    let path = dir.path().join(file());
    let good = fs::read(&path).unwrap();
    let mut bad = good.clone();
    bad[100] ^= 1;
    for content in [&bad[..], &good[..100]] {
        fs::write(&path, content).unwrap();
        let report = check(dir.path(), &parents(Depth::Full)).unwrap();
        assert!(
            matches!(&report.files[0].1, Finding::Wrong(_)),
            "{report:?}"
        );
        assert!(report.complaints()[0].contains(&file()));
        ensure(dir.path(), &parents(Depth::Full), &|_| {}).unwrap();
        assert_eq!(fs::read(&path).unwrap(), good);
    }
}

/// Parameters of which only the manifest knows what they must be: they are made by chance.
#[test]
fn flipped_byte_in_parameters_is_named_and_they_are_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let all = needed(SealProof::StackedDrg2KiBV1P1).unwrap();
    for purpose in [Purpose::WindowPoSt, Purpose::PoRep] {
        let files = &all.iter().find(|n| n.purpose == purpose).unwrap().files;
        let mut entries = Vec::new();
        for file in files {
            let path = dir.path().join(file);
            fs::write(&path, [7; 4000]).unwrap();
            let sha256 = durable::sha256(&path).unwrap();
            entries.push(format!(
                r#"{file:?}: {{"sizeBytes": 4000, "modifiedNs": 0, "sha256": "{sha256}", "origin": "Made"}}"#
            ));
        }
        let manifest = format!(r#"{{"version": 1, "files": {{{}}}}}"#, entries.join(","));
        fs::write(dir.path().join("filstar-params.json"), manifest).unwrap();
        let wanted = Wanted {
            purposes: vec![purpose],
            ..parents(Depth::Full)
        };
        assert!(check(dir.path(), &wanted).unwrap().is_good());
        for file in files {
            let path = dir.path().join(file);
            let mut content = fs::read(&path).unwrap();
            content[1234] ^= 1;
            fs::write(&path, &content).unwrap();
            let complaints = check(dir.path(), &wanted).unwrap().complaints();
            assert!(
                complaints.len() == 1 && complaints[0].contains(file),
                "{complaints:?}"
            );
            content[1234] ^= 1;
            fs::write(&path, &content).unwrap();
        }
    }
}

#[test]
fn copied_folder_is_trusted_by_digest() {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    ensure(dir.path(), &parents(Depth::Quick), &|_| {}).unwrap();
    for name in [file(), "filstar-params.json".to_owned()] {
        let to = copy.path().join(&name);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::write(to, fs::read(dir.path().join(name)).unwrap()).unwrap();
    }
    assert!(
        check(copy.path(), &parents(Depth::Quick))
            .unwrap()
            .is_good()
    );
}

/// Its entries are of files that may be replaced at any moment.
#[test]
fn manifest_of_a_folder_that_another_process_works_in_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    ensure(dir.path(), &parents(Depth::Quick), &|_| {}).unwrap();
    let manifest = || fs::read(dir.path().join("filstar-params.json")).unwrap();
    let (before, path) = (manifest(), dir.path().join(file()));
    // Another time and the same content: to be remembered.
    let content = fs::read(&path).unwrap();
    fs::write(&path, content).unwrap();
    let lock = fs::File::create(dir.path().join("filstar-params.lock")).unwrap();
    lock.lock().unwrap();
    let good = || check(dir.path(), &parents(Depth::Quick)).unwrap().is_good();
    assert!(good());
    assert_eq!(manifest(), before);
    drop(lock);
    assert!(good());
    assert_ne!(manifest(), before);
}

#[test]
fn two_makers_take_turns() {
    let dir = tempfile::tempdir().unwrap();
    let made = Mutex::new(RefCell::new(0));
    let say = |p: filstar_sealing::params::Progress| {
        if p.text.ends_with("done") && p.text.starts_with("making") {
            *made.lock().unwrap().borrow_mut() += 1;
        }
    };
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| ensure(dir.path(), &parents(Depth::Quick), &say).unwrap());
        }
    });
    assert_eq!(*made.lock().unwrap().borrow(), 1);
}

#[test]
fn parameters_of_real_sizes_are_never_made() {
    let dir = tempfile::tempdir().unwrap();
    let purposes = vec![Purpose::WindowPoSt, Purpose::PoRep];
    let wanted = Wanted {
        purposes,
        ..Wanted::all(SealProof::StackedDrg32GiBV1P1)
    };
    let e = ensure(dir.path(), &wanted, &|_| {}).unwrap_err();
    assert_eq!(e.class(), Class::Fatal);
    assert!(e.to_string().contains("published"), "{e}");
}
