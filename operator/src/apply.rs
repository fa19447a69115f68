//! Does what a plan asks for: one action at a time, each a single write with a precondition.
//!
//! In: an [`Action`] and the [`Scene`] that it needs. Out: what was written, as changes of the world, so that the
//! next plan sees it. Effects: the API server and chain nodes.
//! Never: a write without the Lease; a push of bytes that are not stored; a delete without a live read.

mod access;
mod body;
mod chain;
mod drain;
mod error;
mod message;
mod name;
mod nonce;
mod object;
mod scene;
mod sweep;
#[cfg(test)]
mod testing;

use std::sync::Arc;
use std::time::{Duration, Instant};

use filstar_chain::node::Node;
use filstar_core::action::Action;
use filstar_core::world::Id;
use kube::{Api, Client};
use tokio::sync::watch;

pub use body::kind_of;
pub use error::Error;
pub use name::{lane, name, target};
pub use scene::Scene;

use crate::lease::Role;
use crate::metrics::Metrics;
use crate::observe::Connections;
use crate::secrets::Secrets;
use crate::watch::{Change, Kind};

/// A call of the API server that takes longer has failed. Well below what is left of a Lease when we may no longer
/// begin a write.
const CALL_TIMEOUT: Duration = Duration::from_secs(4);

/// What came of an action.
pub struct Applied {
    /// What was written, even when the action failed after that.
    pub changes: Vec<Change>,
    /// Whether it is done.
    pub result: Result<(), Error>,
}

impl std::fmt::Debug for Applied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Applied")
            .field("result", &self.result)
            .finish_non_exhaustive()
    }
}

impl Applied {
    fn of(written: Result<Change, Error>) -> Self {
        match written {
            Ok(change) => Self {
                changes: vec![change],
                result: Ok(()),
            },
            Err(error) => Self {
                changes: Vec::new(),
                result: Err(error),
            },
        }
    }
}

/// Applies actions. Cloning is cheap.
#[derive(Clone)]
pub struct Applier {
    client: Client,
    role: watch::Receiver<Role>,
    connections: Connections,
    secrets: Secrets,
    nonces: nonce::Nonces,
    access: access::Granted,
    metrics: Arc<Metrics>,
}

impl std::fmt::Debug for Applier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Applier")
    }
}

impl Applier {
    /// An applier that writes only while `role` allows it.
    pub fn new(
        client: Client,
        role: watch::Receiver<Role>,
        connections: Connections,
        secrets: Secrets,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (nonces, access) = (nonce::Nonces::default(), access::Granted::default());
        Self {
            client,
            role,
            connections,
            secrets,
            nonces,
            access,
            metrics,
        }
    }

