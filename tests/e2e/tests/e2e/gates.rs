//! Pledging behind gates: each closes and opens by its real cause, and nothing is pledged past it.
//!
//! The group wants sectors all the time, and at every moment one gate at least is closed: the next one closes before
//! the last one opens. Then the group pledges two, as slowly as it is told, and fifty more race for money for three. The
//! seed of this chain is far away, so that no SNARK is made: the gate Landing is in `landing`, where sectors get there.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use filstar_crds::{GateStatus, Sector, SectorPhase, conditions};
use filstar_e2e::chain::PRE_COMMIT;
use filstar_e2e::cluster::must_kubectl;
use filstar_e2e::nodes::Need;
use filstar_e2e::{Scenario, Setup, host, scenario, wait_until, wait_while};
use jiff::Timestamp;
use serde_json::json;

const MINUTES: Duration = Duration::from_mins(3);
/// A sector's pledge on this chain, with the node's reserve, in attoFIL.
const PLEDGE: u128 = 143_000_000_000_000_000;
/// Least time between the two sectors that the group pledges, in seconds.
const DELAY: i64 = 6;
/// How long all other gates must have been open before each, in seconds.
const RECHECK: i64 = 3;

fn setup() -> Setup {
    Setup {
        // It cordons its node: whoever else were there would be drained.
        need: Need::Alone,
        seed_delay: 3000,
        ..Setup::new("gates", 3400)
    }
}

#[test]
fn e2e_gates_close_and_open_by_their_causes_and_nothing_is_pledged_past_them() {
    scenario(setup(), async |s: &Scenario| {
        let node = *s.nodes.first().context("no node")?;
        small_disks(s, node, true).await?;
        let result = walk(s, node).await;
        // Whatever happened, others need the node and the folder.
        let open = must_kubectl(&["uncordon", node], "").await;
        let gone = small_disks(s, node, false).await;
        result.and(open.map(drop)).and(gone)
    });
}

async fn walk(s: &Scenario, node: &str) -> anyhow::Result<()> {
    begin(s).await?;
    disks(s, node).await?;
    money_and_gas(s).await?;
    chain_and_node(s, node).await?;
    pace(s, node).await?;
    race(s).await
}

