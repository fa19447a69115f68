//! Gate `StoreSpace`: the stores have room for all sectors in work, and for one more.
//!
//! A store that several nodes mount counts as the fullest of their readings.

use std::collections::BTreeMap;

use filstar_crds::{Disk, SealProofName, SealingGroup, Sector, SectorStore, StoreAccess};
use kube::ResourceExt;

use super::gate::{Gate, Verdict};
use super::readings::Readings;
use super::room::Room;
use super::scratch_space::state;
use super::sizes;
use super::text::{bytes, count, room_for};
use crate::world::{Id, World};

/// Stores named in one message.
const NAMED: usize = 3;

/// All stores that sealers mount.
#[derive(Clone, Debug, Default)]
pub(super) struct Stores {
    rooms: Vec<Room>,
    /// Which of them a store is.
    places: BTreeMap<Id, usize>,
    /// Stores that pods of a group mount, each with its place among the rooms.
    mounted: BTreeMap<Id, Vec<(Id, usize)>>,
}

/// A store that a group's sectors can land in.
struct Usable<'a> {
    id: &'a Id,
    place: usize,
    room: &'a Room,
    /// Its bound, in percent.
    max: u32,
}

impl Stores {
    /// What the sealers say.
    pub(super) fn of(readings: &Readings) -> Self {
        let mut this = Self::default();
        for reading in readings.iter() {
            let stores = reading.disks.iter().flat_map(|d| &d.stores);
            for (name, disk) in stores {
                let known = this.mounted_as(&reading.group, name);
                match known.and_then(|place| this.rooms.get_mut(place)) {
                    Some(room) => room.also(disk),
                    None => this.mount(&reading.group, name, disk),
                }
            }
        }
        this
    }

    /// The place of a store that pods of a group are known to mount.
    fn mounted_as(&self, group: &Id, name: &str) -> Option<usize> {
        let mut mounted = self.mounted.get(group)?.iter();
        mounted
            .find(|(id, _)| id.name == name)
            .map(|(_, place)| *place)
    }

    fn mount(&mut self, group: &Id, name: &str, disk: &Disk) {
        let store = Id::new(&group.namespace, name);
        let next = self.rooms.len();
        let place = *self.places.entry(store.clone()).or_insert(next);
        match self.rooms.get_mut(place) {
            Some(room) => room.also(disk),
            None => self.rooms.push(Room::of(disk)),
        }
        let mounted = self.mounted.entry(group.clone()).or_default();
        mounted.push((store, place));
    }

    /// Books a sector on the store that it has, or on the one of its group with most room.
    pub(super) fn book(
        &mut self,
        world: &World,
        group_id: &Id,
        group: &SealingGroup,
        sector: Option<&Sector>,
        proof: SealProofName,
    ) {
        if !group.spec.finalize.enabled {
            return;
        }
        let status = sector.and_then(|s| s.status.as_ref());
        let chosen = status.and_then(|s| s.store.as_ref());
        if chosen.is_some_and(|s| s.landed) {
            return;
        }
        let place = match chosen {
            Some(store) => {
                let id = Id::new(&group_id.namespace, &store.name);
                self.places.get(&id).copied()
            }
            None => self
                .usable(world, group_id, group)
                .max_by_key(|usable| usable.room.left(usable.max))
                .map(|usable| usable.place),
        };
        if let Some(room) = place.and_then(|place| self.rooms.get_mut(place)) {
            room.book(sizes::store(proof));
        }
    }

    /// Stores that a group's sectors can land in.
    fn usable<'a>(
        &'a self,
        world: &'a World,
        group_id: &'a Id,
        group: &'a SealingGroup,
    ) -> impl Iterator<Item = Usable<'a>> {
        let mounted = self.mounted.get(group_id).into_iter().flatten();
        mounted.filter_map(move |(id, place)| {
            let store = world.stores.get(id).filter(|s| takes(group, s))?;
            let max = store
                .spec
                .max_used_percent
                .min(group.spec.pledge.gates.store_space.max_used_percent);
            Some(Usable {
                id,
                place: *place,
                room: self.rooms.get(*place)?,
                max,
            })
        })
    }

    pub(super) fn verdict(
        &self,
        world: &World,
        group_id: &Id,
        group: &SealingGroup,
        proof: SealProofName,
    ) -> Verdict {
        const GATE: Gate = Gate::StoreSpace;
        if !group.spec.finalize.enabled {
            let text = "finalize.enabled is false: sectors stay in scratch";
            return Verdict::open(GATE, text);
        }
        let need = sizes::store(proof);
        let stores: Vec<_> = self.usable(world, group_id, group).collect();
        if stores.is_empty() {
            let mut all = world.stores.in_namespace(&group_id.namespace);
            let text = if all.any(|(_, store)| takes(group, store)) {
                "no sealer pod has said yet how full its stores are; see the group's pods"
            } else {
                "no SectorStore that takes sectors matches finalize.storeSelector: create one"
            };
            return Verdict::closed(GATE, text);
        }
        let more: u64 = stores
            .iter()
            .map(|usable| usable.room.left(usable.max) / need)
            .sum();
        if more > 0 {
            let text = format!(
                "{} in {}",
                room_for(more, need),
                count(stores.len(), "store")
            );
            return Verdict::open(GATE, text);
        }
        let mut named: Vec<String> = stores
            .iter()
            .take(NAMED)
            .map(|usable| format!("{} has {}", usable.id.name, state(usable.room, usable.max)))
            .collect();
        if stores.len() > NAMED {
            named.push(format!("{} more", stores.len() - NAMED));
        }
        let text = format!(
            "no room for another sector of {}: {}; add a SectorStore, or raise maxUsedPercent",
            bytes(need),
            named.join(", ")
        );
        Verdict::closed(GATE, text)
    }
}

/// Whether a group's sectors may land in a store.
pub(super) fn takes(group: &SealingGroup, store: &SectorStore) -> bool {
    let selector = &group.spec.finalize.store_selector;
    store.spec.access != StoreAccess::ReadOnly
        && store.metadata.deletion_timestamp.is_none()
        && selector
            .iter()
            .all(|(key, value)| store.labels().get(key) == Some(value))
}
