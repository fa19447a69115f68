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
            list::<Miner>(client, namespace),
            list::<SealingGroup>(client, namespace),
            list::<SectorStore>(client, namespace),
            list::<Sector>(client, namespace),
            list::<ChainMessage>(client, namespace),
            list::<PostBatch>(client, namespace),
        )?;
        Ok(Self {
            miners,
            groups,
            stores,
            sectors,
            messages,
            batches,
        }
        .sorted())
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

async fn list<K>(client: &Client, namespace: &str) -> anyhow::Result<Vec<K>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let listed = api
        .list(&ListParams::default())
        .await
        .map_err(plain)
        .with_context(|| format!("cannot list {} in namespace {namespace}", K::plural(&())))?;
    Ok(listed.items)
}
