//! Making the next tipset: choose messages, run them, write them down.

use std::sync::Arc;

use fvm_shared::address::Address;
use fvm_shared::econ::TokenAmount;
use num_traits::Zero as _;

use super::read::beacon_entry;
use super::tipset::{Header, StoredTipset, Tipset, messages_root};
use super::{Chain, ChainError};
use crate::codec::{cbor, cbor_cid, expand};
use crate::exec::Machine;
use crate::gas::{BLOCK_GAS_LIMIT, next_base_fee};
use crate::journal::{Raw, Record};
use crate::keys::aggregate_bls;
use crate::message::{Receipt, SignedMessage};
use crate::state::World;
use crate::store::Overlay;

/// Most beacon rounds in one header.
const MAX_BEACON_ENTRIES: i64 = 20;

impl Chain {
    /// Base fee of the tipset after the head.
    pub(crate) fn next_base_fee(&self) -> TokenAmount {
        if let Some(fee) = &self.settings.base_fee_override {
            return fee.clone();
        }
        let head = self.head();
        if head.height == 0 {
            return head.base_fee().clone();
        }
        let bids = self.bids(&head.messages, head.height, head.base_fee());
        next_base_fee(head.base_fee(), &bids)
    }

    /// The next epoch passes: with a tipset, or as a null round when asked or by chance.
    /// Returns whether there is a new head.
    pub(crate) fn tick(&mut self, height: i64) -> Result<bool, ChainError> {
        if self.settings.null_rounds > 0 || self.null_by_chance(height) {
            self.change_settings(|s| {
                s.null_rounds = s.null_rounds.saturating_sub(1);
                s.last_null = height;
            })?;
            return Ok(false);
        }
        let mut records = Vec::new();
        self.mine(height, &mut records)?;
        self.commit(&records)?;
        Ok(true)
    }

    fn null_by_chance(&self, height: i64) -> bool {
        let draw = expand(
            &[b"null", self.config.seed.as_bytes(), &height.to_be_bytes()],
            4,
        );
        let draw = u64::from(u32::from_be_bytes([draw[0], draw[1], draw[2], draw[3]]));
        draw % 1_000 < self.config.null_permille
    }

    /// Makes the tipset of `height` on the head. The caller commits the records.
    pub(super) fn mine(
        &mut self,
        height: i64,
        records: &mut Vec<Record>,
    ) -> Result<(), ChainError> {
        let released = self.release_held(height);
        let parent = Arc::clone(self.head());
        let base_fee = self.next_base_fee();
        let crowd = self
            .crowd(height)
            .map_or_else(TokenAmount::zero, |c| c.premium.clone());
        let messages = self
            .mempool
            .select(&base_fee, &crowd, self.config.blocks_per_tipset, |a| {
                self.sender(a)
            });

        let overlay = Overlay::new(&self.blocks);
        let mut world = (*parent.state).clone();
        let receipts = self.execute(&overlay, &mut world, &parent, height, &base_fee, &messages);
        let state = if world == *parent.state {
            Arc::clone(&parent.state)
        } else {
            Arc::new(world)
        };
        let new = overlay.into_new();
        let mut new: Vec<_> = new.into_iter().collect();
        let state_root = if Arc::ptr_eq(&state, &parent.state) {
            new.clear();
            parent.state_root
        } else {
            let root = cbor(&*state);
            let cid = cbor_cid(&root);
            new.push((cid, root));
            cid
        };
        let (blocks, counts) = self.headers(&parent, height, &base_fee, &messages);
        let mut stored = StoredTipset {
            blocks,
            counts,
            messages,
            receipts,
            state_root,
            history_end: 0,
        };
        stored.history_end = self.history.append(parent.history_end, &stored)?;
        let raw = new
            .iter()
            .map(|(cid, block)| (*cid, Raw(block.clone())))
            .collect();
        records.push(Record::Tipset {
            tipset: Box::new(stored.clone()),
            blocks: raw,
        });
        if self.settings.base_fee_override.is_some() || !self.settings.funds.is_empty() {
            self.settings.base_fee_override = None;
            self.settings.funds.clear();
            records.push(Record::Settings(Box::new(self.settings.clone())));
        }
        for (cid, block) in new {
            self.blocks.insert(cid, block);
        }
        self.adopt(Arc::new(Tipset::new(
            stored,
            state,
            Arc::clone(&parent.state),
        )));
        if released {
            records.push(Record::Settings(Box::new(self.settings.clone())));
            records.push(Record::Pool(self.mempool.iter().cloned().collect()));
        }
        Ok(())
    }

    fn execute(
        &self,
        overlay: &Overlay<'_>,
        world: &mut World,
        parent: &Tipset,
        height: i64,
        base_fee: &TokenAmount,
        messages: &[SignedMessage],
    ) -> Vec<Receipt> {
        let randomness = self.randomness_up_to(height);
        let machine = |epoch| Machine {
            rules: &self.rules,
            verifier: &*self.verifier,
            chain: &randomness,
            store: overlay,
            epoch,
            base_fee: base_fee.clone(),
        };
        // Time passes in null rounds too.
        for epoch in parent.height + 1..height {
            machine(epoch).run_crons(world);
        }
        for (address, amount) in &self.settings.funds {
            if let Some(id) = world.ensure_account(address) {
                world.credit(id, amount);
            }
        }
        let machine = machine(height);
        let receipts = messages
            .iter()
            .map(|m| machine.apply(world, &m.message, m.chain_len()).receipt)
            .collect();
        machine.run_crons(world);
        receipts
    }

