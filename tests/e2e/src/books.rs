//! The books: what the chain holds, what the operator wrote down, and what the API server saw, compared.
//!
//! No sector number is used twice, no message is paid twice, every nonce of a sender is used once, and nothing was
//! pushed before its signed bytes were stored.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, bail, ensure};
use filstar_crds::ChainMessage;
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use serde_json::Value;

use crate::Scenario;
use crate::audit::Event;
use crate::chain::{Landed, PRE_COMMIT, PROVE_COMMIT};
use crate::cluster::kubectl;
use crate::wait::same;

/// Between the end of a request and its line in the audit log.
const LOG_DELAY: SignedDuration = SignedDuration::from_millis(50);

/// Checks the books of a scenario in which exactly these sectors were sealed.
///
/// # Errors
/// Says which entry is wrong.
pub async fn check(scenario: &Scenario, numbers: &[i64]) -> anyhow::Result<()> {
    check_unfinished(scenario, numbers, &[]).await
}

/// Checks the books of a scenario in which exactly these sectors were sealed, and these were pre-committed and no more.
///
/// # Errors
/// Says which entry is wrong.
pub async fn check_unfinished(
    scenario: &Scenario,
    sealed: &[i64],
    pre_committed: &[i64],
) -> anyhow::Result<()> {
    let landed = scenario.chain.history().await?;
    nonces_are_used_once(&landed)?;
    let begun = [sealed, pre_committed].concat();
    numbers_are_used_once(&landed, PRE_COMMIT, &begun)?;
    numbers_are_used_once(&landed, PROVE_COMMIT, sealed)?;
    let messages = scenario.messages().await?;
    let ours = |l: &&Landed| l.from == scenario.keys.seal || l.from == scenario.keys.post;
    for one in landed.iter().filter(ours) {
        is_written_down(one, &messages)?;
    }
    one_wish_each(&messages, PRE_COMMIT, &begun)?;
    one_wish_each(&messages, PROVE_COMMIT, sealed)?;
    let events = scenario.audit.events(&scenario.namespace)?;
    objects_are_made_once(&events)?;
    let pushed = pushes(scenario).await?;
    for one in landed.iter().filter(ours) {
        is_stored_before(one, &events, pushed.get(&one.cid))?;
    }
    let count = landed.iter().filter(ours).count();
    scenario.say(&format!(
        "the books are right: {count} messages, {} pushes and {} requests seen",
        pushed.len(),
        events.len()
    ));
    Ok(())
}

fn nonces_are_used_once(landed: &[Landed]) -> anyhow::Result<()> {
    let mut seen = BTreeSet::new();
    for one in landed {
        ensure!(
            seen.insert((&one.from, one.nonce)),
            "nonce {} of {} landed twice",
            one.nonce,
            one.from
        );
    }
    Ok(())
}

fn numbers_are_used_once(landed: &[Landed], method: u64, numbers: &[i64]) -> anyhow::Result<()> {
    let mut found = Vec::new();
    for one in landed.iter().filter(|l| l.method == method) {
        ensure!(
            one.exit_code == 0,
            "{}: method {method} failed with {}",
            one.cid,
            one.exit_code
        );
        found.extend(one.sectors()?);
    }
    found.sort_unstable();
    let mut wanted = numbers.to_vec();
    wanted.sort_unstable();
    same(
        &format!("sectors of method {method} on chain"),
        &found,
        &wanted,
    )
}

/// One `ChainMessage`, and one only, has the message that landed.
fn is_written_down(one: &Landed, messages: &[ChainMessage]) -> anyhow::Result<()> {
    let status = |m: &ChainMessage| m.status.clone().unwrap_or_default();
    let with_cid: Vec<_> = messages
        .iter()
        .filter(|m| status(m).versions.iter().any(|v| v.cid == one.cid))
        .collect();
    let [message] = with_cid.as_slice() else {
        bail!(
            "{} landed and is in {} ChainMessages",
            one.cid,
            with_cid.len()
        );
    };
    let name = message.name_any();
    same(
        &format!("nonce of {name}"),
        &status(message).nonce,
        &Some(one.nonce),
    )?;
    same(
        &format!("method of {name}"),
        &message.spec.method,
        &one.method,
    )?;
    // Until the operator has seen it land, it has said nothing about that.
    match status(message).landed_epoch {
        Some(epoch) => same(&format!("landed epoch of {name}"), &epoch, &one.epoch),
        None => Ok(()),
    }
}

/// Nothing was wished for twice: each of these sectors has one message of this method.
fn one_wish_each(messages: &[ChainMessage], method: u64, numbers: &[i64]) -> anyhow::Result<()> {
    for number in numbers {
        let about = |m: &&ChainMessage| m.spec.method == method && m.spec.sectors.contains(number);
        let names: Vec<_> = messages
            .iter()
            .filter(about)
            .map(ResourceExt::name_any)
            .collect();
        ensure!(
            names.len() == 1,
            "sector {number} has for method {method}: {names:?}"
        );
    }
    Ok(())
}

