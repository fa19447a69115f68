//! Our engine: our own kernels where there are some, the reference library for the rest.

mod pc1;
mod pc2;
mod tree_d;
mod unseal;

pub use filstar_kernels::{
    memory::{Buffer, Pages},
    pool::{self, Pool},
};
pub(crate) use pc2::shape;
pub use tree_d::ensure as tree_d;

use std::{num::NonZeroUsize, path::PathBuf, thread};

use filstar_kernels::{poseidon::Kernel, sdr};
use storage_proofs_core::settings::SETTINGS;

use crate::{
    engine::{Commitments, Data, Engine, Labelled, SealJob, UnsealJob},
    error::{Error, Result},
    hash::Hash32,
    stock::Stock,
    task::{VerifySeal, VerifyWindowPoSt, WindowPartition},
};

/// Our kernels; what they do not do yet, the reference library does.
#[derive(Clone, Debug)]
pub struct Own {
    /// Threads that hash.
    pub threads: NonZeroUsize,
    /// What hashes the trees of PC2.
    pub poseidon: Kernel,
    /// What labels layers.
    pub labels: sdr::Kernel,
    /// The best pages to ask for.
    pub pages: Pages,
    /// Folder of parents files.
    pub parents: PathBuf,
    /// Whom PC1 asks for memory of layers; nobody when it is none.
    pub pool: Option<Pool>,
}

impl Default for Own {
    /// All CPUs that this process may use, the fastest kernels and largest pages that there are,
    /// parents files where the reference library has them, and no pool.
    fn default() -> Self {
        Self {
            threads: thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            poseidon: Kernel::best(),
            labels: sdr::Kernel::best(),
            pages: Pages::Gigantic,
            parents: SETTINGS.parent_cache.clone().into(),
            pool: None,
        }
    }
}

impl Engine for Own {
    fn name(&self) -> &'static str {
        "filstar"
    }

    fn pc1(&self, job: &SealJob<'_>, data: Data) -> Result<Labelled> {
        let mut labelled = self.pc1_together(&[*job], data)?;
        labelled
            .pop()
            .ok_or_else(|| Error::Setup("PC1 of one sector made none".to_owned()))
    }

    fn shares_cores(&self) -> bool {
        true
    }

    fn pc1_together(&self, jobs: &[SealJob<'_>], data: Data) -> Result<Vec<Labelled>> {
        pc1::run(self, jobs, data)
    }

    fn keeps_digests(&self) -> bool {
        true
    }

    fn pc2(&self, job: &SealJob<'_>, comm_d: Hash32) -> Result<Hash32> {
        pc2::run(self, job, comm_d)
    }

    fn c1(&self, job: &SealJob<'_>, sealed: &Commitments, seed: Hash32) -> Result<Vec<u8>> {
        Stock.c1(job, sealed, seed)
    }

    fn unseal(&self, job: &UnsealJob<'_>) -> Result<Option<(PathBuf, [u8; 32])>> {
        unseal::run(self, job)
    }

    fn verify_seal(&self, input: &VerifySeal) -> Result<bool> {
        Stock.verify_seal(input)
    }

    fn window_partition(&self, input: &WindowPartition, vanilla: &[Vec<u8>]) -> Result<Vec<u8>> {
        Stock.window_partition(input, vanilla)
    }

    fn verify_window_post(&self, input: &VerifyWindowPoSt) -> Result<bool> {
        Stock.verify_window_post(input)
    }
}
