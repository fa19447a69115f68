//! Asks a pod to remove files of sectors that ended on chain, after the chain was asked about each.
//!
//! A sector has ended for good when, at a tipset that is final, the actor has used its number, no partition has it alive
//! and no pre-commit waits for its proof: a number is never used twice. Never: a removal of a sector of which that is not
//! known from an answer of now.

use filstar_chain::node::{ChainReader, Error as NodeError, MinerReader, Node, SectorReader};
use filstar_chain::types::{ActorId, BitField, Epoch, SectorNumber, TipSetKey, bitfield};
use filstar_core::action::EndedCheck;
use filstar_core::plan::sweep::{NUMBERS_CHARS, bits, ranges_text};
use filstar_core::world::Id;
use filstar_crds::{SectorStore, SectorStoreStatus, SweepKind};
use futures::{StreamExt, TryStreamExt, stream};

use super::{Applier, Error, body};
use crate::observe::living;
use crate::watch::Change;

/// Calls at once.
const AT_ONCE: usize = 8;
/// Sectors that one sweep is about, at most.
const MOST: u64 = 10_000;

impl Applier {
    pub(super) async fn remove_garbage(
        &self,
        id: &Id,
        mut status: SectorStoreStatus,
        checks: &[EndedCheck],
        version: &str,
    ) -> Result<Change, Error> {
        let removal = status.sweep.as_mut();
        let sweep = removal.filter(|s| s.kind == SweepKind::Remove);
        let sweep = sweep.ok_or_else(|| Error::Invalid("the sweep removes nothing".into()))?;
        for entry in &mut sweep.sectors {
            let wrong = || Error::Invalid(format!("sectors {} cannot be read", entry.numbers));
            let actor: ActorId = entry.actor.parse().map_err(|_e| wrong())?;
            let mut left = bits(entry).ok_or_else(wrong)?;
            let of_actor: Vec<&EndedCheck> = checks.iter().filter(|c| c.actor == actor).collect();
            if of_actor.is_empty() {
                return Err(Error::Invalid(format!(
                    "no Miner says what became of sectors of {}",
                    entry.actor
                )));
            }
            for check in of_actor {
                left = self.ended(check, &left).await?;
            }
            entry.numbers = ranges_text(&left, NUMBERS_CHARS);
        }
        sweep.sectors.retain(|entry| !entry.numbers.is_empty());
        if sweep.sectors.is_empty() {
            return Err(Error::NoLongerDue("the chain still has these sectors"));
        }
        self.apply_status::<SectorStore>(id, body::store(id, version, &status)?)
            .await
    }

    /// Those of the sectors that have ended for good.
    async fn ended(&self, check: &EndedCheck, sectors: &BitField) -> Result<BitField, Error> {
        let node = self.node(&check.miner)?;
        let count = |e| self.count_rpc(e);
        let head = node.chain_head().await.map_err(count)?;
        let past = Epoch(head.height.0 - check.confidence.max(1));
        if past.0 <= 0 {
            return Err(Error::NoLongerDue("the chain is too young"));
        }
        let past = node
            .tipset_by_height(past, &head.key)
            .await
            .map_err(count)?;
        let now = ended_at(&node, check.actor, sectors, &head.key);
        let now = now.await.map_err(count)?;
        let then = ended_at(&node, check.actor, &now, &past.key);
        let then = then.await.map_err(count)?;
        if !(&now - &then).is_empty() {
            return Err(Error::NoLongerDue(
                "the end of some sectors is not final yet",
            ));
        }
        Ok(now)
    }
}

/// Those of the sectors whose number is used, and that are neither alive nor about to be.
async fn ended_at(
    node: &Node,
    actor: ActorId,
    sectors: &BitField,
    key: &TipSetKey,
) -> Result<BitField, NodeError> {
    let allocated = node.allocated(actor, key).await?;
    let deadline = node.proving_deadline(actor, key).await?;
    let deadlines: Vec<_> = stream::iter(0..deadline.period_deadlines)
        .map(|index| node.partitions(actor, index, key))
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    let left = &(sectors & &allocated) - &living(&deadlines);
    let open: Vec<Option<u64>> = stream::iter(bitfield::numbers(&left, MOST)?)
        .map(|number| async move {
            let found = node.precommit_info(actor, SectorNumber(number), key);
            Ok::<_, NodeError>(found.await?.map(|_| number))
        })
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    Ok(&left - &bitfield::of(open.into_iter().flatten())?)
}
