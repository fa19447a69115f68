//! From what the node's agent reports, and what kubelet gives away, to a [`Server`].

use std::collections::BTreeMap;

use filstar_crds::Inventory;

use crate::server::{CoreGroup, Gpu, Numa, Server, parse_cpus};

/// What kubelet gives to pods. Without a cluster there is no such bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocatable {
    /// Whole CPUs.
    pub cpus: u32,
    /// Bytes of memory, huge pages not counted.
    pub memory: u64,
    /// GPUs that device plugins offer.
    pub gpus: u32,
}

impl Server {
    /// A server as its agent sees it. CPUs that kubelet keeps for the system are left out; memory that it keeps is
    /// taken from the first NUMA nodes, as its memory manager is usually told.
    pub fn of(inventory: &Inventory, allocatable: Option<Allocatable>) -> Self {
        let reserved = inventory.kubelet.reserved_cpus.as_deref();
        let reserved = reserved.and_then(parse_cpus).unwrap_or_default();
        let groups = inventory.core_groups.iter().map(|g| CoreGroup {
            id: g.id,
            numa: g.numa_node,
            cores: g
                .cores
                .iter()
                .filter(|core| !core.iter().any(|cpu| reserved.contains(cpu)))
                .cloned()
                .collect(),
        });
        let numa = inventory.numa_nodes.iter().map(|n| {
            let huge: BTreeMap<u64, u64> = n.hugepages.iter().map(|h| (h.size, h.total)).collect();
            let pages: u64 = huge.iter().map(|(size, n)| size.saturating_mul(*n)).sum();
            let package = inventory.core_groups.iter().find(|g| g.numa_node == n.id);
            Numa {
                id: n.id,
                package: package.map_or(0, |g| g.package),
                memory: n.memory.saturating_sub(pages),
                huge,
            }
        });
        // One that fails closes the pod that has it; the others keep their places meanwhile.
        let gpus = inventory.gpus.iter().map(|g| Gpu {
            id: g.uuid.clone(),
            numa: g.numa_node,
            memory: g.memory,
        });
        let mut server = Self {
            numa: numa.collect(),
            groups: groups.collect(),
            gpus: gpus.collect(),
            cpu_limit: None,
        };
        server.groups.sort_by_key(|g| g.id);
        if let Some(allocatable) = allocatable {
            server.bound(allocatable);
            if inventory.gpus.is_empty() {
                // Where NVML shows none, the device plugin's word has to do.
                server.gpus = (0..allocatable.gpus).map(unnamed).collect();
            } else {
                // Some device plugins take back those that fail, others do not.
                let failed = inventory.gpus.iter().filter(|g| !g.health.usable()).count();
                let offered = failed.saturating_add(allocatable.gpus as usize);
                server.gpus.truncate(offered);
            }
        }
        server
    }

    /// A node without an agent: CPUs, memory and GPUs are only counted.
    pub fn counted(allocatable: Allocatable) -> Self {
        Self {
            numa: vec![Numa {
                memory: allocatable.memory,
                ..Numa::default()
            }],
            groups: vec![CoreGroup {
                cores: (0..allocatable.cpus).map(|cpu| vec![cpu]).collect(),
                ..CoreGroup::default()
            }],
            gpus: (0..allocatable.gpus).map(unnamed).collect(),
            cpu_limit: None,
        }
    }

    fn bound(&mut self, allocatable: Allocatable) {
        self.cpu_limit = Some(allocatable.cpus);
        let all: u64 = self.numa.iter().map(|n| n.memory).sum();
        let mut kept = all.saturating_sub(allocatable.memory);
        for numa in &mut self.numa {
            let here = kept.min(numa.memory);
            numa.memory -= here;
            kept -= here;
        }
    }
}

fn unnamed(number: u32) -> Gpu {
    Gpu {
        id: format!("gpu {number}"),
        ..Gpu::default()
    }
}
