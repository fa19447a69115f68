//! Role `prove`: proves the partitions of a miner, deadline by deadline.
//!
//! ```text
//! chain ─► deadlines, partitions ─► plan ─► read, SNARK, verify ─► PostBatch status.prover
//!   ▲                                │            (beside the loop)
//!   └────────── every few seconds ───┘
//! ```
//! The chain alone says what is due, so proofs are made while the operator is down. The loop never waits for a proof: it goes
//! on to look at the chain, ends what nobody needs any more, and says that it is alive. Effects: child processes; the
//! prover's part of its `PostBatch`; a condition on its pod. Never: a proof reported that was not verified here against the
//! sectors that it speaks of; a partition that cannot be proven keeps the others waiting for ever.

mod ask;
mod faults;
mod fit;
mod hand;
mod notes;
mod plan;
mod recheck;
mod tell;
mod work;

use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use filstar_chain::{
    ActorId, Endpoint, Endpoints, Epoch, Network, Node,
    endpoints::{Healthy, NoneHealthy, Policy},
    node::MinerReader,
};
use filstar_crds::parse_duration;
use jiff::Timestamp;
use kube::Client;
use tokio::time::timeout;

use self::{
    faults::Faults,
    hand::{Ended, Hand, Needs, Outcome},
    notes::{Attempt, Notes},
    plan::{Moment, Step, Stop, Work, patience, plan},
    recheck::Readings,
    tell::Told,
    work::Prover,
};
use crate::{
    child::Starter,
    disks,
    http::{self, Health},
    metrics::Metrics,
    placement::{self, Asked, Verdict},
    pod, settings,
    wire::Failure,
};

/// A look at the chain that takes longer counts as failed. With what is told before and after it a turn stays below what the
/// probe takes for stuck.
const TURN_TIMEOUT: Duration = Duration::from_mins(1);

/// Runs until the pod is asked to stop.
///
/// # Errors
/// When the pod's surroundings are not as they must be; what may get better is waited for.
pub(crate) async fn main(settings: settings::Prove) -> anyhow::Result<()> {
    let (health, metrics) = (Health::new(), Metrics::new()?);
    http::serve(settings.pod.listen, health.clone(), metrics.clone())
        .await
        .with_context(|| format!("cannot listen on {}", settings.pod.listen))?;
    let client = pod::connect().await?;
    let tells = disks::tell(client.clone(), settings.pod.clone());
    tokio::select! {
        stopped = pod::stopped() => stopped,
        never = tells => match never {},
        ended = run(Role::new(settings, client, health, metrics)?) => ended,
    }
}

struct Role {
    settings: settings::Prove,
    actor: ActorId,
    chain: Endpoints,
    /// The node of the look that is under way, or was the last.
    asked: Option<Healthy>,
    client: Client,
    health: Health,
    metrics: Metrics,
    prover: Prover,
    notes: Notes,
    /// The step under way.
    hand: Hand,
    /// The newest epoch that the chain was seen at.
    seen: Epoch,
    /// What the `PostBatch` says of us, and since when we know; none before it was read.
    told: Option<(Told, Instant)>,
    faults: Faults,
    /// Faulty sectors that are being read.
    readings: Readings,
    /// Epoch in which the partitions of faulty sectors were asked for.
    partitions_asked: Epoch,
    /// The CPUs that were promised, and what was told of them.
    promise: Asked,
    verdict_told: Option<Verdict>,
    recalls: u32,
}

