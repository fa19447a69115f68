//! Agents: each node has a SealingNode with the kernel's own facts, nothing is written while nothing changes, and what
//! changes shows.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use filstar_crds::{Inventory, SealingNode, SealingNodeStatus, conditions};
use filstar_e2e::cluster::must_kubectl;
use filstar_e2e::nodes::{NODES, Need};
use filstar_e2e::{Audit, Scenario, Setup, host, operator, scenario, wait_until};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

/// Who the agents are to the API server.
const USER: &str = "system:serviceaccount:filstar-system:filstar-agent";
const MINUTE: Duration = Duration::from_mins(1);
/// One look of an agent, and some.
const REST: Duration = Duration::from_secs(12);
/// Resident memory of an agent, at most.
const MEMORY: u64 = 15 << 20;

#[test]
fn e2e_nodes_are_told_as_the_kernel_has_them_and_written_on_change_only() {
    let setup = Setup {
        need: Need::Nodes(1),
        ..Setup::new("node", 1800)
    };
    scenario(setup, async |s: &Scenario| {
        let mut all = Vec::new();
        for node in NODES {
            all.push(ready(node).await?);
            the_kernel_agrees(node, &all[all.len() - 1])?;
        }
        small(s).await?;
        // The node is ours, so nobody else misses it.
        must_kubectl(&["delete", "sealingnode", s.nodes[0]], "").await?;
        let again = ready(s.nodes[0]).await?;
        ensure!(again.boot_id == all[0].boot_id, "{again:?}");
        s.say("a SealingNode that was deleted is there again");
        huge_pages_show(s, &all[0]).await?;
        rest(s).await
    });
}

async fn status(node: &str) -> anyhow::Result<SealingNodeStatus> {
    let text = must_kubectl(
        &[
            "get",
            "sealingnode",
            node,
            "-o",
            "json",
            "--ignore-not-found",
        ],
        "",
    )
    .await?;
    let object: SealingNode =
        serde_json::from_str(&text).with_context(|| format!("no SealingNode {node}"))?;
    let owner = object.metadata.owner_references.unwrap_or_default();
    ensure!(
        owner.len() == 1 && owner[0].kind == "Node",
        "it goes with its Node: {owner:?}"
    );
    object.status.context("no status yet")
}

async fn inventory(node: &str) -> anyhow::Result<Inventory> {
    status(node).await?.inventory.context("no inventory yet")
}

/// The inventory of a node, once the operator says that it is ready.
async fn ready(node: &str) -> anyhow::Result<Inventory> {
    let what = format!("the SealingNode {node} is ready");
    wait_until(&what, MINUTE, async || {
        let status = status(node).await?;
        let is = |kind: &str, wanted: &str| {
            status
                .conditions
                .iter()
                .any(|c| c.type_ == kind && c.status == wanted)
        };
        let well = is(conditions::READY, "True") && is(conditions::DISKS_HEALTHY, "True");
        Ok(status.inventory.filter(|_| well))
    })
    .await
}

/// CPUs of a list such as `0-3,8`.
fn cpus(list: &str) -> anyhow::Result<BTreeSet<u32>> {
    let mut all = BTreeSet::new();
    for part in list.trim().split(',').filter(|p| !p.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        all.extend(first.parse::<u32>()?..=last.parse()?);
    }
    Ok(all)
}

