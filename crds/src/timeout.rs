//! How long tasks may take, and what follows when they take longer.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::length_of_time;
use crate::sealinggroup::LanePhase;

/// The bound of a phase's tasks.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LaneTaskTimeout {
    /// The phase; one of the lane's.
    pub phase: LanePhase,
    /// The longest time from the sealer's start to its end, such as `6h`.
    #[schemars(length(max = 16))]
    #[x_kube(validation = length_of_time())]
    pub after: String,
    /// What a task over its time does to its surroundings. `CloseLane` (default): its pod gets no new task until it
    /// ends. `DrainNode`: its node is cordoned and emptied too, one node of the cluster at a time, until somebody
    /// uncordons it.
    #[serde(default)]
    pub then: TaskTimeoutAction,
}

/// What a task over its time does to its surroundings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum TaskTimeoutAction {
    /// Its pod gets no new task until it ends.
    #[default]
    CloseLane,
    /// Its node is cordoned and emptied as well.
    DrainNode,
}
