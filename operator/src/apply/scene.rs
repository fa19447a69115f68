//! What an action needs to know of the world when it is done.

use filstar_core::action::Action;
use filstar_core::world::World;
use filstar_crds::{ChainMessage, Miner};

use super::lane;

/// The objects that an action that talks to a chain looks at.
#[derive(Clone, Debug, Default)]
pub struct Scene {
    /// Its Miner.
    pub miner: Option<Box<Miner>>,
    /// Its message.
    pub message: Option<Box<ChainMessage>>,
}

impl Scene {
    /// The scene of an action.
    pub fn of(world: &World, action: &Action) -> Self {
        let Some(miner) = lane(action) else {
            return Self::default();
        };
        let message = if let Action::SignMessage { id, .. } = action {
            world.messages.get(id).cloned().map(Box::new)
        } else {
            None
        };
        Self {
            miner: world.miners.get(miner).cloned().map(Box::new),
            message,
        }
    }
}
