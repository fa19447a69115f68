//! Figures for Prometheus: what the operator does, and what it sees.
//!
//! Gauges are set from the world after each round; nothing here decides anything.

use std::collections::BTreeMap;

use filstar_core::plan::{drain, overdue};
use filstar_core::world::{Id, Now, World};
use filstar_crds::{
    Conditions, DeadlineState, DeadlineStatus, MessageState, SectorPhase, conditions,
};
use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

/// All figures.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Seconds that a plan took.
    pub plan_seconds: Histogram,
    /// Actions by kind and outcome.
    pub actions: IntCounterVec,
    /// Calls of a chain node that failed, by class and error.
    pub rpc_errors: IntCounterVec,
    /// Writes to the API server, by kind of object and result.
    pub api_writes: IntCounterVec,
    leader: IntGauge,
    objects: IntGaugeVec,
    unreadable: IntGauge,
    sectors: IntGaugeVec,
    messages: IntGaugeVec,
    head: IntGaugeVec,
    base_fee: GaugeVec,
    next_base_fee: GaugeVec,
    available: GaugeVec,
    chain_usable: IntGaugeVec,
    faulty: IntGaugeVec,
    recovering: IntGaugeVec,
    ready: IntGaugeVec,
    missed: IntGaugeVec,
    unproven: IntGaugeVec,
    window_left: GaugeVec,
    gate_open: IntGaugeVec,
    last_pledge: IntGaugeVec,
    overdue: IntGaugeVec,
    drains: IntGaugeVec,
    garbage: IntGaugeVec,
    removed: IntGaugeVec,
    rounds: Gauge,
}

