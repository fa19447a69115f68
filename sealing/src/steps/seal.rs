//! From data to replica: `AddPiece`, PC1, PC2.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use filstar_kernels::{sdr, trees::LayerSums};
use serde::{Deserialize, Serialize};

use super::{Context, Point, Progress};
use crate::{
    durable,
    engine::{Data, Engine, Labelled, SealJob},
    error::{Error, Result},
    hash::{Hash32, replica_id, zero_commitment},
    ledger::{Phase, Record, forget_from},
    own,
    proof::SealProof,
    sector::{CacheFile, Place},
    task::{AddPiece, AddPieceOutput, Pc1, Pc1Output, Pc2, Pc2Output, Piece},
    template,
};

/// What the data is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DataInput {
    proof: SealProof,
}

/// What labels and replica are made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SealInput {
    proof: SealProof,
    ticket: Hash32,
    replica_id: Hash32,
}

impl SealInput {
    /// The ticket of the seal.
    pub(super) const fn ticket(&self) -> Hash32 {
        self.ticket
    }
}

/// A mark that PC1 began; layers are good only for the same inputs and the same engine, and unless
/// that keeps digests of them, for the same boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Begun {
    input: SealInput,
    engine: String,
    boot_id: String,
}

const BEGUN: &str = "pc1-begun.json";

/// Makes the data of committed capacity: a file of zeros without blocks on disk.
///
/// # Errors
/// When the file system fails.
pub(super) fn add_piece(input: &AddPiece, context: &Context<'_>) -> Result<AddPieceOutput> {
    let place = &input.place;
    let made_of = DataInput { proof: place.proof };
    if !context.from_scratch
        && let Some(record) = data_record(place)?
        && record.input == made_of
        && record
            .files
            .iter()
            .all(|f| f.check_size(&place.root).is_ok())
    {
        return Ok(record.output);
    }
    forget_from(place, Phase::AddPiece)?;
    let path = place.unsealed();
    durable::create_dir(durable::parent(&path))?;
    let file = File::create(&path).map_err(Error::io("create", &path))?;
    file.set_len(place.proof.sector_bytes())
        .map_err(Error::io("extend", &path))?;
    file.sync_all().map_err(Error::io("sync", &path))?;
    durable::sync_dir(durable::parent(&path))?;
    let commitment = zero_commitment(place.proof);
    let piece = Piece {
        commitment,
        padded_bytes: place.proof.sector_bytes(),
    };
    let output = AddPieceOutput {
        pieces: vec![piece],
        comm_d: commitment,
    };
    Ok(Record::write(place, Phase::AddPiece, made_of, output, &[path])?.output)
}

/// Labels the layers.
///
/// # Errors
/// `Corrupt` when the data is gone, else what engine and file system say.
pub(super) fn pc1(input: &Pc1, context: &Context<'_>) -> Result<Pc1Output> {
    if context.from_scratch {
        clear_pc1(&input.place)?;
    }
    let begun = match begin_pc1(input, context.engine)? {
        Pc1State::Done(output) => {
            context.say(100, "PC1 was done before");
            return Ok(output);
        }
        Pc1State::Begun(begun) => begun,
    };
    context.say(0, format!("PC1, {} layers", input.place.proof.layers()));
    let progress = context.part(0, 95);
    let labelled = context.engine.pc1(&begun.job(&progress), Data::Zeros)?;
    (context.point)(Point::Pc1);
    context.say(95, "PC1: taking digests");
    begun.finish(labelled)
}

/// What PC1 found when it looked.
pub(super) enum Pc1State {
    /// It was done before.
    Done(Pc1Output),
    /// Layers may be labelled.
    Begun(BegunPc1),
}

/// A sector whose files are ready for its layers.
pub(super) struct BegunPc1 {
    pub(super) place: Place,
    made_of: SealInput,
    pieces: Vec<Piece>,
    ticket: Hash32,
}

/// Looks what is done, and leaves only what may be built upon.
///
/// # Errors
/// `Corrupt` when the data is gone, else what the file system says.
pub(super) fn begin_pc1(input: &Pc1, engine: &dyn Engine) -> Result<Pc1State> {
    let (place, ticket) = (&input.place, input.ticket);
    let data = data(place)?;
    let made_of = seal_input(place, ticket, data.comm_d);
    if let Some(done) = Record::valid(place, Phase::Pc1, &made_of)? {
        return Ok(Pc1State::Done(done.output));
    }
    forget_from(place, Phase::Pc1)?;
    prepare_pc1(place, &made_of, engine)?;
    if data.comm_d == zero_commitment(place.proof) {
        let how = template::place_tree_d(&place.root, place.proof, &tree_d(place))?;
        tracing::debug!(?how, "tree-d of zeros is a clone of the template");
    }
    Ok(Pc1State::Begun(BegunPc1 {
        place: place.clone(),
        made_of,
        pieces: data.pieces,
        ticket,
    }))
}