/// Both nodes are on this machine: its kernel is theirs.
fn the_kernel_agrees(node: &str, told: &Inventory) -> anyhow::Result<()> {
    let read = |path: &str| fs::read_to_string(path).with_context(|| path.to_owned());
    ensure!(
        told.boot_id == read("/proc/sys/kernel/random/boot_id")?.trim(),
        "{node}: {}",
        told.boot_id
    );
    ensure!(
        told.kernel == read("/proc/sys/kernel/osrelease")?.trim(),
        "{node}: {}",
        told.kernel
    );
    ensure!(
        told.cpu_features.iter().any(|f| f == "sha_ni"),
        "{node}: {:?}",
        told.cpu_features
    );
    let online = cpus(&read("/sys/devices/system/cpu/online")?)?;
    let grouped: BTreeSet<u32> = told
        .core_groups
        .iter()
        .flat_map(|g| g.cores.concat())
        .collect();
    ensure!(
        grouped == online,
        "{node}: cpus {grouped:?}, the kernel has {online:?}"
    );
    for group in &told.core_groups {
        let first = group.cores[0][0];
        let cache = format!("/sys/devices/system/cpu/cpu{first}/cache/index3/shared_cpu_list");
        if Path::new(&cache).exists() {
            let together: BTreeSet<u32> = group.cores.concat().into_iter().collect();
            let shared = cpus(&read(&cache)?)?;
            ensure!(
                together.is_subset(&shared),
                "{node}: {together:?} do not share an L3, but {shared:?} do"
            );
        }
    }
    let disk = told.scratch.first().context("no scratch disk")?;
    ensure!(
        disk.capacity > 0 && disk.free <= disk.capacity,
        "{node}: {disk:?}"
    );
    ensure!(
        told.kubelet.cpu_manager_policy.as_deref() != Some("none"),
        "{node}: {:?}",
        told.kubelet
    );
    Ok(())
}

/// Each agent is small.
async fn small(s: &Scenario) -> anyhow::Result<()> {
    let label = "app.kubernetes.io/component=agent";
    let agents: Vec<Pod> = s.cluster.list(operator::NAMESPACE, label).await?;
    ensure!(agents.len() == NODES.len(), "{} agents", agents.len());
    for uid in agents.iter().filter_map(ResourceExt::uid) {
        let process = host::process(&uid, "sealer-pod", Some("agent"))?;
        let resident = host::resident_bytes(process.pid)?;
        s.say(&format!("an agent has {} KiB resident", resident >> 10));
        ensure!(
            resident <= MEMORY,
            "an agent has {} KiB resident",
            resident >> 10
        );
    }
    Ok(())
}

/// A change that the kernel allows at any time: one huge page more, if this machine lets us.
async fn huge_pages_show(s: &Scenario, before: &Inventory) -> anyhow::Result<()> {
    const PAGES: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
    let total = |i: &Inventory| -> u64 {
        let pages = i.numa_nodes.iter().flat_map(|n| &n.hugepages);
        pages.filter(|p| p.size == 2 << 20).map(|p| p.total).sum()
    };
    let had = total(before);
    let set = |number: u64| fs::write(PAGES, number.to_string());
    if set(had + 1).is_err() || fs::read_to_string(PAGES)?.trim() != (had + 1).to_string() {
        s.say("this machine gives no huge page: not tested");
        return Ok(());
    }
    let mut result = Ok(());
    for wanted in [had + 1, had] {
        let what = format!("{wanted} huge pages show on both nodes");
        let shows = wait_until(&what, MINUTE, async || {
            let (a, b) = (inventory(NODES[0]).await?, inventory(NODES[1]).await?);
            Ok((total(&a) == wanted && total(&b) == wanted).then_some(()))
        })
        .await;
        result = result.and(shows);
        set(had)?;
    }
    result?;
    s.say("a huge page more and less showed");
    Ok(())
}

/// Nothing is written while nothing changes. What others do to huge pages or disks meanwhile is a change.
async fn rest(s: &Scenario) -> anyhow::Result<()> {
    let what = "the agents have nothing to write for a look";
    let (mut audit, mut since) = (Audit::from_now()?, Instant::now());
    wait_until(what, 3 * MINUTE, async || {
        let events = audit.events(USER)?;
        if events
            .iter()
            .any(|e| e.is_write() && e.user.username == USER)
        {
            (audit, since) = (Audit::from_now()?, Instant::now());
        }
        Ok((since.elapsed() > REST).then_some(()))
    })
    .await?;
    s.say("a look, nothing written");
    Ok(())
}
