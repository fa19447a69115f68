//! Tasks: what a caller may ask for, as data that travels as JSON.
//!
//! Each task has an input and an output. Running the same input twice gives the same output.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{
    error::Class,
    hash::{Hash32, HexBytes},
    ledger::FileFact,
    proof::SealProof,
    sector::{Place, SectorId},
};

/// Any task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "task", content = "input", rename_all = "camelCase")]
pub enum Task {
    /// Makes the data of a sector.
    AddPiece(AddPiece),
    /// Labels the layers.
    Pc1(Pc1),
    /// Builds the trees and the replica.
    Pc2(Pc2),
    /// Makes the vanilla proofs of the seal.
    C1(C1),
    /// Makes the SNARK of the seal.
    C2(C2),
    /// Removes what only sealing needed.
    Finalize(Finalize),
    /// Moves a finished sector to a store.
    Land(Land),
    /// Takes the data out of a replica.
    Unseal(Unseal),
    /// Removes all files of a sector.
    Remove(Remove),
    /// Looks for files of sectors in a store, or removes them.
    Sweep(Sweep),
    /// Verifies a seal.
    VerifySeal(VerifySeal),
    /// Reads one sector for window `PoSt`.
    VanillaProof(VanillaProof),
    /// Reads all sectors of a window `PoSt` partition that can be read.
    ReadPartition(ReadPartition),
    /// Makes the SNARK of one window `PoSt` partition.
    WindowPartition(WindowPartition),
    /// Verifies a window `PoSt`.
    VerifyWindowPoSt(VerifyWindowPoSt),
}

impl Task {
    /// Its name in logs and metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::AddPiece(_) => "AddPiece",
            Self::Pc1(_) => "PC1",
            Self::Pc2(_) => "PC2",
            Self::C1(_) => "C1",
            Self::C2(_) => "C2",
            Self::Finalize(_) => "Finalize",
            Self::Land(_) => "Land",
            Self::Unseal(_) => "Unseal",
            Self::Remove(_) => "Remove",
            Self::Sweep(_) => "Sweep",
            Self::VerifySeal(_) => "VerifySeal",
            Self::VanillaProof(_) => "VanillaProof",
            Self::ReadPartition(_) => "ReadPartition",
            Self::WindowPartition(_) => "WindowPartition",
            Self::VerifyWindowPoSt(_) => "VerifyWindowPoSt",
        }
    }

    /// The sector in scratch whose files it changes.
    pub const fn scratch(&self) -> Option<&Place> {
        match self {
            Self::AddPiece(t) => Some(&t.place),
            Self::Pc1(t) => Some(&t.place),
            Self::Pc2(t) => Some(&t.place),
            Self::C1(t) => Some(&t.place),
            Self::C2(t) => Some(&t.place),
            Self::Finalize(t) => Some(&t.place),
            Self::Land(t) => Some(&t.place),
            Self::Unseal(t) => Some(&t.place),
            Self::Remove(t) => Some(&t.place),
            Self::Sweep(_)
            | Self::VerifySeal(_)
            | Self::VanillaProof(_)
            | Self::ReadPartition(_)
            | Self::WindowPartition(_)
            | Self::VerifyWindowPoSt(_) => None,
        }
    }
}

/// What a task gives back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "task", content = "output", rename_all = "camelCase")]
pub enum Output {
    /// Of [`Task::AddPiece`].
    AddPiece(AddPieceOutput),
    /// Of [`Task::Pc1`].
    Pc1(Pc1Output),
    /// Of [`Task::Pc2`].
    Pc2(Pc2Output),
    /// Of [`Task::C1`].
    C1(C1Output),
    /// Of [`Task::C2`].
    C2(C2Output),
    /// Of [`Task::Finalize`].
    Finalize(FinalizeOutput),
    /// Of [`Task::Land`].
    Land(LandOutput),
    /// Of [`Task::Unseal`].
    Unseal(UnsealOutput),
    /// Of [`Task::Remove`].
    Remove(RemoveOutput),
    /// Of [`Task::Sweep`].
    Sweep(SweepOutput),
    /// Of the two that verify.
    Verified(VerifiedOutput),
    /// Of [`Task::VanillaProof`] and [`Task::WindowPartition`].
    Proof(ProofOutput),
    /// Of [`Task::ReadPartition`].
    ReadPartition(ReadPartitionOutput),
}

