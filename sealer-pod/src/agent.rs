//! Role `agent`: says what its node is made of and whether it is well, in the SealingNode of the node's name.
//!
//! In: hwloc, NVML, `/proc`, `/sys`, file systems. Out: `status.inventory` and three conditions, written only when
//! they change, and an event for each condition that turns. The object is made when it is missing, and goes with its
//! Node. Never: a spec, another node's object.

mod clock;
mod disk;
mod eyes;
mod gpu;
mod host;
mod nvml;
mod patient;
mod print;
mod report;
mod topology;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, pin::pin, time::Duration};

use anyhow::Context;
use clap::Args;
use filstar_crds::{Inventory, SealingNode, SealingNodeSpec, managers};
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{Patch, PatchParams, PostParams},
    runtime::{
        WatchStreamExt,
        events::{Event, EventType, Recorder, Reporter},
        watcher::watch_object,
    },
};
use prometheus::{Encoder, GaugeVec, IntCounter, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::{
    http::{self, Health},
    pod,
};
use eyes::Eyes;
use report::{Report, Step, Truth};

/// Flags of the role.
#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    /// Name of the node.
    #[arg(long, env = "NODE_NAME", default_value = "")]
    node_name: String,
    /// Where health and metrics are served.
    #[arg(long, env = "FILSTAR_LISTEN", default_value = "0.0.0.0:9090")]
    listen: SocketAddr,
    /// Directories of the node for sectors in work, separated by commas.
    #[arg(long, env = "FILSTAR_SCRATCH_PATHS", value_delimiter = ',')]
    scratch: Vec<String>,
    /// Where those directories are seen, each under its own path.
    #[arg(long, env = "FILSTAR_HOST", default_value = "/")]
    host: PathBuf,
    /// Kubelet's configuration file, where it can be read.
    #[arg(long, env = "FILSTAR_KUBELET_CONFIG")]
    kubelet_config: Option<PathBuf>,
    /// Recorded GPUs, a JSON file, instead of NVML's.
    #[arg(long, env = "FILSTAR_GPUS")]
    gpus: Option<PathBuf>,
    /// Seconds between two looks.
    #[arg(long, env = "FILSTAR_AGENT_INTERVAL", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    interval: u64,
    /// The XML that `lstopo` wrote of some machine, instead of this machine.
    #[arg(long, requires = "print")]
    topology: Option<PathBuf>,
    /// Print what the agent makes of the machine, and end. No cluster is needed.
    #[arg(long)]
    print: bool,
}

/// Runs the role until the pod is asked to stop, or prints.
pub(crate) async fn main(arguments: Arguments) -> anyhow::Result<()> {
    if arguments.print {
        // Not to the log: this is what was asked for.
        print!("{}", printed(&arguments)?);
        return Ok(());
    }
    anyhow::ensure!(!arguments.node_name.is_empty(), "--node-name is missing");
    Agent::new(&arguments).await?.run(&arguments).await
}

/// What `--print` prints.
fn printed(arguments: &Arguments) -> anyhow::Result<String> {
    let inventory = match &arguments.topology {
        Some(path) => {
            let mut inventory = topology::inventory(&topology::of_file(path)?);
            if let Some(recorded) = &arguments.gpus {
                inventory.gpus = eyes::recorded(recorded, &inventory.gpus)?;
            }
            inventory
        }
        None => eyes::Eyes::new(arguments).look(None)?.inventory,
    };
    Ok(format!(
        "{}{}",
        print::inventory(&inventory),
        planned(&inventory)
    ))
}

/// What the planner makes of the machine, below what the agent makes of it.
fn planned(inventory: &Inventory) -> String {
    filstar_placement::describe(&filstar_placement::Server::of(inventory, None))
}

struct Agent {
    api: Api<SealingNode>,
    client: Client,
    name: String,
    health: Health,
    metrics: Metrics,
    recorder: Recorder,
    eyes: Eyes,
    /// The object as the API server last told it, once `told`.
    live: Option<SealingNode>,
    told: bool,
    report: Option<Report>,
}

