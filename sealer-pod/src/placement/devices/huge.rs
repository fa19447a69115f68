//! Huge pages that this pod may have: what its own cgroup allows and uses, and what is free next to its CPUs.
//!
//! The number of pages that a node has says nothing about ours: other pods may use them. Where the kernel keeps no account for
//! cgroups, the node's number is all that there is.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Huge pages of one size, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pages {
    /// Free, or in use by this very pod, on the NUMA nodes of its CPUs.
    near: u64,
    /// What its cgroup allows; none where there is no account or no limit.
    limit: Option<u64>,
}

impl Pages {
    /// Reads what is there, below `root`, on some NUMA nodes.
    pub(super) fn find(root: &Path, nodes: &[u32], page: u64) -> Self {
        let of_nodes = |file: &str| -> u64 {
            let pages = nodes.iter().filter_map(|node| {
                let folder = format!(
                    "sys/devices/system/node/node{node}/hugepages/hugepages-{}kB",
                    page >> 10
                );
                super::number::<u64>(root.join(folder).join(file))
            });
            pages.sum::<u64>() * page
        };
        let Some(account) = Account::of(root, page) else {
            return Self {
                near: of_nodes("nr_hugepages"),
                limit: None,
            };
        };
        // Tasks take and give back pages while we read: what goes from one account to the other is seen in one of them.
        let before = of_nodes("free_hugepages");
        let used = account.used(nodes);
        let free = before.max(of_nodes("free_hugepages"));
        Self {
            near: free + used,
            limit: account.limit(),
        }
    }

    /// What the pod can use of them.
    pub(super) fn ours(self) -> u64 {
        self.limit.map_or(self.near, |limit| limit.min(self.near))
    }

    /// What is missing of a promise, as a sentence.
    pub(super) fn lack(self, page: u64, promised: u64) -> Option<String> {
        let (size, promised_mib) = (page >> 10, promised >> 20);
        if let Some(limit) = self.limit.filter(|limit| *limit < promised) {
            return Some(format!(
                "the pod's own cgroup allows {} MiB of huge pages of {size} KiB, {promised_mib} MiB were promised",
                limit >> 20
            ));
        }
        (self.near < promised).then(|| {
            format!(
                "{} MiB of huge pages of {size} KiB on the NUMA nodes of the cpus are free or the pod's, {promised_mib} MiB \
                 were promised",
                self.near >> 20
            )
        })
    }
}

/// Files of the hugetlb controller for one size of pages (Documentation/admin-guide/cgroup-v1/hugetlb.rst and cgroup-v2.rst
/// of Linux).
struct Account {
    folder: PathBuf,
    size: String,
    limit: &'static str,
    usage: &'static str,
}

impl Account {
    /// The account of our own cgroup, version 2 or 1.
    fn of(root: &Path, page: u64) -> Option<Self> {
        let size = match page {
            p if p >= 1 << 30 => format!("{}GB", p >> 30),
            p if p >= 1 << 20 => format!("{}MB", p >> 20),
            p => format!("{}KB", p >> 10),
        };
        let cgroup = root.join("sys/fs/cgroup");
        let versions = [
            (cgroup.clone(), "max", "current"),
            (cgroup.join("hugetlb"), "limit_in_bytes", "usage_in_bytes"),
        ];
        let accounts = versions.into_iter().map(|(folder, limit, usage)| Self {
            folder,
            size: size.clone(),
            limit,
            usage,
        });
        accounts.into_iter().find(|a| a.file(a.usage).exists())
    }

    fn file(&self, what: &str) -> PathBuf {
        self.folder.join(format!("hugetlb.{}.{what}", self.size))
    }

    /// Bytes; none for `max`.
    fn limit(&self) -> Option<u64> {
        super::number(self.file(self.limit))
    }

    /// Bytes in use on some nodes; on all of them where the kernel does not tell them apart (before Linux 5.16).
    fn used(&self, nodes: &[u32]) -> u64 {
        let told = fs::read_to_string(self.file("numa_stat")).ok();
        let on_nodes = told.as_deref().and_then(|text| on_nodes(text, nodes));
        on_nodes
            .or_else(|| super::number(self.file(self.usage)))
            .unwrap_or(0)
    }
}

