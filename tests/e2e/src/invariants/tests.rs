//! Logs that keep each rule and logs that break it.

#![expect(
    clippy::needless_pass_by_value,
    reason = "bodies are made where they are handed over"
)]

use serde_json::{Value, json};

use super::*;

const OPERATOR: &str = "system:serviceaccount:filstar-system:filstar-operator";
const KUBELET: &str = "system:node:node-a";

/// A log, one event a second.
#[derive(Default)]
struct Log(Vec<Event>);

impl Log {
    fn add(mut self, user: &str, verb: &str, object: &str, name: &str, body: Value) -> Self {
        let (resource, subresource) = object.split_once('/').unwrap_or((object, ""));
        let event = json!({
            "stage": "ResponseComplete", "verb": verb, "user": {"username": user},
            "objectRef": {"resource": resource, "subresource": subresource, "namespace": "ns", "name": name},
            "responseStatus": {"code": 200}, "requestObject": body,
            "stageTimestamp": format!("2026-01-01T00:00:{:02}Z", self.0.len()),
        });
        self.0.push(serde_json::from_value(event).unwrap());
        self
    }

    /// A pod on a node that says what it has.
    fn pod(self, name: &str, node: &str, says: &str) -> Self {
        let condition =
            json!({"type": "filstar.io/PlacementVerified", "status": "True", "message": says});
        self.add(OPERATOR, "create", "pods", name, json!({}))
            .add(
                "scheduler",
                "create",
                "pods/binding",
                name,
                json!({"target": {"name": node}}),
            )
            .add(
                "sealer",
                "patch",
                "pods/status",
                name,
                json!({"status": {"conditions": [condition]}}),
            )
    }

    fn evict(self, name: &str) -> Self {
        self.add(OPERATOR, "create", "pods/eviction", name, json!({}))
    }

    fn cordon(self, user: &str, cordoned: bool) -> Self {
        let value = if cordoned { json!(true) } else { Value::Null };
        self.add(
            user,
            "patch",
            "nodes",
            "node-a",
            json!({"spec": {"unschedulable": value}}),
        )
    }

    fn maintenance(self, wish: Value) -> Self {
        self.add(
            "person",
            "patch",
            "sealingnodes",
            "node-a",
            json!({"spec": {"maintenance": wish}}),
        )
    }

    fn check(&self) -> Findings {
        check(&self.0, Timestamp::MIN).unwrap()
    }

    /// How often a rule is broken, and no other.
    fn broken(&self, rule: Rule) -> usize {
        let found = self.check();
        assert!(found.violations.iter().all(|v| v.rule == rule), "{found:?}");
        found.violations.len()
    }
}

fn cpus(list: &str) -> String {
    format!("cpus 1 ({list}) of 1 asked, memory nodes 0")
}

#[test]
fn two_live_pods_with_a_cpu_in_common_are_found() {
    let log = Log::default()
        .pod("a", "node-a", &cpus("1-4"))
        .pod("b", "node-a", &cpus("4"));
    assert_eq!(log.broken(Rule::Placement), 1);
    assert!(log.check().violations[0].text.contains("CPU 4"));
}

#[test]
fn a_pod_whose_binding_is_answered_before_its_creation_is_on_its_node() {
    let bound = json!({"target": {"name": "node-a"}});
    let log = Log::default()
        .add("scheduler", "create", "pods/binding", "a", bound)
        .add(OPERATOR, "create", "pods", "a", json!({}))
        .cordon("person", true)
        .evict("a");
    assert_eq!(log.check().violations, []);
}

#[test]
fn prover_that_is_bound_to_the_cpus_of_a_sealer_is_found() {
    let bound = |list| format!("{}, bound by itself", cpus(list));
    let shares = "2 shared cpus (0-1), memory nodes 0";
    let log = Log::default()
        .pod("sealer", "node-a", &bound("1"))
        .pod("prover-b", "node-a", shares);
    assert_eq!(
        log.broken(Rule::Placement),
        0,
        "what shares has nothing of its own"
    );
    let log = log.pod("prover-c", "node-a", &bound("1"));
    assert_eq!(log.broken(Rule::Placement), 1);
}

#[test]
fn two_live_pods_with_a_gpu_in_common_are_found() {
    let says = |cpu: &str| format!("{}, GPUs GPU-1 on NUMA node 0", cpus(cpu));
    let log = Log::default()
        .pod("a", "node-a", &says("1"))
        .pod("b", "node-a", &says("2"));
    assert_eq!(log.broken(Rule::Placement), 1);
}

#[test]
fn pods_on_other_nodes_and_pods_that_share_have_nothing_in_common() {
    let log = Log::default()
        .pod("a", "node-a", &cpus("1"))
        .pod("b", "node-b", &cpus("1"))
        .pod("c", "node-a", "2 shared cpus (0-1), memory nodes 0");
    assert_eq!(log.broken(Rule::Placement), 0);
    assert_eq!(log.check().placements, 2);
}

