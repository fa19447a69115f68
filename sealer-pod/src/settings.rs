//! Settings of the roles: flags, or the environment that the operator gives to pods.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum};
use filstar_crds::parse_bytes;

use crate::placement::{self, Asked, devices::Promised};

/// Who this pod is.
#[derive(Clone, Debug, Args)]
pub(crate) struct Pod {
    /// Name of the pod.
    #[arg(long = "pod-name", env = "POD_NAME")]
    pub(crate) name: String,
    /// Its namespace.
    #[arg(long = "pod-namespace", env = "POD_NAMESPACE")]
    pub(crate) namespace: String,
    /// Its uid.
    #[arg(long = "pod-uid", env = "POD_UID")]
    pub(crate) uid: String,
    /// Exclusive CPUs asked for; 0 means the shared ones.
    #[arg(long, env = "FILSTAR_CPUS", default_value_t = 0)]
    pub(crate) cpus: u32,
    /// The CPUs to bind to, a list such as `8-15`, where kubelet does not do it.
    #[arg(long, env = "FILSTAR_CPUSET")]
    pub(crate) cpuset: Option<String>,
    /// Where health and metrics are served.
    #[arg(long, env = "FILSTAR_LISTEN", default_value = "0.0.0.0:9090")]
    pub(crate) listen: SocketAddr,
    /// Folder of parameters.
    #[arg(long, env = "FILSTAR_PARAMS", default_value = "/params")]
    pub(crate) params: PathBuf,
    /// Folder of the stores, each under its name.
    #[arg(long, env = "FILSTAR_STORES", default_value = "/stores")]
    pub(crate) stores: PathBuf,
    /// Folder for temporary files.
    #[arg(long, env = "FILSTAR_TMP", default_value = "/tmp")]
    pub(crate) tmp: PathBuf,
}

impl Pod {
    /// The CPUs that were promised.
    ///
    /// # Errors
    /// When the list is not of its form.
    pub(crate) fn asked(&self) -> anyhow::Result<Asked> {
        let cpuset = self.cpuset.as_deref().map(|text| {
            placement::parse_list(text)
                .with_context(|| format!("FILSTAR_CPUSET={text} is not a list of cpus"))
        });
        Ok(Asked {
            cpus: self.cpus,
            cpuset: cpuset.transpose()?,
            devices: Promised::default(),
        })
    }
}

/// Whether a pod that cannot prove its CPUs computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Policy {
    /// It does not.
    #[value(name = "Required")]
    Required,
    /// It does, and says so.
    #[value(name = "Preferred")]
    Preferred,
}

/// Settings of the role `seal`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Seal {
    #[command(flatten)]
    pub(crate) pod: Pod,
    /// Name of the `SealingGroup`.
    #[arg(long, env = "FILSTAR_GROUP")]
    pub(crate) group: String,
    /// Whether to compute on CPUs that are not those asked for.
    #[arg(long, env = "FILSTAR_PLACEMENT_POLICY", default_value = "Required")]
    pub(crate) placement_policy: Policy,
    /// GPUs that were promised.
    #[arg(long, env = "FILSTAR_GPU_COUNT", default_value_t = 0)]
    pub(crate) gpus: u32,
    /// Huge pages that were promised, as size and amount, such as `1Gi:64Gi`.
    #[arg(long, env = "FILSTAR_HUGEPAGES")]
    pub(crate) hugepages: Option<String>,
    /// Bytes of layer memory that all PC1 share; with 0 each takes what it wants.
    #[arg(long, env = filstar_placement::POOL_BYTES, default_value_t = 0)]
    pub(crate) pool_bytes: u64,
    /// Name of the lane.
    #[arg(long, env = "FILSTAR_LANE", default_value = "")]
    pub(crate) lane: String,
    /// Folder of sectors in work.
    #[arg(long, env = "FILSTAR_SCRATCH", default_value = "/scratch")]
    pub(crate) scratch: PathBuf,
}

impl Seal {
    /// What was promised, CPUs and devices.
    ///
    /// # Errors
    /// When a list or an amount is not of its form.
    pub(crate) fn asked(&self) -> anyhow::Result<Asked> {
        let huge = self.hugepages.as_deref().map(|text| {
            let (page, amount) = text
                .split_once(':')
                .with_context(|| format!("FILSTAR_HUGEPAGES={text} is not SIZE:AMOUNT"))?;
            anyhow::Ok((parse_bytes(page)?, parse_bytes(amount)?))
        });
        Ok(Asked {
            devices: Promised {
                gpus: self.gpus,
                huge: huge.transpose()?,
            },
            ..self.pod.asked()?
        })
    }
}

/// Settings of the role `prove`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Prove {
    #[command(flatten)]
    pub(crate) pod: Pod,
    /// Name of the `PostBatch`.
    #[arg(long, env = "FILSTAR_POST_BATCH")]
    pub(crate) post_batch: String,
    /// The miner, such as `t01000`.
    #[arg(long, env = "FILSTAR_ACTOR")]
    pub(crate) actor: String,
    /// Name of the network.
    #[arg(long, env = "FILSTAR_NETWORK")]
    pub(crate) network: String,
    /// Chain nodes, asked without a token, the most wanted first.
    #[arg(long, env = "FILSTAR_CHAIN", value_delimiter = ',', required = true)]
    pub(crate) chain: Vec<String>,
    /// A sector that does not answer within this time is left out.
    #[arg(long, env = "FILSTAR_READ_TIMEOUT", default_value = "2m")]
    pub(crate) read_timeout: String,
    /// A head that is older is not believed, epochs.
    #[arg(long, env = "FILSTAR_MAX_LAG_EPOCHS", default_value_t = 10)]
    pub(crate) max_lag_epochs: u64,
}
