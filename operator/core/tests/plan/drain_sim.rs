//! A small world that does what plans ask for, with an operator that may die after any action: every drain ends with
//! an empty node or with a reason, and nothing on chain is lost.

use std::collections::BTreeSet;

use crate::support::*;
use filstar_chain::types::Epoch;
use filstar_core::action::{Action, NodeChange};
use filstar_core::plan::drain::{View, node_is_closing, view};
use filstar_core::plan::plan;
use filstar_core::world::{Id, Refused, World};
use filstar_crds::{
    Lane, LaneTaskTimeout, MessageKind, MessageState, Sector, SectorPhase, SectorStatus, TaskKind,
    TaskState, TaskTimeoutAction,
};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

/// Rounds after which a drain must have ended or say why not.
pub(super) const ROUNDS: usize = 160;
/// Seconds that a task may take where that matters.
const BOUND: i64 = 30;

/// Who asks for an empty node.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Asks {
    Cordon,
    Maintenance,
    /// Nobody, until a task is over its time.
    Task,
}

pub(super) struct Sim {
    pub(super) world: World,
    version: u64,
    pub(super) second: i64,
    luck: Luck,
    /// A foreign budget that never lets go.
    pub(super) stubborn: bool,
    /// Sealers say when they begin, so that tasks can be over their time.
    slow: bool,
    /// Tasks over their time for which somebody would not have the node cordoned.
    forgiven: BTreeSet<String>,
    /// Sectors that the chain ever had.
    pub(super) on_chain: BTreeSet<String>,
    pub(super) evicted: usize,
}

impl Sim {
    fn stamp<T: kube::Resource>(&mut self, object: &mut T) {
        self.version += 1;
        object.meta_mut().resource_version = Some(self.version.to_string());
        if object.meta().uid.is_none() {
            object.meta_mut().uid = Some(format!("made-{}", self.version));
        }
    }

    fn number(id: &Id) -> u64 {
        id.name.rsplit('-').next().unwrap().parse().unwrap()
    }

    /// One round: a plan of which only the first actions are done, then time goes on.
    pub(super) fn round(&mut self) {
        let actions = plan(&self.world, at(self.second));
        let done = if self.luck.below(3) == 0 {
            // The operator dies, and forgets what it only remembered.
            self.world.refused.clear();
            usize::try_from(self.luck.below(4)).unwrap()
        } else {
            actions.len()
        };
        for action in actions.into_iter().take(done) {
            self.apply(action);
        }
        self.chain_goes_on();
        self.sealers_go_on();
        self.second += 20;
    }

    pub(super) fn apply(&mut self, action: Action) {
        match action {
            Action::PatchSector { id, status, .. }
            | Action::DrawTicket { id, status, .. }
            | Action::DrawSeed { id, status, .. } => self.patch(&id, *status),
            Action::CreateMessage { id, spec, .. } => {
                let mut made = message(
                    &id.name,
                    spec.kind,
                    signed(MessageState::Pushed, self.version),
                );
                made.spec = *spec;
                self.stamp(&mut made);
                self.world.messages.apply(made);
            }
            Action::AbortSector { id, .. } => {
                assert!(
                    !self.on_chain.contains(&id.name),
                    "{id} is on chain and is deleted"
                );
                let now = at(self.second).wall;
                self.change(&id, |s| s.metadata.deletion_timestamp = Some(Time(now)));
            }
            Action::ReleaseSector { id, uid } => {
                assert!(
                    !self.on_chain.contains(&id.name),
                    "{id} is on chain and goes"
                );
                self.world.sectors.bury(&id, Some(&uid));
            }
            Action::CreateBudget { budget } => {
                let mut budget = *budget;
                self.stamp(&mut budget);
                self.world.budgets.apply(budget);
            }
            Action::DeleteBudget { id, uid } => {
                self.world.budgets.bury(&id, Some(&uid));
            }
            Action::EvictPod { id, uid, node } => self.evict(&id, &uid, &node),
            Action::CreatePod { pod } => {
                let closing = node_is_closing(&self.world, "node-a").is_some();
                assert!(!closing || !format!("{pod:?}").contains("node-a"));
                if self.slow {
                    self.start(*pod);
                }
            }
            Action::DeletePod { id, uid, .. } => {
                assert!(self.slow, "{id} is deleted");
                assert!(node_is_closing(&self.world, "node-a").is_none());
                self.world.pods.bury(&id, Some(&uid));
            }
            Action::PatchNode { id, change, .. } => self.cordon(&id, &change),
            _ => {}
        }
    }

