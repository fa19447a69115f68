//! The report: what is there, how it is, what it cost. A text from a snapshot and the time.

use filstar_crds::{
    ChainMessage, Miner, PostBatch, SealingGroup, Sector, SectorStore, TimelineEntry, conditions,
};
use jiff::Timestamp;
use kube::ResourceExt;

use crate::snapshot::Snapshot;
use crate::summary::Summary;
use crate::table::table;
use crate::text::{condition, length, not_ready, ready, ready_reason, short};

/// Characters of the longest bar of a timeline.
const BAR: i64 = 48;

/// The whole report; its last line is the total.
pub(crate) fn report(snapshot: &Snapshot, now: Timestamp) -> String {
    let sections = [
        snapshot
            .nothing()
            .map_or_else(String::new, |text| text + "\n"),
        heads(snapshot),
        sectors(&snapshot.sectors, now),
        messages(&snapshot.messages),
        deadlines(&snapshot.batches),
        trouble(snapshot),
        Summary::of(snapshot).line(),
    ];
    sections
        .into_iter()
        .filter(|s| !s.is_empty())
        .collect::<Vec<_>>()
        .join("\n")
}

fn heads(snapshot: &Snapshot) -> String {
    let miners = snapshot.miners.iter().map(miner);
    let groups = snapshot.groups.iter().map(group);
    let stores = snapshot.stores.iter().map(store);
    miners.chain(groups).chain(stores).collect()
}

fn miner(miner: &Miner) -> String {
    let s = miner.status.clone().unwrap_or_default();
    format!(
        "Miner {}: {} {}, power {}, available {}\n",
        miner.name_any(),
        miner.spec.actor_id,
        ready_reason(&s.conditions),
        s.power.as_deref().unwrap_or("-"),
        s.available_balance.as_deref().unwrap_or("-"),
    )
}

fn group(group: &SealingGroup) -> String {
    let s = group.status.clone().unwrap_or_default();
    let head = format!(
        "Group {}: {}, pods {}, {} sectors in flight, {} proving\n",
        group.name_any(),
        ready_reason(&s.conditions),
        s.pods_ready.as_deref().unwrap_or("-"),
        s.in_flight,
        s.proving,
    );
    let pods = s.pods.iter().map(|p| {
        let placement = p.placement.as_deref().unwrap_or("placement not known yet");
        format!("  {} on {}: {}, {placement}\n", p.name, p.node, p.phase)
    });
    std::iter::once(head)
        .chain(pods)
        .chain(std::iter::once(gates(group)))
        .collect()
}

/// Why sectors are pledged, or not: the closed gates first.
fn gates(group: &SealingGroup) -> String {
    let status = group.status.as_ref();
    let Some(open) = status.and_then(|s| condition(&s.conditions, conditions::PLEDGE_OPEN)) else {
        return String::new();
    };
    let mut gates: Vec<_> = status.map(|s| s.gates.iter().collect()).unwrap_or_default();
    gates.sort_by_key(|gate| gate.open);
    let lines = gates.into_iter().map(|gate| {
        let state = if gate.open { "open" } else { "closed" };
        format!("    {:<15} {state:<6} {}\n", gate.name, gate.reason)
    });
    let head = format!("  Pledging {}\n", open.reason);
    std::iter::once(head).chain(lines).collect()
}

fn store(store: &SectorStore) -> String {
    let s = store.status.clone().unwrap_or_default();
    let used = s.used_percent.map(|u| format!(", {u}% used"));
    format!(
        "Store {}: {} sectors{}\n",
        store.name_any(),
        s.sectors,
        used.unwrap_or_default()
    )
}

fn sectors(sectors: &[Sector], now: Timestamp) -> String {
    let parts: Vec<String> = sectors.iter().map(|s| sector(s, now)).collect();
    parts.join("\n")
}

fn sector(sector: &Sector, now: Timestamp) -> String {
    let status = sector.status.clone().unwrap_or_default();
    let phase = status.phase.unwrap_or_default().as_str();
    let node = status
        .binding
        .map(|b| format!(", sealed on {}", b.node))
        .unwrap_or_default();
    let store = status.store.filter(|s| s.landed);
    let store = store
        .map(|s| format!(", in store {}", s.name))
        .unwrap_or_default();
    let comm_r = status
        .comm_r
        .map(|c| format!(", CommR {}", short(&c, 16)))
        .unwrap_or_default();
    let head = format!(
        "Sector {}: {phase}{node}{store}{comm_r}\n",
        sector.name_any()
    );
    head + &timeline(&status.timeline, now)
}

