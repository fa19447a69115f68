//! The gate Landing, by its cause: a finished sector that does not land. Sectors get there only behind a SNARK, so this
//! is a part of a scenario that makes one.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use filstar_crds::{GateStatus, SectorPhase};
use filstar_e2e::{Scenario, wait_until, wait_while};
use serde_json::json;

/// Longer than the SNARKs of other scenarios, which may come first.
const MINUTES: Duration = Duration::from_mins(8);

/// Sector 0 is on its way and may not land: the group, which wants another one, pledges none, though every other gate is
/// open. Then it lands, and the gate opens.
pub(crate) async fn gate_closes_and_opens(s: &Scenario) -> anyhow::Result<()> {
    let gates = json!({ "landing": { "maxWaiting": 1 } });
    let stays = json!({ "finalize": { "enabled": false }, "pledge": { "gates": gates } });
    s.patch("sealinggroup", "e2e", &stays).await?;
    let lands = |status: &filstar_crds::SectorStatus| status.phase == Some(SectorPhase::Landing);
    s.sector_until(0, "finished, and may not land", lands)
        .await?;
    s.patch(
        "sealinggroup",
        "e2e",
        &json!({ "pledge": { "maxInFlight": 2 } }),
    )
    .await?;
    s.patch("miner", "e2e", &json!({ "sectorNumbers": { "max": 1 } }))
        .await?;
    let what = "gate Landing is closed and every other one open";
    let closed = wait_while(
        what,
        MINUTES,
        async || {
            let gates = gates_of(s).await?;
            let shut: Vec<_> = gates.iter().filter(|g| !g.open).collect();
            ensure!(matches!(*shut, [one] if one.name == "Landing"), "{shut:?}");
            Ok(shut.first().map(|g| g.reason.clone()))
        },
        async || none_is_pledged(s).await,
    )
    .await?;
    ensure!(
        closed.contains("1 sector to land, pledge.gates.landing.maxWaiting is 1"),
        "{closed}"
    );
    s.say(&format!("Landing closed: {closed}"));
    // Another look at it, with all there is: still none.
    let head = s.chain.head().await?;
    let what = "two epochs pass, and nothing is pledged";
    wait_while(
        what,
        MINUTES,
        async || Ok((s.chain.head().await? >= head + 2).then_some(())),
        async || none_is_pledged(s).await,
    )
    .await?;
    // The books of this scenario know one sector.
    s.patch(
        "sealinggroup",
        "e2e",
        &json!({ "pledge": { "maxInFlight": 1 } }),
    )
    .await?;
    s.patch("miner", "e2e", &json!({ "sectorNumbers": { "max": 0 } }))
        .await?;
    s.patch(
        "sealinggroup",
        "e2e",
        &json!({ "finalize": { "enabled": true } }),
    )
    .await?;
    let opened = wait_until("gate Landing opens", MINUTES, async || {
        let all = gates_of(s).await?;
        let gate = all.into_iter().find(|g| g.name == "Landing");
        let gate = gate.context("no gate Landing")?;
        Ok(gate.open.then_some(gate.reason))
    })
    .await?;
    s.say(&format!("Landing open: {opened}"));
    Ok(())
}

async fn gates_of(s: &Scenario) -> anyhow::Result<Vec<GateStatus>> {
    Ok(s.group().await?.status.unwrap_or_default().gates)
}

async fn none_is_pledged(s: &Scenario) -> anyhow::Result<()> {
    let other = s.sector(1).await?;
    ensure!(other.is_none(), "a sector was pledged past Landing");
    Ok(())
}
