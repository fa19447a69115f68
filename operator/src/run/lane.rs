//! One pass through the lane of a Miner: its actions that talk to the chain, one after another.
//!
//! In: the queue of one plan. Out: what came of each action. What is most urgent goes first, and of that what failed
//! least. A pass ends after a while, so that what became urgent meanwhile waits for one action and not for a queue; the
//! rest is planned anew.
//! Never: two signatures for one sender in a pass, since the second would be estimated and numbered without the first; an
//! action that is cut off, since a signature may be on its way into its store.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use filstar_core::action::Action;
use filstar_core::world::Id;

use super::pacing::Key;
use super::perform::Outcome;
use crate::apply::{Applied, Scene};
use crate::events::Note;

/// After so long a pass begins no further action.
pub(super) const PASS: Duration = Duration::from_secs(10);

/// An object: its kind and its id. What failed for one is not tried further in the same round.
pub(super) type Object = (&'static str, Id);

/// An action on its way through a lane.
pub(super) struct Queued {
    /// How urgent it is, and how often it failed: the smallest goes first.
    pub(super) rank: (u8, u32),
    pub(super) key: Key,
    pub(super) note: Option<Box<Note>>,
    pub(super) action: Action,
    pub(super) scene: Scene,
}

impl Queued {
    /// Whose nonce it takes.
    fn signs_for(&self) -> Option<&str> {
        match (&self.action, &self.scene.message) {
            (Action::SignMessage { .. }, Some(message)) => Some(&message.spec.from),
            _ => None,
        }
    }
}

/// Does what is in the queue until the pass is over. Ends early when nobody listens any more.
pub(super) async fn run<F>(
    mut queue: Vec<Queued>,
    pass: Duration,
    apply: impl Fn(Action, Scene) -> F,
    outcomes: &mpsc::Sender<Outcome>,
) where
    F: Future<Output = Applied>,
{
    let begun = Instant::now();
    let mut held: BTreeSet<Object> = BTreeSet::new();
    let mut signed: BTreeSet<String> = BTreeSet::new();
    // Of one rank the order of the plan stays.
    queue.sort_by_key(|queued| queued.rank);
    for queued in queue {
        if begun.elapsed() > pass {
            return;
        }
        let object = (queued.key.1, queued.key.2.clone());
        let sender = queued.signs_for().map(str::to_owned);
        if held.contains(&object) || sender.as_ref().is_some_and(|s| signed.contains(s)) {
            continue;
        }
        let Queued {
            key,
            note,
            action,
            scene,
            ..
        } = queued;
        let applied = apply(action, scene).await;
        match (&applied.result, sender) {
            (Ok(()), Some(sender)) => drop(signed.insert(sender)),
            (Ok(()), None) => {}
            (Err(_), _) => drop(held.insert(object)),
        }
        let outcome = Outcome::Action { key, note, applied };
        if outcomes.send(outcome).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use filstar_crds::ChainMessage;
    use serde_json::json;

    use super::*;
    use crate::apply::Error;

    fn sign(name: &str, from: &str, rank: (u8, u32)) -> Queued {
        let message: ChainMessage = serde_json::from_value(json!({
            "apiVersion": "filstar.io/v1alpha1", "kind": "ChainMessage",
            "metadata": {"name": name, "namespace": "ns"},
            "spec": {
                "minerRef": {"name": "m"}, "kind": "PreCommit", "from": from, "to": "t01000",
                "method": 28, "params": "", "value": "0 attoFIL", "maxFee": "1 FIL",
            },
        }))
        .unwrap();
        let id = Id::new("ns", name);
        Queued {
            rank,
            key: ("SignMessage", "ChainMessage", id.clone()),
            note: None,
            action: Action::SignMessage {
                id,
                miner: Id::new("ns", "m"),
                min_nonce: 0,
                spendable: None,
                resource_version: "1".into(),
            },
            scene: Scene {
                miner: None,
                message: Some(Box::new(message)),
            },
        }
    }

    /// Runs a pass in which these fail; the names of what was done, in order.
    async fn pass(
        queue: Vec<Queued>,
        failing: &[&str],
        pass: Duration,
        each: Duration,
    ) -> Vec<String> {
        let (sender, _receiver) = mpsc::channel(64);
        let done = Mutex::new(Vec::new());
        let apply = |action: Action, _| {
            let Action::SignMessage { id, .. } = action else {
                panic!("{action:?}");
            };
            done.lock().unwrap().push(id.name.clone());
            let result = if failing.contains(&id.name.as_str()) {
                Err(Error::Timeout)
            } else {
                Ok(())
            };
            async move {
                tokio::time::sleep(each).await;
                Applied {
                    changes: Vec::new(),
                    result,
                }
            }
        };
        run(queue, pass, apply, &sender).await;
        done.into_inner().unwrap()
    }

    const LONG: Duration = Duration::from_mins(1);

    #[tokio::test]
    async fn wishes_that_cannot_be_signed_hold_up_no_other_of_their_sender() {
        let queue = ["a", "b", "c", "d"].map(|name| sign(name, "t1a", (2, 0)));
        let done = pass(queue.into(), &["a", "b"], LONG, Duration::ZERO).await;
        assert_eq!(
            done,
            ["a", "b", "c"],
            "d waits for the next pass: c took a nonce"
        );
    }

    #[tokio::test]
    async fn one_pass_signs_for_each_sender_once() {
        let queue = vec![
            sign("a", "t1a", (2, 0)),
            sign("b", "t1b", (2, 0)),
            sign("c", "t1a", (2, 0)),
        ];
        let done = pass(queue, &[], LONG, Duration::ZERO).await;
        assert_eq!(done, ["a", "b"]);
    }

    #[tokio::test]
    async fn what_is_urgent_goes_first_and_then_what_failed_least() {
        let queue = vec![
            sign("failed", "t1a", (2, 3)),
            sign("fresh", "t1b", (2, 0)),
            sign("proof", "t1c", (0, 5)),
        ];
        let done = pass(queue, &[], LONG, Duration::ZERO).await;
        assert_eq!(done, ["proof", "fresh", "failed"]);
    }

    #[tokio::test]
    async fn a_pass_begins_no_further_action_once_its_time_is_over() {
        let queue = ["a", "b", "c"].map(|name| sign(name, name, (2, 0)));
        let slow = Duration::from_millis(30);
        let done = pass(queue.into(), &[], Duration::from_millis(20), slow).await;
        assert_eq!(done, ["a"]);
    }
}
