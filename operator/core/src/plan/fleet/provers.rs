//! Where provers with CPUs of their own run: each on one node, placed before the lanes of groups.
//!
//! A prover that lives keeps its place. A new one gets the first node with room beside what lives there, and groups get
//! what it leaves. One that finds no room has no place and runs on shared CPUs: a proof that is late costs more than
//! CPUs that are shared.

use std::collections::{BTreeMap, HashMap};

use filstar_crds::{Backend, PostBatch, annotations};
use filstar_placement::{Held, LaneRequest, Limits, PROVER, PodPlan, Server, parse_cpus, place};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt;

use super::server;
use crate::plan::drain::Closing;
use crate::plan::names;
use crate::plan::pods::{Mounts, Room, has_stores, mounts, refused};
use crate::world::node::not_ready;
use crate::world::pod::{env, is_live, node as node_of};
use crate::world::{Id, World, selects};

/// A prover's place, or why no node has one for it.
pub(crate) type Seat = Result<ProverPlace, String>;

/// The node of a prover, and what it has there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProverPlace {
    /// Name of the node.
    pub node: String,
    /// Its place there.
    pub plan: PodPlan,
}

/// Provers with CPUs of their own, by their batches.
pub(super) type Seats = BTreeMap<Id, Seat>;

/// Who holds the CPUs of a prover, in the planner's books.
pub(super) fn owner(batch: &Id) -> String {
    format!("prover {batch}")
}

/// Whether a prover pod was made for a place of its own.
pub(crate) fn is_seated(pod: &Pod) -> bool {
    pod.annotations().contains_key(annotations::INDEX)
}

/// What provers hold on a node, besides what their pods that live say.
pub(super) fn held(on_node: &[(Id, PodPlan)]) -> impl Iterator<Item = Held> {
    on_node.iter().map(|(id, plan)| Held {
        owner: owner(id),
        lane: PROVER.to_owned(),
        // Number 0 is the pod that lives: it may still be elsewhere on the node.
        index: 1,
        cpus: plan.cpus.clone(),
    })
}

/// Places all provers, those that live in their places first: a new one never takes from them.
pub(super) fn seats(world: &World, closing: &Closing, held: &BTreeMap<&str, Vec<Held>>) -> Seats {
    let mut hall = Hall {
        world,
        closing,
        held,
        taken: HashMap::new(),
        room: None,
    };
    let asks = |batch: &PostBatch| {
        let spec = &batch.spec;
        let own = spec.lane.core_groups.is_some() || spec.lane.backend == Backend::Agent;
        own && !spec.suspend && batch.metadata.deletion_timestamp.is_none()
    };
    let all = world.batches.iter().filter(|(_, batch)| asks(batch));
    let mut all: Vec<Guest<'_>> = all.map(|(id, batch)| Guest::of(world, id, batch)).collect();
    all.sort_by_key(|guest| !guest.lives_seated());
    let mut seats = Seats::new();
    for guest in all {
        let lane = LaneRequest::of_prover(&owner(guest.id), &guest.batch.spec.lane);
        let lane = lane.map_err(|e| e.to_string());
        let seat = lane.and_then(|lane| hall.seat(&guest, &lane));
        if let Ok(place) = &seat {
            let there = hall.taken.entry(place.node.clone()).or_default();
            there.push((guest.id.clone(), place.plan.clone()));
        }
        seats.insert(guest.id.clone(), seat);
    }
    seats
}

/// A prover that asks for a place.
struct Guest<'a> {
    id: &'a Id,
    batch: &'a PostBatch,
    mounts: Mounts<'a>,
    /// Its pod, which may be leaving or have ended.
    pod: Option<&'a Pod>,
}

impl<'a> Guest<'a> {
    fn of(world: &'a World, id: &'a Id, batch: &'a PostBatch) -> Self {
        Self {
            id,
            batch,
            mounts: mounts(world, id, batch),
            pod: world.pods.get(&Self::name(id)),
        }
    }

    /// The name of its pod.
    fn name(batch: &Id) -> Id {
        Id::new(&batch.namespace, names::prover_pod(&batch.name))
    }

    /// Where its pod is.
    fn at(&self) -> Option<&'a str> {
        self.pod.and_then(node_of)
    }

    /// Whether its pod lives in a place of its own.
    fn lives_seated(&self) -> bool {
        self.pod.is_some_and(|pod| is_live(pod) && is_seated(pod))
    }

    /// Whether its pod was made for a node with the labels that are asked for now. Kubernetes lets it run when the node
    /// loses them.
    fn asked_the_same(&self) -> bool {
        let spec = self.pod.and_then(|pod| pod.spec.as_ref());
        let asked = spec.and_then(|spec| spec.node_selector.as_ref());
        asked.map_or(self.mounts.node_selector.is_empty(), |asked| {
            *asked == self.mounts.node_selector
        })
    }

    /// The place that its pod itself tells of, where nobody else does.
    fn own_word(&self, lane: &LaneRequest, node: &str) -> Option<ProverPlace> {
        let pod = self.pod?;
        let cpus = if let Some(set) = pod.annotations().get(annotations::CPUS) {
            parse_cpus(set)?
        } else {
            // Kubelet chose them: here they only count.
            let count: u16 = env(pod, "FILSTAR_CPUS")?.parse().ok()?;
            (0..u32::from(count)).collect()
        };
        let plan = PodPlan {
            owner: lane.owner.clone(),
            lane: lane.name.clone(),
            index: 0,
            groups: Vec::new(),
            cpus,
            // The one that a node without an agent is taken to have.
            numa: vec![0],
            gpus: Vec::new(),
            memory: lane.memory,
            limits: Limits::of(lane, lane.cpus, &[]),
            why: Vec::new(),
        };
        Some(ProverPlace {
            node: node.to_owned(),
            plan,
        })
    }
}

