//! Messages of one sender on a small chain with reorgs, a pool that forgets, something else that uses the key, and an
//! operator that may die after any action: every nonce is given once and none is left out, nothing that failed lands,
//! and every wish that can be signed comes to its end, whatever stands before it.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::*;
use filstar_chain::types::{AttoFil, Epoch};
use filstar_core::action::Action;
use filstar_core::plan::plan;
use filstar_core::world::{Id, Lookup, World};
use filstar_crds::{
    ChainMessage, ChainMessageStatus, MessageKind, MessageRefs, MessageState, PledgeMode,
    SectorPhase, SignedVersion,
};
use proptest::prelude::*;

/// Rounds in which all goes wrong, and those after them in which nothing does.
const WILD: usize = 60;
const CALM: usize = 60;

/// A message in a block or in the pool: ours by its CID, or somebody else's.
type Carried = Option<String>;

struct Sim {
    world: World,
    version: u64,
    luck: Luck,
    wild: bool,
    confidence: i64,
    head: i64,
    /// What landed: epoch and message, by nonce from 0 on.
    landed: Vec<(i64, Carried)>,
    pool: BTreeMap<u64, Carried>,
    /// What the operator remembers of the sender.
    floor: u64,
    failures: BTreeMap<Id, u32>,
    /// Nonce and CID of every message that was ever signed.
    stored: BTreeMap<Id, (u64, String)>,
    /// Wishes that no node estimates.
    refused: BTreeSet<Id>,
    foreign: u32,
}

impl Sim {
    /// Whether something goes wrong that does once in `times`.
    fn strikes(&mut self, times: u64) -> bool {
        let strikes = self.luck.below(times) == 0;
        strikes && self.wild
    }

    fn tip(&self) -> u64 {
        u64::try_from(self.landed.len()).unwrap()
    }

    /// What a head shows: the state before its own messages.
    fn shown(&self) -> u64 {
        let shown = self.landed.iter().filter(|(epoch, _)| *epoch < self.head);
        u64::try_from(shown.count()).unwrap()
    }

    fn observe(&mut self) {
        let next = self.shown();
        let shown = usize::try_from(next).unwrap();
        let mut lookups = BTreeMap::new();
        for (nonce, cid) in self.stored.clone().into_values() {
            if self.strikes(8) {
                continue;
            }
            let at = self.landed[..shown].get(usize::try_from(nonce).unwrap());
            let found = at.filter(|(_, c)| c.as_ref() == Some(&cid));
            let found = found.map(|(epoch, _)| Lookup {
                cid: cid.clone(),
                epoch: Epoch(*epoch),
                exit_code: 0,
                gas_used: 1,
                return_value: Vec::new(),
                base_fee: AttoFil::from_atto(100),
            });
            lookups.insert(cid, found);
        }
        let head = self.head;
        let chain = chain_mut(&mut self.world);
        chain.head = Epoch(head);
        chain.lookups = lookups;
        chain.senders.get_mut(SENDER).unwrap().nonce = next;
    }

    /// One plan, of which an operator that dies does only the first actions; then time goes on.
    fn round(&mut self) {
        self.observe();
        let actions = plan(&self.world, at(0));
        let (mut lane, patches): (Vec<_>, Vec<_>) = actions
            .into_iter()
            .filter(|a| {
                matches!(
                    a,
                    Action::SignMessage { .. }
                        | Action::PushMessage { .. }
                        | Action::PatchMessage { .. }
                )
            })
            .partition(|a| !matches!(a, Action::PatchMessage { .. }));
        lane.sort_by_key(|a| match a {
            Action::SignMessage { id, .. } | Action::PushMessage { id, .. } => {
                self.failures.get(id).copied().unwrap_or(0)
            }
            _ => 0,
        });
        let mut left = if self.strikes(4) {
            self.luck.below(4)
        } else {
            u64::MAX
        };
        let dies = left < u64::MAX;
        let mut signed = false;
        for action in patches.into_iter().chain(lane) {
            if left == 0 {
                break;
            }
            left -= 1;
            self.apply(action, &mut signed);
        }
        if dies {
            self.floor = 0;
            self.failures.clear();
        }
        self.chain_goes_on();
        self.check();
    }

