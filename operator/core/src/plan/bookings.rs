//! Which pods have room for a task, counted over all tasks in flight and those of this very plan.
//!
//! Kept by group and node, so that one change costs what it touches. A task begins only if its pod's count, memory,
//! cores and GPUs have room for it, and a sector is bound to a node only if every step of its way fits a pod there:
//! nothing starts that cannot finish. Who does not fit holds up nobody behind him.

mod entered;
mod gone;
mod key;
mod kinds;
mod live;
mod shelf;
mod waiting;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use filstar_crds::{SealingGroup, Sector, Task, TaskKind};
use filstar_placement::{Full, Load};

use super::drain::Closing;
use super::fleet::Fleet;
use super::pods::{Standing, Standings};
use crate::world::{Changes, Id, Invalid, MinerFacts, Now, World};
use entered::{Entered, Seat};
pub(super) use gone::is_there;
pub(super) use key::Key;
use kinds::{allows, computes};
use live::Live;
use shelf::{Entry, Shelf};
use waiting::Waiting;

/// A pod that may take a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) pod: String,
    pub(super) uid: String,
    pub(super) node: String,
}

/// Tasks of one pod.
#[derive(Clone, Debug, Default)]
struct Tasks {
    /// Those that compute: a lane's limits bound them.
    load: Load,
    /// The sectors of all of them.
    sectors: BTreeSet<Id>,
}

/// Why no pod takes a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// There is no ready pod of a lane with this phase (on the sector's node).
    NoPod,
    /// All of them are busy; why the last one is.
    Busy(String, Full),
    /// The pod on the node with the fewest sectors is about to be ready.
    Starting(String),
    /// The pod is ready and waits its part of `startJitter`.
    Jitter(String),
    /// A task there is over its time.
    Overdue(String),
    /// The pod gets no new work, and why.
    Closed(String, Standing),
    /// On no node all steps of a sector's way fit; what is missing on the first.
    NoWay(String),
}

/// The books.
#[derive(Clone, Debug, Default)]
pub(super) struct Bookings {
    groups: BTreeMap<Id, Shelf>,
    pods: HashMap<String, Tasks>,
    /// Sectors in work by node.
    nodes: HashMap<String, u32>,
    landing: HashMap<Id, u32>,
    sectors: HashMap<Id, Entered>,
    /// Sectors that found no place, by group and node (none: they are not bound yet).
    waiting: Waiting,
    miners: BTreeMap<Id, Result<Arc<MinerFacts>, Invalid>>,
    /// Group and node of each pod.
    shelves: HashMap<Id, (Id, String)>,
    live: Live,
    /// Nodes that get nothing new, and those with work that have left the cluster.
    closing: Closing,
    gone: BTreeSet<String>,
    /// Pods that get no new work though they run.
    standings: Standings,
    /// Sectors that a plan booked something for: what it asked for may have failed.
    promised: BTreeSet<Id>,
    /// Groups in which no node takes a new sector, and why: asked once, until something is freed.
    exhausted: BTreeMap<Id, NoPlace>,
}

impl Bookings {
    /// Counts the unfinished tasks of the world.
    pub(super) fn of(world: &World, fleet: &Fleet) -> Self {
        let mut bookings = Self {
            closing: fleet.closing().clone(),
            ..Self::default()
        };
        for (id, miner) in world.miners.iter() {
            let facts = MinerFacts::parse(miner).map(Arc::new);
            bookings.miners.insert(id.clone(), facts);
        }
        for (id, group) in world.groups.iter() {
            let shelf = Shelf::new(world, id, group);
            bookings.groups.insert(id.clone(), shelf);
        }
        for (id, sector) in world.sectors.iter() {
            bookings.enter(world, id, Some(sector));
        }
        for (id, pod) in world.pods.iter() {
            bookings.note_pod(world, fleet, id, Some(pod));
        }
        bookings
    }

    /// Brings the books up to date with what changed, and with what plans asked for.
    pub(super) fn renew(&mut self, world: &World, fleet: &Fleet, changes: &Changes) {
        for id in &changes.pods {
            self.note_pod(world, fleet, id, world.pods.get(id));
        }
        for id in std::mem::take(&mut self.promised).union(&changes.sectors) {
            self.enter(world, id, world.sectors.get(id));
        }
        for (id, shelf) in &mut self.groups {
            if let Some(group) = world.groups.get(id) {
                shelf.look_at_chain(world, id, group);
            }
        }
        self.closing = fleet.closing().clone();
        self.waiting.clear();
        self.exhausted.clear();
    }

