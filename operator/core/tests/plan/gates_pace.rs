//! The time between two sectors, and what the status shows.

use crate::gates::{balance, change_group, pledged, verdict_at};
use crate::support::*;
use filstar_core::action::{Action, StatusPatch};
use filstar_core::plan::pledge::Gate;
use filstar_core::status::status;
use filstar_core::world::World;
use filstar_crds::{GateStatus, LastPledge, Sector, SectorPhase};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

fn paced(delay: &str, jitter: &str, recheck: &str) -> World {
    let mut world = world();
    let [delay, jitter, recheck] = [delay, jitter, recheck].map(str::to_owned);
    change_group(&mut world, |g| {
        (g.spec.pledge.delay, g.spec.pledge.jitter) = (delay, jitter);
        g.spec.pledge.recheck = recheck;
    });
    world
}

fn created(mut sector: Sector, second: i64) -> Sector {
    sector.metadata.creation_timestamp = Some(Time(at(second).wall));
    sector
}

#[test]
fn pace_waits_for_the_delay_after_the_youngest_sector_even_when_that_is_gone() {
    let mut world = paced("6m", "0s", "0s");
    assert_eq!(pledged(&world, 0), ["t01000-0"]);
    world.sectors.apply(created(sector(SectorPhase::Pc1), 0));
    assert!(pledged(&world, 359).is_empty());
    assert_eq!(pledged(&world, 360), ["t01000-1"]);
    let gate = verdict_at(&world, Gate::Pace, 1);
    assert_eq!(
        gate.reason,
        "the next sector is pledged after 2027-01-15T08:06:00Z: 360s after the last"
    );
    assert_eq!(gate.next_check, Some(at(360).wall));
    change_group(&mut world, |g| {
        g.status.get_or_insert_default().last_pledge = Some(LastPledge {
            time: Time(at(100).wall),
            number: 7,
        });
    });
    assert!(pledged(&world, 459).is_empty());
    assert_eq!(pledged(&world, 460), ["t01000-1"]);
}

#[test]
fn pace_adds_a_part_of_the_jitter_that_does_not_change() {
    let mut world = paced("6m", "2m", "0s");
    world.sectors.apply(created(sector(SectorPhase::Pc1), 0));
    let due = verdict_at(&world, Gate::Pace, 1).next_check.unwrap();
    assert!(due > at(360).wall && due <= at(480).wall, "{due}");
    assert_eq!(verdict_at(&world, Gate::Pace, 300).next_check, Some(due));
}

#[test]
fn pace_looks_a_second_time_and_begins_anew_when_a_gate_closed_in_between() {
    let mut world = paced("0s", "0s", "1m");
    assert!(
        pledged(&world, 0).is_empty(),
        "no status says that the gates are open"
    );
    shown(&mut world, 0);
    assert!(pledged(&world, 59).is_empty());
    assert_eq!(pledged(&world, 60), ["t01000-0"]);
    balance(&mut world, "1 FIL");
    shown(&mut world, 70);
    balance(&mut world, "100 FIL");
    shown(&mut world, 80);
    assert!(pledged(&world, 139).is_empty());
    assert_eq!(pledged(&world, 140), ["t01000-0"]);
}

/// Writes the group's status, as the operator does after each plan.
fn shown(world: &mut World, second: i64) -> Option<Vec<GateStatus>> {
    let patch = status(world, at(second))
        .into_iter()
        .find_map(|a| match a {
            Action::PatchStatus { status, .. } => match *status {
                StatusPatch::Group(status) => Some(status),
                _ => None,
            },
            _ => None,
        })?;
    let gates = patch.gates.clone();
    change_group(world, |g| g.status = Some(patch));
    Some(gates)
}

#[test]
fn the_status_shows_since_when_each_gate_is_as_it_is_and_rests_when_nothing_changes() {
    let mut world = world();
    let gates = shown(&mut world, 0).unwrap();
    assert_eq!(gates.len(), 10);
    assert!(
        gates
            .iter()
            .all(|g| g.open && g.since == Some(Time(at(0).wall))),
        "{gates:#?}"
    );
    assert_eq!(shown(&mut world, 10), None, "nothing changed");
    balance(&mut world, "99.95 FIL");
    shown(&mut world, 15).unwrap();
    balance(&mut world, "99.94 FIL");
    assert_eq!(shown(&mut world, 20), None, "fees at rest do not show");
    balance(&mut world, "1 FIL");
    let gates = shown(&mut world, 30).unwrap();
    let balance = gates.iter().find(|g| g.name == "Balance").unwrap();
    assert_eq!(
        (balance.open, &balance.since),
        (false, &Some(Time(at(30).wall)))
    );
    let conditions = world
        .groups
        .get(&id("g"))
        .unwrap()
        .status
        .clone()
        .unwrap()
        .conditions;
    let open = conditions.iter().find(|c| c.type_ == "PledgeOpen").unwrap();
    assert_eq!(open.reason, "Balance");
    assert!(
        open.message.starts_with("Balance closed: 1 FIL available"),
        "{}",
        open.message
    );
}
