//! What a sweep asks for, and what is said of it. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use filstar_crds::{
    EndedSectors, Sweep, SweepKind, SweepReport, TaskState, format_ranges, parse_ranges,
};
use filstar_sealing::{
    Class, Task,
    task::{self, SectorSet, SweepOutput},
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::super::MAX_ERROR_CHARS;
use crate::wire::{self, Failure, Request};

/// At most so many sectors in one sweep: what is told of them fits into the status of a store.
const MOST: usize = 1500;
/// The longest text of sector numbers that the API takes.
const MAX_NUMBERS_CHARS: usize = 32_768;
/// What a store asks for, and what was said of it.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) sweep: Sweep,
    pub(super) report: Option<SweepReport>,
}

/// The store whose sweep is to be done next: one that has not ended, by what it says and by what we know.
pub(super) fn next(
    stores: &BTreeMap<String, Asked>,
    ours: &BTreeMap<&String, &SweepReport>,
) -> Option<String> {
    let mut open = stores.iter().filter(|(store, asked)| {
        let mut reports = asked.report.iter().chain(ours.get(store).copied());
        !reports.any(|r| r.id == asked.sweep.id && r.state != TaskState::Running)
    });
    open.next().map(|(store, _)| store.clone())
}

/// What to run for a sweep.
///
/// # Errors
/// `Fatal` when it names sectors in another way than the protocol does.
pub(super) fn request(sweep: &Sweep, store: &Path) -> Result<Request, Failure> {
    let set = |sectors: &EndedSectors| {
        let ranges = parse_ranges(&sectors.numbers).ok()?;
        Some(SectorSet {
            actor: actor(&sectors.actor)?,
            ranges: ranges.into_iter().map(|r| (*r.start(), *r.end())).collect(),
        })
    };
    let sectors: Option<Vec<_>> = sweep.sectors.iter().map(set).collect();
    let sectors = sectors.ok_or_else(|| {
        let text = format!("sweep {} names sectors in an unknown way", sweep.id);
        Failure::new(Class::Fatal, text)
    })?;
    Ok(Request {
        task: Task::Sweep(task::Sweep {
            store: store.to_owned(),
            remove: sweep.kind == SweepKind::Remove,
            sectors,
            most: MOST,
        }),
        from_scratch: false,
    })
}

/// The id of an actor such as `t01000`.
fn actor(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("t0").or_else(|| text.strip_prefix("f0"));
    digits?.parse().ok()
}

pub(super) fn report(id: &str, state: TaskState) -> SweepReport {
    SweepReport {
        id: id.to_owned(),
        state,
        finished: None,
        progress: None,
        sectors: Vec::new(),
        count: 0,
        bytes: 0,
        more: false,
        error_class: None,
        error: None,
    }
}

/// What is said of a sweep that ended. A removal that left something has failed; a list only leaves it out.
pub(super) fn ended(
    sweep: &Sweep,
    output: Result<SweepOutput, Failure>,
    now: Timestamp,
) -> SweepReport {
    let mut end = report(&sweep.id, TaskState::Succeeded);
    end.finished = Some(Time(now));
    let (output, failure) = match output {
        Ok(output) => {
            let problem = output.problem.clone();
            let failure = problem.map(|text| Failure::new(Class::Fatal, text));
            (Some(output), failure)
        }
        Err(failure) => (None, Some(failure)),
    };
    if let Some(failure) = failure {
        if output.is_none() || sweep.kind == SweepKind::Remove {
            end.state = TaskState::Failed;
            end.error_class = Some(wire::task_class(failure.class));
        }
        end.error = Some(failure.message.chars().take(MAX_ERROR_CHARS).collect());
    }
    let Some(output) = output else {
        return end;
    };
    for asked in &sweep.sectors {
        let id = actor(&asked.actor);
        let here = output.sectors.iter();
        let here = here.filter(|s| Some(s.sector.actor) == id);
        let numbers: BTreeSet<u64> = here.map(|s| s.sector.number).collect();
        if !numbers.is_empty() {
            end.sectors.push(EndedSectors {
                actor: asked.actor.clone(),
                numbers: format_ranges(&numbers, MAX_NUMBERS_CHARS),
            });
        }
    }
    let bytes = output.sectors.iter().map(|s| s.bytes).sum::<u64>();
    end.count = i64::try_from(output.sectors.len()).unwrap_or(i64::MAX);
    end.bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    end.more = output.more;
    end
}

