//! The part of the cluster's state that the rules need, built up event by event.

use std::collections::BTreeMap;

use serde_json::Value;

use super::place::Place;
use super::{Findings, Rule, Violation};
use crate::audit::Event;

const OPERATOR: &str = ":filstar-operator";
/// Who says that a pod is gone, when it is gone and not merely asked to go.
const UNDERTAKERS: [&str; 2] = [
    "system:node:",
    "system:serviceaccount:kube-system:pod-garbage-collector",
];

/// A pod by namespace and name.
type Name = (String, String);

#[derive(Clone, Debug, Default)]
struct Pod {
    node: Option<String>,
    place: Place,
    /// Somebody asked it to go.
    leaves: bool,
}

impl Pod {
    /// Nothing is known of it but its node.
    fn is_bound_alone(&self) -> bool {
        self.node.is_some() && !self.leaves && self.place == Place::default()
    }
}

#[derive(Clone, Debug, Default)]
struct Node {
    /// Who cordoned it; none while it is not cordoned.
    cordoned_by: Option<String>,
    in_maintenance: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pods: BTreeMap<Name, Pod>,
    nodes: BTreeMap<String, Node>,
}

impl State {
    /// Takes one successful write in.
    pub(super) fn take(&mut self, event: &Event, found: &mut Findings) {
        let object = &event.object_ref;
        match (object.resource.as_str(), object.subresource.as_str()) {
            ("nodes", "") => self.node(event, found),
            ("sealingnodes", "") => self.maintenance(event),
            ("pods", "binding") => self.bound(event),
            ("pods", "status") => self.status(event, found),
            ("pods", "eviction") => self.evicted(event, found),
            ("pods", "") => self.pod(event),
            _ => {}
        }
    }

    fn node(&mut self, event: &Event, found: &mut Findings) {
        if event.verb == "delete" {
            self.nodes.remove(event.name());
            return;
        }
        let body = &event.request_object;
        let cordoned = match body.pointer("/spec/unschedulable") {
            Some(value) => value == true,
            // A patch says what changes, an update all that there is.
            None if event.verb == "update" => false,
            None => return,
        };
        let node = self.nodes.entry(event.name().to_owned()).or_default();
        let by = &event.user.username;
        if cordoned {
            node.cordoned_by.get_or_insert_with(|| by.clone());
            return;
        }
        let Some(before) = node.cordoned_by.take() else {
            return;
        };
        found.uncordons += 1;
        if !by.ends_with(OPERATOR) {
            return;
        }
        found.uncordons_by_operator += 1;
        if !before.ends_with(OPERATOR) {
            let text = format!("node {} was cordoned by {before}", event.name());
            found.violations.push(broken(Rule::Cordon, event, text));
        }
    }

    fn maintenance(&mut self, event: &Event) {
        let node = self.nodes.entry(event.name().to_owned()).or_default();
        node.in_maintenance = match event.request_object.pointer("/spec/maintenance") {
            _ if event.verb == "delete" => false,
            Some(wish) => !wish.is_null(),
            None if event.verb == "update" => false,
            // Patches in JSON's own form are lists of operations.
            None => match json_patch(&event.request_object, "/spec/maintenance") {
                Some(there) => there,
                None => return,
            },
        };
    }

    fn bound(&mut self, event: &Event) {
        let node = event.request_object.pointer("/target/name");
        let pod = Pod {
            node: node.and_then(Value::as_str).map(str::to_owned),
            ..Pod::default()
        };
        self.pods.insert(name(event), pod);
    }

    fn pod(&mut self, event: &Event) {
        match event.verb.as_str() {
            // Who bound it may have been answered before who made it: then its node is known already.
            "create" if self.pods.get(&name(event)).is_some_and(Pod::is_bound_alone) => {}
            "create" => drop(self.pods.insert(name(event), Pod::default())),
            "delete" if is_the_end(event) => drop(self.pods.remove(&name(event))),
            "delete" => {
                if let Some(pod) = self.pods.get_mut(&name(event)) {
                    pod.leaves = true;
                }
            }
            _ => {}
        }
    }

