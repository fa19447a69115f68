//! What the agent writes: findings as conditions, and the decision whether to write at all.
//!
//! Pure: from what is measured and the object as it is, to the next step.

use filstar_crds::{
    DiskKind, GROUP, Gpu, GpuHealth, Inventory, ScratchDisk, SealingNode, VERSION, conditions,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde_json::{Value, json};

/// Status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Truth {
    True,
    False,
    Unknown,
}

impl Truth {
    fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// A condition without its times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) truth: Truth,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Finding {
    pub(crate) fn new(truth: Truth, reason: &'static str, message: &str) -> Self {
        Self {
            truth,
            reason,
            message: message.to_owned(),
        }
    }
}

/// All that the agent has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) inventory: Inventory,
    pub(crate) clock: Finding,
    pub(crate) gpus: Finding,
    pub(crate) disks: Finding,
}

impl Report {
    pub(crate) fn findings(&self) -> [(&'static str, &Finding); 3] {
        [
            (conditions::CLOCK_SYNCED, &self.clock),
            (conditions::GPUS_HEALTHY, &self.gpus),
            (conditions::DISKS_HEALTHY, &self.disks),
        ]
    }
}

/// Whether all GPUs can be used. `unasked`: why NVML says nothing; `on_the_bus`: GPUs that the kernel sees.
pub(crate) fn gpus(list: &[Gpu], unasked: Option<&str>, on_the_bus: usize) -> Finding {
    let bad: Vec<String> = list
        .iter()
        .filter(|gpu| gpu.health != GpuHealth::Healthy)
        .map(|gpu| {
            format!(
                "{} {:?}: {}",
                gpu.uuid,
                gpu.health,
                gpu.why.as_deref().unwrap_or("")
            )
        })
        .collect();
    if list.iter().any(|gpu| !gpu.health.usable()) {
        return Finding::new(Truth::False, "GpuFailed", &short(&bad.join("; ")));
    }
    if let Some(why) = unasked.filter(|_| on_the_bus > 0) {
        let text = format!(
            "the kernel sees {on_the_bus} NVIDIA GPUs, but {why}: install the driver, and give the agent the container \
             runtime's class for NVIDIA (agent.runtimeClassName)"
        );
        return Finding::new(Truth::False, "NoDriver", &short(&text));
    }
    if list.is_empty() {
        let text = unasked.unwrap_or("NVML lists none");
        return Finding::new(Truth::True, "NoGpus", &short(&format!("no GPUs: {text}")));
    }
    if bad.is_empty() {
        let text = format!("{} GPUs answer without errors", list.len());
        return Finding::new(Truth::True, "Healthy", &text);
    }
    Finding::new(Truth::True, "Throttled", &short(&bad.join("; ")))
}

/// Whether all scratch file systems are well.
pub(crate) fn disks(list: &[ScratchDisk]) -> Finding {
    let bad: Vec<String> = list
        .iter()
        .filter_map(|disk| Some(format!("{}: {}", disk.path, disk.why.as_deref()?)))
        .collect();
    if !bad.is_empty() {
        return Finding::new(Truth::False, "DiskFailed", &short(&bad.join("; ")));
    }
    let slow: Vec<&str> = list
        .iter()
        .filter(|disk| disk.kind == DiskKind::Hdd)
        .map(|disk| disk.path.as_str())
        .collect();
    if !slow.is_empty() {
        let text = format!(
            "the kernel takes what is below {} for disks that turn",
            slow.join(", ")
        );
        return Finding::new(Truth::True, "Slow", &short(&text));
    }
    let text = format!("{} scratch file systems answer", list.len());
    Finding::new(Truth::True, "Healthy", &text)
}

fn short(text: &str) -> String {
    text.chars().take(1000).collect()
}

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// All is written.
    Nothing,
    /// The object is not there.
    Create,
    /// Apply this status.
    Write(Box<Value>),
}