    /// Notes which pods get no new work.
    pub(super) fn stand(&mut self, standings: Standings) {
        self.standings = standings;
    }

    /// Nodes that get nothing new.
    pub(super) fn closing(&self) -> &Closing {
        &self.closing
    }

    /// What a Miner's spec says.
    pub(super) fn miner(&self, id: &Id) -> Option<&Result<Arc<MinerFacts>, Invalid>> {
        self.miners.get(id)
    }

    /// Takes a pod in as it is now, or out. Returns the sectors that have a task there, its group and its node.
    pub(super) fn note_pod(
        &mut self,
        world: &World,
        fleet: &Fleet,
        id: &Id,
        pod: Option<&k8s_openapi::api::core::v1::Pod>,
    ) -> (BTreeSet<Id>, Option<(Id, String)>) {
        self.exhausted.clear();
        self.live.note(id, pod);
        let mut uids: BTreeSet<String> = pod
            .and_then(|p| p.metadata.uid.clone())
            .into_iter()
            .collect();
        let mut known = self.shelves.remove(id);
        if let Some((group, node)) = &known
            && let Some(shelf) = self.groups.get_mut(group)
        {
            uids.extend(shelf.remove(node, id));
        }
        let entry = pod.and_then(|pod| Entry::of(world, fleet, id, pod));
        if let Some((group, entry)) = entry
            && let Some(shelf) = self.groups.get_mut(&group)
        {
            let at = (group, entry.node.clone());
            let sectors = self.nodes.get(&entry.node).copied().unwrap_or(0);
            shelf.put(entry, sectors);
            self.shelves.insert(id.clone(), at.clone());
            known = Some(at);
        }
        let tasks = uids.iter().filter_map(|uid| self.pods.get(uid));
        (tasks.flat_map(|t| t.sectors.clone()).collect(), known)
    }

    /// Takes a sector in as it is now, or out. Returns the node on which it was in work before.
    pub(super) fn enter(
        &mut self,
        world: &World,
        id: &Id,
        sector: Option<&Sector>,
    ) -> Option<String> {
        let old = self.sectors.remove(id).unwrap_or_default();
        self.exhausted.clear();
        if let Some((uid, kind)) = &old.task {
            self.count_task(id, uid, *kind, false);
        }
        self.count_seat(old.seat.as_ref(), false);
        if let Some(n) = old.landing.as_ref().and_then(|s| self.landing.get_mut(s)) {
            *n = n.saturating_sub(1);
        }
        let Some(sector) = sector else {
            return old.seat.map(|seat| seat.node);
        };
        let new = Entered::of(world, id, sector);
        if let Some((uid, kind)) = &new.task {
            self.count_task(id, uid, *kind, true);
        }
        self.count_seat(new.seat.as_ref(), true);
        if let Some(store) = &new.landing {
            *self.landing.entry(store.clone()).or_default() += 1;
        }
        self.sectors.insert(id.clone(), new);
        old.seat.map(|seat| seat.node)
    }

    fn count_task(&mut self, id: &Id, uid: &str, kind: TaskKind, more: bool) {
        let tasks = self.pods.entry(uid.to_owned()).or_default();
        if more {
            tasks.sectors.insert(id.clone());
        } else {
            tasks.sectors.remove(id);
        }
        match computes(kind) {
            Some(kind) if more => tasks.load.add(kind),
            Some(kind) => tasks.load.remove(kind),
            None => {}
        }
        if tasks.sectors.is_empty() {
            self.pods.remove(uid);
        }
    }

    fn count_seat(&mut self, seat: Option<&Seat>, more: bool) {
        let Some(Seat { group, node }) = seat else {
            return;
        };
        if let Some(shelf) = self.groups.get_mut(group) {
            shelf.count_own(node, more);
        }
        let count = self.nodes.entry(node.clone()).or_default();
        *count = if more {
            *count + 1
        } else {
            count.saturating_sub(1)
        };
        let count = *count;
        for shelf in self.groups.values_mut() {
            shelf.reorder(node, count);
        }
    }

    /// Whether a sector's task has its pod still.
    pub(super) fn has_pod(&self, sector: &Id, task: &Task) -> bool {
        self.live
            .has(&sector.namespace, &task.pod_name, &task.pod_uid)
    }

