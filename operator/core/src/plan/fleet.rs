//! Which pods each node runs: the lanes of all groups that name it, placed together.
//!
//! Older groups come first, so that a new one never takes from those that run. A group whose lanes do not all fit on a
//! node gets nothing there, since a sector never leaves its node; what it would have taken goes to the others. Provers with
//! core groups of their own come before all groups.

mod provers;

use std::collections::{BTreeMap, BTreeSet};

use filstar_crds::{
    Backend, Count, Lane, SealingGroup, annotations, labels, parse_bytes, parse_millicpus,
};
use filstar_placement::{
    Allocatable, Held, LaneRequest, LeftOver, Limits, PROVER, PodPlan, Server, ServerPlan,
    parse_cpus, place,
};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt;

use super::drain::Closing;
use super::names;
use super::pods::{Fit, lasting, passing};
use crate::world::{Id, World, pod, selects};
pub use provers::ProverPlace;
pub(crate) use provers::{Seat, is_seated};

/// Resource name of GPUs.
pub(super) const GPU: &str = "nvidia.com/gpu";

/// All nodes and what they run.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    nodes: BTreeMap<String, OnNode>,
    pods: BTreeMap<Id, Planned>,
    /// Pods that bind themselves, each with its node and what it holds there.
    held: BTreeMap<Id, (String, Held)>,
    /// Provers with CPUs of their own.
    provers: provers::Seats,
    /// Nodes that shall be empty.
    closing: Closing,
}

/// What was planned for one node, and from what.
#[derive(Clone, Debug, Default)]
struct OnNode {
    key: Key,
    /// Groups whose selector names the node.
    fits: BTreeMap<Id, Fit>,
    pods: Vec<Id>,
}

/// All that a node's plan follows from: while it stays the same, so does the plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Key {
    /// Uid and version of the Node.
    node: (Option<String>, Option<String>),
    /// Version of its SealingNode.
    sealing_node: Option<String>,
    /// Groups that name it, with uid, generation and sector size.
    tenants: Vec<(Id, Option<String>, Option<i64>, u64)>,
    held: Vec<Held>,
    /// Provers that have their place there.
    provers: Vec<(Id, PodPlan)>,
    /// What keeps new pods away for a while.
    pause: Option<String>,
}

/// One pod that shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Its group.
    pub group: Id,
    /// Its lane's place in the group's list.
    pub lane: usize,
    /// Its node.
    pub node: String,
    /// Its place there.
    pub plan: PodPlan,
    /// Whether it is to be made; one that is there stays in any case.
    pub wanted: bool,
}

/// A group's lanes, read once.
struct Tenant<'a> {
    id: &'a Id,
    group: &'a SealingGroup,
    owner: String,
    size: u64,
    lanes: Result<Vec<LaneRequest>, String>,
    needs_inventory: bool,
}

impl Fleet {
    /// Plans every node.
    pub fn of(world: &World) -> Self {
        let mut fleet = Self::default();
        fleet.update(world);
        fleet
    }

    /// Plans the nodes anew of which something changed. Returns whether their pods did.
    pub fn update(&mut self, world: &World) -> bool {
        self.held.clear();
        for (id, pod) in world.pods.iter() {
            self.held
                .extend(holds(id, pod).map(|hold| (id.clone(), hold)));
        }
        self.replan(world)
    }

    /// The same, when no pods but these changed since.
    pub(super) fn renew(&mut self, world: &World, pods: &BTreeSet<Id>) -> bool {
        for id in pods {
            self.note_pod(world, id);
        }
        self.replan(world)
    }

    /// Reads again what one pod holds.
    pub(super) fn note_pod(&mut self, world: &World, id: &Id) {
        match world.pods.get(id).and_then(|pod| holds(id, pod)) {
            Some(hold) => drop(self.held.insert(id.clone(), hold)),
            None => drop(self.held.remove(id)),
        }
    }

    /// Nodes that shall be empty.
    pub(super) fn closing(&self) -> &Closing {
        &self.closing
    }

