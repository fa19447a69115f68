//! The chain: tipsets, what is waiting, and what the admin asked for.
//!
//! Invariants: the last of `tipsets` is the head; every state root of a kept tipset is in `blocks`;
//! whatever changes is in the journal before anyone is told.

pub(crate) mod genesis;
pub(crate) mod persist;
pub(crate) mod produce;
pub(crate) mod read;
pub(crate) mod reorg;
pub(crate) mod tipset;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use cid::Cid;
use fvm_shared::address::Address;
use fvm_shared::econ::TokenAmount;
use serde::{Deserialize, Serialize};

use crate::config::{Config, Rules};
use crate::gas::Bid;
use crate::history::History;
use crate::journal::{Journal, Record};
use crate::keys::Key;
use crate::mempool::{Mempool, MempoolError, Sender, unknown_sender};
use crate::message::{SignedMessage, message_cid};
use crate::store::Blocks;
use crate::verifier::ProofVerifier;
use tipset::Tipset;

/// Orphaned tipsets that can still be asked for.
const MAX_ORPHANS: usize = 1_000;
/// Messages that are remembered although they neither landed nor wait.
const MAX_REMEMBERED: usize = 5_000;

/// Why the chain could not do something.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChainError {
    #[error("{0}")]
    Asked(String),
    #[error("state on disk: {0}")]
    Corrupt(String),
    #[error("cannot write the chain: {0}")]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Mempool(#[from] MempoolError),
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    #[error(transparent)]
    Actor(#[from] fil_actors_shared::v18::ActorError),
}

/// A crowd that is not there: it fills blocks at its premium until an epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Congestion {
    pub(crate) premium: TokenAmount,
    pub(crate) until: i64,
}

/// What the admin asked for and what the clock needs; kept over restarts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) paused: bool,
    /// Milliseconds between the timestamps and genesis + epoch · delay: stops and jumps of the clock.
    pub(crate) shift_ms: i64,
    /// Counts reorgs: tickets after one differ from those before.
    pub(crate) fork: u64,
    pub(crate) base_fee_override: Option<TokenAmount>,
    pub(crate) congestion: Option<Congestion>,
    pub(crate) null_rounds: u64,
    /// Height of the last null round; the head may be older.
    pub(crate) last_null: i64,
    pub(crate) sync_lag: i64,
    /// Money that appears with the next tipset.
    pub(crate) funds: Vec<(Address, TokenAmount)>,
    /// Messages of a reorg, and the epoch from which they are back in the pool.
    pub(crate) held: Vec<(SignedMessage, i64)>,
}

/// Everything.
pub(crate) struct Chain {
    pub(crate) config: Config,
    pub(crate) rules: Rules,
    pub(crate) settings: Settings,
    pub(crate) mempool: Mempool,
    verifier: Arc<dyn ProofVerifier>,
    block_key: Key,
    blocks: Blocks,
    tipsets: VecDeque<Arc<Tipset>>,
    orphans: VecDeque<Arc<Tipset>>,
    by_block: HashMap<Cid, Arc<Tipset>>,
    landed: HashMap<Cid, i64>,
    remembered: VecDeque<(Cid, SignedMessage)>,
    uuids: BTreeMap<String, SignedMessage>,
    journal: Journal,
    history: History,
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chain")
            .field("height", &self.head().height)
            .finish_non_exhaustive()
    }
}

impl Chain {
    pub(crate) fn head(&self) -> &Arc<Tipset> {
        self.tipsets
            .back()
            .expect("invariant: a chain has its genesis at least")
    }

    pub(crate) fn genesis(&self) -> &Arc<Tipset> {
        // Kept apart from pruning: `prune` never removes the first entry.
        self.tipsets
            .front()
            .expect("invariant: a chain has its genesis at least")
    }

    /// The epoch after the last one that passed, with a tipset or without.
    pub(crate) fn next_height(&self) -> i64 {
        self.head().height.max(self.settings.last_null) + 1
    }

    /// Writes records so that they outlive a crash. A chain that cannot write must not go on.
    fn commit(&mut self, records: &[Record]) -> Result<(), ChainError> {
        self.journal.append(records)?;
        Ok(())
    }

    /// Changes the settings and writes them.
    pub(crate) fn change_settings(
        &mut self,
        change: impl FnOnce(&mut Settings),
    ) -> Result<(), ChainError> {
        change(&mut self.settings);
        let record = Record::Settings(Box::new(self.settings.clone()));
        self.commit(&[record])
    }

