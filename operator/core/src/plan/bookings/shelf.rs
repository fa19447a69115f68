//! The pods of one group, by node, and the nodes by how many sectors they have in work.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use filstar_crds::{Disks, SealingGroup, labels, parse_duration};
use filstar_placement::{Limits, POOL_BYTES};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::plan::fleet::{Fleet, limits_of};
use crate::plan::names::fnv1a;
use crate::world::{Id, Now, World, pod};

/// How long a new pod may take to become ready before sectors go elsewhere.
const STARTING: SignedDuration = SignedDuration::from_secs(60);

/// One live pod.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) id: Id,
    pub(super) uid: String,
    pub(super) node: String,
    /// Its lane's place in the group's list.
    pub(super) lane: usize,
    pub(super) ready: bool,
    /// Whether it has said how full its scratch is.
    measured: bool,
    pub(super) limits: Limits,
    made: Option<Timestamp>,
    /// When it may begin with its first task.
    begins: Option<Timestamp>,
}

impl Entry {
    /// A live sealer pod of a group that is there, with its group.
    pub(super) fn of(world: &World, fleet: &Fleet, id: &Id, pod: &Pod) -> Option<(Id, Self)> {
        if !pod::is_live(pod) {
            return None;
        }
        let group_id = Id::new(&id.namespace, pod.labels().get(labels::GROUP)?);
        let group = world.groups.get(&group_id)?;
        let name = pod.labels().get(labels::LANE)?;
        let at = group.spec.lanes.iter().position(|l| &l.name == name)?;
        let lane = &group.spec.lanes[at];
        let limits = match fleet.pod(id) {
            Some(planned) => planned.plan.limits,
            None => limits_of(world, &group_id, group, lane),
        };
        let limits = as_made(limits, pod);
        let uid = pod.uid()?;
        let jitter = lane
            .start_jitter
            .as_deref()
            .and_then(|t| parse_duration(t).ok());
        let begins = jitter.and_then(|jitter| {
            let millis = u64::try_from(jitter.as_millis()).unwrap_or(u64::MAX);
            let part = fnv1a(uid.as_bytes()) % millis.max(1);
            let part = SignedDuration::from_millis(i64::try_from(part).unwrap_or(i64::MAX));
            pod::ready_since(pod)?.checked_add(part).ok()
        });
        let placed = pod.spec.as_ref().is_some_and(|s| s.node_name.is_some());
        let entry = Self {
            id: id.clone(),
            uid,
            node: pod::node(pod)?.to_owned(),
            lane: at,
            ready: pod::is_ready(pod) && placed,
            measured: Disks::of(pod.annotations()).is_some_and(|d| d.scratch.is_some()),
            limits,
            made: pod.metadata.creation_timestamp.as_ref().map(|t| t.0),
            begins,
        };
        Some((group_id, entry))
    }

    /// Whether a new sector may go to its node: its tasks can begin, and the room for them is known.
    pub(super) fn takes_new(&self) -> bool {
        self.ready && self.measured
    }

    pub(super) fn is_starting(&self, now: Now) -> bool {
        self.made
            .is_some_and(|t| now.wall.duration_since(t) < STARTING)
    }

    /// Whether its part of the start jitter is not over.
    pub(super) fn waits(&self, now: Now) -> bool {
        self.begins.is_some_and(|t| now.wall < t)
    }
}

/// Memory and pool are what the pod was made with: when its lane says otherwise since, that is for the pod which comes
/// after it.
fn as_made(limits: Limits, pod: &Pod) -> Limits {
    let pool = pod::env(pod, POOL_BYTES).and_then(|bytes| bytes.parse().ok());
    Limits {
        memory: pod::memory(pod).unwrap_or(limits.memory),
        pool: pool.unwrap_or(0),
        ..limits
    }
}

