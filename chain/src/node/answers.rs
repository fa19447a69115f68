//! What the methods answer, as types. Field names are lotus's; fields that we do not use are left out.
//!
//! Source: lotus `api/api_full.go` and its `OpenRPC` document, 2026-08.

use cid::Cid;
use fvm_ipld_bitfield::BitField;
use fvm_shared::address::Address;
use serde::{Deserialize, Serialize};

use crate::message::SignedMessage;
use crate::types::{AttoFil, Epoch, Power, SealProof, SectorNumber, TipSetKey, bitfield, json};

/// A tipset: the blocks of one epoch with the same parents.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TipSet {
    /// The CIDs of its blocks.
    #[serde(rename = "Cids")]
    pub key: TipSetKey,
    /// Its blocks, in the order of the key.
    #[serde(deserialize_with = "json::list::deserialize")]
    pub blocks: Vec<BlockHeader>,
    /// Its epoch.
    pub height: Epoch,
}

impl TipSet {
    /// The base fee that its own messages pay; at least the network's minimum.
    pub fn base_fee(&self) -> AttoFil {
        self.blocks
            .first()
            .map(|block| block.parent_base_fee.clone())
            .unwrap_or_default()
    }

    /// When it was made. Unit: seconds since 1970.
    pub fn timestamp(&self) -> u64 {
        self.blocks
            .iter()
            .map(|block| block.timestamp)
            .min()
            .unwrap_or_default()
    }

    /// The key of its parent.
    pub fn parents(&self) -> TipSetKey {
        self.blocks
            .first()
            .map(|block| block.parents.clone())
            .unwrap_or_default()
    }
}

/// The header of one block.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct BlockHeader {
    /// Who made it.
    #[serde(deserialize_with = "json::address::deserialize")]
    pub miner: Address,
    /// Its epoch.
    pub height: Epoch,
    /// The key of the parent tipset.
    pub parents: TipSetKey,
    /// The state before its messages.
    #[serde(with = "json::cid_link")]
    pub parent_state_root: Cid,
    /// When it was made. Unit: seconds since 1970.
    pub timestamp: u64,
    /// The base fee that its messages pay.
    pub parent_base_fee: AttoFil,
}

/// `StateGetNetworkParams`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkParams {
    /// The network's name.
    pub network_name: String,
    /// The length of an epoch. Unit: seconds.
    pub block_delay_secs: u64,
    /// From pre-commit to the seed. Unit: epochs.
    pub pre_commit_challenge_delay: i64,
    /// When the chain began. Unit: seconds since 1970; 0 when the node does not tell.
    #[serde(default)]
    pub genesis_timestamp: u64,
}

/// `Version`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NodeVersion {
    /// Program and version.
    pub version: String,
    /// The version of the API, as lotus packs it.
    #[serde(rename = "APIVersion")]
    pub api_version: u64,
    /// The length of an epoch. Unit: seconds.
    #[serde(default)]
    pub block_delay: u64,
}

/// `StateMinerInfo`. The addresses are ids; `StateAccountKey` gives the keys.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct MinerInfo {
    /// Who owns the actor.
    #[serde(deserialize_with = "json::address::deserialize")]
    pub owner: Address,
    /// Who runs it; a BLS key.
    #[serde(deserialize_with = "json::address::deserialize")]
    pub worker: Address,
    /// The worker to be.
    #[serde(default, deserialize_with = "json::address_option::deserialize")]
    pub new_worker: Option<Address>,
    /// Who else may send its messages.
    #[serde(default, deserialize_with = "json::addresses::deserialize")]
    pub control_addresses: Vec<Address>,
    /// The registered number of its window proof.
    #[serde(rename = "WindowPoStProofType")]
    pub window_post_proof_type: crate::types::PostProof,
    /// Unit: bytes.
    pub sector_size: u64,
    /// How many sectors a partition holds.
    #[serde(rename = "WindowPoStPartitionSectors")]
    pub window_post_partition_sectors: u64,
    /// Who gets what it earns.
    #[serde(default, deserialize_with = "json::address_option::deserialize")]
    pub beneficiary: Option<Address>,
}

impl MinerInfo {
    /// Whether this id address may send the miner's messages.
    pub fn may_send(&self, id: &Address) -> bool {
        *id == self.owner || *id == self.worker || self.control_addresses.contains(id)
    }
}

/// Raw and quality-adjusted power.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Claim {
    /// Unit: bytes.
    pub raw_byte_power: Power,
    /// Unit: bytes times quality.
    pub quality_adj_power: Power,
}

/// `StateMinerPower`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct MinerPower {
    /// The miner's.
    pub miner_power: Claim,
    /// The whole network's.
    pub total_power: Claim,
    /// Whether the miner may win blocks.
    pub has_min_power: bool,
}

/// One entry of `StateMinerDeadlines`; the index in the list is the deadline's.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Deadline {
    /// The partitions already proven in the current window.
    #[serde(with = "bitfield")]
    pub post_submissions: BitField,
    /// How many proofs can be disputed.
    #[serde(default)]
    pub disputable_proof_count: u64,
}

