//! What the prover knows of its partitions: reports, what was verified, what was tried in vain. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use filstar_chain::{Epoch, proving::Window};
use filstar_crds::{ProverReport, SkippedSector, format_ranges};
use filstar_sealing::{Class, Hash32, task::Skipped};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::plan::{Due, Moment, Slot, Step, pause};
use crate::wire::{Failure, task_class};

/// Left-out sectors that a report names with the reason.
const NAMED: usize = 8;
/// Longest reason and error that the API takes.
const MAX_REASON_CHARS: usize = 500;
const MAX_ERROR_CHARS: usize = 4000;

/// What came of proving a partition once.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// The proof, verified; or why there is none.
    pub(crate) proof: Result<Vec<u8>, Failure>,
    /// Registered number of the proof's type.
    pub(crate) post_proof: i64,
    /// How many sectors it proves.
    pub(crate) proven: usize,
    pub(crate) skipped: Vec<Skipped>,
}

impl Attempt {
    /// Nothing was even read.
    pub(crate) fn failed(failure: Failure) -> Self {
        Self {
            proof: Err(failure),
            post_proof: 0,
            proven: 0,
            skipped: Vec::new(),
        }
    }
}

/// Opening and challenge that a proof was verified with.
type Mark = (Epoch, Hash32);

/// What was tried in vain, how often, and when last.
#[derive(Clone, Copy, Debug)]
struct InVain {
    open: Epoch,
    times: u32,
    last: Timestamp,
}

/// What the prover knows of its partitions.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    reports: BTreeMap<Slot, ProverReport>,
    /// Whether a report's proof holds.
    checked: BTreeMap<Slot, (Mark, bool)>,
    /// Partitions with sectors that their proof leaves out and that can be read now.
    found: BTreeSet<Slot>,
    /// Checks and looks; failed proofs are in the reports.
    in_vain: BTreeMap<Slot, InVain>,
}

impl Notes {
    /// Takes over what was reported before a restart, where no more is known by now: an earlier window, or no proof of this
    /// one.
    pub(crate) fn recall(&mut self, reports: impl IntoIterator<Item = ProverReport>) {
        let with_slot = |r: ProverReport| Some((slot_of(&r)?, r));
        for (slot, report) in reports.into_iter().filter_map(with_slot) {
            let says_more = self.reports.get(&slot).is_none_or(|ours| {
                let has_proof = |r: &ProverReport| r.proof.is_some();
                (ours.open, has_proof(ours)) < (report.open, has_proof(&report))
            });
            if says_more {
                self.forget(slot);
                self.reports.insert(slot, report);
            }
        }
    }

    /// Whether a later window of the partition is known. A chain node that is behind still shows the earlier one.
    pub(crate) fn is_past(&self, slot: Slot, window: &Window) -> bool {
        let report = self.reports.get(&slot);
        report.is_some_and(|r| r.open > window.open.0)
    }

    /// All reports, by deadline and partition.
    pub(crate) fn reports(&self) -> impl Iterator<Item = &ProverReport> {
        self.reports.values()
    }

    /// The report on a partition in this window.
    pub(crate) fn report(&self, slot: Slot, window: &Window) -> Option<&ProverReport> {
        let report = self.reports.get(&slot);
        report.filter(|r| r.open == window.open.0)
    }

    /// How often a proof was tried in this window.
    pub(crate) fn attempts(&self, slot: Slot, window: &Window) -> i64 {
        self.report(slot, window).map_or(0, |r| r.attempts)
    }

    /// Whether the report's proof holds for the challenge of now; none when it was not verified with it.
    pub(crate) fn holds(&self, slot: Slot, due: &Due) -> Option<bool> {
        let (mark, holds) = self.checked.get(&slot)?;
        (*mark == (due.window.open, due.randomness)).then_some(*holds)
    }

    /// Whether there is a proof for the challenge of now that holds.
    pub(crate) fn is_proven(&self, slot: Slot, due: &Due) -> bool {
        let report = self.report(slot, &due.window);
        report.is_some_and(|r| r.proof.is_some()) && self.holds(slot, due) == Some(true)
    }

    /// Whether a sector that the proof leaves out was read since.
    pub(crate) fn was_found(&self, slot: Slot) -> bool {
        self.found.contains(&slot)
    }

    /// Whether something was tried in vain so recently that it is too early for the next try.
    pub(crate) fn rests(&self, slot: Slot, at: &Moment) -> bool {
        let in_vain = self.in_vain.get(&slot);
        in_vain.is_some_and(|v| at.age(v.last) < pause(v.times, at.epoch_time))
    }

    /// The longest time that a proof took.
    pub(crate) fn longest(&self) -> Option<Duration> {
        self.longest_of(|r| r.proof.is_some())
    }

    /// The longest time that was spent on a proof in vain.
    pub(crate) fn longest_in_vain(&self) -> Option<Duration> {
        self.longest_of(|r| r.error.is_some())
    }

    fn longest_of(&self, which: impl Fn(&ProverReport) -> bool) -> Option<Duration> {
        let all = self.reports.values().filter(|r| which(r));
        let millis = all.filter_map(|r| u64::try_from(r.millis).ok()).max();
        millis.map(Duration::from_millis)
    }