    /// What a sender has after the head.
    pub(crate) fn sender(&self, address: &Address) -> Sender {
        let head = self.head();
        head.state
            .lookup(address)
            .map_or_else(unknown_sender, |(_, actor)| Sender {
                nonce: actor.nonce,
                balance: actor.balance.clone(),
            })
    }

    pub(crate) fn next_nonce(&self, address: &Address) -> u64 {
        let key = self.head().state.key_of(address).unwrap_or(*address);
        self.mempool.next_nonce(&key, self.sender(&key).nonce)
    }

    /// Takes a message into the pool; written before the answer.
    pub(crate) fn push(
        &mut self,
        message: SignedMessage,
        uuid: Option<String>,
    ) -> Result<Cid, ChainError> {
        let sender = self.sender(&message.message.from);
        let cid = self.mempool.push(message.clone(), &sender, true)?;
        self.remember(message.clone());
        if let Some(uuid) = &uuid {
            self.uuids.insert(uuid.clone(), message.clone());
        }
        self.commit(&[Record::Push {
            message: Box::new(message),
            uuid,
        }])?;
        Ok(cid)
    }

    /// The message that was made for a wish before.
    pub(crate) fn by_uuid(&self, uuid: &str) -> Option<&SignedMessage> {
        self.uuids.get(uuid)
    }

    fn remember(&mut self, message: SignedMessage) {
        let cid = message.cid();
        if !self.remembered.iter().any(|(c, _)| *c == cid) {
            self.remembered.push_back((cid, message));
            if self.remembered.len() > MAX_REMEMBERED {
                self.remembered.pop_front();
            }
        }
    }

    /// A message by its CID (of the signed or of the bare one): landed, waiting or remembered.
    pub(crate) fn find_message(&self, cid: &Cid) -> Option<SignedMessage> {
        if let Some(height) = self.landed.get(cid)
            && let Some(tipset) = self.at_height(*height)
            && let Some(index) = tipset.index_of(cid)
        {
            return Some(tipset.messages[index].clone());
        }
        if let Some(message) = self.mempool.find(cid) {
            return Some(message.clone());
        }
        self.remembered
            .iter()
            .find(|(c, m)| c == cid || message_cid(&m.message) == *cid)
            .map(|(_, m)| m.clone())
    }

    /// The bids that the base-fee rule sees: real messages, and the crowd that is not there.
    fn bids(&self, messages: &[SignedMessage], epoch: i64, base_fee: &TokenAmount) -> Vec<Bid> {
        let mut bids: Vec<Bid> = messages.iter().map(|m| Bid::of(&m.message)).collect();
        if let Some(crowd) = self.crowd(epoch) {
            bids.push(Bid {
                gas_limit: crate::gas::BLOCK_GAS_LIMIT,
                premium: crowd.premium.clone(),
                fee_cap: base_fee + &crowd.premium,
            });
        }
        bids
    }

    fn crowd(&self, epoch: i64) -> Option<&Congestion> {
        self.settings
            .congestion
            .as_ref()
            .filter(|c| c.until >= epoch)
    }

    /// Drops what is older than what the settings keep.
    fn prune(&mut self) {
        while self.tipsets.len() > self.config.retain_tipsets {
            // Index 0 is the genesis.
            let Some(old) = self.tipsets.remove(1) else {
                return;
            };
            for cid in &old.key {
                self.by_block.remove(cid);
            }
            for message in &old.messages {
                self.landed.remove(&message.cid());
                self.landed.remove(&message_cid(&message.message));
            }
        }
    }

    fn index(&mut self, tipset: &Arc<Tipset>) {
        for cid in &tipset.key {
            self.by_block.insert(*cid, Arc::clone(tipset));
        }
        for message in &tipset.messages {
            self.landed.insert(message.cid(), tipset.height);
            self.landed
                .insert(message_cid(&message.message), tipset.height);
        }
    }

    fn unindex_messages(&mut self, tipset: &Tipset) {
        for message in &tipset.messages {
            self.landed.remove(&message.cid());
            self.landed.remove(&message_cid(&message.message));
        }
    }

    /// What a snapshot of this moment costs and holds; for the admin.
    pub(crate) fn stats(&self) -> serde_json::Value {
        serde_json::json!({
            "height": self.head().height,
            "tipsets": self.tipsets.len(),
            "orphans": self.orphans.len(),
            "blocks": self.blocks.len(),
            "mempool": self.mempool.len(),
            "held": self.settings.held.len(),
            "journalBytes": self.journal.len(),
            "forks": self.settings.fork,
            "paused": self.settings.paused,
        })
    }
}
