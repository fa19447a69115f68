//! All that is booked: scratch, stores and money of the sectors in work, and who of those that wait may begin.
//!
//! Sectors without a node stand in one queue, the oldest first. Each is asked for by its gates behind all that were let
//! in before it, so any number of them created at once pass no gate that has room for one. A group whose gate is
//! closed holds up no other group.

use std::collections::{BTreeMap, BTreeSet};

use filstar_crds::{SealingGroup, Sector, SectorPhase};

use super::balance::{Purses, phase};
use super::gate::Verdict;
use super::node_maintenance::Nodes;
use super::readings::Readings;
use super::scratch_space::Scratch;
use super::store_space::Stores;
use super::{chain_sync, gas_price, landing, node_maintenance, sector_number, sizes};
use crate::plan::drain::Closing;
use crate::plan::reach::Reach;
use crate::world::{Id, MinerFacts, World};

/// Which numbers of a Miner may be used: its own bounds, and what its messages name.
type Numbers<'a> = (MinerFacts, BTreeMap<u64, &'a Id>);

/// Bookings of one plan.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    pub(super) nodes: BTreeMap<Id, Nodes>,
    pub(super) scratch: Scratch,
    pub(super) stores: Stores,
    pub(super) purses: Purses,
    /// What provers do not see.
    pub(crate) reach: Reach,
    /// Finished sectors that have not landed, by group.
    landing: BTreeMap<Id, usize>,
    /// Numbers that this plan gives, by Miner.
    pub(super) given: BTreeMap<Id, BTreeSet<u64>>,
    /// Sectors that wait for a gate.
    held: BTreeMap<Id, Verdict>,
    /// Nodes where room is kept for sectors that may begin.
    kept: BTreeMap<Id, String>,
}

/// A group and its Miner, as a gate asks for them.
#[derive(Clone, Copy)]
pub(super) struct Asking<'a> {
    pub(super) id: &'a Id,
    pub(super) group: &'a SealingGroup,
    pub(super) miner_id: &'a Id,
    pub(super) miner: &'a filstar_crds::Miner,
}

impl Ledger {
    /// What the world has booked.
    pub fn of(world: &World) -> Self {
        Self::with(world, &Readings::of(world), &Closing::of(world))
    }

    /// The same, with what the sealers say and which nodes shall be empty, which the caller keeps.
    pub(in crate::plan) fn with(world: &World, readings: &Readings, closing: &Closing) -> Self {
        let scratch = Scratch::of(world, readings);
        let reach = Reach::of(world, readings);
        let nodes = |(id, group): (&Id, &SealingGroup)| {
            let mut nodes = Nodes::of(world, id, group, (closing, &reach), readings);
            scratch.note(group, &mut nodes);
            (id.clone(), nodes)
        };
        let mut ledger = Self {
            nodes: world.groups.iter().map(nodes).collect(),
            stores: Stores::of(readings),
            purses: Purses::of(world, readings),
            scratch,
            reach,
            ..Self::default()
        };
        let mut queue = Vec::new();
        let mut refs = Refs::default();
        for (id, sector) in world.sectors.iter() {
            if waits(sector) {
                queue.push((id, sector));
            } else {
                ledger.book_begun(world, refs.of(id, sector), sector);
            }
        }
        queue.sort_by_key(|(id, s)| {
            let created = s.metadata.creation_timestamp.as_ref().map(|t| t.0);
            (created, s.spec.number, *id)
        });
        ledger.let_in(world, &queue);
        ledger
    }

