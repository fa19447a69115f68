//! GPUs that do not exist, given away by a real kubelet: aligned when they can be, and no storm when they cannot. And
//! core groups that do not exist: two sealers of a node bind themselves to one each, and a prover takes the place of one.
//! Nothing is sealed here.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use filstar_crds::{PostBatch, Refusal, SealingGroup, SealingNode, labels};
use filstar_e2e::cluster::{must_kubectl, must_run};
use filstar_e2e::nodes::{NODES, Need};
use filstar_e2e::{Scenario, Setup, host, invariants, operator, scenario, wait_until};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;
use serde_json::json;

const MINUTES: Duration = Duration::from_mins(2);

fn setup() -> Setup {
    Setup {
        need: Need::Alone,
        ..Setup::new("gpus", 2600)
    }
}

/// A command of the local cluster about a node.
async fn cluster(command: &str, node: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cluster");
    let program = program.join(command);
    let program = program.to_str().context("a path that is no text")?;
    let arguments = [&[node], arguments].concat();
    must_run(program, &arguments, "").await.map(drop)
}

/// Gives the scenario's node these GPUs (`ID@NUMA`), or takes all away.
async fn gpus(s: &Scenario, gpus: &[&str]) -> anyhow::Result<()> {
    cluster("gpus", s.nodes[0], gpus).await
}

/// A group with one pod of one CPU and one GPU.
async fn group(s: &Scenario) -> anyhow::Result<()> {
    let group = json!({
        "apiVersion": "filstar.io/v1alpha1",
        "kind": "SealingGroup",
        "metadata": {"name": "e2e", "namespace": s.namespace},
        "spec": {
            "minerRef": {"name": "e2e"},
            "nodeSelector": {"kubernetes.io/hostname": s.nodes[0]},
            "scratch": {"hostPath": s.folder.join("scratch"), "parametersPath": "/var/lib/filstar/params"},
            "lanes": [{
                "name": "seal", "cpus": 1, "gpus": 1, "memory": "3Gi",
                "phases": ["AddPiece", "PC1", "PC2", "C1", "C2", "Finalize"],
            }],
        },
    });
    must_kubectl(&["apply", "-f", "-"], &group.to_string())
        .await
        .map(drop)
}

async fn told(s: &Scenario) -> anyhow::Result<SealingGroup> {
    s.cluster.must(&s.namespace, "e2e").await
}

#[test]
fn e2e_a_gpu_is_aligned_with_the_cpus_and_a_far_one_makes_no_storm() {
    scenario(setup(), async |s: &Scenario| {
        s.apply("miner.yaml", &[("lastNumber", "0")]).await?;
        // Refusals take their time: the other node has nothing to do meanwhile.
        let others = NODES.iter().find(|node| **node != s.nodes[0]);
        let (aligned, apart) = tokio::join!(body(s), core_groups(s, others.context("one node")?));
        // The node is everybody's: whatever happened, its GPUs go.
        let cleared = gpus(s, &[]).await;
        aligned.and(apart).and(cleared)
    });
}

/// Two core groups of one CPU each, in words of hwloc.
const TWO: &str = "HWLOC_SYNTHETIC=pack:1 [numa(memory=16GB)] l3:2 core:1 pu:1";
/// As before.
const NONE: &str = "HWLOC_SYNTHETIC-";

async fn core_groups(s: &Scenario, node: &str) -> anyhow::Result<()> {
    let before = groups_of(node).await?;
    let (cpus, agents) = tokio::join!(cluster("cpus", node, &["all"]), agents_are_told(TWO));
    let result = match cpus.and(agents) {
        Ok(()) => two_sealers(s, node).await,
        error => error,
    };
    // Agents and kubelet are everybody's.
    let (cpus, agents) = tokio::join!(cluster("cpus", node, &["own"]), agents_are_told(NONE));
    result.and(cpus).and(agents)?;
    let what = "both nodes have the core groups that they had";
    wait_until(what, MINUTES, async || {
        let (a, b) = (groups_of(NODES[0]).await?, groups_of(NODES[1]).await?);
        Ok((a == before && b == before).then_some(()))
    })
    .await
}

