//! Groth16 parameters and parents caches: which files a proof type needs, whether they are the right
//! ones, and making them (parameters for test sizes only).
//!
//! A folder of parameters carries a manifest, `filstar-params.json`, with the size, modification
//! time and SHA-256 of every file. A file is trusted when its size and time are the recorded ones,
//! or, when they are not, its digest is. A file that no manifest knows is trusted only when its
//! digest is the one that the network published.
//!
//! Effects: the file system. Never: a file under its final name that is not whole; two processes
//! that make the same files.

mod make;
mod manifest;
mod parents;

use std::{
    collections::BTreeMap,
    fmt,
    fs::{self, File},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use filstar_kernels::graph::Graph;
use rustix::fs::{FlockOperation, flock};
use serde::Serialize;
use storage_proofs_core::parameter_cache::{
    get_parameter_data_from_id, parameter_id, verifying_key_id,
};

use self::manifest::{Entry, Learned, MANIFEST, Manifest, Origin};
use crate::{
    durable,
    error::{Error, Result},
    proof::SealProof,
};

const LOCK: &str = "filstar-params.lock";

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum Purpose {
    /// PC1: the graph's parents, a row for each node.
    Parents,
    /// Window `PoSt` and its verification.
    WindowPoSt,
    /// C2 and its verification.
    PoRep,
}

impl Purpose {
    /// All of them, those whose files are made quickest first.
    pub const ALL: [Self; 3] = [Self::Parents, Self::WindowPoSt, Self::PoRep];
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Parents => "parents cache",
            Self::WindowPoSt => "window PoSt parameters",
            Self::PoRep => "PoRep parameters",
        })
    }
}

/// Files that are made together: parameters and the verifying key inside them, or a parents cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needed {
    /// What they are for.
    pub purpose: Purpose,
    /// Names relative to the folder.
    pub files: Vec<String>,
}

/// How carefully files are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Size and modification time; the digest only where they changed.
    Quick,
    /// The digest of every file.
    Full,
}

/// Which files, and how carefully.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The proof type that they are for.
    pub proof: SealProof,
    /// What they are for; see [`Purpose::ALL`].
    pub purposes: Vec<Purpose>,
    /// How carefully files are checked.
    pub depth: Depth,
}

impl Wanted {
    /// All files of a proof type, checked quickly.
    pub fn all(proof: SealProof) -> Self {
        Self {
            proof,
            purposes: Purpose::ALL.to_vec(),
            depth: Depth::Quick,
        }
    }

    fn needed(&self) -> Result<Vec<Needed>> {
        let all = needed(self.proof)?;
        Ok(all
            .into_iter()
            .filter(|n| self.purposes.contains(&n.purpose))
            .collect())
    }
}

/// What was found out about one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Finding {
    /// It is what the manifest says.
    Good,
    /// It is not there.
    Missing,
    /// It has another size or content; the text says which.
    Wrong(String),
    /// No manifest knows it and it is not the published one.
    Unknown,
}

/// What was found in a folder.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Each needed file with its finding.
    pub files: Vec<(String, Finding)>,
}

impl Report {
    /// Whether every file is good.
    pub fn is_good(&self) -> bool {
        self.files.iter().all(|(_, f)| *f == Finding::Good)
    }

    /// What is not good, one sentence per file.
    pub fn complaints(&self) -> Vec<String> {
        self.files
            .iter()
            .filter_map(|(name, finding)| complaint(name, finding))
            .collect()
    }
}

fn complaint(name: &str, finding: &Finding) -> Option<String> {
    match finding {
        Finding::Good => None,
        Finding::Missing => Some(format!("{name} is not there")),
        Finding::Wrong(why) => Some(format!("{name} {why}")),
        Finding::Unknown => Some(format!(
            "{name} is not in {MANIFEST} and not the published file, so it is not trusted"
        )),
    }
}

/// What is going on while parameters are made or checked.
#[derive(Clone, Debug, Serialize)]
pub struct Progress {
    /// A sentence for people.
    pub text: String,
    /// Since this piece of work began.
    pub elapsed: Duration,
}

/// Where progress goes.
pub type OnProgress<'a> = &'a (dyn Fn(Progress) + Sync);

/// The files that sealing and proving sectors of this type need, those made quickest first.
///
/// # Errors
/// When the proof library cannot build its public parameters.
pub fn needed(proof: SealProof) -> Result<Vec<Needed>> {
    let failed = |e: String| Error::Prover {
        step: "parameter names",
        text: e,
    };
    let porep = proof
        .seal()
        .circuit_identifier()
        .map_err(|e| failed(format!("{e:#}")))?;
    let window = proof
        .window()
        .circuit_identifier()
        .map_err(|e| failed(format!("{e:#}")))?;
    let pair = |id: &str| vec![parameter_id(id), verifying_key_id(id)];
    Ok(vec![
        Needed {
            purpose: Purpose::Parents,
            files: vec![parents::file_name(proof)?],
        },
        Needed {
            purpose: Purpose::WindowPoSt,
            files: pair(&window),
        },
        Needed {
            purpose: Purpose::PoRep,
            files: pair(&porep),
        },
    ])
}

