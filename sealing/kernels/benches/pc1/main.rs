//! PC1: hashing alone against the chain that bounds it, labelling in memory on one core, what a kill
//! costs, what two sectors need of memory.
//!
//! Prints one JSON object a line. Times are CPU times of the thread that labels, so that other
//! programs on the core count little.
//!
//! ```text
//! cargo bench -p filstar-kernels --bench pc1 [-- PARENTS_FILE LOG2_NODES | only NAME]
//! ```
//! Without arguments a graph of 8 MiB is computed; a parents file of 512 MiB has 2^24 nodes.
#![expect(
    unsafe_code,
    reason = "the clock of the thread; instructions that are timed as they are"
)]
#![expect(clippy::unwrap_used, reason = "a bench that cannot measure fails")]
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "figures to look at"
)]

mod process;

use std::{hint::black_box, path::Path};

use filstar_kernels::{
    graph::{DEGREE, Graph, Row, porep_id},
    memory::{Buffer, Pages},
    parents::{ParentsFile, Rows},
    sdr::{AHEAD, Kernel, Labels, Span},
};

/// Dependent rounds of one label but its header: 19 blocks of 32 instructions.
const CHAIN: usize = 19 * 32;
const RUNS: usize = 5;
const BLOCK: usize = 2048;

fn cpu_seconds() -> f64 {
    let mut t = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a timespec that lives on.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut t) };
    assert_eq!(status, 0);
    t.tv_sec as f64 + t.tv_nsec as f64 / 1e9
}

/// Median of the nanoseconds that each of `n` things took.
fn median(n: usize, mut f: impl FnMut()) -> f64 {
    let mut all: Vec<f64> = (0..RUNS)
        .map(|_| {
            let begin = cpu_seconds();
            f();
            (cpu_seconds() - begin) * 1e9 / n as f64
        })
        .collect();
    all.sort_by(f64::total_cmp);
    all[RUNS / 2]
}

#[cfg(target_arch = "x86_64")]
fn chain() -> f64 {
    use std::arch::x86_64::{_mm_cvtsi128_si32, _mm_set_epi64x, _mm_sha256rnds2_epu32};

    #[target_feature(enable = "sha")]
    fn run(labels: usize) -> i32 {
        let (mut a, mut b) = (_mm_set_epi64x(1, 2), _mm_set_epi64x(3, 4));
        let words = _mm_set_epi64x(5, 6);
        for _ in 0..labels * CHAIN / 2 {
            b = _mm_sha256rnds2_epu32(b, a, words);
            a = _mm_sha256rnds2_epu32(a, b, words);
        }
        _mm_cvtsi128_si32(a)
    }
    let labels = 100_000;
    median(labels, || {
        // SAFETY: `main` has asked the processor.
        black_box(unsafe { run(black_box(labels)) });
    })
}

/// Nanoseconds of a label in one lane when all parents are in the first cache.
fn hashing<const L: usize>() -> f64 {
    let nodes = 64u32;
    let row = |n: u32| -> Row {
        std::array::from_fn(|k| match k {
            0 => n.saturating_sub(1).to_le_bytes(),
            k => (n * 7 + u32::try_from(k).unwrap() * 19).to_le_bytes(),
        })
    };
    let rows: Vec<Row> = (0..nodes).map(row).collect();
    let previous = vec![[[3; 32]; L]; 64];
    let mut current = previous.clone();
    let turns = 1600;
    median(64 * turns * L, || {
        for _ in 0..turns {
            Kernel::best().label(&mut Span {
                layer: 2,
                first: 0,
                count: 64,
                rows: &rows,
                replica_ids: &[[7; 32]; L],
                previous: &previous,
                current: &mut current,
            });
        }
    })
}

/// Nanoseconds of a node in one lane: layer 1, layer 2.
fn labelling<const L: usize>(rows: &dyn Rows) -> [f64; 2] {
    let nodes = usize::try_from(rows.nodes()).unwrap();
    let (mut current, mut previous) = (layer::<L>(nodes), layer::<L>(nodes));
    let mut times = [0.0; 2];
    for (number, time) in (1..).zip(&mut times) {
        let begin = cpu_seconds();
        one::<L>(number, rows, &mut current, &previous);
        *time = (cpu_seconds() - begin) * 1e9 / nodes as f64 / L as f64;
        std::mem::swap(&mut current, &mut previous);
    }
    eprintln!(
        "x{L}: layer 1 {:.0} ns, layer 2 {:.0} ns a node, pages of {}",
        times[0],
        times[1],
        current.pages().name()
    );
    times
}

