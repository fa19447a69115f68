//! Tasks over their time: what is said, and who gets no new work.

use crate::support::*;
use filstar_crds::{
    Count, LanePhase, LaneTaskTimeout, Sector, SectorPhase, SectorStatus, TaskKind, conditions,
};
use filstar_operator::action::{Action, StatusPatch};
use filstar_operator::plan::plan;
use filstar_operator::status::status;
use filstar_operator::world::World;
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
