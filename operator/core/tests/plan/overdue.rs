//! Tasks over their time: what is said, and who gets no new work.

use crate::support::*;
use filstar_core::action::{Action, NodeChange, StatusPatch};
use filstar_core::plan::drain::{Why, node_is_closing};
use filstar_core::plan::plan;
use filstar_core::status::status;
use filstar_core::world::World;
use filstar_crds::{
    Count, LanePhase, LaneTaskTimeout, Sector, SectorPhase, SectorStatus, TaskKind,
    TaskTimeoutAction, conditions,
};
use serde_json::json;

/// PC1 of sector 0 runs since second 0 and may take ten minutes; sector 1 waits for its PC1. Two may run in the pod.
fn begun() -> World {
    let mut world = world();
    let mut group = group();
    group.metadata.resource_version = Some("2".into());
    group.spec.lanes[0].concurrency = Count::Number(2);
    group.spec.lanes[0].cpus = 2;
    group.spec.lanes[0].task_timeouts = vec![LaneTaskTimeout {
        phase: LanePhase::Pc1,
        after: "10m".into(),
        then: TaskTimeoutAction::CloseLane,
    }];
    world.groups.apply(group);
    let mut node = node("node-a");
    node.metadata.resource_version = Some("2".into());
    let two = serde_json::from_value(json!({"cpu": "2", "memory": "8Gi"}));
    node.status.as_mut().unwrap().allocatable = two.unwrap();
    world.nodes.apply(node);
    let report = json!({"state": "Running", "started": at(0).wall.to_string()});
    world.sectors.apply(with_task(
        sector(SectorPhase::Pc1),
        TaskKind::Pc1,
        Some(report),
    ));
    let mut other = sector(SectorPhase::Pc1);
    other.metadata.name = Some("t01000-1".into());
    other.metadata.uid = Some("uid-1".into());
    other.metadata.resource_version = Some("1".into());
    other.spec.number = 1;
    world.sectors.apply(other);
    world
}

/// The status that a plan wants for a sector.
fn of(actions: &[Action], name: &str) -> Option<SectorStatus> {
    actions.iter().find_map(|a| match a {
        Action::PatchSector { id, status, .. } if id.name == name => Some((**status).clone()),
        _ => None,
    })
}

fn condition(status: &SectorStatus, kind: &str) -> Option<(String, String, String)> {
    let found = status.conditions.iter().find(|c| c.type_ == kind)?;
    Some((
        found.status.clone(),
        found.reason.clone(),
        found.message.clone(),
    ))
}

/// Writes what a plan wants for sector 0.
fn follow(world: &mut World, actions: &[Action], version: &str) {
    let mut first = world.sectors.get(&id("t01000-0")).unwrap().clone();
    let sealer = first.status.take().unwrap().sealer;
    first.status = of(actions, "t01000-0");
    first.status.as_mut().unwrap().sealer = sealer;
    first.metadata.resource_version = Some(version.into());
    world.sectors.apply(first);
}

#[test]
fn a_task_within_its_time_says_nothing_and_its_pod_takes_another() {
    let actions = plan(&begun(), at(599));
    let first = of(&actions, "t01000-0").unwrap();
    assert_eq!(condition(&first, conditions::TASK_OVERDUE), None);
    let second = of(&actions, "t01000-1").unwrap();
    assert!(second.task.is_some(), "{actions:#?}");
}

#[test]
fn a_task_over_its_time_says_so_and_its_pod_takes_no_other() {
    let actions = plan(&begun(), at(600));
    let first = of(&actions, "t01000-0").unwrap();
    let (is, why, text) = condition(&first, conditions::TASK_OVERDUE).unwrap();
    assert_eq!((is.as_str(), why.as_str()), ("True", "TaskOverdue"));
    assert!(
        text.contains("longer than the 10m that lane seal allows"),
        "{text}"
    );
    assert!(first.task.is_some(), "it is not stopped");
    let second = of(&actions, "t01000-1").unwrap();
    assert_eq!(second.task, None);
    assert_eq!(reason(&second), "SealerOverdue");
}