    fn start(&mut self, mut pod: Pod) {
        let like = sealer_pod("node-a");
        pod.status = like.status;
        pod.spec.as_mut().unwrap().node_name = Some("node-a".into());
        pod.metadata.uid = None;
        self.stamp(&mut pod);
        self.world.pods.apply(with_disks(pod, 9 << 20, 9 << 20));
    }

    pub(super) fn change(&mut self, id: &Id, change: impl FnOnce(&mut Sector)) {
        let Some(mut sector) = self.world.sectors.get(id).cloned() else {
            return;
        };
        change(&mut sector);
        self.stamp(&mut sector);
        self.world.sectors.apply(sector);
    }

    fn patch(&mut self, id: &Id, next: SectorStatus) {
        let before = self.world.sectors.get(id).unwrap().status.clone().unwrap();
        let old = before.task.as_ref().map(|t| &t.id);
        if let Some(task) = next.task.as_ref().filter(|t| Some(&t.id) != old) {
            let node = next.binding.as_ref().map(|b| b.node.as_str());
            let closing = node.is_some_and(|n| node_is_closing(&self.world, n).is_some());
            let allowed =
                !closing || self.on_chain.contains(&id.name) || task.kind == TaskKind::Remove;
            assert!(allowed, "{id} begins {} on a closing node", task.id);
        }
        let mut next = SectorStatus {
            sealer: before.sealer,
            ..next
        };
        for drawn in [&mut next.ticket, &mut next.seed].into_iter().flatten() {
            drawn.value = "AA==".into();
        }
        self.change(id, |sector| sector.status = Some(next));
    }

    fn evict(&mut self, id: &Id, uid: &str, node: &str) {
        assert!(node_is_closing(&self.world, node).is_some());
        for (sector_id, sector) in self.world.sectors.iter() {
            let status = sector.status.as_ref().unwrap();
            let here = status.binding.as_ref().is_some_and(|b| b.node == node);
            let unfinished = !matches!(status.phase, Some(SectorPhase::Proving));
            assert!(
                !(here && unfinished && self.on_chain.contains(&sector_id.name)),
                "{id} is evicted under {sector_id} in {:?}",
                status.phase
            );
        }
        if self.stubborn {
            let refused = Refused {
                uid: uid.into(),
                budget: Some("theirs".into()),
                message: "The disruption budget theirs needs 1 healthy pods and has 1 currently"
                    .into(),
            };
            self.world.refused.insert(id.clone(), refused);
        } else {
            self.world.pods.bury(id, Some(uid));
            self.evicted += 1;
        }
    }

    fn cordon(&mut self, id: &Id, change: &NodeChange) {
        let mark = match change {
            NodeChange::Cordon => Some("ours"),
            NodeChange::CordonForTask { .. } => {
                let late = self.late();
                assert!(
                    !late.is_empty() && late.is_disjoint(&self.forgiven),
                    "{late:?}"
                );
                Some("task-overdue")
            }
            NodeChange::MarkLifted => Some("lifted"),
            NodeChange::Unmark => None,
            NodeChange::Uncordon => panic!("nobody ended a maintenance"),
        };
        assert_eq!(*change == NodeChange::Cordon, !self.slow);
        let cordons = !matches!(change, NodeChange::MarkLifted | NodeChange::Unmark);
        self.set_cordon(id, mark, cordons);
    }

    fn set_cordon(&mut self, id: &Id, mark: Option<&str>, cordoned: bool) {
        let mut node = self.world.nodes.get(id).unwrap().clone();
        node.spec = Some(serde_json::from_value(json!({"unschedulable": cordoned})).unwrap());
        let mark = mark.map(|mark| ("filstar.io/cordon".into(), mark.into()));
        node.metadata.annotations = Some(mark.into_iter().collect());
        self.stamp(&mut node);
        self.world.nodes.apply(node);
    }