impl BegunPc1 {
    pub(super) fn job<'a>(&'a self, progress: &'a (dyn Fn(Progress) + Sync)) -> SealJob<'a> {
        SealJob {
            place: &self.place,
            ticket: self.ticket,
            pieces: &self.pieces,
            sums: &[],
            progress,
        }
    }

    /// Labels that earlier attempts left on disk, of all layers together.
    pub(super) fn labelled_before(&self) -> Result<u64> {
        let proof = self.place.proof;
        let lane = sdr::Lane {
            replica_id: self.made_of.replica_id.0,
            folder: self.place.cache(),
        };
        Ok(sdr::on_disk(&lane, proof.layers(), proof.nodes())?)
    }

    /// Records what was made.
    pub(super) fn finish(self, labelled: Labelled) -> Result<Pc1Output> {
        let Labelled { comm_d, digests } = labelled;
        let place = &self.place;
        let files = place.cache_files(|f| matches!(f, CacheFile::Layer | CacheFile::TreeD))?;
        let output = Pc1Output {
            comm_d,
            replica_id: self.made_of.replica_id,
        };
        let record =
            Record::write_known(place, Phase::Pc1, self.made_of, output, &files, &digests)?;
        Ok(record.output)
    }
}

/// Builds trees and replica.
///
/// # Errors
/// `Corrupt` when layers are not what PC1 recorded (it has to run again), else what engine and file
/// system say.
pub(super) fn pc2(input: &Pc2, context: &Context<'_>) -> Result<Pc2Output> {
    let place = &input.place;
    let data = data(place)?;
    let made_of = seal_input(place, input.ticket, data.comm_d);
    if context.from_scratch {
        forget_from(place, Phase::Pc2)?;
    }
    if let Some(done) = Record::valid(place, Phase::Pc2, &made_of)? {
        context.say(100, "PC2 was done before");
        return Ok(done.output);
    }
    forget_from(place, Phase::Pc2)?;
    context.say(0, "PC2: checking layers");
    let (layers, sums) = checked_layers(place, &made_of, context)?;
    restore_before_pc2(place)?;
    context.say(5, "PC2: trees and replica");
    let job = SealJob {
        place,
        ticket: input.ticket,
        pieces: &data.pieces,
        sums: &sums,
        progress: &context.part(5, 95),
    };
    let comm_r = context.engine.pc2(&job, layers.comm_d);
    let comm_r = comm_r.map_err(|e| drop_damaged(place, e, context.engine))?;
    (context.point)(Point::Pc2);
    context.say(95, "PC2: taking digests");
    let mut files = place.cache_files(|f| matches!(f, CacheFile::Lasting | CacheFile::TreeC))?;
    files.push(place.sealed());
    let output = Pc2Output {
        comm_d: layers.comm_d,
        comm_r,
    };
    Ok(Record::write(place, Phase::Pc2, made_of, output, &files)?.output)
}

/// What a later step needs to know of PC2, without reading all its files again.
pub(super) fn sealed_record(place: &Place, ticket: Hash32) -> Result<Record<SealInput, Pc2Output>> {
    let made_of = seal_input(place, ticket, data(place)?.comm_d);
    let record = Record::<SealInput, Pc2Output>::read(place, Phase::Pc2)?;
    match record.filter(|r| r.input == made_of) {
        Some(record) => Ok(record),
        None => Err(Error::damaged(
            &place.ledger(),
            "there is no record of PC2 with this ticket: it has to run again",
        )),
    }
}

fn data_record(place: &Place) -> Result<Option<Record<DataInput, AddPieceOutput>>> {
    Record::read(place, Phase::AddPiece)
}

/// The data of a sector. Committed capacity needs no file for it, only the knowledge that it is
/// zeros; so a sector can be sealed again from nothing.
pub(super) fn data(place: &Place) -> Result<AddPieceOutput> {
    match data_record(place)? {
        Some(record) if record.input == (DataInput { proof: place.proof }) => Ok(record.output),
        Some(_) | None => Err(Error::damaged(
            &place.ledger(),
            "there is no record of the sector's data: AddPiece has to run again",
        )),
    }
}

fn seal_input(place: &Place, ticket: Hash32, comm_d: Hash32) -> SealInput {
    let (proof, sector) = (place.proof, place.sector);
    let replica_id = replica_id(proof, &sector.prover_id(), sector.number, ticket, comm_d);
    SealInput {
        proof,
        ticket,
        replica_id,
    }
}

