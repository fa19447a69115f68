//! Each gate at its edges, with its words.

use crate::support::*;
use filstar_chain::types::{AttoFil, BitField};
use filstar_crds::{
    GateStatus, LastPledge, Miner, SealingGroup, Sector, SectorPhase, SectorStatus, StoreRef,
};
use filstar_operator::action::{Action, StatusPatch};
use filstar_operator::plan::plan;
use filstar_operator::plan::pledge::{Gate, Ledger, Verdict, gates};
use filstar_operator::status::status;
use filstar_operator::world::{ChainProblem, World};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

/// What a gate of group g says of one sector more.
pub(crate) fn verdict(world: &World, gate: Gate) -> Verdict {
    verdict_at(world, gate, 0)
}

fn verdict_at(world: &World, gate: Gate, second: i64) -> Verdict {
    let group = world.groups.get(&id("g")).unwrap();
    let all = gates(world, at(second), &Ledger::of(world), &id("g"), group);
    all.into_iter().find(|v| v.gate == gate).unwrap()
}

#[track_caller]
fn says(world: &World, gate: Gate, open: bool, words: &str) {
    let found = verdict(world, gate);
    assert_eq!((found.open, found.reason.as_str()), (open, words));
}

fn change_group(world: &mut World, change: impl FnOnce(&mut SealingGroup)) {
    let mut group = world.groups.get(&id("g")).unwrap().clone();
    change(&mut group);
    newer(&mut group.metadata.resource_version);
    world.groups.apply(group);
}

fn change_miner(world: &mut World, change: impl FnOnce(&mut Miner)) {
    let mut miner = world.miners.get(&id("m")).unwrap().clone();
    change(&mut miner);
    newer(&mut miner.metadata.resource_version);
    world.miners.apply(miner);
}

fn newer(version: &mut Option<String>) {
    let number: u64 = version.as_ref().unwrap().parse().unwrap();
    *version = Some((number + 1).to_string());
}

fn disks(world: &mut World, scratch: u64, store: u64) {
    let mut pod = with_disks(sealer_pod("node-a"), scratch, store);
    let known = world
        .pods
        .get(&id(pod.metadata.name.as_ref().unwrap()))
        .unwrap();
    pod.metadata.resource_version = known.metadata.resource_version.clone();
    newer(&mut pod.metadata.resource_version);
    world.pods.apply(pod);
}

fn numbered(phase: SectorPhase, number: i64) -> Sector {
    let mut sector = sector(phase);
    let name = format!("t01000-{number}");
    sector.metadata.uid = Some(format!("uid-{name}"));
    sector.metadata.name = Some(name);
    sector.spec.number = number;
    sector
}

/// A Sector that a person made and nobody has looked at.
fn fresh(number: i64) -> Sector {
    let mut sector = numbered(SectorPhase::Allocated, number);
    sector.status = Some(SectorStatus::default());
    sector
}

fn bound(world: &World) -> Vec<String> {
    let actions = plan(world, at(0));
    let bound = actions.into_iter().filter_map(|a| match a {
        Action::PatchSector { id, status, .. } => status.binding.map(|_| id.name),
        _ => None,
    });
    bound.collect()
}

fn pledged(world: &World, second: i64) -> Vec<String> {
    let made = plan(world, at(second)).into_iter().filter_map(|a| match a {
        Action::CreateSector { id, .. } => Some(id.name),
        _ => None,
    });
    made.collect()
}

/// 271 KiB of a sector of 2 KiB are booked in scratch, 259 KiB in a store.
const SCRATCH: u64 = 6 * 2048 + 2341 + 16 + (256 << 10);
const STORE: u64 = 2048 + 16 + (256 << 10);

#[test]
fn scratch_space_has_room_up_to_its_bound_and_not_a_byte_further() {
    let mut world = world();
    let bound = (10 << 20) / 10;
    disks(&mut world, bound + SCRATCH, 9 << 20);
    says(
        &world,
        Gate::ScratchSpace,
        true,
        "room for 1 more sector of 270 KiB on 1 node",
    );
    disks(&mut world, bound + SCRATCH - 1, 9 << 20);
    says(
        &world,
        Gate::ScratchSpace,
        false,
        "no room for another sector of 270 KiB: node-a has 270 KiB left below 90 %; \
         free space there, or raise pledge.gates.scratchSpace.maxUsedPercent",
    );
    assert!(pledged(&world, 0).is_empty());
    change_group(&mut world, |g| {
        g.spec.pledge.gates.scratch_space.max_used_percent = 91;
    });
    assert!(verdict(&world, Gate::ScratchSpace).open);
}

