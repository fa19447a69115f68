//! From replica to proof: C1, C2, and verifying.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    Context, Point,
    seal::{data, drop_damaged, sealed_record},
};
use crate::{
    durable,
    engine::{Commitments, Engine, SealJob},
    error::{Error, Result},
    hash::{Hash32, HexBytes},
    ledger::{FileFact, Phase, Record, forget_from},
    partitions::{self, Groth16, Kept},
    sector::Place,
    stock::{self, Want},
    task::{C1, C1Output, C2, C2Output, VerifiedOutput, VerifySeal},
};

/// What the proofs of the seal are made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CommitInput {
    ticket: Hash32,
    seed: Hash32,
    comm_d: Hash32,
    comm_r: Hash32,
}

/// Makes the vanilla proofs of the seal.
///
/// # Errors
/// `Corrupt`, naming the file, when what PC1 and PC2 made is not as recorded. What PC1 made of it is dropped then, so
/// that PC2, which runs next, asks for PC1.
pub(super) fn c1(input: &C1, context: &Context<'_>) -> Result<C1Output> {
    let place = &input.place;
    let sealed = sealed_record(place, input.ticket)?;
    let (comm_d, comm_r) = (sealed.output.comm_d, sealed.output.comm_r);
    let made_of = CommitInput {
        ticket: input.ticket,
        seed: input.seed,
        comm_d,
        comm_r,
    };
    if context.from_scratch {
        forget_from(place, Phase::C1)?;
    }
    if let Some(done) = Record::valid(place, Phase::C1, &made_of)? {
        return Ok(done.output);
    }
    forget_from(place, Phase::C1)?;
    let files = SealFiles::read(place, sealed.files)?;
    files.check(place, context.engine, FileFact::check_size)?;
    context.say(0, "C1: vanilla proofs");
    let data = data(place)?;
    let job = SealJob {
        place,
        ticket: input.ticket,
        pieces: &data.pieces,
        sums: &[],
        progress: &context.part(0, 95),
    };
    let proofs = context
        .engine
        .c1(&job, &Commitments { comm_d, comm_r }, input.seed);
    let proofs = proofs.map_err(|e| files.name_damage(place, context.engine, e))?;
    let path = c1_file(place);
    durable::write(&path, &proofs)?;
    let output = C1Output { file: path.clone() };
    Ok(Record::write(place, Phase::C1, made_of, output, &[path])?.output)
}

/// Makes the SNARK of the seal and verifies it.
///
/// # Errors
/// `Corrupt` when the vanilla proofs are gone or damaged (C1 has to run again), `Fatal` when
/// the proof does not verify.
pub(super) fn c2(input: &C2, context: &Context<'_>) -> Result<C2Output> {
    let place = &input.place;
    let c1 = Record::<CommitInput, C1Output>::read(place, Phase::C1)?;
    let same = |i: &CommitInput| i.ticket == input.ticket && i.seed == input.seed;
    let Some(c1) = c1.filter(|r| same(&r.input)) else {
        return Err(Error::damaged(
            &place.ledger(),
            "there is no record of C1 with this ticket and seed: it has to run again",
        ));
    };
    if context.from_scratch {
        forget_from(place, Phase::C2)?;
        durable::remove_dir(&kept_dir(place))?;
    }
    if let Some(done) = Record::<CommitInput, C2Output>::valid(place, Phase::C2, &c1.input)? {
        return Ok(done.output);
    }
    forget_from(place, Phase::C2)?;
    for fact in &c1.files {
        fact.check(&place.root)?;
    }
    let path = c1_file(place);
    let vanilla = fs::read(&path).map_err(Error::io("read", &path))?;
    (context.point)(Point::C2);
    stock::require_seal_files(place.proof, Want::ToProve)?;
    let groth = Groth16::new(place.sector, &vanilla)?;
    drop(vanilla);
    let kept = KeptInLedger { place, context };
    let proof = HexBytes(partitions::prove(&groth, &kept)?);
    context.say(95, "C2: verifying");
    let (comm_d, comm_r) = (c1.input.comm_d, c1.input.comm_r);
    let output = C2Output {
        proof,
        comm_d,
        comm_r,
    };
    if !context.engine.verify_seal(&claim(input, &output))? {
        return Err(Error::Setup(format!(
            "the proof of {} does not verify although its vanilla proofs did: check the parameters \
             with `sealer-pod params --check --full`",
            place.sector
        )));
    }
    let output = Record::write(place, Phase::C2, c1.input, output, &[])?.output;
    durable::remove_dir(&kept_dir(place))?;
    Ok(output)
}

