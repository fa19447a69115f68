//! Steps that the chain has a say in: ticket, pre-commit, seed, prove-commit.
//!
//! What the chain shows decides, not what we remember: a pre-commit that a reorg dropped sends the sector back, and
//! a message is wished for only when the chain does not already have what it would bring.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use filstar_chain::message::params::{
    MinerParams, PreCommitSectorBatch2, ProveCommitSectors3, SectorPreCommit,
};
use filstar_chain::node::{PreCommitInfo, PreCommitOnChainInfo};
use filstar_chain::types::{AttoFil, Cid, Epoch, SectorNumber};
use filstar_crds::{
    ChainMessageSpec, MessageKind, MessageRefs, MessageState, Randomness, SectorPhase, TaskClass,
};

use super::super::{message, names, policy};
use super::turn::{Draw, Turn, Wait};
use super::wished::{Wished, on_its_way, shows_effect, wished};
use super::work::failed;
use crate::action::{Action, Collateral};
use crate::world::{Id, facts};

/// Messages for one purpose before a person must look.
const MAX_WISHES: u32 = 3;

/// PC1: makes sure that there is a ticket that is young enough. `None` when there is.
pub(super) fn ticket(turn: &mut Turn<'_>) -> Option<Wait> {
    let chain = match turn.chain() {
        Ok(chain) => chain,
        // With a ticket in hand the hashing goes on without the chain.
        Err(_) if turn.next.ticket.is_some() => return None,
        Err(wait) => return Some(wait),
    };
    let expired = turn
        .next
        .pre_commit_deadline
        .is_none_or(|d| chain.head.0 >= d);
    if turn.next.ticket.is_some() && (!expired || pre_committed(turn)) {
        return None;
    }
    let epoch = (chain.head.0 - policy::TICKET_LOOKBACK).max(0);
    turn.next.ticket = Some(Randomness {
        epoch,
        value: String::new(),
    });
    turn.next.pre_commit_deadline = Some(epoch + policy::MAX_PRE_COMMIT_LOOKBACK);
    turn.next.task = None;
    turn.draw = Some(Draw::Ticket(epoch));
    Some(Wait::new(
        "DrawingTicket",
        format!("the ticket of epoch {epoch} is being drawn"),
    ))
}

/// Whether the chain has a pre-commit of this sector, or may get one: then its ticket must stay.
fn pre_committed(turn: &Turn<'_>) -> bool {
    let on_chain =
        matches!(turn.pre_commit(), Ok(Some(_))) || matches!(turn.on_chain(), Ok(Some(_)));
    on_chain || matches!(wished(turn, MessageKind::PreCommit), Wished::Current(..))
}

/// `PreCommitting`: wish for the message, wait until the chain shows the pre-commit.
pub(super) fn pre_commit(turn: &mut Turn<'_>) -> Wait {
    match try_pre_commit(turn) {
        Ok(wait) | Err(wait) => wait,
    }
}

fn try_pre_commit(turn: &mut Turn<'_>) -> Result<Wait, Wait> {
    let chain = turn.chain()?;
    if let Some(pre_commit) = turn.pre_commit()? {
        return Ok(landed(turn, pre_commit));
    }
    if turn.on_chain()?.is_some() {
        turn.enter(SectorPhase::Committing);
        return Ok(Wait::new("Committing", "the sector is on chain already"));
    }
    match wished(turn, MessageKind::PreCommit) {
        Wished::Current(id, message, MessageState::Final) if !shows_effect(turn, message) => {
            Ok(Wait::new(
                "WaitMessage",
                format!(
                    "ChainMessage {} is final; the chain node in use has not come that far yet",
                    id.name
                ),
            ))
        }
        Wished::Current(id, _, MessageState::Final) => {
            let text = burnt(id);
            Ok(turn.fail(TaskClass::Fatal, text))
        }
        Wished::Current(id, message, state) => {
            let wait = on_its_way(&id.name, message, state);
            note_message(turn, MessageKind::PreCommit, &id.name.clone());
            Ok(wait)
        }
        Wished::Next {
            last_error, failed, ..
        } if failed >= MAX_WISHES => Ok(all_failed(turn, "pre-commits", last_error)),
        Wished::Next { n, .. } => {
            if chain.allocated.get(turn.number()) {
                return Ok(turn.fail(
                    TaskClass::Fatal,
                    "the actor has used this number, and has neither a pre-commit nor a sector of it; \
                     delete this Sector, another number will be taken",
                ));
            }
            if turn
                .next
                .pre_commit_deadline
                .is_none_or(|d| chain.head.0 >= d)
            {
                turn.next.ticket = None;
                turn.enter(SectorPhase::Pc1);
                return Ok(Wait::new(
                    "TicketExpired",
                    "the ticket is too old for the chain; PC1 begins anew",
                ));
            }
            wish_pre_commit(turn, chain.head, n)
        }
    }
}

