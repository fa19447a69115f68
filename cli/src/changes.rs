//! What changed between two snapshots, one line for each change that a person cares about.

use std::collections::BTreeMap;
use std::fmt::Debug;

use filstar_crds::{ChainMessage, PostBatch, Sector};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;

use crate::snapshot::Snapshot;
use crate::text::{length, ready};

/// The lines, oldest matters first: what objects say of themselves, sectors, messages, deadlines.
pub(crate) fn changes(old: &Snapshot, new: &Snapshot) -> Vec<String> {
    let (before, after) = (states(old), states(new));
    let mut lines: Vec<String> = after
        .iter()
        .filter(|(key, text)| before.get(*key) != Some(*text) && !text.is_empty())
        .map(|((_, key), text)| format!("{key}: {text}"))
        .collect();
    let gone = before.keys().filter(|key| !after.contains_key(*key));
    lines.extend(gone.map(|(_, key)| format!("{key}: gone")));
    lines
}

/// What is shown of each object, by order and name. Two snapshots differ in a line when these differ.
fn states(snapshot: &Snapshot) -> BTreeMap<(u8, String), String> {
    let mut states = BTreeMap::new();
    let mut add = |order: u8, key: String, text: String| {
        states.insert((order, key), text);
    };
    for m in &snapshot.miners {
        add(
            0,
            format!("miner {}", m.name_any()),
            health(m.status.as_ref().map(|s| &s.conditions)),
        );
    }
    for g in &snapshot.groups {
        let status = g.status.as_ref();
        add(
            1,
            format!("group {}", g.name_any()),
            health(status.map(|s| &s.conditions)),
        );
        for pod in status.iter().flat_map(|s| &s.pods) {
            let placement = pod
                .placement
                .as_deref()
                .map(|p| format!(", {p}"))
                .unwrap_or_default();
            let text = format!("{} on {}{placement}", pod.phase, pod.node);
            add(2, format!("pod {}", pod.name), text);
        }
    }
    for s in &snapshot.sectors {
        add(3, format!("sector {}", s.name_any()), sector(s));
    }
    for m in &snapshot.messages {
        add(4, format!("message {}", m.name_any()), message(m));
    }
    for b in &snapshot.batches {
        for (key, text) in deadlines(b) {
            add(5, key, text);
        }
    }
    states
}

fn health(conditions: Option<&Vec<Condition>>) -> String {
    let Some(ready) = conditions.and_then(|c| ready(c)) else {
        return String::new();
    };
    if ready.message.is_empty() {
        ready.reason.clone()
    } else {
        format!("{}: {}", ready.reason, ready.message)
    }
}

fn sector(sector: &Sector) -> String {
    let Some(status) = &sector.status else {
        return "created".into();
    };
    let phase = status
        .phase
        .map_or("created", filstar_crds::SectorPhase::as_str);
    let node = status
        .binding
        .as_ref()
        .map(|b| format!(" on {}", b.node))
        .unwrap_or_default();
    let last = status
        .timeline
        .iter()
        .rev()
        .find_map(|t| Some((t.phase, t.seconds?)));
    let took = last.map(|(p, s)| format!(" ({} took {})", p.as_str(), length(s)));
    let failure = status.failure.as_ref().map(|f| format!(": {}", f.message));
    let retry = status.attempts.as_ref().filter(|a| a.failed > 0);
    let retry = retry.map(|a| {
        format!(
            ", failed {} times: {}",
            a.failed,
            a.last_error.as_deref().unwrap_or("-")
        )
    });
    let parts = [took, failure, retry]
        .into_iter()
        .flatten()
        .collect::<String>();
    format!("{phase}{node}{parts}")
}

fn message(message: &ChainMessage) -> String {
    let Some(status) = &message.status else {
        return String::new();
    };
    let state = text(status.state.unwrap_or_default());
    let epoch = status
        .landed_epoch
        .map(|e| format!(" at epoch {e}"))
        .unwrap_or_default();
    let fee = status
        .fee
        .as_deref()
        .map(|f| format!(", fee {f}"))
        .unwrap_or_default();
    let exit = status
        .exit_code
        .filter(|c| *c != 0)
        .map(|c| format!(", exit code {c}"));
    format!("{state}{epoch}{fee}{}", exit.unwrap_or_default())
}

fn deadlines(batch: &PostBatch) -> Vec<(String, String)> {
    let status = batch.status.clone().unwrap_or_default();
    let mut states = vec![(
        format!("batch {}", batch.name_any()),
        health(Some(&status.conditions)),
    )];
    for d in &status.deadlines {
        let text = format!(
            "{} ({} sectors, opened at epoch {})",
            text(d.state),
            d.sectors,
            d.open
        );
        states.push((format!("deadline {}", d.index), text));
    }
    for p in &status.prover {
        let text = match &p.error {
            Some(error) => format!("no proof: {error}"),
            None if p.finished.is_none() => format!("{} sectors are to be proven", p.sectors),
            None => format!(
                "proof of {} sectors made in {}",
                p.sectors,
                length(p.millis / 1000)
            ),
        };
        let key = format!(
            "partition {}/{} of epoch {}",
            p.deadline, p.partition, p.open
        );
        states.push((key, text));
    }
    states
}

/// The API's name of a variant, which is its name here.
fn text(value: impl Debug) -> String {
    format!("{value:?}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use filstar_crds::SectorPhase;

    #[test]
    fn nothing_is_said_when_nothing_changed() {
        let world = testing::demo();
        assert_eq!(changes(&world, &world), Vec::<String>::new());
    }

    #[test]
    fn sector_that_moves_on_is_one_line() {
        let old = testing::demo();
        let mut new = old.clone();
        let status = new.sectors[1].status.as_mut().unwrap();
        status.phase = Some(SectorPhase::PreCommitting);
        status.timeline[0].seconds = Some(4);
        assert_eq!(
            changes(&old, &new),
            ["sector t01000-1: PreCommitting on node-b (PC2 took 4s)"]
        );
    }

    #[test]
    fn everything_is_said_at_first_and_what_is_removed_at_last() {
        let world = testing::demo();
        let empty = Snapshot::default();
        let lines = changes(&empty, &world);
        assert!(
            lines.contains(&"miner demo: Ready".to_owned()),
            "{lines:#?}"
        );
        assert!(
            lines.iter().any(|l| l.starts_with("deadline 3: Accepted")),
            "{lines:#?}"
        );
        assert!(changes(&world, &empty).contains(&"sector t01000-0: gone".to_owned()));
    }
}
