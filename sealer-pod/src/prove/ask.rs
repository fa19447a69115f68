//! What the chain says of windows whose challenge is known.
//!
//! Effects: calls of the chain node. Never: a window or a partition that cannot be understood keeps the others from being
//! proven.

use std::collections::{BTreeMap, BTreeSet};

use filstar_chain::{
    BitField,
    endpoints::Healthy,
    node::{self, MinerReader, RandomnessReader},
    proving::{DeadlineInfo, Window},
    randomness::{Tag, miner_entropy},
    types::bitfield,
};
use filstar_sealing::Hash32;

use super::{
    Role,
    plan::{Due, Partition},
};

/// Most sectors that a partition has on any network.
const MAX_SECTORS: u64 = 1 << 16;

impl Role {
    /// Windows whose challenge is known; with the last error, when some of them could not be asked about.
    pub(super) async fn ask(
        &self,
        at: &Healthy,
        info: &DeadlineInfo,
    ) -> (Vec<Due>, Result<(), node::Error>) {
        let challenged = |w: &Window| w.is_challenged(at.head.height);
        let windows: Vec<_> = info.upcoming().into_iter().filter(challenged).collect();
        if windows.is_empty() {
            return (Vec::new(), Ok(()));
        }
        let deadlines = match at.node.deadlines(self.actor, &at.head.key).await {
            Ok(deadlines) => deadlines,
            Err(e) => return (Vec::new(), Err(e)),
        };
        let (mut dues, mut outcome) = (Vec::new(), Ok(()));
        for window in windows {
            let bits = usize::try_from(window.deadline).ok();
            let bits = bits.and_then(|index| deadlines.get(index));
            // What cannot be read counts as nothing: then it is proven once too often.
            let submitted = bits.and_then(|d| numbers(&d.post_submissions).ok());
            match self.due(at, window, &submitted.unwrap_or_default()).await {
                Ok(due) => dues.push(due),
                Err(e) => {
                    self.failed("ask for a deadline", &e);
                    outcome = Err(e);
                }
            }
        }
        (dues, outcome)
    }

    async fn due(
        &self,
        at: &Healthy,
        window: Window,
        submitted: &BTreeSet<u64>,
    ) -> Result<Due, node::Error> {
        let (node, head) = (&at.node, &at.head.key);
        let raw = node.partitions(self.actor, window.deadline, head).await?;
        let mut due = Due {
            window,
            randomness: Hash32([0; 32]),
            commit: [0; 32],
            partitions: BTreeMap::new(),
        };
        for (index, raw) in (0_u64..).zip(&raw) {
            match partition(raw, submitted.contains(&index)) {
                Ok(partition) => drop(due.partitions.insert(index, partition)),
                Err(e) => {
                    tracing::error!(window.deadline, index, error = %e, "a partition cannot be understood");
                    self.failed("read a partition", &e);
                }
            }
        }
        if due.partitions.is_empty() {
            return Ok(due);
        }
        let entropy = miner_entropy(self.actor);
        let (tag, epoch) = (Tag::WindowedPostChallengeSeed, window.challenge);
        let drawn = node.randomness_from_beacon(tag, epoch, &entropy, head);
        due.randomness = Hash32(drawn.await?).in_field();
        let drawn = node.randomness_from_tickets(Tag::PostChainCommit, epoch, &[], head);
        due.commit = drawn.await?;
        Ok(due)
    }
}

fn partition(
    raw: &node::Partition,
    submitted: bool,
) -> Result<Partition, filstar_chain::types::Error> {
    Ok(Partition {
        live: numbers(&raw.live_sectors)?,
        faulty: numbers(&raw.faulty_sectors)?,
        recovering: numbers(&raw.recovering_sectors)?,
        submitted,
    })
}

pub(super) fn numbers(bits: &BitField) -> Result<BTreeSet<u64>, filstar_chain::types::Error> {
    Ok(bitfield::numbers(bits, MAX_SECTORS)?.into_iter().collect())
}