/// What to do, given the object as it is.
pub(crate) fn decide(
    name: &str,
    live: Option<&SealingNode>,
    report: &Report,
    now: Timestamp,
) -> Step {
    let Some(live) = live else {
        return Step::Create;
    };
    if live.metadata.deletion_timestamp.is_some() {
        return Step::Nothing;
    }
    let status = live.status.clone().unwrap_or_default();
    let told: Vec<Condition> = report
        .findings()
        .iter()
        .map(|(kind, finding)| condition(&status.conditions, kind, finding, now))
        .collect();
    let known = told.iter().all(|c| status.conditions.contains(c));
    let same = status.inventory.as_ref().map(sorted) == Some(sorted(&report.inventory));
    if known && same {
        return Step::Nothing;
    }
    Step::Write(Box::new(json!({
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "kind": "SealingNode",
        "metadata": {"name": name},
        "status": {"inventory": report.inventory, "conditions": told},
    })))
}

fn condition(old: &[Condition], kind: &str, finding: &Finding, now: Timestamp) -> Condition {
    let status = finding.truth.as_str();
    let since = old
        .iter()
        .find(|c| c.type_ == kind && c.status == status)
        .map(|c| c.last_transition_time.clone());
    // The API server keeps whole seconds.
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    Condition {
        type_: kind.into(),
        status: status.into(),
        reason: finding.reason.into(),
        message: finding.message.clone(),
        observed_generation: None,
        last_transition_time: since.unwrap_or(Time(now)),
    }
}

/// Conditions of ours that turned from one status to another, or that are bad from the start.
pub(crate) fn turned<'a>(before: &[Condition], now: &'a [Condition]) -> Vec<&'a Condition> {
    let ours = now
        .iter()
        .filter(|c| conditions::AGENT.contains(&c.type_.as_str()));
    ours.filter(|c| match before.iter().find(|b| b.type_ == c.type_) {
        Some(before) => before.status != c.status,
        None => c.status == "False",
    })
    .collect()
}

/// Lists with keys have no order of their own.
fn sorted(inventory: &Inventory) -> Inventory {
    let mut inventory = inventory.clone();
    inventory.cpu_features.sort();
    inventory.numa_nodes.sort_by_key(|n| n.id);
    for node in &mut inventory.numa_nodes {
        node.hugepages.sort_by_key(|p| p.size);
    }
    inventory.core_groups.sort_by_key(|g| g.id);
    inventory.gpus.sort_by(|a, b| a.uuid.cmp(&b.uuid));
    inventory.scratch.sort_by(|a, b| a.path.cmp(&b.path));
    inventory
}

#[cfg(test)]
mod tests {
    use filstar_crds::{SealingNodeSpec, SealingNodeStatus};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn report() -> Report {
        let well = || Finding::new(Truth::True, "Healthy", "well");
        Report {
            inventory: Inventory {
                boot_id: "b".into(),
                packages: 1,
                ..Inventory::default()
            },
            clock: Finding::new(Truth::Unknown, "NotDisciplined", "nobody knows"),
            gpus: well(),
            disks: well(),
        }
    }

