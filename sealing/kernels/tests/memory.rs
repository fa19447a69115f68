//! Memory of building trees, measured in a process that does nothing else.

#![expect(clippy::unwrap_used, reason = "what a test cannot get fails it")]

use std::{fs, io::Write};

use filstar_kernels::{
    poseidon::{Arity, Kernel, hash_groups},
    trees::{Data, Job, Shape, build, layer_name, memory_bytes},
};

/// Stacks and heads of threads, what the allocator keeps: not in the formula.
const SLACK: u64 = 1 << 20;

/// Most memory that this process has had since the last [`forget`], bytes.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|l| l.strip_prefix("VmHWM:"))
        .unwrap();
    let kib = line.trim().trim_end_matches(" kB");
    kib.parse::<u64>().unwrap() << 10
}

fn forget() {
    fs::write("/proc/self/clear_refs", "5").unwrap();
}

#[test]
fn trees_of_eleven_layers_stay_within_the_stated_memory() {
    let dir = tempfile::tempdir().unwrap();
    let shape = Shape::of_sector(8 << 20).unwrap();
    for layer in 1..=11u8 {
        let mut file = fs::File::create(dir.path().join(layer_name(u32::from(layer)))).unwrap();
        for i in 0..8u8 {
            file.write_all(&vec![layer * 5 + i % 4; 1 << 20]).unwrap();
        }
    }
    // The constants are made before memory is looked at.
    for arity in Arity::ALL {
        let nodes = [[0; 32]; 11];
        hash_groups(
            Kernel::best(),
            arity,
            &nodes[..arity.inputs()],
            &mut [[0; 32]],
        )
        .unwrap();
    }
    for threads in [1, 5] {
        let job = Job {
            shape,
            cache: dir.path(),
            layers: 11,
            sums: &[],
            kernel: Kernel::best(),
            threads,
            progress: &|_, _| {},
        };
        forget();
        let before = peak();
        build(&job, Data::Zeros, &dir.path().join("replica")).unwrap();
        let (used, stated) = (peak() - before, memory_bytes(shape, 11, threads));
        assert!(
            used < stated + SLACK,
            "{threads} threads: {used} bytes, stated {stated}"
        );
        // And the statement is not idle.
        assert!(
            used > stated / 2,
            "{threads} threads: {used} bytes, stated {stated}"
        );
    }
}