    fn apply(&mut self, action: Action, signed: &mut bool) {
        match action {
            Action::PatchMessage {
                id,
                status,
                resource_version,
            } => self.write(&id, *status, &resource_version),
            Action::SignMessage {
                id,
                min_nonce,
                resource_version,
                ..
            } if !*signed => {
                if self.strikes(6) || self.refused.contains(&id) {
                    *self.failures.entry(id).or_default() += 1;
                } else {
                    self.sign(&id, min_nonce, &resource_version);
                    *signed = true;
                }
            }
            Action::PushMessage {
                id,
                status,
                resource_version,
                ..
            } => {
                let pushed = self.push(&id);
                // The node has it, and the operator dies before it says so.
                if pushed && !self.strikes(6) {
                    self.write(&id, *status, &resource_version);
                }
            }
            _ => {}
        }
    }

    fn sign(&mut self, id: &Id, min_nonce: u64, version: &str) {
        let message = self.world.messages.get(id).unwrap().clone();
        let sector = Id::new(NS, format!("t01000-{}", message.spec.sectors[0]));
        let there = self.world.sectors.get(&sector).is_some();
        assert!(
            there || message.spec.kind != MessageKind::PreCommit,
            "{id} is signed for a sector that is gone"
        );
        let pool = self.pool.keys().next_back().map_or(0, |nonce| nonce + 1);
        let nonce = self.shown().max(pool).max(min_nonce).max(self.floor);
        assert!(!self.stored.contains_key(id), "{id} is signed twice");
        for before in 0..nonce {
            let ours = self.stored.values().any(|(n, _)| *n == before);
            let known = ours || before < self.tip() || self.pool.contains_key(&before);
            assert!(known, "{id} gets {nonce}, and nobody has {before}");
        }
        let cid = format!("cid-{}", id.name);
        let mut status = message.status.clone().unwrap_or_default();
        status.state = Some(MessageState::Signed);
        status.nonce = Some(nonce);
        status.versions.push(SignedVersion {
            cid: cid.clone(),
            gas_fee_cap: "1000".into(),
            gas_premium: "100".into(),
            gas_limit: 1_000_000,
            bytes: "AA==".into(),
        });
        self.write(id, status, version);
        let taken = self.stored.values().any(|(n, _)| *n == nonce);
        assert!(!taken, "nonce {nonce} is given twice");
        self.stored.insert(id.clone(), (nonce, cid));
        self.floor = nonce + 1;
    }

    /// Whether the push counts as made.
    fn push(&mut self, id: &Id) -> bool {
        let (nonce, cid) = self.stored[id].clone();
        if nonce < self.tip() {
            return true;
        }
        let there = self.pool.entry(nonce).or_insert(Some(cid.clone()));
        *there == Some(cid)
    }

    fn write(&mut self, id: &Id, status: ChainMessageStatus, version: &str) {
        let mut message = self.world.messages.get(id).unwrap().clone();
        if message.metadata.resource_version.as_deref() != Some(version) {
            return;
        }
        let before = message.status.clone().unwrap_or_default();
        assert!(before.nonce.is_none() || before.nonce == status.nonce);
        assert!(before.versions.is_empty() || before.versions == status.versions);
        message.status = Some(status);
        self.put(message);
    }

    fn put(&mut self, mut message: ChainMessage) {
        self.version += 1;
        message.metadata.resource_version = Some(self.version.to_string());
        self.world.messages.apply(message);
    }

    fn chain_goes_on(&mut self) {
        if self.strikes(6) {
            self.reorg();
        }
        if self.strikes(10) {
            // Somebody else's is sent again by its owner.
            self.pool.retain(|_, message| message.is_none());
        }
        if self.foreign > 0 && self.strikes(8) {
            self.foreign -= 1;
            self.pool.insert(self.tip(), None);
        }
        for _ in 0..self.luck.below(4) {
            let next = self.tip();
            let Some(message) = self.pool.remove(&next) else {
                break;
            };
            self.landed.push((self.head, message));
        }
        self.pool = self.pool.split_off(&self.tip());
        self.head += 1;
    }

