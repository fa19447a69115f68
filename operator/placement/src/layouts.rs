//! Server layouts that people publish, with lanes as one would write them for each: what the packing is measured on.

use std::collections::BTreeMap;

use filstar_crds::LanePhase;

use crate::lane::{GroupRule, LaneRequest};
use crate::pack::{PodPlan, place};
use crate::server::{CoreGroup, Gpu, Numa, Server};

const GIB: u64 = 1 << 30;

/// A server and the lanes for it.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Short name, such as `epyc-9654-2s-nps4`.
    pub name: &'static str,
    /// What it is.
    pub server: Server,
    /// Lanes: PC1 on all that is left, PC2 and C2 with a GPU each.
    pub lanes: Vec<LaneRequest>,
}

/// The shape of a server whose parts are all alike.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Sockets.
    pub packages: u32,
    /// NUMA nodes of a socket.
    pub numa: u32,
    /// Core groups of a NUMA node.
    pub groups: u32,
    /// Cores of a group.
    pub cores: u32,
    /// Hardware threads of a core.
    pub threads: u32,
    /// GiB of memory in all.
    pub memory_gib: u64,
}

impl Shape {
    /// The server, with GPUs of 24 GiB on these NUMA nodes. CPUs are numbered as Linux does it: first one thread of
    /// each core, then the siblings. 16 GiB of the first NUMA node are the system's.
    pub fn server(self, gpus: &[u32]) -> Server {
        let nodes = self.packages * self.numa;
        let all_cores = nodes * self.groups * self.cores;
        let numa = (0..nodes).map(|id| Numa {
            id,
            package: id / self.numa,
            memory: (self.memory_gib / u64::from(nodes) - if id == 0 { 16 } else { 0 }) * GIB,
            huge: BTreeMap::new(),
        });
        let groups = (0..nodes * self.groups).map(|id| CoreGroup {
            id,
            numa: id / self.groups,
            cores: (0..self.cores)
                .map(|core| {
                    let first = id * self.cores + core;
                    (0..self.threads).map(|t| first + t * all_cores).collect()
                })
                .collect(),
        });
        let gpus = gpus.iter().enumerate().map(|(at, numa)| Gpu {
            id: format!("GPU-{at}"),
            numa: Some(*numa),
            memory: 24 * GIB,
        });
        Server {
            numa: numa.collect(),
            groups: groups.collect(),
            gpus: gpus.collect(),
            cpu_limit: None,
        }
    }

    /// Hardware threads of a core group.
    pub fn group_cpus(self) -> u32 {
        self.cores * self.threads
    }
}

/// A lane of whole core groups for sectors of 32 GiB.
pub fn lane(name: &str, phases: &[LanePhase], cpus: u32, memory_gib: u64) -> LaneRequest {
    LaneRequest {
        owner: "example/group".into(),
        name: name.into(),
        sector_size: 32 * GIB,
        phases: phases.to_vec(),
        cpus,
        memory: memory_gib * GIB,
        huge: None,
        gpus: 0,
        groups: Some(GroupRule {
            include: Vec::new(),
            reverse: true,
            skip_first: true,
        }),
        pods: Some(1),
        concurrency: None,
        per_core: 1,
        pool: true,
        during_post: None,
        tasks_per_gpu: 1,
        may_span: false,
    }
}

/// The lanes that seal: `pc1_gib` of memory for each core group of PC1, so many groups for C2.
fn sealing(shape: Shape, pc1_gib: u64, c2_groups: u32, gpus: &[u32]) -> Vec<LaneRequest> {
    let cpus = shape.group_cpus();
    let pc1 = LaneRequest {
        pods: None,
        ..lane("pc1", &[LanePhase::AddPiece, LanePhase::Pc1], cpus, pc1_gib)
    };
    let pc2 = LaneRequest {
        gpus: 1,
        ..lane(
            "pc2",
            &[LanePhase::Pc2, LanePhase::C1, LanePhase::Finalize],
            cpus,
            64,
        )
    };
    let c2 = LaneRequest {
        gpus: 1,
        ..lane("c2", &[LanePhase::C2], cpus * c2_groups, 192)
    };
    if gpus.len() < 2 {
        vec![pc1]
    } else {
        vec![pc1, pc2, c2]
    }
}

