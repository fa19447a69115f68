//! Our engine: our own kernels where there are some, the reference library for the rest.

mod pc2;

use std::{num::NonZeroUsize, thread};

use filstar_kernels::poseidon::Kernel;

use crate::{
    engine::{Commitments, Data, Engine, SealJob},
    error::Result,
    hash::Hash32,
    sector::Place,
    stock::Stock,
    task::{VanillaProof, VerifySeal, VerifyWindowPoSt, WindowPartition},
};

/// Our kernels; what they do not do yet, the reference library does.
#[derive(Clone, Copy, Debug)]
pub struct Own {
    /// Threads that hash.
    pub threads: NonZeroUsize,
    /// What hashes the trees of PC2.
    pub poseidon: Kernel,
}

impl Default for Own {
    /// All CPUs that this process may use, and the fastest kernels that they have.
    fn default() -> Self {
        Self {
            threads: thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            poseidon: Kernel::best(),
        }
    }
}

impl Engine for Own {
    fn name(&self) -> &'static str {
        "filstar"
    }

    fn pc1(&self, job: &SealJob<'_>, data: Data) -> Result<Hash32> {
        Stock.pc1(job, data)
    }

    fn pc2(&self, job: &SealJob<'_>, comm_d: Hash32) -> Result<Hash32> {
        pc2::run(self, job, comm_d)
    }

    fn c1(&self, job: &SealJob<'_>, sealed: &Commitments, seed: Hash32) -> Result<Vec<u8>> {
        Stock.c1(job, sealed, seed)
    }

    fn c2(&self, place: &Place, c1: &[u8]) -> Result<Vec<u8>> {
        Stock.c2(place, c1)
    }

    fn verify_seal(&self, input: &VerifySeal) -> Result<bool> {
        Stock.verify_seal(input)
    }

    fn vanilla_proof(&self, input: &VanillaProof) -> Result<Vec<u8>> {
        Stock.vanilla_proof(input)
    }

    fn window_partition(&self, input: &WindowPartition) -> Result<Vec<u8>> {
        Stock.window_partition(input)
    }

    fn verify_window_post(&self, input: &VerifyWindowPoSt) -> Result<bool> {
        Stock.verify_window_post(input)
    }
}
