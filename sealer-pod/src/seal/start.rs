//! Starting and cancelling the processes of tasks.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    time::{Duration, Instant},
};

use filstar_crds::{PerCore, Progress, SealingGroup, SealingGroupSpec, TaskKind, TaskState};
use filstar_sealing::{Task, task::Pc1};
use jiff::Timestamp;
use kube::Api;
use tokio::task::AbortHandle;

use super::{
    Event, Running, Sealer,
    batch::Batch,
    decide::{Action, ours},
    input,
    report::report,
};
use crate::{
    child::Told,
    pod,
    wire::{Pc1Together, Request},
};

/// What was read of the lane a moment ago is as good as what would be read now.
const LANE_FRESH: Duration = Duration::from_secs(1);

/// What the group says of our lane.
#[derive(Clone, Debug, Default)]
pub(super) struct Lane {
    /// Of the next task: worker threads by the lane's share of our CPUs, then what the group says.
    env: BTreeMap<String, String>,
    per_core: PerCore,
}

/// A sector whose PC1 is about to start with others.
struct Member {
    name: String,
    task_id: String,
    pc1: Pc1,
}

impl Sealer {
    /// Does what was decided; PC1 tasks may wait for others.
    pub(super) async fn carry_out(&mut self, actions: Vec<Action>) {
        let mut pc1 = BTreeSet::new();
        for action in actions {
            match action {
                Action::Start(name) if self.may_wait(&name) => drop(pc1.insert(name)),
                Action::Start(name) => self.start(&name).await,
                Action::Cancel(name) => self.cancel(&name),
            }
        }
        self.start_pc1(&pc1).await;
    }

    fn may_wait(&self, name: &str) -> bool {
        let sector = self.sectors.get(name);
        let task = sector.and_then(|s| ours(s, &self.settings.pod.uid));
        task.is_some_and(|t| t.kind == TaskKind::Pc1 && !t.from_scratch)
    }

    async fn start_pc1(&mut self, ready: &BTreeSet<String>) {
        let now = Instant::now();
        if self.waiting.set(ready, now) {
            self.per_core = self.lane().await.per_core;
        }
        let pc1 = |r: &&Running| r.kind == TaskKind::Pc1.as_str();
        let running = self.running.values().filter(pc1).count();
        for batch in self.waiting.take(self.per_core, self.cores, running, now) {
            match &batch.sectors[..] {
                [name] => self.start(name).await,
                _ => self.start_batch(batch).await,
            }
        }
        for name in ready {
            self.say_that_it_waits(name);
        }
    }

    fn say_that_it_waits(&mut self, name: &str) {
        let task = self.sectors.get(name);
        let task = task.and_then(|s| ours(s, &self.settings.pod.uid));
        let Some(task) = task.filter(|_| !self.running.contains_key(name)) else {
            return;
        };
        let known = self.reports.known();
        if known.get(name).is_some_and(|r| r.task_id == task.id) {
            return;
        }
        let mut waits = report(&task.id, TaskState::Running, Timestamp::now());
        waits.progress = Some(Progress {
            percent: 0,
            detail: "PC1: waits for sectors to share its core".to_owned(),
        });
        self.reports.set(name, waits);
    }

    async fn start(&mut self, name: &str) {
        let Some((task_id, kind, request)) = self.prepared(name) else {
            return;
        };
        let lane = self.lane().await;
        let starter = self.starter.with(&lane.env);
        tracing::info!(sector = name, task = task_id, "task starts");
        let (events, sector, id) = (self.events.0.clone(), name.to_owned(), task_id.clone());
        let process = tokio::spawn(async move {
            let send = |event| drop(events.send((sector.clone(), id.clone(), event)));
            let ended = starter.run(&request, |p| send(Event::Progress(p))).await;
            send(Event::End(Box::new(ended)));
        });
        self.runs(name, task_id, kind, process.abort_handle());
    }

    /// PC1 of several sectors in one process.
    async fn start_batch(&mut self, batch: Batch) {
        let mut members = Vec::new();
        for name in batch.sectors {
            if let Some((task_id, _, request)) = self.prepared(&name)
                && let Task::Pc1(pc1) = request.task
            {
                members.push(Member { name, task_id, pc1 });
            }
        }
        if members.is_empty() {
            return;
        }
        let lane = self.lane().await;
        let starter = self.starter.with(&lane.env);
        let sectors: Vec<_> = members.iter().map(|m| m.name.as_str()).collect();
        tracing::info!(?sectors, per_core = batch.per_core, "PC1 starts");
        let request = Pc1Together {
            together: members.iter().map(|m| m.pc1.clone()).collect(),
            per_core: NonZeroU32::new(batch.per_core).unwrap_or(NonZeroU32::MIN),
        };
        let ids: Vec<_> = members.into_iter().map(|m| (m.name, m.task_id)).collect();
        let (events, told) = (self.events.0.clone(), ids.clone());
        let process = tokio::spawn(async move {
            let tell = |at: usize, what| {
                let event = match what {
                    Told::Progress(p) => Event::Progress(p),
                    Told::End(end) => Event::End(Box::new(end)),
                };
                if let Some((sector, id)) = told.get(at) {
                    drop(events.send((sector.clone(), id.clone(), event)));
                }
            };
            starter.run_together(&request, tell).await;
        });
        let process = process.abort_handle();
        for (name, task_id) in ids {
            self.runs(&name, task_id, TaskKind::Pc1.as_str(), process.clone());
        }
    }

