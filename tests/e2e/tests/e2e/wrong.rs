//! What is wrong says so, with what to do, and stops nobody else.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use filstar_crds::{GasPolicy, Miner, SealingGroup, conditions};
use filstar_e2e::cluster::must_kubectl;
use filstar_e2e::nodes::Need;
use filstar_e2e::{Scenario, Setup, scenario, wait_until};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::{Value, json};

const MINUTES: Duration = Duration::from_mins(2);

/// Waits until a condition is as asked.
async fn condition_is(
    what: &str,
    kind: &str,
    status: &str,
    reason: &str,
    ask: impl AsyncFn() -> anyhow::Result<Vec<Condition>>,
) -> anyhow::Result<Condition> {
    let full = format!("{what}: condition {kind} is {status} with reason {reason}");
    wait_until(&full, MINUTES, async || {
        let found = ask().await?;
        let is = |c: &&Condition| c.type_ == kind && c.status == status && c.reason == reason;
        Ok(found.iter().find(is).cloned())
    })
    .await
}

async fn miner_conditions(s: &Scenario, name: &str) -> anyhow::Result<Vec<Condition>> {
    let miner: Miner = s.cluster.must(&s.namespace, name).await?;
    Ok(miner.status.unwrap_or_default().conditions)
}

async fn miner_is(
    s: &Scenario,
    name: &str,
    status: &str,
    reason: &str,
) -> anyhow::Result<Condition> {
    let ask = async || miner_conditions(s, name).await;
    condition_is(name, conditions::READY, status, reason, ask).await
}

/// Name of the Miner, reason, and what the message must name.
const WRONG: [(&str, &str, &[&str]); 9] = [
    (
        "unreachable",
        "ChainUnreachable",
        &["nowhere", "check that the node runs"],
    ),
    (
        "may-only-read",
        "MissingPermission",
        &["write", "lotus auth create-token"],
    ),
    ("unknown-token", "TokenRejected", &["devnet", "token"]),
    ("no-secret", "SecretMissing", &["missing", "create it"]),
    (
        "no-such-actor",
        "ActorNotFound",
        &["t0777777", "spec.actorId"],
    ),
    (
        "other-network",
        "WrongNetwork",
        &["calibration", "spec.network"],
    ),
    (
        "other-sector-size",
        "SealProofMismatch",
        &["StackedDrg8MiBV1P1", "sealProof"],
    ),
    ("endless-retention", "InvalidSpec", &["retention"]),
    ("twin", "DuplicateActor", &["older"]),
];

#[test]
fn e2e_wrong_miner_says_what_to_do_and_another_stays_ready() {
    let setup = Setup {
        need: Need::Nodes(0),
        more_actors: 8,
        ..Setup::new("wrong-miners", 1300)
    };
    scenario(setup, async |s: &Scenario| {
        s.apply("miner.yaml", &[("lastNumber", "0")]).await?;
        let before = miner_is(s, "e2e", "True", "Ready").await?;
        s.apply("wrong-miners.yaml", &[]).await?;
        s.apply("twin.yaml", &[]).await?;
        for (name, reason, words) in WRONG {
            let found = miner_is(s, name, "False", reason).await?;
            s.say(&format!("{name}: {reason}: {}", found.message));
            for word in words {
                ensure!(
                    found.message.contains(word),
                    "{name}: no {word:?} in {:?}",
                    found.message
                );
            }
            ensure!(
                !found.message.contains("eyJ"),
                "{name}: a token in {:?}",
                found.message
            );
        }
        let after = miner_is(s, "e2e", "True", "Ready").await?;
        ensure!(
            before.last_transition_time == after.last_transition_time,
            "the good Miner was not Ready all the time"
        );
        Ok(())
    });
}

