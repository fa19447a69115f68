//! helm install, upgrade and uninstall leave what they should, with an operator that runs. It ends as it began: with the
//! release that was there.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use filstar_crds::{Miner, SealingGroup, conditions};
use filstar_e2e::cluster::{kubectl, must_kubectl, must_run};
use filstar_e2e::nodes::Need;
use filstar_e2e::operator::{NAME, NAMESPACE};
use filstar_e2e::{Scenario, Setup, operator, scenario, wait_until};
use kube::ResourceExt;
use serde_json::{Value, json};

const MINUTES: Duration = Duration::from_mins(3);
const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../helm/filstar");
const CRDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../helm/filstar-crds");

async fn helm(arguments: &[&str]) -> anyhow::Result<String> {
    must_run("helm", &[arguments, &["-n", NAMESPACE]].concat(), "").await
}

#[test]
fn e2e_helm_leaves_users_objects_and_takes_its_own() {
    let setup = Setup {
        need: Need::Alone,
        ..Setup::new("helm", 1600)
    };
    scenario(setup, async |s: &Scenario| {
        // The values of the release that is there, for its return.
        let values = s.folder.join("values.yaml");
        fs::write(
            &values,
            helm(&["get", "values", "filstar", "-o", "yaml"]).await?,
        )?;
        let values = values
            .to_str()
            .context("a path that is no text")?
            .to_owned();
        s.seal(0, &json!({})).await?;
        miner_is_ready(s).await?;
        sealer_runs(s).await?;
        let result = changes(s, &values).await;
        // Whatever happened: other tests need the operator.
        helm(&["upgrade", "--install", "filstar-crds", CRDS]).await?;
        helm(&["upgrade", "--install", "filstar", CHART, "-f", &values]).await?;
        operator::leader(&s.cluster).await?;
        result?;
        s.say("the release is back");
        goes_on(s).await
    });
}

async fn changes(s: &Scenario, values: &str) -> anyhow::Result<()> {
    let before = uids(s).await?;
    helm(&[
        "upgrade",
        "filstar",
        CHART,
        "-f",
        values,
        "--set",
        "podDisruptionBudget.enabled=true",
    ])
    .await?;
    exists("poddisruptionbudget", true).await?;
    let rollout = [
        "-n",
        NAMESPACE,
        "rollout",
        "status",
        &format!("deployment/{NAME}"),
        "--timeout=180s",
    ];
    must_kubectl(&rollout, "").await?;
    same_objects(s, &before).await?;
    s.say("upgrade: what was switched on is there, objects stay");
    helm(&["uninstall", "filstar", "--wait", "--timeout=120s"]).await?;
    helm(&["uninstall", "filstar-crds"]).await?;
    for kind in [
        "deployment",
        "serviceaccount",
        "role",
        "rolebinding",
        "poddisruptionbudget",
    ] {
        exists(kind, false).await?;
    }
    let kinds =
        "clusterrole,clusterrolebinding,validatingadmissionpolicy,validatingadmissionpolicybinding";
    let label = "app.kubernetes.io/name=filstar";
    let left = must_kubectl(&["get", kinds, "-l", label, "-o", "name"], "").await?;
    ensure!(left.trim().is_empty(), "left behind: {left}");
    same_objects(s, &before).await?;
    s.say("uninstall: the operator's objects are gone, kinds, users' objects and sealer pods stay");
    Ok(())
}

/// Uids of what must outlive the operator: kinds, users' objects, pods that may be computing.
async fn uids(s: &Scenario) -> anyhow::Result<Vec<String>> {
    let group: SealingGroup = s.group().await?;
    let miner: Miner = s.cluster.must(&s.namespace, "e2e").await?;
    let mut all: Vec<_> = [group.uid(), miner.uid()].into_iter().flatten().collect();
    all.extend(s.sealers().await?.iter().filter_map(ResourceExt::uid));
    let crds = must_kubectl(&["get", "crds", "-o", "json"], "").await?;
    let crds: Value = serde_json::from_str(&crds)?;
    let items = crds["items"].as_array().context("no kinds")?;
    let ours = items.iter().filter(|i| i["spec"]["group"] == "filstar.io");
    all.extend(ours.filter_map(|i| i["metadata"]["uid"].as_str().map(str::to_owned)));
    ensure!(
        all.len() == 11,
        "eight kinds, a group, a Miner and a pod: {all:?}"
    );
    Ok(all)
}

async fn same_objects(s: &Scenario, before: &[String]) -> anyhow::Result<()> {
    let now = uids(s).await?;
    ensure!(now == before, "objects were replaced: {before:?}, {now:?}");
    Ok(())
}

async fn exists(kind: &str, wanted: bool) -> anyhow::Result<()> {
    let what = format!("{kind} {NAME} is {}", if wanted { "there" } else { "gone" });
    wait_until(&what, Duration::from_mins(1), async || {
        let found = kubectl(
            &[
                "-n",
                NAMESPACE,
                "get",
                kind,
                NAME,
                "--ignore-not-found",
                "-o",
                "name",
            ],
            "",
        )
        .await?;
        ensure!(found.ok, "{}", found.text);
        Ok((found.out.trim().is_empty() != wanted).then_some(()))
    })
    .await
}

async fn miner_is_ready(s: &Scenario) -> anyhow::Result<()> {
    wait_until("the Miner is ready", MINUTES, async || {
        let miner: Miner = s.cluster.must(&s.namespace, "e2e").await?;
        let conditions = miner.status.unwrap_or_default().conditions;
        let ready = conditions
            .iter()
            .any(|c| c.type_ == conditions::READY && c.status == "True");
        Ok(ready.then_some(()))
    })
    .await
}

async fn sealer_runs(s: &Scenario) -> anyhow::Result<()> {
    wait_until("a sealer pod is there", MINUTES, async || {
        Ok((s.sealers().await?.len() == 1).then_some(()))
    })
    .await
}

/// The operator that came back works on what was there.
async fn goes_on(s: &Scenario) -> anyhow::Result<()> {
    s.patch("sealinggroup", "e2e", &json!({ "paused": true }))
        .await?;
    wait_until("the operator has seen the change", MINUTES, async || {
        let group = s.group().await?;
        let seen = group.status.as_ref().and_then(|s| s.observed_generation);
        Ok((seen == group.metadata.generation).then_some(()))
    })
    .await?;
    s.say("the operator goes on with what was there");
    Ok(())
}