/// Sums the nodes of the last line, such as `total=4194304 N0=4194304 N1=0`: with cgroup version 1 that is the one with what is
/// below as well.
fn on_nodes(text: &str, nodes: &[u32]) -> Option<u64> {
    let parts = text.lines().last()?.split_whitespace();
    let counts = parts.filter_map(|part| {
        let (node, bytes) = part.strip_prefix('N')?.split_once('=')?;
        Some((node.parse::<u32>().ok()?, bytes.parse::<u64>().ok()?))
    });
    let counts: Vec<_> = counts.collect();
    let near = counts.iter().filter(|(node, _)| nodes.contains(node));
    (!counts.is_empty()).then(|| near.map(|(_, bytes)| bytes).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: u64 = 2 << 20;
    const V2: &str = "sys/fs/cgroup/hugetlb.2MB";
    const V1: &str = "sys/fs/cgroup/hugetlb/hugetlb.2MB";

    /// Two nodes with 100 pages each, of which 40 are free.
    fn machine(more: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{text}\n")).unwrap();
        };
        for node in [0, 1] {
            let pages = format!("sys/devices/system/node/node{node}/hugepages/hugepages-2048kB");
            put(&format!("{pages}/nr_hugepages"), "100");
            put(&format!("{pages}/free_hugepages"), "40");
        }
        for (path, text) in more {
            put(path, text);
        }
        dir
    }

    fn pages(more: &[(String, &str)]) -> (u64, Option<u64>) {
        let more: Vec<_> = more.iter().map(|(p, t)| (p.as_str(), *t)).collect();
        let found = Pages::find(machine(&more).path(), &[1], PAGE);
        (found.near / PAGE, found.limit.map(|l| l / PAGE))
    }

    fn file(cgroup: &str, what: &str) -> String {
        format!("{cgroup}.{what}")
    }

    #[test]
    fn pages_that_other_pods_use_are_not_ours() {
        let own = [
            (file(V2, "current"), "20971520"),
            (file(V2, "max"), "104857600"),
            (
                file(V2, "numa_stat"),
                "total=20971520 N0=4194304 N1=16777216",
            ),
        ];
        // 40 free ones and 8 of our own there; the far 2 do not count.
        assert_eq!(pages(&own), (48, Some(50)));
        assert_eq!(pages(&own[..2]), (50, Some(50)), "an older kernel");
        let open = [(file(V2, "current"), "0"), (file(V2, "max"), "max")];
        assert_eq!(pages(&open), (40, None));
    }

    #[test]
    fn version_1_of_cgroups_tells_the_same() {
        let own = [
            (file(V1, "usage_in_bytes"), "2097152"),
            (file(V1, "limit_in_bytes"), "62914560"),
            (
                file(V1, "numa_stat"),
                "total=0 N0=0 N1=0\nhierarichal_total=2097152 N0=0 N1=2097152",
            ),
        ];
        assert_eq!(pages(&own), (41, Some(30)));
    }

    #[test]
    fn without_an_account_the_pages_of_the_node_are_all_that_is_known() {
        assert_eq!(pages(&[]), (100, None));
    }

    #[test]
    fn a_cgroup_that_allows_less_than_was_promised_is_told_apart_from_a_node_that_has_less() {
        let pages = Pages {
            near: 50 * PAGE,
            limit: Some(30 * PAGE),
        };
        assert_eq!(pages.lack(PAGE, 30 * PAGE), None);
        assert_eq!(pages.ours(), 30 * PAGE);
        let text = pages.lack(PAGE, 31 * PAGE).unwrap();
        assert!(text.contains("own cgroup allows 60 MiB"), "{text}");
        let open = Pages {
            limit: None,
            ..pages
        };
        assert_eq!(open.lack(PAGE, 50 * PAGE), None);
        let text = open.lack(PAGE, 51 * PAGE).unwrap();
        assert!(
            text.contains("100 MiB") && text.contains("102 MiB"),
            "{text}"
        );
    }
}