fn layer<const L: usize>(nodes: usize) -> Buffer {
    let mut buffer = Buffer::new(nodes * 32 * L, Pages::Gigantic).unwrap();
    buffer.grow(nodes * 32 * L).unwrap();
    // First touches are not what is timed.
    buffer.bytes_mut().fill(0);
    buffer
}

fn one<const L: usize>(layer: u32, rows: &dyn Rows, current: &mut Buffer, previous: &Buffer) {
    let nodes = usize::try_from(rows.nodes()).unwrap();
    let mut block = vec![[[0; 4]; DEGREE]; BLOCK + AHEAD];
    for at in (0..nodes).step_by(BLOCK) {
        let count = BLOCK.min(nodes - at);
        let block = &mut block[..(count + AHEAD).min(nodes - at)];
        rows.read(at as u64, block).unwrap();
        let current: &mut [Labels<L>] = current.bytes_mut().as_chunks_mut().0.as_chunks_mut().0;
        Kernel::best().label(&mut Span {
            layer,
            first: u32::try_from(at).unwrap(),
            count,
            rows: block,
            replica_ids: &std::array::from_fn(|l| [u8::try_from(l).unwrap(); 32]),
            previous: previous.bytes().as_chunks().0.as_chunks().0,
            current,
        });
    }
}

/// Rows that were computed before.
struct Computed(Vec<Row>);

impl Rows for Computed {
    fn nodes(&self) -> u64 {
        self.0.len() as u64
    }

    fn read(&self, first: u64, rows: &mut [Row]) -> filstar_kernels::Result<()> {
        let first = usize::try_from(first).unwrap();
        rows.copy_from_slice(&self.0[first..first + rows.len()]);
        Ok(())
    }
}

fn say(name: &str, value: f64, unit: &str) {
    println!(r#"{{"name":"{name}","ours":{value:.4},"unit":"{unit}"}}"#);
}

fn main() {
    if process::child() {
        return;
    }
    if Kernel::sha().is_none() {
        eprintln!("this processor has no SHA instructions: nothing to measure");
        return;
    }
    let arguments: Vec<String> = std::env::args().filter(|a| a != "--bench").collect();
    match arguments.as_slice() {
        [_, only, name] if only == "only" && name == "pc1_chain" => against_chain(),
        [_, only, name] if only == "only" && name == "pc1_memory" => memory(),
        [_, only, name] if only == "only" => eprintln!("{name} is measured with others alone"),
        [_, file, log2] => {
            let nodes = 1 << log2.parse::<u32>().unwrap();
            all(&ParentsFile::open(Path::new(file), nodes).unwrap());
        }
        _ => {
            let graph = Graph::new(1 << 18, &porep_id(6)).unwrap();
            all(&Computed((0..1 << 18).map(|n| graph.row(n)).collect()));
        }
    }
}

fn all(rows: &dyn Rows) {
    against_chain();
    let lanes = [
        ("pc1_x1", labelling::<1>(rows)),
        ("pc1_x2", labelling::<2>(rows)),
        ("pc1_x4", labelling::<4>(rows)),
    ];
    for (name, [first, second]) in lanes {
        say(name, 2e3 / (first + second), "million nodes/s per core");
    }
    say("pc1_resume", process::lost_by_kill(10), "s lost by a kill");
    memory();
}

/// Hashing alone against the bare chain.
fn against_chain() {
    #[cfg(target_arch = "x86_64")]
    {
        let (chain, one) = (chain(), hashing::<1>());
        let (two, four) = (hashing::<2>(), hashing::<4>());
        eprintln!("chain {chain:.0} ns, hashing alone {one:.0}, {two:.0}, {four:.0} ns");
        say("pc1_chain", one / chain, "times the bare chain");
    }
}

/// Memory of three sectors of 512 MiB that share a pool.
fn memory() {
    let (most, bytes) = process::memory_of(3, 24);
    say("pc1_memory", most / bytes, "times S(3n+1)/2, 3 sectors");
}