    fn headers(
        &self,
        parent: &Tipset,
        height: i64,
        base_fee: &TokenAmount,
        messages: &[SignedMessage],
    ) -> (Vec<Header>, Vec<usize>) {
        let groups = into_blocks(messages, self.config.blocks_per_tipset);
        let mut tickets: Vec<Vec<u8>> = (0..groups.len())
            .map(|i| self.ticket(parent, height, &[u8::try_from(i).unwrap_or(u8::MAX)]))
            .collect();
        tickets.sort_by_key(|t| crate::codec::blake2b256(&[t]));
        let seed = self.config.seed.as_bytes();
        let first_round = (parent.height + 1).max(height - MAX_BEACON_ENTRIES + 1);
        let beacon: Vec<_> = (first_round..=height)
            .map(|e| beacon_entry(seed, e))
            .collect();
        let miner = self.config.miners.first().map_or(1000, |m| m.actor_id);
        let headers = groups
            .iter()
            .zip(tickets)
            .map(|(group, ticket)| {
                let mut header = Header {
                    miner: Address::new_id(miner),
                    election: expand(&[b"election", &ticket], 96),
                    ticket,
                    beacon: beacon.clone(),
                    parents: parent.key.clone(),
                    parent_weight: parent.weight() + 256 * parent.blocks.len() as u64,
                    height,
                    parent_state_root: parent.state_root,
                    parent_receipts: parent.receipts_root(),
                    messages: messages_root(group),
                    bls_aggregate: aggregate_bls(group.iter().map(|m| &m.signature).filter(|s| {
                        s.sig_type == fvm_shared::crypto::signature::SignatureType::BLS
                    })),
                    timestamp: self.timestamp(height),
                    signature: None,
                    parent_base_fee: base_fee.clone(),
                };
                header.signature = Some(self.block_key.sign(&header.canonical()));
                header
            })
            .collect();
        (headers, groups.iter().map(|g| g.len()).collect())
    }

    /// Stands for the VRF of a block producer: follows from the seed, the parent and the fork.
    fn ticket(&self, parent: &Tipset, height: i64, block: &[u8]) -> Vec<u8> {
        let fork = self.settings.fork.to_be_bytes();
        let seed = self.config.seed.as_bytes();
        expand(
            &[
                b"ticket",
                seed,
                &parent.ticket_digest(),
                &height.to_be_bytes(),
                &fork,
                block,
            ],
            96,
        )
    }

    /// Unix seconds of an epoch.
    pub(crate) fn timestamp(&self, height: i64) -> u64 {
        u64::try_from(self.due_ms(height)).unwrap_or(0) / 1_000
    }

    /// Unix milliseconds at which an epoch begins.
    pub(crate) fn due_ms(&self, height: i64) -> i64 {
        let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX / 4);
        signed(self.config.genesis_time_ms)
            + signed(self.config.block_delay_ms).saturating_mul(height)
            + self.settings.shift_ms
    }

    /// The tipset is the new head.
    pub(super) fn adopt(&mut self, tipset: Arc<Tipset>) {
        for message in &tipset.messages {
            self.mempool
                .remove(&message.message.from, message.message.sequence);
        }
        let state = Arc::clone(&tipset.state);
        self.mempool
            .forget_landed(|a| state.lookup(a).map_or(0, |(_, actor)| actor.nonce));
        self.index(&tipset);
        self.tipsets.push_back(tipset);
        self.prune();
    }

    /// Lets messages of a reorg back into the pool when their time has come; says whether any came.
    fn release_held(&mut self, height: i64) -> bool {
        let (ready, wait): (Vec<_>, Vec<_>) = std::mem::take(&mut self.settings.held)
            .into_iter()
            .partition(|(_, at)| *at <= height);
        self.settings.held = wait;
        let any = !ready.is_empty();
        for (message, _) in ready {
            self.back_to_pool(message);
        }
        any
    }

    /// Returns a message that had landed to the pool; what can no longer land is forgotten.
    pub(super) fn back_to_pool(&mut self, message: SignedMessage) {
        let sender = self.sender(&message.message.from);
        if let Err(error) = self.mempool.push(message, &sender, false) {
            tracing::info!(%error, "message of a reorg does not return to the pool");
        }
    }
}

/// Cuts the messages of a tipset into blocks, each within its gas.
fn into_blocks(messages: &[SignedMessage], blocks: u64) -> Vec<&[SignedMessage]> {
    let mut groups = Vec::new();
    let mut start = 0;
    for _ in 0..blocks.max(1) {
        let mut gas = 0u64;
        let rest = &messages[start..];
        let fits = rest
            .iter()
            .take_while(|m| {
                gas = gas.saturating_add(m.message.gas_limit);
                gas <= BLOCK_GAS_LIMIT
            })
            .count();
        groups.push(&rest[..fits]);
        start += fits;
    }
    groups
}