/// Looks at the files of a proof type; changes nothing but what the manifest remembers of them.
///
/// # Errors
/// When a file or the manifest cannot be read.
pub fn check(dir: &Path, wanted: &Wanted) -> Result<Report> {
    let (report, learned) = look(dir, wanted)?;
    // Who cannot write here, or not now, takes digests again next time.
    if !learned.is_nothing()
        && let Ok(Some(_lock)) = try_lock(dir)
    {
        remember(dir, learned);
    }
    Ok(report)
}

/// The same, by who holds the folder's lock.
fn check_locked(dir: &Path, wanted: &Wanted) -> Result<Report> {
    let (report, learned) = look(dir, wanted)?;
    if !learned.is_nothing() {
        remember(dir, learned);
    }
    Ok(report)
}

fn remember(dir: &Path, learned: Learned) {
    if let Err(error) = learned.tell(dir) {
        tracing::debug!(dir = %dir.display(), %error, "the manifest stays as it was");
    }
}

/// What the files of a proof type are, and what the manifest does not know of them yet.
fn look(dir: &Path, wanted: &Wanted) -> Result<(Report, Learned)> {
    let mut manifest = Manifest::read(dir)?;
    let before = manifest.clone();
    let mut files = Vec::new();
    for need in wanted.needed()? {
        for name in need.files {
            let finding = look_at(dir, &name, wanted.depth, &mut manifest)?;
            files.push((name, finding));
        }
    }
    Ok((Report { files }, Learned::of(&before, manifest)))
}

/// Makes sure that the files of a proof type are there and right.
///
/// Waits while another process makes them. Parents caches are the same everywhere and are made when
/// they are not there; so are parameters of test sizes. For real sizes that would be useless, since
/// the network accepts only the published ones.
///
/// # Errors
/// `Fatal` when parameters of a real size are missing or wrong; `Temporary` when the file system
/// fails.
pub fn ensure(dir: &Path, wanted: &Wanted, progress: OnProgress<'_>) -> Result<Report> {
    durable::create_dir(dir)?;
    let _lock = lock(dir, progress)?;
    let proof = wanted.proof;
    let report = check_locked(dir, wanted)?;
    let findings: BTreeMap<_, _> = report.files.into_iter().collect();
    for need in wanted.needed()? {
        let bad: Vec<_> = need
            .files
            .iter()
            .filter_map(|n| complaint(n, &findings[n]))
            .collect();
        if bad.is_empty() {
            continue;
        }
        if need.purpose != Purpose::Parents && !proof.is_test_size() {
            return Err(not_published(dir, proof, &bad));
        }
        let text = format!("{}; making the {} of {proof}", bad.join("; "), need.purpose);
        progress(Progress {
            text,
            elapsed: Duration::ZERO,
        });
        make_files(dir, proof, &need, progress)?;
    }
    let quickly = Wanted {
        depth: Depth::Quick,
        ..wanted.clone()
    };
    check_locked(dir, &quickly)
}

fn not_published(dir: &Path, proof: SealProof, bad: &[String]) -> Error {
    Error::Setup(format!(
        "parameters of {proof} in {} are not the published ones: {}. Put the published files there \
         (lotus fetch-params {}, or copy them from another machine)",
        dir.display(),
        bad.join("; "),
        proof.sector_bytes(),
    ))
}

/// Makes files in a folder of their own and moves them in when they are whole and recorded.
fn make_files(dir: &Path, proof: SealProof, need: &Needed, progress: OnProgress<'_>) -> Result<()> {
    let work = dir.join(format!("making-{proof}"));
    durable::remove_dir(&work)?;
    durable::create_dir(&work)?;
    let staged: Vec<_> = (0..need.files.len())
        .map(|i| work.join(i.to_string()))
        .collect();
    let text = format!("making the {} of {proof}", need.purpose);
    ticking(&text, progress, || {
        match (need.purpose, staged.as_slice()) {
            (Purpose::Parents, [file]) => parents::make(proof, file),
            (purpose, [params, key]) => make::pair(purpose, proof, params, key),
            (purpose, _) => Err(Error::Setup(format!("{purpose} has not these files"))),
        }
    })?;
    let mut manifest = Manifest::read(dir)?;
    for (from, name) in staged.iter().zip(&need.files) {
        let to = dir.join(name);
        durable::create_dir(durable::parent(&to))?;
        manifest.files.remove(name);
        manifest.write(dir)?;
        durable::publish(from, &to)?;
        manifest
            .files
            .insert(name.clone(), Entry::of(&to, Origin::Made)?);
        manifest.write(dir)?;
    }
    durable::remove_dir(&work)?;
    Ok(())
}