    /// Does one action.
    #[expect(clippy::too_many_lines, reason = "a list of the actions")]
    pub async fn apply(&self, action: Action, scene: Scene) -> Applied {
        match action {
            Action::CreateSector { id, spec } => Applied::of(self.create_sector(&id, spec).await),
            Action::AdoptSector { id, group, miner } => {
                Applied::of(self.adopt_sector(&id, &group, &miner).await)
            }
            Action::PatchSector {
                id,
                status,
                resource_version,
                gone,
            } => {
                let gone = gone.as_deref();
                let patched = self.patch_sector(&id, &status, &resource_version, gone);
                Applied::of(patched.await)
            }
            Action::ClearForgetNode {
                id,
                resource_version,
            } => Applied::of(self.clear_forget_node(&id, &resource_version).await),
            Action::DrawTicket {
                id,
                miner,
                epoch,
                status,
                resource_version,
            } => {
                let draw = chain::Draw {
                    id,
                    miner,
                    epoch,
                    status,
                    resource_version,
                };
                Applied::of(self.draw_ticket(draw, &scene).await)
            }
            Action::DrawSeed {
                id,
                miner,
                epoch,
                status,
                resource_version,
            } => {
                let draw = chain::Draw {
                    id,
                    miner,
                    epoch,
                    status,
                    resource_version,
                };
                Applied::of(self.draw_seed(draw, &scene).await)
            }
            Action::ReleaseSector { id, uid } => Applied::of(self.release_sector(&id, &uid).await),
            Action::DeleteSector { id, uid } => Applied::of(self.delete_sector(&id, &uid).await),
            Action::CreateMessage {
                id,
                spec,
                collateral,
            } => Applied::of(self.create_message(&id, *spec, &collateral, &scene).await),
            Action::SignMessage {
                id,
                miner,
                min_nonce,
                spendable,
                resource_version,
            } => {
                let terms = message::Terms {
                    min_nonce,
                    spendable,
                };
                self.sign_message(&id, &miner, &terms, &resource_version, &scene)
                    .await
            }
            Action::PushMessage {
                id,
                miner,
                status,
                resource_version,
            } => {
                self.push_message(&id, &miner, &status, &resource_version)
                    .await
            }
            Action::PatchMessage {
                id,
                status,
                resource_version,
            } => Applied::of(self.patch_message(&id, &status, &resource_version).await),
            Action::DeleteMessage { id, uid } => Applied::of(self.delete_message(&id, &uid).await),
            Action::EnsureAccess { namespace } => Applied {
                changes: Vec::new(),
                result: self.ensure_access(&namespace).await,
            },
            Action::CreatePod { pod } => Box::pin(self.make_pod(*pod)).await,
            Action::DeletePod { id, uid, reason } => {
                Applied::of(self.delete_pod(&id, &uid, &reason).await)
            }
            Action::ForgetPod { id, uid, reason } => {
                Applied::of(self.forget_pod(&id, &uid, &reason).await)
            }
            Action::AbortSector {
                id,
                uid,
                resource_version,
                reason,
                gone,
            } => {
                let gone = gone.as_deref();
                let aborted = self.abort_sector(&id, &uid, &resource_version, &reason, gone);
                Applied::of(aborted.await)
            }
            Action::EvictPod { id, uid, node } => self.evict_pod(&id, &uid, &node).await,
            Action::CreateBudget { budget } => Applied::of(self.create_budget(*budget).await),
            Action::DeleteBudget { id, uid } => Applied::of(self.delete_budget(&id, &uid).await),
            Action::PatchNode { id, uid, change } => {
                Applied::of(self.patch_node(&id, &uid, change).await)
            }
            Action::DeleteSealingNode { id, uid } => {
                Applied::of(self.delete_sealing_node(&id, &uid).await)
            }
            Action::RemoveGarbage {
                id,
                status,
                checks,
                resource_version,
            } => {
                let asked = self.remove_garbage(&id, *status, &checks, &resource_version);
                Applied::of(asked.await)
            }
            Action::PatchStatus { id, status } => {
                Applied::of(self.patch_status(&id, &status).await)
            }
        }
    }

    fn api<K>(&self, id: &Id) -> Api<K>
    where
        K: Kind + kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &id.namespace)
    }

    /// Refuses when a write that begins now might end after somebody else began to lead.
    fn may_write(&self) -> Result<(), Error> {
        if self.role.borrow().may_write(Instant::now()) {
            Ok(())
        } else {
            Err(Error::NotLeader)
        }
    }

    /// Makes one write, if we lead.
    async fn write<T>(
        &self,
        kind: &'static str,
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, Error> {
        self.may_write()?;
        let result = self.read(call).await;
        let outcome = result.as_ref().map_or_else(Error::name, |_| "Done");
        self.metrics
            .api_writes
            .with_label_values(&[kind, outcome])
            .inc();
        result
    }

    /// Makes one read.
    async fn read<T>(
        &self,
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, Error> {
        match tokio::time::timeout(CALL_TIMEOUT, call).await {
            Ok(result) => result.map_err(Error::from_api),
            Err(_elapsed) => Err(Error::Timeout),
        }
    }

    /// The chain node that the observer found healthy for a Miner.
    fn node(&self, miner: &Id) -> Result<Node, Error> {
        self.connections
            .get(miner)
            .ok_or_else(|| Error::NotConnected(miner.clone()))
    }

    fn count_rpc(&self, error: filstar_chain::node::Error) -> Error {
        let class = error.class().to_string();
        self.metrics
            .rpc_errors
            .with_label_values(&[class.as_str(), error.label()])
            .inc();
        Error::Chain(error)
    }
}

#[cfg(test)]
mod tests;
