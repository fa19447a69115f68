//! Sweeps: files of sectors that ended on chain are looked for, and removed, in the stores that this pod mounts.
//!
//! ```text
//! watch ─► SectorStores ─► next ─► child process ─► report ─► SectorStore status.sweeper
//! ```
//! A loop of its own, one sweep at a time: a store that hangs holds up no sector. Effects: a child process; the report on
//! stores whose sweep is ours. Never: a sweep that nobody asks for any more goes on.

mod task;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use filstar_crds::{Progress, SectorStore, Sweep, SweepReport, TaskState, managers};
use filstar_sealing::{Class, Output, task::SweepOutput};
use futures::StreamExt;
use jiff::Timestamp;
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams},
    core::DeserializeGuard,
    runtime::{WatchStreamExt, watcher},
};
use serde_json::json;
use tokio::{sync::mpsc, task::AbortHandle};

use self::task::{Asked, ended, next, report, request};
use super::{Event, TICK};
use crate::{child::Starter, metrics::Metrics, pod, settings, wire::Failure};

/// A report that is no end, or that could not be told, waits so long.
const PAUSE: Duration = Duration::from_secs(5);

/// Does what is asked of this pod, for ever.
///
/// # Errors
/// When the watch ends, which it never does.
pub(super) async fn run(
    pod: settings::Pod,
    client: Client,
    starter: Starter,
    metrics: Metrics,
) -> anyhow::Result<()> {
    let api: Api<DeserializeGuard<SectorStore>> = Api::namespaced(client.clone(), &pod.namespace);
    let mut watch = watcher(api, watcher::Config::default())
        .default_backoff()
        .boxed();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (told, mut heard) = mpsc::unbounded_channel();
    let mut sweeper = Sweeper {
        pod,
        client,
        starter,
        metrics,
        told,
        stores: BTreeMap::new(),
        listing: BTreeMap::new(),
        synced: false,
        running: None,
        reports: BTreeMap::new(),
    };
    loop {
        tokio::select! {
            event = watch.next() => match event {
                Some(Ok(event)) => sweeper.watched(event),
                Some(Err(error)) => sweeper.call_failed("watch stores", &error),
                None => anyhow::bail!("the watch of SectorStores ended"),
            },
            Some((id, event)) = heard.recv() => sweeper.heard(&id, event),
            _ = tick.tick() => {}
        }
        sweeper.act();
        sweeper.tell().await;
    }
}

struct Running {
    store: String,
    sweep: Sweep,
    process: AbortHandle,
}

/// A report of ours.
#[derive(Debug)]
struct Known {
    report: SweepReport,
    told: Option<SweepReport>,
    not_before: Option<Instant>,
}

struct Sweeper {
    pod: settings::Pod,
    client: Client,
    starter: Starter,
    metrics: Metrics,
    told: mpsc::UnboundedSender<(String, Event)>,
    /// Sweeps of this pod, by store.
    stores: BTreeMap<String, Asked>,
    /// Those of a listing that is not complete yet.
    listing: BTreeMap<String, Asked>,
    synced: bool,
    running: Option<Running>,
    reports: BTreeMap<String, Known>,
}

impl Sweeper {
    fn watched(&mut self, event: watcher::Event<DeserializeGuard<SectorStore>>) {
        match event {
            watcher::Event::Init => self.listing.clear(),
            watcher::Event::InitApply(s) => put(&mut self.listing, s, &self.pod.uid),
            watcher::Event::InitDone => {
                self.stores = std::mem::take(&mut self.listing);
                self.synced = true;
            }
            watcher::Event::Apply(s) => put(&mut self.stores, s, &self.pod.uid),
            watcher::Event::Delete(s) => drop(self.stores.remove(&s.name_any())),
        }
        let stores = &self.stores;
        self.reports.retain(|store, known| {
            let asked = stores.get(store);
            asked.is_some_and(|a| a.sweep.id == known.report.id)
        });
    }

    fn act(&mut self) {
        if !self.synced {
            return;
        }
        if let Some(running) = &self.running {
            let asked = self.stores.get(&running.store);
            if asked.is_some_and(|a| a.sweep.id == running.sweep.id) {
                return;
            }
            tracing::info!(
                store = running.store,
                sweep = running.sweep.id,
                "cancelled: nobody asks for it"
            );
            running.process.abort();
            self.running = None;
        }
        let ours = self.reports.iter().map(|(store, k)| (store, &k.report));
        let open = next(&self.stores, &ours.collect());
        if let Some(store) = open {
            self.start(&store);
        }
    }

