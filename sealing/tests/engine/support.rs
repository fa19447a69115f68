//! What the tests of whole sectors share: a process of their own, and a sector with verbs.

use std::{
    fs,
    panic::Location,
    path::{Path, PathBuf},
    process::Command,
};

use filstar_sealing::params::{self, Purpose, Wanted};
use filstar_sealing::{
    Class, Context, Error, Hash32, Output, Own, Place, Result, SealProof, SectorId, Task, run,
    steps::Point,
    task::{
        AddPiece, AddPieceOutput, C1, C1Output, C2, C2Output, Facts, Finalize, FinalizeOutput,
        Land, LandOutput, Pc1, Pc1Output, Pc2, Pc2Output, ProofOutput, Remove, VanillaProof,
    },
};

const CHILD: &str = "FILSTAR_TEST_CHILD";

/// A test of the calling file, as the test program calls it.
#[track_caller]
pub(crate) fn full_name(name: &str) -> String {
    let file = Path::new(Location::caller().file());
    format!("{}::{name}", file.file_stem().unwrap().display())
}

/// Runs a test in a process of its own, since the proof library takes its settings from the
/// environment of the process.
#[track_caller]
pub(crate) fn isolated(name: &str, parameters: &Path, body: impl FnOnce(&Path)) {
    isolated_for(SealProof::StackedDrg2KiBV1P1, name, parameters, body);
}

/// The same for a test that needs no parameters of proofs.
#[track_caller]
pub(crate) fn alone(name: &str, body: impl FnOnce(&Path)) {
    isolated(name, Path::new("/nonexistent"), body);
}

/// The same, with the parents of another proof type.
#[track_caller]
pub(crate) fn isolated_for(
    proof: SealProof,
    name: &str,
    parameters: &Path,
    body: impl FnOnce(&Path),
) {
    let (name, dir) = (full_name(name), tempfile::tempdir().unwrap());
    if std::env::var_os(CHILD).is_some_and(|n| *n == *name) {
        return body(dir.path());
    }
    let parents = [Purpose::Parents];
    let wanted = Wanted {
        purposes: parents.to_vec(),
        ..Wanted::all(proof)
    };
    params::ensure(dir.path(), &wanted, &|_| {}).unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &name, "--nocapture", "--test-threads=1"])
        .arg("--include-ignored")
        .env(CHILD, &name)
        .env(
            "FIL_PROOFS_PARENT_CACHE",
            format!("{}/", params::parents_dir(dir.path()).display()),
        )
        .env("FIL_PROOFS_PARAMETER_CACHE", parameters)
        .output()
        .unwrap();
    let said = [child.stdout, child.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(child.status.success(), "{name}: {}\n{said}", child.status);
}

/// A sector in a scratch folder, of 2 KiB unless its proof type is changed.
#[derive(Clone, Debug)]
pub(crate) struct Sector {
    pub(crate) place: Place,
    pub(crate) ticket: Hash32,
    pub(crate) seed: Hash32,
}

pub(crate) const ACTOR: u64 = 1000;

impl Sector {
    pub(crate) fn new(root: &Path, number: u64) -> Self {
        let place = Place {
            sector: SectorId {
                actor: ACTOR,
                number,
            },
            proof: SealProof::StackedDrg2KiBV1P1,
            root: root.to_owned(),
        };
        Self {
            place,
            ticket: Hash32([9; 32]),
            seed: Hash32([5; 32]),
        }
    }

    pub(crate) fn add_piece(&self) -> Result<AddPieceOutput> {
        let output = self.run(&Task::AddPiece(AddPiece {
            place: self.place.clone(),
        }))?;
        let Output::AddPiece(o) = output else {
            panic!("{output:?}")
        };
        Ok(o)
    }

    pub(crate) fn pc1(&self) -> Result<Pc1Output> {
        let (place, ticket) = (self.place.clone(), self.ticket);
        let output = self.run(&Task::Pc1(Pc1 { place, ticket }))?;
        let Output::Pc1(o) = output else {
            panic!("{output:?}")
        };
        Ok(o)
    }

    pub(crate) fn pc2_task(&self) -> Task {
        Task::Pc2(Pc2 {
            place: self.place.clone(),
            ticket: self.ticket,
        })
    }

    pub(crate) fn pc2(&self) -> Result<Pc2Output> {
        let output = self.run(&self.pc2_task())?;
        let Output::Pc2(o) = output else {
            panic!("{output:?}")
        };
        Ok(o)
    }