    /// Whether a pod has no task.
    pub(super) fn is_idle(&self, uid: &str) -> bool {
        !self.pods.contains_key(uid)
    }

    /// Whether a task of a pod is over its time.
    fn is_overdue(&self, uid: &str, now: Now) -> bool {
        let sectors = self.pods.get(uid).into_iter().flat_map(|t| &t.sectors);
        let mut ends = sectors.filter_map(|id| self.sectors.get(id)?.ends);
        ends.any(|ends| now.wall >= ends)
    }

    /// Sectors that are landing in a store.
    pub(super) fn landing(&self, store: &Id) -> u32 {
        self.landing.get(store).copied().unwrap_or(0)
    }

    /// Ready pods of a group; on `node` alone when one is given.
    pub(super) fn ready<'a>(
        &'a self,
        group: &Id,
        node: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Id> {
        let shelf = self.groups.get(group).into_iter();
        shelf
            .flat_map(move |s| s.entries(node))
            .filter(|e| e.ready)
            .map(|e| &e.id)
    }

    /// Remembers that a sector found no place, or takes it off that list.
    pub(super) fn wait(&mut self, id: &Id, group: &Id, node: Option<&str>, waits: bool) {
        self.waiting.note(id, group, node, waits);
    }

    /// Sectors of a group that wait for a place on a node, or for a node (at most `most` of these).
    pub(super) fn waiting(&self, group: &Id, node: &str, most: usize) -> Vec<Id> {
        let here = self.waiting.of(group, Some(node));
        let anywhere = self.waiting.of(group, None).take(most);
        here.chain(anywhere).cloned().collect()
    }

    /// Chooses the node of a new sector and books a task there: of those that `takes` and that have room the one with
    /// the fewest sectors of the group in work, since these wait for the same pods, then with the fewest of all groups.
    pub(super) fn take_node(
        &mut self,
        now: Now,
        group_id: &Id,
        group: &SealingGroup,
        kind: TaskKind,
        id: &Id,
        takes: impl Fn(&str) -> bool,
    ) -> Result<Place, NoPlace> {
        if let Some(known) = self.exhausted.get(group_id) {
            return Err(known.clone());
        }
        let found = self.find_node(now, group_id, group, kind, takes);
        match &found {
            Ok(place) => {
                self.book(id, place, kind);
                // It may have been promised another node that it never came to.
                let entered = self.sectors.entry(id.clone()).or_default();
                let seat = Seat {
                    group: group_id.clone(),
                    node: place.node.clone(),
                };
                let before = entered.seat.replace(seat.clone());
                self.count_seat(before.as_ref(), false);
                self.count_seat(Some(&seat), true);
            }
            Err(problem) => drop(self.exhausted.insert(group_id.clone(), problem.clone())),
        }
        found
    }

    fn find_node(
        &self,
        now: Now,
        group_id: &Id,
        group: &SealingGroup,
        kind: TaskKind,
        takes: impl Fn(&str) -> bool,
    ) -> Result<Place, NoPlace> {
        let mut first_problem = None;
        let shelf = self.groups.get(group_id).ok_or(NoPlace::NoPod)?;
        let closing = &self.closing;
        let open = |node: &&str| {
            takes(node) && closing.get(node).is_none() && closing.unwell(node).is_none()
        };
        for node in shelf.nodes().filter(open) {
            let usable = |e: &&Entry| {
                allows(&group.spec.lanes[e.lane], kind) && (e.takes_new() || e.is_starting(now))
            };
            let entries = shelf.entries(Some(node));
            let rank = |e: &&Entry| (!self.standings.contains_key(&e.uid), e.takes_new());
            let Some(entry) = entries.filter(usable).max_by_key(rank) else {
                continue;
            };
            let problem = if let Some(standing) = self.standings.get(&entry.uid) {
                NoPlace::Closed(entry.id.name.clone(), standing.clone())
            } else if !entry.takes_new() {
                NoPlace::Starting(entry.id.name.clone())
            } else if let Some(missing) = self.no_way(shelf, group, node) {
                NoPlace::NoWay(missing)
            } else {
                match self.find(now, group_id, group, kind, Some(node)) {
                    Ok(place) => return Ok(place),
                    Err(problem) => problem,
                }
            };
            // A node that starts with fewer sectors is waited for; one that is full is not.
            if matches!(problem, NoPlace::Starting(_) | NoPlace::Jitter(_)) {
                return Err(first_problem.unwrap_or(problem));
            }
            first_problem.get_or_insert(problem);
        }
        Err(first_problem.unwrap_or(NoPlace::NoPod))
    }

