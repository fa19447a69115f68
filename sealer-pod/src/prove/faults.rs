//! Which faulty sectors can be read again: what is to be read next, and what is said of it. Pure.
//!
//! Whoever declares a recovery on the word of this prover pays when it does not hold, so only what was really read since
//! the deadline last closed is called readable.

use std::collections::{BTreeMap, BTreeSet};

use filstar_chain::{
    Epoch,
    proving::{DeadlineInfo, Window},
};
use filstar_crds::{FaultReport, SkippedSector, format_ranges};

use super::plan::Slot;

/// Sectors read at one go: what was found is told after each. Many, since a go waits for a store that hangs, however few it reads.
const AT_ONE_GO: usize = 256;
/// Unreadable sectors that a report names.
const NAMED: usize = 8;
/// Partitions that fit into the status.
const MAX_REPORTS: usize = 1024;
/// Longest list of one report, and of all together: an object of the API has at most 1.5 MiB.
const MAX_LIST_CHARS: usize = 16_384;
const MAX_ALL_CHARS: usize = 262_144;
/// Longest reason that the API takes.
const MAX_REASON_CHARS: usize = 500;

/// Faulty sectors by partition that are not recovering.
pub(crate) type Lost = BTreeMap<Slot, BTreeSet<u64>>;

/// Whether a sector was tried, and when: the smallest is read first.
type Rank = (bool, Epoch);

/// Sectors of one partition that are to be read.
type Due = Vec<(Rank, u64)>;

/// What came of reading one sector.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Reading {
    epoch: Epoch,
    /// Why it cannot be read; none when it can.
    error: Option<String>,
}

/// Faulty sectors, and what is known of each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    /// Partitions with faulty sectors, those whose deadlines open first in front; none before the chain was asked.
    lost: Option<Vec<(Window, Slot, BTreeSet<u64>)>>,
    proving_period: i64,
    readings: BTreeMap<u64, Reading>,
}

impl Faults {
    /// Takes over what the chain says. What is no longer faulty, or recovers, is forgotten.
    pub(crate) fn observe(&mut self, info: &DeadlineInfo, lost: Lost) {
        self.proving_period = info.proving_period;
        let all: BTreeSet<u64> = lost.values().flatten().copied().collect();
        self.readings.retain(|number, _| all.contains(number));
        let with_window = |(slot, sectors): (Slot, BTreeSet<u64>)| {
            let window = info.next_window(slot.deadline)?;
            Some((window, slot, sectors))
        };
        let mut ordered: Vec<_> = lost.into_iter().filter_map(with_window).collect();
        ordered.sort_by_key(|(window, slot, _)| (*window, *slot));
        self.lost = Some(ordered);
    }

    /// Whether the chain was asked.
    pub(crate) fn are_known(&self) -> bool {
        self.lost.is_some()
    }

    /// Whether these are the faulty sectors that are known already.
    pub(crate) fn same(&self, numbers: &BTreeSet<u64>) -> bool {
        let known = self.lost.as_ref();
        known.is_some_and(|lost| {
            let count: usize = lost.iter().map(|(_, _, sectors)| sectors.len()).sum();
            count == numbers.len()
                && lost
                    .iter()
                    .flat_map(|(_, _, sectors)| sectors)
                    .all(|n| numbers.contains(n))
        })
    }

    /// The faulty sectors by partition, as they were observed.
    pub(crate) fn lost(&self) -> Lost {
        let lost = self.lost.iter().flatten();
        lost.map(|(_, slot, sectors)| (*slot, sectors.clone()))
            .collect()
    }

    /// Sectors of one partition that are to be read now: first those that were never tried, of the deadline that opens
    /// first; then those whose last reading is the oldest. None for deadlines whose cutoff has come.
    pub(crate) fn next(&self, epoch: Epoch) -> Option<(Slot, BTreeSet<u64>)> {
        let open = self.lost.iter().flatten();
        let open = open.filter(|(window, _, _)| window.can_declare(epoch));
        let mut best: Option<(Rank, Slot, Due)> = None;
        for (window, slot, sectors) in open {
            let mut due: Due = sectors
                .iter()
                .filter_map(|number| Some((self.due(window, *number, epoch)?, *number)))
                .collect();
            due.sort_unstable();
            if let Some((rank, _)) = due.first()
                && best.as_ref().is_none_or(|(known, _, _)| rank < known)
            {
                best = Some((*rank, *slot, due));
            }
        }
        let (_, slot, due) = best?;
        Some((
            slot,
            due.into_iter().take(AT_ONE_GO).map(|(_, n)| n).collect(),
        ))
    }

    /// How soon a sector is to be read; none while it is too early.
    fn due(&self, window: &Window, number: u64, epoch: Epoch) -> Option<Rank> {
        let Some(reading) = self.readings.get(&number) else {
            return Some((false, Epoch(0)));
        };
        // Trying again costs little, and a file may be back any time; what was read may be lost again.
        let part = if reading.error.is_some() { 96 } else { 8 };
        let pause = (self.proving_period / part).max(1);
        let stale = !self.is_fresh(window, reading);
        (stale || epoch.since(reading.epoch) >= pause).then_some((true, reading.epoch))
    }

