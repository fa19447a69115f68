//! The packing itself.
//!
//! Pods that live keep what they hold. Then come the pods of lanes with a fixed number, those with GPUs before whole
//! core groups before loose CPUs; then lanes that take what is left, one pod each in turn. A pod never leaves its
//! NUMA node unless its lane may span. Deterministic: the same input gives the same plan.

mod problems;
mod state;

use std::collections::BTreeMap;

use crate::admit::Limits;
use crate::lane::LaneRequest;
use crate::reason::{Choice, Unplaced, Unused};
use crate::server::Server;
use state::State;

/// What a live pod holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Owner of its lane.
    pub owner: String,
    /// Its lane.
    pub lane: String,
    /// Its number in the lane.
    pub index: u32,
    /// CPUs that it was given.
    pub cpus: Vec<u32>,
}

/// One pod and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPlan {
    /// Owner of the lane.
    pub owner: String,
    /// The lane.
    pub lane: String,
    /// Number in the lane, from 0.
    pub index: u32,
    /// Core groups that it has a part of, in order.
    pub groups: Vec<u32>,
    /// CPUs, in order.
    pub cpus: Vec<u32>,
    /// NUMA nodes of the CPUs, in order.
    pub numa: Vec<u32>,
    /// Uuids of GPUs. A kubelet chooses by itself; then this shows that they are there.
    pub gpus: Vec<String>,
    /// Bytes of memory.
    pub memory: u64,
    /// What it may run.
    pub limits: Limits,
    /// Why it is so.
    pub why: Vec<Choice>,
}

/// Something that is wanted or there, and not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeftOver {
    /// A pod that has no place.
    Pod {
        /// Owner of the lane.
        owner: String,
        /// The lane.
        lane: String,
        /// How many such pods.
        pods: u32,
        /// Why.
        why: Unplaced,
    },
    /// A core group without a pod.
    Group {
        /// Its number.
        group: u32,
        /// Its NUMA node.
        numa: u32,
        /// Why.
        why: Unused,
    },
}

/// What a server runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerPlan {
    /// Pods, by owner, lane and number.
    pub pods: Vec<PodPlan>,
    /// What is left over, with reasons.
    pub left: Vec<LeftOver>,
}

impl ServerPlan {
    /// The pods of one lane.
    pub fn lane<'a>(&'a self, owner: &'a str, lane: &'a str) -> impl Iterator<Item = &'a PodPlan> {
        self.pods
            .iter()
            .filter(move |p| p.owner == owner && p.lane == lane)
    }

    /// Why a lane lacks pods; none when it has all.
    pub fn lacking(&self, owner: &str, lane: &str) -> Option<(u32, &Unplaced)> {
        self.left.iter().find_map(|left| match left {
            LeftOver::Pod {
                owner: o,
                lane: l,
                pods,
                why,
            } if o == owner && l == lane => Some((*pods, why)),
            LeftOver::Pod { .. } | LeftOver::Group { .. } => None,
        })
    }
}

/// More pods of one lane on one server than anybody has use for.
const MOST_PODS: u32 = 256;

/// Plans a server.
pub fn place(server: &Server, lanes: &[LaneRequest], held: &[Held]) -> ServerPlan {
    let mut state = State::new(server, lanes);
    let held: BTreeMap<(&str, &str, u32), &Held> = held
        .iter()
        .map(|h| ((h.owner.as_str(), h.lane.as_str(), h.index), h))
        .collect();
    let mut plan = ServerPlan::default();
    // What lives is not given to anybody else, wanted or not.
    for h in held.values() {
        state.occupy(&h.cpus);
    }
    let mut open: Vec<(&LaneRequest, u32)> = Vec::new();
    for (lane, index) in turns(lanes, &held) {
        let key = (lane.owner.as_str(), lane.name.as_str(), index);
        match held
            .get(&key)
            .and_then(|h| state.keep(lane, index, &h.cpus))
        {
            Some(pod) => plan.pods.push(pod),
            None if lane.pods.is_some() => open.push((lane, index)),
            // A lane that takes what is left gets its missing numbers below.
            None => {}
        }
    }
    let mut missing: BTreeMap<(&str, &str), (u32, Unplaced)> = BTreeMap::new();
    for (lane, index) in open {
        match state.place(lane, index) {
            Ok(pod) => plan.pods.push(pod),
            Err(why) => {
                let entry = missing.entry((&lane.owner, &lane.name)).or_insert((0, why));
                entry.0 += 1;
            }
        }
    }
    let lacking = fill(&mut state, lanes, &mut plan, &mut missing);
    plan.pods
        .sort_by(|a, b| (&a.owner, &a.lane, a.index).cmp(&(&b.owner, &b.lane, b.index)));
    plan.left = missing
        .into_iter()
        .map(|((owner, lane), (pods, why))| LeftOver::Pod {
            owner: owner.to_owned(),
            lane: lane.to_owned(),
            pods,
            why,
        })
        .collect();
    plan.left.extend(state.unused(lacking.as_ref()));
    plan
}

/// Pods by lane and number in the order in which they would be placed if nothing lived: all of lanes with a number of
/// pods, then those that live of the other lanes.
fn turns<'a>(
    lanes: &'a [LaneRequest],
    held: &BTreeMap<(&str, &str, u32), &Held>,
) -> Vec<(&'a LaneRequest, u32)> {
    let lanes = order(lanes);
    let mut turns: Vec<(&LaneRequest, u32)> = Vec::new();
    for lane in &lanes {
        turns.extend((0..lane.pods.unwrap_or(0)).map(|index| (*lane, index)));
    }
    let last = held.keys().map(|(_, _, index)| *index).max();
    for index in 0..last.map_or(0, |l| l.min(MOST_PODS) + 1) {
        turns.extend(
            lanes
                .iter()
                .filter(|l| l.pods.is_none())
                .map(|l| (*l, index)),
        );
    }
    turns
}

/// Lanes in the order of how hard they are to place.
fn order(lanes: &[LaneRequest]) -> Vec<&LaneRequest> {
    let mut order: Vec<&LaneRequest> = lanes.iter().collect();
    order.sort_by_key(|l| {
        (
            l.gpus == 0,
            l.groups.is_none(),
            std::cmp::Reverse(l.memory),
            std::cmp::Reverse(l.cpus),
        )
    });
    order
}

/// Gives lanes without a number of pods what is left, one pod each in turn. Returns what ended it.
fn fill<'a>(
    state: &mut State<'_>,
    lanes: &'a [LaneRequest],
    plan: &mut ServerPlan,
    missing: &mut BTreeMap<(&'a str, &'a str), (u32, Unplaced)>,
) -> Option<(String, Unplaced)> {
    let mut turns: Vec<(&LaneRequest, u32)> = order(lanes)
        .into_iter()
        .filter(|l| l.pods.is_none())
        .map(|l| (l, 0))
        .collect();
    let mut lacking = None;
    while !turns.is_empty() {
        turns.retain_mut(|(lane, index)| {
            while plan
                .lane(&lane.owner, &lane.name)
                .any(|p| p.index == *index)
            {
                *index += 1;
            }
            if *index >= MOST_PODS {
                return false;
            }
            match state.place(lane, *index) {
                Ok(pod) => {
                    plan.pods.push(pod);
                    *index += 1;
                    true
                }
                Err(why) => {
                    if plan.lane(&lane.owner, &lane.name).next().is_none() {
                        missing.insert((&lane.owner, &lane.name), (1, why.clone()));
                    }
                    lacking = Some((lane.name.clone(), why));
                    false
                }
            }
        });
    }
    lacking
}
