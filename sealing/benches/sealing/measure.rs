//! One measurement in a process of its own: what is asked for, and what came out.

use std::{
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use filecoin_proofs_api::{PieceInfo, RegisteredSealProof, UnpaddedBytesAmount, seal};
use filstar_kernels::{parents::ParentsFile, poseidon::Kernel, sdr, trees};
use filstar_sealing::{
    Hash32, Place, SealProof, SectorId, Stock,
    hash::zero_commitment,
    params, partitions,
    post::{commitment, window_vanilla},
    task::VanillaProof,
};
use rustix::thread::{CpuSet, sched_setaffinity};
use serde::{Deserialize, Serialize};

/// The variable that holds the task of a measuring process, JSON.
pub(crate) const TASK: &str = "FILSTAR_BENCH_TASK";

/// Output of [`Measure::NonInteractive`] in its folder.
pub(crate) const NI_C1: &str = "c1.json";

/// Who computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Who {
    Ours,
    Stock,
}

/// What to measure.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Measure {
    /// Vanilla proofs of window `PoSt`, of as many sectors as it says, from one replica.
    Vanilla {
        who: Who,
        files: PathBuf,
        sectors: u64,
    },
    /// All layers, in this many sectors at once (the library: one), each in its folder.
    Pc1 {
        who: Who,
        proof: SealProof,
        folders: Vec<PathBuf>,
        parents: PathBuf,
    },
    /// Everything that PC2 needs of committed capacity, made by the library.
    BeforePc2 { proof: SealProof, dir: PathBuf },
    /// Trees and replica of what is in the folder.
    Pc2 {
        who: Who,
        proof: SealProof,
        dir: PathBuf,
    },
    /// The vanilla proofs of a non-interactive seal of 2 KiB.
    NonInteractive { dir: PathBuf },
    /// SNARKs of this many partitions of a non-interactive seal of 2 KiB, made of C1's output.
    C2 { c1: PathBuf, partitions: usize },
}

/// What came out.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// Processor time of all threads, seconds: other programs on the cores count little.
    pub(crate) seconds: f64,
    pub(crate) peak_bytes: f64,
}

/// What the library reads besides sectors.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) parameters: PathBuf,
    pub(crate) parents: PathBuf,
}

/// Starts a measurement on some cores.
pub(crate) fn start(task: &Measure, cpus: &[usize], files: &Files) -> Child {
    let threads = cpus.len().to_string();
    let mut parents = files.parents.clone().into_os_string();
    parents.push("/");
    let list: Vec<_> = cpus.iter().map(ToString::to_string).collect();
    Command::new(std::env::current_exe().unwrap())
        .env(TASK, serde_json::to_string(task).unwrap())
        .env("FILSTAR_BENCH_CPUS", list.join(","))
        .env("RAYON_NUM_THREADS", threads)
        .env("FIL_PROOFS_PARAMETER_CACHE", &files.parameters)
        .env("FIL_PROOFS_PARENT_CACHE", parents)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Measures.
pub(crate) fn measure(task: &Measure, cpus: &[usize], files: &Files) -> Result<Measured, String> {
    let mut child = start(task, cpus, files);
    let mut text = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    let status = child.wait().unwrap();
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).map_err(|e| format!("{task:?} ended with {status}: {e}"))
}

/// The measuring process.
pub(crate) fn child(task: &str) {
    let task: Measure = serde_json::from_str(task).unwrap();
    let cpus = std::env::var("FILSTAR_BENCH_CPUS").unwrap();
    let mut set = CpuSet::new();
    for cpu in cpus.split(',') {
        set.set(cpu.parse().unwrap());
    }
    sched_setaffinity(None, &set).unwrap();
    let seconds = execute(&task);
    let measured = Measured {
        seconds,
        peak_bytes: peak_bytes(),
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(&measured).unwrap()).unwrap();
}

fn execute(task: &Measure) -> f64 {
    match task {
        Measure::Vanilla {
            who,
            files,
            sectors,
        } => vanilla(*who, files, *sectors),
        Measure::Pc1 {
            who,
            proof,
            folders,
            parents,
        } => time(|| match who {
            Who::Ours => label(*proof, folders, parents),
            Who::Stock => label_stock(*proof, &folders[0]),
        }),
        Measure::BeforePc2 { proof, dir } => time(|| before_pc2(*proof, dir)),
        Measure::Pc2 { who, proof, dir } => time(|| match who {
            Who::Ours => trees(*proof, dir),
            Who::Stock => trees_stock(dir),
        }),
        Measure::NonInteractive { dir } => time(|| make_ni_c1(dir)),
        Measure::C2 { c1, partitions } => c2(c1, *partitions),
    }
}

fn time(f: impl FnOnce()) -> f64 {
    let begin = cpu_seconds(std::process::id());
    f();
    cpu_seconds(std::process::id()) - begin
}