#[test]
fn scratch_space_counts_what_sectors_have_yet_to_write() {
    let mut world = world();
    disks(&mut world, (1 << 20) + 2 * SCRATCH, 9 << 20);
    world.sectors.apply(numbered(SectorPhase::Pc1, 0));
    assert!(verdict(&world, Gate::ScratchSpace).open);
    world.sectors.apply(numbered(SectorPhase::Pc1, 1));
    says(
        &world,
        Gate::ScratchSpace,
        false,
        "no room for another sector of 270 KiB: node-a has 540 KiB left below 90 % and 540 KiB booked by 2 sectors; \
         free space there, or raise pledge.gates.scratchSpace.maxUsedPercent",
    );
}

#[test]
fn scratch_space_waits_until_a_sealer_has_measured_it() {
    let mut world = world();
    let mut pod = sealer_pod("node-a");
    pod.metadata.annotations = None;
    pod.metadata.resource_version = Some("2".into());
    world.pods.apply(pod);
    let found = verdict(&world, Gate::ScratchSpace);
    assert!(
        !found.open && found.reason.contains("has said yet"),
        "{found:?}"
    );
}

#[test]
fn store_space_counts_every_sector_that_has_not_landed() {
    let mut world = world();
    // 5 % of 10 MiB stay free.
    let bound = (10 << 20) - (10 << 20) * 95 / 100;
    disks(&mut world, 9 << 20, bound + 2 * STORE);
    world.sectors.apply(numbered(SectorPhase::WaitSeed, 0));
    says(
        &world,
        Gate::StoreSpace,
        true,
        "room for 1 more sector of 258 KiB in 1 store",
    );
    world.sectors.apply(numbered(SectorPhase::Landing, 1));
    says(
        &world,
        Gate::StoreSpace,
        false,
        "no room for another sector of 258 KiB: store-a has 516 KiB left below 95 % and 516 KiB booked by 2 sectors; \
         add a SectorStore, or raise maxUsedPercent",
    );
    let mut landed = numbered(SectorPhase::Proving, 1);
    landed.metadata.resource_version = Some("2".into());
    landed.status.as_mut().unwrap().store = Some(StoreRef {
        name: "store-a".into(),
        landed: true,
    });
    world.sectors.apply(landed);
    assert!(verdict(&world, Gate::StoreSpace).open);
}

#[test]
fn store_space_keeps_to_the_stores_own_bound_and_needs_a_store() {
    let mut world = world();
    let mut full = store("store-a");
    full.metadata.resource_version = Some("2".into());
    full.spec.max_used_percent = 10;
    world.stores.apply(full.clone());
    says(
        &world,
        Gate::StoreSpace,
        false,
        "no room for another sector of 258 KiB: store-a has 0 B left below 10 %; add a SectorStore, or raise maxUsedPercent",
    );
    world.stores.delete(&full);
    says(
        &world,
        Gate::StoreSpace,
        false,
        "no SectorStore that takes sectors matches finalize.storeSelector: create one",
    );
    change_group(&mut world, |g| g.spec.finalize.enabled = false);
    assert!(verdict(&world, Gate::StoreSpace).open);
}

fn balance(world: &mut World, amount: &str) {
    let facts = chain_mut(world);
    facts.senders.get_mut(SENDER).unwrap().balance = amount.parse().unwrap();
}

#[test]
fn balance_needs_deposit_pledge_and_fees_of_all_and_keeps_some_for_each_pod() {
    let mut world = world();
    world.sectors.apply(numbered(SectorPhase::Pc1, 0));
    // 5 FIL for the pod; for each of two sectors 0.13 FIL of pledge, 0.025 and 0.05 FIL of fees.
    balance(&mut world, "5.41 FIL");
    says(
        &world,
        Gate::Balance,
        true,
        &format!(
            "5.41 FIL available to {SENDER}, 5.41 FIL needed for 1 pod, 1 sector in flight and one more"
        ),
    );
    balance(&mut world, "5.409 FIL");
    says(
        &world,
        Gate::Balance,
        false,
        &format!(
            "5.4 FIL available to {SENDER}, 5.41 FIL needed for 1 pod, 1 sector in flight and one more; \
             send it 0.001 FIL"
        ),
    );
    change_group(&mut world, |g| {
        g.spec.pledge.gates.balance.per_sealer_pod = "0 FIL".into();
    });
    balance(&mut world, "0.41 FIL");
    says(
        &world,
        Gate::Balance,
        true,
        &format!(
            "0.41 FIL available to {SENDER}, 0.41 FIL needed for 1 sector in flight and one more"
        ),
    );
}

