//! What is to be proven now, from what the chain and our own reports say. Pure.

use std::collections::{BTreeMap, BTreeSet};

use filstar_chain::{Epoch, proving::Window};
use filstar_crds::ProverReport;

/// A partition as the chain shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Partition {
    /// Not terminated.
    pub(crate) live: BTreeSet<u64>,
    /// Faulty, recovering ones included.
    pub(crate) faulty: BTreeSet<u64>,
    /// Faulty with a declared recovery.
    pub(crate) recovering: BTreeSet<u64>,
    /// Whether the chain has a proof for this window already.
    pub(crate) submitted: bool,
}

impl Partition {
    /// Live, and faulty only when recovering. Sectors that were never proven count.
    pub(crate) fn to_prove(&self) -> BTreeSet<u64> {
        let left_out: BTreeSet<_> = self.faulty.difference(&self.recovering).copied().collect();
        self.live.difference(&left_out).copied().collect()
    }
}

/// Which partition of which deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slot {
    pub(crate) deadline: u64,
    pub(crate) partition: u64,
}

/// What we found out about a slot before.
#[derive(Clone, Debug)]
pub(crate) struct Known<'a> {
    /// Our report.
    pub(crate) report: &'a ProverReport,
    /// Whether its proof holds for the randomness of now.
    pub(crate) holds: bool,
    /// Whether a sector that it left out can be read now.
    pub(crate) found_since: bool,
}

/// Why a partition is proven now, or is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Prove these sectors.
    Prove(BTreeSet<u64>),
    /// Nothing to do.
    Rest(&'static str),
}

/// Decides about one partition in one window.
pub(crate) fn decide(
    window: &Window,
    epoch: Epoch,
    partition: &Partition,
    known: Option<&Known<'_>>,
) -> Decision {
    let sectors = partition.to_prove();
    if !window.is_challenged(epoch) {
        return Decision::Rest("the challenge is not known yet, or the deadline is over");
    }
    if sectors.is_empty() {
        return Decision::Rest("there is nothing to prove");
    }
    // Before a deadline opens the bits of its last window may still be there.
    if partition.submitted && window.is_open(epoch) {
        return Decision::Rest("the chain has the proof");
    }
    match known.filter(|k| k.report.open == window.open.0) {
        None => Decision::Prove(sectors),
        Some(known) if known.report.proof.is_none() => {
            // A failure is repeated when something changed; else every poll would fail again.
            if known.found_since {
                Decision::Prove(sectors)
            } else {
                Decision::Rest("it failed")
            }
        }
        Some(known) if !known.holds => Decision::Prove(sectors),
        // Once it is open the operator may have sent it; a second proof would be refused.
        Some(known) if known.found_since && !window.is_open(epoch) => Decision::Prove(sectors),
        Some(_) => Decision::Rest("the proof is ready"),
    }
}

/// Puts a report in place of the one of the same slot, and forgets those of long ago.
pub(crate) fn remember(
    reports: &mut BTreeMap<Slot, ProverReport>,
    slot: Slot,
    report: ProverReport,
    forget_before: Epoch,
) {
    reports.insert(slot, report);
    reports.retain(|_, r| r.close > forget_before.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window() -> Window {
        Window {
            open: Epoch(100),
            deadline: 3,
            close: Epoch(160),
            challenge: Epoch(80),
            fault_cutoff: Epoch(30),
        }
    }

    fn partition() -> Partition {
        Partition {
            live: [1, 2, 3, 4].into(),
            faulty: [2, 3].into(),
            recovering: [3].into(),
            submitted: false,
        }
    }

    fn report(proof: bool) -> ProverReport {
        serde_json::from_value(serde_json::json!({
            "deadline": 3, "partition": 0, "open": 100, "close": 160, "challenge": 80,
            "chainCommitEpoch": 80, "chainCommitRand": "", "postProof": 10, "sectors": 3,
            "proof": proof.then_some("AQID"),
        }))
        .unwrap()
    }

    fn all() -> Decision {
        Decision::Prove([1, 3, 4].into())
    }

    fn proves(epoch: i64, partition: &Partition, known: Option<&Known<'_>>) -> bool {
        decide(&window(), Epoch(epoch), partition, known) == all()
    }

    #[test]
    fn faulty_sectors_are_proven_only_when_they_recover() {
        assert_eq!(decide(&window(), Epoch(81), &partition(), None), all());
    }

    #[test]
    fn nothing_is_proven_before_the_challenge_or_after_the_close() {
        for epoch in [79, 80, 160, 200] {
            assert!(!proves(epoch, &partition(), None), "{epoch}");
        }
    }

    #[test]
    fn submitted_bit_counts_only_while_the_deadline_is_open() {
        let submitted = Partition {
            submitted: true,
            ..partition()
        };
        assert!(proves(90, &submitted, None));
        assert!(!proves(110, &submitted, None));
    }

    #[test]
    fn ready_proof_is_kept_until_randomness_changes_or_a_sector_appears() {
        let good = report(true);
        let known = |holds, found_since| Known {
            report: &good,
            holds,
            found_since,
        };
        assert!(!proves(90, &partition(), Some(&known(true, false))));
        assert!(proves(90, &partition(), Some(&known(false, false))));
        assert!(proves(90, &partition(), Some(&known(true, true))));
        assert!(!proves(110, &partition(), Some(&known(true, true))));
        let mut old = good.clone();
        old.open = 40;
        let old = Known {
            report: &old,
            holds: true,
            found_since: false,
        };
        assert!(proves(90, &partition(), Some(&old)));
    }

    #[test]
    fn failure_is_not_repeated_until_something_changed() {
        let bad = report(false);
        let known = |found_since| Known {
            report: &bad,
            holds: false,
            found_since,
        };
        assert!(!proves(90, &partition(), Some(&known(false))));
        assert!(proves(110, &partition(), Some(&known(true))));
    }

    #[test]
    fn reports_of_long_ago_are_forgotten() {
        let mut reports = BTreeMap::new();
        let slot = |deadline| Slot {
            deadline,
            partition: 0,
        };
        remember(&mut reports, slot(3), report(true), Epoch(0));
        let mut later = report(true);
        later.close = 3000;
        remember(&mut reports, slot(4), later, Epoch(1000));
        assert_eq!(reports.keys().copied().collect::<Vec<_>>(), [slot(4)]);
    }
}