/// A piece of data in a sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Piece {
    /// Its commitment (`CommP`).
    pub commitment: Hash32,
    /// Size with padding, bytes.
    pub padded_bytes: u64,
}

/// Makes the data of a sector: committed capacity, one piece of zeros.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddPiece {
    /// The sector in scratch.
    pub place: Place,
}

/// The pieces of a sector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AddPieceOutput {
    /// In order.
    pub pieces: Vec<Piece>,
    /// The commitment of all data.
    pub comm_d: Hash32,
}

/// Labels the layers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pc1 {
    /// The sector in scratch.
    pub place: Place,
    /// Randomness of the ticket epoch.
    pub ticket: Hash32,
}

/// What PC1 found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pc1Output {
    /// The commitment of the data.
    pub comm_d: Hash32,
    /// The id that the labels are made of.
    pub replica_id: Hash32,
}

/// Builds the trees and the replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pc2 {
    /// The sector in scratch.
    pub place: Place,
    /// The ticket that PC1 ran with.
    pub ticket: Hash32,
}

/// The commitments that go on chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pc2Output {
    /// Of the data.
    pub comm_d: Hash32,
    /// Of the replica.
    pub comm_r: Hash32,
}

/// Makes the vanilla proofs of the seal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct C1 {
    /// The sector in scratch.
    pub place: Place,
    /// The ticket that PC1 ran with.
    pub ticket: Hash32,
    /// Randomness of the seed epoch.
    pub seed: Hash32,
}

/// Where the vanilla proofs are; C2 finds them by the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct C1Output {
    /// The file, JSON.
    pub file: PathBuf,
}

/// Makes the SNARK of the seal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct C2 {
    /// The sector in scratch.
    pub place: Place,
    /// The ticket that PC1 ran with.
    pub ticket: Hash32,
    /// The seed that C1 ran with.
    pub seed: Hash32,
}

/// A proof that was verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct C2Output {
    /// 192 bytes per partition.
    pub proof: HexBytes,
    /// Of the data.
    pub comm_d: Hash32,
    /// Of the replica.
    pub comm_r: Hash32,
}

/// Removes what only sealing needed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finalize {
    /// The sector in scratch.
    pub place: Place,
    /// Whether the data stays too; pointless for committed capacity.
    #[serde(default)]
    pub keep_unsealed: bool,
}

/// What is left of the sector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinalizeOutput {
    /// Relative to the scratch folder.
    pub files: Vec<FileFact>,
}

/// Moves a finished sector to a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Land {
    /// The sector in scratch.
    pub place: Place,
    /// The store's folder.
    pub store: PathBuf,
    /// Written beside the replica, as they are.
    pub facts: Facts,
}

/// What is known of a sector once it is proven; a JSON file beside the replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// Of the replica.
    pub comm_r: Hash32,
    /// Of the data.
    pub comm_d: Hash32,
    /// The ticket of the seal.
    pub ticket: Hash32,
    /// Its epoch.
    pub ticket_epoch: i64,
    /// The pieces; none for committed capacity.
    #[serde(default)]
    pub pieces: Vec<Piece>,
}

/// Where the sector is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LandOutput {
    /// Relative to the store's folder.
    pub files: Vec<FileFact>,
}

/// Takes the data of a sector out of its replica; all of it, since all layers are needed for any part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unseal {
    /// The sector in scratch, where its layers are labelled again and its data comes.
    pub place: Place,
    /// The folder of the store that has the replica; it is in scratch when this is none.
    #[serde(default)]
    pub store: Option<PathBuf>,
    /// The ticket of the seal.
    pub ticket: Hash32,
    /// The commitment that the data must have, as in the seal.
    pub comm_d: Hash32,
}

/// The data of a sector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnsealOutput {
    /// The file, as large as the sector, with the bits that padding adds.
    pub file: PathBuf,
    /// Its commitment, the one that was asked for.
    pub comm_d: Hash32,
}

/// Removes all files of a sector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remove {
    /// The sector in scratch.
    pub place: Place,
}

