//! Times of the planner on a large world, and how well published servers are packed. planner FILE writes
//! `[{name, ours, unit}]` there; without FILE it prints only.

#![expect(
    clippy::unwrap_used,
    reason = "a measurement, which stops at what it does not expect"
)]
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "it follows the actions that change what is measured"
)]

#[expect(
    dead_code,
    clippy::unnecessary_wraps,
    clippy::wildcard_imports,
    reason = "shared with tests, which use more of it"
)]
#[path = "../tests/plan/support.rs"]
mod support;

use std::time::{Duration, Instant};

use filstar_core::action::Action;
use filstar_core::plan::Planner;
use filstar_core::world::{Changes, Id, World};
use filstar_crds::{PledgeMode, Randomness, SealingNode, Sector, SectorPhase};
use filstar_placement::layouts;
use serde_json::{Value, json};
use support::{COMM_D, COMM_R, at, chain_mut, pre_commit};

const NODES: usize = 1_000;
const SECTORS: u64 = 10_000;
/// Plans of the whole whose mean is taken.
const FULL_PLANS: u32 = 25;

fn main() {
    let mut results = Vec::new();
    let world = settled();
    let mut planner = Planner::default();
    // As after a start of the operator: every node is placed, and the books are opened.
    let begun = processor_time();
    planner.full(&world, at(100));
    let first = processor_time().saturating_sub(begun);
    results.push(result("plan_first", millis(first), "ms"));
    // Places and books are kept from plan to plan; all sectors, pods and nodes are looked at.
    let nothing = Changes::default();
    let begun = processor_time();
    for _ in 0..FULL_PLANS {
        let actions = planner.whole(&world, at(100), &nothing);
        assert!(
            actions.len() < 200,
            "the world is at rest: {} actions",
            actions.len()
        );
    }
    let full = processor_time().saturating_sub(begun) / FULL_PLANS;
    results.push(result("plan_full", millis(full), "ms"));
    results.push(result("plan_event", millis(task_ends(&world)), "ms"));
    results.push(result("plan_event_pod", millis(pod_turns(&world)), "ms"));
    results.push(result("plan_event_node", millis(node_tells(&world)), "ms"));
    results.push(result("plan_event_spec", millis(spec_changes(world)), "ms"));
    for layout in layouts::all() {
        let share = layouts::pack(&layout).share();
        let name = format!("packing_{}", layout.name);
        results.push(result(
            &name,
            f64::from(u32::try_from(share).unwrap()) / 100.0,
            "%",
        ));
    }
    for result in &results {
        println!(
            "{:<36} {:>10} {}",
            result["name"].as_str().unwrap(),
            result["ours"],
            result["unit"].as_str().unwrap()
        );
    }
    if let Some(path) = std::env::args().nth(1).filter(|a| !a.starts_with('-')) {
        std::fs::write(path, serde_json::to_string_pretty(&results).unwrap() + "\n").unwrap();
    }
}

fn result(name: &str, ours: f64, unit: &str) -> Value {
    json!({"name": name, "ours": ours, "unit": unit})
}

/// Time that this thread had on a processor, so that a machine with other work measures the same. The kernel counts it
/// when its clock ticks, every few milliseconds: what is shorter is measured many times at once.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1_000_000.0).round() / 1_000.0
}

fn median(times: usize, mut run: impl FnMut() -> Duration) -> Duration {
    let mut all: Vec<Duration> = (0..times).map(|_| run()).collect();
    all.sort_unstable();
    all[times / 2]
}

/// The world with a planner that knows it.
fn known(world: &World) -> (World, Planner) {
    let (mut world, mut planner) = (world.clone(), Planner::default());
    planner.full(&world, at(100));
    drop(world.take_changes());
    (world, planner)
}

/// Events whose median is taken.
const EVENTS: usize = 201;

/// A task ends, its report comes in: what follows from it. The median of such events, by the clock on the wall: they are
/// shorter than a tick.
fn task_ends(world: &World) -> Duration {
    let (mut world, mut planner) = known(world);
    let running: Vec<Id> = world
        .sectors
        .iter()
        .filter(|(_, s)| s.status.as_ref().unwrap().phase == Some(SectorPhase::Pc1))
        .filter(|(_, s)| s.status.as_ref().unwrap().task.is_some())
        .map(|(id, _)| id.clone())
        .take(EVENTS)
        .collect();
    assert_eq!(running.len(), EVENTS);
    let mut next = running.into_iter();
    median(EVENTS, || {
        let id = next.next().unwrap();
        let mut sector = world.sectors.get(&id).unwrap().clone();
        let status = sector.status.as_mut().unwrap();
        let task = status.task.clone().unwrap();
        status.sealer = Some(
            serde_json::from_value(
                json!({"taskId": task.id, "state": "Succeeded", "result": {"commD": COMM_D}}),
            )
            .unwrap(),
        );
        sector.metadata.resource_version = Some("900".into());
        let begun = Instant::now();
        world.sectors.apply(sector);
        let changes = world.take_changes();
        let actions = planner.changed(&world, at(101), &changes);
        let took = begun.elapsed();
        assert!(!actions.is_empty(), "the sector goes on");
        took
    })
}

