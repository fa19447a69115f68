//! What to say about a Miner.

use filstar_chain::types::AttoFil;
use filstar_crds::{Miner, MinerStatus, NonceState, conditions};

use super::{Say, size};
use crate::plan::pledge;
use crate::world::{ChainFacts, ChainProblem, ChainView, Id, MinerFacts, Now, World};

/// Below this a sender soon cannot pay.
const LOW_BALANCE_MILLIFIL: u64 = 100;

/// The new status, or none when nothing changed.
pub(super) fn status(world: &World, now: Now, id: &Id, miner: &Miner) -> Option<MinerStatus> {
    let old = miner.status.clone().unwrap_or_default();
    let mut next = MinerStatus {
        conditions: old.conditions.clone(),
        ..MinerStatus::default()
    };
    next.observed_generation = miner.metadata.generation;
    let view = world.chains.get(id).cloned().unwrap_or_default();
    let parsed = MinerFacts::parse(miner);
    if let Some(chain) = &view.facts {
        chain_facts(&mut next, world, id, chain, parsed.as_ref().ok());
    }
    let problem = match &parsed {
        Err(invalid) => Some(ChainProblem::InvalidSpec(invalid.to_string())),
        Ok(_) => view.problem.clone(),
    };
    let mut say = Say {
        conditions: &mut next.conditions,
        generation: miner.metadata.generation,
        now,
    };
    chain_conditions(&mut say, problem.as_ref(), &view);
    let senders = senders_funded(&mut say, &view);
    ready(&mut say, world, id, problem.as_ref(), &view, senders);
    // What moves with every epoch does not make a difference.
    let mut calm = next.clone();
    calm.head_epoch = old.head_epoch;
    calm.available_balance.clone_from(&old.available_balance);
    if calm.endpoint.is_none() {
        calm.head_epoch = None;
        calm.available_balance = None;
    }
    (calm != old).then_some(next)
}

fn chain_facts(
    next: &mut MinerStatus,
    world: &World,
    id: &Id,
    chain: &ChainFacts,
    parsed: Option<&MinerFacts>,
) {
    next.endpoint = Some(chain.endpoint.clone());
    next.head_epoch = Some(chain.head.0);
    next.available_balance = Some(rounded(&chain.available));
    next.power = Some(size(chain.raw_power));
    next.sector_size = Some(size(u128::from(chain.info.sector_size)));
    if let Some(facts) = parsed {
        next.owner = Some(facts.network.format(&chain.info.owner));
        next.worker = Some(facts.network.format(&chain.info.worker));
        next.next_sector_number = pledge::next_number(world, id, facts, chain)
            .and_then(|number| i64::try_from(number).ok());
    }
    next.nonces = chain
        .senders
        .iter()
        .map(|(sender, known)| NonceState {
            sender: sender.clone(),
            next: known.nonce,
            in_flight: in_flight(world, sender, known.nonce),
        })
        .collect();
}