fn objects_are_made_once(events: &[Event]) -> anyhow::Result<()> {
    let mut made = BTreeSet::new();
    for event in events {
        let kind = event.object_ref.resource.as_str();
        let counts = kind == "sectors" || kind == "chainmessages";
        if event.succeeded() && event.verb == "create" && counts {
            let name = event.name().to_owned();
            ensure!(
                made.insert((kind, name.clone())),
                "{kind} {name} was made twice"
            );
        }
    }
    Ok(())
}

fn is_stored_before(
    one: &Landed,
    events: &[Event],
    pushed: Option<&Timestamp>,
) -> anyhow::Result<()> {
    let statuses: Vec<&Event> = events
        .iter()
        .filter(|e| {
            e.object_ref.resource == "chainmessages" && e.object_ref.subresource == "status"
        })
        .filter(|e| e.succeeded())
        .collect();
    let stored = statuses.iter().find(|e| has_version(e, &one.cid));
    let stored = stored.with_context(|| format!("{} landed and was never stored", one.cid))?;
    let same_object = |e: &&&Event| e.name() == stored.name();
    let told = statuses.iter().filter(same_object).find(|e| {
        let state = e
            .request_object
            .pointer("/status/state")
            .and_then(Value::as_str);
        matches!(state, Some("Pushed" | "Landed" | "Final"))
    });
    if let Some(told) = told {
        ensure!(
            stored.stage_timestamp < told.stage_timestamp,
            "{} says that it was pushed before its bytes are stored",
            stored.name()
        );
    }
    if let Some(pushed) = pushed {
        ensure!(
            stored.stage_timestamp < pushed.saturating_add(LOG_DELAY)?,
            "{} was pushed at {pushed}, its bytes were stored at {}",
            one.cid,
            stored.stage_timestamp
        );
    }
    Ok(())
}

fn has_version(event: &Event, cid: &str) -> bool {
    let versions = event
        .request_object
        .pointer("/status/versions")
        .and_then(Value::as_array);
    let is = |v: &Value| v["cid"] == cid && v["bytes"].as_str().is_some_and(|b| !b.is_empty());
    versions.is_some_and(|all| all.iter().any(is))
}

/// When the chain took each message first, as far as its logs still say.
async fn pushes(scenario: &Scenario) -> anyhow::Result<BTreeMap<String, Timestamp>> {
    let logs = kubectl(
        &[
            "-n",
            &scenario.namespace,
            "logs",
            "deployment/devnet",
            "--tail=-1",
        ],
        "",
    )
    .await?;
    let mut first = BTreeMap::new();
    for line in logs.out.lines() {
        let Ok(entry) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        let fields = &entry["fields"];
        if fields["message"] == "message taken"
            && let (Some(cid), Some(time)) = (fields["cid"].as_str(), entry["timestamp"].as_str())
        {
            first.entry(cid.to_owned()).or_insert(time.parse()?);
        }
    }
    Ok(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn landed(nonce: u64, cid: &str) -> Landed {
        serde_json::from_value(json!({
            "epoch": 3, "cid": cid, "from": "t1a", "to": "t01000", "nonce": nonce, "method": 28,
            "params": "gYGCBQc=", "value": "0", "fee": "1", "exitCode": 0, "return": "",
        }))
        .unwrap()
    }

    fn event(second: u8, state: &str, cid: &str) -> Event {
        serde_json::from_value(json!({
            "stage": "ResponseComplete", "verb": "patch", "user": {"username": "u"},
            "objectRef": {"resource": "chainmessages", "subresource": "status", "name": "m"},
            "responseStatus": {"code": 200},
            "requestObject": {"status": {"state": state, "versions": [{"cid": cid, "bytes": "AA"}]}},
            "stageTimestamp": format!("2026-01-01T00:00:{second:02}Z"),
        }))
        .unwrap()
    }

    #[test]
    fn the_same_nonce_twice_is_found() {
        assert!(nonces_are_used_once(&[landed(0, "a"), landed(1, "b")]).is_ok());
        assert!(nonces_are_used_once(&[landed(0, "a"), landed(0, "b")]).is_err());
    }

    #[test]
    fn a_number_used_twice_is_found() {
        assert!(numbers_are_used_once(&[landed(0, "a")], 28, &[7]).is_ok());
        assert!(numbers_are_used_once(&[landed(0, "a"), landed(1, "b")], 28, &[7]).is_err());
        assert!(numbers_are_used_once(&[], 28, &[7]).is_err());
    }

    #[test]
    fn a_push_before_the_bytes_are_stored_is_found() {
        let events = [event(5, "Signed", "a"), event(7, "Pushed", "a")];
        let at = |s: &str| s.parse::<Timestamp>().unwrap();
        assert!(
            is_stored_before(&landed(0, "a"), &events, Some(&at("2026-01-01T00:00:06Z"))).is_ok()
        );
        assert!(
            is_stored_before(&landed(0, "a"), &events, Some(&at("2026-01-01T00:00:04Z"))).is_err()
        );
        assert!(is_stored_before(&landed(0, "b"), &events, None).is_err());
        let late = [event(7, "Pushed", "a")];
        assert!(is_stored_before(&landed(0, "a"), &late, None).is_err());
    }
}
