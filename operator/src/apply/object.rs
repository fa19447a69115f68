//! Writes that need the API server alone.

use filstar_core::action::StatusPatch;
use filstar_core::world::Id;
use filstar_crds::{
    ChainMessage, ChainMessageStatus, GasPolicy, MessageState, Miner, PostBatch, SealingGroup,
    SealingNode, Sector, SectorPhase, SectorSpec, SectorStatus, SectorStore, finalizers, labels,
    managers,
};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::GroupVersionKind;
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde_json::{Value, json};

use super::{Applied, Applier, Error, body};
use crate::watch::{Change, Guarded, Kind, applied, removed};

/// Characters of what the API server says against a pod.
const WORDS: usize = 1000;

impl Applier {
    pub(super) async fn create_sector(&self, id: &Id, spec: SectorSpec) -> Result<Change, Error> {
        let (group, miner) = (spec.group_ref.name.clone(), spec.miner_ref.name.clone());
        let mut sector = Sector::new(&id.name, spec);
        sector.metadata.namespace = Some(id.namespace.clone());
        sector.metadata.finalizers = Some(vec![finalizers::SECTOR_FILES.into()]);
        sector.labels_mut().extend(sector_labels(&group, &miner));
        self.create(id, sector).await
    }

    pub(super) async fn adopt_sector(
        &self,
        id: &Id,
        group: &str,
        miner: &str,
    ) -> Result<Change, Error> {
        let live = self.live::<Sector>(id).await?;
        if live.meta().deletion_timestamp.is_some() {
            // A finalizer can no longer be added.
            return Err(Error::NoLongerDue("it is being deleted"));
        }
        let mut finalizers = live.finalizers().to_vec();
        if !finalizers.iter().any(|f| f == finalizers::SECTOR_FILES) {
            finalizers.push(finalizers::SECTOR_FILES.into());
        }
        let labels: serde_json::Map<String, Value> = sector_labels(group, miner)
            .map(|(k, v)| (k, json!(v)))
            .collect();
        let body = json!({ "metadata": {
            "resourceVersion": live.resource_version(),
            "labels": labels,
            "finalizers": finalizers,
        }});
        self.merge::<Sector>(id, &body).await
    }

    pub(super) async fn release_sector(&self, id: &Id, uid: &str) -> Result<Change, Error> {
        let live = self.live::<Sector>(id).await?;
        if live.uid().as_deref() != Some(uid) {
            return Err(Error::Gone);
        }
        if live.meta().deletion_timestamp.is_none() {
            return Err(Error::NoLongerDue("it is not being deleted"));
        }
        let others: Vec<_> = live
            .finalizers()
            .iter()
            .filter(|f| *f != finalizers::SECTOR_FILES)
            .collect();
        let body = json!({ "metadata": {
            "resourceVersion": live.resource_version(),
            "finalizers": others,
        }});
        let gone = others.is_empty();
        let change = self.merge::<Sector>(id, &body).await?;
        let (id, uid) = (id.clone(), uid.to_owned());
        Ok(if gone {
            removed::<Sector>(id, uid)
        } else {
            change
        })
    }

    pub(super) async fn patch_sector(
        &self,
        id: &Id,
        status: &SectorStatus,
        version: &str,
        gone: Option<&str>,
    ) -> Result<Change, Error> {
        if let Some(node) = gone {
            self.must_be_gone(node).await?;
        }
        self.apply_status::<Sector>(id, body::sector(id, version, status)?)
            .await
    }

    pub(super) async fn patch_message(
        &self,
        id: &Id,
        status: &ChainMessageStatus,
        version: &str,
    ) -> Result<Change, Error> {
        self.apply_status::<ChainMessage>(id, body::message(id, version, status)?)
            .await
    }

    /// Deletes a Sector that is proven, landed and not needed any more.
    pub(super) async fn delete_sector(&self, id: &Id, uid: &str) -> Result<Change, Error> {
        let live = self.live::<Sector>(id).await?;
        let status = readable(live.clone())?.status.unwrap_or_default();
        if status.phase != Some(SectorPhase::Proving) {
            return Err(Error::NoLongerDue("the sector is not proving"));
        }
        self.delete::<Sector>(id, uid, &live).await
    }

    /// Deletes a message whose life is over.
    pub(super) async fn delete_message(&self, id: &Id, uid: &str) -> Result<Change, Error> {
        let live = self.live::<ChainMessage>(id).await?;
        let state = readable(live.clone())?.status.unwrap_or_default().state;
        if !matches!(state, Some(MessageState::Final | MessageState::Failed)) {
            return Err(Error::NoLongerDue("the message is not final"));
        }
        self.delete::<ChainMessage>(id, uid, &live).await
    }

