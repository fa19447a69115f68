//! Nodes with work that have left the cluster. Sectors are many and their nodes few, so few are looked up.

use std::collections::HashSet;

use super::Bookings;
use crate::world::{Id, World};

/// Whether the cluster has a node. What cannot be read is there.
pub(in crate::plan) fn is_there(world: &World, node: &str) -> bool {
    let unreadable = || {
        let key = ("nodes".to_owned(), Id::new("", node));
        world.unreadable.contains_key(&key)
    };
    world.nodes.find("", node).is_some() || unreadable()
}

impl Bookings {
    /// Notes which they are.
    pub(in crate::plan) fn note_gone(&mut self, world: &World) {
        // One walk of the index: to look each up there takes many times as long.
        let there: HashSet<&str> = world.nodes.iter().map(|(id, _)| id.name.as_str()).collect();
        let missed = self.nodes.keys().filter(|n| !there.contains(n.as_str()));
        let gone = missed.filter(|node| !is_there(world, node));
        self.gone = gone.cloned().collect();
    }

    /// Whether a node is one of them.
    pub(in crate::plan) fn is_gone(&self, node: &str) -> bool {
        !self.gone.is_empty() && self.gone.contains(node)
    }
}
