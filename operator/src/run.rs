//! The loop: wait for a change, plan, apply, say how it stands.
//!
//! In: changes of watchers and pollers, the Lease. Out: nothing; it ends when it is told to, or the Lease is lost.
//! Never: a plan before every kind was listed; a write without the Lease; one object's failure holds up another.

mod lane;
mod pacing;
mod perform;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::Client;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use filstar_core::world::{Changes, Id, Now, World};
use filstar_core::{plan, status};
use filstar_crds::{ChainMessage, Sector};

use crate::apply::Applier;
use crate::config::Config;
use crate::events::Recorder;
use crate::lease::{self, Identity, Role};
use crate::metrics::Metrics;
use crate::observe::{Connections, Observer};
use crate::secrets::Secrets;
use crate::serve;
use crate::watch::{self as watches, Event};

use pacing::Pacing;
use perform::Outcome;

/// Changes that come within this time make one plan.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// A plan is made at least so often, since some decisions wait for a time.
const TICK: Duration = Duration::from_secs(30);
/// After a change of a sector or a pod the whole is planned anew so much later; what follows from the change itself is
/// planned at once.
const WHOLE: Duration = Duration::from_secs(1);
/// More changes at once are planned as a whole.
const MANY: usize = 64;
/// How long writes under way may take after we are told to end.
const DRAIN: Duration = Duration::from_secs(6);
/// After a start the first plan waits so long for the first word of each chain, so that nothing is said of a chain
/// that was only not asked yet.
const FIRST_WORD: Duration = Duration::from_secs(5);
/// Events that wait for the owner of the world.
const BACKLOG: usize = 256;

/// Why the loop ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody else may lead now.
    #[error("the Lease is lost: ending, so that nothing is written twice")]
    LeaseLost,
    /// No client can be made.
    #[error("the API server cannot be addressed: {0}")]
    Client(#[from] kube::Error),
    /// No configuration of the API server was found.
    #[error("no way to the API server: run in a cluster or set KUBECONFIG: {0}")]
    Config(#[from] kube::config::InferConfigError),
    /// The address is taken, or not ours.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// Two figures have one name.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// A signal cannot be listened for.
    #[error("signals: {0}")]
    Signal(std::io::Error),
}

/// Runs the control plane until SIGTERM or SIGINT.
///
/// # Errors
/// Any: all end the process.
pub async fn run(config: Config) -> Result<(), Error> {
    let client = client().await?;
    let metrics = Arc::new(Metrics::new()?);
    let synced = Arc::new(AtomicBool::new(false));
    let (role_sender, role) = watch::channel(Role::Unknown);
    let (stop_sender, stop) = watch::channel(false);
    let state = serve::State {
        metrics: metrics.clone(),
        synced: synced.clone(),
        role: role.clone(),
    };
    let address = config.listen;
    let server = tokio::spawn(async move { serve::serve(address, state).await });
    let election = lease::elect(
        client.clone(),
        identity(&config),
        Arc::new(role_sender),
        stop,
    );
    let election = tokio::spawn(election);

    let brain = Brain::new(client, &config, role, metrics, synced);
    let signal = shutdown_signal()?;
    let result = tokio::select! {
        result = brain.live(signal) => result,
        served = server => match served {
            Ok(Err(source)) => Err(Error::Listen { address, source }),
            Ok(Ok(())) | Err(_) => Ok(()),
        },
    };
    if result.is_ok() {
        // Only now nothing writes any more, so that somebody else may.
        stop_sender.send_replace(true);
        drop(tokio::time::timeout(DRAIN, election).await);
    }
    result
}

/// A client without retries of its own: whoever calls knows better when to try again.
async fn client() -> Result<Client, Error> {
    let mut config = kube::Config::infer().await?;
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(5));
    Ok(Client::try_from(config)?)
}

fn identity(config: &Config) -> Identity {
    let pod = config.pod_name.clone().filter(|name| !name.is_empty());
    let base = pod.clone().unwrap_or_else(|| "filstar-operator".into());
    Identity {
        namespace: config.lease_namespace.clone(),
        name: config.lease_name.clone(),
        holder: format!("{base}_{}", uuid::Uuid::new_v4()),
        pod,
    }
}