    /// Whether it was read since the deadline last closed.
    fn is_fresh(&self, window: &Window, reading: &Reading) -> bool {
        reading.epoch >= window.close - self.proving_period
    }

    /// Notes what came of reading sectors in an epoch.
    pub(crate) fn learn(
        &mut self,
        epoch: Epoch,
        results: impl IntoIterator<Item = (u64, Option<String>)>,
    ) {
        for (number, error) in results {
            let error = error.map(|e| e.chars().take(MAX_REASON_CHARS).collect());
            self.readings.insert(number, Reading { epoch, error });
        }
    }

    /// Sectors that cannot be read.
    pub(crate) fn unreadable(&self) -> usize {
        self.readings.values().filter(|r| r.error.is_some()).count()
    }

    /// What to tell, in the order of deadlines and partitions.
    pub(crate) fn reports(&self) -> Vec<FaultReport> {
        let mut left = MAX_ALL_CHARS;
        let mut all = Vec::new();
        for (window, slot, sectors) in self.lost.iter().flatten().take(MAX_REPORTS) {
            let report = self.report(window, *slot, sectors, left.min(MAX_LIST_CHARS));
            let reasons = report.unreadable.iter().map(|s| s.reason.len());
            left = left.saturating_sub(report.readable.len() + reasons.sum::<usize>());
            all.push(report);
        }
        all.sort_by_key(|r| (r.deadline, r.partition));
        all
    }

