//! What the kernel says of this node beside its topology: boot, features, huge pages, GPUs on the bus, and what
//! kubelet's managers show of themselves.
//!
//! Everything is read below a root, which is `/` but in tests. What cannot be read is absent, never guessed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use filstar_crds::{HugePages, KubeletPolicies};
use serde::Deserialize;

use crate::placement::parse_list;

/// Features of the processor that the engine's kernels ask for.
const ENGINE_FEATURES: [&str; 11] = [
    "avx2",
    "avx512_vbmi2",
    "avx512bw",
    "avx512dq",
    "avx512f",
    "avx512ifma",
    "avx512vl",
    "pdpe1gb",
    "sha_ni",
    "sse4_1",
    "ssse3",
];

/// A file system to read from.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    root: PathBuf,
}

impl Host {
    /// Reads below `root`.
    pub(crate) fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn read(&self, path: &str) -> Option<String> {
        let text = fs::read_to_string(self.root.join(path)).ok()?;
        Some(text.trim().to_owned())
    }

    /// The kernel's id of this boot.
    pub(crate) fn boot_id(&self) -> String {
        self.read("proc/sys/kernel/random/boot_id")
            .unwrap_or_default()
    }

    /// The kernel's release.
    pub(crate) fn kernel(&self) -> String {
        self.read("proc/sys/kernel/osrelease").unwrap_or_default()
    }

    /// Features that the engine asks for and the processor has.
    pub(crate) fn cpu_features(&self) -> Vec<String> {
        let text = self.read("proc/cpuinfo").unwrap_or_default();
        let flags = text.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            (name.trim() == "flags").then_some(value)
        });
        let has: Vec<&str> = flags.unwrap_or_default().split_whitespace().collect();
        let wanted = ENGINE_FEATURES.iter().filter(|f| has.contains(f));
        wanted.map(|f| (*f).to_owned()).collect()
    }

    /// Changes when CPUs or memory come or go: then the topology is read anew.
    pub(crate) fn layout(&self) -> [Option<String>; 2] {
        let devices = "sys/devices/system";
        [
            self.read(&format!("{devices}/cpu/online")),
            self.read(&format!("{devices}/node/online")),
        ]
    }

    /// Huge pages of one NUMA node; of the whole machine where the kernel knows no nodes.
    pub(crate) fn hugepages(&self, node: u32) -> Vec<HugePages> {
        let of_node = format!("sys/devices/system/node/node{node}/hugepages");
        let folder = if node == 0 && !self.root.join(&of_node).exists() {
            "sys/kernel/mm/hugepages".to_owned()
        } else {
            of_node
        };
        let Ok(entries) = fs::read_dir(self.root.join(&folder)) else {
            return Vec::new();
        };
        let mut all: Vec<HugePages> = entries
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                let kib: u64 = name
                    .strip_prefix("hugepages-")?
                    .strip_suffix("kB")?
                    .parse()
                    .ok()?;
                let count = |what: &str| -> Option<u64> {
                    self.read(&format!("{folder}/{name}/{what}"))?.parse().ok()
                };
                Some(HugePages {
                    size: kib.checked_mul(1024)?,
                    total: count("nr_hugepages")?,
                    free: count("free_hugepages")?,
                })
            })
            .collect();
        all.sort_by_key(|pages| pages.size);
        all
    }

    /// NUMA node of a PCI device; none when the machine does not say.
    pub(crate) fn numa_node_of(&self, pci: &str) -> Option<u32> {
        let text = self.read(&format!("sys/bus/pci/devices/{pci}/numa_node"))?;
        text.parse::<i64>().ok().and_then(|n| u32::try_from(n).ok())
    }

    /// NVIDIA's display and 3D controllers on the bus, with or without a driver.
    pub(crate) fn gpus_on_the_bus(&self) -> usize {
        let Ok(entries) = fs::read_dir(self.root.join("sys/bus/pci/devices")) else {
            return 0;
        };
        let is_gpu = |name: &str| {
            let of = |what: &str| self.read(&format!("sys/bus/pci/devices/{name}/{what}"));
            of("vendor").as_deref() == Some("0x10de")
                && of("class").is_some_and(|c| c.starts_with("0x03"))
        };
        let names = entries
            .flatten()
            .filter_map(|e| e.file_name().into_string().ok());
        names.filter(|name| is_gpu(name)).count()
    }

    /// What kubelet's managers are set to: by its configuration where the chart was told where that is, else by
    /// what they did to our own cgroup.
    pub(crate) fn kubelet(&self, config: Option<&Path>) -> KubeletPolicies {
        let from_file = config.and_then(|path| read_config(&fs::read_to_string(path).ok()?));
        from_file.unwrap_or_else(|| KubeletPolicies {
            cpu_manager_policy: self.cpu_manager().map(str::to_owned),
            ..KubeletPolicies::default()
        })
    }

    /// The static policy gives every container a cpuset, also those on shared CPUs; the policy none gives no cpuset.
    fn cpu_manager(&self) -> Option<&'static str> {
        if let Some(own) = self.read("sys/fs/cgroup/cpuset.cpus") {
            return Some(if own.is_empty() { "none" } else { "static" });
        }
        // Version 1 of cgroups hands the parent's CPUs down: only fewer than all tell something.
        let own = parse_list(&self.read("sys/fs/cgroup/cpuset/cpuset.cpus")?)?;
        let online = parse_list(&self.read("sys/devices/system/cpu/online")?)?;
        (own.len() < online.len()).then_some("static")
    }
}

