//! What the chain says of one miner, as the observer read it at one tipset.

use std::collections::BTreeMap;

use filstar_chain::node::{MinerInfo, PreCommitOnChainInfo, SectorOnChainInfo};
use filstar_chain::proving::DeadlineInfo;
use filstar_chain::types::{AttoFil, BitField, Epoch, TipSetKey};

/// What is wrong between us and the chain. Each has a reason for conditions and a text that says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainProblem {
    /// No endpoint answers.
    Unreachable(String),
    /// The node is of another network.
    WrongNetwork(String),
    /// The token is refused.
    TokenRejected(String),
    /// The token lacks a permission.
    MissingPermission(String),
    /// The Secret with the token or the keys is missing or unreadable.
    SecretMissing(String),
    /// The network has no such actor.
    ActorNotFound(String),
    /// The sector size of `sealProof` is not the actor's.
    SealProofMismatch(String),
    /// The head is too old.
    OutOfSync(String),
    /// The network runs a version that we do not know.
    UnknownNetworkVersion(String),
    /// The spec cannot be used.
    InvalidSpec(String),
}

impl ChainProblem {
    /// Reason of the condition.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "ChainUnreachable",
            Self::WrongNetwork(_) => "WrongNetwork",
            Self::TokenRejected(_) => "TokenRejected",
            Self::MissingPermission(_) => "MissingPermission",
            Self::SecretMissing(_) => "SecretMissing",
            Self::ActorNotFound(_) => "ActorNotFound",
            Self::SealProofMismatch(_) => "SealProofMismatch",
            Self::OutOfSync(_) => "OutOfSync",
            Self::UnknownNetworkVersion(_) => "UnknownNetworkVersion",
            Self::InvalidSpec(_) => "InvalidSpec",
        }
    }

    /// What happened and what to do.
    pub fn message(&self) -> &str {
        match self {
            Self::Unreachable(text)
            | Self::WrongNetwork(text)
            | Self::TokenRejected(text)
            | Self::MissingPermission(text)
            | Self::SecretMissing(text)
            | Self::ActorNotFound(text)
            | Self::SealProofMismatch(text)
            | Self::OutOfSync(text)
            | Self::UnknownNetworkVersion(text)
            | Self::InvalidSpec(text) => text,
        }
    }
}

/// The newest answer and the newest problem.
#[derive(Clone, Debug, Default)]
pub struct ChainView {
    /// What stands between us and a decision; none when all is well.
    pub problem: Option<ChainProblem>,
    /// The last complete answer.
    pub facts: Option<ChainFacts>,
    /// Whether the signer holds the keys of all senders, or which it lacks.
    pub signer: Option<Result<(), String>>,
}

impl ChainView {
    /// The facts, if nothing stands against deciding on them.
    pub fn usable(&self) -> Option<&ChainFacts> {
        if self.problem.is_some() {
            None
        } else {
            self.facts.as_ref()
        }
    }

    /// The facts, if nothing stands against proving. Sealing and spending need more: under rules that we do not know a proof
    /// that is not sent is lost for certain, while one in a form that is no longer valid is refused by the node's estimate.
    pub fn for_proofs(&self) -> Option<&ChainFacts> {
        match self.problem {
            None | Some(ChainProblem::UnknownNetworkVersion(_)) => self.facts.as_ref(),
            Some(
                ChainProblem::Unreachable(_)
                | ChainProblem::WrongNetwork(_)
                | ChainProblem::TokenRejected(_)
                | ChainProblem::MissingPermission(_)
                | ChainProblem::SecretMissing(_)
                | ChainProblem::ActorNotFound(_)
                | ChainProblem::SealProofMismatch(_)
                | ChainProblem::OutOfSync(_)
                | ChainProblem::InvalidSpec(_),
            ) => None,
        }
    }
}

/// One miner's part of the chain at one head.
#[derive(Clone, Debug)]
pub struct ChainFacts {
    /// Name of the endpoint that answered.
    pub endpoint: String,
    /// Epoch of the head.
    pub head: Epoch,
    /// Key of the head.
    pub head_key: TipSetKey,
    /// Length of an epoch in seconds.
    pub block_delay_secs: u64,
    /// From pre-commit to seed, in epochs.
    pub seed_delay: i64,
    /// Base fee that the head's messages pay, per gas.
    pub base_fee: AttoFil,
    /// Base fee of the next block, per gas.
    pub next_base_fee: AttoFil,
    /// The actor.
    pub info: MinerInfo,
    /// Its balance that is neither locked nor owed.
    pub available: AttoFil,
    /// Deposit of a sector that is pre-committed now, by the node's estimate.
    pub deposit: AttoFil,
    /// Pledge of a sector that is proven now, by the node's estimate.
    pub pledge: AttoFil,
    /// Raw byte power.
    pub raw_power: u128,
    /// Numbers that the actor has ever used.
    pub allocated: BitField,
    /// The current deadline.
    pub deadline: DeadlineInfo,
    /// Partitions already proven in the current window, by deadline index.
    pub proven: Vec<BitField>,
    /// Live sectors.
    pub living: BitField,
    /// Partitions with something to prove, by deadline index.
    pub partitions: Vec<BitField>,
    /// Sectors that the chain holds for faulty, recovering ones included.
    pub faulty: u64,
    /// Of these, sectors whose recovery is declared.
    pub recovering: u64,
    /// Faulty sectors by deadline and partition, where there are any.
    pub faults: BTreeMap<(u64, u64), Faults>,
    /// What is known of each sender, by the address as written in the Miner.
    pub senders: BTreeMap<String, SenderFacts>,
    /// Pre-commits on chain, of the sectors that we asked about.
    pub precommits: BTreeMap<u64, Option<PreCommitOnChainInfo>>,
    /// Sectors on chain, of those that we asked about.
    pub sectors: BTreeMap<u64, Option<SectorOnChainInfo>>,
    /// Where our messages are, by the CID of any signed version; `None`: on no tipset of this head's chain.
    pub lookups: BTreeMap<String, Option<Lookup>>,
}

impl ChainFacts {
    /// Partitions of a deadline that have something to prove and no proof in its window that is open.
    pub fn unproven(&self, deadline: u64) -> BitField {
        let of = |all: &[BitField]| {
            let index = usize::try_from(deadline).ok();
            index.and_then(|i| all.get(i).cloned()).unwrap_or_default()
        };
        &of(&self.partitions) - &of(&self.proven)
    }
}

/// Faulty sectors of one partition.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Faults {
    /// All of them.
    pub faulty: BitField,
    /// Those whose recovery is declared.
    pub recovering: BitField,
}

impl Faults {
    /// Faulty sectors whose recovery is not declared.
    pub fn lost(&self) -> BitField {
        &self.faulty - &self.recovering
    }
}

/// One sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SenderFacts {
    /// The first nonce that has not landed.
    pub nonce: u64,
    /// The next nonce by the node's message pool.
    pub pool_nonce: u64,
    /// Balance.
    pub balance: AttoFil,
}

/// Where a message landed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// CID that landed.
    pub cid: String,
    /// Epoch of the tipset that holds the message.
    pub epoch: Epoch,
    /// 0 is success.
    pub exit_code: i64,
    /// Gas used.
    pub gas_used: u64,
    /// Return value.
    pub return_value: Vec<u8>,
    /// Base fee that it paid, per gas.
    pub base_fee: AttoFil,
}