#[test]
fn the_pod_is_open_again_when_the_task_ends_and_the_sector_says_so() {
    let mut world = begun();
    let actions = plan(&world, at(600));
    follow(&mut world, &actions, "3");
    assert_eq!(of(&plan(&world, at(700)), "t01000-0"), None, "said once");
    let mut ended: Sector = world.sectors.get(&id("t01000-0")).unwrap().clone();
    let report = json!({"taskId": "task-1", "state": "Succeeded", "result": {"commD": COMM_D}});
    ended.status.as_mut().unwrap().sealer = Some(serde_json::from_value(report).unwrap());
    ended.metadata.resource_version = Some("4".into());
    world.sectors.apply(ended);
    let actions = plan(&world, at(800));
    let first = of(&actions, "t01000-0").unwrap();
    assert_eq!(first.phase, Some(SectorPhase::Pc2));
    let said = condition(&first, conditions::TASK_OVERDUE).unwrap();
    assert_eq!((said.0.as_str(), said.1.as_str()), ("False", "OnTime"));
    assert!(of(&actions, "t01000-1").unwrap().task.is_some());
}

#[test]
fn a_group_names_its_tasks_over_their_time() {
    let mut world = begun();
    let on_time = |world: &World| {
        let actions = status(world, at(600));
        let group = actions.iter().find_map(|a| match a {
            Action::PatchStatus { status, .. } => match &**status {
                StatusPatch::Group(status) => Some(status.clone()),
                _ => None,
            },
            _ => None,
        });
        let all = group.unwrap().conditions;
        let found = all.iter().find(|c| c.type_ == conditions::TASKS_ON_TIME);
        found
            .map(|c| (c.status.clone(), c.message.clone()))
            .unwrap()
    };
    assert_eq!(on_time(&world).0, "True");
    let actions = plan(&world, at(600));
    follow(&mut world, &actions, "3");
    let (is, text) = on_time(&world);
    assert_eq!(is, "False");
    assert!(text.starts_with("t01000-0: PC1 on pod "), "{text}");
}

/// The same, and the lane asks for a node with such a task to be emptied.
pub(super) fn draining() -> World {
    let mut world = begun();
    let mut group = world.groups.get(&id("g")).unwrap().clone();
    group.metadata.resource_version = Some("3".into());
    group.spec.lanes[0].task_timeouts[0].then = TaskTimeoutAction::DrainNode;
    world.groups.apply(group);
    world
}

/// What a plan does to cordons, by node.
pub(super) fn cordons(actions: &[Action]) -> Vec<(&str, &NodeChange)> {
    let all = actions.iter().filter_map(|a| match a {
        Action::PatchNode { id, change, .. } => Some((id.name.as_str(), change)),
        _ => None,
    });
    all.collect()
}

/// A Node as it is after a cordon, or without one.
pub(super) fn cordon(world: &mut World, name: &str, mark: Option<(&str, &str)>, cordoned: bool) {
    let of = filstar_core::world::Id::new("", name);
    let mut node = world.nodes.get(&of).unwrap().clone();
    let version: u64 = node
        .metadata
        .resource_version
        .take()
        .unwrap()
        .parse()
        .unwrap();
    node.metadata.resource_version = Some((version + 1).to_string());
    let notes =
        mark.map(|(mark, why)| json!({"filstar.io/cordon": mark, "filstar.io/cordon-reason": why}));
    node.metadata.annotations = serde_json::from_value(json!(notes)).unwrap();
    node.spec = serde_json::from_value(json!({"unschedulable": cordoned})).unwrap();
    world.nodes.apply(node);
}