    /// What to run for a sector; what cannot be run is reported.
    fn prepared(&mut self, name: &str) -> Option<(String, &'static str, Request)> {
        let sector = self.sectors.get(name)?;
        let task = ours(sector, &self.settings.pod.uid)?;
        let (task_id, kind) = (task.id.clone(), task.kind.as_str());
        match input::request(sector, &self.folders) {
            Ok(request) => Some((task_id, kind, request)),
            Err(failure) => {
                self.end(name, &task_id, kind, Timestamp::now(), Err(failure));
                None
            }
        }
    }

    fn runs(&mut self, name: &str, task_id: String, kind: &'static str, process: AbortHandle) {
        let started = Timestamp::now();
        self.metrics.running.inc();
        self.reports
            .set(name, report(&task_id, TaskState::Running, started));
        let running = Running {
            task_id,
            kind,
            started,
            process,
        };
        self.running.insert(name.to_owned(), running);
    }

    /// Kills a task. Sectors that shared its process lose at most seconds, and are started again.
    fn cancel(&mut self, name: &str) {
        let Some(cancelled) = self.running.remove(name) else {
            return;
        };
        tracing::info!(sector = name, task = cancelled.task_id, "task is cancelled");
        cancelled.process.abort();
        self.metrics.running.dec();
        self.metrics
            .tasks
            .with_label_values(&[cancelled.kind, "Cancelled"])
            .inc();
        let (id, metrics) = (cancelled.process.id(), &self.metrics);
        self.running.retain(|other, running| {
            let stays = running.process.id() != id;
            if !stays {
                tracing::info!(sector = other, "PC1 goes on in another process");
                metrics.running.dec();
            }
            stays
        });
    }

    /// Reads what counts for the next tasks. Many that start at once wait once for an API server that does not answer; then
    /// what it said last counts.
    async fn lane(&mut self) -> Lane {
        if let Some((read, lane)) = &self.lane
            && read.elapsed() < LANE_FRESH
        {
            return lane.clone();
        }
        let lane = match self.read_lane().await {
            Ok(lane) => lane,
            Err(e) => {
                self.call_failed("read the group", &e);
                self.lane.take().map(|(_, last)| last).unwrap_or_default()
            }
        };
        self.lane = Some((Instant::now(), lane.clone()));
        lane
    }

    async fn read_lane(&self) -> Result<Lane, String> {
        let api: Api<SealingGroup> =
            Api::namespaced(self.client.clone(), &self.settings.pod.namespace);
        let group = pod::call(api.get(&self.settings.group)).await?;
        Ok(Lane::of(group.spec, &self.settings.lane, self.cpus))
    }
}

impl Lane {
    /// What a group says of the lane of this name, in a pod with so many CPUs.
    fn of(group: SealingGroupSpec, name: &str, cpus: usize) -> Self {
        let lane = group.lanes.iter().find(|l| l.name == name);
        let threads = threads(cpus, lane.map_or(1.0, |l| l.cpu_share));
        let per_core = lane.map_or_else(PerCore::default, |l| l.sectors_per_core);
        let mut env = BTreeMap::from([("RAYON_NUM_THREADS".to_owned(), threads.to_string())]);
        env.extend(group.env);
        Self { env, per_core }
    }
}

/// Worker threads of a task: a share of the CPUs, at least one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "no machine has 2^52 CPUs, and the share is between 0 and 1"
)]
fn threads(cpus: usize, share: f64) -> usize {
    ((cpus as f64 * share.clamp(0.0, 1.0)).floor() as usize).max(1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_task_gets_the_lanes_share_of_the_cpus_and_at_least_one() {
        for (cpus, share, wanted) in [
            (16, 1.0, 16),
            (16, 0.5, 8),
            (7, 0.5, 3),
            (16, 0.01, 1),
            (1, 0.5, 1),
            (4, 7.0, 4),
            (4, -1.0, 1),
        ] {
            assert_eq!(threads(cpus, share), wanted, "{share} of {cpus}");
        }
    }

    #[test]
    fn the_next_task_gets_what_the_group_says_by_then() {
        let group = |share: f64, env: &serde_json::Value| -> SealingGroupSpec {
            serde_json::from_value(json!({
                "minerRef": {"name": "m"}, "scratch": {"hostPath": "/s", "parametersPath": "/p"},
                "lanes": [
                    {"name": "other", "phases": ["PC1"], "cpus": 8, "memory": "1Gi"},
                    {"name": "seal", "phases": ["PC2"], "cpus": 8, "memory": "1Gi", "cpuShare": share},
                ],
                "env": env,
            }))
            .unwrap()
        };
        let env = |share, more: &serde_json::Value| Lane::of(group(share, more), "seal", 8).env;
        let before = env(1.0, &json!({}));
        assert_eq!(before["RAYON_NUM_THREADS"], "8");
        let after = env(0.25, &json!({"FILSTAR_PAUSE_AT": "pc2"}));
        assert_eq!(after["RAYON_NUM_THREADS"], "2");
        assert_eq!(after["FILSTAR_PAUSE_AT"], "pc2");
        let theirs = env(0.25, &json!({"RAYON_NUM_THREADS": "5"}));
        assert_eq!(theirs["RAYON_NUM_THREADS"], "5", "the group's word wins");
        let gone = Lane::of(group(0.25, &json!({})), "renamed", 8).env;
        assert_eq!(gone["RAYON_NUM_THREADS"], "8", "a lane that is not there");
    }
}
