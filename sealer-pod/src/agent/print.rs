//! An inventory as text for people: what `sealer-pod agent --print` shows.

use filstar_crds::{CoreGroup, Gpu, Inventory, NumaNode};

use crate::placement::to_list;

/// The whole inventory.
pub(crate) fn inventory(inventory: &Inventory) -> String {
    let mut lines = Vec::new();
    let cores: usize = inventory.core_groups.iter().map(|g| g.cores.len()).sum();
    let threads: usize = inventory
        .core_groups
        .iter()
        .flat_map(|g| &g.cores)
        .map(Vec::len)
        .sum();
    lines.push(format!(
        "{}, {}, {}, {}, {}",
        count(inventory.packages as usize, "package"),
        count(inventory.numa_nodes.len(), "NUMA node"),
        count(inventory.core_groups.len(), "core group"),
        count(cores, "core"),
        count(threads, "thread"),
    ));
    if !inventory.kernel.is_empty() {
        let features = inventory.cpu_features.join(" ");
        lines.push(format!(
            "kernel {}, boot {}, features: {features}",
            inventory.kernel, inventory.boot_id
        ));
    }
    for node in &inventory.numa_nodes {
        lines.push(numa_node(node));
        for group in inventory
            .core_groups
            .iter()
            .filter(|g| g.numa_node == node.id)
        {
            lines.push(core_group(group));
        }
        for gpu in inventory
            .gpus
            .iter()
            .filter(|g| g.numa_node == Some(node.id))
        {
            lines.push(format!("  {}", self::gpu(gpu)));
        }
    }
    let far: Vec<_> = inventory
        .gpus
        .iter()
        .filter(|g| g.numa_node.is_none())
        .collect();
    if !far.is_empty() {
        lines.push("next to no NUMA node".to_owned());
        for gpu in far {
            lines.push(format!("  {}", self::gpu(gpu)));
        }
    }
    for disk in &inventory.scratch {
        let why = disk
            .why
            .as_ref()
            .map_or_else(String::new, |w| format!(": {w}"));
        let (free, capacity) = (size(disk.free), size(disk.capacity));
        lines.push(format!(
            "scratch {}: {:?}, {free} of {capacity} free{why}",
            disk.path, disk.kind
        ));
    }
    lines.push(String::new());
    lines.join("\n")
}

fn numa_node(node: &NumaNode) -> String {
    let cpus = if node.cpus.is_empty() {
        "none"
    } else {
        &node.cpus
    };
    let pages = node.hugepages.iter().filter(|p| p.total > 0).map(|p| {
        let size = size(p.size);
        format!(", {} of {} huge pages of {size} free", p.free, p.total)
    });
    format!(
        "NUMA node {}: cpus {cpus}, memory {}{}",
        node.id,
        size(node.memory),
        pages.collect::<Vec<_>>().concat()
    )
}

fn core_group(group: &CoreGroup) -> String {
    let first: Vec<u32> = group
        .cores
        .iter()
        .filter_map(|c| c.first().copied())
        .collect();
    let mut others: Vec<u32> = group
        .cores
        .iter()
        .flat_map(|c| c.iter().skip(1).copied())
        .collect();
    others.sort_unstable();
    let siblings = if others.is_empty() {
        "no siblings".to_owned()
    } else {
        format!("siblings {}", to_list(&others))
    };
    let l3 = if group.l3 == 0 {
        "no L3".to_owned()
    } else {
        format!("L3 {}", size(group.l3))
    };
    format!(
        "  group {}: package {}, {}, {l3}, cpus {}, {siblings}",
        group.id,
        group.package,
        count(group.cores.len(), "core"),
        to_list(&first),
    )
}

fn gpu(gpu: &Gpu) -> String {
    let memory = if gpu.memory == 0 {
        String::new()
    } else {
        format!(", {}", size(gpu.memory))
    };
    let why = gpu
        .why
        .as_ref()
        .map_or_else(String::new, |w| format!(" ({w})"));
    format!(
        "GPU {} at {}: {}{memory}, {:?}{why}",
        gpu.uuid, gpu.pci, gpu.model, gpu.health
    )
}

fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// A size with one digit behind the point at most.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut unit = 0;
    let mut tenths = u128::from(bytes) * 10;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    match tenths % 10 {
        0 => format!("{} {}", tenths / 10, UNITS[unit]),
        rest => format!("{}.{rest} {}", tenths / 10, UNITS[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(32 << 20), "32 MiB");
        assert_eq!(size(u64::MAX), "16383.9 PiB");
    }

    #[test]
    fn siblings_are_told_apart_from_first_threads() {
        let group = CoreGroup {
            id: 3,
            cores: vec![vec![4, 20], vec![5, 21]],
            l3: 32 << 20,
            ..CoreGroup::default()
        };
        assert_eq!(
            core_group(&group),
            "  group 3: package 0, 2 cores, L3 32 MiB, cpus 4-5, siblings 20-21"
        );
    }
}
