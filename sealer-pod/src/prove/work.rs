//! Proves one partition: reads its sectors, each with a deadline, leaves out the bad ones, makes the
//! SNARK of the rest, verifies it. Everything in child processes.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use filstar_sealing::{
    Class, Hash32, HexBytes, Output, SealProof, Task,
    task::{ReadPartition, Replica, Skipped, VerifyWindowPoSt, WindowPartition},
};

use crate::{
    child::Starter,
    wire::{Failure, Request},
};

pub(crate) use filstar_sealing::post::partition::NOWHERE;

/// What a partition's proof is made of.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) actor: u64,
    pub(crate) proof_type: SealProof,
    pub(crate) randomness: Hash32,
    /// `CommR` by sector number.
    pub(crate) sectors: BTreeMap<u64, Hash32>,
}

/// What came out.
#[derive(Debug)]
pub(crate) struct Done {
    /// The proof, verified; or why there is none.
    pub(crate) proof: Result<Vec<u8>, Failure>,
    pub(crate) proven: usize,
    pub(crate) skipped: Vec<Skipped>,
}

/// What proving needs of its surroundings.
#[derive(Clone, Debug)]
pub(crate) struct Prover {
    pub(crate) starter: Starter,
    /// Stores, each under its name.
    pub(crate) stores: PathBuf,
    pub(crate) read_timeout: Duration,
    /// Sectors read at once.
    pub(crate) readers: usize,
    /// Folder for the vanilla proofs of a partition.
    pub(crate) tmp: PathBuf,
}

/// What could be read of a partition.
#[derive(Debug)]
struct Read {
    good: Vec<Replica>,
    skipped: Vec<Skipped>,
}

/// The file of a partition's vanilla proofs, removed when nobody needs it any more.
#[derive(Debug)]
struct ProofsFile(PathBuf);

impl ProofsFile {
    fn new(tmp: &Path) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(tmp.join(format!("partition-{number}.vanilla")))
    }
}

impl Drop for ProofsFile {
    fn drop(&mut self) {
        // It may not be there; what a killed process leaves behind, the next one writes over.
        drop(std::fs::remove_file(&self.0));
    }
}

impl Prover {
    /// Reads, proves, verifies.
    pub(crate) async fn prove(&self, job: &Job) -> Done {
        let file = ProofsFile::new(&self.tmp);
        let read = match self.read(job, &file).await {
            Ok(read) => read,
            Err(failure) => {
                return Done {
                    proof: Err(failure),
                    proven: 0,
                    skipped: Vec::new(),
                };
            }
        };
        let proven = read.good.len();
        let proof = self.snark(job, read.good, &file).await;
        Done {
            proof,
            proven,
            skipped: read.skipped,
        }
    }

    /// Reads all sectors, each with the deadline, and keeps the proofs of the good ones in a file.
    ///
    /// # Errors
    /// When nothing could be read at all; a bad sector is no error.
    async fn read(&self, job: &Job, file: &ProofsFile) -> Result<Read, Failure> {
        let replica = |(number, comm_r): (&u64, &Hash32)| Replica {
            number: *number,
            comm_r: *comm_r,
        };
        let task = Task::ReadPartition(ReadPartition {
            proof_type: job.proof_type,
            actor: job.actor,
            randomness: job.randomness,
            sectors: job.sectors.iter().map(replica).collect(),
            stores: self.stores.clone(),
            readers: self.readers,
            deadline_millis: u64::try_from(self.read_timeout.as_millis()).unwrap_or(u64::MAX),
            file: file.0.clone(),
        });
        let output = self.run(task).await?;
        let Output::ReadPartition(output) = output else {
            return Err(unexpected(&output));
        };
        let good = job.sectors.iter().map(replica);
        let good = good.filter(|r| output.good.contains(&r.number)).collect();
        Ok(Read {
            good,
            skipped: output.skipped,
        })
    }

    /// Reads each sector as a proof would, and says which cannot be read.
    pub(crate) async fn readable(&self, job: &Job) -> Vec<(u64, Result<(), Failure>)> {
        let numbers: Vec<_> = job.sectors.keys().copied().collect();
        let mut results = Vec::new();
        for chunk in numbers.chunks(job.proof_type.window_partition_sectors().max(1)) {
            let sectors = job.sectors.iter().filter(|(n, _)| chunk.contains(n));
            let part = Job {
                sectors: sectors.map(|(n, r)| (*n, *r)).collect(),
                ..job.clone()
            };
            match self.read(&part, &ProofsFile::new(&self.tmp)).await {
                Ok(read) => {
                    results.extend(read.good.iter().map(|r| (r.number, Ok(()))));
                    let failure = |s: Skipped| (s.number, Err(Failure::new(s.class, s.reason)));
                    results.extend(read.skipped.into_iter().map(failure));
                }
                Err(e) => results.extend(chunk.iter().map(|n| (*n, Err(e.clone())))),
            }
        }
        results
    }

    async fn snark(
        &self,
        job: &Job,
        good: Vec<Replica>,
        file: &ProofsFile,
    ) -> Result<Vec<u8>, Failure> {
        if good.is_empty() {
            return Err(Failure::new(
                Class::Temporary,
                "no sector of the partition can be read",
            ));
        }
        let task = Task::WindowPartition(WindowPartition {
            proof_type: job.proof_type,
            actor: job.actor,
            randomness: job.randomness,
            file: file.0.clone(),
        });
        let output = self.run(task).await?;
        let Output::Proof(output) = output else {
            return Err(unexpected(&output));
        };
        self.verify(job, good, &output.proof).await?;
        Ok(output.proof.0)
    }

    /// Verifies a proof.
    ///
    /// # Errors
    /// `Permanent` when it does not hold, else why it could not be verified.
    pub(crate) async fn verify(
        &self,
        job: &Job,
        sectors: Vec<Replica>,
        proof: &HexBytes,
    ) -> Result<(), Failure> {
        let task = Task::VerifyWindowPoSt(VerifyWindowPoSt {
            proof_type: job.proof_type,
            actor: job.actor,
            randomness: job.randomness,
            sectors,
            proof: proof.clone(),
        });
        if matches!(self.run(task).await?, Output::Verified(o) if o.valid) {
            return Ok(());
        }
        Err(Failure::new(
            Class::Permanent,
            "the proof does not verify: a replica is not the one on chain, or parameters do not fit \
             (sealer-pod params --check --full)",
        ))
    }

    async fn run(&self, task: Task) -> Result<Output, Failure> {
        self.starter
            .run(
                &Request {
                    task,
                    from_scratch: false,
                },
                |_| {},
            )
            .await
    }
}

fn unexpected(output: &Output) -> Failure {
    Failure::new(Class::Fatal, format!("another output came: {output:?}"))
}
