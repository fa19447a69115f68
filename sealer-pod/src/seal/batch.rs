//! Which PC1 tasks share a process and so may share cores: those that are there together, or come within a short
//! time of one another. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use filstar_crds::PerCore;

/// A task waits no longer than this for others.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(20);

/// Sectors whose PC1 may start, and since when.
#[derive(Debug, Default)]
pub(super) struct Waiting(BTreeMap<String, Instant>);

/// Sectors to start in one process, and how many of them at most on one core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) sectors: Vec<String>,
    pub(super) per_core: u32,
}

impl Waiting {
    /// Keeps only the sectors that still may start, and takes in new ones. Whether there are new ones.
    pub(super) fn set(&mut self, ready: &BTreeSet<String>, now: Instant) -> bool {
        let before = self.0.len();
        self.0.retain(|name, _| ready.contains(name));
        let gone = before - self.0.len();
        for name in ready {
            self.0.entry(name.clone()).or_insert(now);
        }
        self.0.len() + gone > before
    }

    /// Takes out those that start now. `running` sectors are in PC1 already, on some of the `cores`.
    pub(super) fn take(
        &mut self,
        per_core: PerCore,
        cores: usize,
        running: usize,
        now: Instant,
    ) -> Vec<Batch> {
        let over = |since: &Instant| now.duration_since(*since) >= LONGEST_WAIT;
        let late = self.0.values().any(over);
        let size = match per_core {
            PerCore::One => 1,
            PerCore::Two => 2,
            PerCore::Four => 4,
            // How many will come is known when nobody waits any longer.
            PerCore::Auto if !late => return Vec::new(),
            PerCore::Auto => fewest(self.0.len() + running, cores),
        };
        let mut names: Vec<_> = self
            .0
            .iter()
            .map(|(n, since)| (*since, n.clone()))
            .collect();
        names.sort();
        let mut batches = Vec::new();
        for group in names.chunks(size) {
            if group.len() < size && !late {
                break;
            }
            let sectors: Vec<_> = group.iter().map(|(_, name)| name.clone()).collect();
            for name in &sectors {
                self.0.remove(name);
            }
            let per_core = u32::try_from(size).unwrap_or(1);
            batches.push(Batch { sectors, per_core });
        }
        batches
    }
}

/// The fewest sectors on a core with which all have a place; 4 when there is none.
fn fewest(sectors: usize, cores: usize) -> usize {
    let holds = |n: &usize| n * cores.max(1) >= sectors;
    [1, 2, 4].into_iter().find(holds).unwrap_or(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> BTreeSet<String> {
        (0..count).map(|n| format!("t01000-{n}")).collect()
    }

    fn sizes(waiting: &mut Waiting, per_core: PerCore, cores: usize, now: Instant) -> Vec<usize> {
        let batches = waiting.take(per_core, cores, 0, now);
        batches.iter().map(|b| b.sectors.len()).collect()
    }

    #[test]
    fn full_groups_start_at_once_and_the_rest_when_it_has_waited() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        assert!(waiting.set(&names(7), now));
        assert!(!waiting.set(&names(7), now + Duration::from_secs(1)));
        assert_eq!(sizes(&mut waiting, PerCore::Four, 8, now), [4]);
        assert_eq!(sizes(&mut waiting, PerCore::Four, 8, now), [0; 0]);
        let late = now + LONGEST_WAIT;
        assert_eq!(sizes(&mut waiting, PerCore::Four, 8, late), [3]);
        assert_eq!(sizes(&mut waiting, PerCore::Four, 8, late), [0; 0]);
    }

    #[test]
    fn one_for_each_core_waits_for_nobody() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        waiting.set(&names(3), now);
        assert_eq!(sizes(&mut waiting, PerCore::One, 8, now), [1, 1, 1]);
    }

    #[test]
    fn auto_puts_as_few_on_a_core_as_it_can() {
        for (sectors, cores, want) in [(3, 8, 1), (8, 8, 1), (9, 8, 2), (17, 8, 4), (99, 8, 4)] {
            let (mut waiting, now) = (Waiting::default(), Instant::now());
            waiting.set(&names(sectors), now);
            assert_eq!(sizes(&mut waiting, PerCore::Auto, cores, now), [0; 0]);
            let first = sizes(&mut waiting, PerCore::Auto, cores, now + LONGEST_WAIT)[0];
            assert_eq!(first, want, "{sectors} on {cores}");
        }
    }

    #[test]
    fn task_that_is_taken_back_waits_no_more() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        waiting.set(&names(2), now);
        waiting.set(&BTreeSet::new(), now);
        assert_eq!(
            sizes(&mut waiting, PerCore::Two, 8, now + LONGEST_WAIT),
            [0; 0]
        );
        assert!(waiting.set(&names(1), now), "it is new again");
    }
}