impl Agent {
    async fn new(arguments: &Arguments) -> anyhow::Result<Self> {
        let client = pod::connect().await?;
        let reporter = Reporter {
            controller: managers::AGENT.into(),
            instance: Some(arguments.node_name.clone()),
        };
        Ok(Self {
            recorder: Recorder::new(client.clone(), reporter),
            api: Api::all(client.clone()),
            client,
            name: arguments.node_name.clone(),
            health: Health::new(),
            metrics: Metrics::new()?,
            eyes: Eyes::new(arguments),
            live: None,
            told: false,
            report: None,
        })
    }

    async fn run(mut self, arguments: &Arguments) -> anyhow::Result<()> {
        http::serve(arguments.listen, self.health.clone(), self.metrics.clone())
            .await
            .with_context(|| format!("cannot listen on {}", arguments.listen))?;
        let mut objects = pin!(watch_object(self.api.clone(), &self.name).default_backoff());
        let mut looks = tokio::time::interval(Duration::from_secs(arguments.interval));
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut stopped = pin!(pod::stopped());
        loop {
            tokio::select! {
                result = &mut stopped => return result,
                Some(next) = objects.next() => match next {
                    Ok(object) => self.heard(object),
                    Err(error) => {
                        tracing::warn!(%error, "the watch broke; it starts again");
                        self.metrics.call_errors.inc();
                    }
                },
                _ = looks.tick() => self.look(),
            }
            self.health.turn();
            self.act().await;
        }
    }

    /// Takes news of the object, unless it is older than what our own write gave back.
    fn heard(&mut self, object: Option<SealingNode>) {
        let version = |o: &SealingNode| o.resource_version().and_then(|v| v.parse::<u64>().ok());
        if let (Some(known), Some(news)) = (&self.live, &object)
            && known.uid() == news.uid()
            && version(known) > version(news)
        {
            return;
        }
        self.live = object;
        self.told = true;
    }

    fn look(&mut self) {
        let status = self.live.as_ref().and_then(|o| o.status.as_ref());
        let before = status.and_then(|s| s.inventory.as_ref());
        match self.eyes.look(before) {
            Ok(report) => {
                self.metrics.observe(&report);
                self.report = Some(report);
            }
            Err(error) => {
                let why = format!("{error:#}");
                tracing::error!("{why}");
                self.health.ready(Some(why));
            }
        }
    }

    /// One step towards an object that says what we saw.
    async fn act(&mut self) {
        let Some(report) = self.report.as_ref().filter(|_| self.told) else {
            return;
        };
        let result = match report::decide(&self.name, self.live.as_ref(), report, Timestamp::now())
        {
            Step::Nothing => Ok(None),
            Step::Create => self.create().await.map(Some),
            Step::Write(body) => {
                let params = PatchParams::apply(managers::AGENT).force();
                let patch = Patch::Apply(&*body);
                pod::call(self.api.patch_status(&self.name, &params, &patch))
                    .await
                    .map(Some)
            }
        };
        match result {
            Ok(written) => {
                if let Some(object) = written {
                    self.metrics.writes.inc();
                    self.tell(&object).await;
                    self.heard(Some(object));
                }
                self.health.ready(None);
            }
            Err(why) => {
                tracing::warn!(node = self.name, "the SealingNode cannot be written: {why}");
                self.metrics.call_errors.inc();
                self.health.ready(Some(why));
                // The next look tries again; an object that came meanwhile is told by the watch.
                self.report = None;
            }
        }
    }

    /// An event for each condition that our write turned. Best effort: nothing waits for an event.
    async fn tell(&self, written: &SealingNode) {
        let conditions = |o: &SealingNode| o.status.clone().unwrap_or_default().conditions;
        let before = self.live.as_ref().map(conditions).unwrap_or_default();
        for turned in report::turned(&before, &conditions(written)) {
            let event = Event {
                type_: if turned.status == "False" {
                    EventType::Warning
                } else {
                    EventType::Normal
                },
                reason: turned.reason.clone(),
                note: Some(turned.message.chars().take(1000).collect()),
                action: turned.type_.clone(),
                secondary: None,
            };
            if let Err(error) = self
                .recorder
                .publish(&event, &written.object_ref(&()))
                .await
            {
                tracing::debug!(%error, "an event was not published");
            }
        }
    }

