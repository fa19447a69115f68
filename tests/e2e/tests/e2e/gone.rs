//! A node that is gone: its sectors say so, `kubectl filstar prune` names them, and once they are given up they go on
//! elsewhere. A part of a scenario that has a sector on its way.

use anyhow::{Context as _, ensure};
use filstar_crds::{Sector, SectorPhase, SectorStatus, conditions, managers};
use filstar_e2e::cluster::{client, must_kubectl};
use filstar_e2e::{Scenario, setup};
use serde_json::json;

const NODE: &str = "server-that-is-gone";

/// Sector 0, which is not on chain, is made to belong to a node that the cluster does not have, as if its Node had been deleted.
/// The files of this one are where they were; what is done about the sector does not know that.
pub(crate) async fn sector_is_given_up(s: &Scenario) -> anyhow::Result<()> {
    let name = s.sector_name(0);
    let ns = s.namespace.as_str();
    lose_node(s, &name).await?;
    let says = |status: &SectorStatus| {
        let mut all = status.conditions.iter();
        let gone = all.any(|c| c.type_ == conditions::NODE_GONE && c.status == "True");
        let mut all = status.conditions.iter();
        let ready = all.find(|c| c.type_ == conditions::READY);
        gone && ready.is_some_and(|c| c.reason == "NodeGone" && c.message.contains("prune"))
    };
    s.sector_until(0, "says that its node is gone", says)
        .await?;
    let listed = prune(ns, &[]).await?;
    ensure!(
        listed.contains(&format!("sector/{name}"))
            && listed.contains("sealed anew on another node")
            && listed.contains("nothing was changed"),
        "{listed}"
    );
    let refused = prune(ns, &["node-a", "--yes"]).await;
    ensure!(refused.is_err(), "a node that is there was given up");
    let still = s.sector(0).await?.unwrap_or_default();
    ensure!(says(&still), "a list changed something: {still:?}");
    prune(ns, &[NODE, "--yes"]).await?;
    let elsewhere = |status: &SectorStatus| {
        let bound = status.binding.as_ref().is_some_and(|b| b.node != NODE);
        let begun = status.timeline.iter();
        let begun = begun.filter(|t| t.phase == SectorPhase::Allocated).count();
        bound && begun == 2
    };
    s.sector_until(0, "is sealed anew elsewhere", elsewhere)
        .await?;
    let events = [
        "-n",
        ns,
        "get",
        "events",
        "-o",
        "jsonpath={.items[*].reason}",
    ];
    let told = must_kubectl(&events, "").await?;
    for reason in ["NodeGone", "BegunAnew"] {
        ensure!(told.contains(reason), "no event {reason}: {told}");
    }
    let left = prune(ns, &[NODE]).await?;
    ensure!(left.contains("nothing is left"), "{left}");
    Ok(())
}

/// Writes the sector's status with another node, as the operator: nobody else then has a say in it.
async fn lose_node(s: &Scenario, name: &str) -> anyhow::Result<()> {
    let sector: Sector = s.cluster.must(&s.namespace, name).await?;
    let mut status = sector.status.context("a sector in PC2 has a status")?;
    status.sealer = None;
    let binding = status.binding.as_mut();
    binding.context("a sector in PC2 is bound")?.node = NODE.into();
    let body = json!({
        "apiVersion": "filstar.io/v1alpha1", "kind": "Sector",
        "metadata": {"name": name, "namespace": s.namespace}, "status": status,
    });
    let manager = format!("--field-manager={}", managers::OPERATOR);
    let apply = ["apply", "--server-side", "--force-conflicts", &manager];
    let rest = ["--subresource=status", "-f", "-"];
    must_kubectl(&[&apply[..], &rest].concat(), &body.to_string())
        .await
        .map(drop)
}

async fn prune(namespace: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let program = setup::program("kubectl-filstar")?;
    let program = program.to_str().context("a path that is no text")?;
    let all = [&["prune", "-n", namespace], arguments].concat();
    let said = client(program, &all, "").await?;
    ensure!(said.ok, "kubectl filstar prune: {}", said.text);
    Ok(said.out)
}
