//! Books that are kept from plan to plan say the same as books that are opened anew, whatever changed in between, and
//! whether what plans asked for was done or lost.

use crate::places::{ALL, inventory, lanes, large_node, running};
use crate::support::*;
use filstar_core::action::Action;
use filstar_core::plan::Planner;
use filstar_core::world::{Index, World};
use filstar_crds::{Count, SealingGroup, Sector, SectorPhase, finalizers, labels};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Resource, ResourceExt};
use proptest::prelude::*;
use serde_json::json;

const NODES: [&str; 3] = ["node-a", "node-b", "node-c"];

/// A world, and the number that the next version gets.
struct Cluster {
    world: World,
    version: u64,
}

fn begin() -> Cluster {
    let mut world = world();
    for name in NODES {
        let mut node = node(name);
        node.metadata.resource_version = Some("2".into());
        let allocatable = json!({"cpu": "3", "memory": "24Gi"});
        node.status.as_mut().unwrap().allocatable = serde_json::from_value(allocatable).unwrap();
        world.nodes.apply(node);
    }
    let mut group = group();
    group.metadata.resource_version = Some("2".into());
    group.spec.pledge.max_in_flight = 6;
    group.spec.lanes[0].concurrency = Count::Number(2);
    world.groups.apply(group);
    let mut miner = miner();
    miner.metadata.resource_version = Some("2".into());
    miner.spec.sector_numbers.max = Some(30);
    world.miners.apply(miner);
    Cluster { world, version: 10 }
}

impl Cluster {
    /// Makes the `at`th object of a kind other, if there is one.
    fn change<T>(
        &mut self,
        of: fn(&mut World) -> &mut Index<T>,
        at: usize,
        how: impl FnOnce(&mut T),
    ) where
        T: Resource + ResourceExt + Clone,
    {
        self.version += 1;
        let index = of(&mut self.world);
        let Some(mut object) = index
            .iter()
            .nth(at % index.len().max(1))
            .map(|(_, o)| o.clone())
        else {
            return;
        };
        how(&mut object);
        object.meta_mut().resource_version = Some(self.version.to_string());
        index.apply(object);
    }

    fn step(&mut self, kind: u8, at: usize) {
        match kind {
            0 => self.change(|w| &mut w.sectors, at, report),
            1 => {
                let pod = self.world.pods.iter().nth(at % 4).map(|(_, p)| p.clone());
                pod.map(|pod| self.world.pods.delete(&pod));
            }
            2 => self.change(
                |w| &mut w.nodes,
                at,
                |node| {
                    let spec = node.spec.get_or_insert_default();
                    spec.unschedulable = (spec.unschedulable != Some(true)).then_some(true);
                },
            ),
            3 => self.change(
                |w| &mut w.groups,
                at,
                |group: &mut SealingGroup| {
                    let tasks = u32::try_from(at % 3 + 1).unwrap();
                    group.spec.lanes[0].concurrency = Count::Number(tasks);
                    group.metadata.generation = group.metadata.generation.map(|g| g + 1);
                },
            ),
            4 => self.sector(at),
            5 => {
                let sector = self.world.sectors.iter().nth(at).map(|(_, s)| s.clone());
                sector.map(|sector| self.world.sectors.delete(&sector));
            }
            6 => self.change(
                |w| &mut w.pods,
                at,
                |pod| {
                    let free = u64::try_from(at).unwrap() << 17;
                    *pod = with_disks(pod.clone(), free, 9 << 20);
                },
            ),
            7 => chain_mut(&mut self.world).head.0 += 400,
            8 => self.change(
                |w| &mut w.sectors,
                at,
                |sector: &mut Sector| {
                    sector.metadata.deletion_timestamp = Some(Time(support_now()));
                },
            ),
            // What others write into a group's status is no reason to open the books anew.
            _ => self.change(
                |w| &mut w.groups,
                at,
                |group: &mut SealingGroup| {
                    group.status.get_or_insert_default().in_flight += 1;
                },
            ),
        }
    }

    /// Somebody makes a sector.
    fn sector(&mut self, at: usize) {
        self.version += 1;
        let mut made = sector(SectorPhase::Allocated);
        let number = 20 + i64::try_from(at % 8).unwrap();
        made.metadata.name = Some(format!("t01000-{number}"));
        made.metadata.uid = Some(format!("uid-{}", self.version));
        made.metadata.resource_version = Some(self.version.to_string());
        made.metadata.creation_timestamp = Some(Time(support_now()));
        made.spec.number = number;
        made.status = None;
        self.world.sectors.apply(made);
    }

