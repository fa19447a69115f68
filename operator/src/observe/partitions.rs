//! Which partitions have something to prove, and which sectors are faulty. One call for each deadline is much for every poll, so it is
//! asked again only when something else says that it may have changed.

use std::collections::BTreeMap;

use filstar_chain::node::{Error, MinerPower, MinerReader, Node, Partition};
use filstar_chain::proving::DeadlineInfo;
use filstar_chain::types::{ActorId, AttoFil, BitField, TipSetKey, bitfield};
use filstar_core::world::Faults;
use futures::{StreamExt, TryStreamExt, stream};

use super::state::AT_ONCE;

/// Asked again after so many epochs whatever the fingerprint says.
const MAX_AGE_EPOCHS: i64 = 60;

/// The miner's deadlines as a whole.
pub(super) struct Proving {
    pub(super) deadline: DeadlineInfo,
    /// Partitions proven in the current window, by deadline.
    pub(super) submissions: Vec<BitField>,
    pub(super) faults: BitField,
    pub(super) recoveries: BitField,
    pub(super) allocated: BitField,
}

impl Proving {
    pub(super) async fn read(node: &Node, actor: ActorId, key: &TipSetKey) -> Result<Self, Error> {
        let (deadline, deadlines, faults, allocated) = futures::try_join!(
            node.proving_deadline(actor, key),
            node.deadlines(actor, key),
            node.faults(actor, key),
            node.allocated(actor, key),
        )?;
        // Only faulty sectors recover.
        let recoveries = if faults.is_empty() {
            BitField::new()
        } else {
            node.recoveries(actor, key).await?
        };
        Ok(Self {
            deadline,
            submissions: deadlines.into_iter().map(|d| d.post_submissions).collect(),
            faults,
            recoveries,
            allocated,
        })
    }
}

/// What changes when sectors come, go, move, fail or recover.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fingerprint {
    deadline: u64,
    period: i64,
    power: u128,
    available: AttoFil,
    /// As run lengths: other sectors, and as many, are a change too.
    faults: Vec<u64>,
    recoveries: Vec<u64>,
    allocated: u64,
}

impl Fingerprint {
    pub(super) fn of(proving: &Proving, power: &MinerPower, available: &AttoFil) -> Self {
        Self {
            deadline: proving.deadline.index,
            period: proving.deadline.period_start.0,
            power: power.miner_power.raw_byte_power.0,
            available: available.clone(),
            faults: bitfield::to_runs(&proving.faults),
            recoveries: bitfield::to_runs(&proving.recoveries),
            allocated: proving.allocated.len(),
        }
    }
}

/// What the partitions of all deadlines say.
#[derive(Clone, Debug, Default)]
pub(super) struct Sums {
    /// Live sectors.
    pub(super) living: BitField,
    /// Partitions with something to prove, by deadline.
    pub(super) partitions: Vec<BitField>,
    /// Faulty sectors by deadline and partition, where there are any.
    pub(super) faults: BTreeMap<(u64, u64), Faults>,
}

impl Sums {
    fn of(deadlines: &[Vec<Partition>]) -> Self {
        let mut faults = BTreeMap::new();
        for (deadline, partitions) in (0_u64..).zip(deadlines) {
            for (partition, found) in (0_u64..).zip(partitions) {
                if !found.faulty_sectors.is_empty() {
                    let known = Faults {
                        faulty: found.faulty_sectors.clone(),
                        recovering: found.recovering_sectors.clone(),
                    };
                    faults.insert((deadline, partition), known);
                }
            }
        }
        Self {
            living: living(deadlines),
            partitions: deadlines.iter().map(|d| to_prove(d)).collect(),
            faults,
        }
    }
}

/// Live sectors of all deadlines.
pub(crate) fn living(deadlines: &[Vec<Partition>]) -> BitField {
    let all = deadlines.iter().flatten().map(|p| &p.live_sectors);
    BitField::union(all)
}

/// The partitions that have something to prove: sectors that are not faulty, or recover.
fn to_prove(partitions: &[Partition]) -> BitField {
    let mut all = BitField::new();
    for (index, found) in (0_u64..).zip(partitions) {
        let lost = &found.faulty_sectors - &found.recovering_sectors;
        if !(&found.live_sectors - &lost).is_empty() {
            all.set(index);
        }
    }
    all
}

/// The last answer.
#[derive(Debug, Default)]
pub(super) struct Partitions {
    known: Option<(Fingerprint, i64, Sums)>,
}

impl Partitions {
    /// What the partitions say at a tipset, or said when the fingerprint was the same.
    pub(super) async fn sums(
        &mut self,
        node: &Node,
        actor: ActorId,
        key: &TipSetKey,
        deadline: &DeadlineInfo,
        fingerprint: Fingerprint,
    ) -> Result<Sums, Error> {
        let epoch = deadline.current_epoch.0;
        if let Some((known, asked, sums)) = &self.known
            && *known == fingerprint
            && (0..MAX_AGE_EPOCHS).contains(&epoch.saturating_sub(*asked))
        {
            return Ok(sums.clone());
        }
        let deadlines: Vec<Vec<Partition>> = stream::iter(0..deadline.period_deadlines)
            .map(|index| node.partitions(actor, index, key))
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        let sums = Sums::of(&deadlines);
        self.known = Some((fingerprint, epoch, sums.clone()));
        Ok(sums)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(live: &[u64], faulty: &[u64], recovering: &[u64]) -> Partition {
        let bits = |numbers: &[u64]| bitfield::of(numbers.iter().copied()).unwrap();
        Partition {
            all_sectors: bits(live),
            faulty_sectors: bits(faulty),
            recovering_sectors: bits(recovering),
            live_sectors: bits(live),
            active_sectors: bits(live),
        }
    }

    #[test]
    fn faults_are_kept_by_deadline_and_partition_where_there_are_any() {
        let well = partition(&[1, 2], &[], &[]);
        let ill = partition(&[3, 4, 5], &[4, 5], &[5]);
        let sums = Sums::of(&[vec![well.clone()], vec![well, ill]]);
        assert_eq!(bitfield::numbers(&sums.living, 9).unwrap(), [1, 2, 3, 4, 5]);
        assert_eq!(sums.faults.keys().copied().collect::<Vec<_>>(), [(1, 1)]);
        let lost = sums.faults[&(1, 1)].lost();
        assert_eq!(bitfield::numbers(&lost, 9).unwrap(), [4]);
    }

    #[test]
    fn partitions_without_a_sector_that_can_be_proven_have_nothing_to_prove() {
        let gone = partition(&[], &[], &[]);
        let lost = partition(&[1, 2], &[1, 2], &[]);
        let back = partition(&[1, 2], &[1, 2], &[2]);
        let well = partition(&[1], &[], &[]);
        let sums = Sums::of(&[vec![well, gone, lost, back]]);
        let found = bitfield::numbers(&sums.partitions[0], 9).unwrap();
        assert_eq!(found, [0, 3]);
    }
}
