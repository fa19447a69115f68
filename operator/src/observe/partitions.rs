//! How many sectors live in each deadline. One call for each deadline is much for every poll, so it is asked again
//! only when something else says that it may have changed.

use filstar_chain::node::{Error, MinerPower, MinerReader, Node};
use filstar_chain::proving::DeadlineInfo;
use filstar_chain::types::{ActorId, AttoFil, BitField, TipSetKey};
use futures::{StreamExt, TryStreamExt, stream};

use super::poll::AT_ONCE;

/// Asked again after so many epochs whatever the fingerprint says.
const MAX_AGE_EPOCHS: i64 = 60;

/// What changes when sectors come, go or move.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fingerprint {
    deadline: u64,
    period: i64,
    power: u128,
    available: AttoFil,
    faults: u64,
    allocated: u64,
}

impl Fingerprint {
    pub(super) fn of(
        deadline: &DeadlineInfo,
        power: &MinerPower,
        available: &AttoFil,
        faults: &BitField,
        allocated: &BitField,
    ) -> Self {
        Self {
            deadline: deadline.index,
            period: deadline.period_start.0,
            power: power.miner_power.raw_byte_power.0,
            available: available.clone(),
            faults: faults.len(),
            allocated: allocated.len(),
        }
    }
}

/// The last answer.
#[derive(Debug, Default)]
pub(super) struct Partitions {
    known: Option<(Fingerprint, i64, Vec<u64>)>,
}

impl Partitions {
    /// Live sectors by deadline.
    pub(super) async fn live(
        &mut self,
        node: &Node,
        actor: ActorId,
        key: &TipSetKey,
        deadline: &DeadlineInfo,
        fingerprint: Fingerprint,
    ) -> Result<Vec<u64>, Error> {
        let epoch = deadline.current_epoch.0;
        if let Some((known, asked, live)) = &self.known
            && *known == fingerprint
            && (0..MAX_AGE_EPOCHS).contains(&epoch.saturating_sub(*asked))
        {
            return Ok(live.clone());
        }
        let ask = |index: u64| async move {
            let partitions = node.partitions(actor, index, key).await?;
            Ok::<u64, Error>(partitions.iter().map(|p| p.live_sectors.len()).sum())
        };
        let live: Vec<u64> = stream::iter(0..deadline.period_deadlines)
            .map(ask)
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        self.known = Some((fingerprint, epoch, live.clone()));
        Ok(live)
    }
}