/// The part of kubelet's configuration that places pods. Kubelet's own defaults stand for what it does not say.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct KubeletConfig {
    kind: String,
    cpu_manager_policy: String,
    memory_manager_policy: String,
    topology_manager_policy: String,
    topology_manager_scope: String,
    #[serde(rename = "reservedSystemCPUs")]
    reserved_cpus: Option<String>,
}

impl Default for KubeletConfig {
    fn default() -> Self {
        Self {
            kind: String::new(),
            cpu_manager_policy: "none".into(),
            memory_manager_policy: "None".into(),
            topology_manager_policy: "none".into(),
            topology_manager_scope: "container".into(),
            reserved_cpus: None,
        }
    }
}

fn read_config(text: &str) -> Option<KubeletPolicies> {
    let config: KubeletConfig = serde_yaml_ng::from_str(text).ok()?;
    let short = |text: String| Some(text.chars().take(32).collect());
    (config.kind == "KubeletConfiguration").then(|| KubeletPolicies {
        cpu_manager_policy: short(config.cpu_manager_policy),
        memory_manager_policy: short(config.memory_manager_policy),
        topology_manager_policy: short(config.topology_manager_policy),
        topology_manager_scope: short(config.topology_manager_scope),
        reserved_cpus: config
            .reserved_cpus
            .filter(|c| !c.is_empty() && c.len() <= 1024),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host with these files.
    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let host = Host::at(dir.path());
        (dir, host)
    }

    #[test]
    fn huge_pages_are_those_of_the_node() {
        let node = "sys/devices/system/node/node1/hugepages";
        let (_dir, host) = host(&[
            (&format!("{node}/hugepages-2048kB/nr_hugepages"), "512\n"),
            (&format!("{node}/hugepages-2048kB/free_hugepages"), "500\n"),
            (&format!("{node}/hugepages-1048576kB/nr_hugepages"), "64\n"),
            (&format!("{node}/hugepages-1048576kB/free_hugepages"), "0\n"),
            (
                "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
                "7\n",
            ),
            (
                "sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages",
                "7\n",
            ),
        ]);
        let pages = host.hugepages(1);
        assert_eq!(
            pages
                .iter()
                .map(|p| (p.size, p.total, p.free))
                .collect::<Vec<_>>(),
            [(2 << 20, 512, 500), (1 << 30, 64, 0)]
        );
        assert_eq!(host.hugepages(2), [], "another node has none");
        assert_eq!(host.hugepages(0)[0].total, 7, "a kernel without nodes");
    }

    #[test]
    fn features_are_those_that_the_engine_asks_for() {
        let text =
            "processor : 0\nflags\t\t: fpu avx2 sha_ni ssse3\n\nprocessor : 1\nflags : fpu\n";
        let (_dir, host) = host(&[("proc/cpuinfo", text)]);
        assert_eq!(host.cpu_features(), ["avx2", "sha_ni", "ssse3"]);
    }

    #[test]
    fn gpus_are_seen_on_the_bus_without_a_driver() {
        let bus = "sys/bus/pci/devices";
        let (_dir, host) = host(&[
            (&format!("{bus}/0000:41:00.0/vendor"), "0x10de\n"),
            (&format!("{bus}/0000:41:00.0/class"), "0x030200\n"),
            (&format!("{bus}/0000:41:00.0/numa_node"), "1\n"),
            (&format!("{bus}/0000:41:00.1/vendor"), "0x10de\n"),
            (&format!("{bus}/0000:41:00.1/class"), "0x040300\n"),
            (&format!("{bus}/0000:00:02.0/vendor"), "0x8086\n"),
            (&format!("{bus}/0000:00:02.0/class"), "0x030000\n"),
            (&format!("{bus}/0000:00:02.0/numa_node"), "-1\n"),
        ]);
        assert_eq!(host.gpus_on_the_bus(), 1);
        assert_eq!(host.numa_node_of("0000:41:00.0"), Some(1));
        assert_eq!(host.numa_node_of("0000:00:02.0"), None);
    }

    #[test]
    fn the_cpu_manager_shows_in_our_own_cgroup() {
        let v2 = "sys/fs/cgroup/cpuset.cpus";
        let (v1, online) = (
            "sys/fs/cgroup/cpuset/cpuset.cpus",
            "sys/devices/system/cpu/online",
        );
        // The temporary folder must outlive the question.
        let ask = |files: &[(&str, &str)]| {
            let (_dir, host) = host(files);
            host.kubelet(None).cpu_manager_policy
        };
        assert_eq!(ask(&[(v2, "\n")]).as_deref(), Some("none"));
        assert_eq!(ask(&[(v2, "0-3\n")]).as_deref(), Some("static"));
        assert_eq!(
            ask(&[(v1, "0-2\n"), (online, "0-3\n")]).as_deref(),
            Some("static")
        );
        assert_eq!(ask(&[(v1, "0-3\n"), (online, "0-3\n")]), None);
        assert_eq!(ask(&[]), None);
    }

    #[test]
    fn kubelets_configuration_says_more() {
        let text = "kind: KubeletConfiguration\ncpuManagerPolicy: static\n\
                    topologyManagerPolicy: single-numa-node\nreservedSystemCPUs: 0,16\nport: 10250\n";
        let policies = read_config(text).unwrap();
        assert_eq!(
            policies.topology_manager_policy.as_deref(),
            Some("single-numa-node")
        );
        assert_eq!(
            policies.topology_manager_scope.as_deref(),
            Some("container")
        );
        assert_eq!(policies.reserved_cpus.as_deref(), Some("0,16"));
        assert_eq!(read_config("kind: ConfigMap\n"), None);
        assert_eq!(read_config("}"), None);
    }
}
