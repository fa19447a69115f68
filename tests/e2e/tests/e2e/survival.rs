//! What must not stop a sector: every part killed while it is on its way. After each: proven, no number used twice, no
//! message paid twice.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};
use filstar_crds::{ChainMessage, MessageState, SectorPhase, SectorStatus, TaskKind, TaskState};
use filstar_e2e::chain::PRE_COMMIT;
use filstar_e2e::cluster::{must_kubectl, must_run};
use filstar_e2e::operator::{self, Death};
use filstar_e2e::setup::Signs;
use filstar_e2e::{Scenario, Setup, books, host, scenario, wait_until};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use crate::{gone, landing};

/// Longer than the SNARKs of other scenarios, which may come first.
const MINUTES: Duration = Duration::from_mins(8);

fn phase_is(wanted: SectorPhase) -> impl Fn(&SectorStatus) -> bool {
    move |s| s.phase == Some(wanted)
}

/// The SNARK is being made.
fn computes_c2(status: &SectorStatus) -> bool {
    let task = status.task.as_ref().filter(|t| t.kind == TaskKind::C2);
    let report = status.sealer.as_ref();
    task.zip(report)
        .is_some_and(|(t, r)| r.task_id == t.id && r.state == TaskState::Running)
}

/// Phases from which on the operator is killed, at a random moment: most where messages are signed and pushed.
const MOMENTS: [SectorPhase; 10] = [
    SectorPhase::Allocated,
    SectorPhase::Packing,
    SectorPhase::PreCommitting,
    SectorPhase::PreCommitting,
    SectorPhase::WaitSeed,
    SectorPhase::C2,
    SectorPhase::Committing,
    SectorPhase::Committing,
    SectorPhase::Committing,
    SectorPhase::Landing,
];

#[test]
fn e2e_sector_is_proven_once_when_the_operator_is_killed_ten_times() {
    scenario(Setup::new("operator-killed", 1200), async |s: &Scenario| {
        s.seal(1, &json!({})).await?;
        let mut random = Random::new();
        s.say(&format!("random moments from seed {}", random.0));
        for (kill, from) in (1..).zip(MOMENTS) {
            let what = format!("{} or further", from.as_str());
            s.sector_until(0, &what, |s| s.phase >= Some(from)).await?;
            operator::leader(&s.cluster).await?;
            // What it does first is done within a second; the SNARK takes a while.
            let bound = if from == SectorPhase::C2 { 5000 } else { 800 };
            tokio::time::sleep(Duration::from_millis(random.below(bound))).await;
            let death = if kill % 5 == 0 {
                Death::Process
            } else {
                Death::Pod
            };
            operator::kill(&s.cluster, death).await?;
            let phase = s.sector(0).await?.and_then(|s| s.phase);
            s.say(&format!(
                "operator killed for the {kill}. time ({death:?}), the sector is in {phase:?}"
            ));
        }
        s.proving(&[0]).await?;
        books::check(s, &[0]).await
    });
}

#[test]
fn e2e_sector_is_proven_once_when_its_sealer_is_killed_in_pc1_pc2_and_c2() {
    scenario(Setup::new("sealer-killed", 1210), async |s: &Scenario| {
        s.seal(1, &json!({ "FILSTAR_PAUSE_AT": "pc1,pc2,c2" }))
            .await?;
        for (point, death) in [
            ("pc1", Death::Process),
            ("pc2", Death::Pod),
            ("c2", Death::Pod),
        ] {
            paused(s, point).await?;
            let killed = kill_sealer(s, death).await?;
            fs::remove_file(marker(s, point))?;
            s.say(&format!("sealer killed in {point} ({death:?})"));
            paused(s, point).await?;
            ensure!(sealer(s).await?.1 != killed, "the sealer was not killed");
            let status = s.sector(0).await?.unwrap_or_default();
            let failed = status.attempts.map_or(0, |a| a.failed);
            ensure!(
                failed == 0,
                "a killed sealer counts as {failed} failed attempts"
            );
            fs::write(s.folder.join("scratch").join(format!("resume-{point}")), "")?;
        }
        s.proving(&[0]).await?;
        books::check(s, &[0]).await
    });
}

/// There is a file while a task waits at a pause point.
fn marker(s: &Scenario, point: &str) -> PathBuf {
    s.folder
        .join("scratch")
        .join(format!("paused-{point}-s-{}-0", s.actor))
}