/// A sealer pod is not ready any more, and the next time it is again: its place opens and closes.
fn pod_turns(world: &World) -> Duration {
    let (mut world, mut planner) = known(world);
    let pods: Vec<Id> = world.pods.iter().map(|(id, _)| id.clone()).collect();
    let step = pods.len() / EVENTS;
    let mut next = pods
        .into_iter()
        .step_by(step)
        .flat_map(|id| [id.clone(), id]);
    let mut version = 1000;
    median(EVENTS, || {
        version += 1;
        let mut pod = world.pods.get(&next.next().unwrap()).unwrap().clone();
        let ready = if version % 2 == 0 { "True" } else { "False" };
        pod.status = serde_json::from_value(json!({
            "phase": "Running", "conditions": [{"type": "Ready", "status": ready}],
        }))
        .unwrap();
        pod.metadata.resource_version = Some(version.to_string());
        let begun = Instant::now();
        world.pods.apply(pod);
        let changes = world.take_changes();
        assert!(!changes.pods.is_empty() && !changes.other);
        planner.changed(&world, at(101), &changes);
        begun.elapsed()
    })
}

/// Node and agent of one node write: that node is placed anew, and as after any event that is not of a sector or pod, the
/// whole is looked at.
fn node_tells(world: &World) -> Duration {
    let (mut world, mut planner) = known(world);
    let begun = processor_time();
    for number in 0..FULL_PLANS {
        let id = Id::new("", format!("node-{number:04}"));
        let mut node = world.nodes.get(&id).unwrap().clone();
        node.metadata.resource_version = Some("2".into());
        world.nodes.apply(node);
        let mut told = world.sealing_nodes.get(&id).unwrap().clone();
        told.metadata.resource_version = Some("2".into());
        world.sealing_nodes.apply(told);
        let changes = world.take_changes();
        assert!(changes.other);
        planner.whole(&world, at(101), &changes);
    }
    processor_time().saturating_sub(begun) / FULL_PLANS
}

/// The spec of the group changes: all nodes are placed anew, and the books are opened anew.
fn spec_changes(world: World) -> Duration {
    const TIMES: u32 = 5;
    let (mut world, mut planner) = (world, Planner::default());
    planner.full(&world, at(100));
    drop(world.take_changes());
    let begun = processor_time();
    for number in 0..TIMES {
        let (_, group) = world.groups.iter().next().unwrap();
        let mut group = group.clone();
        group.metadata.generation = Some(i64::from(100 + number));
        group.metadata.resource_version = Some((1000 + number).to_string());
        world.groups.apply(group);
        let changes = world.take_changes();
        planner.whole(&world, at(101), &changes);
    }
    processor_time().saturating_sub(begun) / TIMES
}

/// The world after the operator did all that it could, and sealers compute.
fn settled() -> World {
    let mut world = large();
    for round in 2..12 {
        let actions = Planner::default().full(&world, at(100));
        if actions.len() < 200 {
            break;
        }
        for action in actions {
            follow(&mut world, action, round);
        }
    }
    world
}

fn follow(world: &mut World, action: Action, round: u32) {
    match action {
        Action::CreatePod { pod } => {
            let mut pod = *pod;
            let node = filstar_core::world::pod::node(&pod).unwrap().to_owned();
            pod.metadata.uid = Some(format!("uid-{}", pod.metadata.name.as_ref().unwrap()));
            pod.metadata.resource_version = Some("1".into());
            pod.spec.as_mut().unwrap().node_name = Some(node);
            pod.status = serde_json::from_value(json!({
                "phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
            }))
            .unwrap();
            world.pods.apply(pod);
        }
        Action::CreateBudget { budget } => {
            let mut budget = *budget;
            budget.metadata.uid = Some(format!("uid-{}", budget.metadata.name.as_ref().unwrap()));
            budget.metadata.resource_version = Some("1".into());
            world.budgets.apply(budget);
        }
        Action::PatchSector { id, status, .. } => {
            let mut sector = world.sectors.get(&id).unwrap().clone();
            sector.status = Some(*status);
            sector.metadata.resource_version = Some(round.to_string());
            world.sectors.apply(sector);
        }
        _ => {}
    }
}

