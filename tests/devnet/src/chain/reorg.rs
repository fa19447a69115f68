//! Reorgs on demand: the last epochs are taken back and made again on another fork.

use std::collections::BTreeSet;
use std::sync::Arc;

use cid::Cid;

use super::{Chain, ChainError, MAX_ORPHANS};
use crate::journal::Record;
use crate::message::{SignedMessage, message_cid};

/// Which messages of the abandoned tipsets never return.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Drop {
    None,
    All,
    These(BTreeSet<Cid>),
}

impl Drop {
    fn covers(&self, message: &SignedMessage) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::These(cids) => {
                cids.contains(&message.cid()) || cids.contains(&message_cid(&message.message))
            }
        }
    }
}

/// What a reorg did.
#[derive(Debug)]
pub(crate) struct Reorged {
    pub(crate) ancestor: i64,
    pub(crate) returned: Vec<Cid>,
    pub(crate) dropped: Vec<Cid>,
}

impl Chain {
    /// Takes back the last `depth` tipsets and makes the same epochs again, in one step for everyone
    /// who asks. Messages return to the pool after `delay` epochs, or never.
    pub(crate) fn reorg(
        &mut self,
        depth: usize,
        drop: &Drop,
        delay: i64,
    ) -> Result<Reorged, ChainError> {
        if depth == 0 || depth >= self.tipsets.len() {
            return Err(ChainError::Asked(format!(
                "depth must be from 1 to {}",
                self.tipsets.len() - 1
            )));
        }
        let old_height = self.head().height;
        let mut abandoned = Vec::with_capacity(depth);
        for _ in 0..depth {
            abandoned.extend(self.tipsets.pop_back());
        }
        abandoned.reverse();
        let ancestor = self.head().height;
        let mut result = Reorged {
            ancestor,
            returned: Vec::new(),
            dropped: Vec::new(),
        };
        self.settings.fork += 1;
        for tipset in abandoned {
            self.unindex_messages(&tipset);
            for message in &tipset.messages {
                self.remember(message.clone());
                if drop.covers(message) {
                    result.dropped.push(message.cid());
                    continue;
                }
                result.returned.push(message.cid());
                if delay > 0 {
                    self.settings
                        .held
                        .push((message.clone(), old_height + delay));
                } else {
                    self.back_to_pool(message.clone());
                }
            }
            self.keep_orphan(tipset);
        }
        let mut records = vec![
            Record::Rewind { height: ancestor },
            Record::Settings(Box::new(self.settings.clone())),
        ];
        for height in ancestor + 1..=old_height {
            self.mine(height, &mut records)?;
        }
        // The pool as it is now: what returned to it is in no record.
        records.push(Record::Pool(self.mempool.iter().cloned().collect()));
        self.commit(&records)?;
        Ok(result)
    }

    fn keep_orphan(&mut self, tipset: Arc<super::Tipset>) {
        self.orphans.push_back(tipset);
        if self.orphans.len() > MAX_ORPHANS
            && let Some(old) = self.orphans.pop_front()
        {
            for cid in &old.key {
                self.by_block.remove(cid);
            }
        }
    }
}