impl Role {
    fn new(
        settings: settings::Prove,
        client: Client,
        health: Health,
        metrics: Metrics,
    ) -> anyhow::Result<Self> {
        let network: Network = settings.network.parse()?;
        let nodes = settings.chain.iter().map(|url| {
            let url = url.trim();
            Node::new(Endpoint::new(url, url, None), network)
        });
        let nodes = nodes.collect::<Result<_, _>>()?;
        let policy = Policy {
            network,
            max_lag_epochs: settings.max_lag_epochs,
            genesis: None,
        };
        let asked = settings.pod.asked()?;
        // Before anything is started: task processes inherit it.
        let threads = placement::settle(&asked).cpus.len().max(1);
        let prover = Prover {
            starter: Starter::new(&settings.pod.params, &settings.pod.tmp, threads)?,
            stores: settings.pod.stores.clone(),
            read_timeout: parse_duration(&settings.read_timeout)?,
            readers: threads.min(16),
            tmp: settings.pod.tmp.clone(),
        };
        Ok(Self {
            actor: settings.actor.parse()?,
            chain: Endpoints::new(nodes, policy),
            asked: None,
            settings,
            client,
            health,
            metrics,
            prover,
            notes: Notes::default(),
            hand: Hand::default(),
            seen: Epoch(0),
            told: None,
            faults: Faults::default(),
            readings: Readings::default(),
            partitions_asked: Epoch(0),
            promise: asked,
            verdict_told: None,
            recalls: 0,
        })
    }
}

async fn run(mut role: Role) -> anyhow::Result<()> {
    let mut pause = Duration::from_secs(1);
    loop {
        let begins = role.recall().await;
        role.tell_placement().await;
        if begins {
            match role.turn().await {
                Ok(next) => {
                    pause = next;
                    role.health.ready(None);
                }
                Err(e) => {
                    role.failed("ask the chain", &e);
                    role.health.ready(Some(format!("{e:#}")));
                }
            }
            role.tell().await;
        }
        role.health.turn();
        tokio::select! {
            ended = role.hand.ended() => {
                role.ended(ended);
                // At once: the chain may take its time to answer.
                role.tell().await;
            }
            () = tokio::time::sleep(pause) => {}
        }
    }
}

impl Role {
    /// One look at the chain, and what follows from it. Returns the pause until the next look.
    async fn turn(&mut self) -> anyhow::Result<Duration> {
        let long = || anyhow!("the chain did not answer within {TURN_TIMEOUT:?}");
        let looked = timeout(TURN_TIMEOUT, self.look()).await;
        let looked = looked.unwrap_or_else(|_elapsed| Err(long()));
        // A node with a fine head may fail at all else: the next one is asked.
        if let (Err(_), Some(at)) = (&looked, self.asked.take()) {
            self.chain.demote(&at);
        }
        looked
    }

    async fn look(&mut self) -> anyhow::Result<Duration> {
        let now = u64::try_from(Timestamp::now().as_second()).unwrap_or_default();
        self.asked = None;
        let (at, old) = self.find(now).await?;
        self.asked = Some(at.clone());
        let info = at.node.proving_deadline(self.actor, &at.head.key).await?;
        let (dues, outcome) = self.ask(&at, &info).await;
        self.seen = self.seen.max(at.head.height);
        for due in &dues {
            self.notes.observe(due, at.head.height);
        }
        let two_periods = 2 * info.proving_period;
        self.notes.forget_before(at.head.height - two_periods);
        let epoch_time = Duration::from_secs(at.params.block_delay_secs);
        let moment = Moment {
            epoch: at.head.height,
            now: Timestamp::now(),
            epoch_time,
            read_timeout: self.prover.read_timeout,
        };
        let plan = plan(&dues, &moment, &self.notes, self.hand.running().as_ref());
        if let Some(stop) = plan.stop {
            self.stop(stop);
        }
        if let Some(step) = plan.start {
            self.start(&at, &moment, step);
        }
        outcome?;
        if let Some(old) = old {
            // It is said, and no other node would do better.
            self.asked = None;
            return Err(anyhow!("{old}"));
        }
        self.recheck(&at, &info).await?;
        Ok((epoch_time / 2).clamp(Duration::from_millis(500), Duration::from_secs(10)))
    }

