//! Which CPUs and memory nodes the kernel gave us, compared with what was promised.
//!
//! In: `/proc/self/status`, the cpuset cgroup (v1 and v2), `sched_getaffinity`. Out: a verdict.
//! Reading is apart from judging, so that judging is tested as data.

pub(crate) mod devices;

use std::{collections::BTreeSet, fs, path::Path};

use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};

use self::devices::{Present, Promised};

/// What the kernel says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// CPUs that this process may run on, by the scheduler.
    pub(crate) cpus: Vec<u32>,
    /// CPUs of its cgroup, where the kernel shows them.
    pub(crate) cgroup: Option<Vec<u32>>,
    /// Memory nodes, as a list such as `0-1`.
    pub(crate) memory_nodes: String,
    /// GPUs and huge pages.
    pub(crate) present: Present,
}

/// What was promised.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Exclusive CPUs; 0 asks for shared ones.
    pub(crate) cpus: u32,
    /// The very CPUs, where we bind ourselves.
    pub(crate) cpuset: Option<Vec<u32>>,
    /// GPUs and huge pages.
    pub(crate) devices: Promised,
}

/// Whether a promise was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Whether it was.
    pub(crate) verified: bool,
    /// Reason of the condition.
    pub(crate) reason: &'static str,
    /// Both numbers.
    pub(crate) message: String,
}

/// Binds this process to its very CPUs where kubelet does not, and asks the kernel what it has then.
pub(crate) fn settle(asked: &Asked) -> Found {
    if let Some(cpus) = &asked.cpuset
        && let Err(error) = bind(cpus)
    {
        tracing::error!(%error, "cannot bind to the cpus of this pod");
    }
    find(asked)
}

