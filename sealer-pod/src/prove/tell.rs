//! What the prover says: its part of the `PostBatch`, and the placement of its pod.

use filstar_crds::{FaultReport, PostBatch, ProverReport, managers};
use jiff::Timestamp;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{Role, fit::fit, notes::Notes};
use crate::{
    placement::{self, Asked},
    pod,
};

/// Tries to read our earlier reports before proving goes on without.
const RECALLS: u32 = 5;

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
                self.notes = Notes::recall(status.prover);
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
            reports: fit(self.notes.reports().cloned().collect(), self.seen),
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