/// One entry of `StateMinerPartitions`; the index in the list is the partition's.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Partition {
    /// Every sector that ever was in it.
    #[serde(with = "bitfield")]
    pub all_sectors: BitField,
    /// Faulty, recovering ones included.
    #[serde(with = "bitfield")]
    pub faulty_sectors: BitField,
    /// Faulty, with a declared recovery.
    #[serde(with = "bitfield")]
    pub recovering_sectors: BitField,
    /// Not terminated.
    #[serde(with = "bitfield")]
    pub live_sectors: BitField,
    /// Live and not faulty.
    #[serde(with = "bitfield")]
    pub active_sectors: BitField,
}

/// `StateSectorGetInfo`, and the entries of `StateMinerSectors`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SectorOnChainInfo {
    /// The sector.
    pub sector_number: SectorNumber,
    /// How it is sealed.
    pub seal_proof: SealProof,
    /// CommR.
    #[serde(rename = "SealedCID", with = "json::cid_link")]
    pub sealed_cid: Cid,
    /// When it was proven first.
    pub activation: Epoch,
    /// When it ends. May lag behind: the truth is `StateSectorExpiration`.
    pub expiration: Epoch,
    /// What is locked for it.
    pub initial_pledge: AttoFil,
    /// CommR of the replica before a snap, if there was one.
    #[serde(default, rename = "SectorKeyCID", with = "json::cid_link_option")]
    pub sector_key_cid: Option<Cid>,
    /// What it costs a day.
    #[serde(default)]
    pub daily_fee: AttoFil,
}

/// A pre-commit, as nodes write it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PreCommitInfo {
    /// How it is sealed.
    pub seal_proof: SealProof,
    /// The sector.
    pub sector_number: SectorNumber,
    /// CommR.
    #[serde(rename = "SealedCID", with = "json::cid_link")]
    pub sealed_cid: Cid,
    /// The epoch of the ticket.
    pub seal_rand_epoch: Epoch,
    /// Always empty since deals are activated by the prove-commit.
    #[serde(
        default,
        rename = "DealIDs",
        deserialize_with = "json::list::deserialize"
    )]
    pub deal_ids: Vec<u64>,
    /// When the sector shall end.
    pub expiration: Epoch,
    /// CommD; none for a sector without data.
    #[serde(default, rename = "UnsealedCid", with = "json::cid_link_option")]
    pub unsealed_cid: Option<Cid>,
}

/// `StateSectorPreCommitInfo`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PreCommitOnChainInfo {
    /// What was pre-committed.
    pub info: PreCommitInfo,
    /// What is locked until the proof.
    pub pre_commit_deposit: AttoFil,
    /// When it landed.
    pub pre_commit_epoch: Epoch,
}

/// `StateSectorExpiration`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SectorExpiration {
    /// When it ends.
    pub on_time: Epoch,
    /// When it ends because it is faulty; 0 when it is not.
    pub early: Epoch,
}

/// `StateSectorPartition`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SectorLocation {
    /// The deadline.
    pub deadline: u64,
    /// The partition in it.
    pub partition: u64,
}

/// `StateGetActor`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Actor {
    /// What it is.
    #[serde(with = "json::cid_link")]
    pub code: Cid,
    /// The first nonce that has not landed.
    pub nonce: u64,
    /// What it has.
    pub balance: AttoFil,
}

/// What came of a message.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Receipt {
    /// 0 is success.
    pub exit_code: u32,
    /// What the actor returned: CBOR, or nothing.
    #[serde(default, deserialize_with = "json::bytes::deserialize")]
    pub r#return: Vec<u8>,
    /// Unit: gas.
    pub gas_used: u64,
}

/// `StateSearchMsg`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct MessageLookup {
    /// The message that landed: the replacement's CID, if one was allowed.
    #[serde(with = "json::cid_link")]
    pub message: Cid,
    /// What came of it.
    pub receipt: Receipt,
    /// The tipset in which it was executed: the child of the one that holds it.
    #[serde(rename = "TipSet")]
    pub tipset: TipSetKey,
    /// The height of that tipset.
    pub height: Epoch,
}

/// `StateCall`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CallResult {
    /// What would come of it.
    #[serde(default, rename = "MsgRct")]
    pub receipt: Option<Receipt>,
    /// The text of a failure; empty on success.
    #[serde(default)]
    pub error: String,
}

/// The base fee now and next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseFees {
    /// What the head's own messages pay.
    pub current: AttoFil,
    /// What the next block's messages will pay.
    pub next: AttoFil,
}

/// The pending messages of one sender, by nonce.
pub fn pending_of<'a>(pending: &'a [SignedMessage], sender: &Address) -> Vec<&'a SignedMessage> {
    let mut own: Vec<&SignedMessage> = pending
        .iter()
        .filter(|signed| signed.message.from == *sender)
        .collect();
    own.sort_by_key(|signed| signed.message.nonce);
    own
}