    /// The node to ask. Where all heads are old, or from the future, the highest one, and why no other: the clock of this machine
    /// may be what is wrong, and a proof for an old head costs time at most. Not one that is far behind what was seen.
    async fn find(&mut self, now: u64) -> anyhow::Result<(Healthy, Option<NoneHealthy>)> {
        let found = self.chain.healthy_or_highest(now).await;
        let (at, old) = found.map_err(|e| anyhow!("{e}"))?;
        let lag = i64::try_from(self.settings.max_lag_epochs).unwrap_or(i64::MAX);
        match old {
            Some(old) if self.seen.since(at.head.height) > lag => Err(anyhow!("{old}")),
            old => Ok((at, old)),
        }
    }

    fn needs(&self, at: &Healthy, proof: Option<String>) -> Needs {
        Needs {
            prover: self.prover.clone(),
            actor: self.actor,
            node: at.node.clone(),
            head: at.head.key.clone(),
            proof,
        }
    }

    fn start(&mut self, at: &Healthy, moment: &Moment, step: Step) {
        let (slot, window) = (step.slot, &step.window);
        let (what, sectors) = (step.work.name(), step.work.sectors().len());
        tracing::info!(slot.deadline, slot.partition, what, sectors, "begins");
        // Nothing is as urgent as a proof: what is not read by now is read again later.
        self.readings = Readings::default();
        let report = self.notes.report(slot, window);
        let needs = self.needs(at, report.and_then(|r| r.proof.clone()));
        let patience = patience(&self.notes, window, moment);
        self.hand.start(step, patience, needs);
    }

    fn stop(&mut self, stop: Stop) {
        let Some((step, took)) = self.hand.stop() else {
            return;
        };
        let (slot, what, why) = (step.slot, step.work.name(), stop.why());
        tracing::warn!(slot.deadline, slot.partition, what, ?took, why, "is ended");
        // Of the others nobody needs to know.
        if !matches!(stop, Stop::Closed | Stop::TooLong) {
            return;
        }
        let failure = Failure::new(filstar_sealing::Class::Temporary, why);
        let outcome = match step.work {
            Work::Check(_) => Outcome::Checked(Err(failure)),
            Work::Prove(_) => Outcome::Proven(Attempt::failed(failure)),
            Work::Look(_) => Outcome::Looked(false),
        };
        self.ended(Ended {
            step,
            outcome,
            took,
        });
    }

    /// Notes what came of a step.
    fn ended(&mut self, ended: Ended) {
        let Ended {
            step,
            outcome,
            took,
        } = ended;
        let (slot, what, now) = (step.slot, step.work.name(), Timestamp::now());
        let outcome_text = outcome.name();
        tracing::info!(
            slot.deadline,
            slot.partition,
            what,
            ?took,
            outcome = outcome_text,
            "ended"
        );
        match outcome {
            Outcome::Checked(result) => self.notes.checked(&step, &result, now),
            Outcome::Looked(found) => self.notes.looked(&step, found, now),
            Outcome::Proven(attempt) => {
                self.count(&attempt, took);
                self.notes.proven(&step, attempt, took, now);
            }
        }
    }

    fn count(&self, attempt: &Attempt, took: Duration) {
        let outcome = attempt.proof.as_ref().err().map(|f| f.class.to_string());
        let outcome = outcome.as_deref().unwrap_or("Succeeded");
        self.metrics
            .tasks
            .with_label_values(&["WindowPost", outcome])
            .inc();
        self.metrics
            .seconds
            .with_label_values(&["WindowPost"])
            .observe(took.as_secs_f64());
        for sector in &attempt.skipped {
            let (number, class, reason) = (sector.number, sector.class, &sector.reason);
            tracing::error!(sector = number, %class, reason, "left out of the proof");
            self.metrics
                .skipped
                .with_label_values(&[class.to_string().as_str()])
                .inc();
        }
    }

    fn failed(&self, what: &'static str, error: &dyn std::fmt::Display) {
        tracing::warn!(
            error = format!("{error:#}"),
            "cannot {what}: it is tried again"
        );
        self.metrics.call_errors.with_label_values(&[what]).inc();
    }
}

#[cfg(test)]
mod tests;
