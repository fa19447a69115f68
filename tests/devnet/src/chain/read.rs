//! Questions to the chain: tipsets by height and key, randomness, where a message landed.

use std::collections::VecDeque;
use std::sync::Arc;

use cid::Cid;

use super::tipset::{BeaconEntry, Tipset};
use super::{Chain, ChainError};
use crate::actor::ChainRandomness;
use crate::codec::{blake2b256, expand};
use crate::message::{Receipt, SignedMessage};
use crate::store::Overlay;

/// The beacon entry of an epoch. It does not depend on the chain: forks share it.
pub(crate) fn beacon_entry(seed: &[u8], epoch: i64) -> BeaconEntry {
    BeaconEntry {
        round: u64::try_from(epoch).unwrap_or(0),
        data: expand(&[b"beacon", seed, &epoch.to_be_bytes()], 96),
    }
}

/// Randomness of one chain up to an epoch.
pub(crate) struct RandomnessView<'a> {
    tipsets: &'a VecDeque<Arc<Tipset>>,
    seed: &'a [u8],
    last: i64,
}

impl ChainRandomness for RandomnessView<'_> {
    fn ticket_digest(&self, epoch: i64) -> Option<[u8; 32]> {
        if epoch > self.last {
            return None;
        }
        // A null round has the ticket of the tipset before it; before genesis there is genesis.
        let after = self.tipsets.partition_point(|t| t.height <= epoch);
        self.tipsets
            .get(after.saturating_sub(1))
            .map(|t| t.ticket_digest())
    }

    fn beacon_digest(&self, epoch: i64) -> Option<[u8; 32]> {
        (epoch <= self.last).then(|| blake2b256(&[&beacon_entry(self.seed, epoch).data]))
    }
}

/// A landed message as `StateSearchMsg` tells it.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) message: Cid,
    pub(crate) receipt: Receipt,
    /// The tipset whose header carries the receipt: the child of the one with the message.
    pub(crate) tipset: Arc<Tipset>,
}