    fn replan(&mut self, world: &World) -> bool {
        let mut moved = false;
        let tenants = tenants(world);
        self.closing = Closing::of(world);
        let mut held: BTreeMap<&str, Vec<Held>> = BTreeMap::new();
        for (node, hold) in self.held.values() {
            held.entry(node).or_default().push(hold.clone());
        }
        self.provers = provers::seats(world, &self.closing, &held);
        let mut seated: BTreeMap<&str, Vec<(Id, PodPlan)>> = BTreeMap::new();
        for (id, place) in self
            .provers
            .iter()
            .filter_map(|(id, s)| Some((id, s.as_ref().ok()?)))
        {
            let there = seated.entry(&place.node).or_default();
            there.push((id.clone(), place.plan.clone()));
        }
        // Nodes, what their agents say and what is known of them have the same order: all are gone through once.
        let mut told = world.sealing_nodes.iter().peekable();
        let mut known = self.nodes.iter().peekable();
        let mut gone: Vec<String> = Vec::new();
        let mut stale = Vec::new();
        for (id, node) in world.nodes.iter() {
            while told.next_if(|(other, _)| *other < id).is_some() {}
            while let Some((name, _)) = known.next_if(|(name, _)| **name < id.name) {
                gone.push(name.clone());
            }
            let before = known.next_if(|(name, _)| **name == id.name);
            let here: Vec<&Tenant<'_>> = tenants
                .iter()
                .filter(|t| selects(&t.group.spec.node_selector, node))
                .collect();
            let key = Key {
                node: (node.uid(), node.resource_version()),
                sealing_node: told
                    .next_if(|(other, _)| *other == id)
                    .and_then(|(_, object)| object.resource_version()),
                tenants: here.iter().map(|t| t.key()).collect(),
                held: held.remove(id.name.as_str()).unwrap_or_default(),
                provers: seated.remove(id.name.as_str()).unwrap_or_default(),
                pause: passing(&self.closing, &id.name, node),
            };
            let same = before.map_or(here.is_empty(), |(_, known)| known.key == key);
            if !same {
                stale.push((id, node, here, key));
            }
        }
        gone.extend(known.map(|(name, _)| name.clone()));
        for name in gone {
            self.forget(&name);
            moved = true;
        }
        for (id, node, here, key) in stale {
            let before = self.forget(&id.name);
            if !here.is_empty() {
                self.plan_node(world, node, &id.name, here, key);
            }
            moved |= before != self.on(&id.name);
        }
        moved
    }

    /// Takes a node out. Returns what was planned for it.
    fn forget(&mut self, node: &str) -> Vec<(Id, Planned)> {
        let pods = self.nodes.remove(node).map(|n| n.pods).unwrap_or_default();
        pods.into_iter()
            .filter_map(|id| self.pods.remove_entry(&id))
            .collect()
    }

    /// What is planned for a node.
    fn on(&self, node: &str) -> Vec<(Id, Planned)> {
        let pods = self.on_node(node);
        pods.map(|(id, pod)| (id.clone(), pod.clone())).collect()
    }

    /// What is planned for a node.
    pub fn on_node(&self, node: &str) -> impl Iterator<Item = (&Id, &Planned)> {
        let pods = self.nodes.get(node).into_iter().flat_map(|n| &n.pods);
        pods.filter_map(|id| self.pods.get_key_value(id))
    }

    /// Whether pods of a group shall be made on a node: then there are some of all its lanes.
    pub(super) fn wants(&self, group: &Id, node: &str) -> bool {
        self.on_node(node)
            .any(|(_, p)| p.wanted && p.group == *group)
    }

    /// The nodes that a group's selector names, each with what keeps the group away.
    pub fn fits<'a>(&'a self, group: &'a Id) -> impl Iterator<Item = &'a Fit> {
        self.nodes.values().filter_map(|node| node.fits.get(group))
    }

    /// The pods that shall be, and those that may stay.
    pub fn pods(&self) -> impl Iterator<Item = (&Id, &Planned)> {
        self.pods.iter()
    }

    /// One pod.
    pub fn pod(&self, id: &Id) -> Option<&Planned> {
        self.pods.get(id)
    }

    /// The place of a batch's prover, or why it has none; nothing when the batch asks for none.
    pub(crate) fn prover(&self, batch: &Id) -> Option<&Seat> {
        self.provers.get(batch)
    }