/// Leaves only what PC1 may build on: whole layers of the same inputs, written since the same boot.
/// The library checks sizes, not contents; tree-d is cheap and made again always.
fn prepare_pc1(place: &Place, input: &SealInput, engine: &dyn Engine) -> Result<()> {
    let digests = engine.keeps_digests();
    let begun = Begun {
        input: input.clone(),
        engine: engine.name().to_owned(),
        boot_id: if digests { String::new() } else { boot_id() },
    };
    let mark = place.ledger().join(BEGUN);
    let text = match fs::read(&mark) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
        // Perhaps the layers are good.
        Err(e) => return Err(Error::io("read", mark)(e)),
    };
    let same = serde_json::from_slice::<Begun>(&text)
        .is_ok_and(|old| old == begun && (digests || !old.boot_id.is_empty()));
    let stale = |f| match f {
        CacheFile::Layer => false,
        CacheFile::LayerPart => !digests,
        CacheFile::TreeD | CacheFile::TreeC | CacheFile::Lasting | CacheFile::Other => true,
    };
    if same {
        for file in place.cache_files(stale)? {
            tracing::info!(file = %file.display(), "removed before PC1 goes on");
            durable::remove(&file)?;
        }
    } else {
        clear_pc1(place)?;
        let text = serde_json::to_vec_pretty(&begun)
            .map_err(|e| Error::Setup(format!("{BEGUN} as JSON: {e}")))?;
        durable::write(&mark, &text)?;
    }
    durable::remove(&place.sealed())?;
    durable::create_dir(&place.cache())?;
    durable::create_dir(durable::parent(&place.sealed()))
}

fn tree_d(place: &Place) -> PathBuf {
    place.cache().join("sc-02-data-tree-d.dat")
}

fn clear_pc1(place: &Place) -> Result<()> {
    forget_from(place, Phase::Pc1)?;
    durable::remove(&place.ledger().join(BEGUN))?;
    durable::remove_dir(&place.cache())?;
    durable::remove(&place.sealed())?;
    Ok(())
}

/// The layers must be those that PC1 wrote. What is not is removed, with its record. Returns with the
/// record the checksums of the layers, since PC2 reads them again.
fn checked_layers(
    place: &Place,
    input: &SealInput,
    context: &Context<'_>,
) -> Result<(Pc1Output, Vec<LayerSums>)> {
    let record = Record::<SealInput, Pc1Output>::read(place, Phase::Pc1)?;
    let Some(record) = record.filter(|r| r.input == *input) else {
        return Err(Error::damaged(
            &place.ledger(),
            "there is no record of PC1 with this ticket: it has to run again",
        ));
    };
    let shape = own::shape(place)?;
    let mut sums = vec![LayerSums::new(shape); place.proof.layers() as usize];
    let layers: Vec<_> = (1..=place.proof.layers()).map(sdr::layer_name).collect();
    for fact in &record.files {
        let layer = layers.iter().position(|l| fact.path.ends_with(l));
        let name = fact.path.file_name().unwrap_or_default().display();
        context.say(0, format!("PC2: checking {name}"));
        let checked = fact.check_reading(&place.root, |bytes| {
            if let Some(layer) = layer {
                sums[layer].add(bytes);
            }
        });
        checked.map_err(|e| drop_damaged(place, e, context.engine))?;
    }
    Ok((record.output, sums))
}

/// After damage PC1 runs again: of an engine that keeps digests from the damaged place on, with all that is good still
/// there; of others from nothing.
pub(super) fn drop_damaged(place: &Place, e: Error, engine: &dyn Engine) -> Error {
    match &e {
        Error::Damaged { path, why } if path.starts_with(place.cache()) => {
            tracing::warn!(path = %path.display(), why, "PC1 has to run again");
            let dropped = if engine.keeps_digests() {
                forget_from(place, Phase::Pc1).and_then(|()| drop_file(path))
            } else {
                clear_pc1(place)
            };
            dropped.err().unwrap_or(e)
        }
        Error::Damaged { .. }
        | Error::Io { .. }
        | Error::Input(_)
        | Error::Prover { .. }
        | Error::Parameters(_)
        | Error::Setup(_) => e,
    }
}

fn drop_file(path: &Path) -> Result<()> {
    match CacheFile::of_path(path) {
        CacheFile::Layer => Ok(sdr::distrust(path)?),
        CacheFile::LayerPart
        | CacheFile::TreeD
        | CacheFile::TreeC
        | CacheFile::Lasting
        | CacheFile::Other => durable::remove(path).map(drop),
    }
}

/// The library encodes the replica in place and takes trees that it finds: so give it zeros again,
/// and no trees.
fn restore_before_pc2(place: &Place) -> Result<()> {
    let stale = |f| {
        !matches!(
            f,
            CacheFile::Layer | CacheFile::LayerPart | CacheFile::TreeD
        )
    };
    for file in place.cache_files(stale)? {
        durable::remove(&file)?;
    }
    let path = place.sealed();
    let file = File::create(&path).map_err(Error::io("create", &path))?;
    file.set_len(place.proof.sector_bytes())
        .map_err(Error::io("extend", &path))?;
    file.sync_all().map_err(Error::io("sync", &path))
}

/// Changes with each start of the machine: what was written before may not have reached the disk.
fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}