    fn report(
        &self,
        window: &Window,
        slot: Slot,
        sectors: &BTreeSet<u64>,
        max_chars: usize,
    ) -> FaultReport {
        let (mut readable, mut read_epoch) = (BTreeSet::new(), None::<Epoch>);
        let (mut unreadable, mut bad, mut untried) = (Vec::new(), 0, 0);
        for number in sectors {
            let reading = self.readings.get(number);
            match reading.map(|r| (r, r.error.as_ref())) {
                Some((_, Some(reason))) => {
                    bad += 1;
                    if unreadable.len() < NAMED {
                        unreadable.push(SkippedSector {
                            number: signed(*number),
                            reason: reason.clone(),
                        });
                    }
                }
                Some((reading, None)) if self.is_fresh(window, reading) => {
                    readable.insert(*number);
                    read_epoch =
                        Some(read_epoch.map_or(reading.epoch, |oldest| oldest.min(reading.epoch)));
                }
                Some(_) | None => untried += 1,
            }
        }
        FaultReport {
            deadline: signed(slot.deadline),
            partition: signed(slot.partition),
            readable: format_ranges(&readable, max_chars),
            read_epoch: read_epoch.map(|e| e.0),
            unreadable_sectors: bad,
            unreadable,
            untried_sectors: untried,
        }
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 48 deadlines of 60 epochs; deadline 0 opens at 10 000, cutoffs are 70 epochs before each.
    fn info(epoch: i64) -> DeadlineInfo {
        serde_json::from_value(serde_json::json!({
            "CurrentEpoch": epoch, "PeriodStart": 10_000, "Index": 0, "Open": 10_000, "Close": 10_060,
            "Challenge": 9_980, "FaultCutoff": 9_930, "WPoStPeriodDeadlines": 48, "WPoStProvingPeriod": 2880,
            "WPoStChallengeWindow": 60, "WPoStChallengeLookback": 20, "FaultDeclarationCutoff": 70,
        }))
        .unwrap()
    }

    fn slot(deadline: u64, partition: u64) -> Slot {
        Slot {
            deadline,
            partition,
        }
    }

    fn faults(epoch: i64, lost: &[(Slot, &[u64])]) -> Faults {
        let mut faults = Faults::default();
        observe(&mut faults, epoch, lost);
        faults
    }

    fn observe(faults: &mut Faults, epoch: i64, lost: &[(Slot, &[u64])]) {
        let lost = lost.iter().map(|(s, n)| (*s, n.iter().copied().collect()));
        faults.observe(&info(epoch), lost.collect());
    }

    fn next(faults: &Faults, epoch: i64) -> Option<(u64, Vec<u64>)> {
        let (slot, numbers) = faults.next(Epoch(epoch))?;
        Some((slot.deadline, numbers.into_iter().collect()))
    }

    fn learn(faults: &mut Faults, epoch: i64, number: u64, readable: bool) {
        let error = (!readable).then(|| "gone".to_owned());
        faults.learn(Epoch(epoch), [(number, error)]);
    }

    #[test]
    fn what_was_never_tried_is_read_first_soonest_deadline_in_front() {
        let mut faults = faults(10_010, &[(slot(9, 0), &[1, 2]), (slot(5, 0), &[3])]);
        assert_eq!(next(&faults, 10_010), Some((5, vec![3])));
        learn(&mut faults, 10_010, 3, false);
        assert_eq!(next(&faults, 10_010), Some((9, vec![1, 2])));
        // At most so many at one go.
        let many: Vec<u64> = (0..1000).collect();
        observe(&mut faults, 10_010, &[(slot(5, 0), &many)]);
        assert_eq!(next(&faults, 10_010).unwrap().1.len(), AT_ONE_GO);
    }

    #[test]
    fn nothing_is_read_from_the_cutoff_until_the_deadline_closes() {
        // Deadline 5 opens at 10 300: cutoff 10 230, close 10 360.
        let at = |epoch| next(&faults(epoch, &[(slot(5, 0), &[3])]), epoch);
        assert_eq!(at(10_229), Some((5, vec![3])));
        for epoch in [10_230, 10_300, 10_359] {
            assert_eq!(at(epoch), None, "{epoch}");
        }
        assert_eq!(at(10_360), Some((5, vec![3])));
    }

    #[test]
    fn unreadable_sectors_are_tried_again_soon_and_readable_ones_now_and_then() {
        let mut faults = faults(10_010, &[(slot(40, 0), &[1, 2])]);
        learn(&mut faults, 10_010, 1, false);
        learn(&mut faults, 10_012, 2, true);
        assert_eq!(next(&faults, 10_039), None);
        assert_eq!(next(&faults, 10_040), Some((40, vec![1])));
        learn(&mut faults, 10_360, 1, false);
        assert_eq!(next(&faults, 10_371), None);
        assert_eq!(next(&faults, 10_372), Some((40, vec![2])));
    }

    #[test]
    fn a_report_tells_what_was_read_what_cannot_be_and_what_was_not_tried() {
        let mut faults = faults(10_010, &[(slot(40, 2), &[1, 2, 3, 4, 9])]);
        for (epoch, number, readable) in [(10_011, 1, true), (10_010, 2, true), (10_012, 9, false)]
        {
            learn(&mut faults, epoch, number, readable);
        }
        let report = faults.reports().remove(0);
        assert_eq!((report.deadline, report.partition), (40, 2));
        assert_eq!(report.readable, "1-2");
        assert_eq!(report.read_epoch, Some(10_010));
        assert_eq!((report.unreadable_sectors, report.untried_sectors), (1, 2));
        assert_eq!(report.unreadable[0].number, 9);
        assert_eq!(faults.unreadable(), 1);
    }

    #[test]
    fn a_reading_from_before_the_deadline_closed_counts_no_longer() {
        let mut faults = faults(10_100, &[(slot(5, 0), &[3])]);
        learn(&mut faults, 10_229, 3, true);
        assert_eq!(faults.reports()[0].readable, "3");
        observe(&mut faults, 10_360, &[(slot(5, 0), &[3])]);
        assert_eq!(faults.reports()[0].readable, "");
        assert_eq!(faults.reports()[0].untried_sectors, 1);
        assert_eq!(next(&faults, 10_360), Some((5, vec![3])));
    }

    #[test]
    fn a_sector_that_recovered_meanwhile_is_read_anew_when_it_is_lost_again() {
        let mut faults = faults(10_100, &[(slot(40, 0), &[3])]);
        learn(&mut faults, 10_100, 3, true);
        observe(&mut faults, 10_101, &[]);
        assert!(faults.reports().is_empty());
        observe(&mut faults, 10_102, &[(slot(40, 0), &[3])]);
        assert_eq!(faults.reports()[0].readable, "");
        assert_eq!(next(&faults, 10_102), Some((40, vec![3])));
    }

    #[test]
    fn reports_stay_within_what_an_object_may_hold() {
        // Every other sector: the worst list.
        let numbers: Vec<u64> = (0..20_000).map(|n| n * 2 + 1_000_000).collect();
        let lost: Vec<(Slot, &[u64])> = (0..40).map(|p| (slot(40, p), &numbers[..])).collect();
        let mut faults = faults(10_100, &lost);
        faults.learn(Epoch(10_100), numbers.iter().map(|n| (*n, None)));
        let reports = faults.reports();
        assert_eq!(reports.len(), 40);
        assert!(reports.iter().all(|r| r.readable.len() <= MAX_LIST_CHARS));
        let size = serde_json::to_vec(&reports).unwrap().len();
        assert!(size < 400_000, "{size}");
    }

    #[test]
    fn the_same_faults_are_known_as_such() {
        let faults = faults(10_100, &[(slot(1, 0), &[1, 2]), (slot(2, 0), &[3])]);
        assert!(faults.same(&[1, 2, 3].into()));
        assert!(!faults.same(&[1, 2].into()));
        assert!(!faults.same(&[1, 2, 4].into()));
        assert!(!Faults::default().same(&BTreeSet::new()));
    }
}