    fn status(&mut self, event: &Event, found: &mut Findings) {
        let body = &event.request_object;
        let key = name(event);
        if says_disrupted(body) {
            self.disrupted(event, &key, found);
        }
        let Some(pod) = self.pods.get_mut(&key) else {
            return;
        };
        let phase = body.pointer("/status/phase").and_then(Value::as_str);
        if matches!(phase, Some("Failed" | "Succeeded")) || pod.leaves && has_stopped(body) {
            self.pods.remove(&key);
            return;
        }
        let Some(place) = Place::reported(body) else {
            return;
        };
        if !place.is_empty() && pod.place.is_empty() {
            found.placements += 1;
        }
        if pod.place == place {
            return;
        }
        pod.place = place;
        let of_node = pod.node.clone();
        let others = self.pods.iter().filter(|(other, _)| **other != key);
        let own = &self.pods[&key].place;
        for ((namespace, other), pod) in others.filter(|(_, p)| p.node == of_node) {
            if let Some(common) = own.common(&pod.place) {
                let text = format!(
                    "pods {}/{} and {namespace}/{other} on node {} have both: {common}",
                    key.0,
                    key.1,
                    of_node.as_deref().unwrap_or("?")
                );
                found.violations.push(broken(Rule::Placement, event, text));
            }
        }
    }

    fn evicted(&mut self, event: &Event, found: &mut Findings) {
        let key = name(event);
        self.disrupted(event, &key, found);
        if let Some(pod) = self.pods.get_mut(&key) {
            pod.leaves = true;
        }
    }

    /// A pod went though nobody deleted it: its node must be one that shall be empty.
    fn disrupted(&self, event: &Event, key: &Name, found: &mut Findings) {
        found.evictions += 1;
        let node = self.pods.get(key).and_then(|pod| pod.node.as_deref());
        let asked = node.and_then(|node| self.nodes.get(node));
        if !asked.is_some_and(|n| n.in_maintenance || n.cordoned_by.is_some()) {
            let text = format!(
                "pod {}/{} by {} from node {}",
                key.0,
                key.1,
                event.user.username,
                node.unwrap_or("?")
            );
            found.violations.push(broken(Rule::Eviction, event, text));
        }
    }
}

fn broken(rule: Rule, event: &Event, text: String) -> Violation {
    Violation {
        rule,
        time: event.stage_timestamp,
        text,
    }
}

fn name(event: &Event) -> Name {
    (event.object_ref.namespace.clone(), event.name().to_owned())
}

/// Whether a deletion is the last one: of a pod that has stopped, or by force.
fn is_the_end(event: &Event) -> bool {
    let by_force = event.request_object.pointer("/gracePeriodSeconds");
    let user = event.user.username.as_str();
    UNDERTAKERS.iter().any(|u| user.starts_with(u)) || by_force.is_some_and(|s| s == 0)
}

/// Somebody took the pod's place: the scheduler for a more urgent one, kubelet for memory, a controller for a taint.
fn says_disrupted(body: &Value) -> bool {
    let conditions = body.pointer("/status/conditions").and_then(Value::as_array);
    let disrupted = |c: &Value| c["type"] == "DisruptionTarget" && c["status"] == "True";
    // The eviction API writes it as well: that is counted where it is asked for.
    let other = |c: &Value| c["reason"] != "EvictionByEvictionAPI";
    conditions.is_some_and(|all| all.iter().any(|c| disrupted(c) && other(c)))
}

/// Whether no container runs, by kubelet's word.
fn has_stopped(body: &Value) -> bool {
    let containers = body.pointer("/status/containerStatuses");
    let stopped = |c: &Value| c.pointer("/state/terminated").is_some();
    containers
        .and_then(Value::as_array)
        .is_some_and(|all| all.iter().all(stopped))
}

/// Whether a JSON patch adds or removes what is at `path`; none when it leaves it alone.
fn json_patch(body: &Value, path: &str) -> Option<bool> {
    let operations = body.as_array()?;
    let last = operations.iter().rev().find(|o| o["path"] == path)?;
    Some(last["op"] != "remove" && !last["value"].is_null())
}
