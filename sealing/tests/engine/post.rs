//! Our reader for proofs of spacetime against the stock library's, byte by byte, and what it says of
//! damaged sectors.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::Path,
};

use crate::support::{ACTOR, Sector, assert_names, isolated};
use filecoin_proofs::{
    PoStConfig, PoStType, PrivateReplicaInfo,
    constants::{SectorShape2KiB, SectorShape8MiB, SectorShape16KiB, SectorShape32KiB},
    generate_single_vanilla_proof, generate_tree_r_last,
};
use filecoin_proofs_api::{Hasher, RegisteredPoStProof};
use filstar_sealing::{
    Class, Hash32, Output, SealProof, Stock, Task,
    post::{SectorFiles, shape::Shape, vanilla, window_vanilla},
    task::{ReadPartition, Replica, VanillaProof},
};
use storage_proofs_core::merkle::{InclusionPath, MerkleTreeTrait, PathElement};

fn alone(name: &str, body: impl FnOnce(&Path)) {
    isolated(name, Path::new("/nonexistent"), body);
}

/// A replica of any content with its tree, as the library makes it, and its files.
fn replica<Tree: 'static + MerkleTreeTrait>(dir: &Path, shape: Shape) -> SectorFiles {
    let nodes = shape.nodes();
    let mut bytes = Vec::new();
    for i in 0..nodes {
        let mut node = [0; 32];
        node[..8].copy_from_slice(&(i.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x4d).to_le_bytes());
        node[20] = u8::try_from(i % 251).unwrap();
        bytes.extend(node);
    }
    let (path, cache) = (dir.join("replica"), dir.join("cache"));
    fs::create_dir_all(&cache).unwrap();
    fs::write(&path, &bytes).unwrap();
    let root = generate_tree_r_last::<_, _, Tree>(nodes * 32, &path, &cache).unwrap();
    let comm_r_last = node_of(root.as_ref());
    let comm_c = [5; 32];
    fs::write(cache.join("p_aux"), [comm_c, comm_r_last].concat()).unwrap();
    SectorFiles {
        shape,
        number: 42,
        replica: path,
        cache,
        comm_r: Hash32(hash_two(comm_c, comm_r_last)),
    }
}

fn node_of(bytes: &[u8]) -> [u8; 32] {
    bytes.try_into().unwrap()
}

/// By the library.
fn hash_two(left: [u8; 32], right: [u8; 32]) -> [u8; 32] {
    type H = <SectorShape2KiB as MerkleTreeTrait>::Hasher;
    type Two = <SectorShape32KiB as MerkleTreeTrait>::TopTreeArity;
    let domain = |n| filecoin_proofs::as_safe_commitment(n, "node").unwrap();
    let step = PathElement::<H, Two>::from((vec![domain(&right)], 0));
    let root: <H as Hasher>::Domain = InclusionPath::from(vec![step]).root(domain(&left));
    node_of(root.as_ref())
}

fn stock<Tree: 'static + MerkleTreeTrait>(files: &SectorFiles, leaves: &[u64]) -> Vec<u8> {
    let mut config: PoStConfig = RegisteredPoStProof::StackedDrgWindow2KiBV1_2.as_v1_config();
    config.sector_size = (files.shape.nodes() * 32).into();
    config.typ = PoStType::Window;
    let (replica, cache) = (files.replica.clone(), files.cache.clone());
    let info = PrivateReplicaInfo::<Tree>::new(replica, files.comm_r.0, cache).unwrap();
    let proof = generate_single_vanilla_proof(&config, files.number.into(), &info, leaves);
    bincode::serialize(&proof.unwrap()).unwrap()
}

fn same_as_stock<Tree: 'static + MerkleTreeTrait>(dir: &Path, shape: Shape) {
    let files = replica::<Tree>(dir, shape);
    let n = shape.nodes();
    let leaves = [0, 1, 7, 8, 63, n / 2 - 1, n / 2, n / 3, n - 9, n - 1, n - 1];
    for leaf in leaves {
        let leaves = [leaf];
        assert!(
            vanilla(&files, &leaves).unwrap() == stock::<Tree>(&files, &leaves),
            "{leaf}"
        );
    }
    assert!(vanilla(&files, &leaves).unwrap() == stock::<Tree>(&files, &leaves));
}

