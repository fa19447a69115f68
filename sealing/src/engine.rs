//! The engine: the computations themselves, on files that are already in order.
//!
//! What surrounds them (checking, restoring, recording) is in [`crate::steps`] and the same for
//! every engine. An engine works on the files of a [`Place`], keeps nothing between calls and may
//! be called again after any failure.

use std::{
    fmt::{self, Debug},
    path::{Path, PathBuf},
};

use filstar_kernels::trees::LayerSums;

use crate::{
    error::Result,
    hash::Hash32,
    sector::Place,
    steps::Progress,
    task::{Piece, Replica, VerifySeal, VerifyWindowPoSt, WindowPartition},
};

/// One implementation of the computations.
pub trait Engine: Debug + Send + Sync {
    /// Its name, for logs and status.
    fn name(&self) -> &'static str;

    /// Copies the data to the replica, builds tree-d where there is none, labels all layers.
    ///
    /// Layers that are in the cache folder are built upon: see [`Engine::keeps_digests`].
    ///
    /// # Errors
    /// When the library or the file system fails.
    fn pc1(&self, job: &SealJob<'_>, data: Data) -> Result<Labelled>;

    /// Whether it can label two or four sectors in lock step on one core.
    fn shares_cores(&self) -> bool {
        false
    }

    /// PC1 of one sector, or as many of one proof type as [`Engine::shares_cores`] allows, in lock step.
    ///
    /// # Errors
    /// As [`Engine::pc1`]; what is on disk then is good for the next attempt of each.
    fn pc1_together(&self, jobs: &[SealJob<'_>], data: Data) -> Result<Vec<Labelled>> {
        jobs.iter().map(|job| self.pc1(job, data)).collect()
    }

    /// Whether it writes digests beside the layers and believes no layer that has another, so that
    /// what an earlier attempt left behind is safe to leave to it.
    fn keeps_digests(&self) -> bool {
        false
    }

    /// Builds tree-c, encodes the replica in place, builds tree-r-last. Returns `CommR`.
    ///
    /// # Errors
    /// When the library or the file system fails; the replica is then half encoded.
    fn pc2(&self, job: &SealJob<'_>, comm_d: Hash32) -> Result<Hash32>;

    /// Makes and verifies the vanilla proofs of the seal; JSON.
    ///
    /// # Errors
    /// When a file is damaged, or the library or the file system fails.
    fn c1(&self, job: &SealJob<'_>, sealed: &Commitments, seed: Hash32) -> Result<Vec<u8>>;

    /// Labels the layers again and writes the data that the replica was made from; nobody has compared it with
    /// `CommD` then. Layers that are in the folder are built upon: see [`Engine::keeps_digests`].
    ///
    /// Returns the layer that it decoded with and its SHA-256, where that is known since it was written.
    ///
    /// # Errors
    /// When a file is damaged, or the library or the file system fails.
    fn unseal(&self, job: &UnsealJob<'_>) -> Result<Option<(PathBuf, [u8; 32])>>;

    /// Verifies a seal; a damaged proof is `false`.
    ///
    /// # Errors
    /// When parameters are missing.
    fn verify_seal(&self, input: &VerifySeal) -> Result<bool>;

    /// Makes the SNARK of one window `PoSt` partition from the vanilla proofs of its sectors.
    ///
    /// # Errors
    /// When parameters are missing, or the library fails.
    fn window_partition(&self, input: &WindowPartition, vanilla: &[Vec<u8>]) -> Result<Vec<u8>>;

    /// Verifies a window `PoSt`; a damaged proof is `false`.
    ///
    /// # Errors
    /// When parameters are missing.
    fn verify_window_post(&self, input: &VerifyWindowPoSt) -> Result<bool>;
}

/// What the steps of one seal have in common.
#[derive(Clone, Copy)]
pub struct SealJob<'a> {
    /// The sector and its files.
    pub place: &'a Place,
    /// The ticket.
    pub ticket: Hash32,
    /// The pieces, in order.
    pub pieces: &'a [Piece],
    /// What the layers were when PC2 checked their digests, the first first; empty where nobody did.
    pub sums: &'a [LayerSums],
    /// Told now and then, by any thread, how far this computation is.
    pub progress: &'a (dyn Fn(Progress) + Sync),
}

impl fmt::Debug for SealJob<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealJob")
            .field("place", &self.place)
            .field("ticket", &self.ticket)
            .field("pieces", &self.pieces)
            .finish_non_exhaustive()
    }
}

/// What is unsealed, and where.
#[derive(Clone, Copy)]
pub struct UnsealJob<'a> {
    /// The sector; which of its files count is said below.
    pub place: &'a Place,
    /// The replica; it is only read.
    pub replica: &'a Path,
    /// The folder of the layers.
    pub layers: &'a Path,
    /// The file to write, in place of what is there.
    pub data: &'a Path,
    /// The ticket of the seal.
    pub ticket: Hash32,
    /// The commitment of the data in the seal.
    pub comm_d: Hash32,
    /// Told now and then, by any thread, how far this computation is.
    pub progress: &'a (dyn Fn(Progress) + Sync),
}

impl fmt::Debug for UnsealJob<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnsealJob")
            .field("place", &self.place)
            .field("replica", &self.replica)
            .field("layers", &self.layers)
            .field("data", &self.data)
            .finish_non_exhaustive()
    }
}

/// What PC1 made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labelled {
    /// The commitment of the data.
    pub comm_d: Hash32,
    /// SHA-256 of files, where it is known since they were written.
    pub digests: Vec<(PathBuf, [u8; 32])>,
}

/// Where the data of a sector comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// Committed capacity: zeros, no file is read.
    Zeros,
    /// The unsealed file.
    Unsealed,
}

/// The two commitments of a sealed sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commitments {
    /// Of the data.
    pub comm_d: Hash32,
    /// Of the replica.
    pub comm_r: Hash32,
}

/// The published sector numbers and commitments in the order that verification needs.
pub(crate) fn by_number(sectors: &[Replica]) -> Vec<Replica> {
    let mut sorted = sectors.to_vec();
    sorted.sort_by_key(|r| r.number);
    sorted.dedup_by_key(|r| r.number);
    sorted
}