    /// The object after a write, as the API server gives it back, with a condition of the operator.
    fn after(step: Step) -> SealingNode {
        let Step::Write(body) = step else {
            panic!("{step:?}")
        };
        let mut status: SealingNodeStatus = serde_json::from_value(body["status"].clone()).unwrap();
        status.conditions.insert(
            0,
            serde_json::from_value(json!({"type": "Ready", "status": "True", "reason": "Ready",
                "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}))
            .unwrap(),
        );
        let mut node = SealingNode::new("node-a", SealingNodeSpec::default());
        node.status = Some(status);
        node
    }

    #[test]
    fn an_object_that_is_not_there_is_made() {
        assert_eq!(decide("node-a", None, &report(), at(1)), Step::Create);
    }

    #[test]
    fn an_object_that_is_being_deleted_is_left_alone() {
        let mut node = SealingNode::new("node-a", SealingNodeSpec::default());
        node.metadata.deletion_timestamp = Some(Time(at(1)));
        assert_eq!(
            decide("node-a", Some(&node), &report(), at(1)),
            Step::Nothing
        );
    }

    #[test]
    fn nothing_is_written_while_nothing_changes_also_by_the_next_agent() {
        let empty = SealingNode::new("node-a", SealingNodeSpec::default());
        let node = after(decide("node-a", Some(&empty), &report(), at(10)));
        assert_eq!(
            decide("node-a", Some(&node), &report(), at(99)),
            Step::Nothing
        );
    }

    #[test]
    fn exactly_the_agents_fields_are_written_and_a_transition_has_its_time() {
        let empty = SealingNode::new("node-a", SealingNodeSpec::default());
        let node = after(decide("node-a", Some(&empty), &report(), at(10)));
        let mut worse = report();
        worse.disks = Finding::new(Truth::False, "DiskFailed", "hangs");
        worse.inventory.packages = 2;
        let Step::Write(body) = decide("node-a", Some(&node), &worse, at(99)) else {
            panic!("a change is written")
        };
        let status = body["status"].as_object().unwrap();
        assert_eq!(
            status.keys().collect::<Vec<_>>(),
            ["conditions", "inventory"]
        );
        let conditions: Vec<Condition> =
            serde_json::from_value(status["conditions"].clone()).unwrap();
        let since: Vec<_> = conditions
            .iter()
            .map(|c| (c.type_.as_str(), c.last_transition_time.0.as_second()))
            .collect();
        assert_eq!(
            since,
            [
                ("ClockSynced", 10),
                ("GpusHealthy", 10),
                ("DisksHealthy", 99)
            ]
        );
    }

    #[test]
    fn a_condition_that_turns_is_worth_an_event_and_a_start_that_is_well_is_not() {
        let empty = SealingNode::new("node-a", SealingNodeSpec::default());
        let node = after(decide("node-a", Some(&empty), &report(), at(10)));
        let well = node.status.unwrap().conditions;
        assert!(turned(&[], &well).is_empty(), "also not for the operator's");
        let mut worse = report();
        worse.gpus = Finding::new(Truth::False, "GpuFailed", "lost");
        let node = after(decide("node-a", Some(&empty), &worse, at(20)));
        let bad = node.status.unwrap().conditions;
        let reasons = |before: &[Condition], now: &[Condition]| -> Vec<String> {
            turned(before, now)
                .iter()
                .map(|c| c.reason.clone())
                .collect()
        };
        assert_eq!(reasons(&well, &bad), ["GpuFailed"]);
        assert_eq!(reasons(&[], &bad), ["GpuFailed"]);
        assert_eq!(reasons(&bad, &well), ["Healthy"]);
        assert!(turned(&bad, &bad).is_empty());
    }

    #[test]
    fn what_somebody_else_changed_in_our_fields_is_written_again() {
        let empty = SealingNode::new("node-a", SealingNodeSpec::default());
        let mut node = after(decide("node-a", Some(&empty), &report(), at(10)));
        node.status.as_mut().unwrap().inventory = None;
        assert!(matches!(
            decide("node-a", Some(&node), &report(), at(11)),
            Step::Write(_)
        ));
    }

    fn gpu(health: GpuHealth) -> Gpu {
        Gpu {
            uuid: "GPU-1".into(),
            health,
            why: (health != GpuHealth::Healthy).then(|| "the reason".into()),
            ..Gpu::default()
        }
    }

    #[test]
    fn gpus_are_healthy_while_all_can_be_used() {
        let told = |list: &[Gpu], unasked, bus| {
            let finding = gpus(list, unasked, bus);
            (finding.truth, finding.reason)
        };
        let absent = Some("NVML is not there (no file)");
        assert_eq!(told(&[], absent, 0), (Truth::True, "NoGpus"));
        assert_eq!(told(&[], absent, 2), (Truth::False, "NoDriver"));
        assert_eq!(
            told(&[gpu(GpuHealth::Healthy)], None, 1),
            (Truth::True, "Healthy")
        );
        assert_eq!(
            told(&[gpu(GpuHealth::Throttled)], None, 1),
            (Truth::True, "Throttled")
        );
        let lost = [gpu(GpuHealth::Healthy), gpu(GpuHealth::Lost)];
        assert_eq!(told(&lost, None, 2), (Truth::False, "GpuFailed"));
        assert!(
            gpus(&lost, None, 2)
                .message
                .contains("GPU-1 Lost: the reason")
        );
    }

    #[test]
    fn one_bad_disk_is_named() {
        let disk = |why: Option<&str>| ScratchDisk {
            path: "/scratch".into(),
            why: why.map(str::to_owned),
            ..ScratchDisk::default()
        };
        assert_eq!(disks(&[disk(None)]).truth, Truth::True);
        let bad = disks(&[disk(None), disk(Some("it does not answer"))]);
        assert_eq!(
            (bad.truth, bad.message.as_str()),
            (Truth::False, "/scratch: it does not answer")
        );
    }
}
