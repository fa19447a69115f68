//! A miner actor as a whole.

use fvm_ipld_bitfield::BitField;
use serde_json::json;

use super::{List, key, read};
use crate::node::{
    Deadline, MinerInfo, MinerPower, Partition, PreCommitInfo, ReadRpc, Reply, SectorOnChainInfo,
};
use crate::proving::DeadlineInfo;
use crate::types::bitfield::{self, JsonBits};
use crate::types::{ActorId, AttoFil, SectorNumber, SectorSize, TipSetKey};

/// A miner actor as a whole. "At a tipset" means: before that tipset's own messages.
pub trait MinerReader: ReadRpc {
    /// `StateMinerInfo`.
    fn miner_info(&self, miner: ActorId, tipset: &TipSetKey) -> Reply<'_, MinerInfo> {
        read(
            self,
            "StateMinerInfo",
            vec![json!(miner.format(self.network())), key(tipset)],
        )
    }

    /// `StateMinerPower`.
    fn miner_power(&self, miner: ActorId, tipset: &TipSetKey) -> Reply<'_, MinerPower> {
        read(
            self,
            "StateMinerPower",
            vec![json!(miner.format(self.network())), key(tipset)],
        )
    }

    /// `StateMinerAvailableBalance`: what is neither locked nor owed.
    fn miner_available_balance(&self, miner: ActorId, tipset: &TipSetKey) -> Reply<'_, AttoFil> {
        let miner = json!(miner.format(self.network()));
        read(self, "StateMinerAvailableBalance", vec![miner, key(tipset)])
    }

    /// `StateMinerProvingDeadline`: the current deadline, or the next one when the current has elapsed.
    fn proving_deadline(&self, miner: ActorId, tipset: &TipSetKey) -> Reply<'_, DeadlineInfo> {
        let miner = json!(miner.format(self.network()));
        read(self, "StateMinerProvingDeadline", vec![miner, key(tipset)])
    }

    /// `StateMinerDeadlines`: all deadlines, by index.
    fn deadlines(&self, miner: ActorId, tipset: &TipSetKey) -> Reply<'_, Vec<Deadline>> {
        let miner = json!(miner.format(self.network()));
        unlist(read(self, "StateMinerDeadlines", vec![miner, key(tipset)]))
    }

    /// `StateMinerPartitions`: the partitions of one deadline, by index.
    fn partitions(
        &self,
        miner: ActorId,
        deadline: u64,
        tipset: &TipSetKey,
    ) -> Reply<'_, Vec<Partition>> {
        let miner = json!(miner.format(self.network()));
        unlist(read(
            self,
            "StateMinerPartitions",
            vec![miner, json!(deadline), key(tipset)],
        ))
    }

    /// `StateMinerSectors`: these sectors, or all of them.
    fn sectors(
        &self,
        miner: ActorId,
        filter: Option<&BitField>,
        tipset: &TipSetKey,
    ) -> Reply<'_, Vec<SectorOnChainInfo>> {
        let miner = json!(miner.format(self.network()));
        let filter = json!(filter.map(bitfield::to_runs));
        unlist(read(
            self,
            "StateMinerSectors",
            vec![miner, filter, key(tipset)],
        ))
    }

    /// `StateMinerFaults`.
    fn faults(&self, miner: ActorId, tipset: &TipSetKey) -> Reply<'_, BitField> {
        let miner = json!(miner.format(self.network()));
        bits(read(self, "StateMinerFaults", vec![miner, key(tipset)]))
    }

    /// `StateMinerRecoveries`.
    fn recoveries(&self, miner: ActorId, tipset: &TipSetKey) -> Reply<'_, BitField> {
        let miner = json!(miner.format(self.network()));
        bits(read(self, "StateMinerRecoveries", vec![miner, key(tipset)]))
    }

    /// `StateMinerAllocated`: the sector numbers that can never be used again. Whole ranges may be marked.
    fn allocated(&self, miner: ActorId, tipset: &TipSetKey) -> Reply<'_, BitField> {
        let miner = json!(miner.format(self.network()));
        bits(read(self, "StateMinerAllocated", vec![miner, key(tipset)]))
    }

    /// `StateMinerSectorAllocated`: whether this number can never be used again.
    fn sector_allocated(
        &self,
        miner: ActorId,
        sector: SectorNumber,
        tipset: &TipSetKey,
    ) -> Reply<'_, bool> {
        let miner = json!(miner.format(self.network()));
        read(
            self,
            "StateMinerSectorAllocated",
            vec![miner, json!(sector), key(tipset)],
        )
    }

    /// `StateMinerPreCommitDepositForPower`: the deposit of a pre-commit, with the node's reserve of 10 %.
    fn precommit_deposit(
        &self,
        miner: ActorId,
        info: &PreCommitInfo,
        tipset: &TipSetKey,
    ) -> Reply<'_, AttoFil> {
        let miner = json!(miner.format(self.network()));
        let params = vec![miner, json!(info), key(tipset)];
        read(self, "StateMinerPreCommitDepositForPower", params)
    }

    /// `StateMinerInitialPledgeForSector`: the pledge of a sector, with the node's reserve of 10 %.
    fn initial_pledge(
        &self,
        duration_epochs: i64,
        size: SectorSize,
        verified_bytes: u64,
        tipset: &TipSetKey,
    ) -> Reply<'_, AttoFil> {
        let params = vec![
            json!(duration_epochs),
            json!(size.bytes()),
            json!(verified_bytes),
            key(tipset),
        ];
        read(self, "StateMinerInitialPledgeForSector", params)
    }
}

impl<R: ReadRpc + ?Sized> MinerReader for R {}

fn unlist<'a, T: 'a + Send>(list: Reply<'a, List<T>>) -> Reply<'a, Vec<T>> {
    Box::pin(async move { Ok(list.await?.0) })
}

fn bits(bits: Reply<'_, JsonBits>) -> Reply<'_, BitField> {
    Box::pin(async move { Ok(bits.await?.0) })
}