/// Proofs of partitions in files beside the ledger.
struct KeptInLedger<'a> {
    place: &'a Place,
    context: &'a Context<'a>,
}

impl KeptInLedger<'_> {
    fn file(&self, partition: usize) -> PathBuf {
        kept_dir(self.place).join(format!("{partition}.proof"))
    }
}

impl Kept for KeptInLedger<'_> {
    fn get(&self, partition: usize) -> Result<Option<Vec<u8>>> {
        let path = self.file(partition);
        match fs::read(&path) {
            Ok(proof) => Ok(Some(proof)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("read", path)(e)),
        }
    }

    fn put(&self, partition: usize, proof: &[u8]) -> Result<()> {
        durable::write(&self.file(partition), proof)
    }

    fn begins(&self, partition: usize, of: usize) {
        let percent = u32::try_from(partition * 95 / of.max(1)).unwrap_or(95);
        self.context.say(
            percent,
            format!("C2: SNARK of partition {} of {of}", partition + 1),
        );
    }
}

fn kept_dir(place: &Place) -> PathBuf {
    place.ledger().join("c2-partitions")
}

/// Verifies a seal.
///
/// # Errors
/// `Temporary` when parameters are missing.
pub(super) fn verify(input: &VerifySeal, context: &Context<'_>) -> Result<VerifiedOutput> {
    Ok(VerifiedOutput {
        valid: context.engine.verify_seal(input)?,
    })
}

fn claim(input: &C2, output: &C2Output) -> VerifySeal {
    let place = &input.place;
    VerifySeal {
        proof_type: place.proof,
        actor: place.sector.actor,
        number: place.sector.number,
        ticket: input.ticket,
        seed: input.seed,
        comm_d: output.comm_d,
        comm_r: output.comm_r,
        proof: output.proof.clone(),
    }
}

fn c1_file(place: &Place) -> PathBuf {
    place.ledger().join("c1-output.json")
}

/// The files that C1 reads: those of PC2, and of PC1 as far as it left a record.
struct SealFiles {
    pc1: Vec<FileFact>,
    pc2: Vec<FileFact>,
}

impl SealFiles {
    fn read(place: &Place, pc2: Vec<FileFact>) -> Result<Self> {
        let pc1 = Record::<serde_json::Value, serde_json::Value>::read(place, Phase::Pc1)?;
        let pc1 = pc1.map(|r| r.files).unwrap_or_default();
        Ok(Self { pc1, pc2 })
    }

    /// Compares all with their records. PC2 finds by itself what is wrong with its own files, and takes no look at those
    /// of PC1 while its own are good: so those are dropped here.
    fn check(
        &self,
        place: &Place,
        engine: &dyn Engine,
        check: impl Fn(&FileFact, &Path) -> Result<()>,
    ) -> Result<()> {
        for fact in &self.pc1 {
            check(fact, &place.root).map_err(|e| drop_damaged(place, e, engine))?;
        }
        for fact in &self.pc2 {
            check(fact, &place.root)?;
        }
        Ok(())
    }

    /// C1 failed: when a file is to blame, say which one.
    fn name_damage(&self, place: &Place, engine: &dyn Engine, error: Error) -> Error {
        tracing::warn!(%error, "C1 failed: comparing all files with their digests");
        let damage = self.check(place, engine, FileFact::check);
        damage.err().unwrap_or(error)
    }
}
