//! GPUs that do not exist, given away by a real kubelet: aligned when they can be, and no storm when they cannot.
//! Nothing is sealed here.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use filstar_crds::{Refusal, SealingGroup};
use filstar_e2e::cluster::{must_kubectl, must_run};
use filstar_e2e::nodes::Need;
use filstar_e2e::{Scenario, Setup, host, scenario, wait_until};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use serde_json::json;

const MINUTES: Duration = Duration::from_mins(2);

fn setup() -> Setup {
    Setup {
        need: Need::Alone,
        ..Setup::new("gpus", 2600)
    }
}

/// Gives the scenario's node these GPUs (`ID@NUMA`), or takes all away.
async fn gpus(s: &Scenario, gpus: &[&str]) -> anyhow::Result<()> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cluster/gpus");
    let program = program.to_str().context("a path that is no text")?;
    let arguments: Vec<&str> = std::iter::once(s.nodes[0])
        .chain(gpus.iter().copied())
        .collect();
    must_run(program, &arguments, "").await.map(drop)
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
        let result = body(s).await;
        // The node is everybody's: whatever happened, its GPUs go.
        let cleared = gpus(s, &[]).await;
        result.and(cleared)
    });
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