/// What is there and what is taken.
struct Hall<'a> {
    world: &'a World,
    closing: &'a Closing,
    held: &'a BTreeMap<&'a str, Vec<Held>>,
    /// Places given to provers so far, by node.
    taken: HashMap<String, Vec<(Id, PodPlan)>>,
    /// What pods ask for, counted when a prover looks for a node.
    room: Option<Room<'a>>,
}

impl<'a> Hall<'a> {
    fn seat(&mut self, guest: &Guest<'_>, lane: &LaneRequest) -> Seat {
        let world = self.world;
        let at = guest.at();
        let here = at.and_then(|name| world.nodes.find("", name));
        let others = world.nodes.iter();
        let others = others.filter(|(other, _)| Some(other.name.as_str()) != at);
        let (mut first, mut more) = (None, 0);
        for (name, node) in here.into_iter().chain(others) {
            let name = name.name.as_str();
            let stays = at == Some(name) && guest.lives_seated();
            let fits = selects(&guest.mounts.node_selector, node);
            let may_stay = stays && guest.asked_the_same();
            if !(fits || may_stay) {
                continue;
            }
            match self.on(name, node, guest, lane, stays) {
                Ok(place) => return Ok(place),
                Err(_) if first.is_some() => more += 1,
                Err(why) => first = Some(format!("{name}: {why}")),
            }
        }
        let more = match more {
            0 => String::new(),
            more => format!("; and {more} more nodes"),
        };
        Err(first.map_or_else(
            || "no node has the labels that the batch and its stores ask for".to_owned(),
            |first| first + &more,
        ))
    }

    /// A place on one node. `stays`: its pod lives there, in a place of its own.
    fn on(
        &mut self,
        name: &str,
        node: &'a Node,
        guest: &Guest<'_>,
        lane: &LaneRequest,
        stays: bool,
    ) -> Seat {
        if !stays {
            self.takes_new(name, node, guest)?;
        }
        let (mut server, known) = server(self.world, node, name);
        if !known {
            // A prover that lives keeps its place while an agent is silent.
            let kept = stays.then(|| guest.own_word(lane, name)).flatten();
            let silent =
                || "the node agent has not reported the core groups of this boot".to_owned();
            return kept.ok_or_else(silent);
        }
        let taken = self.taken.get(name).map_or(&[][..], Vec::as_slice);
        for (_, plan) in taken {
            server.book(plan);
        }
        let mut others: Vec<Held> = held(taken).collect();
        others.extend(self.held.get(name).into_iter().flatten().cloned());
        let plan = put(&server, lane, others)?;
        if !stays {
            let room = self.room.get_or_insert_with(|| Room::of(self.world));
            let asks = (plan.cpus.len() as u64, plan.memory);
            if !room.holds(self.world, node, name, &Guest::name(guest.id), asks) {
                return Err("its CPUs or memory are asked for by our other pods there".into());
            }
        }
        Ok(ProverPlace {
            node: name.to_owned(),
            plan,
        })
    }

    /// Whether a node takes a prover that is not there yet.
    fn takes_new(&self, name: &str, node: &Node, guest: &Guest<'_>) -> Result<(), String> {
        if let Some(request) = self.closing.get(name) {
            return Err(request.why.to_string());
        }
        if let Some(taint) = refused(&guest.batch.spec.tolerations, node) {
            return Err(format!("the taint {} is not tolerated", taint.key));
        }
        if let Some(why) = not_ready(node) {
            return Err(why);
        }
        let elsewhere = guest.pod.filter(|_| guest.at() != Some(name));
        let sees = |pod: &Pod| has_stores(self.world, guest.id, &guest.mounts, pod, name);
        if elsewhere.is_some_and(|pod| !sees(pod)) {
            return Err("its stores are not the ones that the prover sees where it is".into());
        }
        Ok(())
    }
}

/// A place beside what others hold: the one that it has, if that will do.
fn put(server: &Server, lane: &LaneRequest, mut held: Vec<Held>) -> Result<PodPlan, String> {
    let first = place(server, std::slice::from_ref(lane), &held).pods.pop();
    if let Some(plan) = first {
        return Ok(plan);
    }
    // Its pod makes room for the one that comes after it.
    held.retain(|h| h.owner != lane.owner);
    let mut plan = place(server, std::slice::from_ref(lane), &held);
    let why = |plan: &filstar_placement::ServerPlan| {
        let lacking = plan.lacking(&lane.owner, &lane.name);
        lacking.map_or_else(String::new, |(_, why)| why.to_string())
    };
    let lacks = why(&plan);
    plan.pods.pop().ok_or(lacks)
}