impl Metrics {
    /// All figures, at zero.
    ///
    /// # Errors
    /// Two figures have one name: a mistake in this file.
    #[expect(clippy::too_many_lines, reason = "a list of figures")]
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let r = &registry;
        let seconds = HistogramOpts::new(
            "filstar_plan_duration_seconds",
            "Time to make one plan, in seconds.",
        )
        .buckets(vec![0.000_1, 0.001, 0.01, 0.1, 1.0]);
        let plan_seconds = Histogram::with_opts(seconds)?;
        r.register(Box::new(plan_seconds.clone()))?;
        Ok(Self {
            plan_seconds,
            actions: counters(
                r,
                "filstar_actions_total",
                "Actions by kind and outcome.",
                &["kind", "outcome"],
            )?,
            rpc_errors: counters(
                r,
                "filstar_rpc_errors_total",
                "Failed calls of chain nodes, by class and error.",
                &["class", "error"],
            )?,
            api_writes: counters(
                r,
                "filstar_api_writes_total",
                "Writes to the API server, by kind of object and result.",
                &["kind", "result"],
            )?,
            leader: gauge(r, "filstar_leader", "1 while this process holds the Lease.")?,
            objects: gauges(
                r,
                "filstar_world_objects",
                "Objects known, by kind.",
                &["kind"],
            )?,
            unreadable: gauge(
                r,
                "filstar_world_unreadable",
                "Objects that cannot be read.",
            )?,
            sectors: gauges(r, "filstar_sectors", "Sectors by phase.", &["phase"])?,
            messages: gauges(r, "filstar_messages", "Messages by state.", &["state"])?,
            head: gauges(
                r,
                "filstar_chain_head_epoch",
                "Epoch of the head, by miner.",
                &["miner"],
            )?,
            base_fee: floats(
                r,
                "filstar_chain_base_fee_attofil",
                "Base fee of the head's messages, in attoFIL per gas, by miner.",
            )?,
            next_base_fee: floats(
                r,
                "filstar_chain_next_base_fee_attofil",
                "Base fee of the next block, in attoFIL per gas, by miner.",
            )?,
            available: floats(
                r,
                "filstar_miner_available_fil",
                "Available balance of the miner actor, in FIL, by miner.",
            )?,
            chain_usable: gauges(
                r,
                "filstar_chain_usable",
                "1 while the chain can be decided upon, by miner.",
                &["miner"],
            )?,
            faulty: gauges(
                r,
                "filstar_miner_faulty_sectors",
                "Sectors that the chain holds for faulty, recovering ones included, by miner.",
                &["miner"],
            )?,
            recovering: gauges(
                r,
                "filstar_miner_recovering_sectors",
                "Faulty sectors whose recovery is declared, by miner.",
                &["miner"],
            )?,
            ready: gauges(
                r,
                "filstar_ready",
                "1 while an object says that it is well (condition Ready), by kind and object.",
                &["kind", "object"],
            )?,
            missed: gauges(
                r,
                "filstar_deadlines_missed",
                "Deadlines whose last window was missed, by batch.",
                &["batch"],
            )?,
            unproven: gauges(
                r,
                "filstar_post_unproven_partitions",
                "Partitions of the open deadline that the chain has no proof of, by miner.",
                &["miner"],
            )?,
            window_left: floats(
                r,
                "filstar_post_window_left_ratio",
                "How much of the open deadline's window is left, from 1 to 0, by miner.",
            )?,
            gate_open: gauges(
                r,
                "filstar_pledge_gate_open",
                "1 while a gate of pledging is open, by group and gate.",
                &["group", "gate"],
            )?,
            last_pledge: gauges(
                r,
                "filstar_pledge_last_timestamp_seconds",
                "When the youngest sector of a group was created, in seconds since 1970.",
                &["group"],
            )?,
            overdue: gauges(
                r,
                "filstar_tasks_overdue",
                "Tasks that run for longer than their lane allows, by group.",
                &["group"],
            )?,
            drains: gauges(
                r,
                "filstar_node_drain",
                "1 for each state that a node asked to be empty is in: Requested, Quiescing, Blocked, Overdue, Drained.",
                &["node", "state"],
            )?,
            garbage: gauges(
                r,
                "filstar_store_garbage_bytes",
                "Size of files of sectors that ended on chain and may be removed when somebody says so, in bytes, by store.",
                &["store"],
            )?,
            removed: gauges(
                r,
                "filstar_store_removed_bytes",
                "Size of the files of ended sectors that were removed so far, in bytes, by store.",
                &["store"],
            )?,
            rounds: {
                let rounds = Gauge::new(
                    "filstar_last_round_timestamp_seconds",
                    "When the last round ended, in seconds since 1970.",
                )?;
                r.register(Box::new(rounds.clone()))?;
                rounds
            },
            registry,
        })
    }

    /// Whether this process leads.
    pub fn set_leader(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// Sets all gauges that speak of the world.
    pub fn observe(&self, world: &World, now: jiff::Timestamp) {
        let sizes = [
            ("Miner", world.miners.len()),
            ("SealingGroup", world.groups.len()),
            ("GasPolicy", world.policies.len()),
            ("SectorStore", world.stores.len()),
            ("PostBatch", world.batches.len()),
            ("Sector", world.sectors.len()),
            ("ChainMessage", world.messages.len()),
            ("Pod", world.pods.len()),
            ("Node", world.nodes.len()),
            ("SealingNode", world.sealing_nodes.len()),
        ];
        for (kind, size) in sizes {
            self.objects.with_label_values(&[kind]).set(count(size));
        }
        self.unreadable.set(count(world.unreadable.len()));
        self.observe_phases(world);
        self.observe_chains(world);
        self.observe_ready(world);
        self.observe_gates(world);
        self.observe_overdue(world);
        self.observe_drains(world, now);
        self.observe_garbage(world);
        self.rounds.set(now.as_duration().as_secs_f64());
    }

    fn observe_phases(&self, world: &World) {
        let mut phases: BTreeMap<&str, usize> = BTreeMap::new();
        for (_, sector) in world.sectors.iter() {
            let phase = sector
                .status
                .as_ref()
                .and_then(|s| s.phase)
                .unwrap_or(SectorPhase::Allocated);
            *phases.entry(phase.as_str()).or_default() += 1;
        }
        self.sectors.reset();
        for (phase, number) in phases {
            self.sectors.with_label_values(&[phase]).set(count(number));
        }
        let mut states: BTreeMap<&str, usize> = BTreeMap::new();
        for (_, message) in world.messages.iter() {
            let state = message
                .status
                .as_ref()
                .and_then(|s| s.state)
                .unwrap_or_default();
            *states.entry(state_name(state)).or_default() += 1;
        }
        self.messages.reset();
        for (state, number) in states {
            self.messages.with_label_values(&[state]).set(count(number));
        }
    }

    fn observe_garbage(&self, world: &World) {
        self.garbage.reset();
        self.removed.reset();
        for (id, store) in world.stores.iter() {
            let Some(status) = &store.status else {
                continue;
            };
            let name = id.to_string();
            let listed = status.sweeper.as_ref().filter(|_| status.garbage.is_some());
            if let Some(listed) = listed {
                let gauge = self.garbage.with_label_values(&[name.as_str()]);
                gauge.set(listed.bytes);
            }
            if let Some(removed) = &status.removed {
                let gauge = self.removed.with_label_values(&[name.as_str()]);
                gauge.set(removed.bytes);
            }
        }
    }

    /// As the statuses say, once they say anything.
    fn observe_ready(&self, world: &World) {
        self.ready.reset();
        self.missed.reset();
        for (id, o) in world.miners.iter() {
            self.note_ready("Miner", id, o.status.as_ref().map(|s| &s.conditions));
        }
        for (id, o) in world.groups.iter() {
            self.note_ready("SealingGroup", id, o.status.as_ref().map(|s| &s.conditions));
        }
        for (id, o) in world.stores.iter() {
            self.note_ready("SectorStore", id, o.status.as_ref().map(|s| &s.conditions));
        }
        for (id, o) in world.batches.iter() {
            let Some(status) = &o.status else { continue };
            self.note_ready("PostBatch", id, Some(&status.conditions));
            let missed = |d: &&DeadlineStatus| d.state == DeadlineState::Missed;
            let missed = status.deadlines.iter().filter(missed).count();
            let id = id.to_string();
            let batch = self.missed.with_label_values(&[id.as_str()]);
            batch.set(count(missed));
        }
    }

    fn note_ready(&self, kind: &str, id: &Id, said: Option<&Conditions>) {
        let ready = said.and_then(|all| all.iter().find(|c| c.type_ == conditions::READY));
        if let Some(ready) = ready {
            let id = id.to_string();
            let object = self.ready.with_label_values(&[kind, id.as_str()]);
            object.set(i64::from(ready.status == "True"));
        }
    }

    /// Gates as the status shows them: figures and status never disagree.
    fn observe_gates(&self, world: &World) {
        self.gate_open.reset();
        self.last_pledge.reset();
        for (id, group) in world.groups.iter() {
            let Some(status) = &group.status else {
                continue;
            };
            let id = id.to_string();
            for gate in &status.gates {
                self.gate_open
                    .with_label_values(&[id.as_str(), gate.name.as_str()])
                    .set(i64::from(gate.open));
            }
            if let Some(last) = &status.last_pledge {
                self.last_pledge
                    .with_label_values(&[id.as_str()])
                    .set(last.time.0.as_second());
            }
        }
    }

    fn observe_overdue(&self, world: &World) {
        self.overdue.reset();
        for (id, group) in world.groups.iter() {
            if group.spec.lanes.iter().any(|l| !l.task_timeouts.is_empty()) {
                let late = overdue::of_group(world, id).count();
                let id = id.to_string();
                self.overdue
                    .with_label_values(&[id.as_str()])
                    .set(count(late));
            }
        }
    }

    fn observe_drains(&self, world: &World, now: jiff::Timestamp) {
        self.drains.reset();
        for (id, _) in world.nodes.iter() {
            let Some(view) = drain::view(world, Now { wall: now }, &id.name) else {
                continue;
            };
            for (state, is) in [
                ("Requested", true),
                ("Quiescing", view.is_quiescing()),
                ("Blocked", view.blocked.is_some()),
                ("Overdue", view.overdue),
                ("Drained", view.is_drained()),
            ] {
                self.drains
                    .with_label_values(&[id.name.as_str(), state])
                    .set(i64::from(is));
            }
        }
    }

    fn observe_chains(&self, world: &World) {
        self.chain_usable.reset();
        self.head.reset();
        self.base_fee.reset();
        self.next_base_fee.reset();
        self.available.reset();
        self.faulty.reset();
        self.recovering.reset();
        self.unproven.reset();
        self.window_left.reset();
        for (id, view) in &world.chains {
            let id = id.to_string();
            let miner = &[id.as_str()];
            self.chain_usable
                .with_label_values(miner)
                .set(i64::from(view.usable().is_some()));
            if let Some(facts) = &view.facts {
                self.head.with_label_values(miner).set(facts.head.0);
                let sectors = |number| i64::try_from(number).unwrap_or(i64::MAX);
                self.faulty
                    .with_label_values(miner)
                    .set(sectors(facts.faulty));
                self.recovering
                    .with_label_values(miner)
                    .set(sectors(facts.recovering));
                let window = facts.deadline.current();
                if let Some(left) = window.left(facts.head) {
                    let unproven = facts.unproven(window.deadline).len();
                    self.unproven
                        .with_label_values(miner)
                        .set(sectors(unproven));
                    self.window_left.with_label_values(miner).set(left);
                }
                let atto = |amount: &filstar_chain::types::AttoFil| amount.to_fil_lossy() * 1e18;
                self.base_fee
                    .with_label_values(miner)
                    .set(atto(&facts.base_fee));
                self.next_base_fee
                    .with_label_values(miner)
                    .set(atto(&facts.next_base_fee));
                self.available
                    .with_label_values(miner)
                    .set(facts.available.to_fil_lossy());
            }
        }
    }

    /// All figures in Prometheus' text form.
    pub fn text(&self) -> String {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::warn!(%error, "metrics cannot be written");
        }
        String::from_utf8(text).unwrap_or_default()
    }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn state_name(state: MessageState) -> &'static str {
    match state {
        MessageState::Wish => "Wish",
        MessageState::Signed => "Signed",
        MessageState::Pushed => "Pushed",
        MessageState::Landed => "Landed",
        MessageState::Final => "Final",
        MessageState::Failed => "Failed",
    }
}

