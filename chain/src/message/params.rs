//! The miner actor's methods: numbers, parameters and returns, as CBOR tuples of actors version 18.
//!
//! Never: the actors' own types. Tests decode with those what is encoded here, so that a mistake shows.
//! Source: builtin-actors v18.0.0 `actors/miner/src/types.rs`; the order of fields is the order on chain.

use fvm_ipld_bitfield::BitField;
use fvm_ipld_encoding::{RawBytes, strict_bytes};
use fvm_shared::address::Address;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use super::{Error, decode};
use crate::types::{Cid, Epoch, PostProof, SealProof, SectorNumber};

/// Parameters of one method of the miner actor.
pub trait MinerParams: Serialize + DeserializeOwned {
    /// The method's number.
    const METHOD: u64;
    /// The method's name.
    const NAME: &'static str;

    /// The bytes that go into a message.
    ///
    /// # Errors
    /// [`Error::Encode`], Permanent: a bit field with too many runs.
    fn to_cbor(&self) -> Result<Vec<u8>, Error> {
        fvm_ipld_encoding::to_vec(self).map_err(|source| Error::Encode {
            what: Self::NAME,
            reason: source.to_string(),
        })
    }

    /// Reads the bytes of a message.
    ///
    /// # Errors
    /// [`Error::Decode`], Corrupt.
    fn from_cbor(bytes: &[u8]) -> Result<Self, Error> {
        decode(Self::NAME, bytes)
    }
}

/// The name of a method of the miner actor, for people.
pub fn method_name(method: u64) -> Option<&'static str> {
    let name = match method {
        SubmitWindowedPost::METHOD => SubmitWindowedPost::NAME,
        DeclareFaults::METHOD => DeclareFaults::NAME,
        DeclareFaultsRecovered::METHOD => DeclareFaultsRecovered::NAME,
        PreCommitSectorBatch2::METHOD => PreCommitSectorBatch2::NAME,
        ProveCommitSectors3::METHOD => ProveCommitSectors3::NAME,
        0 => "Send",
        9 => "TerminateSectors",
        16 => "WithdrawBalance",
        32 => "ExtendSectorExpiration2",
        35 => "ProveReplicaUpdates3",
        36 => "ProveCommitSectorsNI",
        _ => return None,
    };
    Some(name)
}

/// Method 28.
#[derive(Debug, Clone, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct PreCommitSectorBatch2 {
    /// One for each sector.
    pub sectors: Vec<SectorPreCommit>,
}

impl MinerParams for PreCommitSectorBatch2 {
    const METHOD: u64 = 28;
    const NAME: &'static str = "PreCommitSectorBatch2";
}

/// The pre-commit of one sector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct SectorPreCommit {
    /// How it is sealed.
    pub seal_proof: SealProof,
    /// The sector.
    pub sector_number: SectorNumber,
    /// CommR.
    pub sealed_cid: Cid,
    /// The epoch of the ticket.
    pub seal_rand_epoch: Epoch,
    /// Always empty: deals are activated by the prove-commit.
    pub deal_ids: Vec<u64>,
    /// When the sector shall end.
    pub expiration: Epoch,
    /// CommD; none for a sector without data.
    pub unsealed_cid: Option<Cid>,
}

/// Method 34.
#[derive(Debug, Clone, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct ProveCommitSectors3 {
    /// One for each sector.
    pub sector_activations: Vec<SectorActivation>,
    /// One proof for each sector; empty with an aggregate.
    pub sector_proofs: Vec<RawBytes>,
    /// One proof for all; empty with single proofs.
    pub aggregate_proof: RawBytes,
    /// 1 (`SnarkPackV2`) with an aggregate, else none.
    pub aggregate_proof_type: Option<i64>,
    /// Whether one sector that cannot be activated fails the whole message.
    pub require_activation_success: bool,
    /// Whether a notification that is refused fails the whole message.
    pub require_notification_success: bool,
}

impl MinerParams for ProveCommitSectors3 {
    const METHOD: u64 = 34;
    const NAME: &'static str = "ProveCommitSectors3";
}

impl ProveCommitSectors3 {
    /// Sectors without data, each with its own proof. A sector that fails does not fail the others.
    pub fn single_proofs(proofs: impl IntoIterator<Item = (SectorNumber, Vec<u8>)>) -> Self {
        let (sector_activations, sector_proofs) = proofs
            .into_iter()
            .map(|(sector_number, proof)| {
                (
                    SectorActivation {
                        sector_number,
                        pieces: Vec::new(),
                    },
                    RawBytes::new(proof),
                )
            })
            .unzip();
        Self {
            sector_activations,
            sector_proofs,
            aggregate_proof: RawBytes::default(),
            aggregate_proof_type: None,
            require_activation_success: false,
            require_notification_success: false,
        }
    }
}

/// What is in a sector that is proven.
#[derive(Debug, Clone, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct SectorActivation {
    /// The sector.
    pub sector_number: SectorNumber,
    /// Its pieces in order; none for a sector without data.
    pub pieces: Vec<PieceActivation>,
}

/// A piece in a sector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct PieceActivation {
    /// `CommP`.
    pub cid: Cid,
    /// Unit: bytes, padded: a power of two.
    pub padded_size: u64,
    /// The allocation that it uses.
    pub verified_allocation: Option<AllocationKey>,
    /// Who is told.
    pub notify: Vec<Notification>,
}

