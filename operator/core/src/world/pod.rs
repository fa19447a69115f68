//! What a Pod's status says, in one place.

use filstar_crds::parse_bytes;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};

/// A condition of a pod.
pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|c| c.type_ == kind)
}

/// Whether a pod runs, is ready (its placement is verified where that is required) and is not leaving.
pub fn is_ready(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none() && says_ready(pod)
}

/// Whether its condition says so, leaving or not.
pub fn says_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|c| c.status == "True")
}

/// Since when it is ready; none when it is not, or does not say.
pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let ready = condition(pod, "Ready").filter(|c| c.status == "True")?;
    ready.last_transition_time.as_ref().map(|t| t.0)
}

/// Whether a pod may still do something: it is neither gone, nor leaving, nor at its end.
pub fn is_live(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    pod.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Failed" | "Succeeded"))
}

/// Whether its containers run now, as far as it says.
pub fn runs(pod: &Pod) -> bool {
    let Some(status) = &pod.status else {
        return false;
    };
    let mut containers = status.container_statuses.iter().flatten();
    let stopped = containers.any(|c| c.state.as_ref().is_some_and(|s| s.running.is_none()));
    status.phase.as_deref() == Some("Running") && !stopped
}

/// The node of a pod, or the one that it was made for while the scheduler has not placed it.
pub fn node(pod: &Pod) -> Option<&str> {
    let spec = pod.spec.as_ref()?;
    spec.node_name.as_deref().or_else(|| {
        let affinity = spec.affinity.as_ref()?.node_affinity.as_ref()?;
        let required = affinity
            .required_during_scheduling_ignored_during_execution
            .as_ref()?;
        let term = required.node_selector_terms.first()?;
        let field = term.match_fields.as_ref()?.first()?;
        field.values.as_ref()?.first().map(String::as_str)
    })
}

/// The value of a variable that its first container is given as text.
pub fn env<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    let env = pod.spec.as_ref()?.containers.first()?.env.as_ref()?;
    env.iter().find(|e| e.name == name)?.value.as_deref()
}

/// Bytes of memory that its first container may take, huge pages included; none when it does not say.
pub fn memory(pod: &Pod) -> Option<u64> {
    let resources = pod.spec.as_ref()?.containers.first()?.resources.as_ref()?;
    let limits = resources.limits.as_ref()?;
    let memory = parse_bytes(&limits.get("memory")?.0).ok()?;
    let mut huge = limits
        .iter()
        .filter(|(name, _)| name.starts_with("hugepages-"));
    huge.try_fold(memory, |sum, (_, amount)| {
        sum.checked_add(parse_bytes(&amount.0).ok()?)
    })
}

/// Whether it has a volume of this name.
pub fn has_volume(pod: &Pod, name: &str) -> bool {
    let volumes = pod.spec.as_ref().and_then(|s| s.volumes.as_ref());
    volumes.is_some_and(|v| v.iter().any(|v| v.name == name))
}

/// Name of the volume of a store.
pub fn store_volume(store: &str) -> String {
    format!("store-{store}")
}

/// Why a pod failed, in kubelet's words.
pub fn refusal(pod: &Pod) -> String {
    let status = pod.status.as_ref();
    let reason = status
        .and_then(|s| s.reason.clone())
        .unwrap_or_else(|| "Failed".into());
    match status.and_then(|s| s.message.clone()) {
        Some(message) => format!("{reason}: {message}"),
        None => reason,
    }
}
