//! What a lane wants, as valid values.

use filstar_crds::{
    Backend, Count, Lane, LaneCoreGroupOrder, LaneCoreGroups, LanePhase, ProverLane, parse_bytes,
};

/// The name that the lane of a prover has in the planner.
pub const PROVER: &str = "prover";

/// A lane of one group, or that of a prover, read once.
#[derive(Clone, Debug, PartialEq)]
pub struct LaneRequest {
    /// Who owns the lane, such as `namespace/group`.
    pub owner: String,
    /// Name of the lane.
    pub name: String,
    /// Bytes of a sector of the group's Miner.
    pub sector_size: u64,
    /// What it computes.
    pub phases: Vec<LanePhase>,
    /// CPUs of a pod.
    pub cpus: u32,
    /// Bytes of memory of a pod, huge pages not counted.
    pub memory: u64,
    /// Page size and bytes of huge pages of a pod.
    pub huge: Option<(u64, u64)>,
    /// GPUs of a pod.
    pub gpus: u32,
    /// Whole core groups, or loose CPUs.
    pub groups: Option<GroupRule>,
    /// Pods on the server; none for as many as fit.
    pub pods: Option<u32>,
    /// Tasks at once; none for as many as memory, cores and GPUs allow.
    pub concurrency: Option<u32>,
    /// Most PC1 sectors on one core.
    pub per_core: u32,
    /// Whether PC1 of a pod share a pool of layer memory.
    pub pool: bool,
    /// PC1 at once while a window proof is due.
    pub during_post: Option<u32>,
    /// Tasks on one GPU at once.
    pub tasks_per_gpu: u32,
    /// May a pod span NUMA nodes of one package? Only where we bind CPUs ourselves.
    pub may_span: bool,
}

/// Which core groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRule {
    /// Numbers that may be taken; empty for all.
    pub include: Vec<u32>,
    /// Highest first.
    pub reverse: bool,
    /// Leave the first group alone.
    pub skip_first: bool,
}

impl GroupRule {
    fn of(rule: &LaneCoreGroups) -> Self {
        Self {
            include: rule.include.clone(),
            reverse: rule.order == LaneCoreGroupOrder::Reverse,
            skip_first: rule.skip_first,
        }
    }
}

/// A lane that passed the API server's rules and still cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("lane {lane}: {problem}")]
pub struct Invalid {
    lane: String,
    problem: String,
}

impl LaneRequest {
    /// Reads a lane.
    ///
    /// # Errors
    /// Names the field that cannot be used.
    pub fn of(owner: &str, lane: &Lane, sector_size: u64, may_span: bool) -> Result<Self, Invalid> {
        let invalid = |problem: String| Invalid {
            lane: lane.name.clone(),
            problem,
        };
        let huge = lane
            .hugepages
            .as_ref()
            .map(|h| {
                let bytes = parse_bytes(&h.amount).map_err(|e| invalid(e.to_string()))?;
                if bytes == 0 || bytes % h.size.bytes() != 0 {
                    let text = format!(
                        "hugepages.amount {} is not a multiple of {}",
                        h.amount,
                        h.size.as_str()
                    );
                    return Err(invalid(text));
                }
                Ok((h.size.bytes(), bytes))
            })
            .transpose()?;
        if lane.cpus == 0 && lane.core_groups.is_some() {
            return Err(invalid("coreGroups needs cpus".into()));
        }
        if lane.cpus == 0 && may_span {
            return Err(invalid("placement.backend Agent needs cpus".into()));
        }
        let number = |count: Count| match count {
            Count::Auto => None,
            Count::Number(n) => Some(n),
        };
        Ok(Self {
            owner: owner.to_owned(),
            name: lane.name.clone(),
            sector_size,
            phases: lane.phases.clone(),
            cpus: lane.cpus,
            memory: parse_bytes(&lane.memory).map_err(|e| invalid(e.to_string()))?,
            huge,
            gpus: lane.gpus,
            groups: lane.core_groups.as_ref().map(GroupRule::of),
            pods: number(lane.pods),
            concurrency: number(lane.concurrency),
            per_core: lane.sectors_per_core.most(),
            pool: lane.memory_pool && lane.phases.contains(&LanePhase::Pc1),
            during_post: lane.concurrency_during_post,
            tasks_per_gpu: lane.tasks_per_gpu,
            may_span,
        })
    }

    /// Reads the lane of a prover: one pod, which gets no tasks from the planner.
    ///
    /// # Errors
    /// Names the field that cannot be used.
    pub fn of_prover(owner: &str, lane: &ProverLane) -> Result<Self, Invalid> {
        let invalid = |problem: String| Invalid {
            lane: PROVER.to_owned(),
            problem,
        };
        if lane.cpus == 0 {
            return Err(invalid("coreGroups and backend Agent need cpus".into()));
        }
        Ok(Self {
            owner: owner.to_owned(),
            name: PROVER.to_owned(),
            sector_size: 0,
            phases: Vec::new(),
            cpus: lane.cpus,
            memory: parse_bytes(&lane.memory).map_err(|e| invalid(e.to_string()))?,
            huge: None,
            gpus: 0,
            groups: lane.core_groups.as_ref().map(GroupRule::of),
            pods: Some(1),
            concurrency: None,
            per_core: 1,
            pool: false,
            during_post: None,
            tasks_per_gpu: 1,
            may_span: lane.backend == Backend::Agent,
        })
    }

    /// Bytes that a pod has for sectors: memory and huge pages.
    pub fn bytes(&self) -> u64 {
        self.memory
            .saturating_add(self.huge.map_or(0, |(_, bytes)| bytes))
    }
}
