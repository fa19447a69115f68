//! The plan: what to do next. A pure function of the world and the time.
//!
//! One module for each concern. What is decided together (which pod has room) goes through [`Bookings`], so
//! that two sectors of one plan never get the same place.

mod bookings;
mod cleanup;
pub mod drain;
pub(crate) mod message;
pub mod names;
pub mod pledge;
pub mod pods;
pub(crate) mod policy;
mod post;
pub mod recover;
mod sector;

use bookings::Bookings;

use crate::action::Action;
use crate::world::{Now, World};

/// What to do next, in order. Nothing to do is an empty plan.
pub fn plan(world: &World, now: Now) -> Vec<Action> {
    let mut bookings = Bookings::of(world);
    let mut ledger = pledge::Ledger::of(world);
    let mut actions = Vec::new();
    // Money first: a proof that is due waits for nobody.
    actions.extend(message::plan(world, now));
    actions.extend(post::plan(world));
    actions.extend(recover::plan(world));
    // What a drain must not break is guarded before a sector goes further.
    actions.extend(drain::plan(world, now, bookings.closing()));
    actions.extend(sector::plan(world, now, &mut bookings, &mut ledger));
    actions.extend(pods::plan(world, now, &bookings));
    actions.extend(pledge::plan(world, now, &mut ledger));
    actions.extend(cleanup::plan(world, now));
    actions
}