/// Messages of a sender that are signed and have not landed.
fn in_flight(world: &World, sender: &str, next: u64) -> u32 {
    let count = world
        .messages
        .iter()
        .filter(|(_, m)| m.spec.from == sender)
        .filter_map(|(_, m)| m.status.as_ref()?.nonce)
        .filter(|nonce| *nonce >= next)
        .count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Three significant digits, so that the text changes only when it matters.
fn rounded(amount: &AttoFil) -> String {
    let text = amount.to_atto_string();
    if text.starts_with('-') || text.len() <= 3 {
        return amount.to_string();
    }
    let zeros = "0".repeat(text.len() - 3);
    AttoFil::from_atto_str(&format!("{}{zeros}", &text[..3]))
        .map_or_else(|_| amount.to_string(), |a| a.to_string())
}

fn chain_conditions(say: &mut Say<'_>, problem: Option<&ChainProblem>, view: &ChainView) {
    match problem {
        Some(ChainProblem::OutOfSync(text)) => {
            say.set(
                conditions::CHAIN_REACHABLE,
                true,
                "Reachable",
                "a chain node answers",
            );
            say.set(conditions::CHAIN_SYNCED, false, "OutOfSync", text);
        }
        Some(problem) => {
            say.set(
                conditions::CHAIN_REACHABLE,
                false,
                problem.reason(),
                problem.message(),
            );
            say.set(
                conditions::CHAIN_SYNCED,
                false,
                "Unknown",
                "the chain cannot be asked",
            );
        }
        None if view.facts.is_none() => {
            let text = "the chain node has not answered yet";
            say.set(conditions::CHAIN_REACHABLE, false, "Starting", text);
            say.set(conditions::CHAIN_SYNCED, false, "Starting", text);
        }
        None => {
            say.set(
                conditions::CHAIN_REACHABLE,
                true,
                "Reachable",
                "a chain node answers",
            );
            say.set(
                conditions::CHAIN_SYNCED,
                true,
                "Synced",
                "the head is young",
            );
        }
    }
    match &view.signer {
        Some(Ok(())) => {
            say.set(
                conditions::SIGNER_READY,
                true,
                "Ready",
                "the signer has the keys of all senders",
            );
        }
        Some(Err(text)) => say.set(conditions::SIGNER_READY, false, "SignerNotReady", text),
        None => say.set(
            conditions::SIGNER_READY,
            false,
            "Unknown",
            "the signer was not asked yet",
        ),
    }
}

fn senders_funded(say: &mut Say<'_>, view: &ChainView) -> bool {
    let Some(chain) = &view.facts else {
        say.set(
            conditions::SENDERS_FUNDED,
            false,
            "Unknown",
            "the balances are not known yet",
        );
        return false;
    };
    let low = AttoFil::from_nano(LOW_BALANCE_MILLIFIL * 1_000_000);
    let poor: Vec<&str> = chain
        .senders
        .iter()
        .filter(|(_, known)| known.balance < low)
        .map(|(sender, _)| sender.as_str())
        .collect();
    if poor.is_empty() {
        say.set(
            conditions::SENDERS_FUNDED,
            true,
            "Funded",
            "every sender has 0.1 FIL or more",
        );
    } else {
        let text = format!("less than 0.1 FIL: send some FIL to {}", poor.join(", "));
        say.set(conditions::SENDERS_FUNDED, false, "LowBalance", &text);
    }
    poor.is_empty()
}

fn ready(
    say: &mut Say<'_>,
    world: &World,
    id: &Id,
    problem: Option<&ChainProblem>,
    view: &ChainView,
    funded: bool,
) {
    let (ready, stalled, reason, text) = if let Some(other) = world.older_twin(id) {
        let text = format!(
            "Miner {other} is the same actor and is older: this one pledges and sends nothing, or both would pay for the \
             same. Delete one of the two"
        );
        (false, true, "DuplicateActor", text)
    } else if let Some(problem) = problem {
        let passing = matches!(
            problem,
            ChainProblem::Unreachable(_) | ChainProblem::OutOfSync(_)
        );
        (
            false,
            !passing,
            problem.reason(),
            problem.message().to_owned(),
        )
    } else if view.facts.is_none() {
        (
            false,
            false,
            "Starting",
            "the chain node has not answered yet".to_owned(),
        )
    } else if let Some(Err(text)) = &view.signer {
        (false, true, "SignerNotReady", text.clone())
    } else if !funded {
        (
            false,
            true,
            "LowBalance",
            say.said(conditions::SENDERS_FUNDED),
        )
    } else {
        (
            true,
            false,
            "Ready",
            "the chain answers, the signer has the keys, the senders can pay".to_owned(),
        )
    };
    say.set(conditions::READY, ready, reason, &text);
    say.set(conditions::RECONCILING, !ready && !stalled, reason, &text);
    say.set(conditions::STALLED, stalled, reason, &text);
}