    /// Does what a plan asks for, but for every `lost`th action.
    fn follow(&mut self, actions: Vec<Action>, lost: usize) {
        for (n, action) in actions.into_iter().enumerate() {
            self.version += 1;
            let version = Some(self.version.to_string());
            if n % (lost + 2) == lost + 1 {
                continue;
            }
            match action {
                Action::CreatePod { mut pod } => {
                    let name = filstar_core::world::pod::node(&pod).map(str::to_owned);
                    pod.metadata.uid = Some(format!("uid-{}", self.version));
                    pod.metadata.resource_version = version;
                    pod.spec.as_mut().unwrap().node_name = name;
                    pod.status = sealer_pod("node-a").status;
                    self.world.pods.apply(with_disks(*pod, 9 << 20, 9 << 20));
                }
                Action::CreateSector { id, spec } => {
                    let mut made = sector(SectorPhase::Allocated);
                    made.metadata.name = Some(id.name);
                    made.metadata.uid = Some(format!("uid-{}", self.version));
                    made.metadata.resource_version = version;
                    made.metadata.creation_timestamp = Some(Time(support_now()));
                    made.spec = spec;
                    made.status = None;
                    self.world.sectors.apply(made);
                }
                Action::PatchSector { id, status, .. }
                | Action::DrawTicket { id, status, .. }
                | Action::DrawSeed { id, status, .. } => {
                    let mut sector = self.world.sectors.get(&id).unwrap().clone();
                    let before = sector.status.take().and_then(|s| s.sealer);
                    sector.status = Some(*status);
                    sector.status.as_mut().unwrap().sealer = before;
                    sector.metadata.resource_version = version;
                    self.world.sectors.apply(sector);
                }
                Action::DeletePod { id, uid, .. } => drop(self.world.pods.bury(&id, Some(&uid))),
                _ => {}
            }
        }
    }
}

fn support_now() -> jiff::Timestamp {
    at(0).wall
}

/// The sealer ends the task that the sector has.
fn report(sector: &mut Sector) {
    assert!(
        sector
            .finalizers()
            .iter()
            .any(|f| f == finalizers::SECTOR_FILES)
    );
    assert!(sector.labels().contains_key(labels::GROUP));
    let Some(status) = &mut sector.status else {
        return;
    };
    if let Some(task) = &status.task {
        let result = json!({"commD": COMM_D, "commR": COMM_R, "proof": "cHJvb2Y="});
        let report = json!({"taskId": task.id, "state": "Succeeded", "result": result});
        status.sealer = Some(serde_json::from_value(report).unwrap());
    }
}

/// One pod binds itself, to other CPUs than a plan would choose: as after a change of its lanes.
#[test]
fn kept_plans_know_what_a_pod_holds_that_came_since() {
    for alone in [false, true] {
        let mut world = large_node();
        world.sealing_nodes.apply(inventory("node-a"));
        let lane =
            json!([{"name": "seal", "phases": ALL, "cpus": 2, "memory": "8Gi", "coreGroups": {}}]);
        lanes(&mut world, lane, "Agent");
        drop(world.take_changes());
        let mut kept = Planner::default();
        let made = kept
            .full(&world, at(0))
            .into_iter()
            .find_map(|action| match action {
                Action::CreatePod { pod } => Some(*pod),
                _ => None,
            });
        let mut pod = running(made.unwrap());
        let chosen = pod
            .annotations_mut()
            .insert("filstar.io/cpus".into(), "2-3".into());
        assert_eq!(chosen.as_deref(), Some("6-7"));
        world.pods.apply(pod);
        let mut changes = world.take_changes();
        if alone {
            kept.changed(&world, at(0), &changes);
            changes = world.take_changes();
        }
        let actions = kept.whole(&world, at(0), &changes);
        assert_eq!(actions, Planner::default().full(&world, at(0)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn kept_books_plan_the_same_as_books_that_are_opened_anew(
        steps in proptest::collection::vec((0..10_u8, 0..24_usize, any::<bool>()), 1..40),
        lost in 0..4_usize,
    ) {
        let mut cluster = begin();
        let mut kept = Planner::default();
        for (second, (kind, which, alone)) in steps.into_iter().enumerate() {
            let now = at(i64::try_from(second).unwrap() * 30);
            cluster.step(kind, which);
            let changes = cluster.world.take_changes();
            if alone && !changes.other {
                // As between two plans of the whole.
                let actions = kept.changed(&cluster.world, now, &changes);
                cluster.follow(actions, lost);
                continue;
            }
            let actions = kept.whole(&cluster.world, now, &changes);
            let fresh = Planner::default().full(&cluster.world, now);
            let other = actions.iter().zip(&fresh).find(|(a, b)| a != b);
            prop_assert!(other.is_none(), "kept and new: {other:#?}");
            prop_assert_eq!(actions.len(), fresh.len());
            cluster.follow(actions, lost);
        }
    }
}
