//! The world: one owned index of everything that we know.
//!
//! In: objects of watch events and of our own writes; chain views of the observer.
//! Out: read by `plan` and `status`. Effects: none.
//! Never: an older version of an object replaces a newer one, so that what we wrote is never unseen.

pub mod chain;
pub mod facts;
mod index;
pub mod node;
pub mod pod;
mod select;

use std::collections::{BTreeMap, BTreeSet};

use filstar_crds::{
    ChainMessage, GasPolicy, Miner, PostBatch, SealingGroup, SealingNode, Sector, SectorStore,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

pub use chain::{ChainFacts, ChainProblem, ChainView, Faults, Lookup, SenderFacts};
pub use facts::{Invalid, MinerFacts};
pub use index::{Id, Index};
pub use node::{failed_gpus, unwell};
pub use select::selects;

/// The time by which a plan is made. Chain time comes from chain views.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Wall clock, for back-off, retention and timelines only.
    pub wall: Timestamp,
}

/// Why an object cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// What the parser says.
    pub reason: String,
    /// The message of the condition that we wrote about it, if we did.
    pub reported: Option<String>,
}

/// An eviction that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Uid of the pod.
    pub uid: String,
    /// The disruption budget that speaks against it, if it is one.
    pub budget: Option<String>,
    /// What the API server said.
    pub message: String,
}

/// What the operator was started with and plans need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Image of sealer and prover pods of objects that name none.
    pub sealer_image: String,
    /// When kubelet fetches it: `Always`, `IfNotPresent` or `Never`.
    pub pull_policy: String,
    /// Secrets with which it is fetched, in the namespaces of the pods.
    pub pull_secrets: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            // No image of ours: who forgets to say which sees that no pod starts.
            sealer_image: "filstar.invalid/not-set".into(),
            pull_policy: "IfNotPresent".into(),
            pull_secrets: Vec::new(),
        }
    }
}

/// Everything that we know.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// Settings of this operator.
    pub settings: Settings,
    /// Miners.
    pub miners: Index<Miner>,
    /// Sealing groups.
    pub groups: Index<SealingGroup>,
    /// Gas policies.
    pub policies: Index<GasPolicy>,
    /// Stores.
    pub stores: Index<SectorStore>,
    /// Post batches.
    pub batches: Index<PostBatch>,
    /// Sectors.
    pub sectors: Index<Sector>,
    /// Messages.
    pub messages: Index<ChainMessage>,
    /// Pods that we made (label `app.kubernetes.io/managed-by: filstar`).
    pub pods: Index<Pod>,
    /// Disruption budgets that we made.
    pub budgets: Index<PodDisruptionBudget>,
    /// Evictions that were refused, by pod. Forgotten at a restart: the next try tells again.
    pub refused: BTreeMap<Id, Refused>,
    /// Pods that the API server does not let us make, with its words. Forgotten at a restart: the next try tells again.
    pub unmade: BTreeMap<Id, String>,
    /// Nodes.
    pub nodes: Index<Node>,
    /// What the agents say of nodes, and requests for maintenance; no namespace, the name is the node's.
    pub sealing_nodes: Index<SealingNode>,
    /// Objects that our types cannot read: plural and id, with the reason. What was last readable of
    /// them stays in its index.
    pub unreadable: BTreeMap<(String, Id), Unreadable>,
    /// What the chain says, by Miner.
    pub chains: BTreeMap<Id, ChainView>,
}

/// What changed since the last plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Sectors, also those that are gone.
    pub sectors: BTreeSet<Id>,
    /// Pods, also those that are gone.
    pub pods: BTreeSet<Id>,
    /// Something of another kind.
    pub other: bool,
}

impl World {
    /// What changed in the indexes since the last call. Chain views are not counted.
    pub fn take_changes(&mut self) -> Changes {
        let other = [
            self.miners.take_changed().is_empty(),
            self.groups.take_changed().is_empty(),
            self.policies.take_changed().is_empty(),
            self.stores.take_changed().is_empty(),
            self.batches.take_changed().is_empty(),
            self.messages.take_changed().is_empty(),
            self.nodes.take_changed().is_empty(),
            self.sealing_nodes.take_changed().is_empty(),
        ];
        Changes {
            sectors: self.sectors.take_changed(),
            pods: self.pods.take_changed(),
            other: other.contains(&false),
        }
    }

    /// Grows with every change of a sector or a pod.
    pub fn small_changes(&self) -> u64 {
        self.sectors.version() + self.pods.version()
    }

    /// What the chain says of a miner, if it is known and young enough to decide upon.
    pub fn chain(&self, miner: &Id) -> Option<&ChainFacts> {
        self.chains.get(miner).and_then(ChainView::usable)
    }

    /// What the chain says of a miner, if proofs may be sent on it.
    pub fn chain_for_proofs(&self, miner: &Id) -> Option<&ChainFacts> {
        self.chains.get(miner).and_then(ChainView::for_proofs)
    }

    /// Why a pod is not there; none when it is, or nothing spoke against it.
    pub fn unmade(&self, pod: &Id) -> Option<String> {
        let why = self
            .unmade
            .get(pod)
            .filter(|_| self.pods.get(pod).is_none())?;
        Some(format!("pod {} cannot be made: {why}", pod.name))
    }

    /// Another Miner of the same actor that came first. It alone acts for the actor: two would pay for the same.
    pub fn older_twin(&self, id: &Id) -> Option<&Id> {
        let miner = self.miners.get(id)?;
        let age = |m: &Miner| m.metadata.creation_timestamp.as_ref().map(|t| t.0);
        let (mine, network) = (age(miner), facts::network(miner.spec.network));
        let mut others = self.miners.iter().filter(|(other, _)| *other != id);
        let twin = others.find(|(other, m)| {
            m.spec.actor_id == miner.spec.actor_id
                && facts::network(m.spec.network) == network
                && (age(m), *other) < (mine, id)
        });
        twin.map(|(other, _)| other)
    }

    /// The Miner that an object of `namespace` names.
    pub fn miner_of(&self, namespace: &str, name: &str) -> Option<(&Id, &Miner)> {
        self.miners.find(namespace, name)
    }
}
