//! Gate `ScratchSpace`: some node has room in scratch for all that its sectors will write, and for one sector more.
//!
//! What is used is measured by the sealers; what is booked is what bound sectors have yet to write. Folders on the same
//! device share its space, whichever groups use them.

use std::collections::{BTreeMap, HashMap};

use filstar_crds::{SealProofName, SealingGroup};

use super::gate::{Gate, Verdict};
use super::node_maintenance::Nodes;
use super::readings::Readings;
use super::room::Room;
use super::sizes;
use super::text::{bytes, count, room_for};
use crate::world::World;

/// Nodes named in one message.
const NAMED: usize = 3;

/// Scratch file systems of all nodes.
#[derive(Clone, Debug, Default)]
pub(super) struct Scratch {
    rooms: Vec<Room>,
    /// Which of them a folder of a node is on.
    folders: HashMap<String, BTreeMap<String, usize>>,
}

impl Scratch {
    /// What the sealers of all groups say.
    pub(super) fn of(world: &World, readings: &Readings) -> Self {
        let mut this = Self::default();
        let mut devices: HashMap<(&str, u64), usize> = HashMap::new();
        for reading in readings.iter() {
            let Some(disk) = reading.disks.as_ref().and_then(|d| d.scratch.as_ref()) else {
                continue;
            };
            let Some(group) = world.groups.get(&reading.group) else {
                continue;
            };
            let next = this.rooms.len();
            let index = *devices
                .entry((reading.node.as_str(), disk.device))
                .or_insert(next);
            match this.rooms.get_mut(index) {
                Some(room) => room.also(disk),
                None => this.rooms.push(Room::of(disk)),
            }
            // Most pods say what another one of their node has said: nothing is copied for them.
            let folder = &group.spec.scratch.host_path;
            if this.index(&reading.node, folder) != Some(index) {
                let folders = this.folders.entry(reading.node.clone()).or_default();
                folders.insert(folder.clone(), index);
            }
        }
        this
    }

    fn index(&self, node: &str, folder: &str) -> Option<usize> {
        self.folders.get(node)?.get(folder).copied()
    }

    /// Notes where the nodes of a group that take sectors have their scratch.
    pub(super) fn note(&self, group: &SealingGroup, nodes: &mut Nodes) {
        let folder = &group.spec.scratch.host_path;
        let rooms = nodes
            .taking()
            .filter_map(|node| Some((node.to_owned(), self.index(node, folder)?)));
        nodes.rooms = rooms.collect();
    }

    /// Books what a sector has yet to write on a node.
    pub(super) fn book(&mut self, node: &str, folder: &str, bytes: u64) {
        let index = self.index(node, folder);
        if let Some(room) = index.and_then(|i| self.rooms.get_mut(i)) {
            room.book(bytes);
        }
    }

    /// Takes a booking back.
    pub(super) fn unbook(&mut self, node: &str, folder: &str, bytes: u64) {
        let index = self.index(node, folder);
        if let Some(room) = index.and_then(|i| self.rooms.get_mut(i)) {
            room.unbook(bytes);
        }
    }

    /// Whether one sector more fits on a node; none while its sealer has not said how full it is.
    pub(super) fn fits(
        &self,
        group: &SealingGroup,
        node: &str,
        proof: SealProofName,
    ) -> Option<bool> {
        let index = self.index(node, &group.spec.scratch.host_path)?;
        let room = self.rooms.get(index)?;
        Some(room.left(bound(group)) >= sizes::scratch(proof))
    }

    /// The nodes of a group that take sectors, with their rooms.
    fn rooms<'a>(&'a self, nodes: &'a Nodes) -> impl Iterator<Item = (&'a str, &'a Room)> {
        let all = nodes.rooms.iter();
        all.filter_map(|(node, index)| Some((node.as_str(), self.rooms.get(*index)?)))
    }

    /// The node with most room, if one has enough.
    pub(super) fn best<'a>(
        &'a self,
        group: &SealingGroup,
        nodes: &'a Nodes,
        proof: SealProofName,
    ) -> Option<&'a str> {
        let (max, need) = (bound(group), sizes::scratch(proof));
        self.rooms(nodes)
            .map(|(node, room)| (room.left(max), node))
            .filter(|(left, _)| *left >= need)
            .max()
            .map(|(_, node)| node)
    }

    pub(super) fn verdict(
        &self,
        group: &SealingGroup,
        nodes: &Nodes,
        proof: SealProofName,
    ) -> Verdict {
        const GATE: Gate = Gate::ScratchSpace;
        let (max, need) = (bound(group), sizes::scratch(proof));
        let rooms: Vec<(&str, &Room)> = self.rooms(nodes).collect();
        if rooms.is_empty() {
            let text = "no sealer pod on a node for new sectors has said yet how full scratch is; see the group's pods";
            return Verdict::closed(GATE, text);
        }
        let more: u64 = rooms.iter().map(|(_, room)| room.left(max) / need).sum();
        if more > 0 {
            let text = format!("{} on {}", room_for(more, need), count(rooms.len(), "node"));
            return Verdict::open(GATE, text);
        }
        let mut named: Vec<String> = rooms
            .iter()
            .take(NAMED)
            .map(|(node, room)| format!("{node} has {}", state(room, max)))
            .collect();
        if rooms.len() > NAMED {
            named.push(format!("{} more", rooms.len() - NAMED));
        }
        let text = format!(
            "no room for another sector of {}: {}; free space there, or raise pledge.gates.scratchSpace.maxUsedPercent",
            bytes(need),
            named.join(", ")
        );
        Verdict::closed(GATE, text)
    }
}

/// `20 GiB left below 90 % and 517 GiB booked by 1 sector`.
pub(super) fn state(room: &Room, max: u32) -> String {
    let left = bytes(room.below(max));
    if room.sectors() == 0 {
        return format!("{left} left below {max} %");
    }
    format!(
        "{left} left below {max} % and {} booked by {}",
        bytes(room.booked()),
        count(room.sectors(), "sector")
    )
}

fn bound(group: &SealingGroup) -> u32 {
    group.spec.pledge.gates.scratch_space.max_used_percent
}