    fn plan_node(
        &mut self,
        world: &World,
        node: &Node,
        name: &str,
        mut tenants: Vec<&Tenant<'_>>,
        key: Key,
    ) {
        let (mut server, known) = server(world, node, name);
        for (_, plan) in &key.provers {
            server.book(plan);
        }
        let mut held: Vec<Held> = provers::held(&key.provers).collect();
        held.extend(key.held.iter().cloned());
        let mut fits = BTreeMap::new();
        let mut note = |group: &Id, problem: Option<String>, passing: bool, left_over: String| {
            let fit = Fit {
                node: name.to_owned(),
                problem,
                passing,
                left_over,
            };
            fits.insert(group.clone(), fit);
        };
        tenants.retain(|t| {
            let problem = keeps_away(t, node, known);
            let fine = problem.is_none();
            if !fine {
                note(t.id, problem, false, String::new());
            }
            fine
        });
        let plan = loop {
            let lanes: Vec<LaneRequest> = tenants
                .iter()
                .flat_map(|t| t.lanes.iter().flatten().cloned())
                .collect();
            let plan = place(&server, &lanes, &held);
            let Some((at, problem)) = first_lacking(&tenants, &plan) else {
                break plan;
            };
            let tenant = tenants.remove(at);
            note(
                tenant.id,
                Some(problem),
                false,
                words(&plan, &tenant.owner, known),
            );
        };
        let mut pods = Vec::new();
        for tenant in tenants {
            let left = words(&plan, &tenant.owner, known);
            note(tenant.id, key.pause.clone(), key.pause.is_some(), left);
            for pod in plan.pods.iter().filter(|p| p.owner == tenant.owner) {
                let lanes = &tenant.group.spec.lanes;
                let Some(lane) = lanes.iter().position(|l| l.name == pod.lane) else {
                    continue;
                };
                let pod_name = names::sealer_pod(&tenant.id.name, &pod.lane, name, pod.index);
                let id = Id::new(&tenant.id.namespace, pod_name);
                let planned = Planned {
                    group: tenant.id.clone(),
                    lane,
                    node: name.to_owned(),
                    plan: pod.clone(),
                    wanted: key.pause.is_none(),
                };
                self.pods.insert(id.clone(), planned);
                pods.push(id);
            }
        }
        self.nodes
            .insert(name.to_owned(), OnNode { key, fits, pods });
    }
}

impl Tenant<'_> {
    fn key(&self) -> (Id, Option<String>, Option<i64>, u64) {
        let group = self.group;
        (
            self.id.clone(),
            group.uid(),
            group.metadata.generation,
            self.size,
        )
    }
}

/// The limits of a pod that lives, though it is not planned any more.
pub(super) fn limits_of(world: &World, id: &Id, group: &SealingGroup, lane: &Lane) -> Limits {
    let size = sector_size(world, id, group);
    let request = LaneRequest::of("", lane, size, false);
    request.map_or(
        // Such a lane gets no pods.
        Limits {
            sector_size: size,
            tasks: 0,
            memory: 0,
            pc1: 0,
            per_core: 1,
            pool: 0,
            gpu_tasks: None,
            during_post: None,
        },
        |request| Limits::of(&request, lane.cpus, &[]),
    )
}

fn sector_size(world: &World, id: &Id, group: &SealingGroup) -> u64 {
    let miner = world.miner_of(&id.namespace, &group.spec.miner_ref.name);
    // Without a Miner nothing starts.
    miner.map_or(2 << 10, |(_, m)| m.spec.seal_proof.sector_size())
}

/// The groups that place pods, the oldest first.
fn tenants(world: &World) -> Vec<Tenant<'_>> {
    let live = |g: &SealingGroup| g.metadata.deletion_timestamp.is_none();
    let mut tenants: Vec<Tenant<'_>> = world
        .groups
        .iter()
        .filter(|(_, g)| live(g))
        .map(|(id, group)| {
            let owner = id.to_string();
            let size = sector_size(world, id, group);
            let own = group.spec.placement.backend == Backend::Agent;
            let lanes = group.spec.lanes.iter();
            let lanes = lanes
                .map(|lane| LaneRequest::of(&owner, lane, size, own).map_err(|e| e.to_string()))
                .collect();
            let by_inventory = |l: &Lane| l.core_groups.is_some() || l.pods == Count::Auto;
            let needs_inventory = own || group.spec.lanes.iter().any(by_inventory);
            Tenant {
                id,
                group,
                owner,
                size,
                lanes,
                needs_inventory,
            }
        })
        .collect();
    tenants.sort_by_key(|t| {
        let made = t.group.metadata.creation_timestamp.as_ref().map(|t| t.0);
        (made, t.id)
    });
    tenants
}

