//! Writes that empty a node: cordons, disruption budgets, evictions, and the end of sectors that are not on chain.
//!
//! Never: an eviction of a pod other than the one that was just read, on a node that nobody wants empty; the end of a
//! sector with a pre-commit; a cordon undone that is not ours.

use filstar_core::action::NodeChange;
use filstar_core::plan::{drain, names};
use filstar_core::world::{Id, Refused};
use filstar_crds::{
    ChainMessage, MessageKind, MessageState, SealingNode, Sector, SectorPhase, annotations, labels,
    managers,
};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::policy::v1::{Eviction, PodDisruptionBudget};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, Preconditions};
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Resource, ResourceExt};
use serde_json::{Value, json};

use super::object::readable;
use super::{Applied, Applier, Error};
use crate::watch::{Change, Guarded, Kind, applied, removed};

/// Pre-commits of one sector that are looked for, at least.
const MESSAGES: u32 = 8;

impl Applier {
    /// Asks for a pod to go, by the eviction API. What speaks against it goes into the world.
    pub(super) async fn evict_pod(&self, id: &Id, uid: &str, node: &str) -> Applied {
        match self.try_evict(id, uid, node).await {
            Ok(change) => Applied::of(Ok(change)),
            Err(error) => {
                let changes = refused_change(id, uid, &error).into_iter().collect();
                Applied {
                    changes,
                    result: Err(error),
                }
            }
        }
    }

    async fn try_evict(&self, id: &Id, uid: &str, node: &str) -> Result<Change, Error> {
        let live = self.live::<Pod>(id).await?;
        if live.uid().as_deref() != Some(uid) {
            return Err(Error::Gone);
        }
        if live.meta().deletion_timestamp.is_some() {
            return Ok(applied(live));
        }
        if live.labels().get(labels::MANAGED_BY).map(String::as_str) != Some("filstar") {
            return Err(Error::NoLongerDue("it is not ours"));
        }
        self.must_be_closing(node).await?;
        let eviction = Eviction {
            metadata: ObjectMeta {
                name: Some(id.name.clone()),
                namespace: Some(id.namespace.clone()),
                ..ObjectMeta::default()
            },
            delete_options: Some(DeleteOptions {
                preconditions: Some(Preconditions {
                    uid: Some(uid.to_owned()),
                    resource_version: None,
                }),
                ..DeleteOptions::default()
            }),
        };
        let api = self.api::<Pod>(id);
        let params = PostParams::default();
        let call = api.create_subresource::<_, Value>("eviction", &id.name, &params, &eviction);
        tracing::info!(pod = %id, node, "evicting the pod");
        let asked = self.write("pods/eviction", call).await;
        asked.map_err(refusal)?;
        // What the pod looks like now: it is leaving, or gone.
        match self.live::<Pod>(id).await {
            Ok(pod) => {
                let (now, id) = (applied(pod), id.clone());
                Ok(Box::new(move |world| {
                    world.refused.remove(&id);
                    now(world)
                }))
            }
            Err(Error::Gone) => Ok(crate::watch::removed::<Pod>(id.clone(), uid.to_owned())),
            Err(_) => Ok(Box::new(|_| false)),
        }
    }

