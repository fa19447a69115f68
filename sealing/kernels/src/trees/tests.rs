//! Trees against plain definitions of what they are.

use std::{collections::BTreeMap, fs};

use super::*;
use crate::poseidon::{add, hash_columns};

fn quiet(_: u64, _: u64) {}

struct Bench {
    dir: tempfile::TempDir,
    shape: Shape,
    layers: u32,
}

impl Bench {
    fn new(leaves: u64, trees: u64, layers: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let shape = Shape::new(leaves, trees).unwrap();
        for layer in 1..=layers {
            let content = nodes(shape.nodes(), u64::from(layer));
            fs::write(dir.path().join(layer_name(layer)), content.as_flattened()).unwrap();
        }
        let data = nodes(shape.nodes(), 99);
        fs::write(dir.path().join("data"), data.as_flattened()).unwrap();
        Self { dir, shape, layers }
    }

    fn job(&self) -> Job<'_> {
        Job {
            shape: self.shape,
            cache: self.dir.path(),
            layers: self.layers,
            sums: &[],
            kernel: Kernel::best(),
            threads: 3,
            progress: &quiet,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn build(&self) -> Result<Commitments> {
        let data = self.path("data");
        build(&self.job(), Data::File(&data), &self.path("replica"))
    }

    /// Everything in the folder but the inputs.
    fn outputs(&self) -> BTreeMap<String, Vec<u8>> {
        let mut out = BTreeMap::new();
        for entry in fs::read_dir(self.dir.path()).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if !name.contains("layer") && name != "data" {
                out.insert(name.clone(), fs::read(self.path(&name)).unwrap());
            }
        }
        out
    }
}

/// Nodes that differ from each other.
fn nodes(count: u64, seed: u64) -> Vec<Node> {
    let one = |i: u64| {
        let mut node = [0; NODE_BYTES];
        for (word, bytes) in node.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let mixed = (i * 31 + seed * 1009 + word as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            *bytes = (mixed ^ mixed >> 29).to_le_bytes();
        }
        node[31] &= 0x3f;
        node
    };
    (0..count).map(one).collect()
}

/// All rows of a tree, leaves first.
fn rows(leaves: Vec<Node>) -> Vec<Vec<Node>> {
    let mut rows = vec![leaves];
    while rows[rows.len() - 1].len() > 1 {
        let below = &rows[rows.len() - 1];
        let mut above = vec![[0; NODE_BYTES]; below.len() / 8];
        hash_groups(Kernel::Portable, Arity::Eight, below, &mut above).unwrap();
        rows.push(above);
    }
    rows
}

#[test]
fn trees_are_the_rows_of_columns_and_replica() {
    for (layers, kept) in [(2, 2), (11, 2)] {
        let b = Bench::new(64, 1, layers);
        let commitments = b.build().unwrap();
        let all: Vec<_> = (1..=layers).map(|l| nodes(64, u64::from(l))).collect();
        let views: Vec<&[Node]> = all.iter().map(Vec::as_slice).collect();
        let mut columns = vec![[0; NODE_BYTES]; 64];
        hash_columns(Kernel::Portable, &views, &mut columns).unwrap();
        let tree_c = rows(columns).concat();
        let encode = |(a, b): (&Node, &Node)| add(a, b).unwrap();
        let replica: Vec<_> = nodes(64, 99)
            .iter()
            .zip(&all[all.len() - 1])
            .map(encode)
            .collect();
        let tree_r = rows(replica.clone());
        let out = b.outputs();
        assert_eq!(out["sc-02-data-tree-c.dat"], tree_c.as_flattened());
        assert_eq!(
            out["sc-02-data-tree-r-last.dat"],
            tree_r[kept..].concat().as_flattened()
        );
        assert_eq!(out["replica"], replica.as_flattened());
        let roots = [tree_c[tree_c.len() - 1], tree_r[2][0]];
        assert_eq!(out["p_aux"], roots.as_flattened());
        assert_eq!([commitments.comm_c, commitments.comm_r_last], roots);
        let mut comm_r = [[0; NODE_BYTES]];
        hash_groups(Kernel::Portable, Arity::Two, &roots, &mut comm_r).unwrap();
        assert_eq!(commitments.comm_r, comm_r[0]);
    }
}

