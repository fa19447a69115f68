//! What this machine's kernel says: processes of pods, their CPUs and memory; and folders for pods.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};

/// User of all our pods.
const POD_USER: u32 = 65532;

/// A process of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number on this machine.
    pub pid: u32,
    /// Its command line.
    pub command: Vec<String>,
}

/// Processes in the containers of a pod, by the cgroup that kubelet made for it.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn processes(pod_uid: &str) -> anyhow::Result<Vec<Process>> {
    let names = [
        format!("pod{pod_uid}"),
        format!("pod{}", pod_uid.replace('-', "_")),
    ];
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let Some(pid) = path
            .file_name()
            .and_then(|n| n.to_str())
            .and_then(|n| n.parse().ok())
        else {
            continue;
        };
        // Processes come and go while we look.
        let cgroup = fs::read_to_string(path.join("cgroup")).unwrap_or_default();
        if names.iter().any(|n| cgroup.contains(n.as_str())) {
            let raw = fs::read(path.join("cmdline")).unwrap_or_default();
            let parts = raw.split(|b| *b == 0).filter(|p| !p.is_empty());
            let command = parts
                .map(|p| String::from_utf8_lossy(p).into_owned())
                .collect();
            found.push(Process { pid, command });
        }
    }
    Ok(found)
}

/// The one process of a pod that runs this program, with this first argument if any is given.
///
/// # Errors
/// When there is none, or more than one.
pub fn process(pod_uid: &str, program: &str, argument: Option<&str>) -> anyhow::Result<Process> {
    let runs = |p: &Process| {
        p.command.first().is_some_and(|c| c.ends_with(program))
            && argument.is_none_or(|a| p.command.get(1).is_some_and(|c| c == a))
    };
    let mut found: Vec<_> = processes(pod_uid)?.into_iter().filter(runs).collect();
    match (found.pop(), found.pop()) {
        (Some(one), None) => Ok(one),
        (None, _) => bail!("pod {pod_uid} runs no {program}"),
        (Some(_), Some(_)) => bail!("pod {pod_uid} runs more than one {program}"),
    }
}

/// CPUs that the kernel lets a process use, such as `1` or `0-3,8`.
///
/// # Errors
/// When the process is gone.
pub fn cpus(pid: u32) -> anyhow::Result<String> {
    status_field(pid, "Cpus_allowed_list:")
}

/// CPUs that the kernel lets the threads of a process use: one list if they are all bound alike.
///
/// # Errors
/// When the process is gone.
pub fn cpus_of_threads(pid: u32) -> anyhow::Result<BTreeSet<String>> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"))?;
    // Threads come and go while we look.
    let lists = threads.flatten().filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("status")).ok()?;
        field(&text, "Cpus_allowed_list:").map(str::to_owned)
    });
    let lists: BTreeSet<String> = lists.collect();
    ensure!(!lists.is_empty(), "process {pid} has no threads");
    Ok(lists)
}

/// CPUs of the cpuset cgroup of a process, where the kernel shows them.
///
/// # Errors
/// When neither version of cgroups has them.
pub fn cgroup_cpus(pid: u32) -> anyhow::Result<String> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let path_of = |name: &str| {
        groups.lines().find_map(|l| {
            let (_, rest) = l.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            (controllers == name).then(|| path.trim_start_matches('/').to_owned())
        })
    };
    let mut places = Vec::new();
    if let Some(path) = path_of("cpuset") {
        places.push(
            Path::new("/sys/fs/cgroup/cpuset")
                .join(path)
                .join("cpuset.cpus"),
        );
    }
    if let Some(path) = path_of("") {
        places.push(
            Path::new("/sys/fs/cgroup")
                .join(path)
                .join("cpuset.cpus.effective"),
        );
    }
    let text = places.iter().find_map(|p| fs::read_to_string(p).ok());
    text.map(|t| t.trim().to_owned())
        .context("no cgroup shows its CPUs")
}

/// Resident memory of a process in bytes.
///
/// # Errors
/// When the process is gone.
pub fn resident_bytes(pid: u32) -> anyhow::Result<u64> {
    let text = status_field(pid, "VmRSS:")?;
    let kib: u64 = text.trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024)
}

fn status_field(pid: u32, name: &str) -> anyhow::Result<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    field(&text, name)
        .map(str::to_owned)
        .with_context(|| format!("process {pid} has no {name}"))
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = status.lines();
    lines.find_map(|l| l.strip_prefix(name)).map(str::trim)
}

/// Ends a process as a crash would.
///
/// # Errors
/// When that is not allowed.
pub async fn kill(pid: u32) -> anyhow::Result<()> {
    crate::cluster::must_run("kill", &["-9", &pid.to_string()], "")
        .await
        .map(drop)
}

/// Runs a program where a node of the local cluster sees its folders; returns its standard output.
///
/// # Errors
/// When there is no such node here, or the program does not end well.
pub async fn on_node(node: &str, command: &[&str]) -> anyhow::Result<String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../cluster/enter");
    let arguments: Vec<&str> = [node].into_iter().chain(command.iter().copied()).collect();
    crate::cluster::must_run(script, &arguments, "").await
}

/// Makes a folder that pods can write.
///
/// # Errors
/// When we may not.
pub fn make_folder(path: &Path) -> anyhow::Result<()> {
    let what = || format!("{}: these tests run as root", path.display());
    fs::create_dir_all(path).with_context(what)?;
    chown(path, Some(POD_USER), Some(POD_USER)).with_context(what)
}

/// Files below a folder with their sizes, by path relative to it, sorted.
///
/// # Errors
/// When it cannot be read.
pub fn files(root: &Path) -> anyhow::Result<Vec<(PathBuf, u64)>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else {
                let path = entry.path();
                found.push((path.strip_prefix(root)?.to_owned(), entry.metadata()?.len()));
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_cpus_and_memory() {
        let pid = std::process::id();
        let own = cpus(pid).unwrap();
        assert!(!own.is_empty() && cpus_of_threads(pid).unwrap().contains(&own));
        assert!(resident_bytes(pid).unwrap() > 100_000);
    }
}
