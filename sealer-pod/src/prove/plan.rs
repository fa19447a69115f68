//! What is to be done now, from what the chain and our own notes say. Pure.
//!
//! One thing is done at a time: a proof takes all the memory and cores that the pod has.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use filstar_chain::{Epoch, proving::Window};
use filstar_crds::{ProverReport, TaskClass};
use filstar_sealing::Hash32;
use jiff::Timestamp;

use super::notes::Notes;

/// An attempt that begins later than so many epochs before the close is not repeated: its message could not land.
const LAST_EPOCHS: i64 = 2;
/// A proof that takes so many times what the longest took is given up when others wait.
const TIMES_LONGEST: u32 = 3;

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

/// A window whose challenge is known, as the chain shows it.
#[derive(Clone, Debug)]
pub(crate) struct Due {
    pub(crate) window: Window,
    /// Randomness of the challenge, by the beacon.
    pub(crate) randomness: Hash32,
    /// Randomness of the chain at the challenge's epoch, by its tickets. A reorg changes it while the challenge stays.
    pub(crate) commit: [u8; 32],
    /// By index.
    pub(crate) partitions: BTreeMap<u64, Partition>,
}

impl Due {
    /// Its partitions with their slots.
    pub(crate) fn slots(&self) -> impl Iterator<Item = (Slot, &Partition)> {
        let deadline = self.window.deadline;
        let slot = move |partition| Slot {
            deadline,
            partition,
        };
        self.partitions.iter().map(move |(n, p)| (slot(*n), p))
    }

    /// Whether the chain took a proof of the partition in this very window.
    pub(crate) fn has_proof(&self, partition: &Partition, epoch: Epoch) -> bool {
        // Before a deadline opens the bits of its last window may still be there.
        partition.submitted && self.window.is_open(epoch)
    }
}

/// When something is decided.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) epoch: Epoch,
    pub(crate) now: Timestamp,
    /// How long an epoch lasts.
    pub(crate) epoch_time: Duration,
    /// How long reading a sector may take.
    pub(crate) read_timeout: Duration,
}

impl Moment {
    /// How long ago it was. A time to come is infinitely long ago: a clock that was set back must not stop us.
    pub(crate) fn age(&self, then: Timestamp) -> Duration {
        Duration::try_from(self.now.duration_since(then)).unwrap_or(Duration::MAX)
    }

    /// How long the epochs until then last.
    fn until(&self, epoch: Epoch) -> Duration {
        let epochs = u32::try_from(epoch.since(self.epoch)).unwrap_or_default();
        self.epoch_time.saturating_mul(epochs)
    }
}

/// What can be done about a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Verify the proof of these sectors that was reported before a restart.
    Check(BTreeSet<u64>),
    /// Prove these sectors.
    Prove(BTreeSet<u64>),
    /// Read what was left out once more: while the deadline is not open the partition can be proven again.
    Look(BTreeSet<u64>),
}

impl Work {
    /// For the log.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Check(_) => "check",
            Self::Prove(_) => "prove",
            Self::Look(_) => "look",
        }
    }

    /// The sectors in question.
    pub(crate) const fn sectors(&self) -> &BTreeSet<u64> {
        match self {
            Self::Check(sectors) | Self::Prove(sectors) | Self::Look(sectors) => sectors,
        }
    }
}

/// What is done about one partition in one window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) slot: Slot,
    pub(crate) window: Window,
    pub(crate) randomness: Hash32,
    pub(crate) commit: [u8; 32],
    pub(crate) work: Work,
    /// Whether there is a proof already, only not of all sectors.
    pub(crate) again: bool,
}

impl Step {
    /// What is more urgent stops what is less so: 0 for what a deadline is missed without.
    fn urgency(&self) -> u8 {
        match self.work {
            Work::Check(_) => 0,
            Work::Prove(_) if !self.again => 0,
            Work::Prove(_) => 1,
            Work::Look(_) => 2,
        }
    }
}

