//! Role `seal`: a sector's kubelet. Watches the Sectors of its group, runs the tasks bound to its
//! own pod in child processes, reports.
//!
//! ```text
//! watch ─► sectors ─► decide ─► start, cancel ─► child processes
//!                                                  │ progress, end
//!                   Sector status.sealer ◄─ reports ◄─┘
//! ```
//! Effects: child processes; the status of Sectors whose task is ours; the capacity of stores, and sweeps of them; a
//! condition and an annotation on our pod. Never: two runs of one sector at once; a report about a task that is no
//! longer in its Sector.

mod batch;
mod decide;
mod input;
mod report;
mod start;
mod sweep;
mod tell;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::Context;
use filstar_crds::{PerCore, Progress, Sector, TaskResult, TaskState, labels};
use filstar_sealing::Output;
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{
    Api, Client, ResourceExt,
    core::DeserializeGuard,
    runtime::{WatchStreamExt, watcher},
};
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
};

use self::{
    batch::Waiting,
    decide::{decide, ours},
    input::Folders,
    report::{Reports, report},
    start::Lane,
    tell::Called,
};
use crate::{
    child::Starter,
    disks,
    http::{self, Health},
    metrics::Metrics,
    placement::{self, Asked, Verdict},
    pod, pool,
    settings::{self, Policy},
    wire::{self, Failure},
};

/// Reports that wait, placement and probes are looked at this often.
const TICK: Duration = Duration::from_secs(1);
/// What the kernel gave us is looked at this often.
const PLACEMENT_EVERY: Duration = Duration::from_mins(1);
/// Longest text of an error that the API takes.
const MAX_ERROR_CHARS: usize = 4000;

/// Runs until the pod is asked to stop.
///
/// # Errors
/// When the pod's surroundings are not as they must be; what may get better is waited for.
pub(crate) async fn main(settings: settings::Seal) -> anyhow::Result<()> {
    let (health, metrics) = (Health::new(), Metrics::new()?);
    http::serve(settings.pod.listen, health.clone(), metrics.clone())
        .await
        .with_context(|| format!("cannot listen on {}", settings.pod.listen))?;
    let client = pod::connect().await?;
    let sealer = Sealer::new(settings, client, health, metrics)?;
    let sweeps = sweep::run(
        sealer.settings.pod.clone(),
        sealer.client.clone(),
        sealer.starter.clone(),
        sealer.metrics.clone(),
    );
    tokio::select! {
        stopped = pod::stopped() => stopped,
        ended = sealer.run() => ended,
        ended = sweeps => ended,
    }
}

/// What a child process told.
enum Event {
    Progress(wire::Progress),
    End(Box<Result<Output, Failure>>),
}

/// Sector, task id and what was told.
type Told = (String, String, Event);

struct Running {
    task_id: String,
    kind: &'static str,
    started: Timestamp,
    process: AbortHandle,
}

struct Sealer {
    settings: settings::Seal,
    folders: Folders,
    client: Client,
    health: Health,
    metrics: Metrics,
    starter: Starter,
    sectors: BTreeMap<String, Sector>,
    /// Sectors of a listing that is not complete yet.
    listing: Option<BTreeMap<String, Sector>>,
    synced: bool,
    running: BTreeMap<String, Running>,
    reports: Reports,
    /// Calls of the API server under way: nothing here waits for them.
    calls: JoinSet<Called>,
    asked: Asked,
    /// CPUs that we may use.
    cpus: usize,
    /// The cores that they are on.
    cores: usize,
    /// PC1 tasks that wait for others to share a core with.
    waiting: Waiting,
    per_core: PerCore,
    /// What the group said of our lane, and when it was asked.
    lane: Option<(Instant, Lane)>,
    verdict: Verdict,
    verdict_told: Option<Verdict>,
    verdict_telling: bool,
    verdict_read: Instant,
    verdict_tries: u32,
    disks: disks::Watch,
    disks_telling: bool,
    /// Stores of which it is to be told how full they are, and since when.
    landed: BTreeMap<String, Instant>,
    events: (mpsc::UnboundedSender<Told>, mpsc::UnboundedReceiver<Told>),
}

