//! From disk and back: a folder becomes a chain, a chain becomes a snapshot.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use cid::Cid;

use super::genesis;
use super::tipset::{StoredTipset, Tipset};
use super::{Chain, ChainError, Settings};
use crate::codec::from_cbor;
use crate::config::{Config, Rules};
use crate::history::History;
use crate::journal::{Journal, Raw, Record, Snapshot};
use crate::mempool::Mempool;
use crate::state::World;
use crate::store::Blocks;
use crate::verifier::ProofVerifier;

impl Chain {
    /// Opens the chain of a folder, or begins one there.
    pub(crate) fn open(
        dir: &Path,
        config: Config,
        verifier: Arc<dyn ProofVerifier>,
    ) -> Result<Self, ChainError> {
        match Journal::open(dir)? {
            Some((snapshot, records, journal)) => {
                Self::restore(dir, config, verifier, snapshot, records, journal)
            }
            None => Self::begin(dir, config, verifier),
        }
    }

    fn begin(
        dir: &Path,
        config: Config,
        verifier: Arc<dyn ProofVerifier>,
    ) -> Result<Self, ChainError> {
        let rules = Rules::new(&config)?;
        let (tipset, blocks) = genesis::make(&config, &rules)?;
        let snapshot = Snapshot {
            tipsets: vec![tipset.to_stored()],
            blocks: raw_blocks(&blocks),
            settings: Settings::default(),
            pool: Vec::new(),
            remembered: Vec::new(),
            uuids: Vec::new(),
        };
        let journal = Journal::begin(dir, 0, &snapshot)?;
        Self::restore(dir, config, verifier, snapshot, Vec::new(), journal)
    }

    fn restore(
        dir: &Path,
        config: Config,
        verifier: Arc<dyn ProofVerifier>,
        snapshot: Snapshot,
        records: Vec<Record>,
        journal: Journal,
    ) -> Result<Self, ChainError> {
        let rules = Rules::new(&config)?;
        let miner = config
            .miners
            .first()
            .ok_or_else(|| ChainError::Corrupt("no miner in the settings".to_owned()))?;
        let block_key = genesis::miner_keys(&config, miner).worker;
        let mut chain = Self {
            rules,
            settings: snapshot.settings,
            mempool: Mempool::default(),
            verifier,
            block_key,
            blocks: Blocks::default(),
            tipsets: VecDeque::new(),
            orphans: VecDeque::new(),
            by_block: HashMap::new(),
            landed: HashMap::new(),
            remembered: VecDeque::new(),
            uuids: snapshot.uuids.into_iter().collect::<BTreeMap<_, _>>(),
            journal,
            history: History::open(dir)?,
            config,
        };
        let mut worlds = Worlds::default();
        chain.add_blocks(snapshot.blocks);
        for stored in snapshot.tipsets {
            chain.put_back(stored, &mut worlds)?;
        }
        for message in snapshot.remembered {
            chain.remember(message);
        }
        for message in snapshot.pool {
            chain.back_to_pool(message);
        }
        for record in records {
            chain.replay(record, &mut worlds)?;
        }
        chain.mend_history()?;
        Ok(chain)
    }

    fn replay(&mut self, record: Record, worlds: &mut Worlds) -> Result<(), ChainError> {
        match record {
            Record::Tipset { tipset, blocks } => {
                self.add_blocks(blocks);
                self.put_back(*tipset, worlds)?;
            }
            Record::Rewind { height } => {
                while self.tipsets.len() > 1 && self.head().height > height {
                    if let Some(tipset) = self.tipsets.pop_back() {
                        self.unindex_messages(&tipset);
                        for message in &tipset.messages {
                            self.remember(message.clone());
                        }
                    }
                }
            }
            Record::Push { message, uuid } => {
                self.remember((*message).clone());
                if let Some(uuid) = uuid {
                    self.uuids.insert(uuid, (*message).clone());
                }
                self.back_to_pool(*message);
            }
            Record::Pool(messages) => {
                self.mempool = Mempool::default();
                for message in messages {
                    self.back_to_pool(message);
                }
            }
            Record::Settings(settings) => self.settings = *settings,
        }
        Ok(())
    }

