//! Which tasks to start and which to stop: a comparison of what the Sectors say with what runs. Pure.

use std::collections::BTreeMap;

use filstar_crds::{SealerReport, Sector, Task, TaskState};

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Run the current task of this sector.
    Start(String),
    /// Kill what runs for this sector: nobody wants it any more.
    Cancel(String),
}

/// Decides.
///
/// `running` has the task id by sector; `reports` has what this process found out, told or not.
pub(crate) fn decide(
    sectors: &BTreeMap<String, Sector>,
    pod_uid: &str,
    running: &BTreeMap<String, String>,
    reports: &BTreeMap<String, SealerReport>,
    may_compute: bool,
) -> Vec<Action> {
    let mut actions = Vec::new();
    for (name, id) in running {
        let wanted = sectors.get(name).and_then(|s| ours(s, pod_uid));
        if wanted.is_none_or(|t| t.id != *id) {
            actions.push(Action::Cancel(name.clone()));
        }
    }
    for (name, sector) in sectors {
        let Some(task) = ours(sector, pod_uid) else {
            continue;
        };
        let runs = running.get(name).is_some_and(|id| *id == task.id);
        let told = sector.status.as_ref().and_then(|s| s.sealer.as_ref());
        let ended = [told, reports.get(name)]
            .into_iter()
            .flatten()
            .any(|r| has_ended(r, &task.id));
        if may_compute && !runs && !ended {
            actions.push(Action::Start(name.clone()));
        }
    }
    actions
}

/// The sector's task, when it is for this pod.
pub(crate) fn ours<'a>(sector: &'a Sector, pod_uid: &str) -> Option<&'a Task> {
    sector
        .status
        .as_ref()?
        .task
        .as_ref()
        .filter(|t| t.pod_uid == pod_uid)
}

fn has_ended(report: &SealerReport, id: &str) -> bool {
    report.task_id == id
        && match report.state {
            TaskState::Running => false,
            TaskState::Succeeded | TaskState::Failed => true,
        }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn sectors(status: &Value) -> BTreeMap<String, Sector> {
        let sector = serde_json::from_value(json!({
            "apiVersion": "filstar.io/v1alpha1", "kind": "Sector",
            "metadata": {"name": "t01000-7"},
            "spec": {"minerRef": {"name": "m"}, "groupRef": {"name": "g"}, "number": 7,
                     "sealProof": "StackedDrg2KiBV1P1"},
            "status": status,
        }));
        BTreeMap::from([("t01000-7".to_owned(), sector.unwrap())])
    }

    fn task(id: &str, uid: &str) -> Value {
        json!({"id": id, "kind": "PC1", "podName": "p", "podUid": uid})
    }

    fn running(id: &str) -> BTreeMap<String, String> {
        BTreeMap::from([("t01000-7".to_owned(), id.to_owned())])
    }

    fn start() -> Vec<Action> {
        vec![Action::Start("t01000-7".into())]
    }

    fn cancel() -> Vec<Action> {
        vec![Action::Cancel("t01000-7".into())]
    }

    #[test]
    fn task_starts_when_it_is_bound_to_this_pod() {
        let none = BTreeMap::new();
        let mine = sectors(&json!({"task": task("PC1-1", "me")}));
        assert_eq!(decide(&mine, "me", &none, &BTreeMap::new(), true), start());
        assert_eq!(decide(&mine, "other", &none, &BTreeMap::new(), true), []);
        assert_eq!(decide(&mine, "me", &none, &BTreeMap::new(), false), []);
        assert_eq!(
            decide(&mine, "me", &running("PC1-1"), &BTreeMap::new(), true),
            []
        );
    }

    #[test]
    fn task_that_was_running_when_we_died_starts_again() {
        let told = json!({"task": task("PC1-1", "me"),
                          "sealer": {"taskId": "PC1-1", "state": "Running"}});
        let none = BTreeMap::new();
        assert_eq!(
            decide(&sectors(&told), "me", &none, &BTreeMap::new(), true),
            start()
        );
    }

    #[test]
    fn ended_task_never_starts_again_even_before_the_report_is_seen() {
        let none = BTreeMap::new();
        for state in ["Succeeded", "Failed"] {
            let report = json!({"taskId": "PC1-1", "state": state});
            let told = json!({"task": task("PC1-1", "me"), "sealer": report});
            assert_eq!(
                decide(&sectors(&told), "me", &none, &BTreeMap::new(), true),
                []
            );
            let known = serde_json::from_value(report).unwrap();
            let known = BTreeMap::from([("t01000-7".to_owned(), known)]);
            let untold = sectors(&json!({"task": task("PC1-1", "me")}));
            assert_eq!(decide(&untold, "me", &none, &known, true), []);
        }
    }

    #[test]
    fn task_is_cancelled_when_it_vanished_or_moved_or_was_replaced() {
        let known = BTreeMap::new();
        let gone = decide(&BTreeMap::new(), "me", &running("PC1-1"), &known, true);
        assert_eq!(gone, cancel());
        let none = sectors(&json!({}));
        assert_eq!(
            decide(&none, "me", &running("PC1-1"), &known, true),
            cancel()
        );
        let moved = sectors(&json!({"task": task("PC1-1", "other")}));
        assert_eq!(
            decide(&moved, "me", &running("PC1-1"), &known, true),
            cancel()
        );
        let replaced = sectors(&json!({"task": task("PC1-2", "me")}));
        let both = [cancel(), start()].concat();
        assert_eq!(
            decide(&replaced, "me", &running("PC1-1"), &known, true),
            both
        );
    }
}