impl Sealer {
    fn new(
        settings: settings::Seal,
        client: Client,
        health: Health,
        metrics: Metrics,
    ) -> anyhow::Result<Self> {
        let asked = settings.asked()?;
        let found = placement::settle(&asked);
        let verdict = placement::judge(&found, &asked);
        tracing::info!(verified = verdict.verified, "{}", verdict.message);
        let starter = Starter::new(
            &settings.pod.params,
            &settings.pod.tmp,
            found.cpus.len().max(1),
        )?
        .sharing(pool::Shared::new(&settings.pod.tmp, settings.pool_bytes));
        let folders = Folders {
            scratch: settings.scratch.clone(),
            stores: settings.pod.stores.clone(),
        };
        let disks = disks::Watch::new(Some(folders.scratch.clone()), folders.stores.clone());
        Ok(Self {
            settings,
            disks,
            disks_telling: false,
            landed: BTreeMap::new(),
            folders,
            client,
            health,
            metrics,
            starter,
            sectors: BTreeMap::new(),
            listing: None,
            synced: false,
            running: BTreeMap::new(),
            reports: Reports::default(),
            calls: JoinSet::new(),
            asked,
            cpus: found.cpus.len().max(1),
            cores: placement::cores(&found.cpus),
            waiting: Waiting::default(),
            per_core: PerCore::default(),
            lane: None,
            verdict,
            verdict_told: None,
            verdict_telling: false,
            verdict_read: Instant::now(),
            verdict_tries: 0,
            events: mpsc::unbounded_channel(),
        })
    }

