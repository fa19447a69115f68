//! Groth16 parameters: which files a proof type needs, whether they are the right ones, and making
//! them for test sizes.
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

use std::{
    collections::BTreeMap,
    fmt,
    fs::{self, File},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::fs::{FlockOperation, flock};
use serde::Serialize;
use storage_proofs_core::parameter_cache::get_parameter_data_from_id;

use self::manifest::{Entry, MANIFEST, Manifest, Origin};
use crate::{
    durable,
    error::{Error, Result},
    proof::SealProof,
};

const LOCK: &str = "filstar-params.lock";

/// What a parameter file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum Purpose {
    /// C2 and its verification.
    PoRep,
    /// Window `PoSt` and its verification.
    WindowPoSt,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PoRep => "PoRep",
            Self::WindowPoSt => "window PoSt",
        })
    }
}

/// A pair of files: the parameters and the verifying key inside them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needed {
    /// What they are for.
    pub purpose: Purpose,
    /// File name of the parameters.
    pub params: String,
    /// File name of the verifying key.
    pub key: String,
}

/// How carefully files are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Size and modification time; the digest only where they changed.
    Quick,
    /// The digest of every file.
    Full,
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
    /// Each needed file with its finding, parameters before their key.
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

/// The files that sealing and proving sectors of this type need.
///
/// # Errors
/// When the proof library cannot build its public parameters.
pub fn needed(proof: SealProof) -> Result<Vec<Needed>> {
    let id = |purpose, id: String| Needed {
        purpose,
        params: storage_proofs_core::parameter_cache::parameter_id(&id),
        key: storage_proofs_core::parameter_cache::verifying_key_id(&id),
    };
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
    Ok(vec![
        id(Purpose::PoRep, porep),
        id(Purpose::WindowPoSt, window),
    ])
}

/// Looks at the files of a proof type; changes nothing but remembered modification times.
///
/// # Errors
/// When a file or the manifest cannot be read.
pub fn check(dir: &Path, proof: SealProof, depth: Depth) -> Result<Report> {
    let mut manifest = Manifest::read(dir)?;
    let before = manifest.clone();
    let mut files = Vec::new();
    for need in needed(proof)? {
        for name in [need.params, need.key] {
            let finding = look_at(dir, &name, depth, &mut manifest)?;
            files.push((name, finding));
        }
    }
    if manifest != before && manifest.write(dir).is_err() {
        tracing::debug!(dir = %dir.display(), "folder is read-only: digests are taken again next time");
    }
    Ok(Report { files })
}

/// Makes sure that the files of a proof type are there and right.
///
/// Waits while another process makes them. Test sizes are made when they are not there; for real
/// sizes that would be useless, since the network accepts only the published ones.
///
/// # Errors
/// `Fatal` when files of a real size are missing or wrong; `Temporary` when the file system fails.
pub fn ensure(
    dir: &Path,
    proof: SealProof,
    depth: Depth,
    progress: OnProgress<'_>,
) -> Result<Report> {
    durable::create_dir(dir)?;
    let _lock = lock(dir, progress)?;
    let report = check(dir, proof, depth)?;
    if report.is_good() {
        return Ok(report);
    }
    if !proof.is_test_size() {
        return Err(not_published(dir, proof, &report));
    }
    let findings: BTreeMap<_, _> = report.files.into_iter().collect();
    for need in needed(proof)? {
        let bad = [&need.params, &need.key]
            .into_iter()
            .filter_map(|n| complaint(n, &findings[n]));
        let bad: Vec<_> = bad.collect();
        if bad.is_empty() {
            continue;
        }
        let text = format!("{}; making them for {proof} anew", bad.join("; "));
        progress(Progress {
            text,
            elapsed: Duration::ZERO,
        });
        make_pair(dir, proof, &need, progress)?;
    }
    check(dir, proof, Depth::Quick)
}

fn not_published(dir: &Path, proof: SealProof, report: &Report) -> Error {
    Error::Setup(format!(
        "parameters of {proof} in {} are not the published ones: {}. Put the published files there \
         (lotus fetch-params {}, or copy them from another machine)",
        dir.display(),
        report.complaints().join("; "),
        proof.sector_bytes(),
    ))
}

fn make_pair(dir: &Path, proof: SealProof, need: &Needed, progress: OnProgress<'_>) -> Result<()> {
    let work = dir.join(format!("making-{}", need.key));
    durable::remove_dir(&work)?;
    durable::create_dir(&work)?;
    let (params, key) = (work.join(&need.params), work.join(&need.key));
    let text = format!("making {} parameters of {proof}", need.purpose);
    ticking(&text, progress, || {
        make::pair(need.purpose, proof, &params, &key)
    })?;
    let mut manifest = Manifest::read(dir)?;
    for (from, name) in [(&params, &need.params), (&key, &need.key)] {
        let to = dir.join(name);
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
    let path = dir.join(LOCK);
    let file = fs::OpenOptions::new().create(true).append(true).open(&path);
    let file = file.map_err(Error::io("create", &path))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
        return Ok(file);
    }
    let text = format!("waiting: another process works in {}", dir.display());
    ticking(&text, progress, || {
        flock(&file, FlockOperation::LockExclusive).map_err(|e| Error::io("lock", &path)(e.into()))
    })?;
    Ok(file)
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
        })
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

/// Where parameters are when nobody says: `$FILSTAR_PARAMS`, or below the user's cache folder.
pub fn default_dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("FILSTAR_PARAMS") {
        return dir.into();
    }
    let cache = std::env::var_os("FILSTAR_CACHE")
        .map(PathBuf::from)
        .unwrap_or_else(|| {
            let home = std::env::var_os("HOME").unwrap_or_else(|| "/".into());
            Path::new(&home).join(".cache/filstar")
        });
    cache.join("params")
}
