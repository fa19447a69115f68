//! What a Node says of itself and its agent of its health, in one place.

use filstar_crds::{Gpu, Inventory, SealingNodeStatus, conditions};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// What closes a node for new work: a disk that fails or a clock that is off. A GPU closes its own pods alone.
pub fn unwell(status: &SealingNodeStatus) -> Option<&Condition> {
    status.conditions.iter().find(|c| {
        c.status == "False"
            && c.type_ != conditions::GPUS_HEALTHY
            && conditions::AGENT.contains(&c.type_.as_str())
    })
}

/// GPUs that must not be used.
pub fn failed_gpus(inventory: &Inventory) -> impl Iterator<Item = &Gpu> {
    inventory.gpus.iter().filter(|gpu| !gpu.health.usable())
}

/// Why a node is not ready, by kubelet's word; none when it is.
pub fn not_ready(node: &Node) -> Option<String> {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    let ready = conditions.and_then(|c| c.iter().find(|c| c.type_ == "Ready"));
    match ready {
        Some(c) if c.status == "True" => None,
        Some(c) => Some(format!(
            "the node is not ready: {}",
            c.reason.as_deref().unwrap_or("?")
        )),
        None => Some("the node has not reported yet".into()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_is_ready_by_kubelets_word_alone() {
        let said = |conditions| {
            let node = json!({"status": {"conditions": conditions}});
            not_ready(&serde_json::from_value(node).unwrap())
        };
        assert_eq!(said(json!([{"type": "Ready", "status": "True"}])), None);
        let silent = json!([{"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}]);
        let silent = said(silent).unwrap();
        assert!(silent.contains("NodeStatusUnknown"), "{silent}");
        let other = said(json!([{"type": "MemoryPressure", "status": "True"}]));
        assert_eq!(other.as_deref(), Some("the node has not reported yet"));
    }
}
