//! The command line.

use std::net::SocketAddr;

use clap::{Parser, ValueEnum};

use filstar_core::world::Settings;

/// The control plane of Filstar.
#[derive(Clone, Debug, Parser)]
#[command(name = "filstar-operator", version, about)]
pub struct Config {
    /// Address for /healthz, /readyz and /metrics.
    #[arg(long, default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Namespace of the Lease.
    #[arg(long, env = "POD_NAMESPACE", default_value = "filstar-system")]
    pub lease_namespace: String,
    /// Name of the Lease. Only its holder writes.
    #[arg(long, default_value = "filstar-operator")]
    pub lease_name: String,
    /// Image of sealer and prover pods where a spec names none.
    #[arg(long, default_value = "localhost/filstar/sealer-pod:dev")]
    pub sealer_image: String,
    /// When kubelet fetches images of sealer and prover pods.
    #[arg(long, default_value = "IfNotPresent", value_parser = ["Always", "IfNotPresent", "Never"])]
    pub pull_policy: String,
    /// A Secret with which images of sealer and prover pods are fetched, in their namespaces. May be repeated.
    #[arg(long = "pull-secret", value_name = "NAME")]
    pub pull_secrets: Vec<String>,
    /// Form of the log.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log: LogFormat,
    /// Name of the pod that this runs in. A container that starts again in its pod takes its Lease back at once.
    #[arg(long, env = "POD_NAME", hide = true)]
    pub pod_name: Option<String>,
}

impl Config {
    /// What the plan knows of it.
    pub fn settings(&self) -> Settings {
        Settings {
            sealer_image: self.sealer_image.clone(),
            pull_policy: self.pull_policy.clone(),
            pull_secrets: self.pull_secrets.clone(),
        }
    }
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object for each line.
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_the_chart() {
        let config = Config::parse_from(["filstar-operator"]);
        assert_eq!(config.lease_name, "filstar-operator");
        assert_eq!(config.log, LogFormat::Text);
    }

    #[test]
    fn images_of_pods_are_those_of_the_command_line() {
        let config = Config::parse_from([
            "filstar-operator",
            "--sealer-image=registry.example/sealer:1",
            "--pull-policy=Always",
            "--pull-secret=one",
            "--pull-secret=two",
        ]);
        let settings = config.settings();
        assert_eq!(settings.sealer_image, "registry.example/sealer:1");
        assert_eq!(settings.pull_policy, "Always");
        assert_eq!(settings.pull_secrets, ["one", "two"]);
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Config::command().debug_assert();
    }
}