    fn add_blocks(&mut self, blocks: Vec<(Cid, Raw)>) {
        for (cid, Raw(block)) in blocks {
            self.blocks.insert(cid, block);
        }
    }

    fn put_back(&mut self, stored: StoredTipset, worlds: &mut Worlds) -> Result<(), ChainError> {
        let state = worlds.get(&self.blocks, &stored.state_root)?;
        let parent_root = stored
            .blocks
            .first()
            .map(|b| b.parent_state_root)
            .ok_or_else(|| ChainError::Corrupt("a tipset without blocks".to_owned()))?;
        let parent_state = worlds.get(&self.blocks, &parent_root).unwrap_or_else(|_| {
            // The first tipset kept after pruning: what was before it is gone.
            Arc::clone(&state)
        });
        self.adopt(Arc::new(Tipset::new(stored, state, parent_state)));
        Ok(())
    }

    /// The history must be what the head says: cut what is more, write again what is missing.
    fn mend_history(&mut self) -> Result<(), ChainError> {
        let len = self.history.len()?;
        let known = self.tipsets.partition_point(|t| t.history_end <= len);
        if known < self.tipsets.len() {
            tracing::warn!(len, "the history file is short: writing the rest again");
            let mut at = known
                .checked_sub(1)
                .map_or(0, |last| self.tipsets[last].history_end);
            for tipset in self.tipsets.iter().skip(known) {
                at = self.history.append(at, &tipset.to_stored())?;
            }
        }
        self.history.cut(self.head().history_end)?;
        Ok(())
    }

    /// A snapshot when the journal has grown long; drops blocks that nothing leads to.
    pub(crate) fn tidy(&mut self) -> Result<(), ChainError> {
        if !self.journal.is_long() {
            return Ok(());
        }
        self.snapshot()
    }

    /// A snapshot now.
    pub(crate) fn snapshot(&mut self) -> Result<(), ChainError> {
        let roots: Vec<Cid> = self
            .tipsets
            .iter()
            .chain(&self.orphans)
            .flat_map(|t| [t.state_root, t.blocks[0].parent_state_root])
            .collect();
        self.blocks.retain_reachable(roots);
        let snapshot = Snapshot {
            tipsets: self.tipsets.iter().map(|t| t.to_stored()).collect(),
            blocks: raw_blocks(&self.blocks),
            settings: self.settings.clone(),
            pool: self.mempool.iter().cloned().collect(),
            remembered: self.remembered.iter().map(|(_, m)| m.clone()).collect(),
            uuids: self
                .uuids
                .iter()
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect(),
        };
        self.journal.rotate(&snapshot)?;
        Ok(())
    }

    /// The history as it is at the head.
    pub(crate) fn read_history(&self) -> Result<Vec<u8>, ChainError> {
        Ok(self.history.read(self.head().history_end)?)
    }
}

/// Worlds by root, each decoded once.
#[derive(Default)]
struct Worlds(HashMap<Cid, Arc<World>>);

impl Worlds {
    fn get(&mut self, blocks: &Blocks, root: &Cid) -> Result<Arc<World>, ChainError> {
        if let Some(world) = self.0.get(root) {
            return Ok(Arc::clone(world));
        }
        let block = blocks
            .get(root)
            .ok_or_else(|| ChainError::Corrupt(format!("no block for state root {root}")))?;
        let world: World = from_cbor(block).map_err(|e| ChainError::Corrupt(e.to_string()))?;
        let world = Arc::new(world);
        self.0.insert(*root, Arc::clone(&world));
        Ok(world)
    }
}

fn raw_blocks(blocks: &Blocks) -> Vec<(Cid, Raw)> {
    blocks
        .iter()
        .map(|(cid, block)| (*cid, Raw(block.clone())))
        .collect()
}