/// An allocation of verified data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct AllocationKey {
    /// The client's actor id.
    pub client: u64,
    /// The allocation's id.
    pub id: u64,
}

/// A notice to an actor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Notification {
    /// The actor.
    pub address: Address,
    /// What it is told.
    pub payload: RawBytes,
}

/// Method 5.
#[derive(Debug, Clone, PartialEq, Serialize_tuple, Deserialize_tuple)]
pub struct SubmitWindowedPost {
    /// The deadline.
    pub deadline: u64,
    /// The partitions that are proven.
    pub partitions: Vec<PostPartition>,
    /// Exactly one entry.
    pub proofs: Vec<PostProofBytes>,
    /// An epoch of this window before the current one.
    pub chain_commit_epoch: Epoch,
    /// The chain's randomness at that epoch (tag `PostChainCommit`, from tickets): 32 bytes.
    #[serde(with = "strict_bytes")]
    pub chain_commit_rand: Vec<u8>,
}

impl MinerParams for SubmitWindowedPost {
    const METHOD: u64 = 5;
    const NAME: &'static str = "SubmitWindowedPoSt";
}

/// A partition that is proven.
#[derive(Debug, Clone, PartialEq, Serialize_tuple, Deserialize_tuple)]
pub struct PostPartition {
    /// Its index in the deadline.
    pub index: u64,
    /// The sectors that are not proven; they become faulty.
    pub skipped: BitField,
}

/// A proof of spacetime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct PostProofBytes {
    /// The registered proof.
    pub proof: PostProof,
    /// 192 bytes for each partition of the SNARK.
    #[serde(with = "strict_bytes")]
    pub bytes: Vec<u8>,
}

/// Sectors of one partition.
#[derive(Debug, Clone, PartialEq, Serialize_tuple, Deserialize_tuple)]
pub struct PartitionSectors {
    /// The deadline.
    pub deadline: u64,
    /// The partition in it.
    pub partition: u64,
    /// The sectors.
    pub sectors: BitField,
}

/// Method 10.
#[derive(Debug, Clone, PartialEq, Serialize_tuple, Deserialize_tuple)]
pub struct DeclareFaults {
    /// By partition.
    pub faults: Vec<PartitionSectors>,
}

impl MinerParams for DeclareFaults {
    const METHOD: u64 = 10;
    const NAME: &'static str = "DeclareFaults";
}

/// Method 11.
#[derive(Debug, Clone, PartialEq, Serialize_tuple, Deserialize_tuple)]
pub struct DeclareFaultsRecovered {
    /// By partition.
    pub recoveries: Vec<PartitionSectors>,
}

impl MinerParams for DeclareFaultsRecovered {
    const METHOD: u64 = 11;
    const NAME: &'static str = "DeclareFaultsRecovered";
}

/// What method 34 returns: how the sectors of a batch fared, by their index in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct BatchReturn {
    /// How many succeeded.
    pub success_count: u32,
    /// Those that failed.
    pub failures: Vec<BatchFailure>,
}

/// One that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct BatchFailure {
    /// Its index in the batch.
    pub index: u32,
    /// Its exit code.
    pub exit_code: u32,
}

impl BatchReturn {
    /// Reads what a receipt returns.
    ///
    /// # Errors
    /// [`Error::Decode`], Corrupt.
    pub fn from_cbor(bytes: &[u8]) -> Result<Self, Error> {
        decode("a batch's return", bytes)
    }

    /// How many there were.
    pub fn len(&self) -> usize {
        let succeeded = usize::try_from(self.success_count).unwrap_or(usize::MAX);
        succeeded.saturating_add(self.failures.len())
    }

    /// Whether there were none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The exit code of the one at this index: 0 when it succeeded, none when there is no such index.
    pub fn exit_code(&self, index: usize) -> Option<u32> {
        let failure = self
            .failures
            .iter()
            .find(|failure| usize::try_from(failure.index).is_ok_and(|failed| failed == index));
        match failure {
            Some(failure) => Some(failure.exit_code),
            None if index < self.len() => Some(0),
            None => None,
        }
    }
}

/// Exit codes that our messages meet.
pub mod exit {
    /// The message did what it says.
    pub const OK: u32 = 0;

    /// What an exit code means, for people.
    pub fn meaning(code: u32) -> &'static str {
        match code {
            0 => "ok",
            1 => "the sender is not valid",
            2 => "the sender's state is not valid",
            6 => "the sender has not enough funds",
            7 => "out of gas",
            16 => "the actor refuses the arguments",
            17 => "not found",
            18 => "the sender may not call this",
            19 => "not enough funds",
            20 => "the actor's state does not allow it",
            21 => "the parameters cannot be read",
            22 => "no such method",
            _ => "failed",
        }
    }
}

/// Reads a bare value as actors write it. For values that are no tuple.
///
/// # Errors
/// [`Error::Decode`], Corrupt.
pub fn from_cbor<T: for<'de> Deserialize<'de>>(
    what: &'static str,
    bytes: &[u8],
) -> Result<T, Error> {
    decode(what, bytes)
}
