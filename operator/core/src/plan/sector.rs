//! A sector's way: one transition table, matched without wildcards.
//!
//! ```text
//! Allocated → Packing → PC1 → PC2 → PreCommitting → WaitSeed → C1 → C2 → Committing → Finalizing → Landing → Proving
//! ```
//! In: a Sector and the world. Out: at most one new status (or a draw of randomness, which ends in one), and the
//! messages that it wishes for. Whatever does not happen has a reason, and the reason is in the `Ready` condition.

mod chain_steps;
mod gone;
mod hold;
mod removal;
mod say;
mod turn;
mod wished;
mod work;

use std::collections::BTreeSet;
use std::sync::Arc;

use filstar_crds::{Sector, SectorPhase, TaskKind, finalizers, labels};
use kube::ResourceExt;

use super::bookings::Bookings;
use super::pledge::Ledger;
use crate::action::Action;
use crate::world::{Id, MinerFacts, Now, World};
use turn::{Turn, Wait};

/// Actions for all sectors.
pub(super) fn plan(
    world: &World,
    now: Now,
    bookings: &mut Bookings,
    ledger: &mut Ledger,
) -> Vec<Action> {
    let mut actions = Vec::new();
    let mut sectors: Vec<(&Id, &Sector)> = world.sectors.iter().collect();
    sectors.sort_by_key(|(_, sector)| rank(sector));
    for (id, sector) in sectors {
        let books = (&mut *bookings, &mut *ledger);
        actions.extend(one(world, now, books, id, sector));
    }
    actions
}

/// Actions for some sectors.
pub(super) fn some(
    world: &World,
    now: Now,
    (bookings, ledger): (&mut Bookings, &mut Ledger),
    ids: &BTreeSet<Id>,
) -> Vec<Action> {
    let mut sectors: Vec<(&Id, &Sector)> = ids
        .iter()
        .filter_map(|id| Some((id, world.sectors.get(id)?)))
        .collect();
    sectors.sort_by_key(|(_, sector)| rank(sector));
    sectors
        .into_iter()
        .flat_map(|(id, sector)| one(world, now, (&mut *bookings, &mut *ledger), id, sector))
        .collect()
}

/// Who is asked first when places are few: what is nearest to the chain, so C2 before PC2. What finds no room holds up
/// nobody behind it.
fn rank(sector: &Sector) -> u8 {
    match sector.status.as_ref().and_then(|s| s.phase) {
        Some(SectorPhase::C2) => 1,
        Some(SectorPhase::C1) => 2,
        Some(SectorPhase::Pc2) => 3,
        Some(SectorPhase::Pc1) => 4,
        Some(SectorPhase::Packing) => 5,
        Some(SectorPhase::Allocated) | None => 6,
        Some(_) => 0,
    }
}

fn one(
    world: &World,
    now: Now,
    (bookings, ledger): (&mut Bookings, &mut Ledger),
    id: &Id,
    sector: &Sector,
) -> Vec<Action> {
    if sector.metadata.deletion_timestamp.is_some() {
        return removal::plan(world, now, bookings, id, sector);
    }
    if !is_adopted(sector) {
        return vec![Action::AdoptSector {
            id: id.clone(),
            group: sector.spec.group_ref.name.clone(),
            miner: sector.spec.miner_ref.name.clone(),
        }];
    }
    // First of all, so that the word that gave one node up never meets the next.
    if gone::is_idle(world, sector) {
        let resource_version = sector.resource_version().unwrap_or_default();
        return vec![Action::ClearForgetNode {
            id: id.clone(),
            resource_version,
        }];
    }
    let mut turn = match Turn::start(world, now, (bookings, ledger), id, sector) {
        Ok(turn) => turn,
        // What is on chain and in its store needs nobody who seals.
        Err(wait) if wait.reason == "NoGroup" && is_proving(sector) => return Vec::new(),
        Err(wait) => return say::stalled(now, id, sector, &wait),
    };
    let wait = step(&mut turn);
    turn.finish(&wait)
}

fn is_proving(sector: &Sector) -> bool {
    sector.status.as_ref().and_then(|s| s.phase) == Some(SectorPhase::Proving)
}

fn is_adopted(sector: &Sector) -> bool {
    sector
        .finalizers()
        .iter()
        .any(|f| f == finalizers::SECTOR_FILES)
        && sector.labels().get(labels::GROUP) == Some(&sector.spec.group_ref.name)
        && sector.labels().get(labels::MINER) == Some(&sector.spec.miner_ref.name)
}

/// One step on the way; what it waits for when it took none.
fn step(turn: &mut Turn<'_>) -> Wait {
    if let Some(wait) = gone::step(turn).or_else(|| hold::hold(turn)) {
        return wait;
    }
    match turn.phase() {
        SectorPhase::Allocated => work::bind_to_node(turn),
        SectorPhase::Packing => work::compute(turn, TaskKind::AddPiece, SectorPhase::Pc1),
        SectorPhase::Pc1 => match chain_steps::ticket(turn) {
            Some(wait) => wait,
            None => work::compute(turn, TaskKind::Pc1, SectorPhase::Pc2),
        },
        SectorPhase::Pc2 => work::compute(turn, TaskKind::Pc2, SectorPhase::PreCommitting),
        SectorPhase::PreCommitting => chain_steps::pre_commit(turn),
        SectorPhase::WaitSeed => chain_steps::wait_seed(turn),
        SectorPhase::C1 => match chain_steps::seed_holds(turn) {
            Some(wait) => wait,
            None => work::compute(turn, TaskKind::C1, SectorPhase::C2),
        },
        SectorPhase::C2 => match chain_steps::seed_holds(turn) {
            Some(wait) => wait,
            None => work::compute(turn, TaskKind::C2, SectorPhase::Committing),
        },
        SectorPhase::Committing => chain_steps::commit(turn),
        SectorPhase::Finalizing => work::compute(turn, TaskKind::Finalize, SectorPhase::Landing),
        SectorPhase::Landing => work::land(turn),
        SectorPhase::Proving => Wait::new("Proving", "the sector is on chain and in its store"),
        SectorPhase::Failed => work::retry_failed(turn),
        SectorPhase::Removing => Wait::new("Removing", "its files in scratch are being removed"),
    }
}

/// The facts of a sector's miner, or why it has none.
fn miner<'a>(
    world: &'a World,
    bookings: &Bookings,
    id: &Id,
    sector: &Sector,
) -> Result<(&'a Id, &'a filstar_crds::Miner, Arc<MinerFacts>), Wait> {
    let name = &sector.spec.miner_ref.name;
    let (miner_id, miner) = world.miner_of(&id.namespace, name).ok_or_else(|| {
        Wait::new(
            "NoMiner",
            format!("there is no Miner {name} in this namespace; create it"),
        )
    })?;
    // A Miner that came since the books were opened is read here.
    let known = bookings.miner(miner_id).cloned();
    let facts = known.unwrap_or_else(|| MinerFacts::parse(miner).map(Arc::new));
    let facts = facts.map_err(|invalid| {
        Wait::new(
            "InvalidMiner",
            format!("Miner {name} cannot be used: {invalid}"),
        )
    })?;
    let number = sector.spec.number.unsigned_abs();
    if !super::names::is_sector(&id.name, &facts.actor_text, number) {
        let wanted = super::names::sector(&facts.actor_text, number);
        return Err(Wait::new(
            "WrongName",
            format!("a sector of Miner {name} with this number is named {wanted}; create it so"),
        ));
    }
    Ok((miner_id, miner, facts))
}
