//! Reads faulty sectors beside everything else, so that their recovery can be declared.
//!
//! Effects: calls of the chain node; child processes that read. Never: a proof waits for them.

use std::collections::{BTreeMap, BTreeSet};

use filstar_chain::{
    Epoch,
    endpoints::Healthy,
    node::{MinerReader, RandomnessReader},
    proving::DeadlineInfo,
    randomness::{Tag, miner_entropy},
    types::bitfield,
};
use filstar_sealing::{Hash32, SectorId};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::task::JoinSet;

use super::{Role, ask::numbers, faults::Lost, hand, plan::Slot, work::NOWHERE};
use crate::wire::Failure;

/// More faulty sectors than any miner has.
const MAX_FAULTS: u64 = 1 << 24;
/// Deadlines asked about at once.
const AT_ONCE: usize = 8;

/// Sectors that are being read; dropping it ends that.
#[derive(Debug, Default)]
pub(super) struct Readings {
    under_way: JoinSet<Result<Done, Failure>>,
    /// Epoch in which the chain was last asked what is faulty.
    asked: Option<Epoch>,
}

/// After so many epochs the partitions of faulty sectors are asked for again: they may be others after a compaction.
const PARTITIONS_AGE: i64 = 60;

/// What came of one go.
#[derive(Debug)]
struct Done {
    epoch: Epoch,
    actor: u64,
    results: Vec<(u64, Result<(), Failure>)>,
}

impl Role {
    /// Notes what was read, asks the chain what is faulty, and reads on.
    pub(super) async fn recheck(
        &mut self,
        at: &Healthy,
        info: &DeadlineInfo,
    ) -> anyhow::Result<()> {
        while let Some(done) = self.readings.under_way.try_join_next() {
            match done {
                Ok(Ok(done)) => self.learn(done),
                Ok(Err(e)) => self.failed("read faulty sectors", &e),
                Err(e) => self.failed("read faulty sectors", &e),
            }
        }
        let epoch = at.head.height;
        if self.readings.asked != Some(epoch) {
            let lost = self.lost(at, info).await?;
            self.faults.observe(info, lost);
            self.readings.asked = Some(epoch);
        }
        let unreadable = i64::try_from(self.faults.unreadable()).unwrap_or(i64::MAX);
        self.metrics.unreadable.set(unreadable);
        // Nothing is as urgent as a proof: what is not read by now is read again later.
        if !self.hand.is_free() {
            self.readings.under_way = JoinSet::new();
        } else if self.readings.under_way.is_empty()
            && let Some((slot, numbers)) = self.faults.next(epoch)
        {
            self.read(at, slot, &numbers).await?;
        }
        Ok(())
    }

    /// Faulty sectors that are not recovering, by partition. That of all partitions is asked only when it changed.
    async fn lost(&mut self, at: &Healthy, info: &DeadlineInfo) -> anyhow::Result<Lost> {
        let (actor, key) = (self.actor, &at.head.key);
        let faulty = at.node.faults(actor, key).await?;
        if faulty.is_empty() {
            return Ok(Lost::new());
        }
        let lost = &faulty - &at.node.recoveries(actor, key).await?;
        let lost: BTreeSet<u64> = bitfield::numbers(&lost, MAX_FAULTS)?.into_iter().collect();
        let epoch = at.head.height;
        if self.faults.same(&lost) && epoch.since(self.partitions_asked) < PARTITIONS_AGE {
            return Ok(self.faults.lost());
        }
        let deadlines: Vec<_> = stream::iter(0..info.period_deadlines)
            .map(|deadline| at.node.partitions(actor, deadline, key))
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        let mut by_slot = BTreeMap::new();
        for (deadline, partitions) in (0_u64..).zip(&deadlines) {
            for (partition, raw) in (0_u64..).zip(partitions) {
                let sectors = numbers(&(&raw.faulty_sectors - &raw.recovering_sectors))?;
                if !sectors.is_empty() {
                    let slot = Slot {
                        deadline,
                        partition,
                    };
                    by_slot.insert(slot, sectors);
                }
            }
        }
        self.partitions_asked = epoch;
        Ok(by_slot)
    }

    /// Begins to read sectors, with a challenge that nobody knew before this epoch.
    async fn read(
        &mut self,
        at: &Healthy,
        slot: Slot,
        numbers: &BTreeSet<u64>,
    ) -> anyhow::Result<()> {
        let epoch = at.head.height;
        let tag = Tag::WindowedPostChallengeSeed;
        let entropy = miner_entropy(self.actor);
        let drawn = at
            .node
            .randomness_from_beacon(tag, epoch, &entropy, &at.head.key)
            .await?;
        let sectors = numbers.len();
        tracing::info!(
            slot.deadline,
            slot.partition,
            sectors,
            "faulty sectors are read"
        );
        let (needs, numbers) = (self.needs(at, None), numbers.clone());
        self.readings.under_way.spawn(async move {
            let randomness = Hash32(drawn).in_field();
            let job = hand::job(&needs, &numbers, randomness).await?;
            let results = needs.prover.readable(&job).await;
            let actor = job.actor;
            Ok(Done {
                epoch,
                actor,
                results,
            })
        });
        Ok(())
    }

    fn learn(&mut self, done: Done) {
        for (number, result) in &done.results {
            let outcome = match result {
                Ok(()) => "Readable".to_owned(),
                Err(failure) => failure.class.to_string(),
            };
            tracing::info!(sector = number, outcome, "faulty sector was tried");
            self.metrics
                .fault_readings
                .with_label_values(&[outcome.as_str()])
                .inc();
        }
        let results = done.results.into_iter().map(|(number, result)| {
            let error = result
                .err()
                .map(|failure| reason(done.actor, number, &failure));
            (number, error)
        });
        self.faults.learn(done.epoch, results);
    }
}

/// Names the file, whatever failed.
fn reason(actor: u64, number: u64, failure: &Failure) -> String {
    let sector = SectorId { actor, number };
    if failure.message == NOWHERE {
        return format!("no store that the prover mounts has sealed/{sector}");
    }
    let name = sector.to_string();
    if failure.message.contains(&name) {
        failure.message.clone()
    } else {
        format!("{name}: {}", failure.message)
    }
}

#[cfg(test)]
mod tests {
    use filstar_sealing::Class;

    use super::*;

    #[test]
    fn reason_names_the_file_whatever_failed() {
        for text in [
            NOWHERE,
            "its store did not answer within 2m",
            "/stores/a/sealed/s-t01000-7: the replica is not there",
        ] {
            let failure = Failure::new(Class::Temporary, text);
            let reason = reason(1000, 7, &failure);
            assert_eq!(reason.matches("s-t01000-7").count(), 1, "{reason}");
        }
    }
}
