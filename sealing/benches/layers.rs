//! PC1 of whole sectors on one core, ours in lanes against the reference library.
//!
//! Prints one JSON object a line: million nodes a second of CPU time, labelling and writing and all
//! else that PC1 does included; tree-d is there before. Each run is a process of its own.
//!
//! ```text
//! cargo bench --bench layers [-- 512MiB [FOLDER_OF_PARAMETERS]]
//! ```
#![expect(clippy::unwrap_used, reason = "a bench that cannot measure fails")]
#![expect(clippy::cast_precision_loss, reason = "figures to look at")]

use std::{fs, path::Path, process::Command};

use filstar_sealing::{
    Context, Hash32, Output, Own, Place, SealProof, SectorId, Stock, Task,
    engine::{Data, Engine, SealJob},
    params::{self, Purpose, Wanted},
    run,
    task::{AddPiece, Piece},
};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

const TASK: &str = "FILSTAR_BENCH_LAYERS";

fn main() {
    if let Ok(task) = std::env::var(TASK) {
        return child(&task);
    }
    let arguments: Vec<_> = std::env::args().filter(|a| a != "--bench").collect();
    let proof = match arguments.get(1).map(String::as_str) {
        Some("512MiB") => SealProof::StackedDrg512MiBV1P1,
        Some(_) | None => SealProof::StackedDrg8MiBV1P1,
    };
    let work = tempfile::tempdir().unwrap();
    let own = work.path().join("params");
    let params = arguments.get(2).map_or(own.as_path(), Path::new);
    let wanted = Wanted {
        purposes: vec![Purpose::Parents],
        ..Wanted::all(proof)
    };
    params::ensure(params, &wanted, &|_| {}).unwrap();
    let machine = machine();
    let rate = |who: &str, lanes: u32| {
        let seconds = measure(who, lanes, proof, work.path(), params);
        let nodes = proof.nodes() * u64::from(proof.layers()) * u64::from(lanes);
        nodes as f64 / seconds / 1e6
    };
    // Stock before and after: what else the machine does shows.
    let before = rate("stock", 1);
    let ours = [1, 2, 4].map(|lanes| (lanes, rate("filstar", lanes)));
    let after = rate("stock", 1);
    eprintln!("stock {before:.3} and {after:.3} million nodes/s");
    let reference = f64::midpoint(before, after);
    for (lanes, ours) in ours {
        println!(
            r#"{{"name":"pc1_x{lanes}","ours":{ours:.4},"reference":{reference:.4},"unit":"million nodes/s per core, {proof}","ratio":{:.3},"machine":"{machine}"}}"#,
            ours / reference
        );
    }
}

/// CPU seconds of one run on the last of the CPUs that this process may use.
fn measure(who: &str, lanes: u32, proof: SealProof, work: &Path, params: &Path) -> f64 {
    let folder = work.join("run");
    fs::create_dir_all(&folder).unwrap();
    let mut parents = params::parents_dir(params).into_os_string();
    parents.push("/");
    let out = Command::new(std::env::current_exe().unwrap())
        .env(TASK, format!("{who} {lanes} {proof} {}", folder.display()))
        .env("FIL_PROOFS_PARENT_CACHE", parents)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{who}: {said}");
    fs::remove_dir_all(&folder).unwrap();
    said.lines().last().unwrap().parse().unwrap()
}

fn child(task: &str) {
    let [who, lanes, proof, folder] = task.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{task}")
    };
    let all = sched_getaffinity(None).unwrap();
    let last = (0..CpuSet::MAX_CPU).rev().find(|c| all.is_set(*c)).unwrap();
    let mut one = CpuSet::new();
    one.set(last);
    sched_setaffinity(None, &one).unwrap();
    let proof: SealProof = proof.parse().unwrap();
    let places: Vec<_> = (0..lanes.parse().unwrap())
        .map(|number| Place {
            sector: SectorId {
                actor: 1000,
                number,
            },
            proof,
            root: folder.into(),
        })
        .collect();
    let pieces: Vec<_> = places.iter().map(prepare).collect();
    let jobs: Vec<_> = places
        .iter()
        .zip(&pieces)
        .map(|(place, pieces)| SealJob {
            place,
            ticket: Hash32([3; 32]),
            pieces,
            sums: &[],
            progress: &|_| {},
        })
        .collect();
    let begin = cpu_seconds();
    if who == "stock" {
        Stock.pc1(&jobs[0], Data::Zeros).unwrap();
    } else {
        Own::default().pc1_together(&jobs, Data::Zeros).unwrap();
    }
    println!("\n{}", cpu_seconds() - begin);
}

/// Data and tree-d.
fn prepare(place: &Place) -> Vec<Piece> {
    let task = Task::AddPiece(AddPiece {
        place: place.clone(),
    });
    let Output::AddPiece(data) = run(&task, &Context::quiet(&Stock)).unwrap() else {
        panic!("AddPiece gave something else")
    };
    fs::create_dir_all(place.cache()).unwrap();
    fs::create_dir_all(place.sealed().parent().unwrap()).unwrap();
    let path = place.cache().join("sc-02-data-tree-d.dat");
    filstar_sealing::own::tree_d(&path, None, place.proof.nodes()).unwrap();
    data.pieces
}

/// Of all threads of this process, user and system; Linux counts hundredths.
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit(')').next().unwrap();
    let fields: Vec<_> = after_name.split_whitespace().collect();
    let ticks = |i: usize| fields[i].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}

fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find(|l| l.starts_with("model name"));
    let name = name.and_then(|l| l.split(": ").nth(1));
    format!("{}, one core", name.unwrap_or("unknown"))
}
