//! What both roles do as pods: connect, say where the kernel put them, hear that they shall stop.

use std::time::Duration;

use anyhow::Context;
use filstar_crds::{Disks, annotations, conditions::POD_PLACEMENT_VERIFIED};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::{placement::Verdict, settings};

/// A call that takes longer counts as failed.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// Connects to the API server.
///
/// # Errors
/// When there is no service account and no kubeconfig.
pub(crate) async fn connect() -> anyhow::Result<Client> {
    // Somebody else may have chosen already; then that one is used.
    drop(rustls::crypto::ring::default_provider().install_default());
    Client::try_default()
        .await
        .context("cannot connect to the Kubernetes API")
}

/// Completes when the pod is asked to stop.
///
/// # Errors
/// When signals cannot be heard.
pub(crate) async fn stopped() -> anyhow::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    tracing::info!("asked to stop: task processes are killed, their tasks go on later");
    Ok(())
}

/// Sets the condition of placement on our own pod.
///
/// # Errors
/// What the API server says.
pub(crate) async fn report_placement(
    client: &Client,
    pod: &settings::Pod,
    manager: &str,
    verdict: &Verdict,
    since: Timestamp,
) -> kube::Result<()> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace);
    let patch = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": pod.name, "uid": pod.uid},
        "status": {"conditions": [{
            "type": POD_PLACEMENT_VERIFIED,
            "status": if verdict.verified { "True" } else { "False" },
            "reason": verdict.reason,
            "message": verdict.message,
            "lastTransitionTime": since,
        }]},
    });
    let params = PatchParams::apply(manager).force();
    api.patch_status(&pod.name, &params, &Patch::Apply(&patch))
        .await
        .map(drop)
}

/// Writes how full the disks are as an annotation of our own pod.
///
/// # Errors
/// What the API server says.
pub(crate) async fn report_disks(
    client: &Client,
    pod: &settings::Pod,
    disks: &Disks,
) -> kube::Result<()> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace);
    let text = disks.to_text().map_err(kube::Error::SerdeError)?;
    // The uid is a precondition: a pod of the same name that came after us is another one.
    let patch = json!({"metadata": {"uid": pod.uid, "annotations": {annotations::DISKS: text}}});
    api.patch_status(&pod.name, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .map(drop)
}

/// An error of a call in one short sentence: the API server's own words, where it answered.
pub(crate) fn brief(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return format!("{} ({})", status.message, status.reason);
    }
    error.to_string()
}

/// Makes a call that must not hang.
///
/// # Errors
/// A sentence that says why it failed.
pub(crate) async fn call<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, String> {
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(e)) => Err(brief(&e)),
        Err(_elapsed) => Err(format!("no answer within {CALL_TIMEOUT:?}")),
    }
}
