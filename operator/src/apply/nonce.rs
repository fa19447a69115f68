//! One signature at a time for each sender, and the smallest nonce that it may get.
//!
//! A nonce that was stored once is never given to another message: not even when the plan that asks for the next
//! one has not seen the store yet, or another Miner has the same sender.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use filstar_chain::types::TipSetKey;
use tokio::sync::OwnedMutexGuard;

/// The turn of one sender, with the smallest nonce that is still free as far as this process knows.
pub(super) type Turn = OwnedMutexGuard<u64>;

/// All senders, by the genesis of their chain and their address as the network writes it: a test chain that began
/// anew has the same keys and none of the nonces.
#[derive(Clone, Debug, Default)]
pub(super) struct Nonces(Arc<Mutex<BTreeMap<Sender, Arc<tokio::sync::Mutex<u64>>>>>);

type Sender = (TipSetKey, String);

impl Nonces {
    /// Waits for the sender's turn on the chain with this genesis.
    pub(super) async fn turn(&self, genesis: &TipSetKey, sender: &str) -> Turn {
        let own = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let key = (genesis.clone(), sender.to_owned());
            all.entry(key).or_default().clone()
        };
        own.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sender_remembers_its_floor_and_has_one_turn_at_a_time() {
        let nonces = Nonces::default();
        let chain = TipSetKey::default();
        let mut turn = nonces.turn(&chain, "t1a").await;
        assert_eq!(*turn, 0);
        *turn = 6;
        let other = nonces.turn(&chain, "t1b").await;
        assert_eq!(*other, 0);
        let mut waiting = std::pin::pin!(nonces.turn(&chain, "t1a"));
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        drop(turn);
        assert_eq!(*waiting.await, 6);
    }

    #[tokio::test]
    async fn a_chain_that_began_anew_has_no_floor() {
        let nonces = Nonces::default();
        *nonces.turn(&TipSetKey::default(), "t1a").await = 6;
        let cid = "bafy2bzacecnamqgqmifpluoeldx7zzglxcljo6oja4vrmtj7432rphldpdmm2";
        let other = TipSetKey(vec![cid.parse().unwrap()]);
        assert_eq!(*nonces.turn(&other, "t1a").await, 0);
    }
}
