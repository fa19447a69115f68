//! Role `prove`: proves the partitions of a miner, deadline by deadline.
//!
//! ```text
//! chain ─► deadlines, partitions ─► decide ─► read, SNARK, verify ─► PostBatch status.prover
//! ```
//! The chain alone says what is due, so proofs are made while the operator is down. Effects: child
//! processes; the prover's part of its `PostBatch`; a condition on its pod. Never: a proof reported
//! that was not verified here against the sectors that it speaks of.

mod faults;
mod plan;
mod recheck;
mod tell;
mod work;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use filstar_chain::{
    ActorId, Endpoint, Endpoints, Epoch, Network, Node,
    endpoints::{Healthy, Policy},
    node::{MinerReader, RandomnessReader},
    proving::{DeadlineInfo, Window},
    randomness::{Tag, miner_entropy},
    types::bitfield,
};
use filstar_crds::{ProverReport, parse_duration};
use filstar_sealing::{Hash32, SealProof, task::Replica};
use jiff::Timestamp;
use kube::Client;

use self::{
    faults::Faults,
    plan::{Decision, Known, Partition, Slot, decide, remember},
    recheck::Readings,
    tell::{Told, report},
    work::{Done, Job, NOWHERE, Prover},
};
use crate::{
    child::Starter,
    commitment::{self, Kind},
    disks,
    http::{self, Health},
    metrics::Metrics,
    placement::{self, Asked},
    pod, settings,
};

/// Most sectors that a partition has on any network.
const MAX_SECTORS: u64 = 1 << 16;

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
    client: Client,
    health: Health,
    metrics: Metrics,
    prover: Prover,
    reports: BTreeMap<Slot, ProverReport>,
    /// Opening and randomness that a report's proof was checked with.
    checked: BTreeMap<Slot, (Epoch, Hash32)>,
    told: Option<Told>,
    faults: Faults,
    /// Faulty sectors that are being read.
    readings: Readings,
    placement_told: bool,
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
        let threads = placement::find(&Asked::default()).cpus.len().max(1);
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
            settings,
            client,
            health,
            metrics,
            prover,
            reports: BTreeMap::new(),
            checked: BTreeMap::new(),
            told: None,
            faults: Faults::default(),
            readings: Readings::default(),
            placement_told: false,
            recalls: 0,
        })
    }
}

