//! Maintenance: a node is emptied while the operator dies again and again. What is on chain ends proven, what is not
//! waits or goes as the policy says, no file is left, nothing is paid twice. The same by hand, with kubectl drain.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use filstar_crds::{SectorPhase, SectorStatus, conditions};
use filstar_e2e::cluster::{must_kubectl, run};
use filstar_e2e::nodes::Need;
use filstar_e2e::operator::{self, Death};
use filstar_e2e::{Scenario, Setup, books, host, scenario, wait_until};
use serde_json::{Value, json};

const MINUTES: Duration = Duration::from_mins(4);

#[test]
fn e2e_maintenance_finishes_what_is_on_chain_and_keeps_the_rest() {
    scenario(emptying("maintenance", 1400), async |s: &Scenario| {
        let node = s.nodes.first().context("a scenario without node")?;
        let result = maintenance(s, node).await;
        reopen(node).await?;
        result
    });
}

#[test]
fn e2e_kubectl_drain_waits_for_what_is_on_chain_and_deletes_the_rest() {
    scenario(emptying("kubectl-drain", 1410), async |s: &Scenario| {
        let node = s.nodes.first().context("a scenario without node")?;
        let result = by_hand(s, node).await;
        reopen(node).await?;
        result
    });
}

fn emptying(name: &'static str, actor: u64) -> Setup {
    Setup {
        need: Need::Whole,
        ..Setup::new(name, actor)
    }
}

async fn maintenance(s: &Scenario, node: &str) -> anyhow::Result<()> {
    three_phases(s).await?;
    let wish = json!({
        "apiVersion": "filstar.io/v1alpha1", "kind": "SealingNode", "metadata": {"name": node},
        "spec": {"maintenance": {"reason": "new disks", "notOnChain": "Checkpoint"}},
    });
    must_kubectl(
        &["apply", "--server-side", "--force-conflicts", "-f", "-"],
        &wish.to_string(),
    )
    .await?;
    die(s, "maintenance is asked for").await?;
    wait_until("the node is cordoned", MINUTES, async || {
        let found = object("node", node).await?;
        let ours = found["metadata"]["annotations"]["filstar.io/cordon"] == "ours";
        Ok((ours && found["spec"]["unschedulable"] == true).then_some(()))
    })
    .await?;
    die(s, "the node is cordoned").await?;
    for number in [1, 2] {
        s.sector_until(number, "waits for its node", waits).await?;
    }
    die(s, "sectors off chain wait").await?;
    for number in [1, 2] {
        ensure!(
            !files(s, number)?.is_empty(),
            "the files of sector {number} are gone"
        );
    }
    ensure!(
        s.sealers().await?.len() == 1,
        "the sealer left under a sector on chain"
    );
    condition_is(node, conditions::QUIESCING, "True").await?;
    condition_is(node, conditions::DRAINED, "False").await?;
    forget_pauses(s)?;
    fs::write(s.folder.join("scratch/resume-c2"), "")?;
    for phase in [SectorPhase::Committing, SectorPhase::Finalizing] {
        let what = format!("{} or further", phase.as_str());
        s.sector_until(0, &what, |s| s.phase >= Some(phase)).await?;
        die(s, phase.as_str()).await?;
    }
    s.proving(&[0]).await?;
    condition_is(node, conditions::DRAINED, "True").await?;
    ensure!(s.sealers().await?.is_empty(), "a drained node has a sealer");
    die(s, "the node is drained").await?;
    pods_left_by_eviction(s)?;
    ensure!(
        s.sealers().await?.is_empty(),
        "a sealer came back to a drained node"
    );
    end_maintenance(node).await?;
    wait_until("our cordon is undone", MINUTES, async || {
        let found = object("node", node).await?;
        Ok((found["spec"]["unschedulable"] != true).then_some(()))
    })
    .await?;
    for (number, point) in [(1, "pc2"), (2, "pc1")] {
        paused(s, number, point).await?;
        let status = s.sector(number).await?.unwrap_or_default();
        let task = status.task.context("a paused sector has a task")?;
        ensure!(!task.from_scratch, "sector {number} began anew");
    }
    s.say("the sectors go on where they were stopped");
    slow(s, node).await?;
    books::check(s, &[0]).await
}

/// Changes the group by a JSON patch.
async fn patch_group(s: &Scenario, patch: &str) -> anyhow::Result<String> {
    let group = [
        "-n",
        &s.namespace,
        "patch",
        "sealinggroup",
        "e2e",
        "--type=json",
        "-p",
        patch,
    ];
    must_kubectl(&group, "").await
}

