//! Proves one partition: reads each sector with a deadline, leaves out the bad ones, makes the SNARK
//! of the rest, verifies it. Everything in child processes.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use filstar_crds::SkippedSector;
use filstar_sealing::{
    Class, Hash32, HexBytes, Output, Place, SealProof, SectorId, Task,
    task::{Replica, VanillaProof, VerifyWindowPoSt, WindowPartition},
};
use futures::{StreamExt, stream};

use crate::{
    child::Starter,
    wire::{Failure, Request},
};

/// Longest reason that the API takes.
const MAX_REASON_CHARS: usize = 500;

/// Why a sector is left out that no store has.
pub(crate) const NOWHERE: &str = "the sector is in no store that this pod mounts";

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
    pub(crate) skipped: Vec<SkippedSector>,
    pub(crate) classes: Vec<Class>,
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
}

impl Prover {
    /// Reads, proves, verifies.
    pub(crate) async fn prove(&self, job: &Job) -> Done {
        let mut reads: Vec<_> = stream::iter(&job.sectors)
            .map(|(number, comm_r)| async { (*number, self.read(job, *number, *comm_r).await) })
            .buffer_unordered(self.readers.max(1))
            .collect()
            .await;
        reads.sort_by_key(|(number, _)| *number);
        let (mut good, mut vanilla) = (Vec::new(), Vec::new());
        let (mut skipped, mut classes) = (Vec::new(), Vec::new());
        for (number, read) in reads {
            match read {
                Ok(proof) => {
                    let comm_r = job.sectors[&number];
                    good.push(Replica { number, comm_r });
                    vanilla.push(proof);
                }
                Err(failure) => {
                    tracing::error!(sector = number, %failure, "left out of the proof");
                    classes.push(failure.class);
                    skipped.push(skip(number, &failure));
                }
            }
        }
        let proven = good.len();
        let proof = self.snark(job, good, vanilla).await;
        Done {
            proof,
            proven,
            skipped,
            classes,
        }
    }

    /// Reads each sector as a proof would, and says which cannot be read.
    pub(crate) async fn readable(&self, job: &Job) -> Vec<(u64, Result<(), Failure>)> {
        let sectors: Vec<_> = job.sectors.iter().map(|(n, r)| (*n, *r)).collect();
        stream::iter(sectors)
            .map(|(number, comm_r)| async move {
                let read = self.read(job, number, comm_r).await;
                (number, read.map(drop))
            })
            .buffer_unordered(self.readers.max(1))
            .collect()
            .await
    }

    /// Whether any of these sectors, which no store had, is in one now.
    pub(crate) async fn appeared(&self, actor: u64, numbers: Vec<u64>) -> bool {
        if numbers.is_empty() {
            return false;
        }
        let stores = self.stores.clone();
        let looking = tokio::task::spawn_blocking(move || {
            numbers
                .iter()
                .any(|n| find(&stores, SectorId { actor, number: *n }).is_some())
        });
        matches!(
            tokio::time::timeout(self.read_timeout, looking).await,
            Ok(Ok(true))
        )
    }

    /// Whether a proof holds; a proof that cannot be checked does not.
    pub(crate) async fn holds(&self, job: &Job, sectors: Vec<Replica>, proof: Vec<u8>) -> bool {
        self.verify(job, sectors, &HexBytes(proof)).await.is_ok()
    }

    async fn read(&self, job: &Job, number: u64, comm_r: Hash32) -> Result<HexBytes, Failure> {
        // Finding touches the file system too, and a hanging mount would hang us: so in a thread.
        let (stores, sector) = (
            self.stores.clone(),
            SectorId {
                actor: job.actor,
                number,
            },
        );
        let root = tokio::task::spawn_blocking(move || find(&stores, sector));
        let reading = async {
            let root = root.await.ok().flatten();
            let root = root.ok_or_else(|| Failure::new(Class::Temporary, NOWHERE))?;
            let (proof, randomness) = (job.proof_type, job.randomness);
            let place = Place {
                sector,
                proof,
                root,
            };
            let task = Task::VanillaProof(VanillaProof {
                place,
                comm_r,
                randomness,
            });
            self.proof(task).await
        };
        tokio::time::timeout(self.read_timeout, reading)
            .await
            .unwrap_or_else(|_elapsed| {
                let text = format!("its store did not answer within {:?}", self.read_timeout);
                Err(Failure::new(Class::Temporary, text))
            })
    }

    async fn snark(
        &self,
        job: &Job,
        good: Vec<Replica>,
        vanilla_proofs: Vec<HexBytes>,
    ) -> Result<Vec<u8>, Failure> {
        if good.is_empty() {
            return Err(Failure::new(
                Class::Temporary,
                "no sector of the partition can be read",
            ));
        }
        let proof = self
            .proof(Task::WindowPartition(WindowPartition {
                proof_type: job.proof_type,
                actor: job.actor,
                randomness: job.randomness,
                vanilla_proofs,
            }))
            .await?;
        self.verify(job, good, &proof).await?;
        Ok(proof.0)
    }

    async fn proof(&self, task: Task) -> Result<HexBytes, Failure> {
        let output = self.run(task).await?;
        if let Output::Proof(o) = output {
            return Ok(o.proof);
        }
        let text = format!("another output came: {output:?}");
        Err(Failure::new(Class::Fatal, text))
    }

    async fn verify(
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

/// The store that has a sector; none when it is nowhere.
fn find(stores: &Path, sector: SectorId) -> Option<PathBuf> {
    let entries = std::fs::read_dir(stores).ok()?;
    let mut roots: Vec<_> = entries.filter_map(Result::ok).map(|e| e.path()).collect();
    roots.sort();
    // The replica gets its name last when a sector lands.
    roots
        .into_iter()
        .find(|root| root.join("sealed").join(sector.to_string()).is_file())
}

fn skip(number: u64, failure: &Failure) -> SkippedSector {
    let number = i64::try_from(number).unwrap_or(i64::MAX);
    SkippedSector {
        number,
        reason: failure.message.chars().take(MAX_REASON_CHARS).collect(),
    }
}