/// Processor time of all threads of a process, seconds.
pub(crate) fn cpu_seconds(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name in brackets may hold spaces; behind it the 12th and 13th are user and system time.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = fields.split_whitespace().skip(11).take(2);
    ticks.filter_map(|t| t.parse::<f64>().ok()).sum::<f64>() / 100.0
}

const REPLICA_ID: [u8; 32] = [7; 32];

fn label(proof: SealProof, folders: &[PathBuf], parents: &Path) {
    let path = parents.join(params::parents_name(proof).unwrap());
    let rows = ParentsFile::open(&path, proof.nodes()).unwrap();
    let lane = |folder: &PathBuf| sdr::Lane {
        replica_id: REPLICA_ID,
        folder: folder.clone(),
    };
    let lanes: Vec<_> = folders.iter().map(lane).collect();
    let job = sdr::Job {
        layers: proof.layers(),
        lanes: &lanes,
        rows: &rows,
        options: sdr::Options::default(),
    };
    sdr::label(&job).unwrap();
}

fn label_stock(proof: SealProof, folder: &Path) {
    let replica_id = filecoin_proofs::as_safe_commitment(&REPLICA_ID, "replica id").unwrap();
    seal::sdr(registered(proof), folder, replica_id).unwrap();
}

fn registered(proof: SealProof) -> RegisteredSealProof {
    match proof {
        SealProof::StackedDrg2KiBV1P1 => RegisteredSealProof::StackedDrg2KiBV1_1,
        SealProof::StackedDrg8MiBV1P1 => RegisteredSealProof::StackedDrg8MiBV1_1,
        SealProof::StackedDrg512MiBV1P1 => RegisteredSealProof::StackedDrg512MiBV1_1,
        SealProof::StackedDrg32GiBV1P1 => RegisteredSealProof::StackedDrg32GiBV1_1,
        SealProof::StackedDrg64GiBV1P1 => RegisteredSealProof::StackedDrg64GiBV1_1,
    }
}

const PHASE1: &str = "phase1.json";

fn before_pc2(proof: SealProof, dir: &Path) {
    let (cache, sealed) = (dir.join("cache"), dir.join("sealed"));
    fs::create_dir_all(&cache).unwrap();
    fs::File::create(&sealed).unwrap();
    let bytes = UnpaddedBytesAmount(proof.sector_bytes() / 128 * 127);
    let piece = PieceInfo::new(zero_commitment(proof).0, bytes).unwrap();
    let prover = SectorId {
        actor: 1000,
        number: 7,
    }
    .prover_id();
    let out = seal::seal_pre_commit_phase1(
        registered(proof),
        &cache,
        "/dev/zero",
        &sealed,
        prover,
        7.into(),
        [9; 32],
        &[piece],
    );
    fs::write(dir.join(PHASE1), serde_json::to_vec(&out.unwrap()).unwrap()).unwrap();
}

fn trees_stock(dir: &Path) {
    let phase1 = serde_json::from_slice(&fs::read(dir.join(PHASE1)).unwrap()).unwrap();
    let out = seal::seal_pre_commit_phase2(phase1, dir.join("cache"), dir.join("sealed")).unwrap();
    fs::write(dir.join("comm-r-stock"), out.comm_r).unwrap();
}

/// Writes where the library does not look: its own trees are not in the way.
fn trees(proof: SealProof, dir: &Path) {
    let cache = dir.join("ours");
    fs::create_dir_all(&cache).unwrap();
    for layer in 1..=proof.layers() {
        let name = trees::layer_name(layer);
        fs::hard_link(dir.join("cache").join(&name), cache.join(&name)).unwrap();
    }
    let job = trees::Job {
        shape: trees::Shape::of_sector(proof.sector_bytes()).unwrap(),
        cache: &cache,
        layers: proof.layers(),
        sums: &[],
        kernel: Kernel::best(),
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        progress: &|_, _| {},
    };
    let out = trees::build(&job, trees::Data::Zeros, &dir.join("sealed-ours")).unwrap();
    fs::write(dir.join("comm-r-ours"), out.comm_r).unwrap();
}

/// The same replica under many numbers: each has challenges of its own.
fn vanilla(who: Who, root: &Path, sectors: u64) -> f64 {
    let comm_r: Hash32 = fs::read_to_string(root.join("comm-r"))
        .unwrap()
        .parse()
        .unwrap();
    let inputs: Vec<_> = (0..sectors)
        .map(|number| VanillaProof {
            place: Place {
                sector: SectorId {
                    actor: 1000,
                    number,
                },
                proof: SealProof::StackedDrg8MiBV1P1,
                root: root.join(number.to_string()),
            },
            comm_r,
            randomness: Hash32([3; 32]),
        })
        .collect();
    let one = |input: &VanillaProof| match who {
        Who::Ours => window_vanilla(input).unwrap(),
        Who::Stock => Stock.vanilla_proof(input).unwrap(),
    };
    // Warm: the files in memory, the constants of the hash computed.
    one(&inputs[0]);
    time(|| inputs.iter().for_each(|i| drop(one(i))))
}