/// What was removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveOutput {
    /// Files and folders that were there.
    pub removed: Vec<PathBuf>,
}

/// Looks for files of sectors in a store, or removes them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sweep {
    /// The store's folder.
    pub store: PathBuf,
    /// Whether the files are removed; otherwise they are only looked for.
    pub remove: bool,
    /// The sectors; files of others are left alone.
    pub sectors: Vec<SectorSet>,
    /// At most so many sectors, those with the smallest numbers.
    pub most: usize,
}

/// Sectors of one miner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SectorSet {
    /// The miner's actor id.
    pub actor: u64,
    /// Their numbers, as first and last of each range, in order.
    pub ranges: Vec<(u64, u64)>,
}

/// What was found, or removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepOutput {
    /// The sectors, in order.
    pub sectors: Vec<Swept>,
    /// Whether there are more than were wanted at most.
    pub more: bool,
    /// What cannot be removed, and what to do: the first such file.
    pub problem: Option<String>,
}

/// The files of one sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swept {
    /// Which sector.
    pub sector: SectorId,
    /// Sum of their sizes.
    pub bytes: u64,
}

/// Verifies a seal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VerifySeal {
    /// How the sector is sealed.
    pub proof_type: SealProof,
    /// The miner's actor id.
    pub actor: u64,
    /// The sector's number.
    pub number: u64,
    /// The ticket of the seal.
    pub ticket: Hash32,
    /// The seed of the seal.
    pub seed: Hash32,
    /// Of the data.
    pub comm_d: Hash32,
    /// Of the replica.
    pub comm_r: Hash32,
    /// The proof.
    pub proof: HexBytes,
}

/// Whether a proof holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifiedOutput {
    /// A damaged proof is `false` too.
    pub valid: bool,
}

/// Reads one sector for window `PoSt`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VanillaProof {
    /// The sector in its store.
    pub place: Place,
    /// Of the replica, as on chain.
    pub comm_r: Hash32,
    /// Randomness of the challenge epoch; it is cut to the field here.
    pub randomness: Hash32,
}

/// Reads all sectors of a window `PoSt` partition that can be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadPartition {
    /// How the sectors are sealed.
    pub proof_type: SealProof,
    /// The miner's actor id.
    pub actor: u64,
    /// Randomness of the challenge epoch.
    pub randomness: Hash32,
    /// The sectors, as on chain.
    pub sectors: Vec<Replica>,
    /// The folder that holds the stores.
    pub stores: PathBuf,
    /// Sectors read at once.
    pub readers: usize,
    /// Time that one sector may take, milliseconds.
    pub deadline_millis: u64,
    /// Where the proofs are written, for [`WindowPartition`]; a file that is there is replaced.
    pub file: PathBuf,
}

/// What could be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadPartitionOutput {
    /// Sectors whose proofs are in the file, by number.
    pub good: Vec<u64>,
    /// The others, by number.
    pub skipped: Vec<Skipped>,
}

/// A sector that is left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Its number.
    pub number: u64,
    /// What to do about it.
    pub class: Class,
    /// Why: which file, what is wrong.
    pub reason: String,
}

/// Makes the SNARK of one window `PoSt` partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WindowPartition {
    /// How the sectors are sealed.
    pub proof_type: SealProof,
    /// The miner's actor id.
    pub actor: u64,
    /// Randomness of the challenge epoch.
    pub randomness: Hash32,
    /// The file of [`ReadPartition`]; at most a partition full.
    pub file: PathBuf,
}

/// A proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProofOutput {
    /// Its bytes.
    pub proof: HexBytes,
}

/// Verifies a window `PoSt`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VerifyWindowPoSt {
    /// How the sectors are sealed.
    pub proof_type: SealProof,
    /// The miner's actor id.
    pub actor: u64,
    /// Randomness of the challenge epoch.
    pub randomness: Hash32,
    /// The proven sectors.
    pub sectors: Vec<Replica>,
    /// 192 bytes per partition.
    pub proof: HexBytes,
}

/// A sector as the chain knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Replica {
    /// The sector's number.
    pub number: u64,
    /// Of the replica.
    pub comm_r: Hash32,
}