/// Becomes true when we are told to end.
fn shutdown_signal() -> Result<watch::Receiver<bool>, Error> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signal)?;
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("told to end");
        sender.send_replace(true);
    });
    Ok(receiver)
}

/// The single owner of the world.
struct Brain {
    client: Client,
    world: World,
    events: mpsc::Receiver<Event>,
    outcomes: mpsc::Receiver<Outcome>,
    outcomes_sender: mpsc::Sender<Outcome>,
    /// Kinds that were listed once, by plural.
    listed: BTreeSet<&'static str>,
    synced: Arc<AtomicBool>,
    role: watch::Receiver<Role>,
    applier: Applier,
    observer: Observer,
    recorder: Recorder,
    metrics: Arc<Metrics>,
    pacing: Pacing,
    /// Miners whose chain actions are under way.
    busy: BTreeSet<Id>,
    lanes: JoinSet<()>,
    /// Whether the world was read anew since we lead.
    leading: bool,
    /// When the first plan might have been made.
    ready: Option<Instant>,
    /// When the oldest change came that no plan has seen.
    dirty: Option<Instant>,
    planner: plan::Planner,
    /// Whether something changed that only a plan of the whole sees.
    whole: bool,
    /// When the whole was planned last, and whether only changes were planned since.
    planned: Instant,
    owed: bool,
}

impl Brain {
    fn new(
        client: Client,
        config: &Config,
        role: watch::Receiver<Role>,
        metrics: Arc<Metrics>,
        synced: Arc<AtomicBool>,
    ) -> Self {
        let (sender, events) = mpsc::channel(BACKLOG);
        let (outcomes_sender, outcomes) = mpsc::channel(BACKLOG);
        let connections = Connections::default();
        let secrets = Secrets::new(client.clone());
        watches::start(&client, &sender);
        let observer = Observer::new(
            connections.clone(),
            secrets.clone(),
            metrics.clone(),
            sender,
        );
        let applier = Applier::new(
            client.clone(),
            role.clone(),
            connections,
            secrets,
            metrics.clone(),
        );
        Self {
            recorder: Recorder::start(client.clone(), config.pod_name.clone()),
            client,
            world: World {
                settings: config.settings(),
                ..World::default()
            },
            events,
            outcomes,
            outcomes_sender,
            listed: BTreeSet::new(),
            synced,
            role,
            applier,
            observer,
            metrics,
            pacing: Pacing::default(),
            busy: BTreeSet::new(),
            lanes: JoinSet::new(),
            leading: false,
            ready: None,
            dirty: None,
            planner: plan::Planner::default(),
            whole: true,
            planned: Instant::now(),
            owed: false,
        }
    }

    async fn live(mut self, mut stop: watch::Receiver<bool>) -> Result<(), Error> {
        let mut last = Instant::now();
        loop {
            let due = self.due(last);
            tokio::select! {
                stopped = stop.wait_for(|stop| *stop) => {
                    drop(stopped);
                    self.drain().await;
                    return Ok(());
                }
                changed = self.role.changed() => {
                    if changed.is_err() || *self.role.borrow_and_update() == Role::Lost {
                        return Err(Error::LeaseLost);
                    }
                    self.take_note();
                }
                Some(event) = self.events.recv() => self.absorb(event),
                Some(outcome) = self.outcomes.recv() => self.settle(outcome),
                () = tokio::time::sleep_until(due.into()) => {
                    last = Instant::now();
                    self.round().await;
                }
            }
        }
    }

    /// When the next round is due.
    fn due(&self, last: Instant) -> Instant {
        let tick = last + TICK;
        let dirty = self.dirty.map(|since| since + DEBOUNCE);
        let owed = self.owed.then(|| self.planned + WHOLE);
        [dirty, owed, self.pacing.next()]
            .into_iter()
            .flatten()
            .fold(tick, Instant::min)
    }

    /// Leading begins or goes on: only the first is news.
    fn take_note(&mut self) {
        let leads = self.role.borrow().leads();
        self.metrics.set_leader(leads);
        if leads && !self.leading {
            self.touch();
        }
    }

