//! The rows: what is compared with what.

use std::path::PathBuf;

use filstar_sealing::{
    SealProof,
    params::{self, Purpose, Wanted},
};

use crate::{
    Row,
    measure::{Files, Measure, Measured, NI_C1, Who, cpu_seconds, make_replica, measure, start},
    pages::SetAside,
};

/// A row, or why it is left out.
type Run = fn(&Bench) -> Result<Row, String>;

pub(crate) const ALL: [(&str, Run); 9] = [
    ("pc1_chain", pc1_chain),
    ("pc1_x1", |b| pc1(b, "pc1_x1", 1)),
    ("pc1_x2", |b| pc1(b, "pc1_x2", 2)),
    ("pc1_x4", |b| pc1(b, "pc1_x4", 4)),
    ("pc1_memory", pc1_memory),
    ("pc1_resume", pc1_resume),
    ("pc2", pc2),
    ("post_vanilla", post_vanilla),
    ("c2_memory", c2_memory),
];

/// Settings, and a folder that is removed at the end.
pub(crate) struct Bench {
    pub(crate) proof: SealProof,
    only: Option<Vec<String>>,
    dir: tempfile::TempDir,
    files: Files,
}

impl Bench {
    pub(crate) fn from_environment() -> Self {
        let text = |name| std::env::var(name).ok().filter(|v: &String| !v.is_empty());
        let proof = text("FILSTAR_BENCH_SIZE").unwrap_or_else(|| "StackedDrg512MiBV1P1".to_owned());
        let dir = text("FILSTAR_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        Self {
            proof: proof.parse().unwrap(),
            only: text("FILSTAR_BENCH_ONLY").map(|o| o.split(',').map(str::to_owned).collect()),
            dir: tempfile::tempdir_in(dir).unwrap(),
            files: Files {
                parameters: params::default_dir(),
                parents: params::parents_dir(&params::default_dir()),
            },
        }
    }

    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only
            .as_ref()
            .is_none_or(|o| o.iter().any(|n| n == name))
    }

    fn folder(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    /// The parents of this size, made when they are not there.
    fn parents(&self) -> Result<(), String> {
        let wanted = Wanted {
            purposes: vec![Purpose::Parents],
            ..Wanted::all(self.proof)
        };
        let made = params::ensure(&self.files.parameters, &wanted, &|_| {});
        made.map(drop).map_err(|e| e.to_string())
    }

    /// Reads them once, so that no row reads them from the disk.
    fn warm_parents(&self) -> Result<(), String> {
        let name = params::parents_name(self.proof).map_err(|e| e.to_string())?;
        let path = self.files.parents.join(name);
        let copied = std::fs::File::open(path)
            .and_then(|mut file| std::io::copy(&mut file, &mut std::io::sink()));
        copied.map(drop).map_err(|e| e.to_string())
    }

    fn run(&self, task: &Measure, cpus: &[usize]) -> Result<Measured, String> {
        measure(task, cpus, &self.files)
    }
}

/// The cores that this process may use.
fn cpus() -> Vec<usize> {
    let set = rustix::thread::sched_getaffinity(None).unwrap();
    (0..rustix::thread::CpuSet::MAX_CPU)
        .filter(|cpu| set.is_set(*cpu))
        .collect()
}

/// Time to hash a label with its parents in the first cache, against the bare chain of its rounds.
fn pc1_chain(_bench: &Bench) -> Result<Row, String> {
    let ours = kernels_say("pc1_chain")?;
    Ok(Row {
        name: "pc1_chain",
        ours,
        reference: 1.0,
        unit: "time of hashing alone over 608 dependent rounds",
        ratio: ours,
        machine: String::new(),
    })
}

/// A figure of the kernels' own benchmark.
fn kernels_say(name: &str) -> Result<f64, String> {
    let program = std::env::var("FILSTAR_BENCH_PC1");
    let program = program.map_err(|_e| "FILSTAR_BENCH_PC1 names no program".to_owned())?;
    let mut command = std::process::Command::new(&program);
    let out = command.args(["only", name]).output();
    let out = out.map_err(|e| format!("{program}: {e}"))?;
    let text = String::from_utf8_lossy(&out.stdout);
    let of_row = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).ok()?;
        (value["name"] == name).then(|| value["ours"].as_f64())?
    };
    let ours = text.lines().find_map(of_row);
    ours.ok_or_else(|| format!("{program} said nothing of it"))
}

/// Labels per second of processor time, of this many sectors on one core.
fn pc1(bench: &Bench, name: &'static str, lanes: usize) -> Result<Row, String> {
    let core = &cpus()[..1];
    let folder = |i: usize| bench.folder(&format!("{name}-{i}"));
    let task = |who, folders: Vec<PathBuf>| Measure::Pc1 {
        who,
        proof: bench.proof,
        folders,
        parents: bench.files.parents.clone(),
    };
    let ours: Vec<_> = (0..lanes).map(folder).collect();
    let stock = vec![folder(lanes)];
    bench.parents()?;
    bench.warm_parents()?;
    let labels = bench.proof.nodes() * u64::from(bench.proof.layers());
    let rate = |sectors: usize, m: Measured| (labels * sectors as u64) as f64 / m.seconds / 1e6;
    let set_aside = SetAside::new(2 * lanes as u64 * bench.proof.sector_bytes());
    let unit = if set_aside.is_some() {
        "million labels per second of one core, ours on 2 MiB pages set aside; the library on one core"
    } else {
        "million labels per second of one core, ours on what pages there are; the library on one core"
    };
    let ours_rate = rate(lanes, bench.run(&task(Who::Ours, ours.clone()), core)?);
    drop(set_aside);
    let reference = rate(1, bench.run(&task(Who::Stock, stock.clone()), core)?);
    let last = filstar_kernels::trees::layer_name(bench.proof.layers());
    let theirs = std::fs::read(stock[0].join(&last)).map_err(|e| e.to_string())?;
    for folder in &ours {
        if std::fs::read(folder.join(&last)).map_err(|e| e.to_string())? != theirs {
            return Err(format!("{last} in {} is another", folder.display()));
        }
    }
    for folder in ours.iter().chain(&stock) {
        std::fs::remove_dir_all(folder).map_err(|e| e.to_string())?;
    }
    Ok(Row {
        name,
        ours: ours_rate,
        reference,
        unit,
        ratio: ours_rate / reference,
        machine: String::new(),
    })
}

