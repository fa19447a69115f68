//! Whatever the world, whoever creates sectors and in whatever order things happen: no plan ever goes past a gate.
//!
//! The bounds are computed here from the world as it began, without the ledger.

use std::collections::BTreeMap;

use crate::support::*;
use filstar_chain::types::{AttoFil, BitField};
use filstar_core::action::Action;
use filstar_core::plan::plan;
use filstar_core::world::World;
use filstar_crds::{Binding, Count, Sector, SectorPhase, SectorStatus, finalizers, labels};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;

/// KiB that a sector of 2 KiB books, rounded down.
const SCRATCH: u64 = 6 * 2048 + 2341 + 16 + (256 << 10);
const STORE: u64 = 2048 + 16 + (256 << 10);

#[derive(Clone, Debug)]
struct Case {
    scratch: [u64; 2],
    store: u64,
    millifil: u64,
    max_in_flight: u32,
    concurrency: u32,
    groups: usize,
    manual: i64,
    used: Vec<u64>,
    last: i64,
    excluded: bool,
    cordoned: bool,
    steps: Vec<u8>,
}

fn case() -> impl Strategy<Value = Case> {
    let disks = ([0..10_u64 << 20, 0..10_u64 << 20], 0..10_u64 << 20);
    let money = (0..20_000_u64, 0..8_u32, 1..12_u32);
    let sectors = (
        1..4_usize,
        0..12_i64,
        proptest::collection::vec(0..12_u64, 0..4),
        0..30_i64,
    );
    let rest = (
        any::<bool>(),
        any::<bool>(),
        proptest::collection::vec(0..3_u8, 1..12),
    );
    (disks, money, sectors, rest).prop_map(
        |(
            (scratch, store),
            (millifil, max_in_flight, concurrency),
            (groups, manual, used, last),
            rest,
        )| Case {
            scratch,
            store,
            millifil,
            max_in_flight,
            concurrency,
            groups,
            manual,
            used,
            last,
            excluded: rest.0,
            cordoned: rest.1,
            steps: rest.2,
        },
    )
}

const NODES: [&str; 2] = ["node-a", "node-b"];
const GROUPS: [&str; 3] = ["g", "h", "i"];

fn build(case: &Case) -> World {
    let mut world = world();
    let mut miner = miner();
    miner.metadata.resource_version = Some("2".into());
    miner.spec.sector_numbers.max = Some(case.last);
    miner.spec.sector_numbers.reserved = vec!["3-4".into()];
    world.miners.apply(miner);
    world.pods = filstar_core::world::Index::default();
    let mut b = node("node-b");
    if case.cordoned {
        b.spec = Some(serde_json::from_value(serde_json::json!({"unschedulable": true})).unwrap());
    }
    world.nodes.apply(b);
    for name in &GROUPS[..case.groups] {
        let mut group = group();
        group.metadata.name = Some((*name).into());
        group.metadata.uid = Some((*name).into());
        group.metadata.resource_version = Some("2".into());
        group.spec.pledge.max_in_flight = case.max_in_flight;
        group.spec.lanes[0].concurrency = Count::Number(case.concurrency);
        group.spec.pledge.gates.balance.per_sealer_pod = "1 FIL".into();
        if case.excluded {
            group.spec.pledge.exclude_nodes = vec!["node-a".into()];
        }
        world.groups.apply(group);
        for (node, scratch) in NODES.into_iter().zip(case.scratch) {
            let mut pod = with_disks(sealer_pod(node), scratch, case.store);
            pod.metadata.name = Some(format!("{name}-{node}"));
            pod.metadata.uid = Some(format!("{name}-{node}"));
            let own = pod.metadata.labels.as_mut().unwrap();
            own.insert(labels::GROUP.into(), (*name).into());
            world.pods.apply(pod);
        }
    }
    let facts = chain_mut(&mut world);
    facts.allocated = BitField::try_from_bits(case.used.iter().copied()).unwrap();
    let balance = AttoFil::from_nano(case.millifil * 1_000_000);
    facts.senders.get_mut(SENDER).unwrap().balance = balance;
    for number in 0..case.manual {
        let mut made = blank(number);
        made.spec.group_ref.name = GROUPS[usize::try_from(number).unwrap() % case.groups].into();
        world.sectors.apply(made);
    }
    world
}