    /// Books a place for a task of `kind`; on `node` when the sector is bound already.
    pub(super) fn take(
        &mut self,
        now: Now,
        group_id: &Id,
        group: &SealingGroup,
        kind: TaskKind,
        node: Option<&str>,
        id: &Id,
    ) -> Result<Place, NoPlace> {
        let found = self.find(now, group_id, group, kind, node);
        if let Ok(place) = &found {
            self.book(id, place, kind);
        }
        found
    }

    /// Enters a task that this plan gives to a sector, in place of the one that it had.
    fn book(&mut self, id: &Id, place: &Place, kind: TaskKind) {
        let task = Some((place.uid.clone(), kind));
        let entered = self.sectors.entry(id.clone()).or_default();
        entered.ends = None;
        if let Some((uid, old)) = std::mem::replace(&mut entered.task, task) {
            self.count_task(id, &uid, old, false);
        }
        self.count_task(id, &place.uid, kind, true);
        self.promised.insert(id.clone());
    }

    fn find(
        &self,
        now: Now,
        group_id: &Id,
        group: &SealingGroup,
        kind: TaskKind,
        node: Option<&str>,
    ) -> Result<Place, NoPlace> {
        let Some(shelf) = self.groups.get(group_id) else {
            return Err(NoPlace::NoPod);
        };
        let mut found = Err(NoPlace::NoPod);
        let mut least = u32::MAX;
        for entry in shelf.entries(node).filter(|e| e.ready) {
            if !allows(&group.spec.lanes[entry.lane], kind) {
                continue;
            }
            let load = self
                .pods
                .get(&entry.uid)
                .map_or(Load::default(), |t| t.load);
            let full = computes(kind).and_then(|kind| {
                let post = shelf.post_due(&entry.node);
                entry.limits.admit(&load, kind, post).err()
            });
            let total = load.total();
            let standing = self.standings.get(&entry.uid);
            let closed = standing.filter(|s| computes(kind).is_some() && **s != Standing::LeftOver);
            if let Some(standing) = closed {
                found = found.or(Err(NoPlace::Closed(
                    entry.id.name.clone(),
                    standing.clone(),
                )));
            } else if let Some(full) = full {
                found = found.or(Err(NoPlace::Busy(entry.id.name.clone(), full)));
            } else if computes(kind).is_some() && self.is_overdue(&entry.uid, now) {
                found = found.or(Err(NoPlace::Overdue(entry.id.name.clone())));
            } else if computes(kind).is_some() && entry.waits(now) {
                found = found.or(Err(NoPlace::Jitter(entry.id.name.clone())));
            } else if total < least {
                least = total;
                found = Ok(Place {
                    pod: entry.id.name.clone(),
                    uid: entry.uid.clone(),
                    node: entry.node.clone(),
                });
            }
        }
        found
    }

    /// The first step of a sector's way that no pod of a node can take, even when it is idle.
    fn no_way(&self, shelf: &Shelf, group: &SealingGroup, node: &str) -> Option<String> {
        let tasks = [
            TaskKind::AddPiece,
            TaskKind::Pc1,
            TaskKind::Pc2,
            TaskKind::C1,
            TaskKind::C2,
            TaskKind::Finalize,
        ];
        tasks.into_iter().find_map(|task| {
            let mut why = format!("no pod on node {node} computes {}", task.as_str());
            for entry in shelf.entries(Some(node)) {
                if !allows(&group.spec.lanes[entry.lane], task) {
                    continue;
                }
                if let Some(Standing::GpuFailed(failed)) = self.standings.get(&entry.uid)
                    && computes(task).is_some()
                {
                    why = format!("pod {}: {failed}", entry.id.name);
                    continue;
                }
                let admits = |kind| entry.limits.admit(&Load::default(), kind, false);
                match computes(task).map(admits) {
                    None | Some(Ok(())) => return None,
                    Some(Err(full)) => why = format!("pod {}: {full}", entry.id.name),
                }
            }
            Some(why)
        })
    }
}