    /// Makes the object. It belongs to the Node, so that it goes with it.
    async fn create(&self) -> Result<SealingNode, String> {
        let mut object = SealingNode::new(&self.name, SealingNodeSpec::default());
        object.metadata.owner_references = self.node().await?.map(|node| vec![node]);
        let params = PostParams {
            field_manager: Some(managers::AGENT.into()),
            ..PostParams::default()
        };
        tracing::info!(node = self.name, "making the SealingNode");
        pod::call(self.api.create(&params, &object)).await
    }

    /// Our Node, by what our token says of it: so we need not read Nodes.
    async fn node(&self) -> Result<Option<OwnerReference>, String> {
        const UID: &str = "authentication.kubernetes.io/node-uid";
        let api: Api<SelfSubjectReview> = Api::all(self.client.clone());
        let asked = SelfSubjectReview::default();
        let told = pod::call(api.create(&PostParams::default(), &asked)).await?;
        let extra = told.status.and_then(|s| s.user_info?.extra);
        let uid = extra.and_then(|extra: BTreeMap<_, Vec<_>>| extra.get(UID)?.first().cloned());
        Ok(uid.map(|uid| OwnerReference {
            api_version: "v1".into(),
            kind: "Node".into(),
            name: self.name.clone(),
            uid,
            ..OwnerReference::default()
        }))
    }
}

/// What the agent measures, also between two writes.
#[derive(Clone, Debug)]
struct Metrics {
    registry: Registry,
    writes: IntCounter,
    call_errors: IntCounter,
    conditions: IntGaugeVec,
    gpu_usable: IntGaugeVec,
    free: GaugeVec,
    capacity: GaugeVec,
}

impl Metrics {
    fn new() -> prometheus::Result<Self> {
        let gauges =
            |name: &str, help: &str, labels: &[&str]| GaugeVec::new(Opts::new(name, help), labels);
        let flags = |name: &str, help: &str, labels: &[&str]| {
            IntGaugeVec::new(Opts::new(name, help), labels)
        };
        let metrics = Self {
            registry: Registry::new(),
            writes: IntCounter::new("filstar_agent_writes_total", "Writes of the SealingNode.")?,
            call_errors: IntCounter::new(
                "filstar_agent_call_errors_total",
                "Failed calls of the API server.",
            )?,
            conditions: flags(
                "filstar_agent_condition",
                "1 when the condition is True, 0 when it is False, -1 when it is Unknown.",
                &["condition"],
            )?,
            gpu_usable: flags(
                "filstar_agent_gpu_usable",
                "1 when tasks may run on the GPU.",
                &["uuid"],
            )?,
            free: gauges(
                "filstar_agent_scratch_free_bytes",
                "Free in steps of a hundredth.",
                &["path"],
            )?,
            capacity: gauges("filstar_agent_scratch_capacity_bytes", "Size.", &["path"])?,
        };
        let registry = &metrics.registry;
        registry.register(Box::new(metrics.writes.clone()))?;
        registry.register(Box::new(metrics.call_errors.clone()))?;
        registry.register(Box::new(metrics.conditions.clone()))?;
        registry.register(Box::new(metrics.gpu_usable.clone()))?;
        registry.register(Box::new(metrics.free.clone()))?;
        registry.register(Box::new(metrics.capacity.clone()))?;
        Ok(metrics)
    }

    fn observe(&self, report: &Report) {
        for (name, finding) in report.findings() {
            let value = match finding.truth {
                Truth::True => 1,
                Truth::False => 0,
                Truth::Unknown => -1,
            };
            self.conditions.with_label_values(&[name]).set(value);
        }
        self.gpu_usable.reset();
        for gpu in &report.inventory.gpus {
            let usable = i64::from(gpu.health.usable());
            self.gpu_usable
                .with_label_values(&[gpu.uuid.as_str()])
                .set(usable);
        }
        for disk in &report.inventory.scratch {
            let path = &[disk.path.as_str()];
            self.free.with_label_values(path).set(lossy(disk.free));
            self.capacity
                .with_label_values(path)
                .set(lossy(disk.capacity));
        }
    }
}

impl http::Exposed for Metrics {
    fn text(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if let Err(e) = TextEncoder::new().encode(&self.registry.gather(), &mut out) {
            tracing::error!(error = %e, "metrics cannot be written");
        }
        out
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a figure for people: 53 bits are enough"
)]
fn lossy(bytes: u64) -> f64 {
    bytes as f64
}