    pub(crate) fn c1(&self) -> Result<C1Output> {
        let (place, ticket, seed) = (self.place.clone(), self.ticket, self.seed);
        let output = self.run(&Task::C1(C1 {
            place,
            ticket,
            seed,
        }))?;
        let Output::C1(o) = output else {
            panic!("{output:?}")
        };
        Ok(o)
    }

    pub(crate) fn c2(&self) -> Result<C2Output> {
        let (place, ticket, seed) = (self.place.clone(), self.ticket, self.seed);
        let output = self.run(&Task::C2(C2 {
            place,
            ticket,
            seed,
        }))?;
        let Output::C2(o) = output else {
            panic!("{output:?}")
        };
        Ok(o)
    }

    pub(crate) fn finalize(&self) -> Result<FinalizeOutput> {
        let place = self.place.clone();
        let output = self.run(&Task::Finalize(Finalize {
            place,
            keep_unsealed: false,
        }))?;
        let Output::Finalize(o) = output else {
            panic!("{output:?}")
        };
        Ok(o)
    }

    pub(crate) fn land(&self, store: &Path, sealed: &Pc2Output) -> Result<LandOutput> {
        std::fs::create_dir_all(store).unwrap();
        self.land_where_it_is(store, sealed)
    }

    /// The same in a store that may not be there.
    pub(crate) fn land_where_it_is(&self, store: &Path, sealed: &Pc2Output) -> Result<LandOutput> {
        let facts = Facts {
            comm_r: sealed.comm_r,
            comm_d: sealed.comm_d,
            ticket: self.ticket,
            ticket_epoch: 100,
            pieces: Vec::new(),
        };
        let place = self.place.clone();
        let output = self.run(&Task::Land(Land {
            place,
            store: store.to_owned(),
            facts,
        }))?;
        let Output::Land(o) = output else {
            panic!("{output:?}")
        };
        Ok(o)
    }

    pub(crate) fn remove(&self) -> Result<Output> {
        self.run(&Task::Remove(Remove {
            place: self.place.clone(),
        }))
    }

    /// Reads the sector for window `PoSt` where it is.
    pub(crate) fn vanilla(&self, comm_r: Hash32, randomness: Hash32) -> Result<ProofOutput> {
        let place = self.place.clone();
        let output = self.run(&Task::VanillaProof(VanillaProof {
            place,
            comm_r,
            randomness,
        }))?;
        let Output::Proof(o) = output else {
            panic!("{output:?}")
        };
        Ok(o)
    }

    /// Up to PC2.
    pub(crate) fn sealed(&self) -> Pc2Output {
        self.add_piece().unwrap();
        self.pc1().unwrap();
        self.pc2().unwrap()
    }

    pub(crate) fn at(&self, root: &Path) -> Self {
        Self {
            place: self.place.at(root),
            ..self.clone()
        }
    }

    #[expect(clippy::unused_self, reason = "reads like the other verbs")]
    pub(crate) fn run(&self, task: &Task) -> Result<Output> {
        // As over a pipe, so that every task and output is seen to travel.
        let text = serde_json::to_string(task).unwrap();
        let task: Task = serde_json::from_str(&text).unwrap();
        let output = run(&task, &Context::quiet(&Own::default()))?;
        let text = serde_json::to_string(&output).unwrap();
        Ok(serde_json::from_str(&text).unwrap())
    }
}

/// Runs a task and dies at a point, as a killed process does.
pub(crate) fn die_at(task: &Task, at: Point) {
    let engine = Own::default();
    let context = Context {
        point: &|p| {
            if p == at {
                std::panic::resume_unwind(Box::new("killed"));
            }
        },
        ..Context::quiet(&engine)
    };
    let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(task, &context)));
    assert!(died.is_err(), "it never came to {at:?}");
}

/// The error must be `Corrupt` and name the file.
#[track_caller]
pub(crate) fn assert_names(error: &Error, file: &str) {
    assert_eq!(error.class(), filstar_sealing::Class::Corrupt, "{error}");
    assert!(error.to_string().contains(file), "{error}");
}

/// Turns one bit.
pub(crate) fn flip(path: &Path, at: usize) {
    let mut content = fs::read(path).unwrap();
    content[at] ^= 1;
    fs::write(path, content).unwrap();
}

pub(crate) fn cache_file(s: &Sector, name: &str) -> PathBuf {
    s.place.cache().join(name)
}

#[track_caller]
pub(crate) fn assert_says(error: &Error, class: Class, words: &[&str]) {
    assert_eq!(error.class(), class, "{error}");
    for word in words {
        assert!(error.to_string().contains(word), "{word:?}: {error}");
    }
}
