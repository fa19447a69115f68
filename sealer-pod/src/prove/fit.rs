//! Keeps the reports small enough for an object of the API. Pure.
//!
//! An object has at most 1.5 MiB, beside its fields a note of who owns each of them. What is still to be sent always stays.

use std::collections::{BTreeMap, BTreeSet};

use filstar_chain::Epoch;
use filstar_crds::ProverReport;

/// Reports that the API takes.
const MAX_REPORTS: usize = 1024;
/// What all of them together may weigh, bytes.
const MAX_BYTES: usize = 700_000;
/// What the note of the owner of a report's fields weighs, bytes.
const OWNER_BYTES: usize = 600;

/// The reports, as far as they fit: when they do not, windows that closed lose first their proofs and reasons, then the oldest
/// deadlines go as a whole. A deadline of which only a part is left would look as if the rest had never been due.
pub(crate) fn fit(mut reports: Vec<ProverReport>, epoch: Epoch) -> Vec<ProverReport> {
    let total = |reports: &[ProverReport]| reports.iter().map(weight).sum::<usize>();
    if fits(reports.len(), total(&reports)) {
        return reports;
    }
    let is_closed = |report: &ProverReport| epoch.0 >= report.close;
    for report in reports.iter_mut().filter(|r| is_closed(r)) {
        report.proof = None;
        report.skipped_numbers.clear();
        report.skipped.clear();
    }
    let (mut count, mut bytes) = (reports.len(), total(&reports));
    // How many reports of each deadline that closed, and what they weigh; the oldest in front.
    let mut closed: BTreeMap<(i64, i64), (usize, usize)> = BTreeMap::new();
    for report in reports.iter().filter(|r| is_closed(r)) {
        let of = closed.entry((report.open, report.deadline)).or_default();
        *of = (of.0 + 1, of.1 + weight(report));
    }
    let mut gone = BTreeSet::new();
    for (deadline, (reports, weight)) in closed {
        if fits(count, bytes) {
            break;
        }
        (count, bytes) = (count - reports, bytes - weight);
        gone.insert(deadline);
    }
    reports.retain(|r| !gone.contains(&(r.open, r.deadline)));
    reports
}

fn fits(reports: usize, bytes: usize) -> bool {
    reports <= MAX_REPORTS && bytes <= MAX_BYTES
}

fn weight(report: &ProverReport) -> usize {
    // What cannot be written is not sent either.
    OWNER_BYTES + serde_json::to_vec(report).map_or(0, |text| text.len())
}

#[cfg(test)]
mod tests {
    use filstar_crds::SkippedSector;

    use super::*;

    /// A partition of which every other sector was left out, each with the longest reason.
    fn report(deadline: i64, partition: i64) -> ProverReport {
        let numbers = (0..1174).map(|n| 10_000_000 + 2 * n);
        let named = (0..8).map(|number| SkippedSector {
            number,
            reason: "x".repeat(500),
        });
        ProverReport {
            deadline,
            partition,
            open: 60 * deadline,
            close: 60 * deadline + 60,
            proof: Some("p".repeat(256)),
            chain_commit_rand: "r".repeat(44),
            skipped_numbers: filstar_crds::format_ranges(&numbers.collect(), usize::MAX),
            skipped_sectors: 1174,
            skipped: named.collect(),
            ..ProverReport::default()
        }
    }

    #[test]
    fn reports_of_a_whole_period_of_losses_fit_and_what_is_to_be_sent_stays_whole() {
        let all = (0..48).flat_map(|d| (0..20).map(move |p| report(d, p)));
        let all: Vec<_> = all.collect();
        let size = |r: &[ProverReport]| serde_json::to_vec(r).unwrap().len();
        assert!(size(&all) > 1_500_000);
        // Deadlines 46 and 47 are not closed.
        let now = Epoch(46 * 60);
        let fitted = fit(all.clone(), now);
        assert!(size(&fitted) < 800_000, "{}", size(&fitted));
        let open = |r: &&ProverReport| r.deadline >= 46;
        let of = |r: &[ProverReport]| r.iter().filter(open).cloned().collect::<Vec<_>>();
        assert_eq!(of(&fitted), of(&all));
        assert_eq!(fitted.len() % 20, 0, "whole deadlines");
        // The newest of those that closed are left.
        assert!(
            fitted.len() > 40
                && fitted[0].deadline == 48 - i64::try_from(fitted.len()).unwrap() / 20
        );
        assert_eq!(fitted[0].skipped_sectors, 1174);
    }

    #[test]
    fn more_reports_than_the_api_takes_lose_their_oldest_deadlines() {
        let small = |d| ProverReport {
            deadline: d,
            open: 60 * d,
            close: 60 * d + 60,
            ..ProverReport::default()
        };
        let fitted = fit((0..2000).map(small).collect(), Epoch(60 * 2000));
        assert!(fitted.len() <= 1024);
        assert_eq!(fitted.last().unwrap().deadline, 1999);
    }

    #[test]
    fn what_fits_is_told_as_it_is() {
        let few = vec![report(0, 0), report(1, 0)];
        assert_eq!(fit(few.clone(), Epoch(1000)), few);
    }
}
