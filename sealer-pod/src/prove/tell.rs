//! What the prover says: its part of the `PostBatch`, and the placement of its pod.
//!
//! Never: a word before what was said earlier is known, since a proof that waits to be sent would be lost with it.

use std::time::{Duration, Instant};

use filstar_crds::{FaultReport, PostBatch, ProverReport, managers};
use jiff::Timestamp;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{Role, fit::fit};
use crate::{placement, pod};

/// Tries to read our earlier reports before proving goes on without.
pub(super) const RECALLS: u32 = 5;
/// What was said is said again after so long: somebody else may have written over it, such as the prover of a node that was
/// taken for dead. The API server writes nothing when it is the same.
pub(super) const AGAIN: Duration = Duration::from_mins(2);

/// Our part of the status.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Told {
    pub(super) reports: Vec<ProverReport>,
    pub(super) faults: Vec<FaultReport>,
}

impl Role {
    /// What we reported before a restart. Without it a proof might be made twice, which only costs
    /// time; so after a while proving goes on without, and it is taken over later. Whether proving may begin.
    pub(super) async fn recall(&mut self) -> bool {
        if self.told.is_some() {
            return true;
        }
        self.recalls = self.recalls.saturating_add(1);
        match pod::call(self.api().get(&self.settings.post_batch)).await {
            Ok(batch) => {
                let status = batch.status.unwrap_or_default();
                let told = Told {
                    reports: status.prover.clone(),
                    faults: status.faults,
                };
                self.told = Some((told, Instant::now()));
                self.notes.recall(status.prover);
                true
            }
            Err(e) => {
                self.failed("read the PostBatch", &e);
                self.recalls >= RECALLS
            }
        }
    }

    pub(super) async fn tell(&mut self) {
        let Some((told, when)) = &self.told else {
            return;
        };
        let faults = if self.faults.are_known() {
            self.faults.reports()
        } else {
            // What we said before a restart stands until the chain was asked.
            told.faults.clone()
        };
        let now = Told {
            reports: fit(self.notes.reports().cloned().collect(), self.seen),
            faults,
        };
        if *told == now && when.elapsed() < AGAIN {
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
            Ok(_) => self.told = Some((now, Instant::now())),
            Err(e) => self.failed("report proofs", &e),
        }
    }

    pub(super) async fn tell_placement(&mut self) {
        let verdict = placement::judge(&placement::find(&self.promise), &self.promise);
        if self.verdict_told.as_ref() == Some(&verdict) {
            return;
        }
        self.metrics.placed.set(i64::from(verdict.verified));
        let (client, pod, now) = (&self.client, &self.settings.pod, Timestamp::now());
        let call = pod::report_placement(client, pod, managers::PROVER, &verdict, now);
        match pod::call(call).await {
            Ok(()) => self.verdict_told = Some(verdict),
            Err(e) => self.failed("report placement", &e),
        }
    }

    fn api(&self) -> Api<PostBatch> {
        Api::namespaced(self.client.clone(), &self.settings.pod.namespace)
    }
}