    /// Makes a pod. What the API server says against it goes into the world.
    pub(super) async fn make_pod(&self, pod: Pod) -> Applied {
        let id = Id::of(&pod);
        match self.create_pod(pod).await {
            Ok(made) => Applied::of(Ok(Box::new(move |world| {
                world.unmade.remove(&id);
                made(world)
            }))),
            Err(error) => {
                let mut changes: Vec<Change> = Vec::new();
                if error.is_refusal() {
                    let why: String = error.to_string().chars().take(WORDS).collect();
                    changes.push(Box::new(move |world| {
                        world.unmade.insert(id, why.clone()) != Some(why)
                    }));
                }
                Applied {
                    changes,
                    result: Err(error),
                }
            }
        }
    }

    async fn create_pod(&self, pod: Pod) -> Result<Change, Error> {
        let id = Id::of(&pod);
        let created = self.create(&id, pod).await;
        if matches!(created, Err(Error::Refused(_))) {
            // Perhaps its ServiceAccount is gone: look again before the next try.
            self.access.forget(&id.namespace);
        }
        created
    }

    /// Deletes a pod that we made.
    pub(super) async fn delete_pod(
        &self,
        id: &Id,
        uid: &str,
        reason: &str,
    ) -> Result<Change, Error> {
        let live = self.live::<Pod>(id).await?;
        if live.labels().get(labels::MANAGED_BY).map(String::as_str) != Some("filstar") {
            return Err(Error::NoLongerDue("it is not ours"));
        }
        tracing::info!(pod = %id, reason, "deleting the pod");
        self.delete::<Pod>(id, uid, &live).await
    }

    /// Deletes the object of a prover's pod, whatever its kubelet says. It may run on: a prover only reads, and what it reports
    /// is refused once its pod is not there.
    pub(super) async fn forget_pod(
        &self,
        id: &Id,
        uid: &str,
        reason: &str,
    ) -> Result<Change, Error> {
        let live = self.live::<Pod>(id).await?;
        if !live.labels().contains_key(labels::POST_BATCH) {
            return Err(Error::NoLongerDue("it is not a prover's"));
        }
        tracing::warn!(pod = %id, reason, "the pod is not waited for any more");
        self.delete_within::<Pod>(id, uid, &live, Some(0)).await
    }

    pub(super) async fn patch_status(
        &self,
        id: &Id,
        status: &StatusPatch,
    ) -> Result<Change, Error> {
        let body = body::status(id, status)?;
        match status {
            StatusPatch::Miner(_) => self.apply_status::<Miner>(id, body).await,
            StatusPatch::Group(_) => self.apply_status::<SealingGroup>(id, body).await,
            StatusPatch::Policy(_) => self.apply_status::<GasPolicy>(id, body).await,
            StatusPatch::Store { .. } => self.apply_status::<SectorStore>(id, body).await,
            StatusPatch::Batch(_) => self.apply_status::<PostBatch>(id, body).await,
            StatusPatch::Node(_) => self.apply_node_status(id, &body).await,
            StatusPatch::Unreadable { plural, message } => {
                self.report_unreadable(id, plural, message, &body).await
            }
        }
    }

    async fn report_unreadable(
        &self,
        id: &Id,
        plural: &str,
        message: &str,
        body: &Value,
    ) -> Result<Change, Error> {
        let kind = body::kind_of(plural).unwrap_or_default();
        let gvk = GroupVersionKind::gvk(filstar_crds::GROUP, filstar_crds::VERSION, kind);
        let resource = kube::core::ApiResource::from_gvk_with_plural(&gvk, plural);
        let client = self.client.clone();
        let api: Api<kube::core::DynamicObject> = if id.namespace.is_empty() {
            Api::all_with(client, &resource)
        } else {
            Api::namespaced_with(client, &id.namespace, &resource)
        };
        let params = PatchParams::apply(managers::OPERATOR).force();
        let patch = Patch::Apply(body);
        self.write("Unreadable", api.patch_status(&id.name, &params, &patch))
            .await?;
        let (key, message) = ((plural.to_owned(), id.clone()), message.to_owned());
        Ok(Box::new(move |world| {
            let Some(entry) = world.unreadable.get_mut(&key) else {
                return false;
            };
            entry.reported = Some(message);
            true
        }))
    }