/// Peak memory of one PC1 against S(3n+1)/2 for n = 1.
fn pc1_memory(_bench: &Bench) -> Result<Row, String> {
    let ours = kernels_say("pc1_memory")?;
    Ok(Row {
        name: "pc1_memory",
        ours,
        reference: 1.0,
        unit: "memory of 3 sectors of 512 MiB that share a pool, over S(3n+1)/2",
        ratio: ours,
        machine: String::new(),
    })
}

/// Processor time lost by a kill in the middle, against 2 s.
fn pc1_resume(bench: &Bench) -> Result<Row, String> {
    bench.parents()?;
    let core = &cpus()[..1];
    let task = |name| Measure::Pc1 {
        who: Who::Ours,
        proof: bench.proof,
        folders: vec![bench.folder(name)],
        parents: bench.files.parents.clone(),
    };
    let whole = bench.run(&task("whole"), core)?.seconds;
    let interrupted = task("interrupted");
    let mut child = start(&interrupted, core, &bench.files);
    let mut first = 0.0;
    while first < 0.6 * whole {
        std::thread::sleep(std::time::Duration::from_millis(5));
        first = cpu_seconds(child.id());
        if child.try_wait().map_err(|e| e.to_string())?.is_some() {
            return Err("it was over before it could be killed".to_owned());
        }
    }
    child
        .kill()
        .and_then(|()| child.wait())
        .map_err(|e| e.to_string())?;
    let second = bench.run(&interrupted, core)?.seconds;
    let ours = (first + second - whole).max(0.0);
    Ok(Row {
        name: "pc1_resume",
        ours,
        reference: 2.0,
        unit: "s lost by kill -9 at 60 %, reading back included",
        ratio: ours / 2.0,
        machine: String::new(),
    })
}

/// Trees and replica, on all cores.
fn pc2(bench: &Bench) -> Result<Row, String> {
    bench.parents()?;
    let (proof, dir) = (bench.proof, bench.folder("pc2"));
    let before = Measure::BeforePc2 {
        proof,
        dir: dir.clone(),
    };
    bench.run(&before, &cpus())?;
    let task = |who| Measure::Pc2 {
        who,
        proof,
        dir: dir.clone(),
    };
    let ours = bench.run(&task(Who::Ours), &cpus())?.seconds;
    let reference = bench.run(&task(Who::Stock), &cpus())?.seconds;
    let comm_r = |who: &str| std::fs::read(dir.join(who)).map_err(|e| e.to_string());
    if comm_r("comm-r-ours")? != comm_r("comm-r-stock")? {
        return Err("the commitments of the replica differ".to_owned());
    }
    Ok(Row {
        name: "pc2",
        ours,
        reference,
        unit: "s of processor time",
        ratio: reference / ours,
        machine: String::new(),
    })
}

/// Vanilla proofs per second from warm files, on one core.
fn post_vanilla(bench: &Bench) -> Result<Row, String> {
    const SECTORS: u64 = 40;
    let files = bench.folder("post");
    make_replica(&files, SECTORS);
    let core = [cpus()[0]];
    let per_second = |who| {
        let task = Measure::Vanilla {
            who,
            files: files.clone(),
            sectors: SECTORS,
        };
        Ok::<_, String>(SECTORS as f64 / bench.run(&task, &core)?.seconds)
    };
    let (ours, reference) = (per_second(Who::Ours)?, per_second(Who::Stock)?);
    Ok(Row {
        name: "post_vanilla",
        ours,
        reference,
        unit: "sectors of 8 MiB per second and core",
        ratio: ours / reference,
        machine: String::new(),
    })
}

/// Peak memory of three partitions, one after the other, and of one alone.
fn c2_memory(bench: &Bench) -> Result<Row, String> {
    let wanted = Wanted {
        purposes: vec![Purpose::PoRep],
        ..Wanted::all(SealProof::StackedDrg2KiBV1P1)
    };
    let report = params::check(&bench.files.parameters, &wanted).map_err(|e| e.to_string())?;
    if !report.is_good() {
        return Err(format!(
            "no parameters of 2 KiB: {}",
            report.complaints().join("; ")
        ));
    }
    let dir = bench.folder("c2");
    // Its parents are not those of interactive seals; the library makes them.
    let files = Files {
        parents: dir.clone(),
        ..bench.files.clone()
    };
    measure(
        &Measure::NonInteractive { dir: dir.clone() },
        &cpus(),
        &files,
    )?;
    let c1 = dir.join(NI_C1);
    let peak = |partitions| {
        let task = Measure::C2 {
            c1: c1.clone(),
            partitions,
        };
        Ok::<_, String>(bench.run(&task, &cpus())?.peak_bytes / f64::from(1 << 30))
    };
    let (reference, ours) = (peak(1)?, peak(3)?);
    Ok(Row {
        name: "c2_memory",
        ours,
        reference,
        unit: "GiB at most, three partitions of a seal of 2 KiB one after the other, against one alone",
        ratio: ours / reference,
        machine: String::new(),
    })
}
