//! What to say about users' objects: a pure function of the world and the time.

use crate::action::Action;
use crate::world::{Now, World};

/// Statuses that changed.
pub fn status(_world: &World, _now: Now) -> Vec<Action> {
    Vec::new()
}
