//! A sector whose node has left the cluster with its files: how long it waits, and what becomes of it then.
//!
//! Since when the node is gone is remembered by the condition `NodeGone`, so another operator waits no longer and no shorter.
//! A sector that is not on chain waits for `drain.nodeGoneAfter` of its group; then it is sealed anew on another node, or
//! deleted, by `drain.notOnChain`. One on chain waits until a person says that the node does not come back: then it is
//! sealed again with its ticket, which gives the replica that the chain knows. That word is taken back once it says nothing
//! any more: a node that comes by this name later gets the whole time.

use filstar_crds::{
    NotOnChain, Sector, SectorPhase, TaskClass, TaskState, annotations, conditions, parse_duration,
};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::super::bookings::is_there;
use super::super::drain::{self, OnChain};
use super::turn::{Turn, Wait};
use super::work::report_of;
use super::{chain_steps, say};
use crate::action::Action;
use crate::world::World;

/// Whether a person's word that a node does not come back says nothing: the sector needs no file of it, or it is there.
pub(super) fn is_idle(world: &World, sector: &Sector) -> bool {
    sector.annotations().contains_key(annotations::FORGET_NODE)
        && drain::gave_up(sector).is_none_or(|node| is_there(world, node))
}

/// What the sector does about its node, which is gone; none when that is no matter now.
pub(super) fn step(turn: &mut Turn<'_>) -> Option<Wait> {
    let node = lost(turn)?;
    if has_ended(turn) {
        return None;
    }
    let told = drain::gave_up(turn.sector) == Some(node);
    match drain::on_chain(turn.world, turn.id, turn.sector) {
        OnChain::No => off_chain(turn, node, told),
        OnChain::Yes => on_chain(turn, node, told),
        OnChain::Unknown => {
            let text = "the chain has not said yet whether it has the sector's pre-commit";
            Some(Wait::new(
                "NodeGone",
                format!("{}; {text}", head(turn, node)),
            ))
        }
    }
}

/// Says whether the node is gone; nothing as long as that never happened.
pub(super) fn say(turn: &mut Turn<'_>) {
    let known = turn.next.conditions.iter();
    let was = known
        .filter(|c| c.type_ == conditions::NODE_GONE)
        .any(|c| c.status == "True");
    let bound = |node: &&str| turn.next.binding.as_ref().is_some_and(|b| b.node == **node);
    let (is, reason, text) = match lost(turn).filter(bound) {
        Some(node) => (
            true,
            "NodeGone",
            format!("there is no Node {node} any more; the sector's files are on its scratch"),
        ),
        None if was && turn.next.binding.is_none() => {
            (false, "BegunAnew", "the sector goes to another node".into())
        }
        None if was => {
            let text = "the node is back, or the sector needs nothing from it any more";
            (false, "NodeNotMissed", text.into())
        }
        None => return,
    };
    say::condition(turn, conditions::NODE_GONE, is, reason, &text);
}

/// The node that is gone with the sector's files.
fn lost<'a>(turn: &Turn<'a>) -> Option<&'a str> {
    drain::node_with_files(turn.sector).filter(|node| turn.bookings.is_gone(node))
}

/// A result that is there is taken over: it needs no node.
fn has_ended(turn: &Turn<'_>) -> bool {
    let sealer = turn.sector.status.as_ref().and_then(|s| s.sealer.as_ref());
    let report = report_of(sealer, turn.next.task.as_ref());
    report.is_some_and(|r| r.state != TaskState::Running)
}

/// Since when the node is known to be gone.
fn since(turn: &Turn<'_>) -> Timestamp {
    let status = turn.sector.status.as_ref();
    let mut known = status.iter().flat_map(|s| &s.conditions);
    known
        .find(|c| c.type_ == conditions::NODE_GONE && c.status == "True")
        .map_or(turn.now.wall, |c| c.last_transition_time.0)
}

fn head(turn: &Turn<'_>, node: &str) -> String {
    let since = since(turn);
    format!("node {node} has left the cluster ({since:.0}) with the sector's files")
}