async fn paused(s: &Scenario, point: &str) -> anyhow::Result<()> {
    let what = format!("the task of sector 0 waits at {point}");
    wait_until(&what, MINUTES, async || {
        Ok(marker(s, point).exists().then_some(()))
    })
    .await
}

/// The sealer's pod and the number of its process.
async fn sealer(s: &Scenario) -> anyhow::Result<(Pod, u32)> {
    let pods = s.sealers().await?;
    let pod = pods
        .into_iter()
        .find(|p| p.metadata.deletion_timestamp.is_none());
    let pod = pod.context("there is no sealer pod")?;
    let uid = pod.uid().unwrap_or_default();
    let pid = host::process(&uid, "sealer-pod", Some("seal"))?.pid;
    Ok((pod, pid))
}

async fn kill_sealer(s: &Scenario, death: Death) -> anyhow::Result<u32> {
    let (pod, pid) = sealer(s).await?;
    match death {
        Death::Process => host::kill(pid).await?,
        Death::Pod => s.cluster.kill_pod(&s.namespace, &pod.name_any()).await?,
    }
    Ok(pid)
}

#[test]
fn e2e_sector_is_proven_once_when_the_chain_is_restarted() {
    let setup = Setup {
        signs: Signs::Node,
        ..Setup::new("chain-restarted", 1220)
    };
    scenario(setup, async |s: &Scenario| {
        s.seal(1, &json!({})).await?;
        s.sector_until(0, "pre-committing", phase_is(SectorPhase::PreCommitting))
            .await?;
        s.restart_devnet().await?;
        s.sector_until(0, "computes its SNARK", computes_c2).await?;
        s.restart_devnet().await?;
        landing::gate_closes_and_opens(s).await?;
        s.proving(&[0]).await?;
        books::check(s, &[0]).await
    });
}

#[test]
fn e2e_sector_of_two_on_one_core_is_proven_once_when_the_api_server_is_restarted() {
    let setup = Setup {
        together: 2,
        ..Setup::new("api-restarted", 1230)
    };
    scenario(setup, async |s: &Scenario| {
        s.seal(2, &json!({})).await?;
        s.sector_until(0, "pre-committing", phase_is(SectorPhase::PreCommitting))
            .await?;
        // One SNARK shows as much as two.
        s.patch("sector", &s.sector_name(1), &json!({ "paused": true }))
            .await?;
        restart_api_server(s).await?;
        s.sector_until(0, "computes its SNARK", computes_c2).await?;
        restart_api_server(s).await?;
        hashed_together(s).await?;
        s.proving(&[0]).await?;
        let other = s.sector(1).await?.context("the paused sector is gone")?;
        let waits = other.conditions.iter().any(|c| c.reason == "Paused");
        ensure!(waits, "the paused sector does not say so: {other:?}");
        books::check_unfinished(s, &[0], &[1]).await
    });
}

/// By the sealer's log: one process labelled the layers of both in lock step, in the pool that the operator told the pod.
async fn hashed_together(s: &Scenario) -> anyhow::Result<()> {
    let (pod, _) = sealer(s).await?;
    let container = pod.spec.as_ref().and_then(|spec| spec.containers.first());
    let env = container.and_then(|c| c.env.as_ref());
    let told = env.and_then(|env| env.iter().find(|e| e.name == "FILSTAR_POOL_BYTES"));
    let told = told.and_then(|e| e.value.as_deref()).context("no pool")?;
    let told: u64 = told.parse().context("a pool of no number")?;
    let log = must_kubectl(&["-n", &s.namespace, "logs", &pod.name_any()], "").await?;
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let lines: Vec<_> = lines.collect();
    let with = |message: &str| lines.iter().filter(|l| l["message"] == message).collect();
    let started: Vec<_> = with("PC1 starts");
    let both = |line: &&Value| {
        let named = line["sectors"].to_string();
        line["per_core"] == 2 && [0, 1].iter().all(|n| named.contains(&s.sector_name(*n)))
    };
    ensure!(
        started.len() == 1 && started.iter().all(both),
        "PC1 of both did not start together: {started:?}"
    );
    let labelled: Vec<_> = with("layers are labelled");
    let in_pool = |l: &&Value| l["sectors"] == 2 && l["pool"] == told;
    ensure!(
        labelled.len() == 1 && labelled.iter().all(in_pool),
        "the layers were not labelled together in a pool of {told} bytes: {labelled:?}"
    );
    s.say(&format!("both were labelled in lock step: {}", labelled[0]));
    Ok(())
}

