//! The numbers that a report ends with, and whether what was asked for is reached.

use filstar_crds::{DeadlineState, MessageState, SectorPhase};

use crate::snapshot::Snapshot;

/// What a report counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Sectors on chain and in a store.
    pub(crate) proving: usize,
    /// All sectors.
    pub(crate) sectors: usize,
    /// Messages that failed.
    pub(crate) failed_messages: usize,
    /// Window proofs that the chain accepted.
    pub(crate) accepted: i64,
    /// Sectors of the deadlines whose last proofs were accepted.
    pub(crate) proven: i64,
}

impl Summary {
    /// Counts.
    pub(crate) fn of(snapshot: &Snapshot) -> Self {
        let batches = || snapshot.batches.iter().filter_map(|b| b.status.as_ref());
        let landed = |s: &&filstar_crds::Sector| {
            s.status
                .as_ref()
                .is_some_and(|s| s.phase == Some(SectorPhase::Proving))
        };
        let failed = |m: &&filstar_crds::ChainMessage| {
            m.status
                .as_ref()
                .is_some_and(|s| s.state == Some(MessageState::Failed))
        };
        Self {
            proving: snapshot.sectors.iter().filter(landed).count(),
            sectors: snapshot.sectors.len(),
            failed_messages: snapshot.messages.iter().filter(failed).count(),
            accepted: batches().map(|b| b.accepted).sum(),
            proven: batches()
                .flat_map(|b| &b.deadlines)
                .filter(|d| d.state == DeadlineState::Accepted)
                .map(|d| d.sectors - d.skipped)
                .sum(),
        }
    }

    /// Whether `wanted` sectors are on chain, in a store, and proven in a deadline.
    pub(crate) fn reached(&self, wanted: usize) -> bool {
        self.proving >= wanted && usize::try_from(self.proven).is_ok_and(|p| p >= wanted)
    }

    /// The last line of a report.
    pub(crate) fn line(&self) -> String {
        format!(
            "total: {}/{} sectors proving, {} messages failed, {} window proofs accepted",
            self.proving, self.sectors, self.failed_messages, self.accepted
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn sectors_are_reached_only_when_a_deadline_was_accepted() {
        let mut world = testing::demo();
        assert_eq!(
            Summary::of(&world).line(),
            "total: 1/2 sectors proving, 1 messages failed, 3 window proofs accepted"
        );
        assert!(Summary::of(&world).reached(1));
        assert!(!Summary::of(&world).reached(2));
        for batch in &mut world.batches {
            batch.status.as_mut().unwrap().deadlines[0].state = DeadlineState::Missed;
        }
        assert!(!Summary::of(&world).reached(1));
    }

    #[test]
    fn empty_namespace_counts_nothing() {
        let line = Summary::of(&Snapshot::default()).line();
        assert_eq!(
            line,
            "total: 0/0 sectors proving, 0 messages failed, 0 window proofs accepted"
        );
    }
}