#[test]
fn balance_forgets_what_the_chain_has_locked() {
    let mut world = world();
    world.sectors.apply(numbered(SectorPhase::WaitSeed, 0));
    let mut landed = pre_commit(995, COMM_R);
    landed.pre_commit_deposit = "0.08 FIL".parse().unwrap();
    chain_mut(&mut world).precommits.insert(0, Some(landed));
    // 5 FIL, 0.05 FIL of pledge and 0.05 FIL of fees for this one, 0.205 FIL for one more.
    balance(&mut world, "5.305 FIL");
    assert!(verdict(&world, Gate::Balance).open);
    balance(&mut world, "5.304 FIL");
    assert!(!verdict(&world, Gate::Balance).open);
    chain_mut(&mut world)
        .sectors
        .insert(0, Some(on_chain(COMM_R)));
    balance(&mut world, "5.205 FIL");
    assert!(verdict(&world, Gate::Balance).open);
}

#[test]
fn balance_of_the_actor_counts_when_it_pays_the_collateral() {
    let mut world = world();
    change_miner(&mut world, |m| m.spec.collateral_from_miner_balance = true);
    chain_mut(&mut world).available = "0.129 FIL".parse().unwrap();
    says(
        &world,
        Gate::Balance,
        false,
        "0.129 FIL available to t01000, 0.13 FIL needed for 0 sectors in flight and one more; send it 0.001 FIL",
    );
    chain_mut(&mut world).available = "0.13 FIL".parse().unwrap();
    assert!(verdict(&world, Gate::Balance).open);
}

#[test]
fn groups_of_one_miner_share_its_money_within_one_plan() {
    let mut world = world();
    change_miner(&mut world, |m| m.spec.sector_numbers.max = None);
    for name in ["h", "i"] {
        let mut group = group();
        group.metadata.name = Some(name.into());
        group.metadata.uid = Some(name.into());
        world.groups.apply(group);
        let mut pod = sealer_pod("node-a");
        pod.metadata.name = Some(format!("{name}-pod"));
        pod.metadata.uid = Some(format!("{name}-pod"));
        let labels = pod.metadata.labels.as_mut().unwrap();
        labels.insert(filstar_crds::labels::GROUP.into(), name.into());
        world.pods.apply(pod);
    }
    balance(&mut world, "100 FIL");
    assert_eq!(pledged(&world, 0), ["t01000-0", "t01000-1", "t01000-2"]);
    // Three pods, two sectors.
    balance(&mut world, "15.5 FIL");
    assert_eq!(pledged(&world, 0), ["t01000-0", "t01000-1"]);
}

#[test]
fn chain_sync_says_what_is_wrong_with_the_chain() {
    let mut world = world();
    says(&world, Gate::ChainSync, true, "the chain node is in sync");
    let view = world.chains.get_mut(&id("m")).unwrap();
    view.problem = Some(ChainProblem::OutOfSync("the head is 40 epochs old".into()));
    says(&world, Gate::ChainSync, false, "the head is 40 epochs old");
    world.chains.clear();
    says(
        &world,
        Gate::ChainSync,
        false,
        "the chain node has not answered yet",
    );
}

#[test]
fn sector_number_names_the_next_and_ends_with_the_last() {
    let mut world = world();
    says(&world, Gate::SectorNumber, true, "number 0 is the next");
    chain_mut(&mut world).allocated = BitField::try_from_bits([0, 1]).unwrap();
    says(
        &world,
        Gate::SectorNumber,
        false,
        "all numbers up to 1 are used or reserved; raise sectorNumbers.max of Miner m to pledge more",
    );
}

#[test]
fn gas_price_is_compared_with_the_groups_bound() {
    let mut world = world();
    says(
        &world,
        Gate::GasPrice,
        true,
        "any price: pledge.gates.gasPrice.maxBaseFee is not set",
    );
    let bound = |text: &str| {
        let text = text.to_owned();
        move |g: &mut SealingGroup| g.spec.pledge.gates.gas_price.max_base_fee = Some(text)
    };
    change_group(&mut world, bound("1 nanoFIL"));
    says(
        &world,
        Gate::GasPrice,
        true,
        "the next base fee is at most 1 nanoFIL",
    );
    chain_mut(&mut world).next_base_fee = AttoFil::from(1_000_000_001);
    says(
        &world,
        Gate::GasPrice,
        false,
        "the next base fee is 1.01 nanoFIL, more than maxBaseFee of 1 nanoFIL; it opens when the fee falls",
    );
    change_group(&mut world, bound("99 attoFIL"));
    says(
        &world,
        Gate::GasPrice,
        false,
        "maxBaseFee is 99 attoFIL and the network's least base fee is 100 attoFIL: it would never open; raise it",
    );
}

