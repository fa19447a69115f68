//! The command line.

use std::net::SocketAddr;

use clap::{Parser, ValueEnum};

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
    /// Form of the log.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log: LogFormat,
    /// Name of the pod that this runs in. A container that starts again in its pod takes its Lease back at once.
    #[arg(long, env = "POD_NAME", hide = true)]
    pub pod_name: Option<String>,
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
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Config::command().debug_assert();
    }
}