async fn restart_api_server(s: &Scenario) -> anyhow::Result<()> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../cluster/restart");
    must_run(script, &["apiserver"], "").await?;
    s.say("the API server was killed and is back");
    Ok(())
}

#[test]
fn e2e_sector_is_proven_once_when_a_reorg_drops_its_pre_commit() {
    let setup = Setup {
        confidence: 8,
        ..Setup::new("reorg", 1240)
    };
    scenario(setup, async |s: &Scenario| {
        s.seal(1, &json!({})).await?;
        let cid = pre_commit_landed(s).await?;
        let history = s.chain.history().await?;
        let epoch = history
            .iter()
            .find(|l| l.cid == cid)
            .context("what landed is in no tipset")?
            .epoch;
        let depth = s.chain.head().await? - epoch + 1;
        let dropped = s.chain.reorg(depth, std::slice::from_ref(&cid)).await?;
        ensure!(
            dropped == [cid.clone()],
            "the reorg dropped {dropped:?}, not {cid}"
        );
        s.say(&format!(
            "a reorg of {depth} epochs dropped the pre-commit that landed in epoch {epoch}"
        ));
        let what = "the same message lands again";
        let again = wait_until(what, MINUTES, async || {
            let history = s.chain.history().await?;
            Ok(history
                .iter()
                .find(|l| l.method == PRE_COMMIT)
                .map(|l| l.cid.clone()))
        })
        .await?;
        ensure!(
            again == cid,
            "{cid} was dropped, and {again} landed in its place"
        );
        s.say("the same bytes landed again");
        s.proving(&[0]).await?;
        books::check(s, &[0]).await
    });
}

/// CID of the pre-commit, once the operator has seen it land.
async fn pre_commit_landed(s: &Scenario) -> anyhow::Result<String> {
    wait_until("the pre-commit landed", MINUTES, async || {
        let messages = s.messages().await?;
        let message = messages
            .iter()
            .find(|m: &&ChainMessage| m.spec.method == PRE_COMMIT);
        let status = message.and_then(|m| m.status.clone()).unwrap_or_default();
        ensure!(
            status.state != Some(MessageState::Final),
            "it is final, too late for a reorg"
        );
        let landed = status.state == Some(MessageState::Landed);
        Ok(status.landed_cid.filter(|_| landed))
    })
    .await
}

#[test]
fn e2e_deleted_sector_leaves_no_files_and_deleted_group_no_pods() {
    scenario(Setup::new("deletion", 1250), async |s: &Scenario| {
        s.seal(0, &json!({ "FILSTAR_PAUSE_AT": "pc2" })).await?;
        s.apply("sector.yaml", &[("number", "0")]).await?;
        paused(s, "pc2").await?;
        fs::remove_file(marker(s, "pc2"))?;
        gone::sector_is_given_up(s).await?;
        paused(s, "pc2").await?;
        let scratch = s.folder.join("scratch");
        let of_sector = || {
            let all = host::files(&scratch)?;
            let name = format!("s-{}-0", s.actor);
            let ours = |p: &PathBuf| {
                // Markers of pause points are the test's own.
                let text = p.to_string_lossy();
                text.contains(&name) && !text.starts_with("paused-")
            };
            anyhow::Ok(
                all.into_iter()
                    .map(|(p, _)| p)
                    .filter(ours)
                    .collect::<Vec<_>>(),
            )
        };
        ensure!(
            !of_sector()?.is_empty(),
            "a sector in PC2 has files in scratch"
        );
        s.cluster
            .delete::<filstar_crds::Sector>(&s.namespace, &s.sector_name(0))
            .await?;
        wait_until("the Sector is gone", MINUTES, async || {
            Ok(s.sector(0).await?.is_none().then_some(()))
        })
        .await?;
        let left = of_sector()?;
        ensure!(left.is_empty(), "these files are left: {left:?}");
        s.say("the sector and its files are gone");
        s.cluster
            .delete::<filstar_crds::SealingGroup>(&s.namespace, "e2e")
            .await?;
        wait_until("the group's pods are gone", MINUTES, async || {
            Ok(s.sealers().await?.is_empty().then_some(()))
        })
        .await?;
        s.say("the group and its pods are gone");
        books::check(s, &[]).await
    });
}

/// Moments that differ from run to run; the seed is printed.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let given = filstar_e2e::setting("FILSTAR_E2E_SEED").and_then(|t| t.parse().ok());
        Self(given.unwrap_or_else(|| u64::from(now.subsec_nanos())) | 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