#[test]
fn node_maintenance_closes_with_the_last_node() {
    let mut world = world();
    world.nodes.apply(node("node-b"));
    says(
        &world,
        Gate::NodeMaintenance,
        true,
        "2 nodes for new sectors",
    );
    let mut cordoned = node("node-b");
    cordoned.metadata.resource_version = Some("2".into());
    cordoned.spec = Some(serde_json::from_value(json!({"unschedulable": true})).unwrap());
    world.nodes.apply(cordoned);
    says(
        &world,
        Gate::NodeMaintenance,
        true,
        "1 of 2 nodes for new sectors: node-b is cordoned (kubectl uncordon node-b)",
    );
    change_group(&mut world, |g| {
        g.spec.pledge.exclude_nodes = vec!["node-a".into()];
    });
    says(
        &world,
        Gate::NodeMaintenance,
        false,
        "no node takes new sectors: node-a is in pledge.excludeNodes, node-b is cordoned (kubectl uncordon node-b)",
    );
    world.sectors.apply(fresh(0));
    assert!(
        bound(&world).is_empty(),
        "a sector of a person goes there neither"
    );
}

#[test]
fn landing_closes_when_too_many_wait() {
    let mut world = world();
    change_group(&mut world, |g| g.spec.pledge.gates.landing.max_waiting = 1);
    says(
        &world,
        Gate::Landing,
        true,
        "0 sectors to land, pledge.gates.landing.maxWaiting is 1",
    );
    world.sectors.apply(numbered(SectorPhase::Landing, 0));
    says(
        &world,
        Gate::Landing,
        false,
        "1 sector to land, pledge.gates.landing.maxWaiting is 1; see their conditions and those of the stores",
    );
}

#[test]
fn capacity_needs_a_ready_pod_and_a_group_that_is_not_paused() {
    let mut world = world();
    says(
        &world,
        Gate::Capacity,
        true,
        "sealer pods are ready on 1 node",
    );
    change_group(&mut world, |g| g.spec.paused = true);
    says(
        &world,
        Gate::Capacity,
        false,
        "the group is paused: set spec.paused to false",
    );
}

#[test]
fn fifty_sectors_at_once_pass_no_gate_that_has_room_for_one() {
    let mut world = world();
    change_group(&mut world, |g| g.spec.lanes[0].concurrency.0 = 64);
    for number in 0..50 {
        world.sectors.apply(fresh(number));
    }
    assert_eq!(bound(&world).len(), 30, "as many as scratch has room for");
    disks(&mut world, (1 << 20) + SCRATCH, 9 << 20);
    assert_eq!(bound(&world), ["t01000-0"]);
    disks(&mut world, 9 << 20, (512 << 10) + 1 + STORE);
    assert_eq!(bound(&world), ["t01000-0"]);
    disks(&mut world, 9 << 20, 9 << 20);
    balance(&mut world, "5.3 FIL");
    let actions = plan(&world, at(0));
    assert_eq!(bound(&world), ["t01000-0"]);
    let waiting = actions.iter().find_map(|a| match a {
        Action::PatchSector { id, status, .. } if id.name == "t01000-7" => Some(status),
        _ => None,
    });
    let ready = &waiting.unwrap().conditions[0];
    assert_eq!(ready.reason, "BalanceClosed");
    assert_eq!(
        ready.message,
        format!(
            "Balance closed: 5.3 FIL available to {SENDER}, 5.41 FIL needed for 1 pod, 1 sector in flight and one more; \
             send it 0.11 FIL"
        )
    );
}

#[test]
fn a_sector_with_a_number_that_the_actor_used_is_not_begun() {
    let mut world = world();
    chain_mut(&mut world).allocated = BitField::try_from_bits([0]).unwrap();
    world.sectors.apply(fresh(0));
    world.sectors.apply(fresh(1));
    assert_eq!(bound(&world), ["t01000-1"]);
    let actions = plan(&world, at(0));
    let waiting = actions.iter().find_map(|a| match a {
        Action::PatchSector { id, status, .. } if id.name == "t01000-0" => Some(status),
        _ => None,
    });
    assert_eq!(reason(waiting.unwrap()), "SectorNumberClosed");
}

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
