//! The messages of a sector: which is the newest of a purpose, and what is said of it.

use filstar_crds::{ChainMessage, MessageKind, MessageState, SectorPhase};

use super::super::{message, names};
use super::turn::{Turn, Wait};
use crate::world::Id;

/// The messages of one purpose.
pub(super) enum Wished<'a> {
    /// The newest one is on its way, or did what it was for.
    Current(&'a Id, &'a ChainMessage, MessageState),
    /// There is none, or the newest failed: the next would be number `n`.
    Next {
        n: u32,
        last_error: Option<String>,
        /// How many failed since the sector last began.
        failed: u32,
    },
}

/// The newest message of a purpose. Names follow from the sector, so what an earlier run made is found.
pub(super) fn wished<'a>(turn: &Turn<'a>, kind: MessageKind) -> Wished<'a> {
    let prefix = names::sector_message_prefix(&turn.id.name, kind);
    match message::newest(turn.world, &turn.id.namespace, &prefix) {
        None => Wished::Next {
            n: 1,
            last_error: None,
            failed: 0,
        },
        Some((id, message, n)) => {
            let status = message.status.as_ref();
            let state = status.and_then(|s| s.state).unwrap_or_default();
            if state == MessageState::Failed {
                let last_error = status
                    .and_then(|s| s.conditions.iter().find(|c| c.type_ == "Ready"))
                    .map(|c| c.message.clone());
                return Wished::Next {
                    n: n + 1,
                    last_error,
                    failed: n.saturating_sub(newest_before(turn, &prefix)),
                };
            }
            Wished::Current(id, message, state)
        }
    }
}

/// The newest message of a purpose from before the sector began anew: 0 when there is none. Why it failed says nothing about
/// what the sector has now.
fn newest_before(turn: &Turn<'_>, prefix: &str) -> u32 {
    let mut entries = turn.next.timeline.iter().rev();
    let Some(begun) = entries.find(|e| e.phase == SectorPhase::Allocated) else {
        return 0;
    };
    let messages = turn.world.messages.with_prefix(&turn.id.namespace, prefix);
    let older = messages.filter(|(_, message)| {
        let made = message.metadata.creation_timestamp.as_ref();
        made.is_some_and(|made| made.0 < begun.started.0)
    });
    let numbers = older.filter_map(|(id, _)| id.name.strip_prefix(prefix)?.parse().ok());
    numbers.max().unwrap_or(0)
}

pub(super) fn on_its_way(name: &str, message: &ChainMessage, state: MessageState) -> Wait {
    let text = match state {
        MessageState::Wish => {
            let condition = message.status.as_ref().and_then(|s| s.conditions.first());
            let why = condition.map_or("it is being signed", |c| c.message.as_str());
            format!("ChainMessage {name} is not signed yet: {why}")
        }
        MessageState::Signed => {
            format!("ChainMessage {name} is signed and stored; it is being pushed")
        }
        MessageState::Pushed => format!("ChainMessage {name} waits for a block"),
        MessageState::Landed => format!("ChainMessage {name} landed; it waits for confidence"),
        MessageState::Final => {
            format!("ChainMessage {name} is final; the chain is being asked for its effect")
        }
        MessageState::Failed => format!("ChainMessage {name} failed"),
    };
    Wait::new("WaitMessage", text)
}

/// Whether the head is far enough behind the epoch at which a message landed to show what it did: another endpoint, asked
/// since, may lag behind.
pub(super) fn shows_effect(turn: &Turn<'_>, message: &ChainMessage) -> bool {
    let landed = message.status.as_ref().and_then(|s| s.landed_epoch);
    let head = turn.chain().map_or(i64::MIN, |chain| chain.head.0);
    landed.is_none_or(|landed| head >= landed + turn.miner.spec.confidence.max(2))
}
