//! Names that are part of the API: labels, annotations, finalizers, field managers.

/// Labels on objects that Filstar creates.
pub mod labels {
    /// `app.kubernetes.io/managed-by`: always `filstar`.
    pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
    /// `app.kubernetes.io/component`: `sealer`, `prover`, `operator`.
    pub const COMPONENT: &str = "app.kubernetes.io/component";
    /// Name of the Miner.
    pub const MINER: &str = "filstar.io/miner";
    /// Name of the SealingGroup.
    pub const GROUP: &str = "filstar.io/group";
    /// Name of the lane inside its group.
    pub const LANE: &str = "filstar.io/lane";
    /// Name of the Node.
    pub const NODE: &str = "filstar.io/node";
    /// Name of the PostBatch.
    pub const POST_BATCH: &str = "filstar.io/post-batch";
    /// Sector number a message belongs to.
    pub const SECTOR: &str = "filstar.io/sector";
}

/// Annotations that Filstar reads or writes.
pub mod annotations {
    /// On pods: hash of the pod's template; a pod with another hash is replaced when it is idle.
    pub const TEMPLATE_HASH: &str = "filstar.io/template-hash";
    /// On sealer pods, by the sealer itself: how full its scratch and its stores are, as [`crate::Disks`] in JSON.
    pub const DISKS: &str = "filstar.io/disks";
    /// On Nodes: `ours` while the cordon is that of `spec.maintenance`, `task-overdue` while it is ours because a task
    /// was over its time, `lifted` when somebody took our cordon away. Only `ours` is ever undone by the operator.
    pub const CORDON: &str = "filstar.io/cordon";
    /// On Nodes whose cordon is `task-overdue`: which task, in words.
    pub const CORDON_REASON: &str = "filstar.io/cordon-reason";
    /// On Sectors, by people: name of the Node that has the sector's files and will not come back. Once there is no Node of this
    /// name, the sector waits for it no longer. The operator takes it away when it says nothing any more.
    pub const FORGET_NODE: &str = "filstar.io/forget-node";
    /// On SectorStores, by people: the files that the condition `GarbageFound` speaks of may be removed. Its value is the word in that
    /// condition's message, which stands for exactly these sectors; any other value says nothing.
    pub const REMOVE_GARBAGE: &str = "filstar.io/remove-garbage";
    /// On Sectors, by people: it may be deleted although it is on chain and has not landed. An admission policy of the chart
    /// reads it.
    pub const ABANDON: &str = "filstar.io/abandon";
    /// On sealer and prover pods of backend Agent: the CPUs that the pod binds itself to, a list such as `8-15`.
    pub const CPUS: &str = "filstar.io/cpus";
    /// On sealer pods: the pod's number in its lane on its node. On prover pods: 0 when it has a place of its own.
    pub const INDEX: &str = "filstar.io/index";
}

/// Finalizers.
pub mod finalizers {
    /// On Sectors: its files in scratch are removed before the object goes.
    pub const SECTOR_FILES: &str = "filstar.io/sector-files";
}

/// Field managers: one for each writer.
pub mod managers {
    /// The operator's.
    pub const OPERATOR: &str = "filstar-operator";
    /// The seal role's: `status.sealer` of Sectors, and its pod's placement condition.
    pub const SEALER: &str = "filstar-sealer";
    /// The seal role's too: `status.sweeper` of SectorStores.
    pub const SWEEPER: &str = "filstar-sweeper";
    /// The prove role's: `status.prover` of PostBatches.
    pub const PROVER: &str = "filstar-prover";
    /// The agent role's: `status.inventory` and three conditions of its node's SealingNode.
    pub const AGENT: &str = "filstar-agent";
}