/// Sector 2 computes for too long: the node is emptied for it, and stays so until somebody uncordons it.
async fn slow(s: &Scenario, node: &str) -> anyhow::Result<()> {
    let bound = async |operation: Value| patch_group(s, &json!([operation]).to_string()).await;
    let path = "/spec/lanes/0/taskTimeouts";
    let second = json!([{"phase": "PC1", "after": "1s", "then": "DrainNode"}]);
    bound(json!({"op": "add", "path": path, "value": second})).await?;
    let name = s.sector_name(2);
    wait_until("the node is cordoned for a task", MINUTES, async || {
        let found = object("node", node).await?;
        let notes = &found["metadata"]["annotations"];
        let named = notes["filstar.io/cordon-reason"]
            .as_str()
            .is_some_and(|why| why.contains(&name));
        let ours = notes["filstar.io/cordon"] == "task-overdue";
        Ok((ours && named && found["spec"]["unschedulable"] == true).then_some(()))
    })
    .await?;
    die(s, "the node is cordoned for a task").await?;
    for number in [1, 2] {
        s.sector_until(number, "waits for its node", waits).await?;
    }
    condition_is(node, conditions::DRAINED, "True").await?;
    let drained = object("sealingnode", node).await?["status"]["conditions"].to_string();
    ensure!(
        drained.contains("TaskOverdue") && drained.contains(&format!("kubectl uncordon {node}")),
        "{drained}"
    );
    let found = object("node", node).await?;
    ensure!(
        found["spec"]["unschedulable"] == true,
        "the cordon went with the task"
    );
    bound(json!({"op": "remove", "path": path})).await?;
    must_kubectl(&["uncordon", node], "").await?;
    wait_until("the mark of the cordon is gone", MINUTES, async || {
        let found = object("node", node).await?;
        Ok(found["metadata"]["annotations"]["filstar.io/cordon"]
            .is_null()
            .then_some(()))
    })
    .await?;
    s.say("the node was emptied for a slow task, and a person gave it back");
    Ok(())
}

async fn by_hand(s: &Scenario, node: &str) -> anyhow::Result<()> {
    three_phases(s).await?;
    let delete = json!({"drain": {"notOnChain": "Delete"}});
    s.patch("sealinggroup", "e2e", &delete).await?;
    let drain = [
        "drain",
        node,
        "--ignore-daemonsets",
        "--delete-emptydir-data",
        "--pod-selector=filstar.io/group=e2e",
        "--timeout=10m",
    ];
    // It gives up when the API server is restarted, as another test does; a person types it again.
    let typed = async {
        let mut text = String::new();
        wait_until("kubectl drain is through", MINUTES, async || {
            let said = run("kubectl", &drain, "").await?;
            text += &said.text;
            Ok((!said.found_nobody()).then_some(said.ok))
        })
        .await
        .and_then(|ok| {
            ensure!(ok, "kubectl drain: {text}");
            s.say("kubectl drain is through");
            Ok(text)
        })
    };
    let meanwhile = async {
        for number in [1, 2] {
            let what = format!("sector {number} is gone");
            wait_until(&what, MINUTES, async || {
                Ok(s.sector(number).await?.is_none().then_some(()))
            })
            .await?;
            s.say(&what);
            die(s, "a sector is deleted").await?;
            let left = files(s, number)?;
            ensure!(left.is_empty(), "sector {number} left {left:?}");
        }
        ensure!(
            s.sealers().await?.len() == 1,
            "kubectl took the sealer under a sector on chain"
        );
        fs::write(s.folder.join("scratch/resume-c2"), "")?;
        s.sector_until(0, "committing or further", |s| {
            s.phase >= Some(SectorPhase::Committing)
        })
        .await?;
        die(s, "committing").await?;
        s.proving(&[0]).await
    };
    let (said, done) = tokio::join!(typed, meanwhile);
    done?;
    let said = said?;
    ensure!(
        said.contains("disruption budget"),
        "kubectl was not told to wait: {said}"
    );
    ensure!(s.sealers().await?.is_empty(), "kubectl drain left a sealer");
    let found = object("node", node).await?;
    ensure!(
        found["spec"]["unschedulable"] == true
            && found["metadata"]["annotations"]["filstar.io/cordon"].is_null(),
        "the cordon of a person was touched"
    );
    books::check(s, &[0]).await
}

/// Sector 0 at its SNARK, so on chain; sector 1 in PC2; sector 2 in PC1: all in one pod, and all held there.
async fn three_phases(s: &Scenario) -> anyhow::Result<()> {
    s.seal(0, &json!({ "FILSTAR_PAUSE_AT": "pc1,pc2,c2" }))
        .await?;
    let last = json!({"sectorNumbers": {"max": 9}});
    s.patch("miner", "e2e", &last).await?;
    let three = r#"[{"op": "add", "path": "/spec/lanes/0/concurrency", "value": 3}]"#;
    patch_group(s, three).await?;
    let go_on = |point: &str| s.folder.join("scratch").join(format!("resume-{point}"));
    for point in ["pc1", "pc2"] {
        fs::write(go_on(point), "")?;
    }
    for (number, point) in [(0, "c2"), (1, "pc2"), (2, "pc1")] {
        s.apply("sector.yaml", &[("number", &number.to_string())])
            .await?;
        paused(s, number, point).await?;
        // Who comes next is held one step earlier.
        let earlier = if number == 0 { "pc2" } else { "pc1" };
        if go_on(earlier).exists() {
            fs::remove_file(go_on(earlier))?;
        }
    }
    s.say("three sectors are held, in C2, PC2 and PC1");
    Ok(())
}