/// `matches_reference`: 16 KiB has the cut of 32 GiB, 32 KiB that of 64 GiB.
#[test]
fn vanilla_proofs_are_those_of_the_library_in_every_shape() {
    let name = "vanilla_proofs_are_those_of_the_library_in_every_shape";
    alone(name, |dir| {
        same_as_stock::<SectorShape2KiB>(&dir.join("a"), Shape::of(SealProof::StackedDrg2KiBV1P1));
        same_as_stock::<SectorShape16KiB>(&dir.join("b"), Shape::new(512, 8, 1));
        same_as_stock::<SectorShape32KiB>(&dir.join("c"), Shape::new(1024, 8, 2));
    });
}

/// `matches_reference`: with stored rows above the segments, as all real sizes have them.
#[test]
fn vanilla_proofs_are_those_of_the_library_at_8_mib() {
    alone("vanilla_proofs_are_those_of_the_library_at_8_mib", |dir| {
        same_as_stock::<SectorShape8MiB>(dir, Shape::of(SealProof::StackedDrg8MiBV1P1));
    });
}

#[test]
fn sealed_sector_gives_the_library_s_window_proof() {
    alone("sealed_sector_gives_the_library_s_window_proof", |dir| {
        let s = Sector::new(dir, 7);
        let comm_r = s.sealed().comm_r;
        for seed in [0, 1, 0xff] {
            let input = VanillaProof {
                place: s.place.clone(),
                comm_r,
                randomness: Hash32([seed; 32]),
            };
            assert!(window_vanilla(&input).unwrap() == Stock.vanilla_proof(&input).unwrap());
        }
    });
}

#[test]
fn one_wrong_byte_anywhere_is_found_and_its_file_named() {
    alone(
        "one_wrong_byte_anywhere_is_found_and_its_file_named",
        |dir| {
            let shape = Shape::of(SealProof::StackedDrg8MiBV1P1);
            let files = replica::<SectorShape8MiB>(dir, shape);
            let tree = files.cache.join("sc-02-data-tree-r-last.dat");
            let aux = files.cache.join("p_aux");
            let leaf = 77_777;
            let segment = leaf / 512 * 512;
            let rows = [512, 64, 8, 1];
            let in_row = |row: usize| {
                let below: u64 = rows[..row].iter().sum();
                (below + segment / 512 / 8u64.pow(u32::try_from(row).unwrap())) * 32
            };
            let places = [
                (&files.replica, segment * 32, "replica"),
                (&files.replica, segment * 32 + 511 * 32 + 5, "replica"),
                (&files.replica, leaf * 32 + 31, "replica"),
                (&tree, in_row(0), "tree-r-last"),
                (&tree, in_row(1), "tree-r-last"),
                (&tree, in_row(2) ^ 32, "tree-r-last"),
                (&tree, in_row(3), "tree-r-last"),
                (&aux, 0, "p_aux"),
                (&aux, 33, "p_aux"),
                (&aux, 63, "p_aux"),
            ];
            vanilla(&files, &[leaf]).unwrap();
            for (path, offset, name) in places {
                for bit in [1, 0x80] {
                    let file = File::options().read(true).write(true).open(path).unwrap();
                    let mut byte = [0];
                    file.read_exact_at(&mut byte, offset).unwrap();
                    file.write_all_at(&[byte[0] ^ bit], offset).unwrap();
                    assert_names(&vanilla(&files, &[leaf]).unwrap_err(), name);
                    file.write_all_at(&byte, offset).unwrap();
                }
            }
            vanilla(&files, &[leaf]).unwrap();
        },
    );
}

#[test]
fn missing_and_cut_files_are_named() {
    alone("missing_and_cut_files_are_named", |dir| {
        let files = replica::<SectorShape16KiB>(dir, Shape::new(512, 8, 1));
        for path in [
            files.replica.clone(),
            files.cache.join("p_aux"),
            files.cache.join("sc-02-data-tree-r-last-3.dat"),
        ] {
            let whole = fs::read(&path).unwrap();
            let name = path.file_name().unwrap().to_str().unwrap();
            fs::write(&path, &whole[1..]).unwrap();
            assert_names(&vanilla(&files, &[9]).unwrap_err(), name);
            fs::remove_file(&path).unwrap();
            assert_names(&vanilla(&files, &[9]).unwrap_err(), name);
            fs::write(&path, whole).unwrap();
        }
    });
}