/// Why the sector can no longer be proven: its pre-commit is final, and the chain has neither it nor the sector. None when
/// that is not so, or not known.
pub(super) fn expired(turn: &Turn<'_>) -> Option<String> {
    let neither = matches!(turn.pre_commit(), Ok(None)) && matches!(turn.on_chain(), Ok(None));
    let Wished::Current(id, message, MessageState::Final) = wished(turn, MessageKind::PreCommit)
    else {
        return None;
    };
    (neither && shows_effect(turn, message)).then(|| burnt(id))
}

fn burnt(pre_commit: &Id) -> String {
    format!(
        "ChainMessage {} is final and the chain no longer has its pre-commit: it expired and the deposit is burnt; delete \
         this Sector, another number will be taken",
        pre_commit.name
    )
}

/// The chain shows the pre-commit: it must be ours.
fn landed(turn: &mut Turn<'_>, pre_commit: &PreCommitOnChainInfo) -> Wait {
    let ours = turn.next.comm_r.clone().unwrap_or_default();
    let theirs = pre_commit.info.sealed_cid.to_string();
    if ours != theirs {
        return turn.fail(
            TaskClass::Fatal,
            format!("the chain has a pre-commit of another replica: {theirs}, ours is {ours}"),
        );
    }
    let epoch = pre_commit.pre_commit_epoch;
    turn.next.commit_deadline = Some(epoch.0 + policy::MAX_PROVE_COMMIT_DURATION);
    turn.next.expiration = Some(pre_commit.info.expiration.0);
    turn.enter(SectorPhase::WaitSeed);
    Wait::new(
        "WaitSeed",
        format!("the pre-commit landed at epoch {epoch}"),
    )
}

fn wish_pre_commit(turn: &mut Turn<'_>, head: Epoch, n: u32) -> Result<Wait, Wait> {
    let ticket_epoch = turn.next.ticket.as_ref().map_or(0, |t| t.epoch);
    let expiration = head + policy::SECTOR_LIFETIME;
    let sealed_cid = cid(turn.next.comm_r.as_deref())?;
    let pre_commit = SectorPreCommit {
        seal_proof: turn.facts.seal_proof,
        sector_number: SectorNumber(turn.number()),
        sealed_cid,
        seal_rand_epoch: Epoch(ticket_epoch),
        deal_ids: Vec::new(),
        expiration,
        unsealed_cid: None,
    };
    let collateral = if turn.miner.spec.collateral_from_miner_balance {
        Collateral::None
    } else {
        let info = PreCommitInfo {
            seal_proof: pre_commit.seal_proof,
            sector_number: pre_commit.sector_number,
            sealed_cid,
            seal_rand_epoch: pre_commit.seal_rand_epoch,
            deal_ids: Vec::new(),
            expiration,
            unsealed_cid: None,
        };
        Collateral::Deposit {
            miner: turn.miner_id.clone(),
            info: Box::new(info),
        }
    };
    let params = PreCommitSectorBatch2 {
        sectors: vec![pre_commit],
    };
    let deadline = turn.next.pre_commit_deadline;
    wish(
        turn,
        MessageKind::PreCommit,
        n,
        &params,
        collateral,
        deadline,
    )
}

/// `WaitSeed`: draw the seed once it can no longer change.
pub(super) fn wait_seed(turn: &mut Turn<'_>) -> Wait {
    match try_wait_seed(turn) {
        Ok(wait) | Err(wait) => wait,
    }
}