/// Binds all threads of this process to `cpus`; those to come and child processes inherit it.
///
/// # Errors
/// What the kernel says: it refuses when none of them is in our cgroup's set.
fn bind(cpus: &[u32]) -> std::io::Result<()> {
    let mut set = CpuSet::new();
    for cpu in cpus {
        let cpu = *cpu as usize;
        if cpu < CpuSet::MAX_CPU {
            set.set(cpu);
        }
    }
    for task in fs::read_dir("/proc/self/task")? {
        let name = task?.file_name();
        let thread = name
            .to_str()
            .and_then(|n| n.parse().ok())
            .and_then(Pid::from_raw);
        match thread.map(|thread| sched_setaffinity(Some(thread), &set)) {
            // A thread that has just ended needs no CPUs.
            None | Some(Ok(()) | Err(rustix::io::Errno::SRCH)) => {}
            Some(Err(e)) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Asks the kernel.
pub(crate) fn find(asked: &Asked) -> Found {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let cgroup = [
        "/sys/fs/cgroup/cpuset.cpus.effective",
        "/sys/fs/cgroup/cpuset/cpuset.effective_cpus",
        "/sys/fs/cgroup/cpuset/cpuset.cpus",
    ];
    let cpus = affinity();
    let visible = std::env::var("NVIDIA_VISIBLE_DEVICES").unwrap_or_default();
    Found {
        present: devices::find(Path::new("/"), &visible, asked.devices, &cpus),
        cpus,
        cgroup: cgroup.iter().find_map(|p| read_list(Path::new(p))),
        memory_nodes: field(&status, "Mems_allowed_list:")
            .unwrap_or("unknown")
            .to_owned(),
    }
}

/// Physical cores of some CPUs; as many as CPUs where the kernel does not say.
pub(crate) fn cores(cpus: &[u32]) -> usize {
    let first = |cpu: &u32| {
        let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
        let siblings = read_list(Path::new(&path)).unwrap_or_default();
        siblings.first().copied().unwrap_or(*cpu)
    };
    let cores: BTreeSet<_> = cpus.iter().map(first).collect();
    cores.len().max(1)
}

/// Compares what was found with what was promised.
pub(crate) fn judge(found: &Found, asked: &Asked) -> Verdict {
    let mut verdict = judge_cpus(found, asked);
    if !verdict.verified {
        return verdict;
    }
    let far = devices::far_memory(&found.memory_nodes, &found.present);
    // Shared CPUs are on all nodes.
    let far = far.filter(|_| asked.cpus > 0);
    let broken = far.map(|text| ("MemoryFar", text));
    match broken.or_else(|| devices::broken(asked.devices, &found.present)) {
        None => verdict
            .message
            .push_str(&devices::words(asked.devices, &found.present)),
        Some((reason, text)) => {
            verdict.verified = false;
            verdict.reason = reason;
            verdict.message = format!("{}, but {text}", verdict.message);
        }
    }
    verdict
}

fn judge_cpus(found: &Found, wanted: &Asked) -> Verdict {
    let asked = wanted.cpus;
    let count = found.cpus.len();
    let memory = &found.memory_nodes;
    let set = to_list(&found.cpus);
    if asked == 0 {
        let message = format!("{count} shared cpus ({set}), memory nodes {memory}");
        return Verdict {
            verified: true,
            reason: "Verified",
            message,
        };
    }
    let numbers = format!("cpus {count} ({set}) of {asked} asked, memory nodes {memory}");
    if let Some(cpuset) = &wanted.cpuset {
        let verified = found.cpus == *cpuset;
        let message = if verified {
            format!("{numbers}, bound by itself")
        } else {
            format!(
                "{numbers}: it was to bind itself to {}; its node must be its own, and kubelet must not give these \
                 cpus to other pods",
                to_list(cpuset)
            )
        };
        let reason = if verified {
            "Verified"
        } else {
            "CpusetMismatch"
        };
        return Verdict {
            verified,
            reason,
            message,
        };
    }
    let asked = asked as usize;
    match &found.cgroup {
        Some(cgroup) if count == asked && cgroup.len() != asked => Verdict {
            verified: false,
            reason: "CpusetMismatch",
            message: format!("{numbers}, but the cgroup has cpus {}", to_list(cgroup)),
        },
        _ if count == asked => Verdict {
            verified: true,
            reason: "Verified",
            message: numbers,
        },
        _ => Verdict {
            verified: false,
            reason: "CpusetMismatch",
            message: format!(
                "{numbers}: kubelet needs cpuManagerPolicy static, and the pod must be Guaranteed \
                 with whole cpus"
            ),
        },
    }
}

fn affinity() -> Vec<u32> {
    let Ok(set) = sched_getaffinity(None) else {
        return Vec::new();
    };
    (0..CpuSet::MAX_CPU)
        .filter(|c| set.is_set(*c))
        .filter_map(|c| u32::try_from(c).ok())
        .collect()
}

fn read_list(path: &Path) -> Option<Vec<u32>> {
    parse_list(fs::read_to_string(path).ok()?.trim()).filter(|l| !l.is_empty())
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status
        .lines()
        .find_map(|l| l.strip_prefix(name))
        .map(str::trim)
}

/// Parses a list of the kernel, such as `0-3,8`.
pub(crate) fn parse_list(text: &str) -> Option<Vec<u32>> {
    let mut all = Vec::new();
    for part in text.split(',').filter(|p| !p.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        // No machine has more; a file that says so is not believed.
        if last > 1 << 16 || first > last {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

/// Writes CPUs as the kernel does.
pub(crate) fn to_list(cpus: &[u32]) -> String {
    let mut parts: Vec<(u32, u32)> = Vec::new();
    for cpu in cpus {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == *cpu => *last = *cpu,
            _ => parts.push((*cpu, *cpu)),
        }
    }
    let text = |(a, b): &(u32, u32)| {
        if a == b {
            a.to_string()
        } else {
            format!("{a}-{b}")
        }
    };
    parts.iter().map(text).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(cpus: &[u32], cgroup: Option<&[u32]>) -> Found {
        let cgroup = cgroup.map(<[u32]>::to_vec);
        Found {
            cpus: cpus.to_vec(),
            cgroup,
            memory_nodes: "0".into(),
            present: Present::default(),
        }
    }

    fn judge(found: &Found, cpus: u32) -> Verdict {
        let asked = Asked {
            cpus,
            ..Asked::default()
        };
        super::judge(found, &asked)
    }

    #[test]
    fn a_pod_that_binds_itself_must_have_the_very_cpus() {
        let asked = Asked {
            cpus: 2,
            cpuset: Some(vec![2, 3]),
            ..Asked::default()
        };
        let v = super::judge(&found(&[2, 3], Some(&[0, 1, 2, 3])), &asked);
        assert!(v.verified, "{}", v.message);
        let v = super::judge(&found(&[0, 1], None), &asked);
        assert!(!v.verified && v.message.contains("2-3"), "{}", v.message);
    }

    #[test]
    fn a_missing_gpu_is_a_mismatch_though_the_cpus_are_right() {
        let asked = Asked {
            cpus: 1,
            devices: Promised {
                gpus: 1,
                huge: None,
            },
            ..Asked::default()
        };
        let v = super::judge(&found(&[1], None), &asked);
        assert_eq!((v.verified, v.reason), (false, "GpuMismatch"));
        assert!(v.message.contains("0 of 1 GPUs"), "{}", v.message);
    }

    #[test]
    fn far_memory_is_a_mismatch_though_the_cpus_are_right() {
        let far = Found {
            present: Present {
                nodes: vec![1],
                with_memory: vec![0, 1],
                ..Present::default()
            },
            ..found(&[1], None)
        };
        let v = judge(&far, 1);
        assert_eq!((v.verified, v.reason), (false, "MemoryFar"));
        assert!(
            v.message
                .starts_with("cpus 1 (1) of 1 asked, memory nodes 0, but the cpus are on"),
            "{}",
            v.message
        );
        assert!(judge(&far, 0).verified, "shared cpus");
        let near = Found {
            memory_nodes: "1".into(),
            ..far
        };
        assert!(judge(&near, 1).verified);
    }

    #[test]
    fn this_process_can_bind_itself_to_one_of_its_cpus() {
        // In a thread of its own process image this would bind the tests too: all CPUs that we have are bound again.
        let cpus = affinity();
        bind(&cpus).unwrap();
        assert_eq!(affinity(), cpus);
    }

    #[test]
    fn exclusive_set_of_the_asked_size_is_verified() {
        let v = judge(&found(&[1], Some(&[1])), 1);
        assert!(v.verified);
        assert_eq!(v.message, "cpus 1 (1) of 1 asked, memory nodes 0");
        assert!(judge(&found(&[2, 3], None), 2).verified);
    }

    #[test]
    fn other_numbers_are_a_mismatch_with_both_numbers() {
        let v = judge(&found(&[0, 1], Some(&[0, 1])), 1);
        assert_eq!((v.verified, v.reason), (false, "CpusetMismatch"));
        assert!(
            v.message.contains("cpus 2 (0-1) of 1 asked"),
            "{}",
            v.message
        );
        let v = judge(&found(&[1], Some(&[0, 1])), 1);
        assert!(
            !v.verified && v.message.contains("cgroup has cpus 0-1"),
            "{}",
            v.message
        );
    }

    #[test]
    fn shared_cpus_are_always_fine() {
        assert!(judge(&found(&[0, 1], None), 0).verified);
    }

    #[test]
    fn lists_of_the_kernel_are_read_and_written() {
        assert_eq!(parse_list("0-3,8"), Some(vec![0, 1, 2, 3, 8]));
        assert_eq!(to_list(&[0, 1, 2, 3, 8]), "0-3,8");
        for bad in ["x", "3-1", "0-99999999", "1-"] {
            assert_eq!(parse_list(bad), None, "{bad}");
        }
    }

    #[test]
    fn this_process_has_cpus() {
        assert!(!find(&Asked::default()).cpus.is_empty());
    }
}
