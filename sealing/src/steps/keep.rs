//! After the proof: Finalize, Land, Remove.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use rustix::fs::{Advice, fadvise};
use serde::{Deserialize, Serialize};

use super::{
    Context,
    seal::{SealInput, data},
};
use crate::{
    durable,
    error::{Error, Result},
    ledger::{FileFact, Phase, Record},
    proof::SealProof,
    sector::{CacheFile, Place, SectorId},
    task::{Facts, Finalize, FinalizeOutput, Land, LandOutput, Pc2Output, Remove, RemoveOutput},
};

const LANDING: &str = "landing";
const VERSION: u32 = 1;

/// The JSON beside a landed replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StoredFacts {
    version: u32,
    sector: SectorId,
    proof: SealProof,
    #[serde(flatten)]
    pub(super) facts: Facts,
    pub(super) files: Vec<FileFact>,
}

impl StoredFacts {
    /// What is said of this sector in its store; none when nothing is, or nothing that can be read.
    pub(super) fn read(target: &Place) -> Result<Option<Self>> {
        let path = target.facts();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io("read", path)(e)),
        };
        let stored = serde_json::from_slice::<Self>(&text).ok();
        Ok(stored.filter(|s| {
            s.version == VERSION && s.sector == target.sector && s.proof == target.proof
        }))
    }
}

/// Removes layers, tree-d, tree-c and, unless it is to stay, the data. Until then all can be made again, so what must
/// stay is read first, to the last byte: C1 reads few leaves of it.
///
/// # Errors
/// `Corrupt`, naming the file, when what must stay is not what PC2 recorded; nothing is removed then.
pub(super) fn finalize(input: &Finalize, context: &Context<'_>) -> Result<FinalizeOutput> {
    let place = &input.place;
    let files = lasting(place)?;
    check_all(&files, place, context)?;
    context.say(99, "Finalize: removing layers");
    for file in place.cache_files(|f| f != CacheFile::Lasting)? {
        durable::remove(&file)?;
    }
    if !input.keep_unsealed {
        durable::remove(&place.unsealed())?;
    }
    durable::sync_dir(&place.cache())?;
    Ok(FinalizeOutput { files })
}

/// Reads files and compares them with their digests.
fn check_all(files: &[FileFact], place: &Place, context: &Context<'_>) -> Result<()> {
    let total: u64 = files.iter().map(|f| f.size_bytes).sum();
    let mut done = 0;
    for fact in files {
        let percent = u32::try_from(done * 98 / total.max(1)).unwrap_or(98);
        let text = format!("Finalize: checking {}", fact.path.display());
        context.say(percent, text);
        fact.check(&place.root)?;
        done += fact.size_bytes;
    }
    Ok(())
}

/// Copies a finished sector to a store, compares it, and only then removes the source.
///
/// # Errors
/// `Corrupt`, naming the file, when a source file has another content than recorded; `Temporary` when the store is not
/// mounted, is full, does not answer or gives back another content; `Fatal` when it is the scratch folder itself.
pub(super) fn land(input: &Land, context: &Context<'_>) -> Result<LandOutput> {
    let target = input.place.at(&input.store);
    must_be_mounted(&input.store, "land in")?;
    must_be_apart(&input.place, &target)?;
    if let Some(files) = landed(&target, &input.facts)? {
        remove_landed(&input.place, &target)?;
        return Ok(LandOutput { files });
    }
    let staging = input
        .store
        .join(LANDING)
        .join(input.place.sector.to_string());
    durable::remove_dir(&staging)?;
    let files = copy_all(input, &staging, context)?;
    publish(&target, &staging, &files)?;
    let (sector, proof, facts) = (target.sector, target.proof, input.facts.clone());
    let stored = StoredFacts {
        version: VERSION,
        sector,
        proof,
        facts,
        files,
    };
    let text = serde_json::to_vec_pretty(&stored)
        .map_err(|e| Error::Setup(format!("facts of {sector} as JSON: {e}")))?;
    durable::write(&target.facts(), &text)?;
    durable::remove_dir(&staging)?;
    context.say(99, "Land: removing the source");
    remove_landed(&input.place, &target)?;
    Ok(LandOutput {
        files: stored.files,
    })
}

/// A folder that is not there is a store that this pod has not mounted: made here it would fill another disk, and a
/// replica that is in it is not gone.
pub(super) fn must_be_mounted(store: &Path, what_for: &'static str) -> Result<()> {
    if store.is_dir() {
        return Ok(());
    }
    let why = "this pod does not mount the store; it does after its next start";
    let source = io::Error::new(io::ErrorKind::NotFound, why);
    Err(Error::io(what_for, store)(source))
}

/// Landing in the scratch folder itself would remove what it has just landed. Paths say nothing of that: mounts and
/// symlinks give one folder many names.
fn must_be_apart(source: &Place, target: &Place) -> Result<()> {
    let folders = |place: &Place| {
        let inner = ["sealed", "cache", "unsealed"].map(|name| place.root.join(name));
        [vec![place.root.clone()], inner.to_vec()].concat()
    };
    all_apart(&folders(source), &folders(target))
}

fn all_apart(source: &[PathBuf], target: &[PathBuf]) -> Result<()> {
    for (from, to) in source.iter().zip(target) {
        if durable::is_same(from, to)? {
            return Err(Error::Setup(format!(
                "{} is {}: a store must be another directory than the scratch of a group that lands in it. Give the \
                 SectorStore or scratch.hostPath another one; nothing was removed",
                to.display(),
                from.display()
            )));
        }
    }
    Ok(())
}

