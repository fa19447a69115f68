//! Window proofs: a message for each partition that the prover has proven and the chain has not accepted.
//!
//! A wish that is not signed yet follows the prover's word: when a reorg changes the randomness that a proof commits to, or
//! there is a better proof, the wish is failed and another one made.

use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use filstar_chain::message::params::{
    MinerParams, PostPartition, PostProofBytes, SubmitWindowedPost,
};
use filstar_chain::types::{Epoch, PostProof, bitfield};
use filstar_crds::{
    ChainMessage, ChainMessageSpec, MessageKind, MessageState, PostBatch, ProverReport,
    parse_ranges,
};

use super::{message, names};
use crate::action::{Action, Collateral};
use crate::world::{ChainFacts, Id, MinerFacts, World, facts};

/// Messages for one partition in one window that may be signed: each may cost a fee.
const MAX_SIGNED: usize = 3;
/// Exit codes below this are of the system (out of gas, sender without money), not of the actor.
const FIRST_OF_ACTORS: i64 = 16;
/// Most sectors that a partition has on any network.
const MAX_SECTORS: u64 = 1 << 16;

/// Messages to wish for.
pub(super) fn plan(world: &World) -> Vec<Action> {
    let mut actions = Vec::new();
    for (id, batch) in world.batches.iter() {
        let reports = batch.status.iter().flat_map(|s| &s.prover);
        actions.extend(reports.filter_map(|report| wish(world, id, batch, report)));
    }
    actions
}

fn wish(world: &World, id: &Id, batch: &PostBatch, report: &ProverReport) -> Option<Action> {
    let (miner_id, miner) = world.miner_of(&id.namespace, &batch.spec.miner_ref.name)?;
    let facts = MinerFacts::parse(miner).ok()?;
    let chain = world.chain_for_proofs(miner_id)?;
    if !is_due(chain, report) || world.older_twin(miner_id).is_some() {
        return None;
    }
    let prefix = names::post_message_prefix(
        &facts.actor_text,
        report.open,
        report.deadline,
        report.partition,
    );
    let params = BASE64.encode(params(report)?);
    let n = match message::newest(world, &id.namespace, &prefix) {
        None => 1,
        Some((_, newest, n)) => {
            let status = newest.status.clone().unwrap_or_default();
            // What the actor refused it would refuse again. What never landed, or ran out of gas, it did not refuse.
            let refused = status.exit_code.is_some_and(|code| code >= FIRST_OF_ACTORS);
            let other = newest.spec.params != params || !refused;
            if status.state != Some(MessageState::Failed) || !other {
                return None;
            }
            n + 1
        }
    };
    if signed(world, id, &prefix) >= MAX_SIGNED {
        return None;
    }
    let max_fee = message::max_fee(world, miner_id, MessageKind::WindowPost, 1).ok()?;
    let spec = ChainMessageSpec {
        miner_ref: batch.spec.miner_ref.clone(),
        kind: MessageKind::WindowPost,
        from: facts::sender(&miner.spec, MessageKind::WindowPost).to_owned(),
        to: facts.actor_text,
        method: message::method(MessageKind::WindowPost),
        params,
        value: String::new(),
        sectors: Vec::new(),
        deadline_epoch: Some(report.close),
        max_fee: max_fee.to_string(),
    };
    Some(Action::CreateMessage {
        id: Id::new(&id.namespace, format!("{prefix}{n}")),
        spec: Box::new(spec),
        collateral: Collateral::None,
    })
}

/// How many messages with this prefix were signed.
fn signed(world: &World, id: &Id, prefix: &str) -> usize {
    let messages = world.messages.with_prefix(&id.namespace, prefix);
    let nonces = messages.filter_map(|(_, m)| m.status.as_ref()?.nonce);
    nonces.count()
}

/// Why a wish for a window proof that is not signed yet must not be signed any more, as a reason and a text. That the chain has
/// a proof already is no such reason: a reorg may drop it.
pub(super) fn outdated(
    world: &World,
    id: &Id,
    message: &ChainMessage,
) -> Option<(&'static str, String)> {
    if message.spec.kind != MessageKind::WindowPost {
        return None;
    }
    let (_, miner) = world.miner_of(&id.namespace, &message.spec.miner_ref.name)?;
    let actor = MinerFacts::parse(miner).ok()?.actor_text;
    let batches = world.batches.in_namespace(&id.namespace);
    let batches = batches.filter(|(_, b)| b.spec.miner_ref == message.spec.miner_ref);
    // The word of a prover that is there counts more than that of one which was suspended.
    let (out, there): (Vec<_>, Vec<_>) = batches.partition(|(_, b)| b.spec.suspend);
    let batches = there.into_iter().chain(out);
    let mut reports = batches.flat_map(|(_, b)| b.status.iter().flat_map(|s| &s.prover));
    // Whose report is gone is signed as it is.
    let report = reports.find(|r| {
        if r.proof.is_none() || message.spec.deadline_epoch != Some(r.close) {
            return false;
        }
        let prefix = names::post_message_prefix(&actor, r.open, r.deadline, r.partition);
        let number = id.name.strip_prefix(&prefix);
        number.is_some_and(|n| n.parse::<u32>().is_ok())
    })?;
    let params = BASE64.encode(params(report)?);
    let text =
        "the prover reports another proof, or another commitment to the chain, than this one";
    (params != message.spec.params).then(|| ("Superseded", text.to_owned()))
}

/// The window is open, and the chain has no proof of the partition yet.
fn is_due(chain: &ChainFacts, report: &ProverReport) -> bool {
    let Ok(deadline) = usize::try_from(report.deadline) else {
        return false;
    };
    let open = (report.open..report.close).contains(&chain.head.0);
    let proven = chain
        .proven
        .get(deadline)
        .is_some_and(|bits| bits.get(report.partition.unsigned_abs()));
    let current = chain.deadline.open.0 == report.open;
    open && current && !proven && report.proof.is_some()
}

fn params(report: &ProverReport) -> Option<Vec<u8>> {
    let rand = BASE64.decode(&report.chain_commit_rand).ok()?;
    let proof = BASE64.decode(report.proof.as_ref()?).ok()?;
    SubmitWindowedPost {
        deadline: report.deadline.unsigned_abs(),
        partitions: vec![PostPartition {
            index: report.partition.unsigned_abs(),
            skipped: bitfield::of_ranges(left_out(report)?).ok()?,
        }],
        proofs: vec![PostProofBytes {
            proof: PostProof(report.post_proof),
            bytes: proof,
        }],
        chain_commit_epoch: Epoch(report.chain_commit_epoch),
        chain_commit_rand: rand,
    }
    .to_cbor()
    .ok()
}

/// The sectors that a proof leaves out; none when the report contradicts itself. A sector that is left out and not named would
/// be claimed, and the chain takes a false claim first and punishes it later.
fn left_out(report: &ProverReport) -> Option<Vec<RangeInclusive<u64>>> {
    let ranges = parse_ranges(&report.skipped_numbers).ok()?;
    let lengths = ranges.iter().map(|r| r.end().saturating_sub(*r.start()));
    let count = lengths.fold(0_u64, |sum, n| sum.saturating_add(n).saturating_add(1));
    let mut named = report.skipped.iter().map(|s| s.number.unsigned_abs());
    let all_in = named.all(|n| ranges.iter().any(|r| r.contains(&n)));
    let whole = i64::try_from(count) == Ok(report.skipped_sectors) && count <= MAX_SECTORS;
    (whole && all_in).then_some(ranges)
}