/// Nodes of 16 core groups on two NUMA nodes and 8 GPUs; sectors in all phases, all at once.
fn large() -> World {
    let mut world = support::world();
    world.pods = filstar_core::world::Index::default();
    world.nodes = filstar_core::world::Index::default();
    let mut group = support::group();
    group.metadata.resource_version = Some("2".into());
    group.spec.pledge.mode = PledgeMode::Manual;
    group.spec.lanes = serde_json::from_value(json!([
        {"name": "pc1", "phases": ["AddPiece", "PC1"], "cpus": 64, "memory": "400Gi", "coreGroups": {}, "pods": "Auto", "concurrency": "Auto"},
        {"name": "pc2", "phases": ["PC2", "C1", "Finalize"], "cpus": 16, "memory": "64Gi", "coreGroups": {}, "gpus": 1, "pods": 4},
        {"name": "c2", "phases": ["C2"], "cpus": 16, "memory": "4Gi", "coreGroups": {}, "gpus": 1, "pods": 2},
    ]))
    .unwrap();
    world.groups.apply(group);
    let shape = layouts::Shape {
        packages: 2,
        numa: 1,
        groups: 8,
        cores: 8,
        threads: 2,
        memory_gib: 2048,
    };
    let server = shape.server(&[0, 0, 0, 0, 1, 1, 1, 1]);
    for number in 0..NODES {
        let name = format!("node-{number:04}");
        let mut node = support::node(&name);
        node.status.as_mut().unwrap().allocatable = serde_json::from_value(
            json!({"cpu": "256", "memory": "2030Gi", "nvidia.com/gpu": "8"}),
        )
        .unwrap();
        world.nodes.apply(node);
        world.sealing_nodes.apply(inventory(&name, &server));
    }
    for number in 0..SECTORS {
        world.sectors.apply(one_sector(number));
    }
    let chain = chain_mut(&mut world);
    chain.precommits = (0..SECTORS)
        .map(|n| (n, Some(pre_commit(995, COMM_R))))
        .collect();
    chain.sectors = (0..SECTORS).map(|n| (n, None)).collect();
    world
}

fn inventory(name: &str, server: &filstar_placement::Server) -> SealingNode {
    let numa: Vec<Value> = server
        .numa
        .iter()
        .map(|n| json!({"id": n.id, "cpus": "", "memory": n.memory, "hugepages": []}))
        .collect();
    let groups: Vec<Value> = server
        .groups
        .iter()
        .map(|g| json!({"id": g.id, "package": g.numa, "numaNode": g.numa, "cores": g.cores, "l3": 33_554_432}))
        .collect();
    let gpus: Vec<Value> = server
        .gpus
        .iter()
        .map(|g| json!({"uuid": g.id, "model": "m", "memory": g.memory, "pci": "", "numaNode": g.numa}))
        .collect();
    let inventory = json!({
        "bootId": "b", "kernel": "k", "packages": 2, "numaNodes": numa, "coreGroups": groups, "gpus": gpus,
    });
    let mut node = SealingNode::default();
    node.metadata.name = Some(name.into());
    node.metadata.uid = Some(name.into());
    node.metadata.resource_version = Some("1".into());
    node.status = Some(serde_json::from_value(json!({"inventory": inventory})).unwrap());
    node
}

fn one_sector(number: u64) -> Sector {
    let phase = match number % 10 {
        0..4 => SectorPhase::Pc1,
        4 => SectorPhase::Pc2,
        5 => SectorPhase::C2,
        6 => SectorPhase::WaitSeed,
        7 => SectorPhase::Allocated,
        8 => SectorPhase::Finalizing,
        _ => SectorPhase::Proving,
    };
    let mut sector = support::sector(phase);
    let name = format!("t01000-{number}");
    sector.metadata.uid = Some(format!("uid-{name}"));
    sector.metadata.name = Some(name);
    sector.spec.number = i64::try_from(number).unwrap();
    let status = sector.status.as_mut().unwrap();
    if phase == SectorPhase::Allocated {
        status.binding = None;
    } else {
        let node = usize::try_from(number).unwrap() % NODES;
        status.binding.as_mut().unwrap().node = format!("node-{node:04}");
    }
    if phase > SectorPhase::WaitSeed {
        status.seed = Some(Randomness {
            epoch: 1005,
            value: "AA==".into(),
        });
    }
    sector
}