/// Restarts all agents with this in their environment.
async fn agents_are_told(what: &str) -> anyhow::Result<()> {
    const AGENTS: [&str; 3] = ["-n", operator::NAMESPACE, "daemonset/filstar-agent"];
    let [n, namespace, agents] = AGENTS;
    must_kubectl(&[n, namespace, "set", "env", agents, what], "").await?;
    let rollout = ["rollout", "status", agents, "--timeout=2m"];
    must_kubectl(&[&[n, namespace], &rollout[..]].concat(), "")
        .await
        .map(drop)
}

/// Core groups that a node's agent sees.
async fn groups_of(node: &str) -> anyhow::Result<usize> {
    let text = must_kubectl(&["get", "sealingnode", node, "-o", "json"], "").await?;
    let object: SealingNode = serde_json::from_str(&text)?;
    let inventory = object.status.and_then(|s| s.inventory);
    Ok(inventory.context("no inventory yet")?.core_groups.len())
}

/// Two pods of one lane, each bound to a core group of its own by the kernel's word.
async fn two_sealers(s: &Scenario, node: &str) -> anyhow::Result<()> {
    let what = "the agent tells of two core groups";
    wait_until(what, MINUTES, async || {
        Ok((groups_of(node).await? == 2).then_some(()))
    })
    .await?;
    let group = json!({
        "apiVersion": "filstar.io/v1alpha1",
        "kind": "SealingGroup",
        "metadata": {"name": "pair", "namespace": s.namespace},
        "spec": {
            "minerRef": {"name": "e2e"},
            "nodeSelector": {"kubernetes.io/hostname": node},
            "scratch": {"hostPath": s.folder.join("scratch"), "parametersPath": "/var/lib/filstar/params"},
            "placement": {"backend": "Agent"},
            "lanes": [{
                "name": "seal", "cpus": 1, "coreGroups": {"skipFirst": false}, "pods": 2, "memory": "1Gi",
                "phases": ["AddPiece", "PC1", "PC2", "C1", "C2", "Finalize"],
            }],
        },
    });
    must_kubectl(&["apply", "-f", "-"], &group.to_string()).await?;
    let what = "both pods have proven their core groups";
    let told = wait_until(what, MINUTES, async || {
        let group: SealingGroup = s.cluster.must(&s.namespace, "pair").await?;
        let pods = group.status.unwrap_or_default().pods;
        let proven = pods.iter().filter(|p| p.pinned == Some(true)).count();
        Ok((proven == 2 && pods.len() == 2).then_some(pods))
    })
    .await?;
    for pod in &told {
        let (why, placement) = (pod.why.as_deref(), pod.placement.as_deref());
        s.say(&format!(
            "{}: {}",
            why.unwrap_or("?"),
            placement.unwrap_or("?")
        ));
        ensure!(pod.node == node, "{pod:?}");
    }
    let mut lists = Vec::new();
    for pod in pair(s).await? {
        lists.push(cpus_of(&pod, "seal")?);
    }
    one_each(lists)?;
    s.say("two sealers on one node, a core group each");
    prover_in_place_of_one(s, node).await?;
    let found = invariants::check(&s.audit.events(&s.namespace)?, Timestamp::MIN)?;
    ensure!(
        found.placements >= 3 && found.violations.is_empty(),
        "{found:?}"
    );
    let both = ["sealinggroup/pair", "postbatch/bound"];
    must_kubectl(&["-n", &s.namespace, "delete", both[0], both[1]], "").await?;
    wait_until("all pods are gone", MINUTES, async || {
        let none = pair(s).await?.is_empty() && prover(s).await?.is_none();
        Ok(none.then_some(()))
    })
    .await
}