    /// Undoes tipsets, no more than `confidence`. What was in them is in the pool again, or lost.
    fn reorg(&mut self) {
        let depth = 1 + self.luck.below(self.confidence.unsigned_abs());
        let kept = self.head - i64::try_from(depth).unwrap();
        while self.landed.last().is_some_and(|(epoch, _)| *epoch > kept) {
            let (_, message) = self.landed.pop().unwrap();
            if message.is_none() || self.luck.below(2) == 0 {
                self.pool.insert(self.tip(), message);
            }
        }
    }

    fn state(&self, id: &Id) -> MessageState {
        let status = self.world.messages.get(id).unwrap().status.clone();
        status.unwrap_or_default().state.unwrap_or_default()
    }

    fn check(&self) {
        for (id, (_, cid)) in &self.stored {
            let landed = self.landed.iter().any(|(_, c)| c.as_ref() == Some(cid));
            match self.state(id) {
                MessageState::Failed => assert!(!landed, "{id} failed and landed"),
                MessageState::Final => assert!(landed, "{id} is final and did not land"),
                _ => {}
            }
        }
    }

    fn delete_sector(&mut self, number: usize) {
        let uid = format!("uid-{number}");
        let name = id(&format!("t01000-{number}"));
        self.world.sectors.bury(&name, Some(&uid));
    }
}

fn sim(wishes: &[(bool, bool)], confidence: i64, foreign: u32, seed: u64) -> Sim {
    let mut world = world();
    let mut group = group();
    group.spec.pledge.mode = PledgeMode::Manual;
    group.metadata.resource_version = Some("2".into());
    world.groups.apply(group);
    let mut miner = miner();
    miner.spec.confidence = confidence;
    miner.metadata.resource_version = Some("2".into());
    world.miners.apply(miner);
    let mut sim = Sim {
        world,
        version: 100,
        luck: Luck::new(seed),
        wild: true,
        confidence,
        head: 1000,
        landed: Vec::new(),
        pool: BTreeMap::new(),
        floor: 0,
        failures: BTreeMap::new(),
        stored: BTreeMap::new(),
        refused: BTreeSet::new(),
        foreign,
    };
    for (number, (urgent, refused)) in wishes.iter().enumerate() {
        let name = format!("t01000-{number}-precommit-1");
        let mut one = sector(SectorPhase::PreCommitting);
        one.metadata.name = Some(format!("t01000-{number}"));
        one.metadata.uid = Some(format!("uid-{number}"));
        one.spec.number = i64::try_from(number).unwrap();
        one.status.as_mut().unwrap().messages = Some(MessageRefs {
            pre_commit: Some(name.clone()),
            ..MessageRefs::default()
        });
        sim.world.sectors.apply(one);
        let kind = if *urgent {
            MessageKind::WindowPost
        } else {
            MessageKind::PreCommit
        };
        let mut wish = message(&name, kind, ChainMessageStatus::default());
        wish.spec.sectors = vec![i64::try_from(number).unwrap()];
        sim.put(wish);
        if *refused {
            sim.refused.insert(id(&name));
        }
    }
    sim
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    #[test]
    fn every_nonce_is_given_once_and_every_wish_that_can_be_signed_ends(
        wishes in prop::collection::vec((any::<bool>(), prop::bool::weighted(0.4)), 1..9),
        confidence in 1_i64..9,
        foreign in 0_u32..4,
        deleted in prop::option::of((0_usize..9, 0_usize..WILD)),
        seed in any::<u64>(),
    ) {
        let mut sim = sim(&wishes, confidence, foreign, seed);
        for round in 0..WILD {
            if let Some((number, _)) = deleted.filter(|(_, when)| *when == round) {
                sim.delete_sector(number);
            }
            sim.round();
        }
        sim.wild = false;
        for _ in 0..CALM {
            sim.round();
        }
        let ids: Vec<Id> = sim.world.messages.iter().map(|(id, _)| id.clone()).collect();
        for id in ids {
            let state = sim.state(&id);
            let ended = matches!(state, MessageState::Final | MessageState::Failed);
            if sim.refused.contains(&id) {
                prop_assert!(state == MessageState::Wish || ended);
            } else {
                prop_assert!(ended, "{id} is left as {state:?}");
            }
        }
    }
}
