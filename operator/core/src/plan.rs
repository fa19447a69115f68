//! The plan: what to do next. A pure function of the world and the time.
//!
//! One module for each concern. What is decided together (which pod has room) goes through [`Bookings`], so
//! that two sectors of one plan never get the same place.

mod bookings;
mod cleanup;
pub mod drain;
pub mod fleet;
pub mod message;
pub mod names;
pub mod overdue;
pub mod pledge;
pub mod pods;
pub mod policy;
mod post;
pub mod reach;
pub mod recover;
mod sector;
pub mod sweep;

use std::collections::BTreeSet;

use bookings::Bookings;
use fleet::Fleet;

use crate::action::Action;
use crate::world::{Changes, Id, Now, World};

/// Sectors without a node that are looked at again when something is freed. Each finds the next place or none.
const NEXT_IN_LINE: usize = 8;

/// What to do next, in order. Nothing to do is an empty plan.
pub fn plan(world: &World, now: Now) -> Vec<Action> {
    Planner::default().full(world, now)
}

/// Plans, and keeps what the next plan can use.
#[derive(Debug, Default)]
pub struct Planner {
    fleet: Fleet,
    books: Option<Books>,
}

/// What is booked: places on nodes, and what gates count.
#[derive(Debug)]
struct Books {
    key: bookings::Key,
    bookings: Bookings,
    readings: pledge::Readings,
    ledger: pledge::Ledger,
}

impl Planner {
    /// Where pods were placed last.
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// Changes went by unseen: the next plan opens the books anew.
    pub fn forget(&mut self) {
        self.books = None;
    }

    /// What to do next, from the whole world and nothing else.
    pub fn full(&mut self, world: &World, now: Now) -> Vec<Action> {
        self.fleet.update(world);
        let readings = pledge::Readings::of(world);
        let books = self.books.insert(Books {
            key: bookings::Key::of(world),
            bookings: Bookings::of(world, &self.fleet),
            ledger: pledge::Ledger::with(world, &readings, self.fleet.closing()),
            readings,
        });
        everything(world, now, &self.fleet, books)
    }

    /// The same, but the books are kept and only what changed, or was booked by a plan that may have come to nothing,
    /// is entered again. They are opened anew when pods got other places, or the spec of a Miner or group changed.
    pub fn whole(&mut self, world: &World, now: Now, changes: &Changes) -> Vec<Action> {
        let moved = self.books.is_none() || self.fleet.renew(world, &changes.pods);
        match &mut self.books {
            Some(books) if !moved && books.key == bookings::Key::of(world) => {
                books.bookings.renew(world, &self.fleet, changes);
                for id in &changes.pods {
                    books.readings.note(world, id);
                }
                books.ledger = pledge::Ledger::with(world, &books.readings, self.fleet.closing());
                everything(world, now, &self.fleet, books)
            }
            Some(_) | None => self.full(world, now),
        }
    }

    /// What follows at once from changes of sectors and pods: for these, and for sectors that wait for what they
    /// free. All else is left to the next full plan.
    pub fn changed(&mut self, world: &World, now: Now, changes: &Changes) -> Vec<Action> {
        let Some(books) = &mut self.books else {
            return self.full(world, now);
        };
        let Books {
            bookings,
            readings,
            ledger,
            ..
        } = books;
        let mut again: BTreeSet<Id> = changes.sectors.clone();
        for id in &changes.pods {
            self.fleet.note_pod(world, id);
            readings.note(world, id);
            let (touched, place) = bookings.note_pod(world, &self.fleet, id, world.pods.get(id));
            again.extend(touched);
            if let Some((group, node)) = place {
                again.extend(bookings.waiting(&group, &node, NEXT_IN_LINE));
            }
        }
        for id in &changes.sectors {
            let sector = world.sectors.get(id);
            let node = bookings.enter(world, id, sector);
            if let (Some(sector), Some(node)) = (sector, node) {
                let group = Id::new(&id.namespace, &sector.spec.group_ref.name);
                again.extend(bookings.waiting(&group, &node, NEXT_IN_LINE));
            }
        }
        let mut actions = sector::some(world, now, (bookings, ledger), &again);
        for id in &changes.pods {
            actions.extend(pods::one(world, now, &self.fleet, bookings, id));
        }
        actions
    }
}

fn everything(world: &World, now: Now, fleet: &Fleet, books: &mut Books) -> Vec<Action> {
    let Books {
        bookings, ledger, ..
    } = books;
    let roll = pods::Roll::of(world, fleet);
    bookings.stand(roll.standings(world, fleet));
    bookings.note_gone(world);
    let mut actions = Vec::new();
    // Money first: a proof that is due waits for nobody.
    actions.extend(message::plan(world, now));
    actions.extend(post::plan(world));
    actions.extend(recover::plan(world));
    // What a drain must not break is guarded before a sector goes further.
    actions.extend(drain::plan(world, now, bookings.closing()));
    actions.extend(sector::plan(world, now, bookings, ledger));
    actions.extend(pods::plan(world, now, fleet, &roll, bookings));
    actions.extend(pledge::plan(world, now, ledger));
    actions.extend(cleanup::plan(world, now));
    actions
}