/// What is being done.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    pub(crate) step: Step,
    /// For how long.
    pub(crate) took: Duration,
    /// How long it may take when others wait.
    pub(crate) patience: Duration,
}

/// Why a partition has something done about it, or has not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// To do.
    Do(Work),
    /// Nothing to do.
    Rest(&'static str),
}

/// Why what is being done is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Nobody needs it any more.
    Useless(&'static str),
    /// The deadline closed.
    Closed,
    /// Something more urgent waits.
    GivesWay,
    /// It takes too long, and others wait that were tried no more often.
    TooLong,
}

impl Stop {
    /// Why, in words.
    pub(crate) const fn why(self) -> &'static str {
        match self {
            Self::Useless(why) => why,
            Self::Closed => "the deadline closed before it was done",
            Self::GivesWay => "something more urgent waits",
            Self::TooLong => "it took too long, and other partitions wait",
        }
    }
}

/// What to end and what to begin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) stop: Option<Stop>,
    pub(crate) start: Option<Step>,
}

/// What to end and what to begin: of what is equally urgent first the deadline that closes first, then the partition that was
/// tried the least often.
pub(crate) fn plan(dues: &[Due], at: &Moment, notes: &Notes, running: Option<&Running>) -> Plan {
    let steps = dues.iter().flat_map(|due| {
        due.slots().filter_map(move |(slot, partition)| {
            match decide(due, slot, partition, at, notes) {
                Decision::Do(work) => Some(Step {
                    slot,
                    window: due.window,
                    randomness: due.randomness,
                    commit: due.commit,
                    again: notes.is_proven(slot, due),
                    work,
                }),
                Decision::Rest(_) => None,
            }
        })
    });
    let others = steps.filter(|s| running.is_none_or(|r| r.step.slot != s.slot));
    let first = others.min_by_key(|step| {
        let check = Reverse(matches!(step.work, Work::Check(_)));
        let tries = notes.attempts(step.slot, &step.window);
        (step.urgency(), check, step.window.close, tries, step.slot)
    });
    let Some(running) = running else {
        return Plan {
            stop: None,
            start: first,
        };
    };
    let stop = useless(running, dues, at).or_else(|| gives_way(running, first.as_ref()?, notes));
    Plan {
        stop,
        start: stop.and(first),
    }
}

/// Decides about one partition in one window.
pub(crate) fn decide(
    due: &Due,
    slot: Slot,
    partition: &Partition,
    at: &Moment,
    notes: &Notes,
) -> Decision {
    let (window, sectors) = (&due.window, partition.to_prove());
    if !window.is_challenged(at.epoch) {
        return Decision::Rest("the challenge is not known yet, or the deadline is over");
    }
    if sectors.is_empty() {
        return Decision::Rest("there is nothing to prove");
    }
    if due.has_proof(partition, at.epoch) {
        return Decision::Rest("the chain has the proof");
    }
    if notes.is_past(slot, window) {
        return Decision::Rest("the chain node is behind: a later window is known");
    }
    let prove = Decision::Do(Work::Prove(sectors));
    let Some(report) = notes.report(slot, window).filter(|r| was_tried(r)) else {
        return prove;
    };
    if report.proof.is_none() {
        return match retry(report, window, at) {
            Ok(()) => prove,
            Err(why) => Decision::Rest(why),
        };
    }
    match notes.holds(slot, due) {
        Some(true) => {}
        Some(false) => return prove,
        None if notes.rests(slot, at) => return Decision::Rest("it is checked again soon"),
        None => {
            let claimed = partition.to_prove();
            let claimed = claimed.difference(&left_out(report)).copied().collect();
            return Decision::Do(Work::Check(claimed));
        }
    }
    // Once it is open the operator may have sent it; a second proof would be refused.
    if window.is_open(at.epoch) {
        return Decision::Rest("the proof is ready");
    }
    if notes.was_found(slot) {
        return prove;
    }
    let left_out = left_out(report);
    if left_out.is_empty() || notes.rests(slot, at) {
        return Decision::Rest("the proof is ready");
    }
    Decision::Do(Work::Look(left_out))
}

