//! The state after a tipset: who owns what, and where each miner actor's own state begins.
//!
//! A world is a value: cloned before it is changed, shared between tipsets that change nothing. The
//! insides of a miner are the actors' own structures, as blocks.

use std::collections::BTreeMap;

use cid::Cid;
use fil_actor_miner_state::v18::PowerPair;
use fvm_shared::ActorID;
use fvm_shared::address::{Address, Payload};
use fvm_shared::econ::TokenAmount;
use num_traits::Zero as _;
use serde::{Deserialize, Serialize};

/// Collects the tips of block producers.
pub(crate) const REWARD_ACTOR: ActorID = 2;
/// Where burnt money goes.
pub(crate) const BURNT_FUNDS: ActorID = 99;

/// What code an actor runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Code {
    /// Money only, no methods: the builtin singletons.
    System,
    Account,
    Miner,
}

impl Code {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Account => "account",
            Self::Miner => "storageminer",
        }
    }
}

/// What a miner actor has besides money.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MinerHead {
    /// The actor's state (v18).
    pub(crate) state: Cid,
    /// Epoch at whose end the actor's cron runs next.
    pub(crate) cron: Option<i64>,
    /// What the power actor would have on record.
    pub(crate) power: PowerPair,
}

/// One actor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Actor {
    pub(crate) code: Code,
    pub(crate) balance: TokenAmount,
    pub(crate) nonce: u64,
    /// The key address of an account.
    pub(crate) key: Option<Address>,
    pub(crate) miner: Option<MinerHead>,
}

impl Actor {
    pub(crate) fn new(code: Code, balance: TokenAmount) -> Self {
        Self {
            code,
            balance,
            nonce: 0,
            key: None,
            miner: None,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Encoded(Vec<(ActorID, Actor)>, ActorID);

/// All actors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Encoded", into = "Encoded")]
pub(crate) struct World {
    actors: BTreeMap<ActorID, Actor>,
    by_key: BTreeMap<Address, ActorID>,
    next_id: ActorID,
}

impl From<Encoded> for World {
    fn from(Encoded(list, next_id): Encoded) -> Self {
        let by_key = list
            .iter()
            .filter_map(|(id, a)| a.key.map(|k| (k, *id)))
            .collect();
        Self {
            actors: list.into_iter().collect(),
            by_key,
            next_id,
        }
    }
}

impl From<World> for Encoded {
    fn from(world: World) -> Self {
        Self(world.actors.into_iter().collect(), world.next_id)
    }
}

impl World {
    /// The builtin singletons and nobody else.
    pub(crate) fn new() -> Self {
        let actors = [0, 1, 2, 3, 4, 5, 6, 7, 10, BURNT_FUNDS]
            .into_iter()
            .map(|id| (id, Actor::new(Code::System, TokenAmount::zero())))
            .collect();
        Self {
            actors,
            by_key: BTreeMap::new(),
            next_id: 100,
        }
    }

    /// Makes sure that new accounts get ids from here on.
    pub(crate) fn reserve_ids_below(&mut self, id: ActorID) {
        self.next_id = self.next_id.max(id);
    }

    pub(crate) fn get(&self, id: ActorID) -> Option<&Actor> {
        self.actors.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: ActorID) -> Option<&mut Actor> {
        self.actors.get_mut(&id)
    }

    pub(crate) fn insert(&mut self, id: ActorID, actor: Actor) {
        if let Some(key) = actor.key {
            self.by_key.insert(key, id);
        }
        self.actors.insert(id, actor);
    }

    /// Id of an address; none if the chain has never seen it.
    pub(crate) fn id_of(&self, address: &Address) -> Option<ActorID> {
        match address.payload() {
            Payload::ID(id) => self.actors.contains_key(id).then_some(*id),
            Payload::Secp256k1(_) | Payload::BLS(_) | Payload::Actor(_) | Payload::Delegated(_) => {
                self.by_key.get(address).copied()
            }
        }
    }

    pub(crate) fn lookup(&self, address: &Address) -> Option<(ActorID, &Actor)> {
        let id = self.id_of(address)?;
        self.actors.get(&id).map(|a| (id, a))
    }

    /// Key address of an account, given in any form.
    pub(crate) fn key_of(&self, address: &Address) -> Option<Address> {
        match address.payload() {
            Payload::Secp256k1(_) | Payload::BLS(_) => Some(*address),
            Payload::ID(_) | Payload::Actor(_) | Payload::Delegated(_) => {
                self.lookup(address).and_then(|(_, a)| a.key)
            }
        }
    }

    /// Id of an address; a key address that is new becomes an account, as a first payment makes it.
    pub(crate) fn ensure_account(&mut self, address: &Address) -> Option<ActorID> {
        if let Some(id) = self.id_of(address) {
            return Some(id);
        }
        if !matches!(address.payload(), Payload::Secp256k1(_) | Payload::BLS(_)) {
            return None;
        }
        let id = self.next_id;
        self.next_id += 1;
        let account = Actor {
            key: Some(*address),
            ..Actor::new(Code::Account, TokenAmount::zero())
        };
        self.insert(id, account);
        Some(id)
    }

    /// Adds to an actor's balance; money sent to nobody is not lost but refused.
    pub(crate) fn credit(&mut self, id: ActorID, amount: &TokenAmount) -> bool {
        self.actors.get_mut(&id).is_some_and(|a| {
            a.balance += amount;
            true
        })
    }

    /// Takes from an actor's balance; false if there is not enough.
    pub(crate) fn debit(&mut self, id: ActorID, amount: &TokenAmount) -> bool {
        self.actors.get_mut(&id).is_some_and(|a| {
            let enough = a.balance >= *amount;
            if enough {
                a.balance -= amount;
            }
            enough
        })
    }

    pub(crate) fn miners(&self) -> impl Iterator<Item = (ActorID, &MinerHead)> {
        self.actors
            .iter()
            .filter_map(|(id, a)| a.miner.as_ref().map(|m| (*id, m)))
    }

    /// Everything that exists, burnt funds included: it changes only when money is made.
    #[cfg(test)]
    pub(crate) fn total(&self) -> TokenAmount {
        self.actors.values().map(|a| &a.balance).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{cbor, from_cbor};
    use crate::keys::{Key, KeyKind};

    #[test]
    fn world_is_the_same_after_encoding() {
        let mut world = World::new();
        let key = Key::from_seed(KeyKind::Bls, b"w").address;
        let id = world.ensure_account(&key).unwrap();
        world.credit(id, &TokenAmount::from_whole(3));
        let again: World = from_cbor(&cbor(&world)).unwrap();
        assert_eq!(again, world);
        assert_eq!(again.id_of(&key), Some(id));
    }

    #[test]
    fn debit_takes_nothing_when_there_is_not_enough() {
        let mut world = World::new();
        world.credit(99, &TokenAmount::from_atto(5));
        assert!(!world.debit(99, &TokenAmount::from_atto(6)));
        assert!(world.debit(99, &TokenAmount::from_atto(5)));
        assert!(world.total().is_zero());
    }
}