#[test]
fn base_trees_are_parts_of_one_tree() {
    let (one, eight) = (Bench::new(512, 1, 2), Bench::new(64, 8, 2));
    assert_eq!(one.build().unwrap(), eight.build().unwrap());
    assert_eq!(one.outputs()["replica"], eight.outputs()["replica"]);
    let leaves = &one.outputs()["sc-02-data-tree-c.dat"][64 * 32 * 3..64 * 32 * 4];
    let fourth = &eight.outputs()["sc-02-data-tree-c-3.dat"];
    assert_eq!((&fourth[..64 * 32], fourth.len()), (leaves, 73 * 32));
    assert_eq!(eight.outputs()["sc-02-data-tree-r-last-7.dat"].len(), 32);
}

#[test]
fn sixteen_base_trees_are_two_of_eight_under_one_root() {
    let roots = nodes(16, 5);
    let half = |h: usize| top(Kernel::Portable, &roots[8 * h..8 * h + 8]).unwrap();
    let want = top(Kernel::Portable, &[half(0), half(1)]).unwrap();
    assert_eq!(top(Kernel::best(), &roots).unwrap(), want);
    let b = Bench::new(64, 16, 2);
    b.build().unwrap();
    assert!(b.path("sc-02-data-tree-c-15.dat").exists());
}

/// With more leaves than a chunk has.
#[test]
fn threads_and_kernels_change_nothing() {
    let b = Bench::new(8 * CHUNK, 1, 2);
    b.build().unwrap();
    let want = b.outputs();
    let data = b.path("data");
    let (kernel, threads) = (Kernel::best(), 1);
    let job = Job {
        kernel,
        threads,
        ..b.job()
    };
    build(&job, Data::File(&data), &b.path("replica")).unwrap();
    assert!(b.outputs() == want, "one thread");
    let small = Bench::new(512, 1, 11);
    small.build().unwrap();
    let want = small.outputs();
    let data = small.path("data");
    let (kernel, threads) = (Kernel::Portable, 64);
    let job = Job {
        kernel,
        threads,
        ..small.job()
    };
    build(&job, Data::File(&data), &small.path("replica")).unwrap();
    assert!(small.outputs() == want, "portable");
}

#[test]
fn building_again_over_anything_gives_the_same() {
    let b = Bench::new(64, 1, 2);
    let first = b.build().unwrap();
    let want = b.outputs();
    for name in want.keys() {
        let junk = vec![0xff; 100 + want[name].len()];
        fs::write(b.path(name), &junk[..want[name].len() / 2]).unwrap();
        assert_eq!(b.build().unwrap(), first, "{name} cut");
        fs::write(b.path(name), junk).unwrap();
        assert_eq!(b.build().unwrap(), first, "{name} with junk");
        assert_eq!(b.outputs(), want);
    }
}

#[test]
fn building_that_died_after_any_chunk_gives_the_same_when_done_again() {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
        sync::atomic::{AtomicU32, Ordering},
    };
    let b = Bench::new(64, 16, 2);
    let first = b.build().unwrap();
    let want = b.outputs();
    let data = b.path("data");
    for last in 0..32 {
        let told = AtomicU32::new(0);
        let progress = |_, _| {
            if told.fetch_add(1, Ordering::Relaxed) == last {
                resume_unwind(Box::new("killed"));
            }
        };
        let job = Job {
            progress: &progress,
            ..b.job()
        };
        let replica = b.path("replica");
        let died = catch_unwind(AssertUnwindSafe(|| {
            build(&job, Data::File(&data), &replica)
        }));
        assert!(died.is_err(), "there are more than {last} chunks");
        assert_eq!(b.build().unwrap(), first, "died after {last} chunks");
        assert_eq!(b.outputs(), want);
    }
}

#[test]
fn committed_capacity_is_a_file_of_zeros() {
    let b = Bench::new(64, 1, 2);
    fs::write(b.path("data"), [0; 64 * NODE_BYTES]).unwrap();
    let from_file = b.build().unwrap();
    let from_nothing = build(&b.job(), Data::Zeros, &b.path("replica")).unwrap();
    assert_eq!(from_file, from_nothing);
    assert_eq!(b.outputs()["replica"], nodes(64, 2).as_flattened());
}

