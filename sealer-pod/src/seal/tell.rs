//! What is told to the API server: reports, placement, disks. Each call runs beside the loop, so that a server that
//! drops packets holds up neither what is to be cancelled nor the word that we are alive.

use std::time::Instant;

use filstar_crds::{Disk, Disks, SealerReport, Sector, SectorStore, managers};
use jiff::Timestamp;
use kube::{
    Api, Resource,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::task::JoinError;

use super::Sealer;
use crate::{placement::Verdict, pod};

/// Tries to report placement, one a tick, before it is looked at again.
const PLACEMENT_TRIES: u32 = 3;

/// What a call told, and whether it came through.
pub(super) enum Called {
    Report(String, Box<SealerReport>, Result<(), String>),
    Placement(Verdict, Result<(), String>),
    Disks(Disks, Result<(), String>),
    Store(Result<(), String>),
}

impl Sealer {
    /// Tells what is due of our sectors.
    pub(super) fn tell(&mut self) {
        let api: Api<Sector> = Api::namespaced(self.client.clone(), &self.settings.pod.namespace);
        for (name, report) in self.reports.due(Instant::now()) {
            let patch = json!({
                "apiVersion": "filstar.io/v1alpha1",
                "kind": "Sector",
                "metadata": {"name": name, "uid": self.sectors.get(&name).and_then(|s| s.meta().uid.clone())},
                "status": {"sealer": report},
            });
            self.reports.sends(&name);
            let api = api.clone();
            self.calls.spawn(async move {
                let params = PatchParams::apply(managers::SEALER).force();
                let patch = Patch::Apply(&patch);
                let told = pod::call(api.patch_status(&name, &params, &patch)).await;
                Called::Report(name, Box::new(report), told.map(drop))
            });
        }
    }

    /// Takes over what came of a call.
    pub(super) fn answered(&mut self, called: Result<Called, JoinError>) {
        let (what, told) = match called {
            Ok(Called::Report(name, report, told)) => {
                self.reports
                    .told(&name, *report, told.is_ok(), Instant::now());
                ("report on a sector", told)
            }
            Ok(Called::Placement(verdict, told)) => {
                self.verdict_telling = false;
                if told.is_ok() {
                    self.verdict_told = Some(verdict);
                }
                ("report placement", told)
            }
            Ok(Called::Disks(disks, told)) => {
                self.disks_telling = false;
                if told.is_ok() {
                    self.disks.told(disks);
                }
                ("report disks", told)
            }
            // The next landing tells it again.
            Ok(Called::Store(told)) => ("report on a store", told),
            Err(e) => ("end a call", Err(e.to_string())),
        };
        if let Err(e) = told {
            self.call_failed(what, &e);
        }
    }

    /// How full the sector's store is now is to be told.
    pub(super) fn landed_in_its_store(&mut self, sector: &str) {
        let status = self.sectors.get(sector).and_then(|s| s.status.as_ref());
        if let Some(store) = status.and_then(|s| s.store.as_ref()) {
            self.landed.insert(store.name.clone(), Instant::now());
        }
    }

    /// Tells how full stores are in which something landed before they were measured last. They are not asked here: one
    /// that hangs would hold up all sectors.
    pub(super) fn tell_stores(&mut self) {
        let api: Api<SectorStore> =
            Api::namespaced(self.client.clone(), &self.settings.pod.namespace);
        let (disks, calls) = (&self.disks, &mut self.calls);
        self.landed.retain(|store, landed| {
            let Some(read) = disks.since(*landed) else {
                return true;
            };
            if let Some(disk) = read.stores.get(store) {
                let (api, store, patch) = (api.clone(), store.clone(), fullness(store, disk));
                calls.spawn(async move {
                    let params = PatchParams::apply(managers::SEALER).force();
                    let patch = Patch::Apply(&patch);
                    let told = pod::call(api.patch_status(&store, &params, &patch)).await;
                    Called::Store(told.map(drop))
                });
            }
            false
        });
    }

    /// Tells how full the disks are when that changed.
    pub(super) fn tell_disks(&mut self) {
        if self.disks_telling {
            return;
        }
        let Some(disks) = self.disks.news() else {
            return;
        };
        self.disks_telling = true;
        let (client, own) = (self.client.clone(), self.settings.pod.clone());
        self.calls.spawn(async move {
            let told = pod::call(pod::report_disks(&client, &own, &disks)).await;
            Called::Disks(disks, told)
        });
    }

    /// Tells where the kernel put us, unless that is known.
    pub(super) fn tell_placement(&mut self) {
        let known = self.verdict_told.as_ref() == Some(&self.verdict);
        if known || self.verdict_telling || self.verdict_tries >= PLACEMENT_TRIES {
            return;
        }
        self.verdict_tries += 1;
        self.verdict_telling = true;
        let (client, own) = (self.client.clone(), self.settings.pod.clone());
        let (verdict, now) = (self.verdict.clone(), Timestamp::now());
        self.calls.spawn(async move {
            let call = pod::report_placement(&client, &own, managers::SEALER, &verdict, now);
            let told = pod::call(call).await;
            Called::Placement(verdict, told)
        });
    }
}

/// The status of a store by what was measured.
fn fullness(store: &str, disk: &Disk) -> Value {
    let used = disk.capacity.saturating_sub(disk.free);
    json!({
        "apiVersion": "filstar.io/v1alpha1",
        "kind": "SectorStore",
        "metadata": {"name": store},
        "status": {
            "capacity": format!("{}Gi", disk.capacity >> 30),
            "usedPercent": (u128::from(used) * 100).div_ceil(u128::from(disk.capacity.max(1))),
        },
    })
}
