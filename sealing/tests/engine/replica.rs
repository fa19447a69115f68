//! A sealed sector with real data, to be unsealed.

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use filecoin_proofs_api::{RegisteredSealProof, UnpaddedBytesAmount, seal};
use filstar_kernels::sdr::layer_name;
use filstar_sealing::{
    Context, Hash32, Output, Own, Result, SealProof, Task, durable,
    engine::{Data, Engine, SealJob},
    run,
    steps::Progress,
    task::{Piece, Unseal, UnsealOutput},
};
use rand::{RngCore, SeedableRng, rngs::StdRng};

use crate::support::Sector;

/// A sealed sector whose data is gone.
pub(crate) struct Replica {
    pub(crate) s: Sector,
    pub(crate) comm_d: Hash32,
    /// What was sealed, padded.
    pub(crate) data: Vec<u8>,
}

impl Replica {
    /// Three pieces of random data, sealed by an engine; of the cache folder only what proving needs is left.
    pub(crate) fn new(dir: &Path, proof: SealProof, engine: &dyn Engine) -> Self {
        let replica = Self::with_layers(dir, proof, engine);
        for name in durable::list(&replica.s.place.cache()).unwrap() {
            if name.contains("layer") || name.contains("tree-c") || name.contains("tree-d") {
                fs::remove_file(replica.s.place.cache().join(name)).unwrap();
            }
        }
        replica
    }

    pub(crate) fn with_layers(dir: &Path, proof: SealProof, engine: &dyn Engine) -> Self {
        let mut s = Sector::new(dir, 7);
        s.place.proof = proof;
        let place = &s.place;
        for folder in ["cache/s-t01000-7", "sealed", "unsealed"] {
            fs::create_dir_all(dir.join(folder)).unwrap();
        }
        let pieces = write_pieces(proof, &place.unsealed());
        let job = SealJob {
            place,
            ticket: s.ticket,
            pieces: &pieces,
            sums: &[],
            progress: &|_| {},
        };
        let comm_d = engine.pc1(&job, Data::Unsealed).unwrap().comm_d;
        engine.pc2(&job, comm_d).unwrap();
        let data = fs::read(place.unsealed()).unwrap();
        fs::remove_file(place.unsealed()).unwrap();
        Self { s, comm_d, data }
    }

    pub(crate) fn input(&self) -> Unseal {
        Unseal {
            place: self.s.place.clone(),
            store: None,
            ticket: self.s.ticket,
            comm_d: self.comm_d,
        }
    }

    pub(crate) fn unseal(&self) -> Result<UnsealOutput> {
        unseal(self.input(), &Own::default())
    }

    /// As it was sealed, under its name, and nothing beside it.
    #[track_caller]
    pub(crate) fn assert_unsealed(&self, what: &str) {
        let place = &self.s.place;
        assert!(fs::read(place.unsealed()).unwrap() == self.data, "{what}");
        assert_eq!(
            durable::list(&place.root.join("unsealed")).unwrap().len(),
            1
        );
        assert!(!place.unsealing().exists(), "{what}");
    }

    #[track_caller]
    pub(crate) fn assert_nothing_unsealed(&self) {
        let names = durable::list(&self.s.place.root.join("unsealed")).unwrap();
        assert_eq!(names, [""; 0]);
    }

    pub(crate) fn layer(&self, layer: u32) -> PathBuf {
        self.s.place.unsealing().join(layer_name(layer))
    }

    /// What must not change.
    pub(crate) fn replica(&self) -> (Vec<u8>, SystemTime, Vec<String>) {
        let path = self.s.place.sealed();
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        let cache = durable::list(&self.s.place.cache()).unwrap();
        (fs::read(path).unwrap(), modified, cache)
    }
}

fn write_pieces(proof: SealProof, path: &Path) -> Vec<Piece> {
    let all = proof.sector_bytes();
    let mut file = fs::File::create_new(path).unwrap();
    let mut random = StdRng::seed_from_u64(all);
    let (mut pieces, mut sizes) = (Vec::new(), Vec::new());
    for padded in [all / 2, all / 4, all / 4] {
        let size = UnpaddedBytesAmount(padded / 128 * 127);
        let mut source = vec![0; usize::try_from(size.0).unwrap()];
        random.fill_bytes(&mut source);
        let added = seal::add_piece(registered(proof), &source[..], &mut file, size, &sizes);
        pieces.push(Piece {
            commitment: Hash32(added.unwrap().0.commitment),
            padded_bytes: padded,
        });
        sizes.push(size);
    }
    pieces
}

/// That of 2 KiB or 8 MiB.
fn registered(proof: SealProof) -> RegisteredSealProof {
    if proof == SealProof::StackedDrg8MiBV1P1 {
        RegisteredSealProof::StackedDrg8MiBV1_1
    } else {
        RegisteredSealProof::StackedDrg2KiBV1_1
    }
}

pub(crate) fn unseal(input: Unseal, engine: &dyn Engine) -> Result<UnsealOutput> {
    unseal_telling(input, engine, &|_| {})
}

pub(crate) fn unseal_telling(
    input: Unseal,
    engine: &dyn Engine,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<UnsealOutput> {
    let context = Context {
        progress,
        ..Context::quiet(engine)
    };
    let Output::Unseal(output) = run(&Task::Unseal(input), &context)? else {
        panic!("unsealing gives data")
    };
    Ok(output)
}
