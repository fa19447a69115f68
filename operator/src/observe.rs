//! Asks the chain what the plans need to know, one poller for each Miner.
//!
//! In: the world, as [`questions()`]. Out: chain views, as changes of the world. Effects: reads of chain nodes and
//! Secrets. Never: one poller waits for another.

mod estimate;
mod landed;
mod partitions;
mod poll;
mod problem;
mod questions;
mod signer;
mod spec;
mod state;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use filstar_chain::node::Node;
use filstar_core::world::{Id, World};
use filstar_crds::{Miner, MinerSpec};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

pub(crate) use partitions::living;
pub use questions::{Asked, Questions, questions};

use crate::metrics::Metrics;
use crate::secrets::Secrets;
use crate::watch::Event;

/// The chain node in use, by Miner.
#[derive(Clone, Debug, Default)]
pub struct Connections(Arc<Mutex<BTreeMap<Id, Node>>>);

impl Connections {
    /// The node of a Miner, if one is healthy.
    pub fn get(&self, miner: &Id) -> Option<Node> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(miner)
            .cloned()
    }

    /// Sets or forgets the node of a Miner.
    pub fn set(&self, miner: &Id, node: Option<Node>) {
        let mut nodes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match node {
            Some(node) => nodes.insert(miner.clone(), node),
            None => nodes.remove(miner),
        };
    }
}

/// What a poller is to find out.
#[derive(Clone, Debug, PartialEq)]
struct Target {
    spec: MinerSpec,
    questions: Questions,
}

/// All pollers.
#[derive(Debug)]
pub struct Observer {
    connections: Connections,
    secrets: Secrets,
    metrics: Arc<Metrics>,
    events: mpsc::Sender<Event>,
    pollers: BTreeMap<Id, Poller>,
}

#[derive(Debug)]
struct Poller {
    target: watch::Sender<Target>,
    task: AbortHandle,
}

impl Drop for Poller {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Observer {
    /// No pollers yet. What they find goes to `events`.
    pub fn new(
        connections: Connections,
        secrets: Secrets,
        metrics: Arc<Metrics>,
        events: mpsc::Sender<Event>,
    ) -> Self {
        Self {
            connections,
            secrets,
            metrics,
            events,
            pollers: BTreeMap::new(),
        }
    }

    /// Starts, stops and instructs pollers as the world needs them.
    pub fn follow(&mut self, world: &mut World) {
        self.pollers.retain(|id, _| world.miners.get(id).is_some());
        let gone: Vec<Id> = world
            .chains
            .keys()
            .filter(|id| world.miners.get(id).is_none())
            .cloned()
            .collect();
        for id in gone {
            world.chains.remove(&id);
            self.connections.set(&id, None);
        }
        for (id, miner) in world.miners.iter() {
            let target = Target {
                spec: miner.spec.clone(),
                questions: questions(world, id, miner),
            };
            if let Some(poller) = self.pollers.get(id) {
                poller.target.send_if_modified(|old| {
                    let news = *old != target;
                    *old = target;
                    news
                });
            } else {
                let poller = self.start(id, miner, target);
                self.pollers.insert(id.clone(), poller);
            }
        }
    }

    fn start(&self, id: &Id, miner: &Miner, target: Target) -> Poller {
        let (sender, receiver) = watch::channel(target);
        let poll = poll::Poll::new(
            id.clone(),
            miner.spec.clone(),
            self.connections.clone(),
            self.secrets.clone(),
            self.metrics.clone(),
        );
        let task = tokio::spawn(run(poll, receiver, self.events.clone())).abort_handle();
        Poller {
            target: sender,
            task,
        }
    }
}

/// Polls for ever: by its own timer, and at once when there are new questions.
async fn run(
    mut poll: poll::Poll,
    mut targets: watch::Receiver<Target>,
    events: mpsc::Sender<Event>,
) {
    /// Questions of one plan come together.
    const COALESCE: Duration = Duration::from_millis(50);
    loop {
        let target = targets.borrow_and_update().clone();
        let (change, pause) = poll.poll(&target.spec, &target.questions).await;
        if let Some(change) = change
            && events.send(Event::Change(change)).await.is_err()
        {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            changed = targets.changed() => {
                if changed.is_err() {
                    return;
                }
                tokio::time::sleep(COALESCE).await;
            }
        }
    }
}

/// How long to wait after a poll: half an epoch, within bounds.
fn pause(block_delay_secs: u64) -> Duration {
    let half = Duration::from_millis(block_delay_secs.saturating_mul(500));
    half.clamp(Duration::from_millis(500), Duration::from_secs(10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polls_come_twice_an_epoch_within_bounds() {
        assert_eq!(pause(30), Duration::from_secs(10));
        assert_eq!(pause(4), Duration::from_secs(2));
        assert_eq!(pause(0), Duration::from_millis(500));
    }
}
