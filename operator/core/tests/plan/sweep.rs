//! Files of sectors that ended: looked for, shown, and removed when a person says so, and never otherwise.

use crate::support::*;
use filstar_chain::types::bitfield;
use filstar_core::action::{Action, StatusPatch};
use filstar_core::plan::sweep::{bits, word};
use filstar_core::status::status;
use filstar_core::world::World;
use filstar_crds::{
    EndedSectors, SectorPhase, SectorStore, SectorStoreStatus, StoreAccess, Sweep, SweepKind,
    TaskState, annotations,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

pub(crate) const HOUR: i64 = 3600;

/// Sectors 0 to 9 have numbers, and these are alive.
fn with_living(living: &[u64]) -> World {
    let mut world = world();
    chain_mut(&mut world).allocated = bitfield::of(0..10).unwrap();
    lives(&mut world, living);
    world
}

pub(crate) fn lives(world: &mut World, living: &[u64]) {
    chain_mut(world).living = bitfield::of(living.iter().copied()).unwrap();
}

fn the_store(world: &World) -> SectorStore {
    world.stores.get(&id("store-a")).unwrap().clone()
}

pub(crate) fn of(world: &World) -> SectorStoreStatus {
    the_store(world).status.unwrap_or_default()
}

pub(crate) fn change(world: &mut World, change: impl FnOnce(&mut SectorStore)) {
    let mut store = the_store(world);
    change(&mut store);
    newer(&mut store.metadata.resource_version);
    world.stores.apply(store);
}

/// What is to be done about the store.
pub(crate) fn action(world: &World, second: i64) -> Option<Action> {
    let is = |a: &Action| match a {
        Action::RemoveGarbage { .. } => true,
        Action::PatchStatus { status, .. } => matches!(**status, StatusPatch::Store { .. }),
        _ => false,
    };
    let mut all = status(world, at(second)).into_iter().filter(is);
    let found = all.next();
    assert!(all.next().is_none(), "two writes of one store");
    found
}

/// Writes what is to be written, until nothing is; removals too.
fn settle(world: &mut World, second: i64) -> SectorStoreStatus {
    for _ in 0..9 {
        let next = match action(world, second) {
            None => return of(world),
            Some(Action::RemoveGarbage { status, checks, .. }) => {
                assert!(!checks.is_empty(), "nobody would ask the chain");
                status
            }
            Some(Action::PatchStatus { status, .. }) => match *status {
                StatusPatch::Store { status, .. } => status,
                _ => panic!("{status:?}"),
            },
            Some(other) => panic!("{other:?}"),
        };
        change(world, |store| store.status = Some(*next));
    }
    panic!("it never settles: {:#?}", of(world));
}

fn ended(numbers: &str) -> Vec<EndedSectors> {
    vec![EndedSectors {
        actor: "t01000".into(),
        numbers: numbers.into(),
    }]
}

/// The pod says how the sweep ended.
pub(crate) fn reports(world: &mut World, state: TaskState, numbers: &str, second: i64) {
    let sectors = if numbers.is_empty() {
        Vec::new()
    } else {
        ended(numbers)
    };
    let count = sectors
        .iter()
        .filter_map(bits)
        .map(|b| b.len())
        .sum::<u64>();
    let count = i64::try_from(count).unwrap();
    change(world, |store| {
        let status = store.status.as_mut().unwrap();
        let mut report = serde_json::json!({
            "id": status.sweep.as_ref().unwrap().id, "state": state, "count": count,
            "bytes": count << 30, "sectors": sectors,
        });
        if state == TaskState::Failed {
            report["error"] = "sealed is a link".into();
        }
        let mut report: filstar_crds::SweepReport = serde_json::from_value(report).unwrap();
        report.finished = (state != TaskState::Running).then(|| Time(at(second).wall));
        status.sweeper = Some(report);
    });
}

pub(crate) fn says(world: &mut World, value: Option<&str>) {
    change(world, |store| {
        let all = store.metadata.annotations.get_or_insert_default();
        all.remove(annotations::REMOVE_GARBAGE);
        all.extend(value.map(|v| (annotations::REMOVE_GARBAGE.to_owned(), v.to_owned())));
    });
}

fn sweep(status: &SectorStoreStatus) -> &Sweep {
    status.sweep.as_ref().unwrap()
}

fn condition(status: &SectorStoreStatus) -> &Condition {
    let mut all = status.conditions.iter();
    all.find(|c| c.type_ == "GarbageFound").unwrap()
}

/// A store in which sectors 3, 4 and 9 were found, which have ended.
fn found() -> World {
    let mut world = with_living(&[0, 1, 2, 5, 6, 7, 8]);
    settle(&mut world, 0);
    reports(&mut world, TaskState::Succeeded, "3-4,9", 0);
    settle(&mut world, 0);
    world
}

#[test]
fn nothing_is_asked_and_nothing_said_while_no_sector_has_ended() {
    let mut world = with_living(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    let status = settle(&mut world, 0);
    assert_eq!((status.sweep, status.garbage), (None, None));
    assert!(status.conditions.iter().all(|c| c.type_ != "GarbageFound"));
}

#[test]
fn store_is_looked_through_for_what_ended_but_not_for_what_is_somebodys() {
    let mut world = with_living(&[1, 2, 4, 5, 6, 7]);
    // 0 has a Sector object, of 8 a pre-commit waits for its proof.
    world.sectors.apply(sector(SectorPhase::Failed));
    let open = pre_commit(900, COMM_R);
    chain_mut(&mut world).precommits.insert(8, Some(open));
    let status = settle(&mut world, 0);
    let asked = sweep(&status);
    assert_eq!((asked.kind, asked.id.as_str()), (SweepKind::List, "list-1"));
    assert_eq!(asked.sectors, ended("3,9"));
    let pod = sealer_pod("node-a").metadata;
    assert_eq!(Some(&asked.pod_uid), pod.uid.as_ref());
}

#[test]
fn what_is_found_waits_for_a_word_and_the_message_has_the_command() {
    let mut world = found();
    let status = of(&world);
    assert_eq!(status.garbage.as_deref(), Some("3 sectors, 3.0GiB"));
    let said = condition(&status);
    assert_eq!(
        (said.status.as_str(), said.reason.as_str()),
        ("True", "WaitsForApproval")
    );
    let word = word(&ended("3-4,9"));
    let command = format!(
        "kubectl -n ns annotate --overwrite sectorstore store-a filstar.io/remove-garbage={word}"
    );
    assert!(said.message.contains(&command), "{}", said.message);
    assert!(said.message.contains("t01000: 3-4,9"), "{}", said.message);
    assert_eq!(action(&world, 5 * HOUR), None);
    // Another word says nothing.
    for other in ["yes", "true", "list-1", "3-4,9"] {
        says(&mut world, Some(other));
        assert_eq!(action(&world, 0), None, "{other}");
    }
}

#[test]
fn with_the_word_exactly_these_are_removed_after_the_chain_was_asked() {
    let mut world = found();
    says(&mut world, Some(&word(&ended("3-4,9"))));
    // First it is said, then done.
    assert!(matches!(
        action(&world, 0),
        Some(Action::PatchStatus { .. })
    ));
    let status = settle(&mut world, 0);
    let asked = sweep(&status);
    assert_eq!(
        (asked.kind, asked.id.as_str()),
        (SweepKind::Remove, "remove-2")
    );
    assert_eq!(asked.sectors, ended("3-4,9"));
    reports(&mut world, TaskState::Succeeded, "3-4,9", 0);
    let status = settle(&mut world, 0);
    let removed = status.removed.as_ref().unwrap();
    assert_eq!((removed.sectors, removed.bytes), (3, 3 << 30));
    assert_eq!(sweep(&status).id, "list-3");
    reports(&mut world, TaskState::Succeeded, "", 0);
    let status = settle(&mut world, 0);
    assert_eq!(condition(&status).reason, "NoGarbage");
    assert_eq!(status.garbage, None);
    assert_eq!(status.removed.unwrap().sectors, 3, "it is counted once");
    assert_eq!(action(&world, 9 * HOUR), None, "nothing more has ended");
}

#[test]
fn word_that_is_taken_back_ends_the_removal() {
    let mut world = found();
    says(&mut world, Some(&word(&ended("3-4,9"))));
    settle(&mut world, 0);
    reports(&mut world, TaskState::Running, "", 0);
    settle(&mut world, 0);
    says(&mut world, None);
    let status = settle(&mut world, 0);
    assert_eq!(sweep(&status).kind, SweepKind::List);
    let id = sweep(&status).id.clone();
    assert_ne!(id, "remove-2");
}

#[test]
fn what_comes_to_life_again_is_neither_offered_nor_removed() {
    let mut world = found();
    lives(&mut world, &[0, 1, 2, 4, 5, 6, 7, 8]);
    says(&mut world, Some(&word(&ended("3-4,9"))));
    let status = settle(&mut world, 0);
    assert_eq!(
        (sweep(&status).kind, status.garbage.clone()),
        (SweepKind::List, None)
    );
    assert_eq!(sweep(&status).sectors, ended("3,9"));
}

#[test]
fn nothing_is_removed_while_the_chain_cannot_be_asked_or_another_miner_of_the_actor_says_else() {
    let mut world = found();
    says(&mut world, Some(&word(&ended("3-4,9"))));
    let mut silent = world.clone();
    silent.chains.get_mut(&id("m")).unwrap().facts = None;
    let status = settle(&mut silent, 0);
    assert_eq!(sweep(&status).kind, SweepKind::List);
    // The same number on another network, whose files have the same names.
    let mut other = miner();
    other.metadata.namespace = Some("elsewhere".into());
    world.miners.apply(other);
    let status = settle(&mut world, 0);
    assert_eq!(sweep(&status).id, "list-1", "its chain was not asked yet");
    let there = filstar_core::world::Id::new("elsewhere", "m");
    let view = world.chains[&id("m")].clone();
    world.chains.insert(there.clone(), view);
    let facts = world.chains.get_mut(&there).unwrap().facts.as_mut();
    facts.unwrap().living = bitfield::of([4]).unwrap();
    let status = settle(&mut world, 0);
    assert_eq!(sweep(&status).sectors, ended("3,9"));
}

#[test]
fn another_pod_is_asked_when_the_first_is_gone() {
    let mut world = found();
    says(&mut world, Some(&word(&ended("3-4,9"))));
    settle(&mut world, 0);
    let mut again = sealer_pod("node-a");
    again.metadata.uid = Some("younger".into());
    again.metadata.resource_version = Some("9".into());
    world.pods.apply(again);
    let status = settle(&mut world, 0);
    let asked = sweep(&status);
    assert_eq!(
        (asked.kind, asked.pod_uid.as_str()),
        (SweepKind::Remove, "younger")
    );
    assert_eq!(asked.sectors, ended("3-4,9"));
}

#[test]
fn store_is_looked_through_again_hours_after_more_has_ended() {
    let mut world = found();
    lives(&mut world, &[0, 1, 2, 5, 6, 7]);
    assert_eq!(action(&world, 5 * HOUR), None);
    let status = settle(&mut world, 6 * HOUR);
    assert_eq!(sweep(&status).sectors, ended("3-4,8-9"));
}

#[test]
fn failed_removal_is_named_and_looked_at_again_after_a_while() {
    let mut world = found();
    says(&mut world, Some(&word(&ended("3-4,9"))));
    settle(&mut world, 0);
    reports(&mut world, TaskState::Failed, "3", 0);
    let status = settle(&mut world, 60);
    let said = condition(&status);
    assert_eq!(said.reason, "RemovalFailed");
    assert!(
        said.message.contains("sealed is a link"),
        "{}",
        said.message
    );
    assert_eq!(sweep(&status).id, "remove-2");
    let status = settle(&mut world, 600);
    assert_eq!(sweep(&status).id, "list-3");
    assert_eq!(status.removed.unwrap().sectors, 1);
}

#[test]
fn store_that_is_only_read_is_left_alone() {
    let mut world = with_living(&[1]);
    change(&mut world, |s| s.spec.access = StoreAccess::ReadOnly);
    assert_eq!(settle(&mut world, 0).sweep, None);
}
