//! Our kernels and the stock library's, in one run on the same cores: a table, and
//! `target/bench/sealing.json`.
//!
//! Each measurement is a process of its own, bound to the cores that it may use, since the library
//! takes its settings from its process and since peak memory is a process's. Settings:
//!
//! | variable | |
//! |---|---|
//! | `FILSTAR_BENCH_SIZE` | seal proof of PC1 and PC2; `StackedDrg512MiBV1P1` when left out |
//! | `FILSTAR_BENCH_ONLY` | names of rows, separated by commas; all when left out |
//! | `FILSTAR_BENCH_DIR` | folder for sectors, removed afterwards; the system's when left out |
//! | `FILSTAR_BENCH_PC1` | the program of `kernels/benches/pc1.rs`, for `pc1_chain` |
//! | `FILSTAR_CACHE` | where parents caches are kept between runs |

#![expect(clippy::cast_precision_loss, reason = "rates")]
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot run has nothing to say"
)]

mod measure;
mod pages;
mod rows;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde::Serialize;

use crate::rows::Bench;

/// One line of the result.
#[derive(Clone, Debug, Serialize)]
struct Row {
    name: &'static str,
    /// Larger is better for rates, smaller for times and memory: see `unit`.
    ours: f64,
    reference: f64,
    unit: &'static str,
    /// How many times better ours is; for memory and lost time, ours over its bound.
    ratio: f64,
    machine: String,
}

fn main() -> ExitCode {
    if let Some(sentence) = filstar_sealing::cpu::missing() {
        eprintln!("{sentence}");
        return ExitCode::FAILURE;
    }
    if let Some(task) = std::env::var_os(measure::TASK) {
        measure::child(&task.to_string_lossy());
        return ExitCode::SUCCESS;
    }
    let bench = Bench::from_environment();
    let machine = machine();
    println!("{machine}; PC1 and PC2 of {}", bench.proof);
    let mut rows = Vec::new();
    for (name, run) in rows::ALL {
        if !bench.wants(name) {
            continue;
        }
        match run(&bench) {
            Ok(mut row) => {
                row.machine.clone_from(&machine);
                println!("{}", line(&row));
                rows.push(row);
            }
            Err(why) => println!("{name:<14} left out: {why}"),
        }
    }
    let path = write(&rows);
    println!("written to {}", path.display());
    ExitCode::SUCCESS
}

fn line(row: &Row) -> String {
    let Row {
        name,
        ours,
        reference,
        unit,
        ratio,
        ..
    } = row;
    format!("{name:<14} ours {ours:>10.3}  reference {reference:>10.3}  {unit}  ratio {ratio:.2}")
}

fn write(rows: &[Row]) -> PathBuf {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench");
    fs::create_dir_all(&dir).unwrap();
    let path = dir.canonicalize().unwrap().join("sealing.json");
    fs::write(&path, serde_json::to_vec_pretty(rows).unwrap()).unwrap();
    path
}

/// The processor, its number of cores and the memory.
fn machine() -> String {
    let field = |file: &str, key: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|l| l.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let model = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "a processor".to_owned());
    let memory = field("/proc/meminfo", "MemTotal").unwrap_or_default();
    let kib: u64 = memory
        .split(' ')
        .next()
        .and_then(|n| n.parse().ok())
        .unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{model}, {cpus} CPUs, {} GiB", (kib + (1 << 19)) >> 20)
}
