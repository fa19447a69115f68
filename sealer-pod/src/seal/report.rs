//! Reports about tasks: kept until they are told, told no more often than needed. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use filstar_crds::{SealerReport, TaskClass, TaskState};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Progress is told no more often than this.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);
/// Pause after the first failed try; doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What this process knows of its tasks, by sector.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    entries: BTreeMap<String, Entry>,
    /// Sectors of which something is being told. One at a time: what is told last must be what is known last.
    sending: BTreeSet<String>,
}

#[derive(Debug)]
struct Entry {
    report: SealerReport,
    told: Option<SealerReport>,
    not_before: Option<Instant>,
    failures: u32,
}

impl Reports {
    /// The newest report of each sector.
    pub(crate) fn known(&self) -> BTreeMap<String, SealerReport> {
        self.entries
            .iter()
            .map(|(name, e)| (name.clone(), e.report.clone()))
            .collect()
    }

    /// Replaces what is known; an important change is due at once.
    pub(crate) fn set(&mut self, sector: &str, report: SealerReport) {
        let new = Entry {
            report: report.clone(),
            told: None,
            not_before: None,
            failures: 0,
        };
        let entry = self.entries.entry(sector.to_owned()).or_insert(new);
        if !is_progress(&entry.report, &report) {
            entry.not_before = None;
        }
        entry.report = report;
    }

    /// Forgets all but what `keep` wants: a task that nobody asks for is not spoken of.
    pub(crate) fn retain(&mut self, keep: impl Fn(&str, &SealerReport) -> bool) {
        self.entries.retain(|name, e| keep(name, &e.report));
    }

    /// What is to be told now.
    pub(crate) fn due(&self, now: Instant) -> Vec<(String, SealerReport)> {
        let due = self.entries.iter().filter(|(name, e)| {
            e.told.as_ref() != Some(&e.report)
                && e.not_before.is_none_or(|t| t <= now)
                && !self.sending.contains(*name)
        });
        due.map(|(name, e)| (name.clone(), e.report.clone()))
            .collect()
    }

    /// A report of this sector is on its way.
    pub(crate) fn sends(&mut self, sector: &str) {
        self.sending.insert(sector.to_owned());
    }

    /// A report was told, or could not be.
    pub(crate) fn told(&mut self, sector: &str, report: SealerReport, ok: bool, now: Instant) {
        self.sending.remove(sector);
        let Some(entry) = self.entries.get_mut(sector) else {
            return;
        };
        if ok {
            entry.failures = 0;
            let waits = report.state == TaskState::Running && is_progress(&report, &entry.report);
            entry.not_before = waits.then(|| now + PROGRESS_EVERY);
            entry.told = Some(report);
        } else {
            let pause = FIRST_PAUSE * 2u32.saturating_pow(entry.failures.min(8));
            entry.failures += 1;
            entry.not_before = Some(now + pause.min(LONGEST_PAUSE));
        }
    }
}

/// Whether a report says nothing but how far the same task is.
fn is_progress(before: &SealerReport, after: &SealerReport) -> bool {
    before.state == after.state && before.task_id == after.task_id
}

/// Of a task that began then.
pub(super) fn report(task_id: &str, state: TaskState, started: Timestamp) -> SealerReport {
    SealerReport {
        task_id: task_id.to_owned(),
        state,
        started: Some(Time(started)),
        finished: None,
        progress: None,
        result: None,
        error_class: None::<TaskClass>,
        error: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(state: TaskState, percent: u32) -> SealerReport {
        serde_json::from_value(serde_json::json!({
            "taskId": "PC1-1", "state": state, "progress": {"percent": percent, "detail": ""},
        }))
        .unwrap()
    }

    #[test]
    fn progress_waits_and_the_end_does_not() {
        let (mut reports, now) = (Reports::default(), Instant::now());
        let first = report(TaskState::Running, 0);
        reports.set("a", first.clone());
        assert_eq!(reports.due(now).len(), 1);
        reports.told("a", first, true, now);
        assert_eq!(reports.due(now), []);
        reports.set("a", report(TaskState::Running, 50));
        assert_eq!(reports.due(now), []);
        assert_eq!(reports.due(now + PROGRESS_EVERY).len(), 1);
        reports.set("a", report(TaskState::Succeeded, 100));
        assert_eq!(reports.due(now).len(), 1);
    }

    #[test]
    fn one_report_of_a_sector_is_told_at_a_time_and_the_end_that_came_meanwhile_right_after_it() {
        let (mut reports, now) = (Reports::default(), Instant::now());
        let first = report(TaskState::Running, 0);
        reports.set("a", first.clone());
        reports.sends("a");
        let end = report(TaskState::Succeeded, 100);
        reports.set("a", end.clone());
        assert_eq!(reports.due(now), []);
        reports.told("a", first.clone(), true, now);
        assert_eq!(reports.due(now), [("a".to_owned(), end)]);
        // Another task's, while one of the first is still on its way.
        reports.sends("a");
        reports.retain(|_, _| false);
        let mut other = first.clone();
        other.task_id = "PC1-2".to_owned();
        reports.set("a", other.clone());
        assert_eq!(reports.due(now), []);
        reports.told("a", first, true, now);
        assert_eq!(reports.due(now), [("a".to_owned(), other)]);
    }

    #[test]
    fn failed_telling_is_repeated_with_pauses_until_it_works() {
        let (mut reports, mut now) = (Reports::default(), Instant::now());
        let end = report(TaskState::Succeeded, 100);
        reports.set("a", end.clone());
        for _ in 0..20 {
            reports.told("a", end.clone(), false, now);
            assert_eq!(reports.due(now), []);
            now += LONGEST_PAUSE;
            assert_eq!(reports.due(now).len(), 1);
        }
        reports.told("a", end, true, now);
        assert_eq!(reports.due(now + LONGEST_PAUSE), []);
    }
}
