//! Who asks for a node to be emptied, until when, and what shall become of sectors that are not on chain.

use std::fmt;

use filstar_crds::{NotOnChain, SealingGroup};
use jiff::Timestamp;

use crate::world::{Id, Now, World};

/// Why a node takes no new work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// `spec.maintenance` of its `SealingNode`, with the reason that its author gave.
    Maintenance(Option<String>),
    /// The Node is cordoned.
    Cordoned,
}

impl Why {
    /// The same, with the node's name.
    pub fn of(&self, node: &str) -> String {
        match self {
            Self::Maintenance(Some(reason)) => format!("node {node} is in maintenance: {reason}"),
            Self::Maintenance(None) => format!("node {node} is in maintenance"),
            Self::Cordoned => format!("node {node} is cordoned"),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Maintenance(Some(reason)) => write!(f, "the node is in maintenance: {reason}"),
            Self::Maintenance(None) => f.write_str("the node is in maintenance"),
            Self::Cordoned => f.write_str("the node is cordoned"),
        }
    }
}

/// A wish for an empty node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Who asks.
    pub why: Why,
    /// Until when tasks that run may end by themselves, and by when the node should be empty.
    pub deadline: Option<Timestamp>,
    /// Overrides the groups' policies.
    pub not_on_chain: Option<NotOnChain>,
}

impl Request {
    /// What becomes of a group's sectors that are not on chain.
    pub fn policy(&self, group: Option<&SealingGroup>) -> NotOnChain {
        let of_group = || group.map_or_else(NotOnChain::default, |g| g.spec.drain.not_on_chain);
        self.not_on_chain.unwrap_or_else(of_group)
    }

    /// Whether there is a deadline, and it is over.
    pub fn is_overdue(&self, now: Now) -> bool {
        self.deadline.is_some_and(|deadline| now.wall >= deadline)
    }
}

/// Why a node takes no new work; none when it does.
pub fn node_is_closing(world: &World, node: &str) -> Option<Why> {
    request(world, node).map(|request| request.why)
}

/// The wish for an empty node, if there is one. Maintenance says more than a cordon, so it goes first.
pub fn request(world: &World, node: &str) -> Option<Request> {
    maintenance(world, node).or_else(|| {
        let node = world.nodes.get(&Id::new("", node))?;
        is_cordoned(node).then_some(Request {
            why: Why::Cordoned,
            deadline: None,
            not_on_chain: None,
        })
    })
}

/// The wish in a node's `SealingNode`.
pub(super) fn maintenance(_world: &World, _node: &str) -> Option<Request> {
    None
}

/// Whether a Node is cordoned.
pub(super) fn is_cordoned(node: &k8s_openapi::api::core::v1::Node) -> bool {
    node.spec.as_ref().and_then(|s| s.unschedulable) == Some(true)
}