#[test]
fn encoding_in_place_is_refused() {
    let b = Bench::new(64, 1, 2);
    let data = b.path("data");
    fs::hard_link(&data, b.path("other")).unwrap();
    let e = build(&b.job(), Data::File(&data), &b.path("other")).unwrap_err();
    assert!(matches!(e, TreeError::Input(_)), "{e}");
    assert_eq!(fs::read(data).unwrap(), nodes(64, 99).as_flattened());
}

#[test]
fn damaged_inputs_are_named() {
    let damage = |what: &str, content: &mut Vec<u8>| match what {
        "cut" => content.truncate(77),
        "longer" => content.push(0),
        _ => content[32 * 5 + 31] = 0xff,
    };
    for name in ["sc-02-data-layer-1.dat", "sc-02-data-layer-2.dat", "data"] {
        for what in ["cut", "longer", "above the modulus"] {
            let b = Bench::new(64, 1, 2);
            let mut content = fs::read(b.path(name)).unwrap();
            damage(what, &mut content);
            fs::write(b.path(name), content).unwrap();
            let text = b.build().unwrap_err().to_string();
            assert!(text.contains(name), "{name} {what}: {text}");
            let node = text.contains("node 5 ");
            assert_eq!(node, what == "above the modulus", "{text}");
        }
        let b = Bench::new(64, 1, 2);
        fs::remove_file(b.path(name)).unwrap();
        let text = b.build().unwrap_err().to_string();
        assert!(text.contains(name), "{text}");
    }
}

#[test]
fn progress_ends_with_the_whole() {
    use std::sync::Mutex;
    let b = Bench::new(64, 8, 2);
    let told = Mutex::new(Vec::new());
    let progress = |done, whole| told.lock().unwrap().push((done, whole));
    let job = Job {
        progress: &progress,
        ..b.job()
    };
    build(&job, Data::Zeros, &b.path("replica")).unwrap();
    let told = told.lock().unwrap();
    assert!(
        told.is_sorted() && told.iter().all(|(_, w)| *w == told[0].1),
        "{told:?}"
    );
    assert_eq!(told.last().map(|(done, whole)| done == whole), Some(true));
}

fn way_back<'a>(key: &'a Path, replica: &'a Path, nodes: u64) -> Decode<'a> {
    Decode {
        nodes,
        key,
        replica,
        threads: 3,
        progress: &|_| {},
    }
}

#[test]
fn decoded_replica_is_the_data_with_any_number_of_threads() {
    for (leaves, trees) in [(64, 1), (8 * CHUNK, 1)] {
        let b = Bench::new(leaves, trees, 2);
        b.build().unwrap();
        let (key, replica, out) = (b.path(&layer_name(2)), b.path("replica"), b.path("out"));
        let before = fs::read(&replica).unwrap();
        for threads in [1, 3, 64] {
            fs::write(&out, [0xff; 100]).unwrap();
            let job = Decode {
                threads,
                ..way_back(&key, &replica, leaves)
            };
            decode(&job, &out).unwrap();
            assert!(fs::read(&out).unwrap() == fs::read(b.path("data")).unwrap());
        }
        assert!(
            fs::read(&replica).unwrap() == before,
            "the replica is only read"
        );
    }
}

#[test]
fn decoding_names_what_is_damaged_and_what_is_full() {
    let b = Bench::new(64, 1, 2);
    b.build().unwrap();
    let (key, replica, out) = (b.path(&layer_name(2)), b.path("replica"), b.path("out"));
    let job = way_back(&key, &replica, 64);
    let full = decode(&job, Path::new("/dev/full")).unwrap_err();
    let TreeError::Io { path, source, .. } = &full else {
        panic!("{full}")
    };
    assert_eq!(source.kind(), io::ErrorKind::StorageFull);
    assert_eq!(path, Path::new("/dev/full"));
    fs::hard_link(&replica, b.path("link")).unwrap();
    let e = decode(&job, &b.path("link")).unwrap_err();
    assert!(matches!(e, TreeError::Input(_)), "{e}");
    for file in [&key, &replica] {
        let good = fs::read(file).unwrap();
        let mut bad = good.clone();
        bad[32 * 5 + 31] = 0xff;
        for damage in [&bad[..], &good[..77]] {
            fs::write(file, damage).unwrap();
            let text = decode(&job, &out).unwrap_err().to_string();
            assert!(text.contains(&*file.to_string_lossy()), "{text}");
            assert_eq!(text.contains("node 5 "), damage.len() > 77, "{text}");
        }
        fs::write(file, good).unwrap();
    }
    decode(&job, &out).unwrap();
}