    fn book_begun(&mut self, world: &World, (group_id, miner_id): (&Id, &Id), sector: &Sector) {
        let proof = sector.spec.seal_proof;
        let phase = phase(sector);
        let left = sizes::scratch_left(proof, phase);
        if phase == SectorPhase::Landing {
            match self.landing.get_mut(group_id) {
                Some(waiting) => *waiting += 1,
                None => drop(self.landing.insert(group_id.clone(), 1)),
            }
        }
        if let Some(binding) = sector.status.as_ref().and_then(|s| s.binding.as_ref()) {
            self.scratch.book(&binding.node, &binding.scratch, left);
        }
        if matches!(phase, SectorPhase::Proving | SectorPhase::Removing) {
            return;
        }
        if let Some(group) = world.groups.get(group_id) {
            self.stores
                .book(world, group_id, group, Some(sector), proof);
        }
        self.purses.book(world, miner_id, Some(sector));
    }

    /// Asks the gates for each sector of the queue.
    fn let_in(&mut self, world: &World, queue: &[(&Id, &Sector)]) {
        // A gate that is closed for one sector of a group is closed for all behind it: bookings only grow.
        let mut closed: BTreeMap<&Id, Verdict> = BTreeMap::new();
        let mut numbers: BTreeMap<&Id, Option<Numbers<'_>>> = BTreeMap::new();
        for (id, sector) in queue {
            let group = world
                .groups
                .find(&id.namespace, &sector.spec.group_ref.name);
            let miner = world.miner_of(&id.namespace, &sector.spec.miner_ref.name);
            let Some(((group_id, group), (miner_id, miner))) = group.zip(miner) else {
                continue;
            };
            if sector.spec.paused
                || group.spec.paused
                || group.spec.miner_ref != sector.spec.miner_ref
            {
                continue;
            }
            let asking = Asking {
                id: group_id,
                group,
                miner_id,
                miner,
            };
            if begins_again(sector) {
                self.let_in_again(world, id, asking, sector);
                continue;
            }
            let numbers = numbers.entry(miner_id).or_insert_with(|| {
                let facts = MinerFacts::parse(miner).ok()?;
                let named = sector_number::named(world, &facts.actor_text);
                Some((facts, named))
            });
            let own = numbers.as_ref().and_then(|(facts, named)| {
                let chain = world.chain(miner_id);
                sector_number::of_sector(&miner_id.name, facts, chain, named, sector)
            });
            if let Some(verdict) = own.or_else(|| closed.get(group_id).cloned()) {
                self.held.insert((*id).clone(), verdict);
                continue;
            }
            let verdicts = self.gates(world, asking);
            if let Some(verdict) = verdicts.into_iter().find(|v| !v.open) {
                closed.insert(group_id, verdict.clone());
                self.held.insert((*id).clone(), verdict);
            } else if let Some(node) = self.book_new(world, asking) {
                self.kept.insert((*id).clone(), node);
            }
        }
    }

    /// A sector that the chain has and whose files are lost passes no gate again: its number is used and its money locked.
    /// It needs a node with room.
    fn let_in_again(&mut self, world: &World, id: &Id, asking: Asking<'_>, sector: &Sector) {
        let Asking { group, .. } = asking;
        let proof = sector.spec.seal_proof;
        let none = Nodes::default();
        let nodes = self.nodes.get(asking.id).unwrap_or(&none);
        let node = self.scratch.best(group, nodes, proof).map(str::to_owned);
        if let Some(node) = node {
            let folder = &group.spec.scratch.host_path;
            self.scratch.book(&node, folder, sizes::scratch(proof));
            self.kept.insert(id.clone(), node);
        } else {
            let verdict = self.scratch.verdict(group, nodes, proof);
            self.held.insert(id.clone(), verdict);
        }
        self.stores
            .book(world, asking.id, group, Some(sector), proof);
        self.purses.book(world, asking.miner_id, Some(sector));
    }