fn look_at(dir: &Path, name: &str, depth: Depth, manifest: &mut Manifest) -> Result<Finding> {
    let path = dir.join(name);
    if durable::size(&path)?.is_none() {
        return Ok(Finding::Missing);
    }
    let Some(entry) = manifest.files.get_mut(name) else {
        if !is_published(&path, name)? {
            return Ok(Finding::Unknown);
        }
        manifest
            .files
            .insert(name.to_owned(), Entry::of(&path, Origin::Published)?);
        return Ok(Finding::Good);
    };
    entry.compare(&path, depth)
}

/// Whether a file has the digest that the network published under its name.
fn is_published(path: &Path, name: &str) -> Result<bool> {
    let Some(data) = get_parameter_data_from_id(name) else {
        return Ok(false);
    };
    let mut hash = blake2b_simd::State::new();
    durable::each_block(path, |block| {
        hash.update(block);
        Ok(())
    })?;
    // The published digests are the first 16 bytes of BLAKE2b-512.
    Ok(hash.finalize().to_hex()[..32] == *data.digest)
}

/// One process at a time works in a folder; the lock goes with the process.
fn lock(dir: &Path, progress: OnProgress<'_>) -> Result<File> {
    if let Some(file) = try_lock(dir)? {
        return Ok(file);
    }
    let (file, path) = lock_file(dir)?;
    let text = format!("waiting: another process works in {}", dir.display());
    ticking(&text, progress, || {
        flock(&file, FlockOperation::LockExclusive).map_err(|e| Error::io("lock", &path)(e.into()))
    })?;
    Ok(file)
}

/// None when another process has it.
fn try_lock(dir: &Path) -> Result<Option<File>> {
    let (file, _) = lock_file(dir)?;
    let got = flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
    Ok(got.then_some(file))
}

fn lock_file(dir: &Path) -> Result<(File, PathBuf)> {
    let path = dir.join(LOCK);
    let file = fs::OpenOptions::new().create(true).append(true).open(&path);
    Ok((file.map_err(Error::io("create", &path))?, path))
}

/// Runs something long and says every half minute that it still runs.
fn ticking<T: Send>(
    text: &str,
    progress: OnProgress<'_>,
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    const EVERY: Duration = Duration::from_secs(30);
    let begin = Instant::now();
    let say = |text: String| {
        progress(Progress {
            text,
            elapsed: begin.elapsed(),
        });
    };
    say(text.to_owned());
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let result = std::thread::scope(|scope| {
        scope.spawn(|| {
            let wait = wait;
            while wait.recv_timeout(EVERY) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                say(text.to_owned());
            }
        });
        let result = work();
        drop(done);
        result
    });
    if result.is_ok() {
        say(format!("{text}: done"));
    }
    result
}

/// Compares only the size of a file with what the manifest beside it says: the proof library maps a
/// file that is cut off, and dies of it. A file that no manifest knows passes.
///
/// # Errors
/// `Temporary`, naming the file, when its size is another.
pub(crate) fn check_size(path: &Path) -> Result<()> {
    let manifest = Manifest::read(durable::parent(path))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let (Some(entry), Some(found)) = (manifest.files.get(&*name), durable::size(path)?) else {
        return Ok(());
    };
    let want = entry.size_bytes();
    if found == want {
        return Ok(());
    }
    Err(Error::Parameters(format!(
        "{} has {found} bytes instead of {want}: remove it and make or copy it again (`sealer-pod \
         params`)",
        path.display()
    )))
}

/// Name of a proof type's parents cache, inside the folder of parents caches.
///
/// # Errors
/// When the proof library cannot build its public parameters.
pub fn parents_name(proof: SealProof) -> Result<String> {
    parents::file_stem(proof)
}

/// The graph of a proof type.
///
/// # Errors
/// Never for the proof types that there are.
pub fn graph(proof: SealProof) -> Result<Graph> {
    parents::porep_graph(proof)
}

/// Size of a proof type's parents cache, bytes.
pub const fn parents_bytes(proof: SealProof) -> u64 {
    proof.nodes() * parents::ROW_BYTES
}

/// The folder of parents caches inside a folder of parameters.
pub fn parents_dir(dir: &Path) -> PathBuf {
    dir.join(parents::FOLDER)
}

/// Where parameters are when nobody says: `$FILSTAR_PARAMS`, or below the user's cache folder.
pub fn default_dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("FILSTAR_PARAMS") {
        return dir.into();
    }
    let in_home = || {
        let home = std::env::var_os("HOME").unwrap_or_else(|| "/".into());
        Path::new(&home).join(".cache/filstar")
    };
    let cache = std::env::var_os("FILSTAR_CACHE").map_or_else(in_home, PathBuf::from);
    cache.join("params")
}
