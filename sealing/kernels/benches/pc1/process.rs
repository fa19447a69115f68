//! Whole runs in processes of their own: what a kill costs, and what two sectors need of memory.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use filstar_kernels::{
    Result,
    graph::{BASE, Row},
    memory::Pages,
    parents::Rows,
    pool::Pool,
    sdr::{Job, Lane, Options, label, layer_name},
};

const TASK: &str = "FILSTAR_BENCH_PC1_TASK";
const LAYERS: u32 = 2;

/// A graph as good as any for this: parents drawn from all nodes.
struct Drawn(u64);

impl Rows for Drawn {
    fn nodes(&self) -> u64 {
        self.0
    }

    fn read(&self, first: u64, rows: &mut [Row]) -> Result<()> {
        for (node, row) in (first..).zip(rows) {
            let mut x = (node + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            *row = std::array::from_fn(|k| {
                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
                // Those of a node's own layer come before it.
                let parent = match k {
                    0 => node.saturating_sub(1),
                    1..BASE => x % node.max(1),
                    _ => x % self.0,
                };
                (parent as u32).to_le_bytes()
            });
        }
        Ok(())
    }
}

/// Does what a parent process asks for; whether one did.
pub(crate) fn child() -> bool {
    let Ok(task) = std::env::var(TASK) else {
        return false;
    };
    let [folder, lanes, log2, pool] = task.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{task}")
    };
    let lanes: u8 = lanes.parse().unwrap();
    let lanes: Vec<_> = (0..lanes)
        .map(|n| Lane {
            replica_id: [n; 32],
            folder: Path::new(folder).join(n.to_string()),
        })
        .collect();
    for lane in &lanes {
        fs::create_dir_all(&lane.folder).unwrap();
    }
    let bytes: u64 = pool.parse().unwrap();
    let pool = Pool::open(&Path::new(folder).with_file_name("pool"), bytes).unwrap();
    let rows = Drawn(1 << log2.parse::<u32>().unwrap());
    let tell = |p: filstar_kernels::sdr::Progress| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{} {} {}", p.layer, p.node, p.rate).unwrap();
    };
    label(&Job {
        layers: LAYERS,
        lanes: &lanes,
        rows: &rows,
        options: Options {
            pages: Pages::Transparent,
            pool: (bytes > 0).then_some(&pool),
            progress: &tell,
            ..Options::default()
        },
    })
    .unwrap();
    true
}

/// Without a pool when it has no bytes.
fn start(folder: &Path, lanes: u8, log2: u32, pool: u64) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .env(TASK, format!("{} {lanes} {log2} {pool}", folder.display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    (child, out)
}

/// Seconds of labelling that a kill costs, the most of some; four lanes on one core.
pub(crate) fn lost_by_kill(kills: u32) -> f64 {
    let mut most = 0f64;
    for kill in 0..kills {
        let folder = tempfile::tempdir().unwrap();
        let (mut child, mut out) = start(&folder.path().join("a"), 4, 22, 0);
        let (mut line, mut told) = (String::new(), Instant::now());
        for _ in 0..3 {
            line.clear();
            out.read_line(&mut line).unwrap();
            told = Instant::now();
        }
        thread::sleep(Duration::from_millis(u64::from(kill) * 97 % 700));
        let after = told.elapsed().as_secs_f64();
        child.kill().unwrap();
        child.wait().unwrap();
        // What it told since then, before it died.
        let said: Vec<f64> = line
            .split_whitespace()
            .map(|w| w.parse().unwrap())
            .collect();
        let [_, node, rate] = said[..] else {
            panic!("{line}")
        };
        let each = rate / 4.0;
        let labelled = node + after * each;
        let journal = format!("{}.journal", layer_name(1));
        let kept = (0..4).map(|n| {
            let text = fs::read_to_string(folder.path().join(format!("a/{n}/{journal}")));
            let text = text.unwrap_or_default();
            let last = text.lines().last().and_then(|l| l.split(' ').next());
            last.and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0)
        });
        let kept = kept.fold(f64::MAX, f64::min);
        most = most.max((labelled - kept) / each);
    }
    most
}

/// Most memory of some processes with a sector each, begun at once with one pool, and the bytes of
/// the pool.
pub(crate) fn memory_of(sectors: u8, log2: u32) -> (f64, f64) {
    let folder = tempfile::tempdir().unwrap();
    let bytes = Pool::bytes_for(sectors.into(), 32 << log2);
    let mut children: Vec<_> = (0..sectors)
        .map(|n| start(&folder.path().join(n.to_string()), 1, log2, bytes))
        .map(|(child, out)| (child, thread::spawn(move || out.lines().count())))
        .collect();
    let mut most = 0;
    loop {
        most = most.max(children.iter().map(|(c, _)| resident(c.id())).sum());
        let ended = |(child, _): &mut (Child, _)| child.try_wait().unwrap().is_some();
        if children.iter_mut().all(ended) {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    for (mut child, drain) in children {
        assert!(child.wait().unwrap().success());
        drain.join().unwrap();
    }
    (most as f64, bytes as f64)
}

fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmRSS:"));
    let kib = line.and_then(|l| l.split_whitespace().nth(1));
    kib.and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 1024
}
