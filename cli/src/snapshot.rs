//! All objects of a namespace that a report speaks of, read at about the same time.

use anyhow::Context;
use filstar_crds::{ChainMessage, Miner, PostBatch, SealingGroup, Sector, SectorStore};
use kube::api::ListParams;
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource, ResourceExt};

use crate::text::plain;

/// Objects of one namespace, each kind by name; sectors by number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) namespace: String,
    pub(crate) miners: Vec<Miner>,
    pub(crate) groups: Vec<SealingGroup>,
    pub(crate) stores: Vec<SectorStore>,
    pub(crate) sectors: Vec<Sector>,
    pub(crate) messages: Vec<ChainMessage>,
    pub(crate) batches: Vec<PostBatch>,
}

impl Snapshot {
    /// Reads them.
    pub(crate) async fn read(client: &Client, namespace: &str) -> anyhow::Result<Self> {
        let (miners, groups, stores, sectors, messages, batches) = tokio::try_join!(
            list::<Miner>(client, Some(namespace)),
            list::<SealingGroup>(client, Some(namespace)),
            list::<SectorStore>(client, Some(namespace)),
            list::<Sector>(client, Some(namespace)),
            list::<ChainMessage>(client, Some(namespace)),
            list::<PostBatch>(client, Some(namespace)),
        )?;
        Ok(Self {
            namespace: namespace.to_owned(),
            miners,
            groups,
            stores,
            sectors,
            messages,
            batches,
        }
        .sorted())
    }

    /// What to say of a namespace without any object of ours: most often it is the wrong one. None when there is one.
    pub(crate) fn nothing(&self) -> Option<String> {
        let empty = self.miners.is_empty()
            && self.groups.is_empty()
            && self.stores.is_empty()
            && self.sectors.is_empty()
            && self.messages.is_empty()
            && self.batches.is_empty();
        empty.then(|| {
            format!(
                "namespace {} has no objects of Filstar: name another with -n (kubectl get miners -A shows where there are some)",
                self.namespace
            )
        })
    }

    /// In the order in which a report shows them.
    pub(crate) fn sorted(mut self) -> Self {
        self.sectors
            .sort_by_key(|s| (s.spec.miner_ref.name.clone(), s.spec.number));
        self.messages.sort_by_key(|m| {
            let status = m.status.as_ref();
            let nonce = status.and_then(|s| s.nonce).unwrap_or(u64::MAX);
            (m.spec.miner_ref.name.clone(), nonce, m.name_any())
        });
        self
    }
}

/// All objects of a kind, in one namespace or in all.
pub(crate) async fn list<K>(client: &Client, namespace: Option<&str>) -> anyhow::Result<Vec<K>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let api: Api<K> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let listed = api
        .list(&ListParams::default())
        .await
        .map_err(plain)
        .with_context(|| {
            let place =
                namespace.map_or_else(|| "all namespaces".to_owned(), |n| format!("namespace {n}"));
            format!("cannot list {} in {place}", K::plural(&()))
        })?;
    Ok(listed.items)
}
