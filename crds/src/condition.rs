//! Conditions: how every object says whether it is well, and if not, why and what to do.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The conditions of an object, one of each type.
pub type Conditions = Vec<Condition>;

/// Condition types.
pub mod kinds {
    /// All is well with this object.
    pub const READY: &str = "Ready";
    /// The operator is working towards the spec (kstatus).
    pub const RECONCILING: &str = "Reconciling";
    /// Nothing will get better without a person (kstatus).
    pub const STALLED: &str = "Stalled";
    /// Miner: an endpoint answers, is of the right network and accepts our token.
    pub const CHAIN_REACHABLE: &str = "ChainReachable";
    /// Miner: the head is young enough to decide on.
    pub const CHAIN_SYNCED: &str = "ChainSynced";
    /// Miner: the signer holds the keys of all senders.
    pub const SIGNER_READY: &str = "SignerReady";
    /// Miner: the senders can pay.
    pub const SENDERS_FUNDED: &str = "SendersFunded";
    /// SealingGroup: every pod runs on the CPUs that it was promised. Also on pods, as
    /// `filstar.io/PlacementVerified`.
    pub const PLACEMENT_VERIFIED: &str = "PlacementVerified";
    /// On pods, set by the sealer from what the kernel says; a readiness gate.
    pub const POD_PLACEMENT_VERIFIED: &str = "filstar.io/PlacementVerified";
    /// SealingGroup: every gate is open.
    pub const PLEDGE_OPEN: &str = "PledgeOpen";
    /// PostBatch: every partition of the miner has exactly one prover.
    pub const COVERED: &str = "Covered";
    /// PostBatch: no deadline of the current period was missed.
    pub const ON_TIME: &str = "OnTime";
    /// PostBatch: the prover reads every faulty sector that it tried.
    pub const FAULTS_READABLE: &str = "FaultsReadable";
    /// SectorStore: used up to its bound.
    pub const FULL: &str = "Full";
    /// SectorStore: it has files of sectors that ended on chain; the message says how to have them removed. Absent while no
    /// sector has ended.
    pub const GARBAGE_FOUND: &str = "GarbageFound";
    /// Sector: its task runs for longer than its lane allows. Absent while that never happened.
    pub const TASK_OVERDUE: &str = "TaskOverdue";
    /// Sector: the Node that has its files has left the cluster, since then; SealingNode: its own has. Absent while that
    /// never happened.
    pub const NODE_GONE: &str = "NodeGone";
    /// SealingGroup: no task is overdue. Absent while no lane has `taskTimeouts`.
    pub const TASKS_ON_TIME: &str = "TasksOnTime";
    /// SealingNode: the clock is disciplined and near the right time.
    pub const CLOCK_SYNCED: &str = "ClockSynced";
    /// SealingNode: all GPUs can be used.
    pub const GPUS_HEALTHY: &str = "GpusHealthy";
    /// SealingNode: all scratch file systems answer and can be written.
    pub const DISKS_HEALTHY: &str = "DisksHealthy";
    /// SealingNode: nothing new starts here.
    pub const QUIESCING: &str = "Quiescing";
    /// SealingNode: pods and sectors leave.
    pub const DRAIN_IN_PROGRESS: &str = "DrainInProgress";
    /// SealingNode: something keeps pods or sectors here; the message names it.
    pub const DRAIN_BLOCKED: &str = "DrainBlocked";
    /// SealingNode: nothing of ours is left here.
    pub const DRAINED: &str = "Drained";
    /// SealingNode: what the node's agent writes; the operator writes the others.
    pub const AGENT: [&str; 3] = [CLOCK_SYNCED, GPUS_HEALTHY, DISKS_HEALTHY];
}

/// Sets one condition. The transition time changes only when the status does.
///
/// Returns whether anything changed.
pub fn set_condition(
    conditions: &mut Conditions,
    kind: &str,
    status: bool,
    reason: &str,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) -> bool {
    let status = if status { "True" } else { "False" };
    let old = conditions.iter_mut().find(|c| c.type_ == kind);
    let Some(old) = old else {
        conditions.push(Condition {
            type_: kind.into(),
            status: status.into(),
            reason: reason.into(),
            message: message.into(),
            observed_generation: generation,
            last_transition_time: Time(now),
        });
        return true;
    };
    // Asked for every object of every plan: what is the same is not written again.
    let mut changed = false;
    if old.status != status {
        old.status = status.into();
        old.last_transition_time = Time(now);
        changed = true;
    }
    for (known, new) in [(&mut old.reason, reason), (&mut old.message, message)] {
        if known != new {
            new.clone_into(known);
            changed = true;
        }
    }
    changed |= old.observed_generation != generation;
    old.observed_generation = generation;
    changed
}

/// Whether a condition says this already: [`set_condition`] would change nothing.
pub fn condition_says(
    conditions: &[Condition],
    kind: &str,
    status: bool,
    reason: &str,
    message: &str,
    generation: Option<i64>,
) -> bool {
    let status = if status { "True" } else { "False" };
    conditions.iter().any(|c| {
        c.type_ == kind
            && c.status == status
            && c.reason == reason
            && c.message == message
            && c.observed_generation == generation
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn transition_time_moves_only_when_the_status_does() {
        let mut c = Conditions::new();
        assert!(set_condition(
            &mut c,
            "Ready",
            false,
            "Starting",
            "wait",
            Some(1),
            at(10)
        ));
        assert!(set_condition(
            &mut c,
            "Ready",
            false,
            "NoNode",
            "add a node",
            Some(1),
            at(20)
        ));
        assert_eq!(c[0].last_transition_time.0, at(10));
        assert!(set_condition(
            &mut c,
            "Ready",
            true,
            "Ready",
            "",
            Some(1),
            at(30)
        ));
        assert_eq!(c[0].last_transition_time.0, at(30));
        assert!(!set_condition(
            &mut c,
            "Ready",
            true,
            "Ready",
            "",
            Some(1),
            at(40)
        ));
    }
}
