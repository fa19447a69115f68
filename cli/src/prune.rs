//! What is left of nodes that have left the cluster: listed, and forgotten when asked.
//!
//! What is listed and what would be done are functions of what was read. Nothing is changed without `--yes`, and no file of
//! a sector or a store is ever removed: the operator is told that a node does not come back, and a SealingNode without Node goes.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail};
use filstar_crds::{
    NotOnChain, SealingGroup, SealingNode, Sector, SectorPhase, SectorStatus, SectorStore,
    annotations,
};
use k8s_openapi::api::core::v1::Node;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use crate::snapshot::list;
use crate::table::table;
use crate::text::plain;

/// What was read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    pub(crate) sealing_nodes: Vec<SealingNode>,
    pub(crate) groups: Vec<SealingGroup>,
    pub(crate) stores: Vec<SectorStore>,
    pub(crate) sectors: Vec<Sector>,
}

/// What is left of nodes that are gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Left {
    rows: Vec<Vec<String>>,
    pub(crate) steps: Vec<Step>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Delete a `SealingNode` whose Node is gone.
    Forget { name: String, uid: Option<String> },
    /// Tell the operator that a sector's node does not come back.
    GiveUp {
        namespace: String,
        sector: String,
        node: String,
        version: Option<String>,
    },
}

impl Cluster {
    async fn read(client: &Client, namespace: Option<&str>) -> anyhow::Result<Self> {
        let nodes: Api<Node> = Api::all(client.clone());
        let sealing_nodes: Api<SealingNode> = Api::all(client.clone());
        let all = ListParams::default();
        let (nodes, sealing_nodes) = tokio::try_join!(nodes.list(&all), sealing_nodes.list(&all))
            .map_err(plain)
            .context("cannot list nodes and sealingnodes")?;
        let (groups, stores, sectors) = tokio::try_join!(
            list::<SealingGroup>(client, namespace),
            list::<SectorStore>(client, namespace),
            list::<Sector>(client, namespace),
        )?;
        Ok(Self {
            nodes: nodes.items,
            sealing_nodes: sealing_nodes.items,
            groups,
            stores,
            sectors,
        })
    }
}

/// Lists what is left of gone nodes, of these alone if any are named, in one namespace or in all; forgets it with `yes`.
pub(crate) async fn prune(
    client: &Client,
    namespace: Option<&str>,
    names: &[String],
    yes: bool,
) -> anyhow::Result<()> {
    let cluster = Cluster::read(client, namespace).await?;
    let left = left(&cluster, names)?;
    print!("{}", left.text(namespace, yes));
    if yes {
        for step in &left.steps {
            println!("{}", step.take(client).await?);
        }
    }
    Ok(())
}

/// What is left, and what to do about it.
pub(crate) fn left(cluster: &Cluster, names: &[String]) -> anyhow::Result<Left> {
    let there: BTreeSet<String> = cluster.nodes.iter().map(ResourceExt::name_any).collect();
    if let Some(name) = names.iter().find(|name| there.contains(*name)) {
        bail!(
            "node {name} is in the cluster. To empty it use spec.maintenance of its SealingNode, or kubectl drain; once it is \
             gone for good, kubectl delete node {name}"
        );
    }
    let gone = |node: &str| {
        !there.contains(node) && (names.is_empty() || names.iter().any(|name| name == node))
    };
    let mut left = Left::default();
    for object in &cluster.sealing_nodes {
        if gone(&object.name_any()) {
            left.sealing_node(object);
        }
    }
    for sector in &cluster.sectors {
        if let Some(node) = node_with_files(sector).filter(|node| gone(node)) {
            left.sector(cluster, sector, node);
        }
    }
    if names.is_empty() {
        for store in &cluster.stores {
            left.store(cluster, store);
        }
    }
    Ok(left)
}

/// The node whose scratch has a sector's files.
fn node_with_files(sector: &Sector) -> Option<&str> {
    let status = sector.status.as_ref()?;
    let landed = status.store.as_ref().is_some_and(|store| store.landed);
    let through = landed || status.phase == Some(SectorPhase::Proving);
    let going = sector.metadata.deletion_timestamp.is_some();
    let binding = status.binding.as_ref().filter(|_| !through && !going)?;
    Some(&binding.node)
}

/// Whether the chain has a sector, or may have it: of a failed one, by the phase in which it failed.
fn may_be_on_chain(status: &SectorStatus) -> bool {
    let failed_in = status.failure.as_ref().map(|f| f.phase);
    let phase = status.phase.unwrap_or_default();
    let phase = failed_in
        .filter(|_| phase == SectorPhase::Failed)
        .unwrap_or(phase);
    let noted = status
        .messages
        .as_ref()
        .is_some_and(|m| m.pre_commit.is_some());
    noted || status.commit_deadline.is_some() || phase >= SectorPhase::WaitSeed
}

impl Left {
    fn row(&mut self, object: String, node: &str, what: String) {
        self.rows.push(vec![object, node.to_owned(), what]);
    }