    /// Tasks over their time. A task's id is its sector's own.
    fn late(&self) -> BTreeSet<String> {
        let now = at(self.second - BOUND).wall;
        let task = |(id, sector): (&Id, &Sector)| {
            let status = sector.status.as_ref()?;
            let report = status
                .sealer
                .as_ref()
                .filter(|r| r.started.as_ref().is_some_and(|t| t.0 <= now))?;
            let task = status.task.as_ref().filter(|t| t.id == report.task_id)?;
            // Files of a sector that is deleted have no bound.
            let bounded = report.state == TaskState::Running && task.kind != TaskKind::Remove;
            bounded.then(|| format!("{id} {}", task.id))
        };
        self.world.sectors.iter().filter_map(task).collect()
    }

    /// Somebody types `kubectl uncordon node-a`.
    pub(super) fn uncordon(&mut self) {
        let id = Id::new("", "node-a");
        if node_is_closing(&self.world, &id.name).is_some() {
            self.forgiven.extend(self.late());
            self.set_cordon(&id, Some("task-overdue"), false);
        }
    }

    /// Messages land, and the head moves.
    fn chain_goes_on(&mut self) {
        let head = chain_mut(&mut self.world).head.0 + 20;
        chain_mut(&mut self.world).head = Epoch(head);
        let pushed: Vec<_> = self
            .world
            .messages
            .iter()
            .filter(|(_, m)| m.status.as_ref().unwrap().state == Some(MessageState::Pushed))
            .map(|(_, m)| m.clone())
            .collect();
        for mut message in pushed {
            // From the moment that it is pushed it may land.
            let name = format!("t01000-{}", message.spec.sectors[0]);
            self.on_chain.insert(name);
            if self.luck.below(2) == 0 {
                continue;
            }
            let number = message.spec.sectors[0].unsigned_abs();
            let chain = chain_mut(&mut self.world);
            if message.spec.kind == MessageKind::PreCommit {
                chain
                    .precommits
                    .insert(number, Some(pre_commit(head, COMM_R)));
            } else {
                chain.precommits.insert(number, None);
                chain.sectors.insert(number, Some(on_chain(COMM_R)));
            }
            message.status.as_mut().unwrap().state = Some(MessageState::Final);
            self.stamp(&mut message);
            self.world.messages.apply(message);
        }
    }

    /// Live pods end some of their tasks.
    fn sealers_go_on(&mut self) {
        let ids: Vec<Id> = self
            .world
            .sectors
            .iter()
            .map(|(id, _)| id.clone())
            .collect();
        for id in ids {
            let sector = self.world.sectors.get(&id).unwrap();
            let status = sector.status.clone().unwrap();
            let Some(task) = status.task else { continue };
            let pod = self.world.pods.get(&Id::new(NS, &task.pod_name));
            let lives = pod.is_some_and(|p| p.metadata.uid.as_ref() == Some(&task.pod_uid));
            if !lives {
                continue;
            }
            let report = if self.luck.below(2) == 1 {
                json!({"taskId": task.id, "state": "Succeeded", "result": {
                    "commD": COMM_D, "commR": COMM_R, "proof": "cHJvb2Y=", "store": "store-a",
                }})
            } else if self.slow && status.sealer.is_none_or(|r| r.task_id != task.id) {
                json!({"taskId": task.id, "state": "Running", "started": at(self.second).wall.to_string()})
            } else {
                continue;
            };
            self.change(&id, |s| {
                s.status.as_mut().unwrap().sealer = Some(serde_json::from_value(report).unwrap());
            });
        }
    }

    /// Whether a closing node is empty or says why not, or an open one has done its work.
    pub(super) fn is_settled(&self) -> bool {
        if let Some(view) = view(&self.world, at(self.second), "node-a") {
            return view.is_drained() || view.blocked.is_some();
        }
        let mut phases = self
            .world
            .sectors
            .iter()
            .filter_map(|(_, s)| s.status.as_ref()?.phase);
        phases.all(|phase| phase == SectorPhase::Proving)
    }