/// What a pod holds that binds itself, and where. One that leaves may still compute.
fn holds(id: &Id, pod: &Pod) -> Option<(String, Held)> {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    if matches!(phase, Some("Failed" | "Succeeded")) {
        return None;
    }
    let cpus = parse_cpus(pod.annotations().get(annotations::CPUS)?)?;
    let index = pod.annotations().get(annotations::INDEX)?.parse().ok()?;
    let labels = pod.labels();
    let (owner, lane) = if let Some(batch) = labels.get(labels::POST_BATCH) {
        let batch = Id::new(&id.namespace, batch);
        (provers::owner(&batch), PROVER.to_owned())
    } else {
        let group = Id::new(&id.namespace, labels.get(labels::GROUP)?);
        (group.to_string(), labels.get(labels::LANE)?.clone())
    };
    let held = Held {
        owner,
        lane,
        index,
        cpus,
    };
    Some((pod::node(pod)?.to_owned(), held))
}

/// What a node has, and whether its agent told so.
fn server(world: &World, node: &Node, name: &str) -> (Server, bool) {
    let allocatable = Allocatable {
        cpus: u32::try_from(amount(node, "cpu", |t| parse_millicpus(t).ok()) / 1000)
            .unwrap_or(u32::MAX),
        memory: amount(node, "memory", |t| parse_bytes(t).ok()),
        gpus: u32::try_from(amount(node, GPU, |t| t.parse().ok())).unwrap_or(u32::MAX),
    };
    let status = world
        .sealing_nodes
        .get(&Id::new("", name))
        .and_then(|n| n.status.as_ref());
    let inventory = status.and_then(|s| s.inventory.as_ref()).filter(|i| {
        // Numbers of CPUs and NUMA nodes mean nothing beyond their boot.
        let boot = node.status.as_ref().and_then(|s| s.node_info.as_ref());
        boot.is_none_or(|b| b.boot_id.is_empty() || b.boot_id == i.boot_id)
    });
    match inventory {
        Some(inventory) => (Server::of(inventory, Some(allocatable)), true),
        None => (Server::counted(allocatable), false),
    }
}

pub(super) fn amount(node: &Node, name: &str, parse: impl Fn(&str) -> Option<u64>) -> u64 {
    let all = node.status.as_ref().and_then(|s| s.allocatable.as_ref());
    all.and_then(|a| a.get(name))
        .and_then(|q| parse(&q.0))
        .unwrap_or(0)
}

/// What keeps a group off a node until somebody changes something.
fn keeps_away(tenant: &Tenant<'_>, node: &Node, known: bool) -> Option<String> {
    if let Some(problem) = lasting(tenant.group, node) {
        return Some(problem);
    }
    if let Err(problem) = &tenant.lanes {
        return Some(problem.clone());
    }
    (tenant.needs_inventory && !known).then(|| {
        "the node agent has not reported the core groups of this boot, and lanes ask for them"
            .into()
    })
}

/// The youngest group that lacks a pod, and what it lacks.
fn first_lacking(tenants: &[&Tenant<'_>], plan: &ServerPlan) -> Option<(usize, String)> {
    let lacking = |t: &Tenant<'_>| {
        t.lanes.iter().flatten().find_map(|lane| {
            let (_, why) = plan.lacking(&t.owner, &lane.name)?;
            Some(format!("lane {} {why}", lane.name))
        })
    };
    (0..tenants.len())
        .rev()
        .find_map(|at| Some((at, lacking(tenants[at])?)))
}

/// What a group leaves over on a node, for people.
fn words(plan: &ServerPlan, owner: &str, known: bool) -> String {
    let words = plan.left.iter().filter_map(|left| match left {
        LeftOver::Pod {
            owner: o,
            lane,
            pods,
            why,
        } => (o == owner).then(|| format!("{pods} of lane {lane}: {why}")),
        // Without an agent CPUs are only counted: there are no core groups to speak of.
        LeftOver::Group { group, why, .. } => known.then(|| format!("core group {group}: {why}")),
    });
    words.collect::<Vec<_>>().join("; ")
}
