//! PC2 with our kernels against the reference library: every file, every size that a test can afford,
//! every shape of trees; killed and damaged anywhere.

use std::{collections::BTreeMap, fs, num::NonZeroUsize, path::Path};

use crate::support::{Sector, assert_names, isolated, isolated_for};
use crate::victim;
use filecoin_proofs::constants as shapes;
use filecoin_proofs_api::{RegisteredSealProof, UnpaddedBytesAmount, seal};
use filstar_kernels::{
    poseidon::{Kernel, Node},
    trees::{self, LayerSums, Shape},
};
use filstar_sealing::{
    Context, Hash32, Own, Place, SealProof, Stock, Task, durable,
    engine::{Data, Engine, SealJob},
    run,
    task::Piece,
};
use rand::{Rng, SeedableRng, rngs::StdRng};

const NONE: &str = "/nonexistent";

/// SHA-256 of all that PC2 reads and writes, by name.
fn files(place: &Place) -> BTreeMap<String, String> {
    let names = durable::list(&place.cache()).unwrap();
    let mut out: BTreeMap<_, _> = names
        .into_iter()
        .map(|name| {
            let digest = durable::sha256(&place.cache().join(&name)).unwrap();
            (name, digest)
        })
        .collect();
    out.insert(
        "sealed".to_owned(),
        durable::sha256(&place.sealed()).unwrap(),
    );
    out
}

fn sized(dir: &Path, proof: SealProof) -> Sector {
    let mut sector = Sector::new(dir, 7);
    sector.place.proof = proof;
    sector
}

fn again(task: &Task, engine: &dyn Engine) {
    let context = Context {
        from_scratch: true,
        ..Context::quiet(engine)
    };
    run(task, &context).unwrap();
}

fn same_as_the_library(s: &Sector) {
    let ours = s.sealed();
    let our_files = files(&s.place);
    again(&s.pc2_task(), &Stock);
    assert_eq!(s.pc2().unwrap(), ours);
    assert_eq!(files(&s.place), our_files);
    let slow = Own {
        threads: NonZeroUsize::MIN,
        poseidon: Kernel::Portable,
        ..Own::default()
    };
    again(&s.pc2_task(), &slow);
    assert_eq!(files(&s.place), our_files, "portable, one thread");
    s.c1().unwrap();
}

#[test]
fn every_file_is_that_of_the_library_at_2_kib() {
    let name = "every_file_is_that_of_the_library_at_2_kib";
    isolated(name, Path::new(NONE), |dir| {
        same_as_the_library(&Sector::new(dir, 7));
    });
}

#[test]
fn every_file_is_that_of_the_library_at_8_mib() {
    let (name, proof) = (
        "every_file_is_that_of_the_library_at_8_mib",
        SealProof::StackedDrg8MiBV1P1,
    );
    isolated_for(proof, name, Path::new(NONE), |dir| {
        same_as_the_library(&sized(dir, proof));
    });
}

/// The replica of real data, straight through the engines.
#[test]
fn data_is_encoded_as_the_library_does() {
    isolated(
        "data_is_encoded_as_the_library_does",
        Path::new(NONE),
        |dir| {
            let s = Sector::new(dir, 7);
            let place = &s.place;
            for folder in ["cache/s-t01000-7", "sealed", "unsealed"] {
                fs::create_dir_all(dir.join(folder)).unwrap();
            }
            let source: Vec<u8> = (0..=250).cycle().take(2032).collect();
            let mut unsealed = fs::File::create_new(place.unsealed()).unwrap();
            let (info, _) = seal::add_piece(
                RegisteredSealProof::StackedDrg2KiBV1_1,
                &source[..],
                &mut unsealed,
                UnpaddedBytesAmount(2032),
                &[],
            )
            .unwrap();
            let piece = Piece {
                commitment: Hash32(info.commitment),
                padded_bytes: 2048,
            };
            let job = SealJob {
                place,
                ticket: s.ticket,
                pieces: &[piece],
                sums: &[],
                progress: &|_| {},
            };
            let comm_d = Stock.pc1(&job, Data::Unsealed).unwrap().comm_d;
            let by_stock = (Stock.pc2(&job, comm_d).unwrap(), files(place));
            for _ in 0..2 {
                // Over the replica that is there: ours needs nothing restored.
                let by_us = (Own::default().pc2(&job, comm_d).unwrap(), files(place));
                assert_eq!(by_us, by_stock);
            }
            fs::write(place.unsealed(), [0xff; 2048]).unwrap();
            let e = Own::default().pc2(&job, comm_d).unwrap_err();
            assert_names(&e, "unsealed/s-t01000-7");
        },
    );
}