#[test]
fn a_task_over_its_time_cordons_its_node_where_its_lane_says_so() {
    assert_eq!(cordons(&plan(&begun(), at(600))), []);
    let world = draining();
    assert_eq!(cordons(&plan(&world, at(599))), []);
    let actions = plan(&world, at(600));
    let [("node-a", NodeChange::CordonForTask { task })] = cordons(&actions)[..] else {
        panic!("{actions:#?}")
    };
    assert!(
        task.starts_with("PC1 of sector ns/t01000-0, begun ")
            && task.ends_with("ran longer than the 10m that lane seal allows"),
        "{task}"
    );
    let said = of(&actions, "t01000-0").unwrap();
    let (_, _, text) = condition(&said, conditions::TASK_OVERDUE).unwrap();
    assert!(text.contains("uncordon it when it is mended"), "{text}");
}

#[test]
fn a_cordon_for_a_task_empties_the_node_and_says_whose_it_is_when_the_task_is_gone() {
    let mut world = draining();
    cordon(
        &mut world,
        "node-a",
        Some(("task-overdue", "PC1 of x ran too long")),
        true,
    );
    let why = node_is_closing(&world, "node-a").unwrap();
    assert_eq!(why, Why::TaskOverdue("PC1 of x ran too long".into()));
    let actions = plan(&world, at(600));
    assert_eq!(cordons(&actions), []);
    let first = of(&actions, "t01000-0").unwrap();
    assert_eq!((&first.task, reason(&first)), (&None, "NodeMaintenance"));
    let ready = condition(&first, conditions::READY).unwrap();
    assert!(
        ready.2.contains("PC1 of x ran too long") && ready.2.contains("kubectl uncordon node-a"),
        "{}",
        ready.2
    );
    follow(&mut world, &actions, "3");
    for second in [601, 6000] {
        let actions = plan(&world, at(second));
        assert_eq!(cordons(&actions), [], "it outlives the task");
    }
}

#[test]
fn a_person_who_uncordons_the_node_is_heeded_for_that_task() {
    let mut world = draining();
    cordon(&mut world, "node-a", Some(("task-overdue", "x")), false);
    assert_eq!(
        cordons(&plan(&world, at(600))),
        [("node-a", &NodeChange::MarkLifted)]
    );
    cordon(&mut world, "node-a", Some(("lifted", "")), false);
    assert_eq!(cordons(&plan(&world, at(600))), []);
    assert_eq!(node_is_closing(&world, "node-a"), None);
    let mut ended = world.sectors.get(&id("t01000-0")).unwrap().clone();
    ended.status.as_mut().unwrap().task = None;
    ended.metadata.resource_version = Some("5".into());
    world.sectors.apply(ended);
    assert_eq!(
        cordons(&plan(&world, at(600))),
        [("node-a", &NodeChange::Unmark)]
    );
}

#[test]
fn slow_nodes_are_emptied_one_at_a_time() {
    let mut world = draining();
    world.nodes.apply(node("node-b"));
    let pod = sealer_pod("node-b");
    let mut second = world.sectors.get(&id("t01000-0")).unwrap().clone();
    second.metadata.name = Some("t01000-2".into());
    second.metadata.uid = Some("uid-2".into());
    let status = second.status.as_mut().unwrap();
    status.binding.as_mut().unwrap().node = "node-b".into();
    let task = status.task.as_mut().unwrap();
    (task.pod_name, task.pod_uid) = (
        pod.metadata.name.clone().unwrap(),
        pod.metadata.uid.clone().unwrap(),
    );
    world.pods.apply(pod);
    world.sectors.apply(second);
    let nodes = |world: &World| -> Vec<String> {
        let actions = plan(world, at(600));
        cordons(&actions)
            .iter()
            .map(|(node, _)| (*node).to_owned())
            .collect()
    };
    assert_eq!(nodes(&world), ["node-a"]);
    cordon(&mut world, "node-a", Some(("task-overdue", "x")), true);
    assert_eq!(nodes(&world), [""; 0]);
    cordon(&mut world, "node-a", Some(("lifted", "")), false);
    assert_eq!(nodes(&world), ["node-b"]);
}
