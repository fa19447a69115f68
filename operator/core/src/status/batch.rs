//! What to say about a `PostBatch`: deadline by deadline, what became of the prover's proofs.

mod placement;

use std::collections::BTreeMap;

use filstar_crds::{
    ChainMessage, DeadlineState, DeadlineStatus, MessageState, PostBatch, PostBatchStatus,
    ProverReport, conditions,
};

use super::Say;
use super::faults;
use crate::plan::fleet::Fleet;
use crate::plan::message::newest;
use crate::plan::names;
use crate::plan::pods;
use crate::plan::reach::{Reach, help};
use crate::world::{ChainFacts, Id, MinerFacts, Now, World, pod};

/// Partitions that a condition names.
const NAMED: usize = 8;

/// The new status, or none when nothing changed.
pub(super) fn status(
    world: &World,
    now: Now,
    (fleet, reach): (&Fleet, &Reach),
    id: &Id,
    batch: &PostBatch,
) -> Option<PostBatchStatus> {
    let mut old = batch.status.clone().unwrap_or_default();
    let reports = std::mem::take(&mut old.prover);
    // The prover's too.
    let unread = std::mem::take(&mut old.faults);
    let miner_id = Id::new(&id.namespace, &batch.spec.miner_ref.name);
    let chain = world.chain_for_proofs(&miner_id);
    let actor = world
        .miners
        .get(&miner_id)
        .and_then(|m| MinerFacts::parse(m).ok())
        .map(|f| f.actor_text)
        .unwrap_or_default();
    let deadlines = deadlines(world, id, &actor, chain, &reports, &old.deadlines);
    let mut next = PostBatchStatus {
        observed_generation: batch.metadata.generation,
        conditions: old.conditions.clone(),
        accepted: old.accepted + newly_accepted(&old.deadlines, &deadlines),
        faulty_sectors: chain
            .and_then(|c| i64::try_from(c.faulty).ok())
            .unwrap_or(old.faulty_sectors),
        recovering_sectors: chain
            .and_then(|c| i64::try_from(c.recovering).ok())
            .unwrap_or(old.recovering_sectors),
        deadlines,
        prover: Vec::new(),
        faults: Vec::new(),
    };
    let mut said = std::mem::take(&mut next.conditions);
    let mut say = Say {
        conditions: &mut said,
        generation: batch.metadata.generation,
        now,
    };
    let covered = say_covered(&mut say, world, reach, id, batch);
    say_on_time(&mut say, chain, &next);
    placement::say(&mut say, world, fleet.prover(id), id, batch);
    faults::say_readable(&mut say, &next, &unread);
    say_ready(&mut say, world, id, batch, &next, &reports, covered);
    next.conditions = said;
    (next != old).then_some(next)
}

/// Proofs of deadlines that were not accepted before and are now. The state that is written along with the counter
/// keeps each from being counted twice.
fn newly_accepted(old: &[DeadlineStatus], new: &[DeadlineStatus]) -> i64 {
    let before: BTreeMap<(i64, i64), DeadlineState> =
        old.iter().map(|d| ((d.index, d.open), d.state)).collect();
    let fresh = new.iter().filter(|d| {
        d.state == DeadlineState::Accepted
            && before.get(&(d.index, d.open)) != Some(&DeadlineState::Accepted)
    });
    fresh
        .map(|d| i64::try_from(d.messages.len()).unwrap_or(0))
        .sum()
}

fn deadlines(
    world: &World,
    id: &Id,
    actor: &str,
    chain: Option<&ChainFacts>,
    reports: &[ProverReport],
    old: &[DeadlineStatus],
) -> Vec<DeadlineStatus> {
    let mut latest: BTreeMap<i64, Vec<&ProverReport>> = BTreeMap::new();
    for report in reports {
        let entry = latest.entry(report.deadline).or_default();
        match entry.first().map(|r| r.open) {
            Some(open) if open > report.open => {}
            Some(open) if open == report.open => entry.push(report),
            _ => *entry = vec![report],
        }
    }
    let mut all: BTreeMap<i64, DeadlineStatus> = old.iter().map(|d| (d.index, d.clone())).collect();
    for (index, reports) in latest {
        let status = deadline(world, id, actor, chain, &reports);
        let known = all.get(&index);
        // What was accepted stays so: its messages may be gone by now.
        let settled = known.is_some_and(|d| {
            d.open > status.open || (d.open == status.open && d.state == DeadlineState::Accepted)
        });
        if !settled {
            all.insert(index, status);
        }
    }
    all.into_values().collect()
}