fn random_nodes(count: u64, seed: u64) -> Vec<Node> {
    let mut random = StdRng::seed_from_u64(seed);
    (0..count)
        .map(|_| {
            let mut node: Node = random.r#gen();
            node[31] &= 0x3f;
            node
        })
        .collect()
}

/// Both trees of random layers and of what they encode, in a folder.
fn our_trees(dir: &Path, shape: Shape, layers: u32) -> trees::Commitments {
    for layer in 1..=layers {
        let content = random_nodes(shape.nodes(), u64::from(layer));
        fs::write(dir.join(trees::layer_name(layer)), content.as_flattened()).unwrap();
    }
    let job = trees::Job {
        shape,
        cache: dir,
        layers,
        sums: &[],
        kernel: Kernel::best(),
        threads: 2,
        progress: &|_, _| {},
    };
    trees::build(&job, trees::Data::Zeros, &dir.join("replica")).unwrap()
}

fn root<D: AsRef<[u8]>, E: std::fmt::Debug>(root: Result<D, E>) -> Node {
    root.unwrap().as_ref().try_into().unwrap()
}

/// The same trees by the library, into another folder; all files must be the same.
macro_rules! same_trees {
    ($tree:ty, $leaves:expr, $trees:expr, $layers:expr) => {{
        let dir = tempfile::tempdir().unwrap();
        let shape = Shape::new($leaves, $trees).unwrap();
        let ours = our_trees(dir.path(), shape, $layers);
        let (bytes, stock) = (shape.nodes() * 32, dir.path().join("stock"));
        fs::create_dir(&stock).unwrap();
        let tree_c = filecoin_proofs::generate_tree_c::<_, _, $tree>(
            bytes,
            dir.path(),
            &stock,
            $layers as usize,
        );
        assert_eq!(root(tree_c), ours.comm_c, "tree-c");
        let replica = dir.path().join("replica");
        let tree_r = filecoin_proofs::generate_tree_r_last::<_, _, $tree>(bytes, &replica, &stock);
        assert_eq!(root(tree_r), ours.comm_r_last, "tree-r-last");
        let names = durable::list(&stock).unwrap();
        assert_eq!(names.len() as u64, 2 * shape.trees());
        for name in names {
            let sum = |dir: &Path| durable::sha256(&dir.join(&name)).unwrap();
            assert_eq!(sum(&stock), sum(dir.path()), "{name}");
        }
    }};
}

/// The shapes of 32 and 64 GiB, with fewer leaves.
#[test]
fn trees_of_many_base_trees_are_those_of_the_library() {
    same_trees!(shapes::SectorShape32GiB, 64, 8, 11);
    same_trees!(shapes::SectorShape32GiB, 512, 8, 2);
    same_trees!(shapes::SectorShape64GiB, 64, 16, 11);
}

#[test]
fn trees_of_eleven_layers_at_8_mib_are_those_of_the_library() {
    same_trees!(shapes::SectorShape8MiB, 1 << 18, 1, 11);
}

/// Runs what a parent test asks for, to be killed by it.
#[test]
fn victim() {
    if let Some(task) = victim::asked() {
        again(&serde_json::from_str(&task).unwrap(), &Own::default());
    }
}

/// By signal 9, once in each run; `FILSTAR_KILLS` says how often.
#[test]
fn pc2_killed_at_random_points_ends_identical() {
    let (name, proof) = (
        "pc2_killed_at_random_points_ends_identical",
        SealProof::StackedDrg8MiBV1P1,
    );
    isolated_for(proof, name, Path::new(NONE), |dir| {
        let s = sized(dir, proof);
        let want = (s.sealed(), files(&s.place));
        let task = serde_json::to_string(&s.pc2_task()).unwrap();
        let mut whole = victim::undisturbed(&task);
        let kills = victim::kills(5);
        let mut in_time = 0;
        for _ in 0..kills {
            if victim::killed_within(&task, whole) {
                in_time += 1;
            } else {
                // The machine has less to do than it had: sooner next time.
                whole /= 2;
            }
            assert_eq!((s.pc2().unwrap(), files(&s.place)), want);
        }
        assert!(
            in_time * 3 > kills,
            "{in_time} of {kills} were killed in time"
        );
    });
}

fn flip(path: &Path) {
    let mut content = fs::read(path).unwrap();
    content[77] ^= 1;
    fs::write(path, content).unwrap();
}

