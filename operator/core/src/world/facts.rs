//! Specs as valid values: what cannot be used is found here, once, and named.

use std::time::Duration;

use filstar_chain::types::{ActorId, Address, AttoFil, Network, SealProof, parse_address};
use filstar_crds::{GasPolicy, MessageKind, Miner, MinerNetwork, MinerSpec, parse_duration};

/// A spec that passed the API server's rules and still cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("spec.{field}: {problem}")]
pub struct Invalid {
    field: String,
    problem: String,
}

impl Invalid {
    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers hand over the error that they have"
    )]
    fn new(field: impl Into<String>, problem: impl ToString) -> Self {
        Self {
            field: field.into(),
            problem: problem.to_string(),
        }
    }
}

/// A Miner's spec as valid values.
#[derive(Clone, Debug, PartialEq)]
pub struct MinerFacts {
    /// The actor.
    pub actor: ActorId,
    /// The network.
    pub network: Network,
    /// The actor's address as users write it, such as `t01000`.
    pub actor_text: String,
    /// Seal proof of new sectors.
    pub seal_proof: SealProof,
    /// How long proven sectors and final messages stay.
    pub retention: Duration,
    /// Numbers that are never used, as inclusive ranges.
    pub reserved: Vec<(u64, u64)>,
    /// Senders: pre-commit, commit, post, recover.
    pub senders: [Address; 4],
}

impl MinerFacts {
    /// Reads a Miner's spec.
    ///
    /// # Errors
    /// Names the first field that cannot be used, and what to write instead.
    pub fn parse(miner: &Miner) -> Result<Self, Invalid> {
        let spec = &miner.spec;
        let sender = |field: &str, text: &str| {
            parse_address(text).map_err(|e| Invalid::new(format!("senders.{field}"), e))
        };
        Ok(Self {
            actor: spec
                .actor_id
                .parse()
                .map_err(|e| Invalid::new("actorId", e))?,
            network: network(spec.network),
            actor_text: spec.actor_id.clone(),
            seal_proof: spec
                .seal_proof
                .as_str()
                .parse()
                .map_err(|e| Invalid::new("sealProof", e))?,
            retention: parse_duration(&spec.retention).map_err(|e| Invalid::new("retention", e))?,
            reserved: reserved(spec)?,
            senders: [
                sender("preCommit", &spec.senders.pre_commit)?,
                sender("commit", &spec.senders.commit)?,
                sender("post", &spec.senders.post)?,
                sender("recover", spec.senders.recover())?,
            ],
        })
    }

    /// Whether a number must never be used.
    pub fn is_reserved(&self, number: u64) -> bool {
        self.reserved
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&number))
    }
}

/// The chain crate's name of a network.
pub fn network(network: MinerNetwork) -> Network {
    match network {
        MinerNetwork::Mainnet => Network::Mainnet,
        MinerNetwork::Calibration => Network::Calibration,
        MinerNetwork::Devnet => Network::Devnet,
    }
}

/// The sender of a kind of messages, as the Miner's spec writes it.
pub fn sender(spec: &MinerSpec, kind: MessageKind) -> &str {
    match kind {
        MessageKind::PreCommit => &spec.senders.pre_commit,
        MessageKind::ProveCommit => &spec.senders.commit,
        MessageKind::WindowPost => &spec.senders.post,
        MessageKind::DeclareRecovered => spec.senders.recover(),
    }
}

/// The fee bound that a policy sets for a kind; none when it sets none.
///
/// # Errors
/// The rule's amount cannot be read.
pub fn max_fee(policy: &GasPolicy, kind: MessageKind) -> Result<Option<AttoFil>, Invalid> {
    let rule = policy
        .spec
        .rules
        .iter()
        .enumerate()
        .find(|(_, r)| r.kinds.contains(&kind));
    let Some((index, Some(text))) = rule.map(|(i, r)| (i, r.max_fee.as_deref())) else {
        return Ok(None);
    };
    text.parse()
        .map(Some)
        .map_err(|e| Invalid::new(format!("rules[{index}].maxFee"), e))
}

fn reserved(spec: &MinerSpec) -> Result<Vec<(u64, u64)>, Invalid> {
    let field = "sectorNumbers.reserved";
    let one = |text: &String| -> Result<(u64, u64), Invalid> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let number = |t: &str| {
            t.parse::<u64>()
                .map_err(|_e| Invalid::new(field, format!("`{text}` is not a number or range")))
        };
        let range = (number(first)?, number(last)?);
        if range.0 > range.1 {
            return Err(Invalid::new(
                field,
                format!("`{text}` ends before it begins"),
            ));
        }
        Ok(range)
    };
    spec.sector_numbers.reserved.iter().map(one).collect()
}