/// Whether the report says more than that the partition is due.
fn was_tried(report: &ProverReport) -> bool {
    report.proof.is_some() || report.error.is_some()
}

/// Sectors that the proof leaves out.
fn left_out(report: &ProverReport) -> BTreeSet<u64> {
    let ranges = filstar_crds::parse_ranges(&report.skipped_numbers).unwrap_or_default();
    ranges.into_iter().flatten().collect()
}

/// Whether what failed is tried again now.
fn retry(report: &ProverReport, window: &Window, at: &Moment) -> Result<(), &'static str> {
    if at.epoch + LAST_EPOCHS >= window.close {
        return Err("it is too late to try again");
    }
    let attempts = u32::try_from(report.attempts).unwrap_or(1);
    let pause = match report.error_class {
        Some(TaskClass::Fatal) => return Err("it failed, and only a person can help"),
        // It may have been the machine's fault; the same twice is not.
        Some(TaskClass::Permanent) if attempts > 1 => return Err("it failed twice"),
        Some(TaskClass::Permanent | TaskClass::Temporary | TaskClass::Corrupt) | None => {
            pause(attempts, at.epoch_time)
        }
    };
    let age = report.finished.as_ref().map(|t| at.age(t.0));
    if age.is_some_and(|age| age < pause) {
        return Err("it failed and is tried again soon");
    }
    Ok(())
}

/// Pause after so many failures: a third of an epoch, twice as long each time, at most four epochs (10 s to 2 min).
pub(crate) fn pause(failures: u32, epoch_time: Duration) -> Duration {
    let doubled = 1_u32 << failures.saturating_sub(1).min(10);
    let most = epoch_time.saturating_mul(4);
    (epoch_time / 3).saturating_mul(doubled).min(most)
}

/// How long a step may take when others wait: a few times as long as the longest did, and what waiting for stores that hang
/// may take. When none was ever made, half of what is left, or twice as long as was spent on one in vain: a machine on which
/// a proof takes more than half a window would else never make one.
pub(crate) fn patience(notes: &Notes, window: &Window, at: &Moment) -> Duration {
    if let Some(longest) = notes.longest() {
        return longest.saturating_mul(TIMES_LONGEST) + at.read_timeout.saturating_mul(4);
    }
    let in_vain = notes.longest_in_vain().unwrap_or_default();
    (at.until(window.close) / 2).max(in_vain.saturating_mul(2))
}

/// Why nobody needs what is being done. A window that the chain was not asked about, or did not answer for, is still needed.
fn useless(running: &Running, dues: &[Due], at: &Moment) -> Option<Stop> {
    let step = &running.step;
    if step.window.has_elapsed(at.epoch) {
        return Some(Stop::Closed);
    }
    let due = dues.iter().find(|d| d.window == step.window)?;
    let partition = due.partitions.get(&step.slot.partition);
    if partition.is_some_and(|p| due.has_proof(p, at.epoch)) {
        return Some(Stop::Useless("the chain has the proof"));
    }
    if due.randomness != step.randomness {
        return Some(Stop::Useless("the challenge is another one now"));
    }
    let late = step.urgency() > 0 && step.window.is_open(at.epoch);
    late.then_some(Stop::Useless("the deadline is open, and there is a proof"))
}

fn gives_way(running: &Running, first: &Step, notes: &Notes) -> Option<Stop> {
    let step = &running.step;
    match first.urgency().cmp(&step.urgency()) {
        std::cmp::Ordering::Less => Some(Stop::GivesWay),
        std::cmp::Ordering::Greater => None,
        std::cmp::Ordering::Equal => {
            let tries = |s: &Step| notes.attempts(s.slot, &s.window);
            let long = running.took > running.patience;
            (long && tries(first) <= tries(step)).then_some(Stop::TooLong)
        }
    }
}

#[cfg(test)]
mod tests;
