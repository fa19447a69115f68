//! Window proofs: a message for each partition that the prover has proven and the chain has not accepted.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use filstar_chain::message::params::{
    MinerParams, PostPartition, PostProofBytes, SubmitWindowedPost,
};
use filstar_chain::types::{Epoch, PostProof, bitfield};
use filstar_crds::{ChainMessageSpec, MessageKind, MessageState, PostBatch, ProverReport};

use super::{message, names};
use crate::action::{Action, Collateral};
use crate::world::{ChainFacts, Id, MinerFacts, World, facts};

/// Messages for one partition in one window.
const MAX_WISHES: u32 = 3;

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
    let chain = world.chain(miner_id)?;
    if !is_due(chain, report) {
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
            let state = newest
                .status
                .as_ref()
                .and_then(|s| s.state)
                .unwrap_or_default();
            // The same proof would fail again.
            if state != MessageState::Failed || newest.spec.params == params {
                return None;
            }
            n + 1
        }
    };
    if n > MAX_WISHES {
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
    let skipped = report.skipped.iter().map(|s| s.number.unsigned_abs());
    let rand = BASE64.decode(&report.chain_commit_rand).ok()?;
    let proof = BASE64.decode(report.proof.as_ref()?).ok()?;
    SubmitWindowedPost {
        deadline: report.deadline.unsigned_abs(),
        partitions: vec![PostPartition {
            index: report.partition.unsigned_abs(),
            skipped: bitfield::of(skipped).ok()?,
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