    fn sealing_node(&mut self, object: &SealingNode) {
        let name = object.name_any();
        let maintenance = object.spec.maintenance.as_ref();
        let what = match maintenance {
            Some(wish) => format!(
                "asks for maintenance{}; is deleted",
                wish.reason
                    .as_ref()
                    .map_or_else(String::new, |reason| format!(" ({reason})"))
            ),
            None => "is deleted".to_owned(),
        };
        self.row(format!("sealingnode/{name}"), &name, what);
        let uid = object.uid();
        self.steps.push(Step::Forget { name, uid });
    }

    fn sector(&mut self, cluster: &Cluster, sector: &Sector, node: &str) {
        let status = sector.status.clone().unwrap_or_default();
        let group = |g: &&SealingGroup| {
            g.name_any() == sector.spec.group_ref.name && g.namespace() == sector.namespace()
        };
        let group = cluster.groups.iter().find(group);
        let policy = group.map_or_else(NotOnChain::default, |g| g.spec.drain.not_on_chain);
        let deadline = status.commit_deadline;
        let then = if may_be_on_chain(&status) {
            let until = deadline.map_or_else(String::new, |d| format!(", due by epoch {d}"));
            format!("on chain, or may be{until}; is sealed again on another node, with its ticket")
        } else {
            match policy {
                NotOnChain::Checkpoint => "not on chain; is sealed anew on another node".to_owned(),
                NotOnChain::Delete => {
                    "not on chain; is deleted, since drain.notOnChain of its group is Delete"
                        .to_owned()
                }
            }
        };
        let phase = status.phase.unwrap_or_default().as_str();
        let given_up = sector.annotations().get(annotations::FORGET_NODE);
        let told = given_up.is_some_and(|name| name == node);
        let told = if told { " (the operator is told)" } else { "" };
        let (namespace, name) = (sector.namespace().unwrap_or_default(), sector.name_any());
        let what = format!("in {phase}, {then}{told}");
        self.row(format!("sector/{name} -n {namespace}"), node, what);
        if told.is_empty() {
            self.steps.push(Step::GiveUp {
                namespace,
                sector: name,
                node: node.to_owned(),
                version: sector.resource_version(),
            });
        }
    }

    /// A store that no node can mount. It may still have data: nothing is done about it.
    fn store(&mut self, cluster: &Cluster, store: &SectorStore) {
        let wanted = &store.spec.node_selector;
        if wanted.is_empty() || cluster.nodes.iter().any(|node| has(node, wanted)) {
            return;
        }
        let labels = wanted.iter().map(|(k, v)| format!("{k}={v}"));
        let labels: Vec<String> = labels.collect();
        let sectors = store.status.as_ref().map_or(0, |s| s.sectors);
        let what = format!(
            "no node has {}; {sectors} sectors landed there. Stays: label a node that mounts it, or delete it yourself when \
             nothing in it is proven any more",
            labels.join(",")
        );
        let namespace = store.namespace().unwrap_or_default();
        let object = format!("sectorstore/{} -n {namespace}", store.name_any());
        self.row(object, "-", what);
    }

    pub(crate) fn text(&self, namespace: Option<&str>, yes: bool) -> String {
        let place = namespace.map_or_else(|| "all namespaces".into(), |n| format!("namespace {n}"));
        if self.rows.is_empty() {
            return format!("nothing is left of gone nodes ({place})\n");
        }
        let head = format!("Left of nodes that are gone ({place})\n");
        let tail = match self.steps.len() {
            _ if yes => "",
            0 => "nothing to forget\n",
            _ => {
                "nothing was changed; to forget these nodes, so that nothing waits for them any more: --yes\n"
            }
        };
        let rows = table(&["OBJECT", "NODE", "WHAT"], &self.rows);
        format!("{head}{rows}{tail}")
    }
}

impl Step {
    async fn take(&self, client: &Client) -> anyhow::Result<String> {
        match self {
            Self::Forget { name, uid } => {
                let api: Api<SealingNode> = Api::all(client.clone());
                let params = DeleteParams {
                    preconditions: Some(Preconditions {
                        uid: uid.clone(),
                        resource_version: None,
                    }),
                    ..DeleteParams::default()
                };
                api.delete(name, &params).await.map_err(plain)?;
                Ok(format!("sealingnode.filstar.io/{name} deleted"))
            }
            Self::GiveUp {
                namespace,
                sector,
                node,
                version,
            } => {
                let api: Api<Sector> = Api::namespaced(client.clone(), namespace);
                let patch = give_up(node, version.as_deref());
                let params = PatchParams::default();
                api.patch(sector, &params, &Patch::Merge(&patch))
                    .await
                    .map_err(plain)
                    .with_context(|| format!("sector {sector} in namespace {namespace}"))?;
                Ok(format!(
                    "sector.filstar.io/{sector} does not wait for node {node} any more"
                ))
            }
        }
    }
}

/// Refused when the sector changed since it was read: it may be bound to another node by now.
fn give_up(node: &str, version: Option<&str>) -> serde_json::Value {
    json!({ "metadata": {
        "resourceVersion": version,
        "annotations": { annotations::FORGET_NODE: node },
    }})
}