/// A Sector as whoever creates it does.
fn blank(number: i64) -> Sector {
    let mut sector = sector(SectorPhase::Allocated);
    let name = format!("t01000-{number}");
    sector.metadata.uid = Some(format!("uid-{name}"));
    sector.metadata.name = Some(name);
    sector.metadata.creation_timestamp = Some(Time(at(number).wall));
    sector.metadata.finalizers = None;
    sector.metadata.labels = None;
    sector.spec.number = number;
    sector.status = None;
    sector
}

/// Does what a plan asks for; with `half` only every other action, as when writes fail.
fn follow(world: &mut World, actions: Vec<Action>, half: bool, version: &mut u64) {
    for (index, action) in actions.into_iter().enumerate() {
        if half && index % 2 == 0 {
            continue;
        }
        *version += 1;
        let version = Some(version.to_string());
        match action {
            Action::CreateSector { id, spec } => {
                assert!(world.sectors.get(&id).is_none(), "{id} is pledged twice");
                let mut made = blank(spec.number);
                made.spec = spec;
                made.metadata.resource_version = version;
                world.sectors.apply(made);
            }
            Action::AdoptSector { id, group, miner } => {
                let mut sector = world.sectors.get(&id).unwrap().clone();
                sector.metadata.finalizers = Some(vec![finalizers::SECTOR_FILES.into()]);
                sector.metadata.labels = Some(BTreeMap::from([
                    (labels::GROUP.into(), group),
                    (labels::MINER.into(), miner),
                ]));
                sector.metadata.resource_version = version;
                world.sectors.apply(sector);
            }
            Action::PatchSector { id, status, .. } => {
                let mut sector = world.sectors.get(&id).unwrap().clone();
                sector.status = Some(SectorStatus {
                    sealer: None,
                    ..*status
                });
                sector.metadata.resource_version = version;
                world.sectors.apply(sector);
            }
            _ => {}
        }
    }
}

fn bindings(world: &World) -> Vec<(&Sector, &Binding)> {
    let all = world.sectors.iter();
    all.filter_map(|(_, s)| Some((s, s.status.as_ref()?.binding.as_ref()?)))
        .collect()
}

fn check(case: &Case, world: &World, pledged: usize) {
    let all = bindings(world);
    for (node, free) in NODES.into_iter().zip(case.scratch) {
        let here = all.iter().filter(|(_, b)| b.node == node).count() as u64;
        let room = free.saturating_sub((10 << 20) - (10 << 20) * 90 / 100);
        assert!(
            here * SCRATCH <= room,
            "{here} sectors on {node}, room for {room} bytes"
        );
    }
    let begun = all.len() as u64;
    let store = case
        .store
        .saturating_sub((10 << 20) - (10 << 20) * 95 / 100);
    assert!(
        begun * STORE <= store,
        "{begun} sectors begun, store for {store} bytes"
    );
    // 1 FIL for each pod, 0.205 FIL for each sector.
    let pods = 1000 * 2 * case.groups as u64;
    assert!(
        begun == 0 || pods + 205 * begun <= case.millifil,
        "{begun} sectors begun with {} millifil",
        case.millifil
    );
    for (sector, binding) in &all {
        let number = sector.spec.number;
        assert!(
            !case.used.contains(&number.unsigned_abs()),
            "{number} was used"
        );
        assert!(!(3..=4).contains(&number), "{number} is reserved");
        assert!(!(case.excluded && binding.node == "node-a"));
        assert!(!(case.cordoned && binding.node == "node-b"));
    }
    // What a person made may wait; what was pledged had its gates open.
    let most = store / STORE;
    assert!(
        pledged as u64 <= most,
        "{pledged} pledged, store for {most}"
    );
    assert!(pledged == 0 || pods + 205 * pledged as u64 <= case.millifil);
    for name in &GROUPS[..case.groups] {
        let own = world
            .sectors
            .iter()
            .filter(|(_, s)| s.spec.group_ref.name == *name);
        let manual = (0..case.manual)
            .filter(|n| GROUPS[usize::try_from(*n).unwrap() % case.groups] == *name)
            .count();
        let most = manual.max(usize::try_from(case.max_in_flight).unwrap());
        assert!(own.count() <= most, "{name} has more than maxInFlight");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn prop_no_sequence_of_plans_goes_past_a_gate(case in case()) {
        let (mut world, mut version, mut pledged) = (build(&case), 10, 0);
        for step in &case.steps {
            let actions = plan(&world, at(1000));
            let before = world.sectors.len();
            follow(&mut world, actions, *step == 0, &mut version);
            pledged += world.sectors.len() - before;
            check(&case, &world, pledged);
        }
    }
}
