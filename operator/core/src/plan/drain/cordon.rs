//! The cordons that we set: of nodes in maintenance, and of nodes whose task is over its time where its lane says so.
//! Ours are marked; that of a maintenance ends with it, that for a task is a person's to undo.

use std::collections::BTreeSet;

use filstar_crds::annotations;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;

use super::request::is_cordoned;
use crate::action::{Action, NodeChange};
use crate::plan::overdue;
use crate::world::{Id, Now, World};

/// What we wrote on a Node about its cordon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The cordon is ours, for `spec.maintenance`.
    Ours,
    /// The cordon is ours, for a task that was over its time; it stays when the task is gone.
    TaskOverdue,
    /// It was ours, and somebody took it away: we do not cordon again while there is a reason to.
    Lifted,
}

impl Mark {
    /// Value of the annotation.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::TaskOverdue => "task-overdue",
            Self::Lifted => "lifted",
        }
    }
}

/// The mark on a Node. What cannot be read is not ours.
pub fn mark(node: &Node) -> Option<Mark> {
    let value = node.annotations().get(annotations::CORDON)?;
    let ours = [Mark::Ours, Mark::TaskOverdue];
    let known = ours.into_iter().find(|mark| mark.as_str() == value);
    Some(known.unwrap_or(Mark::Lifted))
}

/// The task for which a Node is cordoned by us, in words; none when it is not.
pub(super) fn task(node: &Node) -> Option<&str> {
    let cordoned = is_cordoned(node) && mark(node) == Some(Mark::TaskOverdue);
    let told = node.annotations().get(annotations::CORDON_REASON);
    cordoned.then(|| told.map_or("a task was over its time", String::as_str))
}

/// Taint of nodes that medik8s' operator empties for a `NodeMaintenance`. It comes and goes with its cordon.
const MEDIK8S: &str = "medik8s.io/drain";

/// Whether a cordon is that of a `NodeMaintenance`: uncordoning does not end it, deleting the object does.
pub(super) fn is_of_medik8s(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|s| s.taints.as_ref());
    taints.is_some_and(|all| all.iter().any(|t| t.key == MEDIK8S))
}

/// For what we want a Node cordoned. Maintenance goes first: it is a person's word, and ends by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish<'a> {
    /// For nothing.
    Nothing,
    /// `spec.maintenance` of its `SealingNode`.
    Maintenance,
    /// A task over its time whose lane says `then: DrainNode`, in words.
    Task(&'a str),
}

impl<'a> Wish<'a> {
    /// The wish that is left of both.
    fn of(in_maintenance: bool, task: Option<&'a str>) -> Self {
        match task {
            _ if in_maintenance => Self::Maintenance,
            Some(task) => Self::Task(task),
            None => Self::Nothing,
        }
    }

    /// A wish that a planned change follows from.
    pub fn behind(change: &'a NodeChange) -> Self {
        match change {
            NodeChange::Cordon | NodeChange::MarkLifted => Self::Maintenance,
            NodeChange::CordonForTask { task } => Self::Task(task),
            NodeChange::Uncordon | NodeChange::Unmark => Self::Nothing,
        }
    }
}

/// What to do about a Node's cordon; none when it is as it should be.
pub fn change(wish: Wish<'_>, node: &Node) -> Option<NodeChange> {
    let for_task = |task: &str| NodeChange::CordonForTask { task: task.into() };
    let cordoned = is_cordoned(node);
    match (mark(node), wish) {
        // Without a mark it is somebody else's: it stays theirs. That for a task stays as well: the task may be gone, but
        // that the node is mended only a person knows.
        (None | Some(Mark::TaskOverdue), _) | (Some(Mark::Ours), Wish::Maintenance) if cordoned => {
            None
        }
        (None, Wish::Maintenance) => Some(NodeChange::Cordon),
        (None, Wish::Task(task)) => Some(for_task(task)),
        (Some(Mark::Ours), Wish::Task(task)) if cordoned => Some(for_task(task)),
        (Some(Mark::Ours), Wish::Nothing) if cordoned => Some(NodeChange::Uncordon),
        (Some(_), Wish::Nothing) => Some(NodeChange::Unmark),
        (Some(Mark::Ours | Mark::TaskOverdue), Wish::Maintenance | Wish::Task(_)) => {
            Some(NodeChange::MarkLifted)
        }
        (Some(Mark::Lifted), Wish::Maintenance | Wish::Task(_)) | (None, Wish::Nothing) => None,
    }
}

pub(super) fn plan(world: &World, now: Now) -> Vec<Action> {
    let wishes = world.sealing_nodes.iter();
    let wishes = wishes.filter(|(_, object)| object.spec.maintenance.is_some());
    let maintained: BTreeSet<&Id> = wishes.map(|(id, _)| id).collect();
    let slow = overdue::slow_nodes(world, now);
    // One at a time: a bound that is too short for every node must not empty them all.
    let mut taken = !slow.is_empty() && world.nodes.iter().any(|(_, node)| task(node).is_some());
    let one = |(id, node): (&Id, &Node)| {
        let task = slow.get(id.name.as_str()).map(String::as_str);
        let mut next = change(Wish::of(maintained.contains(id), task), node);
        if matches!(next, Some(NodeChange::CordonForTask { .. }))
            && std::mem::replace(&mut taken, true)
        {
            next = change(Wish::Nothing, node);
        }
        Some(Action::PatchNode {
            id: id.clone(),
            uid: node.uid()?,
            change: next?,
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
    fn what_was_planned_is_still_due_when_nothing_changed() {
        let wishes = [Wish::Nothing, Wish::Maintenance, Wish::Task("t")];
        let marks = [
            None,
            Some("ours"),
            Some("task-overdue"),
            Some("lifted"),
            Some("new"),
        ];
        for (mark, cordoned) in marks.into_iter().flat_map(|m| [(m, false), (m, true)]) {
            let node = node(mark, cordoned);
            for planned in wishes.into_iter().filter_map(|wish| change(wish, &node)) {
                let again = change(Wish::behind(&planned), &node);
                assert_eq!(
                    again.as_ref(),
                    Some(&planned),
                    "{mark:?}, cordoned {cordoned}"
                );
            }
        }
    }

    #[test]
    fn a_task_is_named_only_while_its_cordon_stands() {
        let mut marked = node(Some("task-overdue"), true);
        assert_eq!(task(&marked), Some("a task was over its time"));
        let told = (annotations::CORDON_REASON.to_owned(), "PC1 ran".to_owned());
        marked.annotations_mut().extend([told]);
        assert_eq!(task(&marked), Some("PC1 ran"));
        marked.spec.as_mut().unwrap().unschedulable = None;
        assert_eq!(task(&marked), None);
        assert_eq!(task(&node(Some("ours"), true)), None);
    }
}