impl Chain {
    pub(crate) fn randomness_up_to(&self, last: i64) -> RandomnessView<'_> {
        RandomnessView {
            tipsets: &self.tipsets,
            seed: self.config.seed.as_bytes(),
            last,
        }
    }

    /// A store to read state from; what is written to it is lost.
    pub(crate) fn scratch(&self) -> Overlay<'_> {
        Overlay::new(&self.blocks)
    }

    pub(crate) fn verifier(&self) -> &dyn crate::verifier::ProofVerifier {
        &*self.verifier
    }

    /// The canonical tipset of exactly this height.
    pub(crate) fn at_height(&self, height: i64) -> Option<&Arc<Tipset>> {
        let index = self
            .tipsets
            .binary_search_by_key(&height, |t| t.height)
            .ok()?;
        self.tipsets.get(index)
    }

    /// The tipset of a key; the head for the empty key.
    pub(crate) fn by_key(&self, key: &[Cid]) -> Result<Arc<Tipset>, ChainError> {
        let Some(first) = key.first() else {
            return Ok(Arc::clone(self.head()));
        };
        let found = self
            .by_block
            .get(first)
            .filter(|t| t.key.len() == key.len() && key.iter().all(|c| t.key.contains(c)));
        found.cloned().ok_or_else(|| {
            ChainError::Asked(format!(
                "loading tipset: get block {first}: ipld: could not find {first}"
            ))
        })
    }

    /// The tipset that has a block.
    pub(crate) fn of_block(&self, block: &Cid) -> Result<Arc<Tipset>, ChainError> {
        self.by_block.get(block).cloned().ok_or_else(|| {
            ChainError::Asked(format!("get block {block}: ipld: could not find {block}"))
        })
    }

    pub(crate) fn parent_of(&self, tipset: &Tipset) -> Option<Arc<Tipset>> {
        tipset
            .parents()
            .first()
            .and_then(|cid| self.by_block.get(cid))
            .cloned()
    }

    /// The tipset of `height` on the chain that ends with `from`; for a null round the one before
    /// (`before`) or after it.
    pub(crate) fn seen_from(
        &self,
        from: &Arc<Tipset>,
        height: i64,
        before: bool,
    ) -> Result<Arc<Tipset>, ChainError> {
        if height > from.height {
            return Err(ChainError::Asked(
                "looking for tipset with height greater than start point".to_owned(),
            ));
        }
        if height < 0 {
            return Err(ChainError::Asked(format!(
                "height {height} is before genesis"
            )));
        }
        if self.is_canonical(from) {
            let after = self.tipsets.partition_point(|t| t.height < height);
            let exact = self.tipsets.get(after).is_some_and(|t| t.height == height);
            let index = if exact || !before {
                after
            } else {
                after.saturating_sub(1)
            };
            return self
                .tipsets
                .get(index)
                .cloned()
                .ok_or_else(|| ChainError::Asked(format!("no tipset at height {height}")));
        }
        self.walk_back(from, height, before)
    }

    fn walk_back(
        &self,
        from: &Arc<Tipset>,
        height: i64,
        before: bool,
    ) -> Result<Arc<Tipset>, ChainError> {
        let mut current = Arc::clone(from);
        while current.height > height {
            let Some(parent) = self.parent_of(&current) else {
                return Err(ChainError::Asked(format!("no tipset at height {height}")));
            };
            if parent.height < height && !before {
                return Ok(current);
            }
            current = parent;
        }
        Ok(current)
    }

    pub(crate) fn is_canonical(&self, tipset: &Tipset) -> bool {
        self.at_height(tipset.height)
            .is_some_and(|t| t.key == tipset.key)
    }

    /// The digest of a ticket as the chain that ends with `from` sees it.
    pub(crate) fn ticket_digest(
        &self,
        from: &Arc<Tipset>,
        epoch: i64,
    ) -> Result<[u8; 32], ChainError> {
        if epoch > from.height {
            return Err(ChainError::Asked(
                "cannot draw randomness from the future".to_owned(),
            ));
        }
        Ok(self.seen_from(from, epoch.max(0), true)?.ticket_digest())
    }

    pub(crate) fn beacon_digest(&self, from: &Tipset, epoch: i64) -> Result<[u8; 32], ChainError> {
        if epoch > from.height {
            return Err(ChainError::Asked(
                "cannot draw randomness from the future".to_owned(),
            ));
        }
        Ok(blake2b256(&[&beacon_entry(
            self.config.seed.as_bytes(),
            epoch,
        )
        .data]))
    }

    /// Where a message landed, seen from a tipset: none while it waits or when it never came.
    pub(crate) fn search(
        &self,
        from: &Arc<Tipset>,
        cid: &Cid,
        lookback: i64,
        allow_replaced: bool,
    ) -> Result<Option<Found>, ChainError> {
        let message = self.find_message(cid).ok_or_else(|| {
            ChainError::Asked(format!(
                "failed to load message: ipld: could not find {cid}"
            ))
        })?;
        let least = if lookback < 0 {
            0
        } else {
            from.height - lookback
        };
        let mut child = Arc::clone(from);
        while child.height > 0 && child.height > least.min(from.height) {
            let Some(parent) = self.parent_of(&child) else {
                return Ok(None);
            };
            if let Some(index) = same_wish(&parent, &message) {
                return found(&parent, index, &child, cid, &message, allow_replaced).map(Some);
            }
            // An account that has not used this nonce cannot have used it earlier.
            let nonce = child
                .parent_state
                .lookup(&message.message.from)
                .map_or(0, |(_, a)| a.nonce);
            if nonce <= message.message.sequence {
                return Ok(None);
            }
            child = parent;
        }
        Ok(None)
    }
}

fn same_wish(tipset: &Tipset, message: &SignedMessage) -> Option<usize> {
    tipset.messages.iter().position(|m| {
        m.message.from == message.message.from && m.message.sequence == message.message.sequence
    })
}

fn found(
    parent: &Tipset,
    index: usize,
    child: &Arc<Tipset>,
    asked: &Cid,
    message: &SignedMessage,
    allow_replaced: bool,
) -> Result<Found, ChainError> {
    let landed = &parent.messages[index];
    let cid = landed.cid();
    let same = cid == *asked || crate::message::message_cid(&landed.message) == *asked;
    let (a, b) = (&landed.message, &message.message);
    let same_call =
        a.to == b.to && a.value == b.value && a.method_num == b.method_num && a.params == b.params;
    let counts = same || (same_call && allow_replaced);
    if !counts {
        return Err(ChainError::Asked(format!(
            "found message with equal nonce as the one we are looking for that is NOT a valid \
             replacement message (F:{} n {}, TS: {cid} n{})",
            b.from, b.sequence, a.sequence
        )));
    }
    Ok(Found {
        message: cid,
        receipt: parent.receipts[index].clone(),
        tipset: Arc::clone(child),
    })
}
