//! The cordon of nodes in maintenance. Ours is marked, so that only ours is undone.

use std::collections::BTreeSet;

use filstar_crds::annotations;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;

use super::request::is_cordoned;
use crate::action::{Action, NodeChange};
use crate::world::{Id, World};

/// What we wrote on a Node about its cordon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The cordon is ours.
    Ours,
    /// It was ours, and somebody took it away: we do not cordon again for the same maintenance.
    Lifted,
}

impl Mark {
    /// Value of the annotation.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Lifted => "lifted",
        }
    }
}

/// The mark on a Node. What cannot be read is not ours.
pub fn mark(node: &Node) -> Option<Mark> {
    let value = node.annotations().get(annotations::CORDON)?;
    Some(if value == Mark::Ours.as_str() {
        Mark::Ours
    } else {
        Mark::Lifted
    })
}

/// What to do about a Node's cordon; none when it is as it should be.
pub(crate) fn change(in_maintenance: bool, node: &Node) -> Option<NodeChange> {
    match (in_maintenance, mark(node), is_cordoned(node)) {
        (true, None, false) => Some(NodeChange::Cordon),
        (true, Some(Mark::Ours), false) => Some(NodeChange::MarkLifted),
        (false, Some(Mark::Ours), true) => Some(NodeChange::Uncordon),
        (false, Some(_), _) => Some(NodeChange::Unmark),
        // Without a mark it is somebody else's: it stays theirs.
        (true, Some(Mark::Ours) | None, true)
        | (true, Some(Mark::Lifted), _)
        | (false, None, _) => None,
    }
}

pub(super) fn plan(world: &World) -> Vec<Action> {
    let wishes = world.sealing_nodes.iter();
    let wishes = wishes.filter(|(_, object)| object.spec.maintenance.is_some());
    let maintained: BTreeSet<&Id> = wishes.map(|(id, _)| id).collect();
    let one = |(id, node): (&Id, &Node)| {
        let change = change(maintained.contains(id), node)?;
        Some(Action::PatchNode {
            id: id.clone(),
            uid: node.uid()?,
            change,
        })
    };
    world.nodes.iter().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(mark: Option<&str>, cordoned: bool) -> Node {
        let annotations = mark.map(|m| json!({ annotations::CORDON: m }));
        serde_json::from_value(json!({
            "metadata": {"name": "a", "annotations": annotations},
            "spec": {"unschedulable": cordoned},
        }))
        .unwrap()
    }

    #[test]
    fn only_our_own_cordon_is_undone() {
        assert_eq!(change(false, &node(None, true)), None);
        assert_eq!(
            change(false, &node(Some("ours"), true)),
            Some(NodeChange::Uncordon)
        );
        assert_eq!(
            change(false, &node(Some("lifted"), true)),
            Some(NodeChange::Unmark)
        );
        assert_eq!(
            change(false, &node(Some("ours"), false)),
            Some(NodeChange::Unmark)
        );
    }

    #[test]
    fn a_cordon_of_somebody_else_stays_theirs() {
        assert_eq!(change(true, &node(None, true)), None);
    }

    #[test]
    fn a_cordon_that_somebody_lifted_is_not_set_again() {
        assert_eq!(change(true, &node(None, false)), Some(NodeChange::Cordon));
        assert_eq!(
            change(true, &node(Some("ours"), false)),
            Some(NodeChange::MarkLifted)
        );
        assert_eq!(change(true, &node(Some("lifted"), false)), None);
        assert_eq!(change(true, &node(Some("lifted"), true)), None);
    }
}
