//! What a machine is made of, by hwloc: packages, NUMA nodes, groups of cores with one L3, and GPUs of an export.
//!
//! In: this machine, or the XML that `lstopo` wrote of any machine. Out: the part of an [`Inventory`] that hwloc
//! knows. [`inventory`] is a pure function of the topology.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::Context;
use filstar_crds::{CoreGroup, Gpu, Inventory, NumaNode};
use hwlocality::{
    Topology,
    cpu::cpuset::CpuSet,
    object::{TopologyObject, attributes::ObjectAttributes, types::ObjectType},
    topology::builder::{BuildFlags, TypeFilter},
};

use crate::placement::to_list;

/// NVIDIA, as a PCI vendor.
const NVIDIA: u16 = 0x10de;
/// High byte of the PCI class of display and 3D controllers.
const DISPLAY: u16 = 0x03;

/// This machine, also where our own cgroup may not run.
///
/// # Errors
/// What hwloc says.
pub(crate) fn of_this_machine() -> anyhow::Result<Topology> {
    Topology::builder()
        .with_flags(BuildFlags::INCLUDE_DISALLOWED)
        .context("hwloc does not take flags")?
        .build()
        .context("hwloc cannot read this machine")
}

/// The machine of which `lstopo` wrote this file. What its owner disallowed is left out.
///
/// # Errors
/// When the file is no export of hwloc.
pub(crate) fn of_file(path: &Path) -> anyhow::Result<Topology> {
    let read = || -> anyhow::Result<Topology> {
        // hwlocality panics when hwloc cannot open the file.
        let xml = std::fs::read_to_string(path)?;
        let builder = Topology::builder().from_xml(&xml)?;
        Ok(builder
            .with_io_type_filter(TypeFilter::KeepImportant)?
            .build()?)
    };
    read().with_context(|| {
        format!(
            "{} is not an XML file that lstopo wrote: make one with `lstopo machine.xml`",
            path.display()
        )
    })
}

/// What hwloc knows of an inventory; all else is empty.
pub(crate) fn inventory(topology: &Topology) -> Inventory {
    let packages = topology.objects_with_type(ObjectType::Package).count();
    let nodes = Nodes::of(topology);
    Inventory {
        packages: u32::try_from(packages).unwrap_or(u32::MAX).max(1),
        core_groups: core_groups(topology, &nodes),
        gpus: gpus(topology, &nodes),
        numa_nodes: nodes.list,
        ..Inventory::default()
    }
}

/// NUMA nodes, and which CPU is next to which.
struct Nodes {
    list: Vec<NumaNode>,
    of_cpu: BTreeMap<u32, u32>,
}

impl Nodes {
    fn of(topology: &Topology) -> Self {
        let mut objects: Vec<_> = topology.objects_with_type(ObjectType::NUMANode).collect();
        objects.sort_by_key(|o| o.os_index());
        let mut nodes = Self {
            list: Vec::new(),
            of_cpu: BTreeMap::new(),
        };
        for object in objects {
            let id = number(object.os_index());
            // Memory without CPUs is near the CPUs of another node: they stay that node's.
            let cpus: Vec<u32> = cpus_of(object)
                .into_iter()
                .filter(|cpu| !nodes.of_cpu.contains_key(cpu))
                .collect();
            nodes.of_cpu.extend(cpus.iter().map(|cpu| (*cpu, id)));
            let memory = match object.attributes() {
                Some(ObjectAttributes::NUMANode(node)) => node.local_memory(),
                _ => None,
            };
            nodes.list.push(NumaNode {
                id,
                cpus: to_list(&cpus),
                memory: memory.map_or(0, std::num::NonZero::get),
                hugepages: Vec::new(),
            });
        }
        nodes
    }
}

/// What tells groups apart. An L3 that spans NUMA nodes (sub-NUMA clusters) is one group for each.
type Key = (Option<usize>, u32, u32);