#[test]
fn the_cpu_of_a_pod_is_free_only_when_kubelet_says_that_it_has_stopped() {
    let asked = Log::default().pod("a", "node-a", &cpus("1")).add(
        "person",
        "delete",
        "pods",
        "a",
        json!({}),
    );
    let early = Log(asked.0.clone()).pod("b", "node-a", &cpus("1"));
    assert_eq!(early.broken(Rule::Placement), 1);
    let stopped = json!({"status": {"containerStatuses": [{"state": {"terminated": {}}}]}});
    let later = Log(asked.0.clone())
        .add(KUBELET, "patch", "pods/status", "a", stopped)
        .pod("b", "node-a", &cpus("1"));
    assert_eq!(later.broken(Rule::Placement), 0);
    let gone = asked
        .add(KUBELET, "delete", "pods", "a", json!({}))
        .pod("b", "node-a", &cpus("1"));
    assert_eq!(gone.broken(Rule::Placement), 0);
}

#[test]
fn a_container_that_starts_again_keeps_its_cpu() {
    let stopped = json!({"status": {"containerStatuses": [{"state": {"terminated": {}}}]}});
    let log = Log::default()
        .pod("a", "node-a", &cpus("1"))
        .add(KUBELET, "patch", "pods/status", "a", stopped)
        .pod("b", "node-a", &cpus("1"));
    assert_eq!(log.broken(Rule::Placement), 1);
}

#[test]
fn an_eviction_outside_a_drain_is_found() {
    let log = Log::default().pod("a", "node-a", &cpus("1")).evict("a");
    assert_eq!(log.broken(Rule::Eviction), 1);
    let other = Log::default()
        .pod("a", "node-b", &cpus("1"))
        .cordon("person", true)
        .evict("a");
    assert_eq!(other.broken(Rule::Eviction), 1);
}

#[test]
fn an_eviction_within_maintenance_or_a_cordon_is_right_until_that_ends() {
    let begin = || {
        Log::default()
            .pod("a", "node-a", &cpus("1"))
            .pod("b", "node-a", &cpus("2"))
    };
    let log = begin().maintenance(json!({"reason": "disk"})).evict("a");
    assert_eq!(log.broken(Rule::Eviction), 0);
    assert_eq!(log.check().evictions, 1);
    assert_eq!(
        log.maintenance(Value::Null)
            .evict("b")
            .broken(Rule::Eviction),
        1
    );
    let log = begin().cordon("person", true).evict("a");
    assert_eq!(log.broken(Rule::Eviction), 0);
    assert_eq!(
        log.cordon("person", false)
            .evict("b")
            .broken(Rule::Eviction),
        1
    );
}

#[test]
fn a_pod_that_was_pushed_out_counts_as_evicted() {
    let pushed = |reason: &str| {
        let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": reason});
        let body = json!({"status": {"conditions": [condition]}});
        let log = Log::default().pod("a", "node-a", &cpus("1"));
        log.add("system:kube-scheduler", "patch", "pods/status", "a", body)
    };
    assert_eq!(pushed("PreemptionByScheduler").broken(Rule::Eviction), 1);
    assert_eq!(pushed("EvictionByEvictionAPI").broken(Rule::Eviction), 0);
}

#[test]
fn a_cordon_of_somebody_else_that_the_operator_undoes_is_found() {
    let log = Log::default()
        .cordon("person", true)
        .cordon(OPERATOR, false);
    assert_eq!(log.broken(Rule::Cordon), 1);
    // Who cordons a node that is cordoned does not make it his own.
    let log = Log::default()
        .cordon("person", true)
        .cordon(OPERATOR, true)
        .cordon(OPERATOR, false);
    assert_eq!(log.broken(Rule::Cordon), 1);
}

#[test]
fn the_operators_own_cordon_may_be_undone_by_all() {
    let log = Log::default()
        .cordon(OPERATOR, true)
        .cordon(OPERATOR, false)
        .cordon(OPERATOR, true)
        .cordon("person", false);
    let found = log.check();
    assert_eq!((found.uncordons, found.uncordons_by_operator), (2, 1));
    assert_eq!(found.violations, []);
}

#[test]
fn what_was_before_the_run_is_known_and_not_judged() {
    let log = Log::default()
        .pod("a", "node-a", &cpus("1"))
        .pod("b", "node-a", &cpus("1"))
        .cordon("person", true)
        .cordon(OPERATOR, false);
    let since: Timestamp = "2026-01-01T00:00:07Z".parse().unwrap();
    let found = check(&log.0, since).unwrap();
    let rules: Vec<Rule> = found.violations.iter().map(|v| v.rule).collect();
    assert_eq!(rules, [Rule::Cordon]);
}

#[test]
fn a_log_without_bodies_is_no_proof() {
    let log = Log::default().add("sealer", "patch", "pods/status", "a", Value::Null);
    assert!(check(&log.0, Timestamp::MIN).is_err());
}