    pub(super) fn view(&self) -> View {
        view(&self.world, at(self.second), "node-a").unwrap()
    }
}

pub(super) const PHASES: [SectorPhase; 11] = [
    SectorPhase::Packing,
    SectorPhase::Pc1,
    SectorPhase::Pc2,
    SectorPhase::PreCommitting,
    SectorPhase::WaitSeed,
    SectorPhase::C1,
    SectorPhase::C2,
    SectorPhase::Committing,
    SectorPhase::Finalizing,
    SectorPhase::Landing,
    SectorPhase::Proving,
];

/// Tasks of all phases empty their node when they take too long.
fn bound_all(lane: &mut Lane) {
    let timeouts = lane.phases.iter().map(|phase| LaneTaskTimeout {
        phase: *phase,
        after: format!("{BOUND}s"),
        then: TaskTimeoutAction::DrainNode,
    });
    lane.task_timeouts = timeouts.collect();
}

/// A world with sectors in these phases on node-a.
pub(super) fn sim(
    phases: &[usize],
    asks: Asks,
    policy: &str,
    deadline: Option<i64>,
    seed: u64,
) -> Sim {
    let mut world = world();
    let mut group = group();
    group.spec.pledge.mode = filstar_crds::PledgeMode::Manual;
    group.metadata.resource_version = Some("2".into());
    if asks != Asks::Maintenance && policy == "Delete" {
        group.spec.drain.not_on_chain = filstar_crds::NotOnChain::Delete;
    }
    if asks == Asks::Task {
        bound_all(&mut group.spec.lanes[0]);
    }
    world.groups.apply(group);
    let mut sim = Sim {
        world,
        version: 100,
        second: 0,
        luck: Luck::new(seed),
        stubborn: false,
        slow: asks == Asks::Task,
        forgiven: BTreeSet::new(),
        on_chain: BTreeSet::new(),
        evicted: 0,
    };
    // As it is for a running pod: its template does not change.
    let made = plan(&sim.world, at(0)).into_iter().find_map(|a| match a {
        Action::CreatePod { pod } => Some(pod),
        _ => None,
    });
    assert!(made.is_none(), "the pod of node-a is there");
    for (number, phase) in phases.iter().map(|p| PHASES[*p % PHASES.len()]).enumerate() {
        let mut one = sector(phase);
        one.metadata.name = Some(format!("t01000-{number}"));
        one.metadata.uid = Some(format!("uid-{number}"));
        one.spec.number = i64::try_from(number).unwrap();
        let n = Sim::number(&Id::of(&one));
        let chain = chain_mut(&mut sim.world);
        if phase > SectorPhase::PreCommitting {
            sim.on_chain.insert(format!("t01000-{number}"));
            if phase > SectorPhase::Committing {
                chain.sectors.insert(n, Some(on_chain(COMM_R)));
            } else {
                chain.precommits.insert(n, Some(pre_commit(990, COMM_R)));
            }
        }
        if phase == SectorPhase::C1 || phase == SectorPhase::C2 || phase == SectorPhase::Committing
        {
            one.status.as_mut().unwrap().seed = Some(filstar_crds::Randomness {
                epoch: 1000,
                value: "AA==".into(),
            });
        }
        sim.stamp(&mut one);
        sim.world.sectors.apply(one);
    }
    if asks == Asks::Cordon {
        sim.set_cordon(&Id::new("", "node-a"), None, true);
    } else if asks == Asks::Maintenance {
        let deadline = deadline.map(|s| at(s).wall.to_string());
        let wish = json!({
            "apiVersion": "filstar.io/v1alpha1", "kind": "SealingNode",
            "metadata": {"name": "node-a", "uid": "sn", "resourceVersion": "2", "generation": 2},
            "spec": {"maintenance": {"notOnChain": policy, "deadline": deadline}},
        });
        sim.world
            .sealing_nodes
            .apply(serde_json::from_value(wish).unwrap());
    }
    sim
}
