//! What a server has, as far as placement cares.

use std::collections::BTreeMap;

use crate::pack::PodPlan;

/// A server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Server {
    /// NUMA nodes.
    pub numa: Vec<Numa>,
    /// Core groups: cores that share one L3 cache, in the order of their ids.
    pub groups: Vec<CoreGroup>,
    /// GPUs, those that fail for a while included.
    pub gpus: Vec<Gpu>,
    /// CPUs that pods may have in all; none when there is no such bound.
    pub cpu_limit: Option<u32>,
}

/// One NUMA node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numa {
    /// The kernel's number.
    pub id: u32,
    /// The package (socket) that it belongs to.
    pub package: u32,
    /// Bytes that pods may have, huge pages not counted.
    pub memory: u64,
    /// Huge pages: how many of each size in bytes.
    pub huge: BTreeMap<u64, u64>,
}

/// Cores that share one L3 cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CoreGroup {
    /// Number on this server.
    pub id: u32,
    /// NUMA node.
    pub numa: u32,
    /// Online cores, each with its hardware threads.
    pub cores: Vec<Vec<u32>>,
}

impl CoreGroup {
    /// All hardware threads, in order.
    pub fn cpus(&self) -> Vec<u32> {
        let mut cpus: Vec<u32> = self.cores.iter().flatten().copied().collect();
        cpus.sort_unstable();
        cpus
    }

    /// Number of hardware threads.
    pub fn threads(&self) -> u32 {
        u32::try_from(self.cores.iter().map(Vec::len).sum::<usize>()).unwrap_or(u32::MAX)
    }
}

/// One GPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gpu {
    /// Its uuid.
    pub id: String,
    /// NUMA node; none when the machine does not say.
    pub numa: Option<u32>,
    /// Bytes of memory; 0 when unknown.
    pub memory: u64,
}

impl Server {
    /// Takes the memory of a pod, the first of its NUMA nodes first, and the number of its CPUs out of what others may
    /// get. Which CPUs these are, [`Held`](crate::Held) tells.
    pub fn book(&mut self, pod: &PodPlan) {
        let cpus = u32::try_from(pod.cpus.len()).unwrap_or(u32::MAX);
        self.cpu_limit = self.cpu_limit.map(|all| all.saturating_sub(cpus));
        let mut memory = pod.memory;
        for numa in self.numa.iter_mut().filter(|n| pod.numa.contains(&n.id)) {
            let here = memory.min(numa.memory);
            numa.memory -= here;
            memory -= here;
        }
    }
}

/// Writes CPUs as the kernel does: `0-3,8`. The numbers must be in order.
pub fn write_cpus(cpus: &[u32]) -> String {
    let mut text = String::new();
    let mut at = 0;
    while at < cpus.len() {
        let first = cpus[at];
        let mut last = first;
        while cpus.get(at + 1) == Some(&(last + 1)) {
            at += 1;
            last += 1;
        }
        at += 1;
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(&first.to_string());
        if last > first {
            text.push('-');
            text.push_str(&last.to_string());
        }
    }
    text
}

/// Reads CPUs as the kernel writes them. None when the text is of another form or names a CPU above 65 535.
pub fn parse_cpus(text: &str) -> Option<Vec<u32>> {
    let mut all = Vec::new();
    for part in text.trim().split(',').filter(|p| !p.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if last > u32::from(u16::MAX) || first > last {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}
