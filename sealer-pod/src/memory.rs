//! How much memory a task process may take, so that one that wants too much dies alone.
//!
//! Without a limit of its own the kernel would kill the whole container: kubelet groups its
//! processes for that. The limit is the container's, less what the supervisor needs, or
//! `FILSTAR_TASK_MEMORY` (bytes). It counts private memory that can be written: mapped parameters do
//! not count, large pages do.

use std::fs;

use rustix::process::{Resource, Rlimit, setrlimit};

/// The variable that carries the limit to a task process, bytes. A group's `env` may set it.
pub(crate) const VARIABLE: &str = "FILSTAR_TASK_MEMORY";

/// What the supervisor and the threads' stacks may need.
const OURS_BYTES: u64 = 128 << 20;
/// Smaller limits are mistakes: no task fits.
const LEAST_BYTES: u64 = 64 << 20;

/// The limit for task processes of this container, or none when it has none.
pub(crate) fn of_container() -> Option<u64> {
    let text = fs::read_to_string("/sys/fs/cgroup/memory.max")
        .or_else(|_| fs::read_to_string("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
        .ok()?;
    let large = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    limit(&text, &large)
}

fn limit(container: &str, meminfo: &str) -> Option<u64> {
    // Without a limit there is a word, or with cgroups v1 a number near the largest.
    let container: u64 = container.trim().parse().ok().filter(|n| *n < 1 << 60)?;
    let large = meminfo.lines().find_map(|l| l.strip_prefix("Hugetlb:"));
    let large = large.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
    let own = container.saturating_sub(OURS_BYTES).max(LEAST_BYTES);
    Some(own + (large.unwrap_or_default() << 10))
}

/// Sets the limit of this process; says why when it cannot.
pub(crate) fn apply() {
    let Some(text) = std::env::var(VARIABLE).ok().filter(|t| !t.is_empty()) else {
        return;
    };
    let Some(bytes) = text.parse::<u64>().ok().filter(|n| *n >= LEAST_BYTES) else {
        tracing::error!(
            text,
            "{VARIABLE} is no number of bytes of {LEAST_BYTES} or more: no limit"
        );
        return;
    };
    let limit = Rlimit {
        current: Some(bytes),
        maximum: Some(bytes),
    };
    match setrlimit(Resource::Data, limit) {
        Ok(()) => tracing::debug!(bytes, "memory limit"),
        Err(e) => tracing::warn!(error = %e, "no memory limit can be set"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn container_without_a_limit_gives_none() {
        for text in ["max\n", "9223372036854771712\n", ""] {
            assert_eq!(limit(text, ""), None, "{text}");
        }
    }

    #[test]
    fn supervisor_keeps_its_share_and_large_pages_come_on_top() {
        assert_eq!(limit("4294967296\n", ""), Some((4 << 30) - OURS_BYTES));
        let meminfo = "MemTotal: 1 kB\nHugetlb:         2097152 kB\n";
        assert_eq!(limit("4294967296\n", meminfo), Some((6 << 30) - OURS_BYTES));
        assert_eq!(limit("1000\n", ""), Some(LEAST_BYTES));
    }
}
