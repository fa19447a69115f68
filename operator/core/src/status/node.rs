//! What to say about a `SealingNode`: whether the node can take work. Its inventory is written by its agent.

mod drain;

use filstar_crds::{SealingNode, SealingNodeStatus, conditions};
use k8s_openapi::api::core::v1::Node;

pub(super) use drain::Work;

use super::Say;
use crate::world::node::not_ready;
use crate::world::{Id, Now, World, unwell};

/// The new status, or none when nothing changed.
pub(super) fn status(
    world: &World,
    now: Now,
    work: &Work<'_>,
    id: &Id,
    node: &SealingNode,
) -> Option<SealingNodeStatus> {
    let old = node.status.clone().unwrap_or_default();
    let mut next = SealingNodeStatus {
        observed_generation: node.metadata.generation,
        ..old.clone()
    };
    let problem = problem(world.nodes.get(id), &old);
    let mut say = Say {
        conditions: &mut next.conditions,
        generation: node.metadata.generation,
        now,
    };
    match problem {
        None => say.set(
            conditions::READY,
            true,
            "Ready",
            "the node is well and its inventory is of this boot",
        ),
        Some((reason, message)) => say.set(conditions::READY, false, &reason, &message),
    }
    gone(world.nodes.get(id).is_none(), &mut say);
    drain::say(world, now, &id.name, work, &mut next);
    (next != old).then_some(next)
}

/// Since when the Node is gone; nothing as long as it never was.
fn gone(is: bool, say: &mut Say<'_>) {
    let kind = conditions::NODE_GONE;
    if is {
        say.set(kind, true, "NoNode", "the cluster has no Node of this name");
    } else if say.conditions.iter().any(|c| c.type_ == kind) {
        say.set(kind, false, "NodeIsThere", "the cluster has the Node");
    }
}

/// Why the node cannot take work, as a reason and a sentence.
fn problem(node: Option<&Node>, status: &SealingNodeStatus) -> Option<(String, String)> {
    let because = |reason: &str, message: &str| Some((reason.to_owned(), message.to_owned()));
    let Some(node) = node else {
        return because(
            "NoNode",
            "the cluster has no Node of this name. This object is deleted six hours after it is gone, unless it asks for \
             maintenance; kubectl filstar prune shows what else is left of it",
        );
    };
    if not_ready(node).is_some() {
        return because("NodeNotReady", "kubelet does not report the Node as Ready");
    }
    let Some(inventory) = &status.inventory else {
        return because(
            "NoInventory",
            "the agent has not reported yet: is there a ready pod of DaemonSet filstar-agent on the node?",
        );
    };
    let boot = node.status.as_ref().and_then(|s| s.node_info.as_ref());
    if let Some(boot) = boot.map(|i| &i.boot_id).filter(|b| !b.is_empty())
        && *boot != inventory.boot_id
    {
        return because(
            "StaleInventory",
            "the inventory is of an earlier boot: waiting for the agent",
        );
    }
    unwell(status).map(|failed| (failed.reason.clone(), failed.message.clone()))
}

#[cfg(test)]
mod tests {
    use filstar_crds::Inventory;
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;

    fn world(ready: &str, boot: &str) -> World {
        let mut world = World::default();
        let node = json!({
            "metadata": {"name": "node-a", "uid": "n", "resourceVersion": "1"},
            "status": {
                "conditions": [{"type": "Ready", "status": ready}],
                "nodeInfo": {"bootID": boot, "architecture": "", "containerRuntimeVersion": "",
                    "kernelVersion": "", "kubeProxyVersion": "", "kubeletVersion": "",
                    "machineID": "", "operatingSystem": "", "osImage": "", "systemUUID": ""},
            },
        });
        world.nodes.apply(serde_json::from_value(node).unwrap());
        world
    }

    fn reported(boot: &str, conditions: &[(&str, &str)]) -> SealingNode {
        let mut node = SealingNode::default();
        node.metadata.name = Some("node-a".into());
        node.metadata.generation = Some(3);
        let conditions = conditions.iter().map(|(kind, status)| {
            json!({"type": kind, "status": status, "reason": "TheReason", "message": "the message",
                "lastTransitionTime": "2026-01-01T00:00:00Z"})
        });
        node.status = Some(SealingNodeStatus {
            conditions: conditions
                .map(|c| serde_json::from_value(c).unwrap())
                .collect(),
            inventory: Some(Inventory {
                boot_id: boot.into(),
                ..Inventory::default()
            }),
            ..SealingNodeStatus::default()
        });
        node
    }

    fn ready(world: &World, node: &SealingNode) -> (String, String) {
        let now = Now {
            wall: Timestamp::UNIX_EPOCH,
        };
        let work = Work::of(world);
        let status = status(world, now, &work, &Id::new("", "node-a"), node).unwrap();
        let ready = status.conditions.iter().find(|c| c.type_ == "Ready");
        let ready = ready.unwrap();
        (ready.status.clone(), ready.reason.clone())
    }

    fn pair(status: &str, reason: &str) -> (String, String) {
        (status.into(), reason.into())
    }

    #[test]
    fn a_node_is_ready_when_kubelet_and_agent_say_so_of_the_same_boot() {
        let well = reported(
            "b1",
            &[("ClockSynced", "Unknown"), ("DisksHealthy", "True")],
        );
        assert_eq!(ready(&world("True", "b1"), &well), pair("True", "Ready"));
        assert_eq!(
            ready(&world("True", "b2"), &well),
            pair("False", "StaleInventory")
        );
        assert_eq!(
            ready(&world("False", "b1"), &well),
            pair("False", "NodeNotReady")
        );
        assert_eq!(ready(&World::default(), &well), pair("False", "NoNode"));
        let silent = SealingNode {
            status: None,
            ..well
        };
        assert_eq!(
            ready(&world("True", "b1"), &silent),
            pair("False", "NoInventory")
        );
    }

    #[test]
    fn a_bad_disk_or_clock_closes_the_node_and_a_bad_gpu_does_not() {
        let world = world("True", "b1");
        for (kind, wanted) in [
            ("DisksHealthy", "False"),
            ("ClockSynced", "False"),
            ("GpusHealthy", "True"),
        ] {
            let node = reported("b1", &[(kind, "False")]);
            assert_eq!(ready(&world, &node).0, wanted, "{kind}");
        }
    }

    #[test]
    fn nothing_is_written_when_nothing_changed() {
        let (world, mut node) = (world("True", "b1"), reported("b1", &[]));
        let now = Now {
            wall: Timestamp::UNIX_EPOCH,
        };
        let id = Id::new("", "node-a");
        let work = Work::of(&world);
        node.status = status(&world, now, &work, &id, &node);
        assert_eq!(status(&world, now, &work, &id, &node), None);
    }
}
