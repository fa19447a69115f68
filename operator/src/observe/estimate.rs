//! What a sector that is begun now will cost, by the chain node's own estimates.

use filstar_chain::node::{Error, MinerReader, Node, PreCommitInfo, TipSet};
use filstar_chain::types::{ActorId, AttoFil, Cid, Epoch, SealProof, SectorNumber};
use filstar_core::plan::policy;
use filstar_crds::MinerSpec;

/// CommR of 32 zero bytes: an estimate asks for a replica, and does not look at it.
const NO_REPLICA: &str = "bagboea4b5abcaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// Deposit and pledge of one sector without deals.
pub(super) async fn of(
    node: &Node,
    actor: ActorId,
    head: &TipSet,
    spec: &MinerSpec,
) -> Result<(AttoFil, AttoFil), Error> {
    let seal_proof: SealProof = spec.seal_proof.as_str().parse()?;
    let info = PreCommitInfo {
        seal_proof,
        sector_number: SectorNumber(0),
        sealed_cid: no_replica(),
        seal_rand_epoch: Epoch((head.height.0 - policy::TICKET_LOOKBACK).max(0)),
        deal_ids: Vec::new(),
        expiration: head.height + policy::SECTOR_LIFETIME,
        unsealed_cid: None,
    };
    let key = &head.key;
    let size = seal_proof.sector_size();
    futures::try_join!(
        node.precommit_deposit(actor, &info, key),
        node.initial_pledge(policy::SECTOR_LIFETIME, size, 0, key),
    )
}

fn no_replica() -> Cid {
    Cid::try_from(NO_REPLICA).expect("invariant: a constant, and a test reads it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_replica_of_an_estimate_is_a_sealed_commitment() {
        assert_eq!(no_replica().codec(), 0xf102);
        assert_eq!(no_replica().hash().digest(), [0; 32]);
    }
}
