//! Gate `ScratchSpace`: some node has room in scratch for all that its sectors will write, and for one sector more.
//!
//! What is used is measured by the sealers; what is booked is what bound sectors have yet to write. Folders on the same
//! device share its space, whichever groups use them.

use std::collections::BTreeMap;

use filstar_crds::{Disks, SealProofName, SealingGroup, labels};
use kube::ResourceExt;

use super::gate::{Gate, Verdict};
use super::node_maintenance::Nodes;
use super::room::Room;
use super::sizes;
use super::text::{bytes, count};
use crate::plan::bookings::is_live;
use crate::world::{Id, World};

/// Nodes named in one message.
const NAMED: usize = 3;

/// A file system of a node: the node's name and the device's number.
pub(super) type DiskKey = (String, u64);

/// Scratch file systems of all nodes.
#[derive(Clone, Debug, Default)]
pub(super) struct Scratch {
    rooms: BTreeMap<DiskKey, Room>,
    /// Which device a folder of a node is on.
    folders: BTreeMap<(String, String), u64>,
}

impl Scratch {
    /// What the sealers of all groups say.
    pub(super) fn of(world: &World) -> Self {
        let mut this = Self::default();
        for (id, pod) in world.pods.iter().filter(|(_, p)| is_live(p)) {
            let disk = Disks::of(pod.annotations()).and_then(|d| d.scratch);
            let node = pod.spec.as_ref().and_then(|s| s.node_name.clone());
            let group = pod.labels().get(labels::GROUP);
            let group = group.and_then(|g| world.groups.get(&Id::new(&id.namespace, g)));
            let (Some(disk), Some(node), Some(group)) = (disk, node, group) else {
                continue;
            };
            let folder = group.spec.scratch.host_path.clone();
            this.folders.insert((node.clone(), folder), disk.device);
            this.rooms
                .entry((node, disk.device))
                .and_modify(|room| room.also(&disk))
                .or_insert_with(|| Room::of(&disk));
        }
        this
    }

    fn key(&self, node: &str, folder: &str) -> Option<DiskKey> {
        let device = self.folders.get(&(node.to_owned(), folder.to_owned()))?;
        Some((node.to_owned(), *device))
    }

    /// Books what a sector has yet to write on a node.
    pub(super) fn book(&mut self, node: &str, folder: &str, bytes: u64) {
        if let Some(room) = self.key(node, folder).and_then(|k| self.rooms.get_mut(&k)) {
            room.book(bytes);
        }
    }

    /// Takes a booking back.
    pub(super) fn unbook(&mut self, node: &str, folder: &str, bytes: u64) {
        if let Some(room) = self.key(node, folder).and_then(|k| self.rooms.get_mut(&k)) {
            room.unbook(bytes);
        }
    }

    fn room(&self, group: &SealingGroup, node: &str) -> Option<&Room> {
        let key = self.key(node, &group.spec.scratch.host_path)?;
        self.rooms.get(&key)
    }

    /// Whether one sector more fits on a node; none while its sealer has not said how full it is.
    pub(super) fn fits(
        &self,
        group: &SealingGroup,
        node: &str,
        proof: SealProofName,
    ) -> Option<bool> {
        let room = self.room(group, node)?;
        Some(room.left(bound(group)) >= sizes::scratch(proof))
    }

    /// The node with most room, if one has enough.
    pub(super) fn best<'a>(
        &self,
        group: &SealingGroup,
        nodes: &'a Nodes,
        proof: SealProofName,
    ) -> Option<&'a str> {
        nodes
            .taking()
            .filter(|node| self.fits(group, node, proof) == Some(true))
            .max_by_key(|node| self.room(group, node).map(|r| r.left(bound(group))))
    }

    pub(super) fn verdict(
        &self,
        group: &SealingGroup,
        nodes: &Nodes,
        proof: SealProofName,
    ) -> Verdict {
        const GATE: Gate = Gate::ScratchSpace;
        let (max, need) = (bound(group), sizes::scratch(proof));
        let rooms: Vec<(&str, &Room)> = nodes
            .taking()
            .filter_map(|node| Some((node, self.room(group, node)?)))
            .collect();
        if rooms.is_empty() {
            let text = "no sealer pod on a node for new sectors has said yet how full scratch is; see the group's pods";
            return Verdict::closed(GATE, text);
        }
        let more: u64 = rooms.iter().map(|(_, room)| room.left(max) / need).sum();
        if more > 0 {
            let more = usize::try_from(more).unwrap_or(usize::MAX);
            let text = format!(
                "room for {} of {} on {}",
                count(more, "more sector"),
                bytes(need),
                count(rooms.len(), "node")
            );
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
