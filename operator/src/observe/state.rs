//! What the chain has of senders and sectors at one head.

use std::collections::BTreeMap;

use filstar_chain::node::{ActorReader, Error as NodeError, MessageReader, Node, SectorReader};
use filstar_chain::types::{ActorId, AttoFil, SectorNumber, TipSetKey, parse_address};
use filstar_core::world::SenderFacts;
use futures::{StreamExt, TryStreamExt, stream};

use super::questions::Questions;

/// Calls at once of one poll.
pub(super) const AT_ONCE: usize = 8;

pub(super) async fn senders(
    node: &Node,
    key: &TipSetKey,
    questions: &Questions,
) -> Result<BTreeMap<String, SenderFacts>, NodeError> {
    let mut all = BTreeMap::new();
    for text in &questions.senders {
        let address = parse_address(text)?;
        let known = match node.actor(&address, key).await {
            Ok(actor) => {
                let pool_nonce = node.mpool_nonce(&address).await?;
                SenderFacts {
                    nonce: actor.nonce,
                    pool_nonce,
                    balance: actor.balance,
                }
            }
            // An address that never got money is on no chain.
            Err(NodeError::ActorNotFound { .. }) => SenderFacts {
                nonce: 0,
                pool_nonce: 0,
                balance: AttoFil::zero(),
            },
            Err(error) => return Err(error),
        };
        all.insert(text.clone(), known);
    }
    Ok(all)
}

pub(super) type PreCommits = BTreeMap<u64, Option<filstar_chain::node::PreCommitOnChainInfo>>;

pub(super) async fn precommits(
    node: &Node,
    actor: ActorId,
    key: &TipSetKey,
    questions: &Questions,
) -> Result<PreCommits, NodeError> {
    let ask = |number: u64| async move {
        Ok((
            number,
            node.precommit_info(actor, SectorNumber(number), key)
                .await?,
        ))
    };
    stream::iter(questions.sectors.iter().copied())
        .map(ask)
        .buffered(AT_ONCE)
        .try_collect()
        .await
}

pub(super) type Sectors = BTreeMap<u64, Option<filstar_chain::node::SectorOnChainInfo>>;

pub(super) async fn sectors(
    node: &Node,
    actor: ActorId,
    key: &TipSetKey,
    questions: &Questions,
) -> Result<Sectors, NodeError> {
    let ask = |number: u64| async move {
        Ok((
            number,
            node.sector_info(actor, SectorNumber(number), key).await?,
        ))
    };
    stream::iter(questions.sectors.iter().copied())
        .map(ask)
        .buffered(AT_ONCE)
        .try_collect()
        .await
}