fn off_chain(turn: &mut Turn<'_>, node: &str, told: bool) -> Option<Wait> {
    let drain = &turn.group.spec.drain;
    let policy = drain.not_on_chain;
    // The schema admits nothing that cannot be read, except what is longer than time: that is for ever.
    let after = parse_duration(&drain.node_gone_after).ok();
    let after = after.and_then(|d| SignedDuration::try_from(d).ok());
    let until = since(turn).checked_add(after.unwrap_or(SignedDuration::MAX));
    let until = until.unwrap_or(Timestamp::MAX);
    let over = told || turn.now.wall >= until;
    let failed = turn.phase() == SectorPhase::Failed;
    if failed && !told && policy == NotOnChain::Checkpoint {
        // A person must look at why it failed first.
        return None;
    }
    let (then, now) = match policy {
        NotOnChain::Checkpoint => (
            "is sealed anew on another node",
            "it is not on chain, and is sealed anew on another node",
        ),
        NotOnChain::Delete => (
            "is deleted (drain.notOnChain is Delete)",
            "it is not on chain, and is deleted, since drain.notOnChain is Delete",
        ),
    };
    let head = head(turn, node);
    if !over {
        let text = format!(
            "{head}; it is not on chain. Unless the node is back by {until:.0} it {then}; sooner with: kubectl filstar \
             prune {node} --yes"
        );
        return Some(Wait::new("NodeGone", text));
    }
    let text = format!("{head}; {now}");
    match policy {
        NotOnChain::Checkpoint => {
            begin_anew(turn, node, false);
            Some(Wait::new("BegunAnew", text))
        }
        NotOnChain::Delete => {
            turn.wishes.push(Action::AbortSector {
                id: turn.id.clone(),
                uid: turn.sector.uid()?,
                resource_version: turn.sector.resource_version()?,
                reason: text.clone(),
                gone: Some(node.to_owned()),
            });
            Some(Wait::new("NodeGone", text))
        }
    }
}

fn on_chain(turn: &mut Turn<'_>, node: &str, told: bool) -> Option<Wait> {
    let phase = turn.phase();
    if !is_proven(phase)
        && let Some(text) = chain_steps::expired(turn)
    {
        // Sealed again it could not be proven either.
        let fails = phase != SectorPhase::Failed;
        return fails.then(|| turn.fail(TaskClass::Fatal, text));
    }
    match phase {
        // The proof is made: it lands first.
        SectorPhase::Committing => return None,
        // What comes next is the chain's, and a failed sector waits for a person in any case.
        SectorPhase::PreCommitting | SectorPhase::WaitSeed | SectorPhase::Failed if !told => {
            return None;
        }
        SectorPhase::Allocated
        | SectorPhase::Packing
        | SectorPhase::Pc1
        | SectorPhase::Pc2
        | SectorPhase::PreCommitting
        | SectorPhase::WaitSeed
        | SectorPhase::C1
        | SectorPhase::C2
        | SectorPhase::Finalizing
        | SectorPhase::Landing
        | SectorPhase::Proving
        | SectorPhase::Removing
        | SectorPhase::Failed => {}
    }
    let head = head(turn, node);
    if told {
        begin_anew(turn, node, true);
        let text = "it is on chain, and is sealed again on another node, with its ticket";
        return Some(Wait::new("BegunAnew", format!("{head}; {text}")));
    }
    let due = match (phase, turn.next.commit_deadline) {
        (SectorPhase::Finalizing | SectorPhase::Landing, _) => {
            ", and faulty until they are back".to_owned()
        }
        (_, Some(epoch)) => format!(", and must be proven by epoch {epoch}"),
        (_, None) => String::new(),
    };
    let text = format!(
        "{head}; it is on chain{due}. Bring the node back under this name, with its disks; if they are lost, kubectl filstar \
         prune {node} --yes has the sector sealed again on another node, with its ticket"
    );
    Some(Wait::new("NodeGone", text))
}

/// Phases in which the chain no longer has the pre-commit because it was proven, or may soon be.
fn is_proven(phase: SectorPhase) -> bool {
    match phase {
        SectorPhase::Committing
        | SectorPhase::Finalizing
        | SectorPhase::Landing
        | SectorPhase::Proving
        | SectorPhase::Removing => true,
        SectorPhase::Allocated
        | SectorPhase::Packing
        | SectorPhase::Pc1
        | SectorPhase::Pc2
        | SectorPhase::PreCommitting
        | SectorPhase::WaitSeed
        | SectorPhase::C1
        | SectorPhase::C2
        | SectorPhase::Failed => false,
    }
}

/// Back to the start, without a node. A ticket stays with its replica, which says that the sector has passed the gates.
fn begin_anew(turn: &mut Turn<'_>, node: &str, keeps_ticket: bool) {
    turn.gone = Some(node.to_owned());
    let next = &mut *turn.next;
    next.binding = None;
    next.store = None;
    next.attempts = None;
    next.failure = None;
    next.seed = None;
    next.proof = None;
    if !keeps_ticket {
        next.ticket = None;
        next.pre_commit_deadline = None;
        next.comm_d = None;
        next.comm_r = None;
        next.commit_deadline = None;
    }
    turn.enter(SectorPhase::Allocated);
}