fn deadline(
    world: &World,
    id: &Id,
    actor: &str,
    chain: Option<&ChainFacts>,
    reports: &[&ProverReport],
) -> DeadlineStatus {
    let first = reports[0];
    let messages: Vec<Option<(&Id, &ChainMessage)>> = reports
        .iter()
        .map(|r| {
            let prefix = names::post_message_prefix(actor, r.open, r.deadline, r.partition);
            newest(world, &id.namespace, &prefix).map(|(id, m, _)| (id, m))
        })
        .collect();
    let landed = |m: &ChainMessage| {
        let status = m.status.as_ref();
        let done = matches!(
            status.and_then(|s| s.state),
            Some(MessageState::Landed | MessageState::Final)
        );
        done && status.and_then(|s| s.exit_code) == Some(0)
    };
    let closed = chain.is_some_and(|c| c.head.0 > first.close);
    let state = if messages.iter().all(|m| m.is_some_and(|(_, m)| landed(m))) {
        DeadlineState::Accepted
    } else if closed {
        DeadlineState::Missed
    } else if messages.iter().any(Option::is_some) {
        DeadlineState::Submitting
    } else {
        DeadlineState::Proving
    };
    DeadlineStatus {
        index: first.deadline,
        open: first.open,
        state,
        sectors: reports.iter().map(|r| r.sectors).sum(),
        skipped: reports.iter().map(|r| r.skipped_sectors).sum(),
        messages: messages
            .iter()
            .flatten()
            .map(|(id, _)| id.name.clone())
            .collect(),
        landed_epoch: messages
            .iter()
            .flatten()
            .filter_map(|(_, m)| m.status.as_ref()?.landed_epoch)
            .max(),
    }
}

fn say_covered(
    say: &mut Say<'_>,
    world: &World,
    reach: &Reach,
    id: &Id,
    batch: &PostBatch,
) -> bool {
    let provers: Vec<&str> = world
        .batches
        .in_namespace(&id.namespace)
        .filter(|(_, b)| b.spec.miner_ref == batch.spec.miner_ref && !b.spec.suspend)
        .map(|(other, _)| other.name.as_str())
        .collect();
    let kind = conditions::COVERED;
    match provers.as_slice() {
        [] => {
            let text = "proving is suspended: sectors become faulty and cost money once their deadline passes";
            say.set(kind, false, "Suspended", text);
            false
        }
        [_] => {
            let unseen = unseen(world, reach, id, batch);
            let covered = unseen.is_none();
            let (reason, text) = unseen.unwrap_or_else(|| {
                let text = "every partition has exactly one prover";
                ("Covered", text.into())
            });
            say.set(kind, covered, reason, &text);
            covered
        }
        many => {
            let text = format!(
                "several PostBatches prove the same partitions: {}; keep one",
                many.join(", ")
            );
            say.set(kind, false, "SeveralProvers", &text);
            false
        }
    }
}

/// Stores that the prover does not see as sealers do.
fn unseen(
    world: &World,
    reach: &Reach,
    id: &Id,
    batch: &PostBatch,
) -> Option<(&'static str, String)> {
    if let Some(name) = pods::mounts(world, id, batch).apart.first() {
        let text = format!(
            "the prover does not mount store {name}: no node has the labels of its nodeSelector beside those that the batch \
             and older stores ask for. Give one node all these labels, or use stores that one node can mount together"
        );
        return Some(("StoresApart", text));
    }
    if let Some(missing) = missing(world, id, batch) {
        return Some(("StoreMissing", missing));
    }
    let miner = Id::new(&id.namespace, &batch.spec.miner_ref.name);
    let mut far = reach.known().filter(|(_, _, of, _)| **of == miner);
    let (store_id, node, _, why) = far.next()?;
    let store = world.stores.get(store_id)?;
    let text = format!(
        "what is landed in store {} from node {node} is not proven, so nothing lands from there: {why}. {}",
        store_id.name,
        help(store)
    );
    Some(("StoresOutOfReach", text))
}

/// A store in which sectors landed and that is gone: no prover mounts it any more.
fn missing(world: &World, id: &Id, batch: &PostBatch) -> Option<String> {
    let sectors = world.sectors.in_namespace(&id.namespace);
    let mut lost = sectors.filter_map(|(sector, s)| {
        let store = s.status.as_ref()?.store.as_ref().filter(|r| r.landed)?;
        let ours = s.spec.miner_ref == batch.spec.miner_ref;
        let gone = ours && world.stores.find(&id.namespace, &store.name).is_none();
        gone.then_some((sector, &store.name))
    });
    let (sector, store) = lost.next()?;
    let others = match lost.count() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(format!(
        "sector {}{others} landed in store {store}, and there is no SectorStore {store}: the prover does not mount it and \
         they become faulty. Create it again, with the same volume",
        sector.name
    ))
}

