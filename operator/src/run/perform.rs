//! Has the actions of one plan done.
//!
//! Actions that need the API server alone are done here, in order. Those that talk to a chain run in one lane for
//! each Miner, so that a chain node that hangs holds up its own Miner only.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use filstar_core::action::Action;
use filstar_core::plan::message;
use filstar_core::world::{Id, World};

use super::Brain;
use super::lane::{self, Object, Queued};
use super::pacing::Key;
use crate::apply::{Applied, Scene, kind_of, lane as lane_of, name, target};
use crate::events::{Note, note, unmade};

/// A round ends after so long, and a new plan is made: the world goes on meanwhile.
const ROUND: Duration = Duration::from_secs(2);

/// What came out of a lane.
#[derive(Debug)]
pub(super) enum Outcome {
    /// An action is done, or failed.
    Action {
        /// Which.
        key: Key,
        /// What to tell about it if it is done.
        note: Option<Box<Note>>,
        /// What came of it.
        applied: Applied,
    },
    /// The lane is free again.
    End(Id),
}

/// Whether an object is one that our types cannot read: all that it gets is a condition that says so.
fn is_unreadable(world: &World, object: &Object) -> bool {
    world
        .unreadable
        .keys()
        .any(|(plural, id)| *id == object.1 && kind_of(plural) == Some(object.0))
}

/// Whether an action is about a message that must land before a deadline closes.
fn is_urgent(world: &World, (_, kind, id): &Key) -> bool {
    let message = world.messages.get(id).filter(|_| *kind == "ChainMessage");
    message.is_some_and(|m| message::is_of_proofs(m.spec.kind))
}

impl Brain {
    /// Does what can be done now; what fails or waits is planned anew.
    pub(super) async fn perform(&mut self, actions: Vec<Action>) {
        let begun = Instant::now();
        let mut held: BTreeSet<Object> = BTreeSet::new();
        let mut lanes: BTreeMap<Id, Vec<Queued>> = BTreeMap::new();
        for action in actions {
            if !self.role.borrow().may_write(Instant::now()) {
                return;
            }
            if begun.elapsed() > ROUND {
                self.touch();
                break;
            }
            let object: Object = target(&action);
            let key: Key = (name(&action), object.0, object.1.clone());
            if held.contains(&object) || is_unreadable(&self.world, &object) {
                continue;
            }
            if self.pacing.waits(&key, Instant::now()) {
                held.insert(object);
                continue;
            }
            let note = note(&self.world, &action).map(Box::new);
            // A lane that is busy is asked again when it is free.
            if let Some(miner) = lane_of(&action).cloned() {
                if self.busy.contains(&miner) {
                    continue;
                }
                let scene = Scene::of(&self.world, &action);
                let rank = (
                    message::urgency_of(&self.world, &action),
                    self.pacing.failures(&key),
                );
                lanes.entry(miner).or_default().push(Queued {
                    rank,
                    key,
                    note,
                    action,
                    scene,
                });
                continue;
            }
            let applied = self.applier.apply(action, Scene::default()).await;
            if applied.result.is_err() {
                held.insert(object);
            }
            self.settle(Outcome::Action { key, note, applied });
        }
        for (miner, queue) in lanes {
            self.enter(miner, queue);
        }
    }

    /// Sends actions down the lane of a Miner, unless it is busy.
    fn enter(&mut self, miner: Id, queue: Vec<Queued>) {
        while self.lanes.try_join_next().is_some() {}
        if !self.busy.insert(miner.clone()) {
            return;
        }
        let (applier, outcomes) = (self.applier.clone(), self.outcomes_sender.clone());
        self.lanes.spawn(async move {
            let apply = |action, scene| {
                let applier = applier.clone();
                async move { applier.apply(action, scene).await }
            };
            lane::run(queue, lane::PASS, apply, &outcomes).await;
            // Nobody listens any more only when the process ends.
            drop(outcomes.send(Outcome::End(miner)).await);
        });
    }

    /// Takes in what came of an action.
    pub(super) fn settle(&mut self, outcome: Outcome) {
        let (key, note, applied) = match outcome {
            Outcome::End(miner) => {
                self.busy.remove(&miner);
                self.touch();
                return;
            }
            Outcome::Action { key, note, applied } => (key, note, applied),
        };
        let mut news = false;
        for change in applied.changes {
            news |= self.take_in(change);
        }
        let outcome = match applied.result {
            Ok(()) => {
                if key.0 == "PatchStatus" {
                    tracing::debug!(kind = key.1, object = %key.2, "{}", key.0);
                } else {
                    tracing::info!(kind = key.1, object = %key.2, "{}", key.0);
                }
                self.pacing.done(&key);
                if let Some(note) = note {
                    self.recorder.tell(*note);
                }
                "Done"
            }
            Err(error) => {
                let (pacing, urgent) = (&mut self.pacing, is_urgent(&self.world, &key));
                let pause = pacing.failed(key.clone(), &error, urgent, Instant::now());
                let (action, kind, object) = (key.0, key.1, &key.2);
                if error.is_harmless() {
                    tracing::debug!(action, kind, %object, %error, ?pause, "planned anew");
                } else {
                    tracing::warn!(action, kind, %object, class = %error.class(), %error, ?pause, "failed; tried again");
                }
                if news
                    && action == "CreatePod"
                    && let Some(note) = unmade(&self.world, self.planner.fleet(), object)
                {
                    self.recorder.tell(note);
                }
                error.name()
            }
        };
        self.metrics
            .actions
            .with_label_values(&[key.0, outcome])
            .inc();
        if news {
            self.touch();
        }
    }
}
