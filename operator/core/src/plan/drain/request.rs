//! Who asks for a node to be emptied, until when, and what shall become of sectors that are not on chain.

use std::collections::BTreeMap;
use std::fmt;

use filstar_crds::{NotOnChain, SealingGroup};
use jiff::Timestamp;

use super::cordon;
use crate::world::{Id, Now, World, unwell};

/// Why a node takes no new work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// `spec.maintenance` of its `SealingNode`, with the reason that its author gave.
    Maintenance(Option<String>),
    /// The Node is cordoned.
    Cordoned,
    /// The Node is cordoned for a `NodeMaintenance`, by medik8s' operator, which marks it with a taint.
    NodeMaintenance,
    /// We cordoned it, since a task on it was over its time: which one, in words.
    TaskOverdue(String),
}

impl Why {
    /// The same, with the node's name.
    pub fn of(&self, node: &str) -> String {
        match self {
            Self::Maintenance(Some(reason)) => format!("node {node} is in maintenance: {reason}"),
            Self::Maintenance(None) => format!("node {node} is in maintenance"),
            Self::Cordoned => format!("node {node} is cordoned"),
            Self::NodeMaintenance => {
                format!(
                    "node {node} is cordoned for a NodeMaintenance (kubectl get nodemaintenances)"
                )
            }
            Self::TaskOverdue(task) => format!(
                "node {node} is cordoned by Filstar, since {task} (when it is mended: kubectl uncordon {node})"
            ),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Maintenance(Some(reason)) => write!(f, "the node is in maintenance: {reason}"),
            Self::Maintenance(None) => f.write_str("the node is in maintenance"),
            Self::Cordoned => f.write_str("the node is cordoned"),
            Self::NodeMaintenance => f.write_str("the node is cordoned for a NodeMaintenance"),
            Self::TaskOverdue(task) => write!(f, "the node is cordoned by Filstar, since {task}"),
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

/// The nodes that get no new work, found once for a plan.
#[derive(Clone, Debug, Default)]
pub struct Closing {
    /// Those that shall be empty.
    requests: BTreeMap<String, Request>,
    /// Those with a disk that fails or a clock that is off, and why. What is there goes on.
    unwell: BTreeMap<String, String>,
}

impl Closing {
    /// All of them. Nodes are many and these are few: none is looked up that nobody speaks of.
    pub fn of(world: &World) -> Self {
        let maintained = world.sealing_nodes.iter();
        let maintained = maintained.filter(|(_, object)| object.spec.maintenance.is_some());
        let cordoned = world.nodes.iter().filter(|(_, node)| is_cordoned(node));
        let all = maintained
            .map(|(id, _)| id)
            .chain(cordoned.map(|(id, _)| id));
        let there = all.filter(|id| world.nodes.get(id).is_some());
        let one = |id: &Id| Some((id.name.clone(), request_at(world, id)?));
        let said = world.sealing_nodes.iter();
        let said = said.filter_map(|(id, object)| Some((id, unwell(object.status.as_ref()?)?)));
        Self {
            requests: there.filter_map(one).collect(),
            unwell: said
                .map(|(id, c)| (id.name.clone(), format!("{}: {}", c.reason, c.message)))
                .collect(),
        }
    }

    /// What is wrong with a node that gets no new work and shall not be empty.
    pub fn unwell(&self, node: &str) -> Option<&str> {
        self.unwell.get(node).map(String::as_str)
    }

    /// The wish for one node.
    pub fn get(&self, node: &str) -> Option<&Request> {
        self.requests.get(node)
    }

    /// Whether nobody wishes for an empty node.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Nodes with their wishes.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Request)> {
        self.requests
            .iter()
            .map(|(node, request)| (node.as_str(), request))
    }
}

/// Why a node takes no new work; none when it does.
pub fn node_is_closing(world: &World, node: &str) -> Option<Why> {
    request(world, node).map(|request| request.why)
}

/// The wish for an empty node, if there is one. Maintenance says more than a cordon, so it goes first.
pub fn request(world: &World, node: &str) -> Option<Request> {
    request_at(world, &Id::new("", node))
}

/// The same, by the id of the node.
fn request_at(world: &World, id: &Id) -> Option<Request> {
    maintenance(world, id).or_else(|| {
        let node = world.nodes.get(id)?;
        is_cordoned(node).then(|| Request {
            why: match cordon::task(node) {
                Some(task) => Why::TaskOverdue(task.to_owned()),
                None if cordon::is_of_medik8s(node) => Why::NodeMaintenance,
                None => Why::Cordoned,
            },
            deadline: None,
            not_on_chain: None,
        })
    })
}

/// The wish in a node's `SealingNode`.
pub(super) fn maintenance(world: &World, id: &Id) -> Option<Request> {
    let object = world.sealing_nodes.get(id)?;
    let maintenance = object.spec.maintenance.as_ref()?;
    Some(Request {
        why: Why::Maintenance(maintenance.reason.clone().filter(|r| !r.is_empty())),
        deadline: maintenance.deadline.as_ref().map(|time| time.0),
        not_on_chain: maintenance.not_on_chain,
    })
}

/// Whether a Node is cordoned.
pub(super) fn is_cordoned(node: &k8s_openapi::api::core::v1::Node) -> bool {
    node.spec.as_ref().and_then(|s| s.unschedulable) == Some(true)
}