#[test]
fn e2e_group_that_fits_nowhere_is_stalled_with_nodes_and_reasons() {
    let setup = Setup {
        need: Need::Nodes(0),
        ..Setup::new("fits-nowhere", 1320)
    };
    scenario(setup, async |s: &Scenario| {
        s.apply("miner.yaml", &[("lastNumber", "0")]).await?;
        s.apply("groups-that-fit-nowhere.yaml", &[]).await?;
        let of = async |name: &str| {
            let group: SealingGroup = s.cluster.must(&s.namespace, name).await?;
            anyhow::Ok(group.status.unwrap_or_default())
        };
        let ask = async || anyhow::Ok(of("too-large").await?.conditions);
        let found =
            condition_is("too-large", conditions::STALLED, "True", "NoNodeFits", ask).await?;
        for node in filstar_e2e::nodes::NODES {
            ensure!(
                found.message.contains(node),
                "{node} is not in {:?}",
                found.message
            );
        }
        ensure!(
            found.message.contains("512"),
            "no number in {:?}",
            found.message
        );
        let unfit = of("too-large").await?.unfit_nodes;
        ensure!(
            unfit.len() == 2 && unfit.iter().all(|n| n.reason.contains("512")),
            "{unfit:?}"
        );
        let ask = async || anyhow::Ok(of("no-such-node").await?.conditions);
        let found =
            condition_is("no-such-node", conditions::STALLED, "True", "NoNodes", ask).await?;
        ensure!(
            found.message.contains("nodeSelector"),
            "{:?}",
            found.message
        );
        miner_is(s, "e2e", "True", "Ready").await.map(drop)
    });
}

#[test]
fn e2e_object_that_cannot_be_read_says_so_and_others_go_on() {
    let setup = Setup {
        need: Need::Nodes(0),
        ..Setup::new("unreadable", 1330)
    };
    scenario(setup, async |s: &Scenario| {
        s.apply("miner.yaml", &[("lastNumber", "0")]).await?;
        miner_is(s, "e2e", "True", "Ready").await?;
        s.apply("groups-that-fit-nowhere.yaml", &[]).await?;
        // The API server takes a time zone that does not exist; our types do not.
        let by_hand = json!({ "status": { "conditions": [{
            "type": "ByHand", "status": "True", "reason": "ByHand", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00+99:99",
        }]}});
        let (ns, patch) = (s.namespace.as_str(), by_hand.to_string());
        let write = [
            "-n",
            ns,
            "patch",
            "sealinggroup",
            "too-large",
            "--subresource=status",
            "--type=merge",
            "-p",
            &patch,
        ];
        must_kubectl(&write, "").await?;
        let read = ["-n", ns, "get", "sealinggroup", "too-large", "-o", "json"];
        let message = wait_until(
            "the object says that it cannot be read",
            MINUTES,
            async || {
                let object: Value = serde_json::from_str(&must_kubectl(&read, "").await?)?;
                let found = object["status"]["conditions"]
                    .as_array()
                    .context("no conditions")?;
                let is = |c: &&Value| {
                    c["type"] == "Ready" && c["status"] == "False" && c["reason"] == "Unreadable"
                };
                Ok(found.iter().find(is).map(|c| c["message"].to_string()))
            },
        )
        .await?;
        ensure!(
            message.contains("offset") && message.contains("Correct it"),
            "{message}"
        );
        s.say(&message);
        others_go_on(s).await
    });
}

/// Objects made afterwards are seen, of the same kind and of others.
async fn others_go_on(s: &Scenario) -> anyhow::Result<()> {
    s.apply("later.yaml", &[]).await?;
    condition_is("later", conditions::READY, "True", "Ready", async || {
        let policy: GasPolicy = s.cluster.must(&s.namespace, "later").await?;
        Ok(policy.status.unwrap_or_default().conditions)
    })
    .await?;
    condition_is(
        "later",
        conditions::STALLED,
        "True",
        "NoNodes",
        async || {
            let group: SealingGroup = s.cluster.must(&s.namespace, "later").await?;
            Ok(group.status.unwrap_or_default().conditions)
        },
    )
    .await?;
    miner_is(s, "e2e", "True", "Ready").await.map(drop)
}
