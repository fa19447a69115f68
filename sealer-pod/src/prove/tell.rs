//! What the prover says: its part of the `PostBatch`, and the placement of its pod.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use filstar_chain::proving::Window;
use filstar_crds::{FaultReport, PostBatch, ProverReport, managers};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{
    Role,
    plan::Slot,
    work::{Done, Job},
};
use crate::{
    placement::{self, Asked},
    pod,
};

/// Tries to read our earlier reports before proving goes on without.
const RECALLS: u32 = 5;
/// Longest error that the API takes.
const MAX_ERROR_CHARS: usize = 4000;

/// Our part of the status.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Told {
    pub(super) reports: Vec<ProverReport>,
    pub(super) faults: Vec<FaultReport>,
}

impl Role {
    /// What we reported before a restart. Without it a proof might be made twice, which only costs
    /// time; so after a while proving goes on without.
    pub(super) async fn recall(&mut self) -> bool {
        self.recalls += 1;
        match pod::call(self.api().get(&self.settings.post_batch)).await {
            Ok(batch) => {
                let status = batch.status.unwrap_or_default();
                self.told = Some(Told {
                    reports: status.prover.clone(),
                    faults: status.faults,
                });
                self.reports = status
                    .prover
                    .into_iter()
                    .filter_map(|r| Some((slot_of(&r)?, r)))
                    .collect();
                true
            }
            Err(e) => {
                self.failed("read the PostBatch", &e);
                self.recalls >= RECALLS
            }
        }
    }

    pub(super) async fn tell(&mut self) {
        let faults = match &self.told {
            // What we said before a restart stands until the chain was asked.
            Some(told) if !self.faults.are_known() => told.faults.clone(),
            Some(_) | None => self.faults.reports(),
        };
        let now = Told {
            reports: self.reports.values().cloned().collect(),
            faults,
        };
        if self.told.as_ref() == Some(&now) || (self.told.is_none() && now == Told::default()) {
            return;
        }
        let name = &self.settings.post_batch;
        let patch = json!({
            "apiVersion": "filstar.io/v1alpha1",
            "kind": "PostBatch",
            "metadata": {"name": name},
            "status": {"prover": now.reports, "faults": now.faults},
        });
        let params = PatchParams::apply(managers::PROVER).force();
        let patch = Patch::Apply(&patch);
        match pod::call(self.api().patch_status(name, &params, &patch)).await {
            Ok(_) => self.told = Some(now),
            Err(e) => self.failed("report proofs", &e),
        }
    }

    pub(super) async fn tell_placement(&mut self) {
        if self.placement_told {
            return;
        }
        let asked = Asked {
            cpus: self.settings.pod.cpus,
            ..Asked::default()
        };
        let verdict = placement::judge(&placement::find(&asked), &asked);
        self.metrics.placed.set(i64::from(verdict.verified));
        let (client, pod, now) = (&self.client, &self.settings.pod, Timestamp::now());
        let call = pod::report_placement(client, pod, managers::PROVER, &verdict, now);
        match pod::call(call).await {
            Ok(()) => self.placement_told = true,
            Err(e) => self.failed("report placement", &e),
        }
    }

    fn api(&self) -> Api<PostBatch> {
        Api::namespaced(self.client.clone(), &self.settings.pod.namespace)
    }
}

/// The report on a partition that was proven, or was not.
pub(super) fn report(
    window: &Window,
    slot: Slot,
    job: &Job,
    done: Done,
    commit: [u8; 32],
    took: Duration,
) -> ProverReport {
    let (proof, error) = match done.proof {
        Ok(proof) => (Some(BASE64.encode(proof)), None),
        Err(failure) => (
            None,
            Some(failure.to_string().chars().take(MAX_ERROR_CHARS).collect()),
        ),
    };
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    ProverReport {
        deadline: number(slot.deadline),
        partition: number(slot.partition),
        open: window.open.0,
        close: window.close.0,
        challenge: window.challenge.0,
        chain_commit_epoch: window.challenge.0,
        chain_commit_rand: BASE64.encode(commit),
        post_proof: job.proof_type.window_number(),
        proof,
        sectors: i64::try_from(done.proven).unwrap_or(i64::MAX),
        skipped: done.skipped,
        error,
        millis: i64::try_from(took.as_millis()).unwrap_or(i64::MAX),
        finished: Some(Time(Timestamp::now())),
    }
}

fn slot_of(report: &ProverReport) -> Option<Slot> {
    let deadline = u64::try_from(report.deadline).ok()?;
    Some(Slot {
        deadline,
        partition: u64::try_from(report.partition).ok()?,
    })
}
