//! GPUs and huge pages that we were promised, read back: how many, and whether they are next to our CPUs.
//!
//! In: the variable that device plugins set, `/proc/driver/nvidia`, `/sys` with the hugetlb cgroup. The folders are
//! parameters, so that all of it is tested on files.

mod huge;

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::parse_list;

/// What was promised beside CPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Promised {
    /// GPUs.
    pub(crate) gpus: u32,
    /// Size of a huge page and all of them, bytes.
    pub(crate) huge: Option<(u64, u64)>,
}

/// What is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Present {
    /// GPUs with their NUMA nodes, where the machine tells them.
    pub(crate) gpus: Vec<(String, Option<u32>)>,
    /// Huge pages of the promised size.
    pub(crate) huge: huge::Pages,
    /// NUMA nodes of our CPUs.
    pub(crate) nodes: Vec<u32>,
    /// NUMA nodes that have memory, whoever's they are.
    pub(crate) with_memory: Vec<u32>,
}

/// Reads what is there, below `root` (`/` but in tests).
pub(crate) fn find(root: &Path, visible: &str, promised: Promised, cpus: &[u32]) -> Present {
    let nodes = nodes_of(root, cpus);
    let huge = promised
        .huge
        .map_or_else(huge::Pages::default, |(page, _)| {
            huge::Pages::find(root, &nodes, page)
        });
    let with_memory = fs::read_to_string(root.join("sys/devices/system/node/has_memory"))
        .ok()
        .and_then(|text| parse_list(text.trim()))
        .unwrap_or_default();
    let gpus = visible
        .split(',')
        .map(str::trim)
        .filter(|id| !["", "none", "void", "all"].contains(id))
        .map(|id| (id.to_owned(), gpu_node(root, id)))
        .collect();
    Present {
        gpus,
        huge,
        nodes,
        with_memory,
    }
}

/// The promise that was not kept, as a reason and a sentence; none when all were.
pub(crate) fn broken(promised: Promised, present: &Present) -> Option<(&'static str, String)> {
    let count = present.gpus.len();
    if count != promised.gpus as usize && promised.gpus > 0 {
        let text = format!("{count} of {} GPUs are visible", promised.gpus);
        return Some(("GpuMismatch", text));
    }
    let far = |numa: &Option<u32>| numa.is_some_and(|n| !present.nodes.contains(&n));
    if let Some((id, numa)) = present.gpus.iter().find(|(_, numa)| far(numa)) {
        let text = format!(
            "{id} is on NUMA node {}, the cpus are on {:?}: kubelet needs topologyManagerPolicy single-numa-node",
            numa.unwrap_or_default(),
            present.nodes
        );
        return Some(("GpuFar", text));
    }
    let (page, bytes) = promised.huge?;
    let text = present.huge.lack(page, bytes)?;
    Some(("HugePagesMissing", text))
}

/// Memory that is not next to the CPUs, as a sentence: none of the memory nodes that we may use is, or we are held to some
/// of them and not all of these are. Whoever may use all of a machine gets memory where he touches it first.
pub(crate) fn far_memory(memory_nodes: &str, present: &Present) -> Option<String> {
    let may_use = parse_list(memory_nodes)?;
    let with_memory = &present.with_memory;
    let near = |node: &u32| present.nodes.contains(node);
    // Nodes without memory are nobody's fault.
    if !with_memory.iter().any(near) {
        return None;
    }
    let held = with_memory.iter().any(|node| !may_use.contains(node));
    let far = if held {
        !may_use.iter().all(near)
    } else {
        !may_use.iter().any(near)
    };
    far.then(|| {
        format!(
            "the cpus are on NUMA nodes {:?}: kubelet needs topologyManagerPolicy single-numa-node",
            present.nodes
        )
    })
}

/// What to add to the message about CPUs; empty when nothing was promised.
pub(crate) fn words(promised: Promised, present: &Present) -> String {
    let mut words = Vec::new();
    if promised.gpus > 0 {
        let each = present.gpus.iter().map(|(id, numa)| match numa {
            Some(numa) => format!("{id} on NUMA node {numa}"),
            None => format!("{id}, NUMA node not told"),
        });
        words.push(format!(", GPUs {}", each.collect::<Vec<_>>().join("; ")));
    }
    if promised.huge.is_some() {
        words.push(format!(", huge pages {} MiB", present.huge.ours() >> 20));
    }
    words.concat()
}

/// The NUMA nodes that have one of some CPUs.
fn nodes_of(root: &Path, cpus: &[u32]) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(root.join("sys/devices/system/node")) else {
        return Vec::new();
    };
    let mut nodes: Vec<u32> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let number = entry
                .file_name()
                .to_str()?
                .strip_prefix("node")?
                .parse()
                .ok()?;
            let list = fs::read_to_string(entry.path().join("cpulist")).ok()?;
            let has = parse_list(list.trim())?
                .iter()
                .any(|cpu| cpus.contains(cpu));
            has.then_some(number)
        })
        .collect();
    nodes.sort_unstable();
    nodes
}