    async fn run(mut self) -> anyhow::Result<()> {
        // One object that we cannot read must not hide the others.
        let api: Api<DeserializeGuard<Sector>> =
            Api::namespaced(self.client.clone(), &self.settings.pod.namespace);
        let label = format!("{}={}", labels::GROUP, self.settings.group);
        let config = watcher::Config::default().labels(&label);
        let mut watch = watcher(api, config).default_backoff().boxed();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = watch.next() => match event {
                    Some(Ok(event)) => self.watched(event),
                    Some(Err(e)) => self.call_failed("watch sectors", &e),
                    None => anyhow::bail!("the watch of Sectors ended"),
                },
                Some((sector, task_id, event)) = self.events.1.recv() => {
                    self.heard(&sector, &task_id, event);
                }
                Some(called) = self.calls.join_next() => self.answered(called),
                _ = tick.tick() => self.look_around(),
            }
            self.act().await;
            self.tell();
            self.health.turn();
            self.health.ready(self.not_ready());
        }
    }

    fn watched(&mut self, event: watcher::Event<DeserializeGuard<Sector>>) {
        match event {
            watcher::Event::Init => self.listing = Some(BTreeMap::new()),
            watcher::Event::InitApply(s) => put(self.listing.get_or_insert_default(), s),
            watcher::Event::InitDone => {
                self.sectors = self.listing.take().unwrap_or_default();
                self.synced = true;
            }
            watcher::Event::Apply(s) => put(&mut self.sectors, s),
            watcher::Event::Delete(s) => drop(self.sectors.remove(&s.name_any())),
        }
        let (sectors, uid) = (&self.sectors, &self.settings.pod.uid);
        self.reports.retain(|name, report| {
            let task = sectors.get(name).and_then(|s| ours(s, uid));
            task.is_some_and(|t| t.id == report.task_id)
        });
    }

    async fn act(&mut self) {
        if !self.synced {
            return;
        }
        let running = self
            .running
            .iter()
            .map(|(n, r)| (n.clone(), r.task_id.clone()))
            .collect();
        let may = self.may_compute();
        let known = self.reports.known();
        let uid = &self.settings.pod.uid;
        let actions = decide(&self.sectors, uid, &running, &known, may);
        self.carry_out(actions).await;
    }

    fn heard(&mut self, name: &str, task_id: &str, event: Event) {
        let Some(running) = self.running.get(name).filter(|r| r.task_id == task_id) else {
            return;
        };
        match event {
            Event::Progress(p) => {
                let mut now = report(task_id, TaskState::Running, running.started);
                let detail = p.detail.chars().take(250).collect();
                now.progress = Some(Progress {
                    percent: p.percent.min(100),
                    detail,
                });
                self.reports.set(name, now);
            }
            Event::End(ended) => {
                let (kind, started) = (running.kind, running.started);
                self.running.remove(name);
                self.metrics.running.dec();
                let landed = matches!(*ended, Ok(Output::Land(_)));
                let result = self.sectors.get(name).map_or_else(
                    || {
                        Err(Failure::new(
                            filstar_sealing::Class::Temporary,
                            "the Sector is gone",
                        ))
                    },
                    |sector| ended.and_then(|output| input::result(sector, output)),
                );
                let ok = result.is_ok();
                self.end(name, task_id, kind, started, result);
                if landed && ok {
                    self.landed_in_its_store(name);
                }
            }
        }
    }

    fn end(
        &mut self,
        name: &str,
        task_id: &str,
        kind: &'static str,
        started: Timestamp,
        result: Result<TaskResult, Failure>,
    ) {
        let now = Timestamp::now();
        let seconds = now.duration_since(started).as_secs_f64();
        let mut end = report(task_id, TaskState::Succeeded, started);
        end.finished = Some(Time(now));
        let outcome = match result {
            Ok(result) => {
                tracing::info!(sector = name, task = task_id, seconds, "task succeeded");
                end.result = Some(result);
                "Succeeded".to_owned()
            }
            Err(failure) => {
                tracing::error!(sector = name, task = task_id, seconds, %failure, "task failed");
                end.state = TaskState::Failed;
                end.error_class = Some(wire::task_class(failure.class));
                end.error = Some(failure.message.chars().take(MAX_ERROR_CHARS).collect());
                failure.class.to_string()
            }
        };
        self.metrics
            .tasks
            .with_label_values(&[kind, outcome.as_str()])
            .inc();
        self.metrics
            .seconds
            .with_label_values(&[kind])
            .observe(seconds);
        self.reports.set(name, end);
    }

    fn look_around(&mut self) {
        if self.verdict_read.elapsed() >= PLACEMENT_EVERY {
            self.verdict = placement::judge(&placement::find(&self.asked), &self.asked);
            self.verdict_read = Instant::now();
            self.verdict_tries = 0;
        }
        self.metrics.placed.set(i64::from(self.verdict.verified));
        self.tell_disks();
        self.tell_stores();
        self.tell_placement();
    }

    fn may_compute(&self) -> bool {
        self.verdict.verified || self.settings.placement_policy == Policy::Preferred
    }

    fn not_ready(&self) -> Option<String> {
        if !self.may_compute() {
            return Some(self.verdict.message.clone());
        }
        (!self.synced).then(|| "the Sectors were not listed yet".to_owned())
    }

    fn call_failed(&self, what: &'static str, error: &dyn std::fmt::Display) {
        tracing::warn!(%error, "cannot {what}: it is tried again");
        self.metrics.call_errors.with_label_values(&[what]).inc();
    }
}

fn put(sectors: &mut BTreeMap<String, Sector>, guard: DeserializeGuard<Sector>) {
    let name = guard.name_any();
    match guard.0 {
        Ok(sector) => drop(sectors.insert(name, sector)),
        Err(e) => {
            tracing::warn!(sector = name, error = %e, "a Sector cannot be read: it is left alone");
            sectors.remove(&name);
        }
    }
}
