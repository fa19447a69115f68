//! At rest: an operator that has nothing to do writes nothing and needs little.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use filstar_crds::{SealingGroup, conditions};
use filstar_e2e::cluster::must_kubectl;
use filstar_e2e::nodes::Need;
use filstar_e2e::{Audit, Scenario, Setup, host, operator, scenario, wait_until};
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;
/// Resident memory of the operator, at most.
const MEMORY: u64 = 60 * MIB;
/// Size of its image, at most.
const IMAGE: u64 = 60_000_000;
/// Nothing may be written for so long before the measurement begins.
const CALM: Duration = Duration::from_secs(10);

#[test]
fn e2e_operator_at_rest_writes_only_its_lease_and_stays_small() {
    let setup = Setup {
        need: Need::Alone,
        ..Setup::new("rest", 1400)
    };
    scenario(setup, async |s: &Scenario| {
        s.seal(0, &json!({})).await?;
        s.apply("postbatch.yaml", &[]).await?;
        let what = "the group is ready";
        wait_until(what, Duration::from_mins(3), async || {
            let group: SealingGroup = s.group().await?;
            let ready = |c: &_| is_true(c, conditions::READY);
            Ok(group
                .status
                .unwrap_or_default()
                .conditions
                .iter()
                .any(ready)
                .then_some(()))
        })
        .await?;
        calm(s).await?;
        rest(s).await?;
        small(s).await
    });
}

fn is_true(c: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition, kind: &str) -> bool {
    c.type_ == kind && c.status == "True"
}

/// Writes of the operator since a moment, but those of its Lease.
fn writes(audit: &Audit) -> anyhow::Result<Vec<String>> {
    let events = audit.events(operator::USER)?;
    let ours = events.iter().filter(|e| {
        e.is_write() && e.user.username == operator::USER && e.object_ref.resource != "leases"
    });
    Ok(ours.map(filstar_e2e::audit::Event::line).collect())
}

async fn calm(s: &Scenario) -> anyhow::Result<()> {
    let (mut audit, mut since) = (Audit::from_now()?, Instant::now());
    wait_until(
        "the operator has nothing left to write",
        Duration::from_mins(3),
        async || {
            if !writes(&audit)?.is_empty() {
                (audit, since) = (Audit::from_now()?, Instant::now());
            }
            Ok((since.elapsed() > CALM).then_some(()))
        },
    )
    .await?;
    s.say("calm");
    Ok(())
}

/// Watches for a minute, or for `FILSTAR_E2E_REST_MINUTES`.
async fn rest(s: &Scenario) -> anyhow::Result<()> {
    let minutes = filstar_e2e::setting("FILSTAR_E2E_REST_MINUTES").and_then(|t| t.parse().ok());
    let span = Duration::from_secs(60 * minutes.unwrap_or(1));
    let (audit, begun, head) = (Audit::from_now()?, Instant::now(), s.chain.head().await?);
    wait_until(
        "the time is over",
        span + Duration::from_mins(1),
        async || Ok((begun.elapsed() > span).then_some(())),
    )
    .await?;
    let written = writes(&audit)?;
    ensure!(
        written.is_empty(),
        "the operator wrote at rest:\n{}",
        written.join("\n")
    );
    let leases = audit.events(operator::USER)?;
    let renewed = leases
        .iter()
        .filter(|e| e.is_write() && e.object_ref.resource == "leases")
        .count();
    ensure!(
        renewed > 0,
        "not even the Lease was written: this log is not of this cluster"
    );
    let epochs = s.chain.head().await? - head;
    s.say(&format!(
        "{} s at rest, {epochs} epochs: {renewed} writes of the Lease, no other",
        span.as_secs()
    ));
    Ok(())
}

async fn small(s: &Scenario) -> anyhow::Result<()> {
    let pod = operator::leader(&s.cluster).await?;
    let resident = host::resident_bytes(operator::process(&pod)?)?;
    s.say(&format!("resident: {} MiB", resident / MIB));
    ensure!(
        resident <= MEMORY,
        "the operator has {} MiB resident",
        resident / MIB
    );
    let nodes: Value =
        serde_json::from_str(&must_kubectl(&["get", "nodes", "-o", "json"], "").await?)?;
    let all = nodes["items"].as_array().context("no nodes")?;
    let images = all
        .iter()
        .filter_map(|n| n["status"]["images"].as_array())
        .flatten();
    let named = |i: &&Value| i["names"].to_string().contains("/filstar/operator");
    let size = images
        .filter(named)
        .filter_map(|i| i["sizeBytes"].as_u64())
        .max();
    let size = size.context("no node has the operator's image")?;
    s.say(&format!(
        "image: {}.{} MB",
        size / 1_000_000,
        size / 100_000 % 10
    ));
    ensure!(size <= IMAGE, "the operator's image has {size} bytes");
    Ok(())
}