#[cfg(test)]
mod tests {
    use filstar_sealing::{SectorId, task::Swept};

    use super::*;

    fn sweep(kind: SweepKind) -> Sweep {
        Sweep {
            id: "sweep-3".into(),
            kind,
            pod_name: "p".into(),
            pod_uid: "u".into(),
            sectors: vec![EndedSectors {
                actor: "t01000".into(),
                numbers: "3-5,9".into(),
            }],
        }
    }

    fn output(problem: Option<&str>) -> SweepOutput {
        let swept = |number, bytes| Swept {
            sector: SectorId {
                actor: 1000,
                number,
            },
            bytes,
        };
        SweepOutput {
            sectors: vec![swept(3, 10), swept(4, 5), swept(9, 1)],
            more: false,
            problem: problem.map(str::to_owned),
        }
    }

    #[test]
    fn removal_is_asked_for_only_by_a_sweep_that_removes() {
        for kind in [SweepKind::List, SweepKind::Remove] {
            let asked = request(&sweep(kind), Path::new("/stores/a")).unwrap();
            let Task::Sweep(task) = asked.task else {
                panic!("{asked:?}")
            };
            assert_eq!(task.remove, kind == SweepKind::Remove);
            assert_eq!(task.store, Path::new("/stores/a"));
            assert_eq!(task.sectors[0].ranges, [(3, 5), (9, 9)]);
            assert_eq!(task.sectors[0].actor, 1000);
        }
        for (actor, numbers) in [("1000", "3"), ("t01000", "3-"), ("x01000", "3")] {
            let mut other = sweep(SweepKind::Remove);
            other.sectors = vec![EndedSectors {
                actor: actor.into(),
                numbers: numbers.into(),
            }];
            assert!(request(&other, Path::new("/stores/a")).is_err(), "{actor}");
        }
    }

    #[test]
    fn sweep_is_done_once_and_again_after_a_restart_that_cut_it_short() {
        let asked = |state: Option<TaskState>| {
            let report = state.map(|s| report("sweep-3", s));
            let sweep = sweep(SweepKind::List);
            BTreeMap::from([("a".to_owned(), Asked { sweep, report })])
        };
        let none = BTreeMap::new();
        assert_eq!(next(&asked(None), &none).as_deref(), Some("a"));
        let cut = asked(Some(TaskState::Running));
        assert_eq!(next(&cut, &none).as_deref(), Some("a"));
        assert_eq!(next(&asked(Some(TaskState::Failed)), &none), None);
        let (name, end) = ("a".to_owned(), report("sweep-3", TaskState::Succeeded));
        assert_eq!(next(&cut, &BTreeMap::from([(&name, &end)])), None);
        let old = report("sweep-2", TaskState::Succeeded);
        let open = next(&cut, &BTreeMap::from([(&name, &old)]));
        assert_eq!(open.as_deref(), Some("a"));
    }

    #[test]
    fn end_tells_numbers_and_bytes_and_a_removal_that_left_something_has_failed() {
        let now = Timestamp::UNIX_EPOCH;
        let end = ended(&sweep(SweepKind::List), Ok(output(Some("a link"))), now);
        assert_eq!(
            (end.state, end.count, end.bytes),
            (TaskState::Succeeded, 3, 16)
        );
        assert_eq!(end.sectors[0].numbers, "3-4,9");
        assert_eq!(end.error.as_deref(), Some("a link"));
        let end = ended(&sweep(SweepKind::Remove), Ok(output(Some("a link"))), now);
        assert_eq!((end.state, end.count), (TaskState::Failed, 3));
        let lost = Failure::new(Class::Temporary, "no store");
        let end = ended(&sweep(SweepKind::List), Err(lost), now);
        assert_eq!((end.state, end.count), (TaskState::Failed, 0));
        assert_eq!(end.error.as_deref(), Some("no store"));
    }
}