#[test]
fn replica_that_is_not_the_one_on_chain_is_refused() {
    alone("replica_that_is_not_the_one_on_chain_is_refused", |dir| {
        let s = Sector::new(dir, 7);
        s.sealed();
        let e = s.vanilla(Hash32([1; 32]), s.seed).unwrap_err();
        assert_names(&e, "p_aux");
    });
}

/// Of four sectors one is good, one damaged, one on a store that hangs, one nowhere.
#[test]
fn partition_is_read_without_its_bad_sectors() {
    alone("partition_is_read_without_its_bad_sectors", |dir| {
        let (stores, mut sectors) = (dir.join("stores"), Vec::new());
        for (number, store) in [(1, "a"), (2, "a"), (3, "b")] {
            let s = Sector::new(dir, number);
            let sealed = s.sealed();
            s.finalize().unwrap();
            s.land(&stores.join(store), &sealed).unwrap();
            let comm_r = sealed.comm_r;
            sectors.push(Replica { number, comm_r });
        }
        let comm_r = Hash32([4; 32]);
        sectors.push(Replica { number: 4, comm_r });
        fs::write(stores.join("a/cache/s-t01000-2/p_aux"), [0; 64]).unwrap();
        // Opening a pipe that nobody writes to hangs, as a file on a dead mount does.
        let hangs = stores.join("b/cache/s-t01000-3/p_aux");
        fs::remove_file(&hangs).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &hangs, rustix::fs::Mode::RUSR).unwrap();
        let read = ReadPartition {
            proof_type: SealProof::StackedDrg2KiBV1P1,
            actor: ACTOR,
            randomness: Hash32([9; 32]),
            sectors,
            stores,
            readers: 2,
            deadline_millis: 300,
            file: dir.join("proofs"),
        };
        // Too many for one partition of 2 KiB: so in two.
        let (mut first, mut second) = (read.clone(), read);
        second.sectors = first.sectors.split_off(2);
        let any = Sector::new(dir, 1);
        let [first, second] = [first, second].map(|task| {
            let output = any.run(&Task::ReadPartition(task)).unwrap();
            let Output::ReadPartition(output) = output else {
                panic!("{output:?}")
            };
            output
        });
        assert_eq!((first.good, second.good), (vec![1], vec![]));
        let said = [&first.skipped[0], &second.skipped[0], &second.skipped[1]];
        assert_eq!(said.map(|s| s.number), [2, 3, 4]);
        assert_eq!(said[0].class, Class::Corrupt);
        for (skipped, word) in said.iter().zip(["p_aux", "did not answer", "no store"]) {
            assert!(skipped.reason.contains(word), "{skipped:?}");
        }
    });
}

/// A store that comes first by name, and has a damaged copy of one sector and a cut one of another.
#[test]
fn a_bad_copy_does_not_hide_a_good_one_in_another_store() {
    alone(
        "a_bad_copy_does_not_hide_a_good_one_in_another_store",
        |dir| {
            let (stores, mut sectors) = (dir.join("stores"), Vec::new());
            for number in [1, 2] {
                let s = Sector::new(dir, number);
                let sealed = s.sealed();
                s.finalize().unwrap();
                s.land(&stores.join("b"), &sealed).unwrap();
                let comm_r = sealed.comm_r;
                sectors.push(Replica { number, comm_r });
            }
            for folder in ["sealed", "cache/s-t01000-1", "cache/s-t01000-2"] {
                fs::create_dir_all(stores.join("a").join(folder)).unwrap();
            }
            for file in [
                "sealed/s-t01000-1",
                "sealed/s-t01000-2",
                "cache/s-t01000-2/p_aux",
            ] {
                fs::copy(stores.join("b").join(file), stores.join("a").join(file)).unwrap();
            }
            let cut = File::options()
                .write(true)
                .open(stores.join("a/sealed/s-t01000-2"));
            cut.unwrap().set_len(100).unwrap();
            let read = ReadPartition {
                proof_type: SealProof::StackedDrg2KiBV1P1,
                actor: ACTOR,
                randomness: Hash32([9; 32]),
                sectors,
                stores,
                readers: 2,
                deadline_millis: 60_000,
                file: dir.join("proofs"),
            };
            let output = Sector::new(dir, 1).run(&Task::ReadPartition(read)).unwrap();
            let Output::ReadPartition(output) = output else {
                panic!("{output:?}")
            };
            assert_eq!(output.good, [1, 2], "{:?}", output.skipped);
        },
    );
}