/// All layouts.
#[expect(clippy::too_many_lines, reason = "a table")]
pub fn all() -> Vec<Layout> {
    let shape = |packages, numa, groups, cores, threads, memory_gib| Shape {
        packages,
        numa,
        groups,
        cores,
        threads,
        memory_gib,
    };
    let layout = |name, shape: Shape, gpus: &[u32], pc1_gib, c2_groups| Layout {
        name,
        server: shape.server(gpus),
        lanes: sealing(shape, pc1_gib, c2_groups, gpus),
    };
    vec![
        layout(
            "epyc-9654-2s-nps1",
            shape(2, 1, 12, 8, 2, 3072),
            &[0, 1],
            128,
            1,
        ),
        layout(
            "epyc-9654-2s-nps2",
            shape(2, 2, 6, 8, 2, 3072),
            &[1, 3],
            120,
            1,
        ),
        layout(
            "epyc-9654-2s-nps4",
            shape(2, 4, 3, 8, 2, 3072),
            &[2, 6],
            120,
            1,
        ),
        layout(
            "epyc-7763-2s-nps1",
            shape(2, 1, 8, 8, 2, 2048),
            &[0, 1],
            124,
            1,
        ),
        layout(
            "epyc-7763-2s-nps2",
            shape(2, 2, 4, 8, 2, 2048),
            &[1, 3],
            104,
            1,
        ),
        layout(
            "epyc-7763-2s-nps4",
            shape(2, 4, 2, 8, 2, 2048),
            &[1, 6],
            124,
            2,
        ),
        layout(
            "epyc-7h12-1s-nps1",
            shape(1, 1, 16, 4, 2, 1024),
            &[0, 0],
            58,
            1,
        ),
        layout(
            "epyc-7h12-1s-nps4",
            shape(1, 4, 4, 4, 2, 1024),
            &[1, 2],
            64,
            1,
        ),
        layout("threadripper-3990x", shape(1, 1, 16, 4, 2, 512), &[], 33, 0),
        layout(
            "threadripper-pro-5995wx",
            shape(1, 1, 8, 8, 2, 1024),
            &[0, 0],
            150,
            1,
        ),
        layout("xeon-8380-2s", shape(2, 1, 1, 40, 2, 2048), &[], 1000, 0),
        layout(
            "xeon-8380-2s-snc2",
            shape(2, 2, 1, 20, 2, 2048),
            &[2, 3],
            500,
            1,
        ),
        layout(
            "xeon-8480-2s-snc4",
            shape(2, 4, 1, 14, 2, 2048),
            &[3, 7],
            250,
            1,
        ),
    ]
}

/// How well a layout is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packing {
    /// Pods.
    pub pods: usize,
    /// Core groups with a pod.
    pub groups: u64,
    /// Core groups that lanes allow.
    pub groups_allowed: u64,
    /// Bytes that pods have.
    pub memory: u64,
    /// Bytes that lanes allow.
    pub memory_allowed: u64,
}

impl Packing {
    /// The smaller of both shares, in hundredths of a percent.
    pub fn share(&self) -> u64 {
        let share = |used: u64, allowed: u64| {
            u64::try_from(u128::from(used) * 10_000 / u128::from(allowed.max(1))).unwrap_or(0)
        };
        share(self.groups, self.groups_allowed).min(share(self.memory, self.memory_allowed))
    }
}

/// Plans a layout and compares with a bound that knows no NUMA nodes: all fixed pods, and of the lane that takes what
/// is left as many as the whole machine's core groups and memory hold. The planner may fall short of it where NUMA
/// nodes do not divide evenly, and can never exceed it.
pub fn pack(layout: &Layout) -> Packing {
    let plan = place(&layout.server, &layout.lanes, &[]);
    let groups = |pods: &mut dyn Iterator<Item = &PodPlan>| -> u64 {
        pods.map(|p| p.groups.len() as u64).sum()
    };
    let used = groups(&mut plan.pods.iter());
    let memory: u64 = plan.pods.iter().map(|p| p.memory).sum();
    let fixed: Vec<&LaneRequest> = layout.lanes.iter().filter(|l| l.pods.is_some()).collect();
    let fixed_memory: u64 = fixed
        .iter()
        .map(|l| l.memory * u64::from(l.pods.unwrap_or(0)))
        .sum();
    let widest = layout
        .server
        .groups
        .iter()
        .map(CoreGroup::threads)
        .max()
        .unwrap_or(1);
    let fixed_groups: u64 = fixed
        .iter()
        .map(|l| u64::from(l.pods.unwrap_or(0) * l.cpus.div_ceil(widest)))
        .sum();
    let all_groups = layout.server.groups.len() as u64 - 1;
    let all_memory: u64 = layout.server.numa.iter().map(|n| n.memory).sum();
    let fill = layout.lanes.iter().find(|l| l.pods.is_none());
    let more = fill.map_or(0, |l| {
        (all_groups - fixed_groups).min((all_memory - fixed_memory) / l.memory)
    });
    let each = fill.map_or(0, |l| l.memory);
    Packing {
        pods: plan.pods.len(),
        groups: used,
        groups_allowed: fixed_groups + more,
        memory,
        memory_allowed: fixed_memory + more * each,
    }
}
