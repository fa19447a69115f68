//! Finds our messages on the chain.

use std::collections::BTreeMap;

use filstar_chain::node::{ChainReader, Error, MessageLookup, MessageReader, Node, TipSet};
use filstar_chain::types::{AttoFil, Cid, Epoch, TipSetKey};
use futures::{StreamExt, TryStreamExt, stream};

use super::poll::AT_ONCE;
use super::questions::{Asked, Questions};
use crate::world::{Lookup, SenderFacts};

/// Holders that are remembered; then all are forgotten.
const MAX_HOLDERS: usize = 512;

/// Tipsets that hold messages, by the tipset that executed them.
#[derive(Debug, Default)]
pub(super) struct Landed {
    holders: BTreeMap<TipSetKey, Holder>,
}

/// The tipset that holds a message.
#[derive(Clone, Debug)]
struct Holder {
    epoch: Epoch,
    base_fee: AttoFil,
}

impl Landed {
    /// Where each message is at this head. A message that the sender's nonce has not reached is nowhere.
    pub(super) async fn lookups(
        &mut self,
        node: &Node,
        head: &TipSetKey,
        questions: &Questions,
        senders: &BTreeMap<String, SenderFacts>,
    ) -> Result<BTreeMap<String, Option<Lookup>>, Error> {
        let mut all = BTreeMap::new();
        let mut searched = Vec::new();
        for (cid, asked) in &questions.messages {
            if may_have_landed(asked, senders) {
                let parsed = cid.parse::<Cid>();
                if let Ok(parsed) = parsed {
                    searched.push((cid.clone(), parsed));
                    continue;
                }
                tracing::warn!(cid, "a stored CID cannot be read");
            }
            all.insert(cid.clone(), None);
        }
        let search = |(text, cid): (String, Cid)| async move {
            let found = match node.search_message(head, &cid, -1, false).await {
                // A node that lost the message itself cannot search for it: push it again.
                Err(Error::Forgotten { .. }) => None,
                answer => answer?,
            };
            Ok::<_, Error>((text, found))
        };
        let found: Vec<(String, Option<MessageLookup>)> = stream::iter(searched)
            .map(search)
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        for (text, lookup) in found {
            let lookup = match lookup {
                None => None,
                Some(lookup) => Some(self.lookup(node, lookup).await?),
            };
            all.insert(text, lookup);
        }
        Ok(all)
    }

    async fn lookup(&mut self, node: &Node, found: MessageLookup) -> Result<Lookup, Error> {
        let holder = self.holder(node, &found).await?;
        Ok(Lookup {
            cid: found.message.to_string(),
            epoch: holder.epoch,
            exit_code: i64::from(found.receipt.exit_code),
            gas_used: found.receipt.gas_used,
            return_value: found.receipt.r#return,
            base_fee: holder.base_fee,
        })
    }

    /// The node names the tipset that executed the message: the child of the one that holds it.
    async fn holder(&mut self, node: &Node, found: &MessageLookup) -> Result<Holder, Error> {
        if let Some(holder) = self.holders.get(&found.tipset) {
            return Ok(holder.clone());
        }
        let parent: TipSet = node
            .tipset_by_height(found.height - 1, &found.tipset)
            .await?;
        let holder = Holder {
            epoch: parent.height,
            base_fee: parent.base_fee(),
        };
        if self.holders.len() >= MAX_HOLDERS {
            self.holders.clear();
        }
        self.holders.insert(found.tipset.clone(), holder.clone());
        Ok(holder)
    }
}

/// Whether the chain may hold the message: the sender's nonce has passed it, or is not known.
fn may_have_landed(asked: &Asked, senders: &BTreeMap<String, SenderFacts>) -> bool {
    senders
        .get(&asked.from)
        .is_none_or(|sender| asked.nonce < sender.nonce)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_searched_for_once_the_nonce_has_passed_it() {
        let facts = SenderFacts {
            nonce: 5,
            pool_nonce: 7,
            balance: AttoFil::zero(),
        };
        let senders = BTreeMap::from([("t1a".to_owned(), facts)]);
        let asked = |from: &str, nonce| Asked {
            from: from.into(),
            nonce,
        };
        assert!(may_have_landed(&asked("t1a", 4), &senders));
        assert!(!may_have_landed(&asked("t1a", 5), &senders));
        assert!(may_have_landed(&asked("t1b", 9), &senders));
    }
}
