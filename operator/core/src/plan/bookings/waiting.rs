//! Sectors that found no place, by group, and by node where they are bound to one.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::world::Id;

/// Sectors that found no place.
#[derive(Clone, Debug, Default)]
pub(super) struct Waiting(BTreeMap<Id, OfGroup>);

#[derive(Clone, Debug, Default)]
struct OfGroup {
    anywhere: BTreeSet<Id>,
    on: HashMap<String, BTreeSet<Id>>,
}

impl OfGroup {
    fn list(&self, node: Option<&str>) -> Option<&BTreeSet<Id>> {
        node.map_or(Some(&self.anywhere), |node| self.on.get(node))
    }

    fn list_mut(&mut self, node: Option<&str>) -> Option<&mut BTreeSet<Id>> {
        match node {
            None => Some(&mut self.anywhere),
            Some(node) => self.on.get_mut(node),
        }
    }
}

impl Waiting {
    /// Remembers that a sector found no place, or takes it off the list. Most are on one already: no key is made for them.
    pub(super) fn note(&mut self, id: &Id, group: &Id, node: Option<&str>, waits: bool) {
        let known = self.0.get_mut(group).and_then(|g| g.list_mut(node));
        match (known, waits) {
            (Some(list), true) => drop(list.insert(id.clone())),
            (Some(list), false) => drop(list.remove(id)),
            (None, false) => {}
            (None, true) => {
                let of_group = self.0.entry(group.clone()).or_default();
                let list = match node {
                    None => &mut of_group.anywhere,
                    Some(node) => of_group.on.entry(node.to_owned()).or_default(),
                };
                list.insert(id.clone());
            }
        }
    }

    /// The sectors of a group that wait for a place on a node, or for a node.
    pub(super) fn of(&self, group: &Id, node: Option<&str>) -> impl Iterator<Item = &Id> {
        let list = self.0.get(group).and_then(|g| g.list(node));
        list.into_iter().flatten()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