/// One line for each phase, with a bar from its start to its end. `Proving` has no end and no bar.
fn timeline(entries: &[TimelineEntry], now: Timestamp) -> String {
    let Some(first) = entries.first() else {
        return String::new();
    };
    let start = first.started.0.as_second();
    let timed: Vec<(&TimelineEntry, i64, i64)> = entries
        .iter()
        .map(|e| {
            let begin = e.started.0.as_second() - start;
            let open = e.phase != filstar_crds::SectorPhase::Proving;
            let running = if open {
                now.as_second() - start - begin
            } else {
                0
            };
            (e, begin, e.seconds.unwrap_or(running).max(0))
        })
        .collect();
    let whole = timed
        .iter()
        .map(|(_, b, l)| b + l)
        .max()
        .unwrap_or(0)
        .max(1);
    let mut out = String::new();
    for (entry, begin, took) in timed {
        let from = begin * BAR / whole;
        let to = (((begin + took) * BAR + whole - 1) / whole).clamp(from, BAR);
        let blank = usize::try_from(from).unwrap_or(0);
        let full = usize::try_from(to - from).unwrap_or(0);
        let text = format!(
            "  {:<14} +{:<7} {:>7}  {}{}",
            entry.phase.as_str(),
            length(begin),
            if entry.seconds.is_none() && took == 0 {
                String::new()
            } else {
                length(took)
            },
            " ".repeat(blank),
            "█".repeat(full)
        );
        out += text.trim_end();
        out.push('\n');
    }
    out
}

fn messages(messages: &[ChainMessage]) -> String {
    let rows: Vec<Vec<String>> = messages.iter().map(message).collect();
    let head = [
        "MESSAGE", "KIND", "STATE", "NONCE", "EPOCH", "EXIT", "GAS", "FEE", "PUSHES",
    ];
    titled("Messages", &table(&head, &rows))
}

fn message(message: &ChainMessage) -> Vec<String> {
    let s = message.status.clone().unwrap_or_default();
    vec![
        message.name_any(),
        message.spec.kind.as_str().into(),
        format!("{:?}", s.state.unwrap_or_default()),
        or_dash(s.nonce),
        or_dash(s.landed_epoch),
        or_dash(s.exit_code),
        or_dash(s.gas_used),
        s.fee.unwrap_or_else(|| "-".into()),
        s.pushes.to_string(),
    ]
}

fn deadlines(batches: &[PostBatch]) -> String {
    let mut rows = Vec::new();
    for b in batches {
        let status = b.status.clone().unwrap_or_default();
        for d in &status.deadlines {
            let reports = || status.prover.iter().filter(|p| p.deadline == d.index);
            let millis: i64 = reports().map(|p| p.millis).sum();
            rows.push(vec![
                b.name_any(),
                d.index.to_string(),
                d.open.to_string(),
                format!("{:?}", d.state),
                d.sectors.to_string(),
                d.skipped.to_string(),
                format!("{}.{}s", millis / 1000, millis % 1000 / 100),
                or_dash(d.landed_epoch),
                d.messages.join(" "),
            ]);
        }
    }
    let head = [
        "BATCH", "DEADLINE", "OPEN", "STATE", "SECTORS", "SKIPPED", "PROOF", "LANDED", "MESSAGES",
    ];
    titled("Deadlines", &table(&head, &rows))
}

