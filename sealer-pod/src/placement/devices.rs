//! GPUs and huge pages that we were promised, read back: how many, and whether they are next to our CPUs.
//!
//! In: the variable that device plugins set, `/proc/driver/nvidia`, `/sys`. The folders are parameters, so that all of
//! it is tested on files.

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
    /// Bytes of huge pages of the promised size on the NUMA nodes of our CPUs.
    pub(crate) huge: u64,
    /// NUMA nodes of our CPUs.
    pub(crate) nodes: Vec<u32>,
}

/// Reads what is there, below `root` (`/` but in tests).
pub(crate) fn find(root: &Path, visible: &str, promised: Promised, cpus: &[u32]) -> Present {
    let nodes = nodes_of(root, cpus);
    let huge = promised.huge.map_or(0, |(page, _)| {
        nodes
            .iter()
            .map(|n| huge_pages(root, *n, page) * page)
            .sum()
    });
    let gpus = visible
        .split(',')
        .map(str::trim)
        .filter(|id| !["", "none", "void", "all"].contains(id))
        .map(|id| (id.to_owned(), gpu_node(root, id)))
        .collect();
    Present { gpus, huge, nodes }
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
    (present.huge < bytes).then(|| {
        let text = format!(
            "{} MiB of huge pages of {} KiB on the NUMA nodes of the cpus, {} MiB were promised",
            present.huge >> 20,
            page >> 10,
            bytes >> 20
        );
        ("HugePagesMissing", text)
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
        words.push(format!(", huge pages {} MiB", present.huge >> 20));
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

fn huge_pages(root: &Path, node: u32, page: u64) -> u64 {
    let file = format!(
        "sys/devices/system/node/node{node}/hugepages/hugepages-{}kB/nr_hugepages",
        page >> 10
    );
    number(root.join(file)).unwrap_or(0)
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
            put(
                &format!("{base}/hugepages/hugepages-1048576kB/nr_hugepages"),
                "64\n",
            );
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
}