fn try_wait_seed(turn: &mut Turn<'_>) -> Result<Wait, Wait> {
    let chain = turn.chain()?;
    let Some(pre_commit) = turn.pre_commit()? else {
        return back_to_pre_commit(turn);
    };
    let epoch = pre_commit.pre_commit_epoch.0 + chain.seed_delay;
    let known = epoch + turn.miner.spec.confidence;
    if chain.head.0 < known {
        return Ok(Wait::new(
            "WaitSeed",
            format!("the seed is of epoch {epoch}; it is drawn once the head is at {known}"),
        ));
    }
    turn.next.seed = Some(Randomness {
        epoch,
        value: String::new(),
    });
    turn.enter(SectorPhase::C1);
    turn.draw = Some(Draw::Seed(epoch));
    Ok(Wait::new(
        "DrawingSeed",
        format!("the seed of epoch {epoch} is being drawn"),
    ))
}

/// C1, C2: `None` while the seed is still that of the pre-commit on chain.
pub(super) fn seed_holds(turn: &mut Turn<'_>) -> Option<Wait> {
    // Without an answer the computation goes on: at worst its result is thrown away.
    let Ok(chain) = turn.chain() else { return None };
    let (Ok(pre_commit), Ok(on_chain)) = (turn.pre_commit(), turn.on_chain()) else {
        return None;
    };
    if on_chain.is_some() {
        return None;
    }
    match pre_commit {
        None => Some(back_to_pre_commit(turn).unwrap_or_else(|wait| wait)),
        Some(p) => {
            let epoch = p.pre_commit_epoch.0 + chain.seed_delay;
            if turn.next.seed.as_ref().is_some_and(|s| s.epoch == epoch) {
                return None;
            }
            turn.next.seed = None;
            turn.enter(SectorPhase::WaitSeed);
            Some(Wait::new(
                "SeedMoved",
                "a reorg moved the pre-commit; the seed is drawn again",
            ))
        }
    }
}

/// A reorg dropped the pre-commit. Its message, if it is alive, is pushed again by `plan::message`.
#[expect(clippy::unnecessary_wraps, reason = "has the shape of the other steps")]
fn back_to_pre_commit(turn: &mut Turn<'_>) -> Result<Wait, Wait> {
    turn.next.seed = None;
    turn.enter(SectorPhase::PreCommitting);
    Ok(Wait::new(
        "PreCommitDropped",
        "the chain no longer has the pre-commit; it is sent again",
    ))
}

/// Committing: wish for the message, wait until it is final.
pub(super) fn commit(turn: &mut Turn<'_>) -> Wait {
    match try_commit(turn) {
        Ok(wait) | Err(wait) => wait,
    }
}

fn try_commit(turn: &mut Turn<'_>) -> Result<Wait, Wait> {
    let chain = turn.chain()?;
    if let Some(info) = turn.on_chain()? {
        let theirs = info.sealed_cid.to_string();
        if turn.next.comm_r.as_deref() != Some(theirs.as_str()) {
            return Ok(turn.fail(
                TaskClass::Fatal,
                format!("the chain has another replica: {theirs}"),
            ));
        }
        turn.next.expiration = Some(info.expiration.0);
        return Ok(settle(turn));
    }
    if let Some(wait) = seed_holds(turn) {
        return Ok(wait);
    }
    match wished(turn, MessageKind::ProveCommit) {
        Wished::Current(id, message, state) => {
            let wait = on_its_way(&id.name, message, state);
            note_message(turn, MessageKind::ProveCommit, &id.name.clone());
            Ok(wait)
        }
        Wished::Next {
            last_error, failed, ..
        } if failed >= MAX_WISHES => Ok(all_failed(turn, "prove-commits", last_error)),
        Wished::Next {
            n,
            last_error,
            failed: known,
        } => {
            // A message that failed may mean a proof that is no good: the proof is made again first.
            let failures = turn
                .next
                .attempts
                .as_ref()
                .filter(|a| a.phase == SectorPhase::Committing);
            if failures.map_or(0, |a| a.failed) < known {
                let error = last_error.unwrap_or_default();
                return Ok(failed(
                    turn,
                    TaskClass::Permanent,
                    &format!("the prove-commit failed: {error}"),
                ));
            }
            wish_commit(turn, chain.head, n)
        }
    }
}

/// No more messages are paid for that fail.
fn all_failed(turn: &mut Turn<'_>, what: &str, last_error: Option<String>) -> Wait {
    let error = last_error.unwrap_or_default();
    let text = format!("{MAX_WISHES} {what} failed; the last: {error}");
    turn.fail(TaskClass::Fatal, text)
}

