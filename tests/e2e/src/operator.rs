//! The operator that is under test: its pod, its Lease, its death.

use std::time::Duration;

use anyhow::Context as _;
use filstar_crds::labels;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

use crate::{Cluster, host, wait_until};

/// Namespace of the operator.
pub const NAMESPACE: &str = "filstar-system";
/// Name of its Deployment and of its Lease.
pub const NAME: &str = "filstar-operator";
/// Who it is to the API server.
pub const USER: &str = "system:serviceaccount:filstar-system:filstar-operator";

/// Ways to die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// The pod is deleted without grace; another one takes over.
    Pod,
    /// The process is killed; kubelet starts it again.
    Process,
}

/// The pod that holds the Lease.
///
/// # Errors
/// When there is none for two minutes.
pub async fn leader(cluster: &Cluster) -> anyhow::Result<Pod> {
    wait_until("an operator leads", Duration::from_mins(2), async || {
        find(cluster).await
    })
    .await
}

async fn find(cluster: &Cluster) -> anyhow::Result<Option<Pod>> {
    let Some(lease) = cluster.get::<Lease>(NAMESPACE, NAME).await? else {
        return Ok(None);
    };
    let holder = lease
        .spec
        .and_then(|s| s.holder_identity)
        .unwrap_or_default();
    let ours = format!("{}=operator", labels::COMPONENT);
    for pod in cluster.list::<Pod>(NAMESPACE, &ours).await? {
        let alive = pod.metadata.deletion_timestamp.is_none();
        let phase = pod
            .status
            .as_ref()
            .and_then(|s| s.phase.clone())
            .unwrap_or_default();
        if alive && phase == "Running" && holder.starts_with(&pod.name_any()) {
            return Ok(Some(pod));
        }
    }
    Ok(None)
}

/// Kills the operator that leads.
///
/// # Errors
/// When there is none to kill.
pub async fn kill(cluster: &Cluster, death: Death) -> anyhow::Result<()> {
    match death {
        Death::Pod => {
            cluster
                .kill_pod(NAMESPACE, &leader(cluster).await?.name_any())
                .await
        }
        Death::Process => {
            // A process that was killed before holds the Lease until kubelet has started it again.
            let what = "the process of the operator that leads";
            let find = async || process(&leader(cluster).await?).map(Some);
            host::kill(wait_until(what, Duration::from_mins(2), find).await?).await
        }
    }
}

/// Its process on this machine.
///
/// # Errors
/// When it runs nowhere here.
pub fn process(pod: &Pod) -> anyhow::Result<u32> {
    let uid = pod.uid().context("a pod without uid")?;
    Ok(host::process(&uid, "filstar-operator", None)?.pid)
}