    fn touch(&mut self) {
        self.dirty.get_or_insert_with(Instant::now);
    }

    fn absorb(&mut self, event: Event) {
        match event {
            Event::Change(change) => {
                if self.take_in(change) {
                    self.touch();
                }
            }
            Event::Synced(plural) => {
                self.listed.insert(plural);
                if self.listed.len() == watches::PLURALS.len()
                    && !self.synced.swap(true, Ordering::AcqRel)
                {
                    tracing::info!("every kind is listed");
                    self.touch();
                }
            }
        }
    }

    /// Takes a change in; notes if it is of a kind that only a plan of the whole sees.
    fn take_in(&mut self, change: crate::watch::Change) -> bool {
        let before = self.world.small_changes();
        let news = change(&mut self.world);
        self.whole |= news && self.world.small_changes() == before;
        news
    }

    /// Plans what follows from a few changes alone, if that is all that happened.
    async fn small_round(&mut self, changes: &Changes) -> bool {
        let due = self.owed && self.planned.elapsed() >= WHOLE;
        let many = changes.sectors.len() + changes.pods.len() > MANY;
        let none = changes.sectors.is_empty() && changes.pods.is_empty();
        if self.whole || changes.other || many || none || due || !self.leading {
            return false;
        }
        let now = Now {
            wall: Timestamp::now(),
        };
        self.owed = true;
        let timer = self.metrics.plan_seconds.start_timer();
        let actions = self.planner.changed(&self.world, now, changes);
        timer.observe_duration();
        self.perform(actions).await;
        true
    }

    /// One plan and what follows from it.
    async fn round(&mut self) {
        self.dirty = None;
        self.pacing.forget_old();
        let changes = self.world.take_changes();
        let may = self.synced.load(Ordering::Acquire) && self.role.borrow().leads();
        if may && self.small_round(&changes).await {
            return;
        }
        self.whole = false;
        self.owed = false;
        self.planned = Instant::now();
        if !self.synced.load(Ordering::Acquire) {
            self.planner.forget();
            return;
        }
        self.observer.follow(&mut self.world);
        if self.role.borrow().leads() && self.begin_to_lead().await && self.has_heard() {
            let now = Now {
                wall: Timestamp::now(),
            };
            let timer = self.metrics.plan_seconds.start_timer();
            let actions = self.planner.whole(&self.world, now, &changes);
            timer.observe_duration();
            self.perform(actions).await;
            let said = status::with_fleet(&self.world, now, self.planner.fleet());
            self.perform(said).await;
            // What was written may raise new questions.
            self.observer.follow(&mut self.world);
        } else {
            self.planner.forget();
        }
        self.metrics.observe(&self.world, Timestamp::now());
    }

    /// Before the first write: what the leader before us wrote last must be known.
    async fn begin_to_lead(&mut self) -> bool {
        if self.leading {
            return true;
        }
        let read = async {
            watches::refresh::<Sector>(&self.client, &mut self.world).await?;
            watches::refresh::<ChainMessage>(&self.client, &mut self.world).await
        };
        match tokio::time::timeout(DRAIN, read).await {
            Ok(Ok(())) => self.leading = true,
            Ok(Err(error)) => {
                tracing::warn!(%error, "cannot begin to lead yet: sectors and messages cannot be listed");
            }
            Err(_elapsed) => tracing::warn!("cannot begin to lead yet: listing takes too long"),
        }
        if !self.leading {
            self.touch();
        }
        self.leading
    }

    /// Whether each chain was heard of, or had its time.
    fn has_heard(&mut self) -> bool {
        let since = *self.ready.get_or_insert_with(Instant::now);
        let (miners, chains) = (&self.world.miners, &self.world.chains);
        let heard =
            since.elapsed() > FIRST_WORD || miners.iter().all(|(id, _)| chains.contains_key(id));
        if !heard {
            self.touch();
        }
        heard
    }

    /// Lets writes under way end.
    async fn drain(mut self) {
        let all = async { while self.lanes.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, all).await.is_err() {
            tracing::warn!("some calls of chain nodes did not end in time");
        }
    }
}