#[test]
fn decoding_tells_how_many_nodes_are_done() {
    let b = Bench::new(8 * CHUNK, 1, 2);
    b.build().unwrap();
    let told = std::sync::Mutex::new(Vec::new());
    let (key, replica) = (b.path(&layer_name(2)), b.path("replica"));
    let job = Decode {
        progress: &|done| told.lock().unwrap().push(done),
        ..way_back(&key, &replica, 8 * CHUNK)
    };
    decode(&job, &b.path("out")).unwrap();
    let mut told = told.into_inner().unwrap();
    told.sort_unstable();
    assert_eq!(told, (1..=8).map(|n| n * CHUNK).collect::<Vec<_>>());
}

/// `CommD` of an empty sector of 2 KiB as the network knows it, and any data against the plain definition.
#[test]
fn vector_commitment_of_data() {
    use sha2::{Digest, Sha256};
    let b = Bench::new(8 * CHUNK, 1, 2);
    fs::write(b.path("zeros"), [0; 64 * NODE_BYTES]).unwrap();
    let zeros = comm_d(&b.path("zeros"), 64, 2).unwrap();
    let known = "fc7e928296e516faade986b28f92d44a4f24b935485223376a799027bc18f833";
    assert_eq!(hex::encode(zeros), known);
    let mut row = nodes(8 * CHUNK, 99);
    while row.len() > 1 {
        let pair = |pair: &[Node]| {
            let mut node: Node = Sha256::digest(pair.concat()).into();
            node[31] &= 0x3f;
            node
        };
        row = row.chunks(2).map(pair).collect();
    }
    for threads in [1, 5] {
        let got = comm_d(&b.path("data"), 8 * CHUNK, threads).unwrap();
        assert_eq!(got, row[0]);
    }
    let e = comm_d(&b.path("data"), 64, 2).unwrap_err();
    assert!(matches!(e, TreeError::Size { .. }), "{e}");
    assert!(comm_d(&b.path("data"), 63, 2).is_err());
}

#[test]
fn shapes_are_those_of_the_network() {
    let gib = 1 << 30;
    let known = [
        (2 << 10, 64, 1, 1),
        (8 << 20, 1 << 18, 1, 2),
        (gib / 2, 1 << 24, 1, 2),
        (32 * gib, 1 << 27, 8, 2),
        (64 * gib, 1 << 27, 16, 2),
    ];
    for (bytes, leaves, trees, discard) in known {
        let shape = Shape::of_sector(bytes).unwrap();
        assert_eq!(
            (shape.leaves, shape.trees, shape.rows_to_discard()),
            (leaves, trees, discard)
        );
    }
    assert_eq!(Shape::of_sector(gib), None);
    assert_eq!(Shape::new(128, 1), None);
    // Sizes of files of 32 GiB sectors as the network has them.
    let dir = tempfile::tempdir().unwrap();
    for (first_row, want) in [(0, 4_908_534_048), (3, 9_586_976)] {
        let path = dir.path().join("tree");
        file::TreeFile::create(path.clone(), 1 << 27, first_row).unwrap();
        assert_eq!(fs::metadata(path).unwrap().len(), want);
    }
}

#[test]
fn memory_does_not_grow_with_the_sector() {
    let large = Shape::of_sector(64 << 30).unwrap();
    assert!(
        memory_bytes(large, 11, 64) < 128 << 20,
        "{}",
        memory_bytes(large, 11, 64)
    );
    assert!(
        memory_bytes(large, 11, 1) < 6 << 20,
        "{}",
        memory_bytes(large, 11, 1)
    );
}
