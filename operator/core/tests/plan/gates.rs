//! Each gate at its edges, with its words.

use crate::support::*;
use filstar_chain::types::{AttoFil, BitField};
use filstar_core::action::Action;
use filstar_core::plan::plan;
use filstar_core::plan::pledge::{Gate, Ledger, Verdict, gates};
use filstar_core::world::{ChainProblem, World};
use filstar_crds::{
    ChainMessageStatus, MessageKind, MessageRefs, MessageState, Miner, SealingGroup, Sector,
    SectorPhase, SectorStatus,
};
use serde_json::json;

/// What a gate of group g says of one sector more.
pub(crate) fn verdict(world: &World, gate: Gate) -> Verdict {
    verdict_at(world, gate, 0)
}

pub(crate) fn verdict_at(world: &World, gate: Gate, second: i64) -> Verdict {
    let group = world.groups.get(&id("g")).unwrap();
    let all = gates(world, at(second), &Ledger::of(world), &id("g"), group);
    all.into_iter().find(|v| v.gate == gate).unwrap()
}

#[track_caller]
pub(crate) fn says(world: &World, gate: Gate, open: bool, words: &str) {
    let found = verdict(world, gate);
    assert_eq!((found.open, found.reason.as_str()), (open, words));
}

pub(crate) fn change_group(world: &mut World, change: impl FnOnce(&mut SealingGroup)) {
    let mut group = world.groups.get(&id("g")).unwrap().clone();
    change(&mut group);
    newer(&mut group.metadata.resource_version);
    world.groups.apply(group);
}

pub(crate) fn change_miner(world: &mut World, change: impl FnOnce(&mut Miner)) {
    let mut miner = world.miners.get(&id("m")).unwrap().clone();
    change(&mut miner);
    newer(&mut miner.metadata.resource_version);
    world.miners.apply(miner);
}

pub(crate) fn disks(world: &mut World, scratch: u64, store: u64) {
    let mut pod = with_disks(sealer_pod("node-a"), scratch, store);
    let known = world
        .pods
        .get(&id(pod.metadata.name.as_ref().unwrap()))
        .unwrap();
    pod.metadata
        .resource_version
        .clone_from(&known.metadata.resource_version);
    newer(&mut pod.metadata.resource_version);
    world.pods.apply(pod);
}

pub(crate) fn numbered(phase: SectorPhase, number: i64) -> Sector {
    let mut sector = sector(phase);
    let name = format!("t01000-{number}");
    sector.metadata.uid = Some(format!("uid-{name}"));
    sector.metadata.name = Some(name);
    sector.spec.number = number;
    sector
}

/// A Sector that a person made and nobody has looked at.
pub(crate) fn fresh(number: i64) -> Sector {
    let mut sector = numbered(SectorPhase::Allocated, number);
    sector.status = Some(SectorStatus::default());
    sector
}

pub(crate) fn bound(world: &World) -> Vec<String> {
    let actions = plan(world, at(0));
    let bound = actions.into_iter().filter_map(|a| match a {
        Action::PatchSector { id, status, .. } => status.binding.map(|_| id.name),
        _ => None,
    });
    bound.collect()
}

pub(crate) fn pledged(world: &World, second: i64) -> Vec<String> {
    let made = plan(world, at(second)).into_iter().filter_map(|a| match a {
        Action::CreateSector { id, .. } => Some(id.name),
        _ => None,
    });
    made.collect()
}

pub(crate) fn balance(world: &mut World, amount: &str) {
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
fn numbers_begin_at_start_though_lower_ones_are_free() {
    let mut world = world();
    change_miner(&mut world, |m| {
        m.spec.sector_numbers.start = 5;
        m.spec.sector_numbers.max = Some(8);
        m.spec.sector_numbers.reserved = vec!["6-7".into()];
    });
    says(&world, Gate::SectorNumber, true, "number 5 is the next");
    assert_eq!(pledged(&world, 0), ["t01000-5"]);
    // What is used below start changes nothing; from there on it is skipped with what is reserved.
    chain_mut(&mut world).allocated = BitField::try_from_bits([0, 1, 5]).unwrap();
    says(&world, Gate::SectorNumber, true, "number 8 is the next");
    chain_mut(&mut world).allocated = BitField::try_from_bits([5, 8]).unwrap();
    says(
        &world,
        Gate::SectorNumber,
        false,
        "all numbers up to 8 are used or reserved; raise sectorNumbers.max of Miner m to pledge more",
    );
    assert_eq!(pledged(&world, 0), [""; 0]);
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

#[test]
fn a_number_in_a_message_that_may_still_land_is_not_given_again() {
    let mut world = world();
    let mut wish = message(
        "t01000-0-precommit-1",
        MessageKind::PreCommit,
        ChainMessageStatus::default(),
    );
    world.messages.apply(wish.clone());
    says(&world, Gate::SectorNumber, true, "number 1 is the next");
    assert_eq!(pledged(&world, 0), ["t01000-1"]);
    // A person asks for the same number.
    let mut made = fresh(0);
    world.sectors.apply(made.clone());
    assert_eq!(bound(&world), [""; 0]);
    let actions = plan(&world, at(0));
    let said = &new_status(&actions).conditions;
    let ready = said.iter().find(|c| c.type_ == "Ready").unwrap();
    assert!(ready.message.contains("t01000-0-precommit-1"), "{ready:?}");
    // The message is its own: it was begun before, and is begun anew.
    made.status.as_mut().unwrap().messages = Some(MessageRefs {
        pre_commit: Some("t01000-0-precommit-1".into()),
        ..MessageRefs::default()
    });
    newer(&mut made.metadata.resource_version);
    world.sectors.apply(made);
    assert_eq!(bound(&world), ["t01000-0"]);
    world.sectors.bury(&id("t01000-0"), Some("uid-t01000-0"));
    wish.status = Some(signed(MessageState::Failed, 3));
    newer(&mut wish.metadata.resource_version);
    world.messages.apply(wish);
    says(&world, Gate::SectorNumber, true, "number 0 is the next");
}
