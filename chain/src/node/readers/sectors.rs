//! One sector.

use serde_json::json;

use super::{key, read};
use crate::node::{
    Error, PreCommitOnChainInfo, ReadRpc, Reply, SectorExpiration, SectorLocation,
    SectorOnChainInfo,
};
use crate::types::{ActorId, SectorNumber, TipSetKey};

/// One sector. "At a tipset" means: before that tipset's own messages.
pub trait SectorReader: ReadRpc {
    /// `StateSectorGetInfo`: none when it is not proven, or terminated.
    fn sector_info(
        &self,
        miner: ActorId,
        sector: SectorNumber,
        tipset: &TipSetKey,
    ) -> Reply<'_, Option<SectorOnChainInfo>> {
        let miner = json!(miner.format(self.network()));
        read(
            self,
            "StateSectorGetInfo",
            vec![miner, json!(sector), key(tipset)],
        )
    }

    /// `StateSectorPreCommitInfo`: none after the proof, after expiry, or when there never was a pre-commit.
    fn precommit_info(
        &self,
        miner: ActorId,
        sector: SectorNumber,
        tipset: &TipSetKey,
    ) -> Reply<'_, Option<PreCommitOnChainInfo>> {
        let miner = json!(miner.format(self.network()));
        let answer: Reply<'_, Option<PreCommitOnChainInfo>> = read(
            self,
            "StateSectorPreCommitInfo",
            vec![miner, json!(sector), key(tipset)],
        );
        Box::pin(async move {
            match answer.await {
                // Forest says with an error what lotus says with null.
                Err(Error::Refused { message, .. })
                    if message
                        .to_ascii_lowercase()
                        .contains("precommit info does not exist") =>
                {
                    Ok(None)
                }
                other => other,
            }
        })
    }

    /// `StateSectorPartition`: where it is proven.
    fn sector_partition(
        &self,
        miner: ActorId,
        sector: SectorNumber,
        tipset: &TipSetKey,
    ) -> Reply<'_, SectorLocation> {
        let miner = json!(miner.format(self.network()));
        read(
            self,
            "StateSectorPartition",
            vec![miner, json!(sector), key(tipset)],
        )
    }

    /// `StateSectorExpiration`: when it ends.
    fn sector_expiration(
        &self,
        miner: ActorId,
        sector: SectorNumber,
        tipset: &TipSetKey,
    ) -> Reply<'_, SectorExpiration> {
        let miner = json!(miner.format(self.network()));
        read(
            self,
            "StateSectorExpiration",
            vec![miner, json!(sector), key(tipset)],
        )
    }
}

impl<R: ReadRpc + ?Sized> SectorReader for R {}