/// The sector is on chain. Layers and trees go only when no reorg can ask for another proof.
fn settle(turn: &mut Turn<'_>) -> Wait {
    if let Wished::Current(id, message, state) = wished(turn, MessageKind::ProveCommit)
        && state != MessageState::Final
    {
        let wait = on_its_way(&id.name, message, state);
        note_message(turn, MessageKind::ProveCommit, &id.name.clone());
        return wait;
    }
    turn.next.proof = None;
    turn.enter(SectorPhase::Finalizing);
    Wait::new("Finalizing", "the sector is on chain")
}

fn wish_commit(turn: &mut Turn<'_>, head: Epoch, n: u32) -> Result<Wait, Wait> {
    let text = turn.next.proof.clone().unwrap_or_default();
    let Ok(proof) = BASE64.decode(text) else {
        return Ok(failed(
            turn,
            TaskClass::Permanent,
            "the stored proof is not base64",
        ));
    };
    if proof.is_empty() {
        return Ok(failed(
            turn,
            TaskClass::Permanent,
            "the stored proof is missing",
        ));
    }
    let number = SectorNumber(turn.number());
    let mut params = ProveCommitSectors3::single_proofs([(number, proof)]);
    params.require_activation_success = true;
    let pre_commit = turn.pre_commit()?;
    let collateral = if turn.miner.spec.collateral_from_miner_balance {
        Collateral::None
    } else {
        Collateral::Pledge {
            miner: turn.miner_id.clone(),
            sector_size: turn.facts.seal_proof.sector_size().bytes(),
            duration: turn
                .next
                .expiration
                .map_or(policy::SECTOR_LIFETIME, |e| e - head.0),
            deposit: pre_commit.map_or_else(AttoFil::zero, |p| p.pre_commit_deposit.clone()),
        }
    };
    let deadline = turn.next.commit_deadline;
    wish(
        turn,
        MessageKind::ProveCommit,
        n,
        &params,
        collateral,
        deadline,
    )
}

fn wish(
    turn: &mut Turn<'_>,
    kind: MessageKind,
    n: u32,
    params: &impl MinerParams,
    collateral: Collateral,
    deadline_epoch: Option<i64>,
) -> Result<Wait, Wait> {
    let bytes = params.to_cbor().map_err(|e| {
        Wait::new(
            "CannotEncode",
            format!("the message cannot be encoded: {e}"),
        )
    })?;
    let name = format!("{}{n}", names::sector_message_prefix(&turn.id.name, kind));
    let spec = ChainMessageSpec {
        miner_ref: turn.sector.spec.miner_ref.clone(),
        kind,
        from: facts::sender(&turn.miner.spec, kind).to_owned(),
        to: turn.facts.actor_text.clone(),
        method: message::method(kind),
        params: BASE64.encode(bytes),
        value: String::new(),
        sectors: vec![turn.sector.spec.number],
        deadline_epoch,
        max_fee: message::max_fee(turn.world, turn.miner_id, kind, 1)
            .map_err(|e| Wait::new("InvalidGasPolicy", e.to_string()))?
            .to_string(),
    };
    let id = Id::new(&turn.id.namespace, &name);
    turn.wishes.push(Action::CreateMessage {
        id,
        spec: Box::new(spec),
        collateral,
    });
    note_message(turn, kind, &name);
    Ok(Wait::new(
        "MessageWished",
        format!("ChainMessage {name} is wished for"),
    ))
}

fn note_message(turn: &mut Turn<'_>, kind: MessageKind, name: &str) {
    let of = |refs: &MessageRefs| match kind {
        MessageKind::PreCommit => refs.pre_commit.as_deref() == Some(name),
        MessageKind::ProveCommit => refs.commit.as_deref() == Some(name),
        MessageKind::WindowPost | MessageKind::DeclareRecovered => true,
    };
    if turn.next.messages.as_ref().is_some_and(of) {
        return;
    }
    let refs = turn.next.messages.get_or_insert_default();
    match kind {
        MessageKind::PreCommit => refs.pre_commit = Some(name.to_owned()),
        MessageKind::ProveCommit => refs.commit = Some(name.to_owned()),
        MessageKind::WindowPost | MessageKind::DeclareRecovered => {}
    }
}

fn cid(text: Option<&str>) -> Result<Cid, Wait> {
    text.and_then(|t| Cid::try_from(t).ok()).ok_or_else(|| {
        Wait::new(
            "CommRUnreadable",
            "commR in the status is missing or is not a CID; delete the Sector",
        )
    })
}