/// The pods of one group.
#[derive(Clone, Debug, Default)]
pub(super) struct Shelf {
    nodes: BTreeMap<String, Vec<Entry>>,
    /// Nodes with pods, those with the fewest sectors in work first: of the group, then of all groups.
    order: BTreeSet<(u32, u32, String)>,
    counts: HashMap<String, (u32, u32)>,
    /// Sectors of the group in work by node.
    own: HashMap<String, u32>,
    /// Nodes that run a prover of the group's Miner, while a window proof is due.
    posting: BTreeSet<String>,
}

impl Shelf {
    pub(super) fn new(world: &World, id: &Id, group: &SealingGroup) -> Self {
        Self {
            posting: posting(world, id, group),
            ..Self::default()
        }
    }

    /// Whether a window proof is due may have changed.
    pub(super) fn look_at_chain(&mut self, world: &World, id: &Id, group: &SealingGroup) {
        self.posting = posting(world, id, group);
    }

    pub(super) fn put(&mut self, entry: Entry, sectors: u32) {
        let node = entry.node.clone();
        let list = self.nodes.entry(node.clone()).or_default();
        list.push(entry);
        list.sort_by(|a, b| a.id.cmp(&b.id));
        self.reorder(&node, sectors);
    }

    /// Takes a pod out. Returns its uid.
    pub(super) fn remove(&mut self, node: &str, id: &Id) -> Option<String> {
        let list = self.nodes.get_mut(node)?;
        let at = list.iter().position(|e| &e.id == id)?;
        let uid = list.remove(at).uid;
        if list.is_empty() {
            self.nodes.remove(node);
            if let Some((own, all)) = self.counts.remove(node) {
                self.order.remove(&(own, all, node.to_owned()));
            }
        }
        Some(uid)
    }

    /// Counts a sector of the group, or one less. [`Self::reorder`] comes after it.
    pub(super) fn count_own(&mut self, node: &str, more: bool) {
        let count = self.own.entry(node.to_owned()).or_default();
        *count = if more {
            *count + 1
        } else {
            count.saturating_sub(1)
        };
    }

    /// Puts a node into its place among the others; `sectors` of all groups are in work there.
    pub(super) fn reorder(&mut self, node: &str, sectors: u32) {
        if !self.nodes.contains_key(node) {
            return;
        }
        let now = (self.own.get(node).copied().unwrap_or(0), sectors);
        if let Some((own, all)) = self.counts.insert(node.to_owned(), now) {
            self.order.remove(&(own, all, node.to_owned()));
        }
        self.order.insert((now.0, now.1, node.to_owned()));
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = &str> {
        self.order.iter().map(|(_, _, node)| node.as_str())
    }

    /// All pods, or those on one node.
    pub(super) fn entries<'a>(&'a self, node: Option<&'a str>) -> impl Iterator<Item = &'a Entry> {
        let one = node.and_then(|n| self.nodes.get(n)).into_iter().flatten();
        let all = node.is_none().then(|| self.nodes.values().flatten());
        one.chain(all.into_iter().flatten())
    }

    pub(super) fn post_due(&self, node: &str) -> bool {
        self.posting.contains(node)
    }
}

/// Nodes with a live prover pod of the group's Miner, if not all partitions of its current deadline are
/// proven that have something to prove.
fn posting(world: &World, id: &Id, group: &SealingGroup) -> BTreeSet<String> {
    let asks = group
        .spec
        .lanes
        .iter()
        .any(|l| l.concurrency_during_post.is_some());
    let miner = Id::new(&id.namespace, &group.spec.miner_ref.name);
    let Some(chain) = world.chain(&miner).filter(|_| asks) else {
        return BTreeSet::new();
    };
    if chain.unproven(chain.deadline.index).is_empty() {
        return BTreeSet::new();
    }
    let prover = |pod: &Pod| {
        pod.labels().contains_key(labels::POST_BATCH)
            && pod.labels().get(labels::MINER) == Some(&miner.name)
            && pod::is_live(pod)
    };
    world
        .pods
        .in_namespace(&id.namespace)
        .filter(|(_, p)| prover(p))
        .filter_map(|(_, p)| pod::node(p).map(str::to_owned))
        .collect()
}