    /// The gates that hold for every sector, whoever creates it.
    pub(super) fn gates(&self, world: &World, asking: Asking<'_>) -> Vec<Verdict> {
        let Asking {
            id,
            group,
            miner_id,
            miner,
        } = asking;
        let proof = miner.spec.seal_proof;
        let none = Nodes::default();
        let nodes = self.nodes.get(id).unwrap_or(&none);
        vec![
            chain_sync::verdict(world, miner_id),
            node_maintenance::verdict(nodes),
            self.scratch.verdict(group, nodes, proof),
            self.stores.verdict(world, id, group, proof),
            self.purses.verdict(miner_id, group),
            gas_price::verdict(world.chain(miner_id), group),
            landing::verdict(self.landing.get(id).copied().unwrap_or(0), group),
        ]
    }

    /// Books one sector more of a group; the node where room is kept for it.
    pub(super) fn book_new(&mut self, world: &World, asking: Asking<'_>) -> Option<String> {
        let proof = asking.miner.spec.seal_proof;
        let nodes = self.nodes.get(asking.id)?;
        let node = self.scratch.best(asking.group, nodes, proof)?.to_owned();
        let folder = &asking.group.spec.scratch.host_path;
        self.scratch.book(&node, folder, sizes::scratch(proof));
        self.stores
            .book(world, asking.id, asking.group, None, proof);
        self.purses.book(world, asking.miner_id, None);
        Some(node)
    }

    /// The gate that a sector without a node waits for.
    pub(in crate::plan) fn holds(&self, sector: &Id) -> Option<&Verdict> {
        self.held.get(sector)
    }

    /// Gives back the room that is kept for a sector, so that it may choose its node; asks whether it may at all.
    pub(in crate::plan) fn release(
        &mut self,
        sector: &Id,
        group: &SealingGroup,
        miner: &filstar_crds::Miner,
    ) -> Option<String> {
        let node = self.kept.remove(sector)?;
        let bytes = sizes::scratch(miner.spec.seal_proof);
        self.scratch
            .unbook(&node, &group.spec.scratch.host_path, bytes);
        Some(node)
    }

    /// Keeps room for a sector on this node.
    pub(in crate::plan) fn keep(
        &mut self,
        sector: &Id,
        group: &SealingGroup,
        miner: &filstar_crds::Miner,
        node: String,
    ) {
        let bytes = sizes::scratch(miner.spec.seal_proof);
        self.scratch
            .book(&node, &group.spec.scratch.host_path, bytes);
        self.kept.insert(sector.clone(), node);
    }

    /// Whether a group's new sector may go to a node. One whose sealer has not measured its scratch is waited for.
    pub(in crate::plan) fn takes(
        &self,
        group_id: &Id,
        group: &SealingGroup,
        miner: &filstar_crds::Miner,
        node: &str,
    ) -> bool {
        let open = |nodes: &Nodes| nodes.open.contains(node);
        self.nodes.get(group_id).is_some_and(open)
            && self
                .scratch
                .fits(group, node, miner.spec.seal_proof)
                .unwrap_or(true)
    }
}

/// Whether a sector has not begun: it has a number and nothing else.
fn waits(sector: &Sector) -> bool {
    let bound = sector.status.as_ref().is_some_and(|s| s.binding.is_some());
    phase(sector) == SectorPhase::Allocated
        && !bound
        && sector.metadata.deletion_timestamp.is_none()
}

/// Whether a sector that has not begun is sealed again: it has the replica that the chain knows.
fn begins_again(sector: &Sector) -> bool {
    sector.status.as_ref().is_some_and(|s| s.comm_r.is_some())
}

/// Ids of a sector's group and Miner. Those of the sector before are nearly always the same.
#[derive(Default)]
struct Refs {
    group: Id,
    miner: Id,
}

impl Refs {
    fn of(&mut self, id: &Id, sector: &Sector) -> (&Id, &Id) {
        let spec = &sector.spec;
        for (name, to) in [
            (&spec.group_ref.name, &mut self.group),
            (&spec.miner_ref.name, &mut self.miner),
        ] {
            if to.namespace != id.namespace || to.name != *name {
                *to = Id::new(&id.namespace, name);
            }
        }
        (&self.group, &self.miner)
    }
}