    /// Whether somebody still wants the node empty: a cordon, or maintenance.
    async fn must_be_closing(&self, name: &str) -> Result<(), Error> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let node = self.read(nodes.get(name)).await?;
        if node.spec.as_ref().and_then(|s| s.unschedulable) == Some(true) {
            return Ok(());
        }
        let wishes: Api<Guarded<SealingNode>> = Api::all(self.client.clone());
        let wish = match self.read(wishes.get(name)).await {
            Err(Error::Gone) => None,
            found => Some(readable(found?)?),
        };
        if wish.is_some_and(|w| w.spec.maintenance.is_some()) {
            return Ok(());
        }
        Err(Error::NoLongerDue("nobody wants the node empty any more"))
    }

    /// Deletes a Sector that is not on chain.
    pub(super) async fn abort_sector(
        &self,
        id: &Id,
        uid: &str,
        version: &str,
        reason: &str,
        gone: Option<&str>,
    ) -> Result<Change, Error> {
        if let Some(node) = gone {
            self.must_be_gone(node).await?;
        }
        let live = self.live::<Sector>(id).await?;
        if live.uid().as_deref() != Some(uid) {
            return Err(Error::Gone);
        }
        if live.resource_version().as_deref() != Some(version) {
            return Err(Error::Conflict);
        }
        let status = readable(live.clone())?.status.unwrap_or_default();
        let phase = status.phase.unwrap_or_default();
        let failed_in = status.failure.as_ref().map(|f| f.phase);
        if !may_be_aborted(phase, failed_in) {
            return Err(Error::NoLongerDue("the sector is on chain"));
        }
        let prefix = names::sector_message_prefix(&id.name, MessageKind::PreCommit);
        for n in 1.. {
            let message = Id::new(&id.namespace, format!("{prefix}{n}"));
            match self.live::<ChainMessage>(&message).await {
                // A sector that began anew has more of them.
                Err(Error::Gone) if n >= MESSAGES => break,
                Err(Error::Gone) => {}
                Err(error) => return Err(error),
                Ok(found) => {
                    let state = readable(found)?.status.unwrap_or_default().state;
                    if state != Some(MessageState::Failed) {
                        return Err(Error::NoLongerDue("a pre-commit is on its way"));
                    }
                }
            }
        }
        tracing::info!(sector = %id, reason, "deleting the sector");
        self.delete::<Sector>(id, uid, &live).await
    }

    pub(super) async fn create_budget(&self, budget: PodDisruptionBudget) -> Result<Change, Error> {
        self.create(&Id::of(&budget), budget).await
    }

    pub(super) async fn delete_budget(&self, id: &Id, uid: &str) -> Result<Change, Error> {
        let live = self.live::<PodDisruptionBudget>(id).await?;
        if live.labels().get(labels::MANAGED_BY).map(String::as_str) != Some("filstar") {
            return Err(Error::NoLongerDue("it is not ours"));
        }
        self.delete::<PodDisruptionBudget>(id, uid, &live).await
    }

    /// Sets or undoes our cordon, if the Node still is as the plan saw it.
    pub(super) async fn patch_node(
        &self,
        id: &Id,
        uid: &str,
        change: NodeChange,
    ) -> Result<Change, Error> {
        let api: Api<Guarded<Node>> = Api::all(self.client.clone());
        let live = self.read(api.get(&id.name)).await?;
        if live.uid().as_deref() != Some(uid) {
            return Err(Error::Gone);
        }
        let node = readable(live)?;
        if drain::change(drain::Wish::behind(&change), &node).as_ref() != Some(&change) {
            return Err(Error::NoLongerDue("somebody changed the node's cordon"));
        }
        let params = PatchParams {
            field_manager: Some(managers::OPERATOR.into()),
            ..PatchParams::default()
        };
        let body = node_body(&change, node.resource_version().as_deref());
        let patch = Patch::Merge(&body);
        let call = api.patch(&id.name, &params, &patch);
        Ok(applied(self.write("nodes", call).await?))
    }
}

impl Applier {
    /// Refuses what is done because a node is gone, when it is there: what we know of Nodes may be minutes old.
    pub(super) async fn must_be_gone(&self, node: &str) -> Result<(), Error> {
        if self.is_there(node).await? {
            return Err(Error::NoLongerDue("its Node is there"));
        }
        Ok(())
    }

    /// Whether the cluster has a Node at this very moment.
    pub(super) async fn is_there(&self, node: &str) -> Result<bool, Error> {
        let nodes: Api<Guarded<Node>> = Api::all(self.client.clone());
        match self.read(nodes.get(node)).await {
            Err(Error::Gone) => Ok(false),
            found => found.map(|_| true),
        }
    }

    /// Takes a person's word back that a node does not come back, unless it says something now.
    pub(super) async fn clear_forget_node(&self, id: &Id, version: &str) -> Result<Change, Error> {
        let live = self.live::<Sector>(id).await?;
        if live.resource_version().as_deref() != Some(version) {
            return Err(Error::Conflict);
        }
        let sector = readable(live)?;
        if let Some(node) = drain::gave_up(&sector)
            && !self.is_there(node).await?
        {
            return Err(Error::NoLongerDue("its Node is gone"));
        }
        let body = json!({ "metadata": {
            "resourceVersion": version,
            "annotations": { annotations::FORGET_NODE: null },
        }});
        self.merge::<Sector>(id, &body).await
    }

    /// Deletes a `SealingNode` that nobody asks anything of and that has no Node.
    pub(super) async fn delete_sealing_node(&self, id: &Id, uid: &str) -> Result<Change, Error> {
        self.must_be_gone(&id.name).await?;
        let api: Api<Guarded<SealingNode>> = Api::all(self.client.clone());
        let live = readable(self.read(api.get(&id.name)).await?)?;
        if live.uid().as_deref() != Some(uid) {
            return Err(Error::Gone);
        }
        if live.spec.maintenance.is_some() {
            return Err(Error::NoLongerDue("it asks for maintenance"));
        }
        let preconditions = kube::api::Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: live.resource_version(),
        };
        let params = DeleteParams::default().preconditions(preconditions);
        let call = api.delete(&id.name, &params);
        self.write(SealingNode::PLURAL, call).await?;
        Ok(removed::<SealingNode>(id.clone(), uid.to_owned()))
    }
}

/// Notes in the world what speaks against an eviction.
fn refused_change(id: &Id, uid: &str, error: &Error) -> Option<Change> {
    let Error::EvictionRefused { budget, message } = error else {
        return None;
    };
    let refused = Refused {
        uid: uid.to_owned(),
        budget: budget.clone(),
        message: message.clone(),
    };
    let id = id.clone();
    Some(Box::new(move |world| {
        world.refused.insert(id, refused.clone()) != Some(refused)
    }))
}