async fn run(mut role: Role) -> anyhow::Result<()> {
    let mut pause = Duration::from_secs(1);
    let mut recalled = false;
    loop {
        if !recalled {
            recalled = role.recall().await;
        }
        role.tell_placement().await;
        if recalled {
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
        tokio::time::sleep(pause).await;
    }
}

impl Role {
    /// One look at the chain, and the proofs that are due. Returns the pause until the next look.
    async fn turn(&mut self) -> anyhow::Result<Duration> {
        let now = u64::try_from(Timestamp::now().as_second()).unwrap_or_default();
        let at = self.chain.healthy(now).await.map_err(|e| anyhow!("{e}"))?;
        let info = at.node.proving_deadline(self.actor, &at.head.key).await?;
        let challenged = |w: &Window| w.is_challenged(at.head.height);
        let mut windows: Vec<_> = info.upcoming().into_iter().filter(challenged).collect();
        windows.sort_unstable();
        let submissions = at.node.deadlines(self.actor, &at.head.key).await?;
        for window in windows {
            let index = usize::try_from(window.deadline)?;
            let proven = submissions
                .get(index)
                .map(|d| numbers(&d.post_submissions))
                .transpose()?;
            self.window(&at, &info, &window, &proven.unwrap_or_default())
                .await?;
        }
        self.recheck(&at, &info).await?;
        let epoch = Duration::from_secs(at.params.block_delay_secs);
        Ok((epoch / 2).clamp(Duration::from_millis(500), Duration::from_secs(10)))
    }

    async fn window(
        &mut self,
        at: &Healthy,
        info: &DeadlineInfo,
        window: &Window,
        proven: &BTreeSet<u64>,
    ) -> anyhow::Result<()> {
        let partitions = at
            .node
            .partitions(self.actor, window.deadline, &at.head.key)
            .await?;
        if partitions.is_empty() {
            return Ok(());
        }
        let entropy = miner_entropy(self.actor);
        let tag = Tag::WindowedPostChallengeSeed;
        let drawn = at
            .node
            .randomness_from_beacon(tag, window.challenge, &entropy, &at.head.key)
            .await?;
        let randomness = Hash32(drawn).in_field();
        for (index, raw) in (0u64..).zip(&partitions) {
            let slot = Slot {
                deadline: window.deadline,
                partition: index,
            };
            let partition = Partition {
                live: numbers(&raw.live_sectors)?,
                faulty: numbers(&raw.faulty_sectors)?,
                recovering: numbers(&raw.recovering_sectors)?,
                submitted: proven.contains(&index),
            };
            let known = self.known(at, slot, &partition, randomness).await?;
            let epoch = at.head.height;
            let known = known.zip(self.reports.get(&slot));
            let known = known.map(|((holds, found_since), report)| Known {
                report,
                holds,
                found_since,
            });
            match decide(window, epoch, &partition, known.as_ref()) {
                Decision::Prove(sectors) => {
                    self.prove(at, info, window, slot, &sectors, randomness)
                        .await?;
                }
                Decision::Rest(why) => {
                    tracing::debug!(slot.deadline, slot.partition, why, "nothing to prove");
                }
            }
        }
        Ok(())
    }

    /// Whether the proof in our report holds now, and whether a sector that it left out appeared.
    async fn known(
        &mut self,
        at: &Healthy,
        slot: Slot,
        partition: &Partition,
        randomness: Hash32,
    ) -> anyhow::Result<Option<(bool, bool)>> {
        let Some(report) = self.reports.get(&slot).cloned() else {
            return Ok(None);
        };
        let skipped: BTreeSet<u64> = report
            .skipped
            .iter()
            .filter_map(|s| u64::try_from(s.number).ok())
            .collect();
        let missed = report.skipped.iter().filter(|s| s.reason == NOWHERE);
        let missed = missed
            .filter_map(|s| u64::try_from(s.number).ok())
            .collect();
        let found_since = self.prover.appeared(self.actor.0, missed).await;
        let mark = (Epoch(report.open), randomness);
        if self.checked.get(&slot) == Some(&mark) {
            return Ok(Some((true, found_since)));
        }
        let Some(proof) = report.proof.as_ref().and_then(|p| BASE64.decode(p).ok()) else {
            return Ok(Some((false, found_since)));
        };
        // After a restart: the proof is as good as its verification.
        let claimed: BTreeSet<u64> = partition.to_prove().difference(&skipped).copied().collect();
        let (proof_type, sectors) = self.sectors(at, &claimed).await?;
        let job = Job {
            actor: self.actor.0,
            proof_type,
            randomness,
            sectors,
        };
        let replicas = job.sectors.iter().map(|(n, r)| Replica {
            number: *n,
            comm_r: *r,
        });
        let holds = self.prover.holds(&job, replicas.collect(), proof).await;
        if holds {
            self.checked.insert(slot, mark);
        }
        Ok(Some((holds, found_since)))
    }

    async fn prove(
        &mut self,
        at: &Healthy,
        info: &DeadlineInfo,
        window: &Window,
        slot: Slot,
        sectors: &BTreeSet<u64>,
        randomness: Hash32,
    ) -> anyhow::Result<()> {
        let begin = Instant::now();
        // Nothing is as urgent as a proof: what is not read by now is read again later.
        self.readings = Readings::default();
        let (proof_type, sectors) = self.sectors(at, sectors).await?;
        let count = sectors.len();
        tracing::info!(
            slot.deadline,
            slot.partition,
            sectors = count,
            "proving begins"
        );
        let job = Job {
            actor: self.actor.0,
            proof_type,
            randomness,
            sectors,
        };
        let commit = at
            .node
            .randomness_from_tickets(Tag::PostChainCommit, window.challenge, &[], &at.head.key)
            .await?;
        let done = self.prover.prove(&job).await;
        let took = begin.elapsed();
        self.count(&done, took);
        let outcome = done
            .proof
            .as_ref()
            .err()
            .map(ToString::to_string)
            .unwrap_or_default();
        let skipped = done.skipped.len();
        tracing::info!(
            slot.deadline,
            slot.partition,
            ?took,
            skipped,
            outcome,
            "proving ended"
        );
        let report = report(window, slot, &job, done, commit, took);
        if report.proof.is_some() {
            self.checked.insert(slot, (window.open, randomness));
        }
        let forget_before = at.head.height - 2 * info.proving_period;
        remember(&mut self.reports, slot, report, forget_before);
        self.tell().await;
        Ok(())
    }

    /// Proof type and `CommR` of sectors, as the chain knows them.
    async fn sectors(
        &self,
        at: &Healthy,
        sectors: &BTreeSet<u64>,
    ) -> anyhow::Result<(SealProof, BTreeMap<u64, Hash32>)> {
        let filter = bitfield::of(sectors.iter().copied())?;
        let infos = at
            .node
            .sectors(self.actor, Some(&filter), &at.head.key)
            .await?;
        let mut replicas = BTreeMap::new();
        let mut proof_type = None;
        for info in infos {
            let hash = commitment::from_cid(Kind::Replica, &info.sealed_cid)?;
            replicas.insert(info.sector_number.0, hash);
            proof_type = Some(info.seal_proof.number());
        }
        let proof_type = proof_type.and_then(SealProof::from_number);
        let proof_type = proof_type.context("the chain names no seal proof that we can prove")?;
        if replicas.len() != sectors.len() {
            anyhow::bail!(
                "the chain knows {} of {} sectors",
                replicas.len(),
                sectors.len()
            );
        }
        Ok((proof_type, replicas))
    }

    fn count(&self, done: &Done, took: Duration) {
        let outcome = done.proof.as_ref().err().map(|f| f.class.to_string());
        let outcome = outcome.as_deref().unwrap_or("Succeeded");
        self.metrics
            .tasks
            .with_label_values(&["WindowPost", outcome])
            .inc();
        self.metrics
            .seconds
            .with_label_values(&["WindowPost"])
            .observe(took.as_secs_f64());
        for class in &done.classes {
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

fn numbers(bits: &filstar_chain::BitField) -> anyhow::Result<BTreeSet<u64>> {
    Ok(bitfield::numbers(bits, MAX_SECTORS)?.into_iter().collect())
}
