//! Objects whose time is over: proven sectors and final messages, after the Miner's retention, and what is left
//! of nodes that are gone.

use filstar_crds::{MessageState, SectorPhase, conditions, parse_duration};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use crate::action::Action;
use crate::world::{Id, Now, World};

/// How long a `SealingNode` stays without its Node. A request for maintenance stays for longer: it is a person's.
const NODE_GONE: SignedDuration = SignedDuration::from_hours(6);

/// What to delete.
pub(super) fn plan(world: &World, now: Now) -> Vec<Action> {
    let mut actions = Vec::new();
    for (id, sector) in world.sectors.iter() {
        let Some(status) = &sector.status else {
            continue;
        };
        if status.phase != Some(SectorPhase::Proving) {
            continue;
        }
        let since = status.timeline.last().map(|t| t.started.0);
        if sector.metadata.deletion_timestamp.is_none()
            && over(
                world,
                &id.namespace,
                &sector.spec.miner_ref.name,
                since,
                now,
            )
            && let Some(uid) = sector.uid()
        {
            actions.push(Action::DeleteSector {
                id: id.clone(),
                uid,
            });
        }
    }
    for (id, message) in world.messages.iter() {
        let Some(status) = &message.status else {
            continue;
        };
        let done = status.state == Some(MessageState::Final);
        let since = status.changed.as_ref().map(|t| t.0);
        if done
            && over(
                world,
                &id.namespace,
                &message.spec.miner_ref.name,
                since,
                now,
            )
            && !is_named(world, id)
            && let Some(uid) = message.uid()
        {
            actions.push(Action::DeleteMessage {
                id: id.clone(),
                uid,
            });
        }
    }
    actions.extend(forgotten_nodes(world, now));
    actions
}

fn forgotten_nodes(world: &World, now: Now) -> impl Iterator<Item = Action> {
    let without = |id: &Id| world.nodes.get(id).is_none();
    let objects = world.sealing_nodes.iter();
    let idle = objects.filter(move |(id, object)| {
        object.spec.maintenance.is_none()
            && object.metadata.deletion_timestamp.is_none()
            && without(id)
    });
    idle.filter_map(move |(id, object)| {
        let mut known = object.status.iter().flat_map(|s| &s.conditions);
        let gone = known.find(|c| c.type_ == conditions::NODE_GONE && c.status == "True")?;
        let over = now.wall.duration_since(gone.last_transition_time.0) >= NODE_GONE;
        let (id, uid) = (id.clone(), object.uid()?);
        over.then_some(Action::DeleteSealingNode { id, uid })
    })
}

/// Whether a Sector still names the message: the names of its messages begin with its own.
fn is_named(world: &World, id: &Id) -> bool {
    id.name.match_indices('-').any(|(at, _)| {
        let sector = Id::new(&id.namespace, &id.name[..at]);
        world.sectors.get(&sector).is_some()
    })
}

fn over(world: &World, namespace: &str, miner: &str, since: Option<Timestamp>, now: Now) -> bool {
    let Some((_, miner)) = world.miner_of(namespace, miner) else {
        return false;
    };
    let retention = parse_duration(&miner.spec.retention);
    let Some(retention) = retention
        .ok()
        .and_then(|r| SignedDuration::try_from(r).ok())
    else {
        return false;
    };
    since.is_some_and(|t| now.wall.duration_since(t) > retention)
}