/// Removes the source of what is in the store now.
fn remove_landed(source: &Place, target: &Place) -> Result<()> {
    let files = |p: &Place| [p.sealed(), p.cache(), p.unsealed()];
    all_apart(&files(source), &files(target))?;
    remove_source(source).map(drop)
}

/// Removes all files of a sector in scratch.
///
/// # Errors
/// When one is there and cannot be removed.
pub(super) fn remove(input: &Remove) -> Result<RemoveOutput> {
    Ok(RemoveOutput {
        removed: remove_source(&input.place)?,
    })
}

/// What must outlive sealing, as PC2 recorded it: the replica and what proving reads.
fn lasting(place: &Place) -> Result<Vec<FileFact>> {
    let Some(record) = Record::<SealInput, Pc2Output>::read(place, Phase::Pc2)? else {
        let why = "there is no record of PC2, so nobody knows what the files must be";
        return Err(Error::damaged(&place.ledger(), why));
    };
    let lasting = |f: &FileFact| {
        let path = place.root.join(&f.path);
        path == place.sealed() || CacheFile::of_path(&path) == CacheFile::Lasting
    };
    Ok(record.files.into_iter().filter(lasting).collect())
}

/// The files in the store, when the same sector is there already, whole.
fn landed(target: &Place, facts: &Facts) -> Result<Option<Vec<FileFact>>> {
    let Some(stored) = StoredFacts::read(target)? else {
        return Ok(None);
    };
    let same = stored.facts.comm_r == facts.comm_r;
    let whole = stored
        .files
        .iter()
        .all(|f| f.check_size(&target.root).is_ok());
    Ok((same && whole).then_some(stored.files))
}

/// Copies every file into the staging folder, in the layout of a store; returns what is there.
fn copy_all(input: &Land, staging: &Path, context: &Context<'_>) -> Result<Vec<FileFact>> {
    let place = &input.place;
    let record = Record::<SealInput, Pc2Output>::read(place, Phase::Pc2)?;
    if record.is_some_and(|r| r.output.comm_r != input.facts.comm_r) {
        let text = format!(
            "scratch holds another replica of {} than the chain",
            place.sector
        );
        return Err(Error::Input(text));
    }
    let mut files = lasting(place)?;
    if let Some(fact) = unsealed(place)? {
        files.push(fact);
    }
    let total: u64 = files.iter().map(|f| f.size_bytes).sum();
    let mut done = 0;
    for fact in &files {
        fact.check_size(&place.root)?;
        copy_one(fact, &place.root, staging)?;
        done += fact.size_bytes;
        let percent = u32::try_from(done * 98 / total.max(1)).unwrap_or(98);
        context.say(percent, format!("Land: {} copied", fact.path.display()));
    }
    Ok(files)
}

/// The data, when it was kept. Zeros are not worth keeping, so normally there is none.
fn unsealed(place: &Place) -> Result<Option<FileFact>> {
    let path = place.unsealed();
    if durable::size(&path)?.is_none() || data(place).is_err() {
        return Ok(None);
    }
    FileFact::sync(&place.root, &path).map(Some)
}

fn copy_one(fact: &FileFact, root: &Path, staging: &Path) -> Result<()> {
    let (from, to) = (root.join(&fact.path), staging.join(&fact.path));
    durable::create_dir(durable::parent(&to))?;
    if durable::copy(&from, &to)? != fact.sha256 {
        return Err(Error::damaged(
            &from,
            "its content is not what was written (SHA-256 differs)",
        ));
    }
    // Reads below come from the disk, not from memory.
    let file = File::open(&to).map_err(Error::io("open", &to))?;
    fadvise(&file, 0, None, Advice::DontNeed).map_err(|e| Error::io("advise", &to)(e.into()))?;
    if durable::sha256(&to)? != fact.sha256 {
        // The source is good: what failed is the store, and it is copied again.
        let why = "the store gives back another content than was written";
        return Err(Error::io("compare", to)(io::Error::other(why)));
    }
    Ok(())
}

/// Gives the copied files their final names, the replica last.
fn publish(target: &Place, staging: &Path, files: &[FileFact]) -> Result<()> {
    durable::remove(&target.facts())?;
    durable::remove_dir(&target.cache())?;
    let staged = target.at(staging);
    for (from, to) in [
        (staged.cache(), target.cache()),
        (staged.unsealed(), target.unsealed()),
        (staged.sealed(), target.sealed()),
    ] {
        if !files
            .iter()
            .any(|f| staging.join(&f.path).starts_with(&from))
        {
            continue;
        }
        durable::create_dir(durable::parent(&to))?;
        if from.is_dir() {
            durable::sync_dir(&from)?;
        }
        fs::rename(&from, &to).map_err(Error::io("rename", &from))?;
        durable::sync_dir(durable::parent(&to))?;
    }
    Ok(())
}

/// Removes a sector from scratch; the ledger goes last, since it says what the rest was.
fn remove_source(place: &Place) -> Result<Vec<PathBuf>> {
    let mut removed = Vec::new();
    for file in [place.unsealed(), place.sealed()] {
        if durable::remove(&file)? {
            removed.push(file);
        }
    }
    for dir in [place.cache(), place.unsealing(), place.ledger()] {
        if durable::remove_dir(&dir)? {
            removed.push(dir);
        }
    }
    Ok(removed)
}