fn core_groups(topology: &Topology, nodes: &Nodes) -> Vec<CoreGroup> {
    let mut cores: Vec<_> = topology.objects_with_type(ObjectType::Core).collect();
    if cores.is_empty() {
        cores = topology.objects_with_type(ObjectType::PU).collect();
    }
    let mut groups: Vec<(Key, CoreGroup)> = Vec::new();
    let mut shares: BTreeMap<usize, u64> = BTreeMap::new();
    for core in cores {
        let threads = cpus_of(core);
        let Some(first) = threads.first() else {
            continue;
        };
        let l3 = core.first_ancestor_with_type(ObjectType::L3Cache);
        let package = core.first_ancestor_with_type(ObjectType::Package);
        let node = nodes.of_cpu.get(first).copied().unwrap_or(0);
        let key = (
            l3.map(TopologyObject::logical_index),
            node,
            package.map_or(0, |p| number(Some(p.logical_index()))),
        );
        if let Some((_, group)) = groups.iter_mut().find(|(k, _)| *k == key) {
            group.cores.push(threads);
            continue;
        }
        if let Some(index) = key.0 {
            *shares.entry(index).or_default() += 1;
        }
        let group = CoreGroup {
            id: number(Some(groups.len())),
            package: key.2,
            numa_node: node,
            cores: vec![threads],
            l3: l3.map_or(0, cache_size),
        };
        groups.push((key, group));
    }
    for ((l3, ..), group) in &mut groups {
        let shares = l3.and_then(|l3| shares.get(&l3)).copied().unwrap_or(1);
        group.l3 /= shares.max(1);
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

/// GPUs as far as an export shows them; on this machine NVML is asked instead.
fn gpus(topology: &Topology, nodes: &Nodes) -> Vec<Gpu> {
    let devices = topology.objects_with_type(ObjectType::PCIDevice);
    devices.filter_map(|device| gpu(device, nodes)).collect()
}

fn gpu(device: &TopologyObject, nodes: &Nodes) -> Option<Gpu> {
    let Some(ObjectAttributes::PCIDevice(pci)) = device.attributes() else {
        return None;
    };
    if pci.vendor_id() != NVIDIA || pci.class_id() >> 8 != DISPLAY {
        return None;
    }
    let address = format!(
        "{:04x}:{:02x}:{:02x}.{:x}",
        pci.domain(),
        pci.bus_id(),
        pci.bus_device(),
        pci.function()
    );
    let told = |key: &str| {
        let devices = std::iter::once(device).chain(device.io_children());
        let text = devices
            .filter_map(|d| d.info(key))
            .map(|t| t.to_string_lossy().into_owned());
        text.into_iter().find(|t| !t.is_empty())
    };
    let near: BTreeSet<u32> = device
        .first_non_io_ancestor()
        .map(cpus_of)
        .unwrap_or_default()
        .iter()
        .filter_map(|cpu| nodes.of_cpu.get(cpu).copied())
        .collect();
    let kib = told("CUDAGlobalMemorySize").and_then(|t| t.parse::<u64>().ok());
    Some(Gpu {
        uuid: told("NVIDIAUUID").unwrap_or_else(|| format!("pci-{address}")),
        model: told("GPUModel")
            .or_else(|| told("PCIDevice"))
            .unwrap_or_else(|| format!("NVIDIA {:04x}", pci.device_id())),
        memory: kib.unwrap_or(0).saturating_mul(1024),
        pci: address,
        // Below more than one node it is next to none of them.
        numa_node: near.first().copied().filter(|_| near.len() == 1),
        ..Gpu::default()
    })
}

fn cache_size(object: &TopologyObject) -> u64 {
    match object.attributes() {
        Some(ObjectAttributes::Cache(cache)) => cache.size().map_or(0, std::num::NonZero::get),
        _ => 0,
    }
}

/// The CPUs of an object in rising order: of a core, the first thread comes first.
fn cpus_of(object: &TopologyObject) -> Vec<u32> {
    let numbers = |set: &CpuSet| -> Vec<u32> {
        set.iter_set()
            .map(|cpu| number(Some(usize::from(cpu))))
            .collect()
    };
    object.cpuset().map_or_else(Vec::new, |set| numbers(&set))
}

fn number(index: Option<usize>) -> u32 {
    index.and_then(|i| u32::try_from(i).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests;