/// The NUMA node of a GPU by its uuid; none for -1 (virtual machines) and where no driver tells.
fn gpu_node(root: &Path, uuid: &str) -> Option<u32> {
    let gpus = fs::read_dir(root.join("proc/driver/nvidia/gpus")).ok()?;
    let pci = gpus.filter_map(Result::ok).find_map(|gpu| {
        let text = fs::read_to_string(gpu.path().join("information")).ok()?;
        let line = text.lines().find(|l| l.starts_with("GPU UUID"))?;
        let ours = line.rsplit(char::is_whitespace).next()? == uuid;
        ours.then(|| gpu.file_name())
    })?;
    number(root.join("sys/bus/pci/devices").join(pci).join("numa_node"))
}

fn number<N: std::str::FromStr>(path: PathBuf) -> Option<N> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn machine() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        for (node, cpus) in [(0, "0-3\n"), (1, "4-7\n")] {
            let base = format!("sys/devices/system/node/node{node}");
            put(&format!("{base}/cpulist"), cpus);
            for file in ["nr_hugepages", "free_hugepages"] {
                let pages = format!("{base}/hugepages/hugepages-1048576kB/{file}");
                put(&pages, "64\n");
            }
            let pci = format!("0000:4{node}:00.0");
            let text = format!("Model: \t\t A\nGPU UUID: \t GPU-{node}\n");
            put(&format!("proc/driver/nvidia/gpus/{pci}/information"), &text);
            put(
                &format!("sys/bus/pci/devices/{pci}/numa_node"),
                &format!("{node}\n"),
            );
        }
        dir
    }

    fn found(visible: &str, promised: Promised) -> Present {
        find(machine().path(), visible, promised, &[5, 6])
    }

    #[test]
    fn a_near_gpu_and_near_huge_pages_keep_the_promise() {
        let promised = Promised {
            gpus: 1,
            huge: Some((GIB, 64 * GIB)),
        };
        let present = found("GPU-1", promised);
        assert_eq!(broken(promised, &present), None);
        assert_eq!(
            words(promised, &present),
            ", GPUs GPU-1 on NUMA node 1, huge pages 65536 MiB"
        );
    }

    #[test]
    fn a_far_or_missing_gpu_breaks_it() {
        let promised = Promised {
            gpus: 1,
            huge: None,
        };
        assert_eq!(
            broken(promised, &found("GPU-0", promised)).unwrap().0,
            "GpuFar"
        );
        assert_eq!(
            broken(promised, &found("none", promised)).unwrap().0,
            "GpuMismatch"
        );
        // One whose node nobody tells is not held against kubelet.
        assert_eq!(broken(promised, &found("GPU-x", promised)), None);
    }

    #[test]
    fn huge_pages_of_the_far_node_do_not_count() {
        let promised = Promised {
            gpus: 0,
            huge: Some((GIB, 65 * GIB)),
        };
        let (reason, text) = broken(promised, &found("", promised)).unwrap();
        assert_eq!(reason, "HugePagesMissing");
        assert!(
            text.contains("65536 MiB") && text.contains("66560 MiB"),
            "{text}"
        );
    }

    #[test]
    fn memory_is_far_when_none_is_near_or_when_we_are_held_to_some_that_is_not() {
        let far = |may_use: &str, nodes: &[u32], with_memory: &[u32]| {
            let present = Present {
                nodes: nodes.to_vec(),
                with_memory: with_memory.to_vec(),
                ..Present::default()
            };
            far_memory(may_use, &present)
        };
        // Held to the near node, or to nothing: the first touch decides.
        assert_eq!(far("1", &[1], &[0, 1]), None);
        assert_eq!(far("0-1", &[1], &[0, 1]), None);
        assert_eq!(far("0-1", &[0, 1], &[0, 1, 2, 3]), None, "both are its own");
        assert_eq!(far("1", &[0, 1], &[0, 1]), None);
        // Held to a far one, alone or beside the near one.
        let why = far("0", &[1], &[0, 1]).unwrap();
        assert!(why.contains("NUMA nodes [1]"), "{why}");
        assert!(far("0-1", &[1], &[0, 1, 2, 3]).is_some());
        // CPUs of a node without memory, and a kernel that does not tell.
        assert_eq!(far("0", &[1], &[0]), None);
        assert_eq!(far("unknown", &[1], &[0, 1]), None);
        assert_eq!(far("0", &[1], &[]), None);
    }

    #[test]
    fn nodes_with_memory_are_those_that_the_kernel_lists() {
        let machine = machine();
        let list = machine.path().join("sys/devices/system/node/has_memory");
        fs::write(list, "0-1\n").unwrap();
        let present = find(machine.path(), "", Promised::default(), &[5, 6]);
        assert_eq!((present.nodes, present.with_memory), (vec![1], vec![0, 1]));
    }
}