fn marker(s: &Scenario, number: i64, point: &str) -> PathBuf {
    let name = format!("paused-{point}-s-{}-{number}", s.actor);
    s.folder.join("scratch").join(name)
}

async fn paused(s: &Scenario, number: i64, point: &str) -> anyhow::Result<()> {
    let what = format!("sector {number} waits at {point}");
    wait_until(&what, MINUTES, async || {
        Ok(marker(s, number, point).exists().then_some(()))
    })
    .await?;
    s.say(&what);
    Ok(())
}

/// A task that was stopped leaves its marker behind.
fn forget_pauses(s: &Scenario) -> anyhow::Result<()> {
    for (number, point) in [(1, "pc2"), (2, "pc1")] {
        let marker = marker(s, number, point);
        if marker.exists() {
            fs::remove_file(marker)?;
        }
    }
    Ok(())
}

/// Held by its node, without a task.
fn waits(status: &SectorStatus) -> bool {
    let ready = status
        .conditions
        .iter()
        .find(|c| c.type_ == conditions::READY);
    ready.is_some_and(|c| c.reason == "NodeMaintenance") && status.task.is_none()
}

/// Files of a sector in scratch; the test's own markers do not count.
fn files(s: &Scenario, number: i64) -> anyhow::Result<Vec<PathBuf>> {
    let name = format!("s-{}-{number}", s.actor);
    let all = host::files(&s.folder.join("scratch"))?
        .into_iter()
        .map(|(path, _)| path);
    let of_sector = |p: &PathBuf| {
        let text = p.to_string_lossy();
        p.components().any(|c| c.as_os_str() == name.as_str()) && !text.starts_with("paused-")
    };
    Ok(all.filter(of_sector).collect())
}

async fn object(kind: &str, name: &str) -> anyhow::Result<Value> {
    let text = must_kubectl(&["get", kind, name, "-o", "json"], "").await?;
    Ok(serde_json::from_str(&text)?)
}

async fn condition_is(node: &str, kind: &str, status: &str) -> anyhow::Result<()> {
    let what = format!("condition {kind} of SealingNode {node} is {status}");
    wait_until(&what, MINUTES, async || {
        let found = object("sealingnode", node).await?;
        let all = found["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let is = |c: &Value| c["type"] == kind && c["status"] == status;
        ensure!(all.iter().any(is), "{:?}", found["status"]);
        Ok(Some(()))
    })
    .await
}

async fn die(s: &Scenario, when: &str) -> anyhow::Result<()> {
    operator::kill(&s.cluster, Death::Pod).await?;
    s.say(&format!("operator killed: {when}"));
    Ok(())
}

/// By the audit log: the operator evicted sealers, and deleted none.
fn pods_left_by_eviction(s: &Scenario) -> anyhow::Result<()> {
    let events = s.audit.events(&s.namespace)?;
    let ours = |e: &&filstar_e2e::audit::Event| {
        e.user.username == operator::USER && e.object_ref.resource == "pods" && e.succeeded()
    };
    let evictions = events
        .iter()
        .filter(ours)
        .filter(|e| e.object_ref.subresource == "eviction");
    ensure!(evictions.count() > 0, "the operator evicted nobody");
    let deleted = events.iter().filter(ours).find(|e| e.verb == "delete");
    ensure!(
        deleted.is_none(),
        "the operator deleted a pod: {}",
        deleted.map_or_else(String::new, filstar_e2e::audit::Event::line)
    );
    Ok(())
}

async fn end_maintenance(node: &str) -> anyhow::Result<()> {
    let none = json!({"spec": {"maintenance": null}}).to_string();
    must_kubectl(
        &["patch", "sealingnode", node, "--type=merge", "-p", &none],
        "",
    )
    .await
    .map(drop)
}

/// Other tests need the node, whatever became of this one.
async fn reopen(node: &str) -> anyhow::Result<()> {
    let all = must_kubectl(&["get", "sealingnodes", "-o", "name"], "").await?;
    if all.lines().any(|l| l.ends_with(&format!("/{node}"))) {
        end_maintenance(node).await?;
    }
    must_kubectl(&["uncordon", node], "").await.map(drop)
}
