//! kubectl-filstar: reports and actions for storage providers, as a kubectl plugin.
//!
//! Effects: talks to the Kubernetes API of the current context and to nothing else.

mod changes;
mod pledge;
mod prune;
mod report;
#[cfg(test)]
mod samples;
mod snapshot;
mod summary;
mod table;
#[cfg(test)]
mod testing;
mod text;
mod watch;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use jiff::Timestamp;
use kube::config::KubeConfigOptions;
use kube::{Client, Config};

use snapshot::Snapshot;

/// Reports and actions for Filecoin storage providers that run Filstar.
#[derive(Debug, Parser)]
#[command(name = "kubectl filstar", bin_name = "kubectl filstar", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows sectors with their timelines, messages with their fees, deadlines with their proofs, and what is not well.
    Report {
        #[command(flatten)]
        target: Target,
    },
    /// Prints a line for each change, until that many sectors are proven.
    Watch {
        #[command(flatten)]
        target: Target,
        /// Ends with success once this many sectors are on chain, landed, and proven in a deadline.
        #[arg(long, default_value_t = 1)]
        sectors: usize,
        /// Ends with exit status 1 after this time, such as `90s` or `15m`.
        #[arg(long, default_value = "1h", value_parser = duration)]
        timeout: Duration,
    },
    /// Creates a Sector in a group: one more sector of committed capacity.
    Pledge {
        #[command(flatten)]
        target: Target,
        /// The `SealingGroup` that seals it.
        #[arg(long)]
        group: String,
        /// Its number. Without it the Miner's next one.
        #[arg(long)]
        number: Option<i64>,
    },
    /// Lists what is left of nodes that have left the cluster, in all namespaces unless -n names one, and forgets it with
    /// `--yes`: then nothing waits for them any more.
    Prune {
        #[command(flatten)]
        target: Target,
        /// Names of nodes; without any, all that are gone.
        nodes: Vec<String>,
        /// Does it; without it the list is all.
        #[arg(long)]
        yes: bool,
    },
}

/// Which cluster and namespace, as in kubectl.
#[derive(Debug, Args)]
struct Target {
    /// Namespace; the context's own when left out.
    #[arg(short, long)]
    namespace: Option<String>,
    /// Context of the kubeconfig; the current one when left out.
    #[arg(long)]
    context: Option<String>,
}

fn duration(text: &str) -> Result<Duration, String> {
    filstar_crds::parse_duration(text).map_err(|e| e.to_string())
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse().command).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Report { target } => {
            let (client, namespace) = connect(&target).await?;
            let snapshot = Snapshot::read(&client, &namespace).await?;
            println!("{}", report::report(&snapshot, Timestamp::now()));
            Ok(ExitCode::SUCCESS)
        }
        Command::Watch {
            target,
            sectors,
            timeout,
        } => {
            let (client, namespace) = connect(&target).await?;
            watch::watch(&client, &namespace, sectors, timeout).await
        }
        Command::Pledge {
            target,
            group,
            number,
        } => {
            let (client, namespace) = connect(&target).await?;
            let name = pledge::pledge(&client, &namespace, &group, number).await?;
            println!("sector.filstar.io/{name} created");
            Ok(ExitCode::SUCCESS)
        }
        Command::Prune { target, nodes, yes } => {
            let (client, _) = connect(&target).await?;
            // Nodes are no namespace's: what is left of one is left wherever it is.
            prune::prune(&client, target.namespace.as_deref(), &nodes, yes).await?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn connect(target: &Target) -> anyhow::Result<(Client, String)> {
    // Fails only when one is installed already, which is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    let options = KubeConfigOptions {
        context: target.context.clone(),
        ..Default::default()
    };
    let config = match target.context {
        Some(_) => Config::from_kubeconfig(&options).await?,
        None => Config::infer().await?,
    };
    let namespace = target
        .namespace
        .clone()
        .unwrap_or_else(|| config.default_namespace.clone());
    Ok((Client::try_from(config)?, namespace))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn arguments_are_consistent() {
        super::Cli::command().debug_assert();
    }
}