/// A replica of any content with its tree, under all numbers.
pub(crate) fn make_replica(root: &Path, sectors: u64) {
    use filecoin_proofs::{constants::SectorShape8MiB, generate_tree_r_last};
    let proof = SealProof::StackedDrg8MiBV1P1;
    let place = |number| Place {
        sector: SectorId {
            actor: 1000,
            number,
        },
        proof,
        root: root.join(number.to_string()),
    };
    let first = place(0);
    fs::create_dir_all(first.cache()).unwrap();
    fs::create_dir_all(first.sealed().parent().unwrap()).unwrap();
    let node = |i: u64| {
        let mut node = [0; 32];
        node[..8].copy_from_slice(&i.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        node
    };
    let bytes: Vec<u8> = (0..proof.nodes()).flat_map(node).collect();
    fs::write(first.sealed(), bytes).unwrap();
    let size = proof.sector_bytes();
    let tree = generate_tree_r_last::<_, _, SectorShape8MiB>(size, first.sealed(), first.cache());
    let top = tree.unwrap();
    let comm_r_last: [u8; 32] = AsRef::<[u8]>::as_ref(&top).try_into().unwrap();
    fs::write(first.cache().join("p_aux"), [[5; 32], comm_r_last].concat()).unwrap();
    let comm_r = commitment([5; 32], comm_r_last).unwrap();
    fs::write(root.join("comm-r"), comm_r.to_string()).unwrap();
    for number in 1..sectors {
        let other = place(number);
        fs::create_dir_all(other.root.join("cache")).unwrap();
        fs::create_dir_all(other.root.join("sealed")).unwrap();
        std::os::unix::fs::symlink(first.cache(), other.cache()).unwrap();
        std::os::unix::fs::symlink(first.sealed(), other.sealed()).unwrap();
    }
}

fn c2(c1: &Path, partitions: usize) -> f64 {
    struct Nowhere;
    impl partitions::Kept for Nowhere {
        fn get(&self, _: usize) -> filstar_sealing::Result<Option<Vec<u8>>> {
            Ok(None)
        }
        fn put(&self, _: usize, _: &[u8]) -> filstar_sealing::Result<()> {
            Ok(())
        }
        fn begins(&self, _: usize, _: usize) {}
    }
    struct First(partitions::Groth16, usize);
    impl partitions::Prover for First {
        fn count(&self) -> usize {
            self.1
        }
        fn prove(&self, partition: usize) -> filstar_sealing::Result<Vec<u8>> {
            self.0.prove(partition)
        }
        fn holds(&self, partition: usize, proof: &[u8]) -> bool {
            self.0.holds(partition, proof)
        }
    }
    let sector = SectorId {
        actor: 1000,
        number: 7,
    };
    let groth = partitions::Groth16::new(sector, &fs::read(c1).unwrap()).unwrap();
    time(|| drop(partitions::prove(&First(groth, partitions), &Nowhere).unwrap()))
}

/// The vanilla proofs of a non-interactive seal of 2 KiB: 13 partitions with the parameters of one.
fn make_ni_c1(dir: &Path) {
    let proof = RegisteredSealProof::StackedDrg2KiBV1_2_Feat_NonInteractivePoRep;
    let prover = SectorId {
        actor: 1000,
        number: 7,
    }
    .prover_id();
    let (cache, data, sealed) = (
        dir.join("ni-cache"),
        dir.join("ni-data"),
        dir.join("ni-sealed"),
    );
    fs::create_dir_all(&cache).unwrap();
    fs::File::create(&sealed).unwrap();
    let mut file = fs::File::create_new(&data).unwrap();
    let all = UnpaddedBytesAmount(2032);
    let zeros = std::io::repeat(0).take(2032);
    let (piece, _) = seal::add_piece(proof, zeros, &mut file, all, &[]).unwrap();
    let pieces = [piece];
    let (ticket, seed) = ([9; 32], [5; 32]);
    let pc1 = seal::seal_pre_commit_phase1(
        proof,
        &cache,
        &data,
        &sealed,
        prover,
        7.into(),
        ticket,
        &pieces,
    );
    let pc2 = seal::seal_pre_commit_phase2(pc1.unwrap(), &cache, &sealed).unwrap();
    let c1 = seal::seal_commit_phase1(
        &cache,
        &sealed,
        prover,
        7.into(),
        ticket,
        seed,
        pc2,
        &pieces,
    );
    fs::write(dir.join(NI_C1), serde_json::to_vec(&c1.unwrap()).unwrap()).unwrap();
}

fn peak_bytes() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
    let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1024.0
}