fn has(node: &Node, labels: &BTreeMap<String, String>) -> bool {
    labels
        .iter()
        .all(|(key, value)| node.labels().get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn cluster(nodes: &[&str]) -> Cluster {
        let demo = testing::demo();
        let node = |name: &&str| Node {
            metadata: kube::api::ObjectMeta {
                name: Some((*name).to_owned()),
                ..Default::default()
            },
            ..Node::default()
        };
        Cluster {
            nodes: nodes.iter().map(node).collect(),
            groups: demo.groups,
            stores: demo.stores,
            sectors: demo.sectors,
            ..Cluster::default()
        }
    }

    fn text(cluster: &Cluster) -> String {
        left(cluster, &[]).unwrap().text(None, false)
    }

    #[test]
    fn nothing_is_left_while_all_nodes_are_there() {
        let found = left(&cluster(&["node-a", "node-b"]), &[]).unwrap();
        assert_eq!(found, Left::default());
        assert!(found.text(None, false).starts_with("nothing is left"));
    }

    #[test]
    fn a_sector_off_chain_says_what_becomes_of_it_by_policy_and_a_proven_one_is_not_named() {
        let mut world = cluster(&["node-c"]);
        let anew = text(&world);
        assert!(anew.contains("sealed anew on another node"), "{anew}");
        assert!(!anew.contains("t01000-0"), "{anew}");
        world.groups[0].spec.drain.not_on_chain = NotOnChain::Delete;
        assert!(text(&world).contains("is deleted, since"));
        let steps = left(&world, &[]).unwrap().steps;
        let give_up = |s: &Step| matches!(s, Step::GiveUp { sector, node, .. } if sector == "t01000-1" && node == "node-b");
        assert!(steps.len() == 1 && steps.iter().all(give_up), "{steps:?}");
    }

    #[test]
    fn a_sector_on_chain_names_its_deadline_and_a_failed_one_counts_as_where_it_failed() {
        let mut world = cluster(&["node-a"]);
        let status = world.sectors[1].status.as_mut().unwrap();
        status.phase = Some(SectorPhase::C2);
        status.commit_deadline = Some(7000);
        let said = text(&world);
        assert!(
            said.contains("on chain, or may be, due by epoch 7000"),
            "{said}"
        );
        assert!(said.contains("sealed again"), "{said}");
        let status = world.sectors[1].status.as_mut().unwrap();
        status.commit_deadline = None;
        status.phase = Some(SectorPhase::Failed);
        assert!(!may_be_on_chain(&SectorStatus::default()));
        let failure = |phase| {
            Some(filstar_crds::Failure {
                phase,
                class: filstar_crds::TaskClass::Fatal,
                message: String::new(),
            })
        };
        let mut failed = status.clone();
        failed.failure = failure(SectorPhase::C1);
        assert!(may_be_on_chain(&failed));
        failed.failure = failure(SectorPhase::Pc1);
        assert!(!may_be_on_chain(&failed));
    }

    #[test]
    fn what_was_told_already_is_not_told_again() {
        let mut world = cluster(&["node-a"]);
        let told = |node: &str| [(annotations::FORGET_NODE.to_owned(), node.to_owned())].into();
        world.sectors[1].metadata.annotations = Some(told("node-b"));
        assert_eq!(left(&world, &[]).unwrap().steps, []);
        assert!(text(&world).contains("the operator is told"));
        world.sectors[1].metadata.annotations = Some(told("node-z"));
        assert_eq!(left(&world, &[]).unwrap().steps.len(), 1);
    }

    #[test]
    fn a_node_that_is_there_is_refused_and_names_narrow_the_list() {
        let world = cluster(&["node-a"]);
        let names = |name: &str| vec![name.to_owned()];
        let refused = left(&world, &names("node-a")).unwrap_err().to_string();
        assert!(refused.contains("is in the cluster"), "{refused}");
        assert_eq!(left(&world, &names("node-x")).unwrap(), Left::default());
        assert_eq!(left(&world, &names("node-b")).unwrap().steps.len(), 1);
    }

    #[test]
    fn a_store_without_a_node_is_named_and_left_alone_and_a_sealing_node_goes_by_its_uid() {
        let mut world = cluster(&["node-a", "node-b"]);
        world.stores[0].spec.node_selector = [("disks".into(), "jbod-7".into())].into();
        let mut gone = SealingNode::new("node-c", filstar_crds::SealingNodeSpec::default());
        gone.metadata.uid = Some("u".into());
        world.sealing_nodes.push(gone);
        let found = left(&world, &[]).unwrap();
        let (name, uid) = ("node-c".to_owned(), Some("u".to_owned()));
        assert_eq!(found.steps, [Step::Forget { name, uid }]);
        let said = found.text(None, false);
        assert!(
            said.contains("no node has disks=jbod-7; 1 sectors"),
            "{said}"
        );
        assert!(said.contains("nothing was changed"), "{said}");
    }

    #[test]
    fn what_is_told_names_the_version_that_was_read() {
        assert_eq!(
            give_up("node-b", Some("7")),
            json!({"metadata": {"resourceVersion": "7",
                "annotations": {"filstar.io/forget-node": "node-b"}}})
        );
    }
}
