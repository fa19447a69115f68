//! Unsealing: the data of a sector out of its replica.
//!
//! In: the replica, the ticket of its seal, the commitment that the data must have. Out: the data. Effects: the
//! unsealed file, and a folder for layers that is gone at the end. Never: a byte written to the replica; data under
//! its name before it has that commitment; layers of a sector that is still sealed written over.
//!
//! Killed anywhere and run again it goes on as PC1 does. After a failure the layers stay for the next attempt.

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    thread,
};

use filstar_kernels::{sdr, trees};

use super::{
    Context,
    keep::{StoredFacts, must_be_mounted},
    seal::SealInput,
};
use crate::{
    durable,
    engine::{Engine, UnsealJob},
    error::{Error, Result},
    hash::{Hash32, replica_id},
    ledger::{FileFact, Phase, Record},
    sector::Place,
    task::{Pc2Output, Unseal, UnsealOutput},
};

/// Takes the data out of a replica, unless it is there.
///
/// # Errors
/// `Temporary` when the store is not mounted. `Corrupt` when the replica has another size, or the data another commitment: the text names the file or value
/// that is wrong, as far as records say; else what engine and file system say.
pub(super) fn unseal(input: &Unseal, context: &Context<'_>) -> Result<UnsealOutput> {
    let place = &input.place;
    let output = UnsealOutput {
        file: place.unsealed(),
        comm_d: input.comm_d,
    };
    if context.from_scratch {
        durable::remove_dir(&place.unsealing())?;
    } else if is_there(input, context)? {
        durable::remove_dir(&place.unsealing())?;
        context.say(100, "Unseal was done before");
        return Ok(output);
    }
    let source = match &input.store {
        Some(store) => {
            must_be_mounted(store, "unseal from")?;
            place.at(store)
        }
        None => place.clone(),
    };
    check_size(&source)?;
    context.say(0, format!("Unseal, {} layers", place.proof.layers()));
    durable::create_dir(durable::parent(&output.file))?;
    let data = durable::temporary(&output.file);
    if let Err(e) = make(input, &source, &data, context) {
        // Of no use to anybody: the next attempt makes all of it again from the layers.
        durable::remove(&data)?;
        return Err(e);
    }
    durable::publish(&data, &output.file)?;
    durable::remove_dir(&place.unsealing())?;
    Ok(output)
}

/// Whether the data is there already: then the replica is not needed.
fn is_there(input: &Unseal, context: &Context<'_>) -> Result<bool> {
    let (path, bytes) = (input.place.unsealed(), input.place.proof.sector_bytes());
    if durable::size(&path)? != Some(bytes) {
        return Ok(false);
    }
    context.say(0, "Unseal: comparing the data that is there");
    Ok(comm_d(&path, &input.place)? == input.comm_d)
}

/// Writes the data and compares it.
fn make(input: &Unseal, source: &Place, data: &Path, context: &Context<'_>) -> Result<()> {
    let job = UnsealJob {
        place: &input.place,
        replica: &source.sealed(),
        layers: &layers(input, context.engine)?,
        data,
        ticket: input.ticket,
        comm_d: input.comm_d,
        progress: &context.part(0, 97),
    };
    let key = context.engine.unseal(&job)?;
    context.say(97, "Unseal: comparing the data with CommD");
    let found = comm_d(data, &input.place)?;
    if found == input.comm_d {
        Ok(())
    } else {
        Err(blame(input, source, key, found)?)
    }
}

/// The folder for layers. Whole ones of this very replica that sealing has left are used where they are, and stay.
/// Otherwise it is one of its own: with a wrong ticket the layers of a sector in work would be written over, and
/// what the reference library leaves behind has the names of other files.
fn layers(input: &Unseal, engine: &dyn Engine) -> Result<PathBuf> {
    let (place, folder) = (&input.place, input.place.unsealing());
    let (proof, sector) = (place.proof, place.sector);
    if engine.keeps_digests() {
        let (prover, number) = (sector.prover_id(), sector.number);
        let lane = sdr::Lane {
            replica_id: replica_id(proof, &prover, number, input.ticket, input.comm_d).0,
            folder: place.cache(),
        };
        let all = u64::from(proof.layers()) * proof.nodes();
        if sdr::on_disk(&lane, proof.layers(), proof.nodes())? == all {
            return Ok(lane.folder);
        }
    } else {
        // It takes layers by their sizes.
        durable::remove_dir(&folder)?;
    }
    durable::create_dir(&folder)?;
    Ok(folder)
}

fn check_size(source: &Place) -> Result<()> {
    let (path, want) = (source.sealed(), source.proof.sector_bytes());
    match durable::size(&path)? {
        Some(n) if n == want => Ok(()),
        Some(n) => {
            let why = format!("the replica has {n} bytes, not {want}");
            Err(Error::damaged(&path, why))
        }
        None => Err(Error::damaged(&path, "the replica is gone")),
    }
}

fn comm_d(data: &Path, place: &Place) -> Result<Hash32> {
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    Ok(Hash32(trees::comm_d(data, place.proof.nodes(), threads)?))
}

/// What is wrong when the data has another commitment: the layer, what was asked for, or the replica.
fn blame(
    input: &Unseal,
    source: &Place,
    key: Option<(PathBuf, [u8; 32])>,
    found: Hash32,
) -> Result<Error> {
    if let Some((path, digest)) = key
        && durable::sha256(&path)? != hex::encode(digest)
    {
        sdr::distrust(&path)?;
        let why = "its content is not what was written (SHA-256 differs): the next attempt labels \
                   it again from there";
        return Ok(Error::damaged(&path, why));
    }
    let (ticket, comm_d) = (input.ticket, input.comm_d);
    let sealed = source.sealed();
    if let Some(known) = known(source)? {
        if known.ticket != ticket {
            let why = format!(
                "this replica was sealed with ticket {}, not {ticket}",
                known.ticket
            );
            return Ok(Error::damaged(&sealed, why));
        }
        if known.comm_d != comm_d {
            let why = format!(
                "the data of this replica has CommD {}, not {comm_d}",
                known.comm_d
            );
            return Ok(Error::damaged(&sealed, why));
        }
        if let Some(replica) = known.replica {
            replica.check(&source.root)?;
        }
    }
    let why = format!(
        "with ticket {ticket} it decodes to data with CommD {found}, not {comm_d}: this file, the \
         ticket or the CommD is not that of the seal"
    );
    Ok(Error::damaged(&sealed, why))
}

/// What was recorded of a seal.
struct Known {
    ticket: Hash32,
    comm_d: Hash32,
    replica: Option<FileFact>,
}

/// By the facts beside a landed replica, or by the ledger.
fn known(source: &Place) -> Result<Option<Known>> {
    let replica = |files: Vec<FileFact>| {
        let is = |f: &FileFact| source.root.join(&f.path) == source.sealed();
        files.into_iter().find(is)
    };
    if let Some(stored) = StoredFacts::read(source)? {
        return Ok(Some(Known {
            ticket: stored.facts.ticket,
            comm_d: stored.facts.comm_d,
            replica: replica(stored.files),
        }));
    }
    let record = Record::<SealInput, Pc2Output>::read(source, Phase::Pc2)?;
    Ok(record.map(|record| Known {
        ticket: record.input.ticket(),
        comm_d: record.output.comm_d,
        replica: replica(record.files),
    }))
}
