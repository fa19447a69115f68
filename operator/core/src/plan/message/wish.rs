//! Whether a wish is still one: judged in each plan until it is signed, since a signature cannot be taken back.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use filstar_chain::message::params::{MinerParams, SubmitWindowedPost};
use filstar_crds::{ChainMessage, MessageKind, Sector, SectorPhase};
use kube::ResourceExt;

use super::super::bookings::is_there;
use super::super::{drain, names, post};
use crate::world::{ChainFacts, Id, World};

/// The chain has another proof of the same partition.
const ALREADY_PROVEN: &str = "AlreadyProven";

/// What is to become of a wish now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may be signed.
    Sign,
    /// Not yet, which needs no words.
    Wait,
    /// Not now: reason and text for its condition.
    Hold(&'static str, String),
    /// Never: reason and text for its condition.
    Fail(&'static str, String),
}

pub(super) fn judge(world: &World, chain: &ChainFacts, id: &Id, message: &ChainMessage) -> Verdict {
    if message
        .spec
        .deadline_epoch
        .is_some_and(|d| chain.head.0 >= d)
    {
        return late(message);
    }
    if let Some((reason, text)) = post::outdated(world, id, message) {
        return Verdict::Fail(reason, text);
    }
    // What is signed already goes on: later nonces of the sender wait for it.
    let miner = Id::new(&id.namespace, &message.spec.miner_ref.name);
    if let Some(other) = world.older_twin(&miner) {
        let text =
            format!("Miner {other} is the same actor and is older: it sends, this one does not");
        return Verdict::Hold("DuplicateActor", text);
    }
    match message.spec.kind {
        MessageKind::PreCommit | MessageKind::ProveCommit => of_sectors(world, id, message),
        MessageKind::WindowPost if is_proven(chain, message) => Verdict::Hold(
            ALREADY_PROVEN,
            "the chain has a proof of its partition from another message; it is signed only if a reorg drops that one"
                .into(),
        ),
        MessageKind::WindowPost | MessageKind::DeclareRecovered => Verdict::Sign,
    }
}

fn late(message: &ChainMessage) -> Verdict {
    let mut conditions = message.status.iter().flat_map(|s| &s.conditions);
    if conditions.any(|c| c.reason == ALREADY_PROVEN) {
        let text = "it was not needed: another message proved its partition";
        return Verdict::Fail(ALREADY_PROVEN, text.into());
    }
    let text = "its deadline passed before it was signed";
    Verdict::Fail("DeadlinePassed", text.into())
}

/// What it would bring must still be of use: its sector is there, and waits for this very message.
fn of_sectors(world: &World, id: &Id, message: &ChainMessage) -> Verdict {
    for number in message
        .spec
        .sectors
        .iter()
        .filter_map(|n| u64::try_from(*n).ok())
    {
        let sector_id = Id::new(&id.namespace, names::sector(&message.spec.to, number));
        let Some(sector) = world.sectors.get(&sector_id) else {
            let unreadable = ("sectors".to_owned(), sector_id.clone());
            if world.unreadable.contains_key(&unreadable) {
                let text = format!("Sector {} cannot be read", sector_id.name);
                return Verdict::Hold("SectorUnreadable", text);
            }
            return gone(&sector_id);
        };
        if sector.metadata.deletion_timestamp.is_some() || is_younger(sector, message) {
            return gone(&sector_id);
        }
        if !waits_for(sector, message) {
            return Verdict::Wait;
        }
        if let Some(node) = needs_node(sector, message)
            && !is_there(world, node)
        {
            let text = format!(
                "node {node} has left the cluster with the files of Sector {}; it is signed once they are there again",
                sector_id.name
            );
            return Verdict::Hold("NodeGone", text);
        }
    }
    Verdict::Sign
}

fn gone(sector: &Id) -> Verdict {
    let text = format!("Sector {} was deleted before it was signed", sector.name);
    Verdict::Fail("SectorGone", text)
}

/// The sector was made after the message: it got the number of one that is gone.
fn is_younger(sector: &Sector, message: &ChainMessage) -> bool {
    let (sector, message) = (
        sector.metadata.creation_timestamp.as_ref(),
        message.metadata.creation_timestamp.as_ref(),
    );
    matches!((sector, message), (Some(s), Some(m)) if s.0 > m.0)
}

/// The node that has the replica that a message locks money for; none when the message needs none.
pub fn needs_node<'a>(sector: &'a Sector, message: &ChainMessage) -> Option<&'a str> {
    match message.spec.kind {
        MessageKind::PreCommit => drain::node_with_files(sector),
        MessageKind::ProveCommit | MessageKind::WindowPost | MessageKind::DeclareRecovered => None,
    }
}

/// Whether a sector names this message as the one that it waits for. While its replica is made again it waits for none.
pub fn waits_for(sector: &Sector, message: &ChainMessage) -> bool {
    if message.spec.kind == MessageKind::PreCommit && is_made_again(sector) {
        return false;
    }
    let refs = sector.status.as_ref().and_then(|s| s.messages.as_ref());
    let named = refs.and_then(|refs| match message.spec.kind {
        MessageKind::PreCommit => refs.pre_commit.as_ref(),
        MessageKind::ProveCommit => refs.commit.as_ref(),
        MessageKind::WindowPost | MessageKind::DeclareRecovered => None,
    });
    named.is_some_and(|name| *name == message.name_any())
}

/// Whether a sector that a pre-commit was wished for has no replica now.
fn is_made_again(sector: &Sector) -> bool {
    match sector.status.as_ref().and_then(|s| s.phase) {
        None
        | Some(
            SectorPhase::Allocated | SectorPhase::Packing | SectorPhase::Pc1 | SectorPhase::Pc2,
        ) => true,
        Some(
            SectorPhase::PreCommitting
            | SectorPhase::WaitSeed
            | SectorPhase::C1
            | SectorPhase::C2
            | SectorPhase::Committing
            | SectorPhase::Finalizing
            | SectorPhase::Landing
            | SectorPhase::Proving
            | SectorPhase::Removing
            | SectorPhase::Failed,
        ) => false,
    }
}

/// Whether the chain has proofs of all its partitions in the window that is open.
fn is_proven(chain: &ChainFacts, message: &ChainMessage) -> bool {
    let params = BASE64.decode(&message.spec.params).ok();
    let Some(params) = params.and_then(|p| SubmitWindowedPost::from_cbor(&p).ok()) else {
        return false;
    };
    let proven = usize::try_from(params.deadline)
        .ok()
        .and_then(|deadline| chain.proven.get(deadline));
    let of_this_window = message.spec.deadline_epoch == Some(chain.deadline.close.0);
    of_this_window && proven.is_some_and(|bits| params.partitions.iter().all(|p| bits.get(p.index)))
}