#[test]
fn flipped_byte_in_each_input_of_pc2_is_named_and_pc1_repairs_it() {
    let name = "flipped_byte_in_each_input_of_pc2_is_named_and_pc1_repairs_it";
    isolated(name, Path::new(NONE), |dir| {
        let inputs = [
            "sc-02-data-layer-1.dat",
            "sc-02-data-layer-2.dat",
            "sc-02-data-tree-d.dat",
        ];
        for (number, input) in (1..).zip(inputs) {
            let s = Sector::new(&dir.join("a"), number);
            let want = Sector::new(&dir.join("b"), number).sealed();
            s.add_piece().unwrap();
            s.pc1().unwrap();
            flip(&s.place.cache().join(input));
            assert_names(&s.pc2().unwrap_err(), input);
            s.pc1().unwrap();
            assert_eq!(s.pc2().unwrap(), want);
            s.c1().unwrap();
        }
    });
}

#[test]
fn flipped_byte_in_each_output_of_pc2_is_named_and_pc2_repairs_it() {
    let name = "flipped_byte_in_each_output_of_pc2_is_named_and_pc2_repairs_it";
    isolated(name, Path::new(NONE), |dir| {
        let s = Sector::new(dir, 7);
        let want = (s.sealed(), files(&s.place));
        for output in want
            .1
            .keys()
            .filter(|n| !n.contains("layer") && !n.contains("tree-d"))
        {
            let path = match output.as_str() {
                "sealed" => s.place.sealed(),
                name => s.place.cache().join(name),
            };
            let mut content = fs::read(&path).unwrap();
            content[7] ^= 1;
            fs::write(&path, content).unwrap();
            assert_eq!(s.pc2().unwrap(), want.0, "{output}");
            assert_eq!(files(&s.place), want.1, "{output}");
        }
        s.c1().unwrap();
    });
}

/// What the record of PC1 cannot tell, since it was right when it was read.
#[test]
fn layers_that_change_while_pc2_runs_are_named() {
    let name = "layers_that_change_while_pc2_runs_are_named";
    isolated(name, Path::new(NONE), |dir| {
        let s = Sector::new(dir, 7);
        s.sealed();
        let job = SealJob {
            place: &s.place,
            ticket: s.ticket,
            pieces: &[],
            sums: &[],
            progress: &|_| {},
        };
        let comm_d = s.pc2().unwrap().comm_d;
        for file in [
            "sc-02-data-layer-1.dat",
            "sc-02-data-layer-2.dat",
            "sc-02-data-tree-d.dat",
        ] {
            let path = s.place.cache().join(file);
            let good = fs::read(&path).unwrap();
            let mut bad = good.clone();
            // In the last node: the root of tree-d, and in layers above the modulus.
            *bad.last_mut().unwrap() = 0xff;
            for damage in [&bad[..], &good[..good.len() / 2]] {
                fs::write(&path, damage).unwrap();
                assert_names(&Own::default().pc2(&job, comm_d).unwrap_err(), file);
            }
            fs::remove_file(&path).unwrap();
            assert_names(&Own::default().pc2(&job, comm_d).unwrap_err(), file);
            fs::write(&path, good).unwrap();
        }
        Own::default().pc2(&job, comm_d).unwrap();
    });
}

/// Labels that are as good as any, but not those that were checked.
#[test]
fn layer_that_turns_into_another_after_its_check_is_named() {
    let name = "layer_that_turns_into_another_after_its_check_is_named";
    isolated(name, Path::new(NONE), |dir| {
        let s = Sector::new(dir, 7);
        let comm_d = s.sealed().comm_d;
        let path = |layer| s.place.cache().join(trees::layer_name(layer));
        let sums = [1, 2].map(|layer| {
            let mut sums = LayerSums::new(Shape::of_sector(2048).unwrap());
            sums.add(&fs::read(path(layer)).unwrap());
            sums
        });
        let job = SealJob {
            place: &s.place,
            ticket: s.ticket,
            pieces: &[],
            sums: &sums,
            progress: &|_| {},
        };
        Own::default().pc2(&job, comm_d).unwrap();
        for layer in [1, 2] {
            let good = fs::read(path(layer)).unwrap();
            flip(&path(layer));
            let e = Own::default().pc2(&job, comm_d).unwrap_err();
            assert_names(&e, &trees::layer_name(layer));
            fs::write(path(layer), good).unwrap();
        }
        Own::default().pc2(&job, comm_d).unwrap();
    });
}