/// A merge patch; refused when the Node changed since it was read.
fn node_body(change: &NodeChange, version: Option<&str>) -> Value {
    let (mark, reason) = match change {
        NodeChange::Cordon => (Some(drain::Mark::Ours), None),
        NodeChange::CordonForTask { task } => (Some(drain::Mark::TaskOverdue), Some(task)),
        NodeChange::MarkLifted => (Some(drain::Mark::Lifted), None),
        NodeChange::Uncordon | NodeChange::Unmark => (None, None),
    };
    let mut body = json!({ "metadata": {
        "resourceVersion": version,
        "annotations": {
            annotations::CORDON: mark.map(drain::Mark::as_str),
            annotations::CORDON_REASON: reason,
        },
    }});
    match change {
        NodeChange::Cordon | NodeChange::CordonForTask { .. } => {
            body["spec"] = json!({ "unschedulable": true });
        }
        NodeChange::Uncordon => body["spec"] = json!({ "unschedulable": null }),
        NodeChange::MarkLifted | NodeChange::Unmark => {}
    }
    body
}

/// Phases before a pre-commit; a failed sector counts as the phase in which it failed.
fn may_be_aborted(phase: SectorPhase, failed_in: Option<SectorPhase>) -> bool {
    match phase {
        SectorPhase::Allocated
        | SectorPhase::Packing
        | SectorPhase::Pc1
        | SectorPhase::Pc2
        | SectorPhase::PreCommitting => true,
        SectorPhase::Failed => {
            failed_in.is_some_and(|p| p != SectorPhase::Failed && may_be_aborted(p, None))
        }
        SectorPhase::WaitSeed
        | SectorPhase::C1
        | SectorPhase::C2
        | SectorPhase::Committing
        | SectorPhase::Finalizing
        | SectorPhase::Landing
        | SectorPhase::Proving
        | SectorPhase::Removing => false,
    }
}

/// Tells a disruption budget from a busy API server: both answer 429.
fn refusal(error: Error) -> Error {
    let Error::Api(source) = &error else {
        return error;
    };
    let kube::Error::Api(status) = source.as_ref() else {
        return error;
    };
    let causes = status.details.iter().flat_map(|d| &d.causes);
    let mut budgets = causes.filter(|c| c.reason == "DisruptionBudget");
    if let Some(cause) = budgets.next() {
        return Error::EvictionRefused {
            budget: budget_name(&cause.message),
            message: cause.message.clone(),
        };
    }
    if status.code == 500 && status.message.contains("PodDisruptionBudget") {
        return Error::EvictionRefused {
            budget: None,
            message: status.message.clone(),
        };
    }
    error
}

/// `The disruption budget NAME needs 1 healthy pods and has 1 currently`.
fn budget_name(message: &str) -> Option<String> {
    let (_, rest) = message.split_once("disruption budget ")?;
    rest.split_whitespace().next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_that_refuses_is_named_and_a_busy_server_is_not_one() {
        let status = |value| {
            let status: kube::core::Status = serde_json::from_value(value).unwrap();
            refusal(Error::Api(Box::new(kube::Error::Api(Box::new(status)))))
        };
        let refused = status(json!({
            "status": "Failure", "code": 429, "reason": "TooManyRequests", "message": "Cannot evict pod",
            "details": {"causes": [{"reason": "DisruptionBudget",
                "message": "The disruption budget keep needs 1 healthy pods and has 1 currently"}]},
        }));
        assert!(
            matches!(&refused, Error::EvictionRefused { budget: Some(name), .. } if name == "keep"),
            "{refused}"
        );
        let busy =
            status(json!({"status": "Failure", "code": 429, "message": "too many requests"}));
        assert!(matches!(busy, Error::Api(_)), "{busy}");
    }

    #[test]
    fn a_cordon_names_the_version_that_was_read_and_is_marked() {
        assert_eq!(
            node_body(&NodeChange::Cordon, Some("7")),
            json!({
                "metadata": {"resourceVersion": "7",
                    "annotations": {"filstar.io/cordon": "ours", "filstar.io/cordon-reason": null}},
                "spec": {"unschedulable": true},
            })
        );
        let task = "PC1 ran for too long".to_owned();
        let of_task = node_body(&NodeChange::CordonForTask { task }, None);
        assert_eq!(of_task["spec"], json!({"unschedulable": true}));
        assert_eq!(
            of_task["metadata"]["annotations"],
            json!({"filstar.io/cordon": "task-overdue", "filstar.io/cordon-reason": "PC1 ran for too long"})
        );
        let undone = node_body(&NodeChange::Uncordon, Some("8"));
        assert_eq!(undone["spec"], json!({"unschedulable": null}));
        assert_eq!(
            undone["metadata"]["annotations"],
            json!({"filstar.io/cordon": null, "filstar.io/cordon-reason": null})
        );
    }

    #[test]
    fn a_sector_that_failed_after_its_pre_commit_is_not_aborted() {
        assert!(may_be_aborted(SectorPhase::Failed, Some(SectorPhase::Pc1)));
        assert!(!may_be_aborted(SectorPhase::Failed, Some(SectorPhase::C2)));
        assert!(!may_be_aborted(SectorPhase::Failed, None));
        assert!(!may_be_aborted(SectorPhase::WaitSeed, None));
    }
}
