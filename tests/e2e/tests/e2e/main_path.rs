//! The main path: two sectors from `kubectl apply` to their daily proof, on two nodes.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use filstar_crds::{PostBatch, ProverReport, SealingGroup, conditions};
use filstar_e2e::chain::{DECLARE_RECOVERED, Proven, WINDOW_POST};
use filstar_e2e::nodes::{NODES, Need};
use filstar_e2e::{Scenario, Setup, books, host, scenario, wait_until};
use kube::ResourceExt as _;
use serde_json::json;

/// A sector meets its deadline at the latest after two proving periods, of 72 seconds here.
const PROOFS: Duration = Duration::from_mins(8);

fn setup() -> Setup {
    Setup {
        need: Need::Nodes(2),
        deadlines: 4,
        window: 18,
        ..Setup::new("main-path", 1100)
    }
}

#[test]
fn e2e_two_sectors_are_sealed_landed_and_proven_on_two_nodes() {
    scenario(setup(), async |s: &Scenario| {
        s.seal(2, &json!({})).await?;
        let prover = json!({ "kubernetes.io/hostname": PROVES }).to_string();
        s.apply("postbatch.yaml", &[("prover", &prover)]).await?;
        pods_are_pinned(s).await?;
        s.proving(&[0, 1]).await?;
        both_nodes_sealed(s).await?;
        proof_follows_a_reorg(s).await?;
        window_proofs_are_accepted(s).await?;
        nodes_are_given_back(s).await?;
        lost_sector_comes_back(s).await?;
        books::check(s, &[0, 1]).await
    });
}

/// The node that proves.
const PROVES: &str = NODES[1];

/// A group that may use no node any more leaves those that it has, and their CPUs; what it sealed is proven all the same.
async fn nodes_are_given_back(s: &Scenario) -> anyhow::Result<()> {
    let none = json!({ "nodeSelector": { "e2e": "none" } });
    s.patch("sealinggroup", "e2e", &none).await?;
    let what = "the group's pods have left their nodes";
    wait_until(what, Duration::from_mins(2), async || {
        Ok(s.sealers().await?.is_empty().then_some(()))
    })
    .await?;
    s.keep_only(PROVES);
    s.say(what);
    Ok(())
}

/// What the group's status says of each pod is what the kernel says of its process.
async fn pods_are_pinned(s: &Scenario) -> anyhow::Result<()> {
    let what = "two sealer pods say that they are pinned";
    let group: SealingGroup = wait_until(what, Duration::from_mins(3), async || {
        let group = s.group().await?;
        let status = group.status.clone().unwrap_or_default();
        let verified = status
            .conditions
            .iter()
            .any(|c| c.type_ == conditions::PLACEMENT_VERIFIED && c.status == "True");
        let pinned = status
            .pods
            .iter()
            .filter(|p| p.pinned == Some(true))
            .count();
        Ok((verified && pinned == 2).then_some(group))
    })
    .await?;
    let told = group.status.unwrap_or_default().pods;
    let mut sets = BTreeSet::new();
    for pod in s.sealers().await? {
        let process = host::process(&pod.uid().unwrap_or_default(), "sealer-pod", Some("seal"))?;
        let cpus = host::cpus(process.pid)?;
        let name = pod.name_any();
        ensure!(
            cpus.parse::<u32>().is_ok(),
            "{name} may use cpus {cpus}, and asked for one"
        );
        let cgroup = host::cgroup_cpus(process.pid)?;
        ensure!(
            cgroup == cpus,
            "{name} may use cpus {cpus}, its cgroup has {cgroup}"
        );
        let told = told.iter().find(|p| p.name == name);
        let told = told.and_then(|p| p.placement.clone()).unwrap_or_default();
        ensure!(
            told.contains(&format!("({cpus}) of 1 asked")),
            "{name}: kernel {cpus}, status {told:?}"
        );
        sets.insert(cpus);
    }
    ensure!(sets.len() == 2, "the pods share cpus: {sets:?}");
    s.say(&format!(
        "two pods are pinned, to cpus {sets:?}, by the kernel's word"
    ));
    Ok(())
}

async fn both_nodes_sealed(s: &Scenario) -> anyhow::Result<()> {
    let mut nodes = BTreeSet::new();
    for number in [0, 1] {
        let status = s.sector(number).await?.unwrap_or_default();
        nodes.extend(status.binding.map(|b| b.node));
        let phases: Vec<_> = status.timeline.iter().map(|t| t.phase.as_str()).collect();
        ensure!(
            ["PC1", "PC2", "WaitSeed", "C2", "Landing"]
                .iter()
                .all(|p| phases.contains(p)),
            "the timeline of sector {number} is {phases:?}"
        );
    }
    ensure!(nodes.len() == 2, "both sectors were sealed on {nodes:?}");
    Ok(())
}