    fn start(&mut self, store: &str) {
        let Some(sweep) = self.stores.get(store).map(|a| a.sweep.clone()) else {
            return;
        };
        let request = match request(&sweep, &self.pod.stores.join(store)) {
            Ok(request) => request,
            Err(failure) => return self.end(store, &sweep, Err(failure)),
        };
        tracing::info!(
            store,
            sweep = sweep.id,
            sectors = ?sweep.sectors,
            "sweep starts"
        );
        let (starter, told, id) = (self.starter.clone(), self.told.clone(), sweep.id.clone());
        let process = tokio::spawn(async move {
            let send = |event| drop(told.send((id.clone(), event)));
            let ended = starter.run(&request, |p| send(Event::Progress(p))).await;
            send(Event::End(Box::new(ended)));
        });
        self.know(store, report(&sweep.id, TaskState::Running));
        self.running = Some(Running {
            store: store.to_owned(),
            sweep,
            process: process.abort_handle(),
        });
    }

    fn heard(&mut self, id: &str, event: Event) {
        let Some(running) = self.running.take_if(|r| r.sweep.id == id) else {
            return;
        };
        match event {
            Event::Progress(p) => {
                let mut now = report(id, TaskState::Running);
                now.progress = Some(Progress {
                    percent: p.percent.min(100),
                    detail: p.detail.chars().take(250).collect(),
                });
                self.know(&running.store, now);
                self.running = Some(running);
            }
            Event::End(ended) => {
                let wrong = || Failure::new(Class::Fatal, "the task process did something else");
                let output = ended.and_then(|output| {
                    if let Output::Sweep(output) = output {
                        Ok(output)
                    } else {
                        Err(wrong())
                    }
                });
                self.end(&running.store, &running.sweep, output);
            }
        }
    }

    fn end(&mut self, store: &str, sweep: &Sweep, output: Result<SweepOutput, Failure>) {
        let end = ended(sweep, output, Timestamp::now());
        let outcome = match (end.state, end.error_class) {
            (TaskState::Failed, Some(class)) => format!("{class:?}"),
            (state, _) => format!("{state:?}"),
        };
        tracing::info!(
            store,
            sweep = sweep.id,
            outcome,
            count = end.count,
            bytes = end.bytes,
            error = end.error,
            "sweep ended"
        );
        self.metrics
            .tasks
            .with_label_values(&["Sweep", outcome.as_str()])
            .inc();
        self.know(store, end);
    }

    fn know(&mut self, store: &str, report: SweepReport) {
        let known = self.reports.entry(store.to_owned()).or_insert(Known {
            report: report.clone(),
            told: None,
            not_before: None,
        });
        if report.state != known.report.state {
            known.not_before = None;
        }
        known.report = report;
    }

    async fn tell(&mut self) {
        let api: Api<SectorStore> = Api::namespaced(self.client.clone(), &self.pod.namespace);
        let mut failed = Vec::new();
        for (store, known) in &mut self.reports {
            let waits = known.not_before.is_some_and(|t| t > Instant::now());
            if waits || known.told.as_ref() == Some(&known.report) {
                continue;
            }
            let patch = json!({
                "apiVersion": "filstar.io/v1alpha1",
                "kind": "SectorStore",
                "metadata": {"name": store},
                "status": {"sweeper": known.report},
            });
            let params = PatchParams::apply(managers::SWEEPER).force();
            let patch = Patch::Apply(&patch);
            match pod::call(api.patch_status(store, &params, &patch)).await {
                Ok(_) => known.told = Some(known.report.clone()),
                Err(e) => failed.push(e),
            }
            known.not_before = Some(Instant::now() + PAUSE);
        }
        for e in failed {
            self.call_failed("report on a sweep", &e);
        }
    }

    fn call_failed(&self, what: &'static str, error: &dyn std::fmt::Display) {
        tracing::warn!(%error, "cannot {what}: it is tried again");
        self.metrics.call_errors.with_label_values(&[what]).inc();
    }
}

fn put(stores: &mut BTreeMap<String, Asked>, guard: DeserializeGuard<SectorStore>, pod_uid: &str) {
    let name = guard.name_any();
    stores.remove(&name);
    match guard.0 {
        Ok(store) => {
            let status = store.status.unwrap_or_default();
            if let Some(sweep) = status.sweep.filter(|s| s.pod_uid == pod_uid) {
                let report = status.sweeper;
                stores.insert(name, Asked { sweep, report });
            }
        }
        Err(e) => {
            tracing::warn!(store = name, error = %e, "a SectorStore cannot be read: it is left alone");
        }
    }
}
