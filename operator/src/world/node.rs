//! What a node's agent says of its health, in one place.

use filstar_crds::{Gpu, Inventory, SealingNodeStatus, conditions};
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