/// A reorg takes back the challenge's epoch while a proof is made: it commits to another chain then. That the chain takes it
/// all the same is what follows.
async fn proof_follows_a_reorg(s: &Scenario) -> anyhow::Result<()> {
    let reports = async || {
        let batch: PostBatch = s.cluster.must(&s.namespace, "e2e").await?;
        anyhow::Ok(batch.status.unwrap_or_default().prover)
    };
    let due = wait_until(
        "a partition is due and not proven yet",
        PROOFS,
        async || {
            let head = s.chain.head().await?;
            let mut due = reports().await?.into_iter();
            Ok(due.find(|r| r.proof.is_none() && head < r.open))
        },
    )
    .await?;
    let depth = s.chain.head().await? - due.challenge + 1;
    s.chain.reorg(depth, &[]).await?;
    s.say(&format!(
        "a reorg of {depth} epochs took back the challenge"
    ));
    let what = "the proof is made and commits to the chain after the reorg";
    wait_until(what, Duration::from_mins(1), async || {
        let mut made = reports().await?.into_iter();
        let same = |r: &ProverReport| (r.open, r.partition) == (due.open, due.partition);
        let moved = |r: &ProverReport| r.chain_commit_rand != due.chain_commit_rand;
        Ok(made
            .find(|r| same(r) && moved(r) && r.proof.is_some())
            .map(drop))
    })
    .await
}

/// The chain took a proof of the partition of each sector, nobody left out, and has power for them.
async fn window_proofs_are_accepted(s: &Scenario) -> anyhow::Result<()> {
    let mut wanted: BTreeSet<Proven> = BTreeSet::new();
    for number in [0, 1] {
        wanted.insert(s.chain.partition(&s.actor, number).await?);
    }
    wait_until(
        "a window proof of each sector is accepted",
        PROOFS,
        async || {
            let mut proven = BTreeSet::new();
            for landed in s
                .chain
                .history()
                .await?
                .iter()
                .filter(|l| l.method == WINDOW_POST)
            {
                ensure!(
                    landed.exit_code == 0,
                    "{} failed with {}",
                    landed.cid,
                    landed.exit_code
                );
                proven.extend(landed.proven()?);
            }
            Ok(wanted.is_subset(&proven).then_some(()))
        },
    )
    .await?;
    s.say("window proofs of both sectors were accepted");
    wait_until(
        "the chain has power for both sectors",
        Duration::from_mins(1),
        async || Ok((s.chain.power(&s.actor).await? == 2 * 2048).then_some(())),
    )
    .await?;
    batch_is_well(s, wanted.len()).await
}

/// Its prover runs, nothing is faulty, and it counts so many proofs at least.
async fn batch_is_well(s: &Scenario, proofs: usize) -> anyhow::Result<()> {
    let what = "the PostBatch has counted the proofs and is well";
    wait_until(what, Duration::from_mins(1), async || {
        let batch: PostBatch = s.cluster.must(&s.namespace, "e2e").await?;
        let status = batch.status.unwrap_or_default();
        let ready = status
            .conditions
            .iter()
            .any(|c| c.type_ == conditions::READY && c.status == "True");
        let enough = usize::try_from(status.accepted).is_ok_and(|n| n >= proofs);
        Ok((ready && enough && status.faulty_sectors == 0).then_some(()))
    })
    .await
}

/// A replica is gone for a while: its sector becomes faulty, somebody is told which file to bring back, and once it is back
/// the sector is declared recovered, once, and proven again.
async fn lost_sector_comes_back(s: &Scenario) -> anyhow::Result<()> {
    let name = format!("sealed/s-{}-0", s.actor);
    let (file, away) = (
        s.folder.join("store").join(&name),
        s.folder.join("store/away"),
    );
    fs::rename(&file, &away).with_context(|| file.display().to_string())?;
    wait_until("sector 0 is faulty", PROOFS, async || {
        Ok((s.chain.faults(&s.actor).await? == [0]).then_some(()))
    })
    .await?;
    s.say("sector 0 has lost its replica and is faulty");
    let what = "the PostBatch names the file that is missing";
    let text = wait_until(what, Duration::from_mins(2), async || {
        let batch: PostBatch = s.cluster.must(&s.namespace, "e2e").await?;
        let conditions = batch.status.unwrap_or_default().conditions.into_iter();
        let told =
            conditions.filter(|c| c.type_ == conditions::FAULTS_READABLE && c.status == "False");
        Ok(told.map(|c| c.message).find(|text| text.contains(&name)))
    })
    .await?;
    s.say(&text);
    fs::rename(&away, &file)?;
    wait_until("sector 0 is proven again", PROOFS, async || {
        Ok(s.chain.faults(&s.actor).await?.is_empty().then_some(()))
    })
    .await?;
    let power = s.chain.power(&s.actor).await?;
    ensure!(
        power == 2 * 2048,
        "the chain has power {power} for two sectors"
    );
    let history = s.chain.history().await?;
    let declared: Vec<_> = history
        .iter()
        .filter(|l| l.method == DECLARE_RECOVERED)
        .collect();
    // On a busy machine the whole partition may miss the window of seconds in which the replica is gone; then the other sector
    // comes back by a message of its own.
    let of: BTreeSet<_> = declared.iter().map(|l| &l.params).collect();
    ensure!(
        !declared.is_empty() && declared.iter().all(|l| l.exit_code == 0),
        "a recovery failed or was never declared: {declared:?}"
    );
    ensure!(
        of.len() == declared.len(),
        "a recovery is declared once, not so: {declared:?}"
    );
    batch_is_well(s, 0).await?;
    s.say("sector 0 was declared recovered, once, and is proven again");
    Ok(())
}