    /// Takes over what the chain says of a window: partitions that are due are noted, so that everybody sees what is still to
    /// come; and the commitment of what is reported becomes that of the chain as it is now.
    pub(crate) fn observe(&mut self, due: &Due, epoch: Epoch) {
        for (slot, partition) in due.slots() {
            let sectors = partition.to_prove();
            let past = self.is_past(slot, &due.window);
            if past || sectors.is_empty() || due.has_proof(partition, epoch) {
                continue;
            }
            let rand = BASE64.encode(due.commit);
            let known = self.reports.get_mut(&slot);
            match known.filter(|r| r.open == due.window.open.0) {
                Some(report) if report.chain_commit_rand == rand => {}
                Some(report) => report.chain_commit_rand = rand,
                None => {
                    let report = ProverReport {
                        sectors: signed(sectors.len()),
                        ..blank(&due.window, slot, rand)
                    };
                    self.forget(slot);
                    self.reports.insert(slot, report);
                }
            }
        }
    }

    /// Forgets reports of windows that closed before this epoch.
    pub(crate) fn forget_before(&mut self, epoch: Epoch) {
        self.reports.retain(|_, r| r.close > epoch.0);
    }

    fn forget(&mut self, slot: Slot) {
        self.checked.remove(&slot);
        self.found.remove(&slot);
        self.in_vain.remove(&slot);
    }

    /// Notes whether a proof from before a restart holds. A check that could not be made says nothing.
    pub(crate) fn checked(&mut self, step: &Step, result: &Result<(), Failure>, now: Timestamp) {
        let holds = match result {
            Ok(()) => true,
            Err(failure) if failure.class == Class::Permanent => false,
            Err(_) => return self.in_vain(step, now),
        };
        let mark = (step.window.open, step.randomness);
        self.checked.insert(step.slot, (mark, holds));
    }

    /// Notes whether a sector that was left out can be read.
    pub(crate) fn looked(&mut self, step: &Step, found: bool, now: Timestamp) {
        if found {
            self.found.insert(step.slot);
        } else {
            self.in_vain(step, now);
        }
    }

    fn in_vain(&mut self, step: &Step, now: Timestamp) {
        let open = step.window.open;
        let before = self.in_vain.get(&step.slot).filter(|v| v.open == open);
        let times = before.map_or(0, |v| v.times).saturating_add(1);
        let last = now;
        self.in_vain.insert(step.slot, InVain { open, times, last });
    }

    /// Notes what came of a try to prove. A proof that holds stays when there is no better one.
    pub(crate) fn proven(&mut self, step: &Step, attempt: Attempt, took: Duration, now: Timestamp) {
        self.found.remove(&step.slot);
        if attempt.proof.is_err() && step.again {
            return self.in_vain(step, now);
        }
        let before = self.report(step.slot, &step.window);
        let attempts = before.map_or(0, |r| r.attempts).saturating_add(1);
        // A reorg may have changed it meanwhile.
        let commit = before.map(|r| r.chain_commit_rand.clone());
        let commit = commit.unwrap_or_else(|| BASE64.encode(step.commit));
        let mark = (step.window.open, step.randomness);
        if attempt.proof.is_ok() {
            self.checked.insert(step.slot, (mark, true));
        } else {
            self.checked.remove(&step.slot);
        }
        let report = ProverReport {
            attempts,
            millis: i64::try_from(took.as_millis()).unwrap_or(i64::MAX),
            finished: Some(Time(now)),
            ..filled(blank(&step.window, step.slot, commit), attempt)
        };
        self.reports.insert(step.slot, report);
    }
}

/// A report on a partition that is due.
fn blank(window: &Window, slot: Slot, commit: String) -> ProverReport {
    ProverReport {
        deadline: signed(slot.deadline),
        partition: signed(slot.partition),
        open: window.open.0,
        close: window.close.0,
        challenge: window.challenge.0,
        chain_commit_epoch: window.challenge.0,
        chain_commit_rand: commit,
        ..ProverReport::default()
    }
}

fn filled(blank: ProverReport, attempt: Attempt) -> ProverReport {
    let numbers: BTreeSet<u64> = attempt.skipped.iter().map(|s| s.number).collect();
    let (proof, error) = match attempt.proof {
        Ok(proof) => (Some(BASE64.encode(proof)), None),
        Err(failure) => (None, Some(failure)),
    };
    ProverReport {
        post_proof: attempt.post_proof,
        sectors: signed(attempt.proven),
        skipped_sectors: signed(numbers.len()),
        // Who left out a sector and does not say so has claimed it: the list is whole, or there is no proof.
        skipped_numbers: proof
            .as_ref()
            .map(|_| format_ranges(&numbers, usize::MAX))
            .unwrap_or_default(),
        skipped: attempt.skipped.iter().take(NAMED).map(named).collect(),
        error_class: error.as_ref().map(|f| task_class(f.class)),
        error: error.map(|f| f.to_string().chars().take(MAX_ERROR_CHARS).collect()),
        proof,
        ..blank
    }
}

fn named(sector: &Skipped) -> SkippedSector {
    SkippedSector {
        number: signed(sector.number),
        reason: sector.reason.chars().take(MAX_REASON_CHARS).collect(),
    }
}

fn slot_of(report: &ProverReport) -> Option<Slot> {
    Some(Slot {
        deadline: u64::try_from(report.deadline).ok()?,
        partition: u64::try_from(report.partition).ok()?,
    })
}

fn signed<T: TryInto<i64>>(number: T) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