    /// Applies a status; what comes back goes into the world.
    pub(super) async fn apply_status<K>(&self, id: &Id, body: Value) -> Result<Change, Error>
    where
        K: Kind + Resource<Scope = NamespaceResourceScope>,
    {
        let api: Api<Guarded<K>> = Api::namespaced(self.client.clone(), &id.namespace);
        let params = PatchParams::apply(managers::OPERATOR).force();
        let patch = Patch::Apply(&body);
        let call = api.patch_status(&id.name, &params, &patch);
        Ok(applied(self.write(K::PLURAL, call).await?))
    }

    /// The same for the one kind that has no namespace.
    async fn apply_node_status(&self, id: &Id, body: &Value) -> Result<Change, Error> {
        let api: Api<Guarded<SealingNode>> = Api::all(self.client.clone());
        let params = PatchParams::apply(managers::OPERATOR).force();
        let patch = Patch::Apply(body);
        let call = api.patch_status(&id.name, &params, &patch);
        Ok(applied(self.write(SealingNode::PLURAL, call).await?))
    }

    pub(super) async fn merge<K>(&self, id: &Id, body: &Value) -> Result<Change, Error>
    where
        K: Kind + Resource<Scope = NamespaceResourceScope>,
    {
        let api: Api<Guarded<K>> = Api::namespaced(self.client.clone(), &id.namespace);
        let params = PatchParams {
            field_manager: Some(managers::OPERATOR.into()),
            ..PatchParams::default()
        };
        let patch = Patch::Merge(body);
        Ok(applied(
            self.write(K::PLURAL, api.patch(&id.name, &params, &patch))
                .await?,
        ))
    }

    pub(super) async fn create<K>(&self, id: &Id, object: K) -> Result<Change, Error>
    where
        K: Kind + Serialize + Resource<Scope = NamespaceResourceScope>,
    {
        let params = PostParams {
            field_manager: Some(managers::OPERATOR.into()),
            ..PostParams::default()
        };
        let api = self.api::<K>(id);
        let created = self.write(K::PLURAL, api.create(&params, &object)).await?;
        Ok(applied(Guarded::Whole(Box::new(created))))
    }

    /// The object as it is now.
    pub(super) async fn live<K>(&self, id: &Id) -> Result<Guarded<K>, Error>
    where
        K: Kind + Resource<Scope = NamespaceResourceScope>,
    {
        let api: Api<Guarded<K>> = Api::namespaced(self.client.clone(), &id.namespace);
        self.read(api.get(&id.name)).await
    }

    /// Deletes exactly the object that was just read.
    pub(super) async fn delete<K>(
        &self,
        id: &Id,
        uid: &str,
        live: &Guarded<K>,
    ) -> Result<Change, Error>
    where
        K: Kind + Resource<Scope = NamespaceResourceScope>,
    {
        self.delete_within(id, uid, live, None).await
    }

    /// Deletes within a time that is not the object's own. Unit: seconds.
    async fn delete_within<K>(
        &self,
        id: &Id,
        uid: &str,
        live: &Guarded<K>,
        grace: Option<u32>,
    ) -> Result<Change, Error>
    where
        K: Kind + Resource<Scope = NamespaceResourceScope>,
    {
        if live.uid().as_deref() != Some(uid) {
            return Err(Error::Gone);
        }
        let preconditions = Preconditions {
            uid: Some(uid.into()),
            resource_version: live.resource_version(),
        };
        let params = DeleteParams {
            grace_period_seconds: grace,
            ..DeleteParams::default().preconditions(preconditions)
        };
        let api: Api<Guarded<K>> = Api::namespaced(self.client.clone(), &id.namespace);
        // What comes back is the object when it only begins to go: a finalizer, or a pod that still runs.
        let going = self
            .write(K::PLURAL, api.delete(&id.name, &params))
            .await?
            .left();
        match going.filter(|object| object.meta().deletion_timestamp.is_some()) {
            Some(object) => Ok(applied(object)),
            None => Ok(removed::<K>(id.clone(), uid.to_owned())),
        }
    }
}

/// The object, if our types can read it.
pub(super) fn readable<K>(object: Guarded<K>) -> Result<K, Error> {
    object
        .into_result()
        .map_err(|why| Error::Invalid(why.reason))
}

fn sector_labels(group: &str, miner: &str) -> impl Iterator<Item = (String, String)> {
    let own = [
        (labels::MANAGED_BY, "filstar"),
        (labels::GROUP, group),
        (labels::MINER, miner),
    ];
    own.map(|(k, v)| (k.to_owned(), v.to_owned())).into_iter()
}