/// One sealer leaves its core group to a prover, which binds itself as the other one does.
async fn prover_in_place_of_one(s: &Scenario, node: &str) -> anyhow::Result<()> {
    let batch = json!({
        "apiVersion": "filstar.io/v1alpha1",
        "kind": "PostBatch",
        "metadata": {"name": "bound", "namespace": s.namespace},
        "spec": {
            "minerRef": {"name": "e2e"},
            "nodeSelector": {"kubernetes.io/hostname": node},
            "parametersPath": "/var/lib/filstar/params",
            "lane": {"cpus": 1, "memory": "1Gi", "coreGroups": {"skipFirst": false}, "backend": "Agent"},
        },
    });
    must_kubectl(&["apply", "-f", "-"], &batch.to_string()).await?;
    let fewer = r#"[{"op": "replace", "path": "/spec/lanes/0/pods", "value": 1}]"#;
    let pair_of = ["-n", &s.namespace, "patch", "sealinggroup", "pair"];
    must_kubectl(&[&pair_of[..], &["--type=json", "-p", fewer]].concat(), "").await?;
    let said = wait_until(
        "the prover has proven its core group",
        MINUTES,
        async || {
            let batch: PostBatch = s.cluster.must(&s.namespace, "bound").await?;
            let conditions = batch.status.unwrap_or_default().conditions;
            let verified = |c: &&Condition| c.type_ == "PlacementVerified" && c.status == "True";
            let said = conditions.iter().find(verified).map(|c| c.message.clone());
            Ok(said.filter(|text| text.contains("bound by itself")))
        },
    )
    .await?;
    s.say(&said);
    let prover = prover(s).await?.context("no prover")?;
    let mut lists = vec![cpus_of(&prover, "prove")?];
    for pod in pair(s).await? {
        lists.push(cpus_of(&pod, "seal")?);
    }
    one_each(lists)?;
    s.say("a sealer and a prover on one node, a core group each");
    Ok(())
}

/// What the kernel lets the threads of a pod use.
fn cpus_of(pod: &Pod, role: &str) -> anyhow::Result<BTreeSet<String>> {
    let uid = pod.uid().context("no uid")?;
    let process = host::process(&uid, "sealer-pod", Some(role))?;
    host::cpus_of_threads(process.pid)
}

fn one_each(mut lists: Vec<BTreeSet<String>>) -> anyhow::Result<()> {
    let one = |cpu: &str| BTreeSet::from([cpu.to_owned()]);
    lists.sort();
    ensure!(
        lists == [one("0"), one("1")],
        "the kernel lets their threads use {lists:?}"
    );
    Ok(())
}

async fn prover(s: &Scenario) -> anyhow::Result<Option<Pod>> {
    let label = format!("{}=bound", labels::POST_BATCH);
    Ok(s.cluster.list(&s.namespace, &label).await?.pop())
}

async fn pair(s: &Scenario) -> anyhow::Result<Vec<Pod>> {
    let label = format!("{}=pair", labels::GROUP);
    s.cluster.list(&s.namespace, &label).await
}

async fn body(s: &Scenario) -> anyhow::Result<()> {
    gpus(s, &["GPU-far@1"]).await?;
    group(s).await?;
    let refusal = refused(s, 1).await?;
    s.say(&format!("kubelet: {}", refusal.reason));
    ensure!(
        refusal.reason.starts_with("TopologyAffinityError"),
        "{refusal:?}"
    );
    let again = refused(s, 2).await?;
    let pause = again.next.0.duration_since(refusal.next.0);
    ensure!(pause.as_secs() >= 60, "the second pause is {pause}");
    let pods = s.sealers().await?.len();
    ensure!(pods <= 1, "{pods} pods stand there");
    s.say("two refusals, one pod at a time");

    must_kubectl(&["-n", &s.namespace, "delete", "sealinggroup", "e2e"], "").await?;
    gpus(s, &["GPU-near-0@0", "GPU-near-1@0"]).await?;
    group(s).await?;
    let what = "the pod with a GPU is where it should be";
    let placement = wait_until(what, MINUTES, async || {
        let pods = told(s).await?.status.unwrap_or_default().pods;
        let pod = pods.into_iter().find(|p| p.pinned == Some(true));
        Ok(pod.and_then(|p| p.placement))
    })
    .await?;
    s.say(&placement);
    ensure!(placement.contains("GPUs GPU-near-"), "{placement}");
    let pods = s.sealers().await?;
    let uid = pods.first().and_then(Pod::uid).context("no pod")?;
    let process = host::process(&uid, "sealer-pod", Some("seal"))?;
    let cpus = host::cpus(process.pid)?;
    ensure!(
        cpus.parse::<u32>().is_ok() && placement.contains(&format!("({cpus}) of 1 asked")),
        "the kernel says cpus {cpus}, the pod {placement}"
    );
    Ok(())
}

async fn refused(s: &Scenario, count: u32) -> anyhow::Result<Refusal> {
    let what = format!("refusal {count} is counted");
    wait_until(&what, MINUTES, async || {
        let status = told(s).await?.status.unwrap_or_default();
        let refusal = status.refusals.into_iter().next();
        Ok(refusal.filter(|r| r.count >= count))
    })
    .await
}