/// Objects that say they are not well, with what they say.
fn trouble(snapshot: &Snapshot) -> String {
    let mut rows = Vec::new();
    let mut check = |kind: &str, name: String, conditions: Option<&Vec<_>>| {
        let none = Vec::new();
        let conditions = conditions.unwrap_or(&none);
        if not_ready(conditions) {
            let message = ready(conditions).map_or("no status yet", |c| c.message.as_str());
            rows.push(vec![
                format!("{kind}/{name}"),
                ready_reason(conditions).into(),
                message.into(),
            ]);
        }
    };
    for o in &snapshot.miners {
        check(
            "miner",
            o.name_any(),
            o.status.as_ref().map(|s| &s.conditions),
        );
    }
    for o in &snapshot.groups {
        check(
            "sealinggroup",
            o.name_any(),
            o.status.as_ref().map(|s| &s.conditions),
        );
    }
    for o in &snapshot.stores {
        check(
            "sectorstore",
            o.name_any(),
            o.status.as_ref().map(|s| &s.conditions),
        );
    }
    for o in &snapshot.batches {
        check(
            "postbatch",
            o.name_any(),
            o.status.as_ref().map(|s| &s.conditions),
        );
    }
    for o in &snapshot.sectors {
        check(
            "sector",
            o.name_any(),
            o.status.as_ref().map(|s| &s.conditions),
        );
    }
    for o in snapshot.messages.iter().filter(|m| failed(m)) {
        check(
            "chainmessage",
            o.name_any(),
            o.status.as_ref().map(|s| &s.conditions),
        );
    }
    titled("Not ready", &table(&["OBJECT", "REASON", "MESSAGE"], &rows))
}

fn failed(message: &ChainMessage) -> bool {
    let state = message.status.as_ref().and_then(|s| s.state);
    state == Some(filstar_crds::MessageState::Failed)
}

fn titled(title: &str, table: &str) -> String {
    if table.is_empty() {
        String::new()
    } else {
        format!("{title}\n{table}")
    }
}

fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".into(), |v| v.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn demo() -> String {
        report(&testing::demo(), testing::at(1300))
    }

    #[test]
    fn report_shows_each_sector_with_the_lengths_of_its_phases() {
        let text = demo();
        assert!(
            text.contains("Sector t01000-0: Proving, sealed on node-a, in store demo"),
            "{text}"
        );
        assert!(
            text.contains("  PC1            +0s           3s  ██\n"),
            "{text}"
        );
        assert!(
            text.contains("  C2             +3s        1m57s   ██"),
            "{text}"
        );
        assert!(text.contains("  Proving        +2m00s\n"), "{text}");
    }

    #[test]
    fn report_of_an_empty_namespace_says_that_it_is_empty_and_how_to_name_another() {
        let empty = Snapshot {
            namespace: "default".into(),
            ..Snapshot::default()
        };
        let text = report(&empty, testing::at(0));
        assert!(
            text.starts_with("namespace default has no objects"),
            "{text}"
        );
        assert!(
            text.contains("-n") && text.ends_with("0 window proofs accepted"),
            "{text}"
        );
        assert!(!demo().contains("has no objects"));
    }

    #[test]
    fn phase_that_goes_on_lasts_until_now() {
        let text = demo();
        assert!(
            text.contains("  PC2            +0s        5m00s  ████"),
            "{text}"
        );
    }

    #[test]
    fn report_shows_messages_with_fees_and_deadlines_with_proofs() {
        let text = demo();
        assert!(text.contains("t01000-0-commit-0"), "{text}");
        assert!(text.contains("0.0021 FIL"), "{text}");
        assert!(
            text.contains("  demo   3         60    Accepted  1"),
            "{text}"
        );
    }

    #[test]
    fn report_names_what_is_not_ready_and_why() {
        let text = demo();
        let trouble = text.split("Not ready\n").nth(1).unwrap();
        assert!(trouble.contains("sector/t01000-1"), "{text}");
        assert!(
            trouble.contains("chainmessage/t01000-1-precommit-0"),
            "{text}"
        );
        assert!(!trouble.contains("miner/demo"), "{text}");
    }

    #[test]
    fn report_says_why_nothing_is_pledged_the_closed_gates_first() {
        let text = demo();
        let closed =
            "  Pledging Balance\n    Balance         closed 1 FIL available, 5.21 FIL needed\n";
        assert!(text.contains(closed), "{text}");
        assert!(
            text.contains("    ChainSync       open   the chain node is in sync\n"),
            "{text}"
        );
    }

    #[test]
    fn report_ends_with_the_total() {
        assert!(demo().ends_with("3 window proofs accepted"));
        let empty = report(&Snapshot::default(), testing::at(0));
        let last = empty.lines().last().unwrap();
        assert!(last.starts_with("total: 0/0"), "{empty}");
    }
}