fn counters(
    r: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntCounterVec, prometheus::Error> {
    let metric = IntCounterVec::new(Opts::new(name, help), labels)?;
    r.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn gauges(
    r: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntGaugeVec, prometheus::Error> {
    let metric = IntGaugeVec::new(Opts::new(name, help), labels)?;
    r.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn gauge(r: &Registry, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    let metric = IntGauge::new(name, help)?;
    r.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn floats(r: &Registry, name: &str, help: &str) -> Result<GaugeVec, prometheus::Error> {
    let metric = GaugeVec::new(Opts::new(name, help), &["miner"])?;
    r.register(Box::new(metric.clone()))?;
    Ok(metric)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_figure_has_help_and_a_name_of_its_own() {
        let metrics = Metrics::new().unwrap();
        metrics
            .actions
            .with_label_values(&["PatchSector", "Done"])
            .inc();
        metrics.observe(&World::default(), jiff::Timestamp::UNIX_EPOCH);
        let text = metrics.text();
        assert!(text.contains("# HELP filstar_actions_total "));
        assert!(text.contains("filstar_actions_total{kind=\"PatchSector\",outcome=\"Done\"} 1"));
        assert!(text.contains("filstar_world_objects{kind=\"Sector\"} 0"));
    }

    #[test]
    fn a_batch_that_is_not_well_and_missed_a_deadline_is_a_figure() {
        let mut world = World::default();
        let batch = json!({
            "apiVersion": "filstar.io/v1alpha1", "kind": "PostBatch",
            "metadata": {"name": "all", "namespace": "mining", "resourceVersion": "1"},
            "spec": {"minerRef": {"name": "m"}, "parametersPath": "/p", "lane": {"memory": "1Gi"}},
            "status": {
                "conditions": [{"type": "Ready", "status": "False", "reason": "ProverNotReady", "message": "",
                    "lastTransitionTime": "2026-01-01T00:00:00Z"}],
                "deadlines": [
                    {"index": 3, "open": 60, "state": "Missed", "sectors": 1},
                    {"index": 4, "open": 120, "state": "Accepted", "sectors": 1},
                ],
            },
        });
        world.batches.apply(serde_json::from_value(batch).unwrap());
        let metrics = Metrics::new().unwrap();
        metrics.observe(&world, jiff::Timestamp::UNIX_EPOCH);
        let text = metrics.text();
        let lines = [
            "filstar_ready{kind=\"PostBatch\",object=\"mining/all\"} 0",
            "filstar_deadlines_missed{batch=\"mining/all\"} 1",
        ];
        for line in lines {
            assert!(text.contains(line), "{line}: {text}");
        }
    }
}