/// What is to be proven soon, when half of the open window is over.
fn in_danger(chain: &ChainFacts) -> Option<String> {
    let window = chain.deadline.current();
    let late = window.left(chain.head)? < 0.5;
    let unproven = chain.unproven(window.deadline);
    let named: Vec<String> = unproven.iter().take(NAMED).map(|n| n.to_string()).collect();
    let more = match unproven.len() - named.len() as u64 {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (late && !named.is_empty()).then(|| {
        format!(
            "deadline {} closes at epoch {} and the chain has no proof of partition {}{more}: the condition Ready, the \
             ChainMessages of that deadline and the prover's log say why",
            window.deadline,
            window.close,
            named.join(", ")
        )
    })
}

fn say_on_time(say: &mut Say<'_>, chain: Option<&ChainFacts>, next: &PostBatchStatus) {
    let missed: Vec<String> = next
        .deadlines
        .iter()
        .filter(|d| d.state == DeadlineState::Missed)
        .map(|d| d.index.to_string())
        .collect();
    if let Some(text) = chain.and_then(in_danger) {
        say.set(conditions::ON_TIME, false, "InDanger", &text);
    } else if missed.is_empty() {
        say.set(
            conditions::ON_TIME,
            true,
            "OnTime",
            "no deadline was missed in its last period",
        );
    } else {
        let text = format!(
            "deadline {} was missed; its messages and the prover's log say why",
            missed.join(", ")
        );
        say.set(conditions::ON_TIME, false, "Missed", &text);
    }
}

fn say_ready(
    say: &mut Say<'_>,
    world: &World,
    id: &Id,
    batch: &PostBatch,
    next: &PostBatchStatus,
    reports: &[ProverReport],
    covered: bool,
) {
    let miner_id = Id::new(&id.namespace, &batch.spec.miner_ref.name);
    let view = world.chains.get(&miner_id);
    let head = world.chain_for_proofs(&miner_id).map(|c| c.head.0);
    // Of a deadline that has closed nothing is left but its faults.
    let mut current = reports
        .iter()
        .filter(|r| head.is_none_or(|head| head < r.close));
    let failed = current.find_map(|r| Some((r, r.error.as_ref()?)));
    let (ready, stalled, reason, text) = if world.miners.get(&miner_id).is_none() {
        let text = format!(
            "there is no Miner {} in this namespace: create it",
            miner_id.name
        );
        (false, true, "NoMiner", text)
    } else if let Some(other) = world.older_twin(&miner_id) {
        let text = format!(
            "Miner {other} is the same actor and is older: proofs of this batch are not sent. Delete one of the two Miners"
        );
        (false, true, "DuplicateActor", text)
    } else if batch.spec.suspend {
        (false, false, "Suspended", "spec.suspend is true".to_owned())
    } else if !covered {
        (false, true, "NotCovered", say.said(conditions::COVERED))
    } else if let Some(problem) = view.and_then(|v| v.problem.as_ref()) {
        (false, false, problem.reason(), problem.message().to_owned())
    } else if !prover_ready(world, id) {
        let (reason, text) = no_prover(world, id);
        (false, false, reason, text)
    } else if let Some((report, error)) = failed {
        let text = format!(
            "deadline {} partition {}, attempt {}: {error}",
            report.deadline, report.partition, report.attempts
        );
        (false, false, "ProofFailed", text)
    } else if next.faulty_sectors > 0 {
        faults::why(world, id, batch, next)
    } else {
        (
            true,
            false,
            "Proving",
            "the prover runs and nothing is faulty".to_owned(),
        )
    };
    say.set(conditions::READY, ready, reason, &text);
    say.set(conditions::STALLED, stalled, reason, &text);
}

/// Why the prover is not ready.
fn no_prover(world: &World, id: &Id) -> (&'static str, String) {
    let pod = names::prover_pod(&id.name);
    if let Some(why) = world.unmade(&Id::new(&id.namespace, &pod)) {
        return ("PodRefused", why);
    }
    let text = format!(
        "pod {pod} is not ready: kubectl -n {} describe pod {pod} says why",
        id.namespace
    );
    ("ProverNotReady", text)
}

fn prover_ready(world: &World, id: &Id) -> bool {
    let name = names::prover_pod(&id.name);
    let pod = world.pods.get(&Id::new(&id.namespace, name));
    pod.is_some_and(pod::says_ready)
}