/// File systems of 8 MiB in the place of scratch and store: room for some thirty sectors.
async fn small_disks(s: &Scenario, node: &str, make: bool) -> anyhow::Result<()> {
    for name in ["scratch", "store"] {
        let folder = s.folder.join(name);
        let folder = folder.to_str().context("a path that is no text")?;
        let options = "size=8m,uid=65532,gid=65532,mode=755";
        let command = if make {
            vec!["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder]
        } else {
            vec!["umount", "--lazy", folder]
        };
        host::on_node(node, &command).await?;
    }
    Ok(())
}

async fn gates(s: &Scenario) -> anyhow::Result<Vec<GateStatus>> {
    Ok(s.group().await?.status.unwrap_or_default().gates)
}

/// Waits until a gate is as asked and says these words; no sector may come into being meanwhile.
async fn gate_is(s: &Scenario, name: &str, open: bool, words: &str) -> anyhow::Result<()> {
    let what = format!(
        "gate {name} is {}: {words}",
        if open { "open" } else { "closed" }
    );
    let found = wait_while(
        &what,
        MINUTES,
        async || {
            let gate = gates(s).await?.into_iter().find(|g| g.name == name);
            let gate = gate.with_context(|| format!("no gate {name}"))?;
            ensure!(gate.open == open && gate.reason.contains(words), "{gate:?}");
            ensure!(gate.since.is_some(), "{name} does not say since when");
            Ok(Some(gate))
        },
        async || {
            let made: Vec<Sector> = s.cluster.list(&s.namespace, "").await?;
            ensure!(made.is_empty(), "a sector was pledged past {name}");
            Ok(())
        },
    )
    .await?;
    s.say(&format!(
        "{name} {}: {}",
        if open { "open" } else { "closed" },
        found.reason
    ));
    Ok(())
}

/// Everything is there, and the only number is reserved.
async fn begin(s: &Scenario) -> anyhow::Result<()> {
    s.apply("miner.yaml", &[("lastNumber", "0")]).await?;
    let none = json!({ "sectorNumbers": { "max": 0, "reserved": ["0"] } });
    s.patch("miner", "e2e", &none).await?;
    let group = [("mode", "Auto"), ("maxInFlight", "60"), ("env", "{}")];
    s.apply("group.yaml", &group).await?;
    gate_is(
        s,
        "SectorNumber",
        false,
        "raise sectorNumbers.max of Miner e2e",
    )
    .await?;
    for name in [
        "ScratchSpace",
        "StoreSpace",
        "Balance",
        "NodeMaintenance",
        "Capacity",
        "ChainSync",
    ] {
        gate_is(s, name, true, "").await?;
    }
    let group = s.group().await?.status.unwrap_or_default();
    let open = group
        .conditions
        .iter()
        .find(|c| c.type_ == conditions::PLEDGE_OPEN);
    let open = open.context("no condition PledgeOpen")?;
    ensure!(open.reason == "SectorNumber", "{open:?}");
    let table = must_kubectl(&["-n", &s.namespace, "get", "sg", "-o", "wide"], "").await?;
    ensure!(
        table.contains("SectorNumber closed: all numbers up to 0"),
        "{table}"
    );
    Ok(())
}

async fn fill(s: &Scenario, node: &str, name: &str) -> anyhow::Result<()> {
    let file = format!("of={}/{name}/full", s.folder.display());
    let command = ["dd", "if=/dev/zero", &file, "bs=1M", "count=8"];
    // It ends with "no space left", as it should.
    drop(host::on_node(node, &command).await);
    Ok(())
}

async fn free(s: &Scenario, node: &str, name: &str) -> anyhow::Result<()> {
    let file = format!("{}/{name}/full", s.folder.display());
    host::on_node(node, &["rm", &file]).await.map(drop)
}

async fn disks(s: &Scenario, node: &str) -> anyhow::Result<()> {
    fill(s, node, "scratch").await?;
    gate_is(s, "ScratchSpace", false, "has 0 B left below 90 %").await?;
    let numbers = json!({ "sectorNumbers": { "max": 1000, "reserved": null } });
    s.patch("miner", "e2e", &numbers).await?;
    gate_is(s, "SectorNumber", true, "number 0 is the next").await?;
    fill(s, node, "store").await?;
    gate_is(s, "StoreSpace", false, "add a SectorStore").await?;
    free(s, node, "scratch").await?;
    gate_is(s, "ScratchSpace", true, "more sectors").await
}

async fn money_and_gas(s: &Scenario) -> anyhow::Result<()> {
    s.chain
        .withdraw(&s.actor, s.chain.available(&s.actor).await?)
        .await?;
    gate_is(s, "Balance", false, "0 FIL available").await?;
    // The store can only be freed from the node.
    let node = *s.nodes.first().context("no node")?;
    free(s, node, "store").await?;
    gate_is(s, "StoreSpace", true, "more sectors").await?;
    s.patch(
        "sealinggroup",
        "e2e",
        &json!({ "pledge": { "gates": { "gasPrice": { "maxBaseFee": "1 nanoFIL" } } } }),
    )
    .await?;
    gate_is(s, "GasPrice", true, "at most 1 nanoFIL").await?;
    base_fee(s, "5000000000000").await?;
    gate_is(s, "GasPrice", false, "it opens when the fee falls").await?;
    // Money for two sectors and three more, and not quite for a fourth.
    let amount = (6 * PLEDGE - 1).to_string();
    let fund = json!([{ "address": s.actor, "amount": amount }]);
    s.chain.call("Devnet.Fund", fund).await?;
    gate_is(
        s,
        "Balance",
        true,
        "needed for 0 sectors in flight and one more",
    )
    .await
}

async fn base_fee(s: &Scenario, fee: &str) -> anyhow::Result<()> {
    let fee = json!([{ "baseFee": fee }]);
    s.chain.call("Devnet.SetBaseFee", fee).await.map(drop)
}

async fn chain_and_node(s: &Scenario, node: &str) -> anyhow::Result<()> {
    s.chain.call("Devnet.Pause", json!([])).await?;
    gate_is(s, "ChainSync", false, "").await?;
    must_kubectl(&["cordon", node], "").await?;
    gate_is(s, "NodeMaintenance", false, &format!("{node} is cordoned")).await?;
    s.chain.call("Devnet.Resume", json!([])).await?;
    gate_is(s, "ChainSync", true, "in sync").await?;
    base_fee(s, "100").await?;
    gate_is(s, "GasPrice", true, "at most 1 nanoFIL").await
}

/// All else is open when the node is: the group pledges two sectors, the second no sooner than it may.
async fn pace(s: &Scenario, node: &str) -> anyhow::Result<()> {
    let slow =
        json!({ "maxInFlight": 2, "delay": format!("{DELAY}s"), "recheck": format!("{RECHECK}s") });
    s.patch("sealinggroup", "e2e", &json!({ "pledge": slow }))
        .await?;
    must_kubectl(&["uncordon", node], "").await?;
    gate_is(s, "Pace", false, "every gate is open; looked at again").await?;
    let first = pledged(s, 1).await?;
    let what = "gate Pace is closed for the second sector";
    let closed = wait_until(what, MINUTES, async || {
        let gate = gates(s).await?.into_iter().find(|g| g.name == "Pace");
        Ok(gate.filter(|g| !g.open && g.reason.contains("after the last")))
    })
    .await?;
    s.say(&format!("Pace closed: {}", closed.reason));
    let second = pledged(s, 2).await?;
    let between = second.duration_since(first).as_secs();
    // Creation times are whole seconds.
    ensure!(
        between >= DELAY + RECHECK - 1,
        "{between} s lie between two sectors, {DELAY} s and {RECHECK} s were asked for"
    );
    s.say(&format!(
        "the second sector came {between} s after the first"
    ));
    Ok(())
}

/// Waits until the group has made this many sectors; when it made the last of them.
async fn pledged(s: &Scenario, count: usize) -> anyhow::Result<Timestamp> {
    wait_until(
        &format!("{count} sectors are pledged"),
        MINUTES,
        async || {
            let made: Vec<Sector> = s.cluster.list(&s.namespace, "").await?;
            ensure!(made.len() <= count, "{} sectors are there", made.len());
            let times = made
                .iter()
                .filter_map(|s| s.metadata.creation_timestamp.as_ref());
            let last = times.map(|t| t.0).max();
            Ok(last.filter(|_| made.len() == count))
        },
    )
    .await
}

/// Fifty sectors that a person makes, and ten that the group wants, race for money for three. They start together, when
/// gas is cheap again.
async fn race(s: &Scenario) -> anyhow::Result<()> {
    base_fee(s, "5000000000000").await?;
    let what = "gate GasPrice is closed again";
    wait_until(what, MINUTES, async || {
        let gate = gates(s).await?.into_iter().find(|g| g.name == "GasPrice");
        Ok(gate.filter(|g| !g.open).map(drop))
    })
    .await?;
    let fast = json!({ "maxInFlight": 62, "delay": "0s", "recheck": "0s" });
    s.patch("sealinggroup", "e2e", &json!({ "pledge": fast }))
        .await?;
    let mut all = String::new();
    for number in 100..150 {
        all += &s.filled("sector.yaml", &[("number", &number.to_string())])?;
        all += "---\n";
    }
    must_kubectl(&["-n", &s.namespace, "apply", "-f", "-"], &all).await?;
    base_fee(s, "100").await?;
    these_begin(s, 5, "three sectors are pre-committed, and the others wait").await?;
    let fund = json!([{ "address": s.actor, "amount": "2" }]);
    s.chain.call("Devnet.Fund", fund).await?;
    these_begin(s, 6, "a fourth begins when there is money for it").await
}

/// Waits until so many sectors are pre-committed, those of the group included; never may more have begun.
async fn these_begin(s: &Scenario, count: usize, what: &str) -> anyhow::Result<()> {
    let sectors = async || s.cluster.list::<Sector>(&s.namespace, "").await;
    let begun = |all: &[Sector]| {
        let bound = |s: &&Sector| s.status.as_ref().is_some_and(|s| s.binding.is_some());
        all.iter().filter(bound).count()
    };
    wait_while(
        what,
        MINUTES,
        async || {
            let waits = |s: &&Sector| {
                s.status.as_ref().and_then(|s| s.phase) == Some(SectorPhase::WaitSeed)
            };
            Ok((sectors().await?.iter().filter(waits).count() == count).then_some(()))
        },
        async || {
            let begun = begun(&sectors().await?);
            ensure!(
                begun <= count,
                "{begun} sectors have begun, money is there for {count}"
            );
            Ok(())
        },
    )
    .await?;
    let all = wait_until(
        "every other sector says why it waits",
        MINUTES,
        async || {
            let all = sectors().await?;
            let closed = |s: &&Sector| {
                let conditions = s.status.iter().flat_map(|s| &s.conditions);
                conditions.into_iter().any(|c| c.reason == "BalanceClosed")
            };
            Ok((all.iter().filter(closed).count() == all.len() - count).then_some(all))
        },
    )
    .await?;
    ensure!(all.len() == 52, "there are {} sectors, not 52", all.len());
    let landed = s.chain.history().await?;
    let landed = landed
        .iter()
        .filter(|l| l.method == PRE_COMMIT && l.exit_code == 0);
    ensure!(
        landed.count() == count,
        "the chain has another number of pre-commits"
    );
    s.say(what);
    Ok(())
}
