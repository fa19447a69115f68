//! Finds our messages on the chain.

use std::collections::BTreeMap;
use std::time::Duration;

use filstar_chain::node::{ChainReader, Error, MessageLookup, MessageReader, ReadRpc, TipSet};
use filstar_chain::types::{AttoFil, Cid, Epoch, TipSetKey};
use filstar_core::world::{Lookup, SenderFacts};
use futures::{StreamExt, stream};
use tokio::time::Instant;

use super::questions::{Asked, Questions};
use super::state::AT_ONCE;

/// Holders that are remembered; then all are forgotten.
const MAX_HOLDERS: usize = 512;
/// A search that takes longer is given up for this poll: all else that the poll asks must not wait for it.
const SEARCH: Duration = Duration::from_secs(10);
/// All searches of one poll may take so long together.
const SEARCHES: Duration = Duration::from_secs(20);

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
    /// Where each message is at this head. A message that the sender's nonce has not reached is nowhere. One whose search
    /// failed has no entry: nothing is known of it, and the others are answered.
    pub(super) async fn lookups(
        &mut self,
        node: &impl ReadRpc,
        head: &TipSetKey,
        questions: &Questions,
        senders: &BTreeMap<String, SenderFacts>,
    ) -> BTreeMap<String, Option<Lookup>> {
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
        let until = Instant::now() + SEARCHES;
        let search = |(text, cid): (String, Cid)| async move {
            let left = until.saturating_duration_since(Instant::now());
            (text, search(node, head, cid, SEARCH.min(left)).await)
        };
        let found: Vec<_> = stream::iter(searched)
            .map(search)
            .buffered(AT_ONCE)
            .collect()
            .await;
        for (text, found) in found {
            let lookup = match found {
                Ok(None) => Ok(None),
                Ok(Some(found)) => self.lookup(node, found).await.map(Some),
                Err(why) => Err(why),
            };
            match lookup {
                Ok(lookup) => drop(all.insert(text, lookup)),
                Err(why) => tracing::warn!(cid = %text, %why, "not known where this message is"),
            }
        }
        all
    }

    async fn lookup(
        &mut self,
        node: &impl ReadRpc,
        found: MessageLookup,
    ) -> Result<Lookup, String> {
        let holder = self.holder(node, &found).await.map_err(|e| e.to_string())?;
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
    async fn holder(
        &mut self,
        node: &impl ReadRpc,
        found: &MessageLookup,
    ) -> Result<Holder, Error> {
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

/// What a search finds, or why it finds nothing out.
async fn search(
    node: &impl ReadRpc,
    head: &TipSetKey,
    cid: Cid,
    allowed: Duration,
) -> Result<Option<MessageLookup>, String> {
    match tokio::time::timeout(allowed, node.search_message(head, &cid, -1, false)).await {
        // A node that does not have the message itself cannot search for it.
        Ok(Err(Error::Forgotten { .. })) => Ok(None),
        Ok(answer) => answer.map_err(|e| e.to_string()),
        Err(_elapsed) => Err(format!("the search takes more than {allowed:?}")),
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
    use filstar_chain::node::Reply;
    use filstar_chain::rpc::ErrorObject;
    use filstar_chain::types::Network;
    use serde_json::{Value, json};

    use super::*;

    const CID: &str = "bafy2bzacecnamqgqmifpluoeldx7zzglxcljo6oja4vrmtj7432rphldpdmm2";

    const OTHER: &str = "bafy2bzacea3wsdh6y3a36tb3skempjoxqpuyompjbmfeyf34fi3uy6uue42v4";

    /// A node that answers each method with one thing.
    struct Fake(fn(&str, &[Value]) -> Result<Value, ErrorObject>);

    impl ReadRpc for Fake {
        fn read_raw(&self, method: &'static str, params: Vec<Value>) -> Reply<'_, String> {
            let answer = (self.0)(method, &params);
            Box::pin(async move {
                answer
                    .map(|v| v.to_string())
                    .map_err(|e| Error::refused("fake", method, e))
            })
        }

        fn network(&self) -> Network {
            Network::Devnet
        }
    }

    fn tipset(height: i64, base_fee: &str) -> Value {
        let link = json!({"/": CID});
        json!({"Cids": [link], "Height": height, "Blocks": [{
            "Miner": "t01000", "Height": height, "Parents": [link], "ParentStateRoot": link,
            "Timestamp": 0, "ParentBaseFee": base_fee,
        }]})
    }

    fn asked(nonce: u64) -> Questions {
        let mut questions = Questions::default();
        questions.messages.insert(
            CID.into(),
            Asked {
                from: "t1a".into(),
                nonce,
            },
        );
        questions
    }

    fn senders() -> BTreeMap<String, SenderFacts> {
        let facts = SenderFacts {
            nonce: 5,
            pool_nonce: 7,
            balance: AttoFil::zero(),
        };
        BTreeMap::from([("t1a".to_owned(), facts)])
    }

    #[tokio::test]
    async fn a_message_is_at_the_tipset_that_holds_it_with_the_fee_it_paid() {
        // Executed at 44; 43 is empty; 42 holds it.
        let node = Fake(|method, params| match method {
            "StateSearchMsg" => Ok(json!({
                "Message": {"/": CID}, "Receipt": {"ExitCode": 0, "Return": null, "GasUsed": 9},
                "TipSet": [{"/": CID}], "Height": 44,
            })),
            "ChainGetTipSetByHeight" => {
                assert_eq!(params[0], json!(43));
                Ok(tipset(42, "123"))
            }
            other => panic!("{other}"),
        });
        let head = TipSetKey::default();
        let found = Landed::default()
            .lookups(&node, &head, &asked(4), &senders())
            .await;
        let lookup = found[CID].as_ref().unwrap();
        assert_eq!(
            (lookup.epoch, lookup.exit_code, lookup.gas_used),
            (Epoch(42), 0, 9)
        );
        assert_eq!(lookup.base_fee, AttoFil::from(123));
    }

    #[tokio::test]
    async fn a_message_that_the_nonce_has_not_reached_is_nowhere_and_not_searched_for() {
        let node = Fake(|method, _| panic!("{method}"));
        let head = TipSetKey::default();
        let found = Landed::default()
            .lookups(&node, &head, &asked(5), &senders())
            .await;
        assert_eq!(found[CID], None);
    }

    #[tokio::test]
    async fn a_message_that_the_node_forgot_counts_as_not_landed() {
        let node = Fake(|_, _| {
            Err(ErrorObject {
                code: 1,
                message: "ipld: could not find bafy".into(),
            })
        });
        let head = TipSetKey::default();
        let found = Landed::default()
            .lookups(&node, &head, &asked(4), &senders())
            .await;
        assert_eq!(found[CID], None);
    }

    #[tokio::test]
    async fn a_search_that_fails_leaves_only_its_own_message_unanswered() {
        let node = Fake(|_, params| {
            if params[1] == json!({"/": CID}) {
                Err(ErrorObject {
                    code: 1,
                    message: "busy".into(),
                })
            } else {
                Ok(Value::Null)
            }
        });
        let head = TipSetKey::default();
        let mut questions = asked(4);
        questions
            .messages
            .insert(OTHER.into(), questions.messages[CID].clone());
        let found = Landed::default()
            .lookups(&node, &head, &questions, &senders())
            .await;
        assert_eq!(found.get(CID), None, "nothing is known of it");
        assert_eq!(found.get(OTHER), Some(&None), "it was searched for");
    }
}
