//! Control plane of Filstar: world, plan, apply, status.

use std::process::ExitCode;

use clap::Parser;
use filstar_operator::config::{Config, LogFormat};
use filstar_operator::run::run;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let config = Config::parse();
    if !cpu_is_fit() {
        eprintln!(
            "filstar-operator: this processor lacks the SHA instructions (sha_ni) that the program is compiled for: run \
             it on Intel Ice Lake or newer, or AMD Zen or newer, or build it without the target features in \
             .cargo/config.toml"
        );
        return ExitCode::FAILURE;
    }
    start_log(config.log);
    end_on_panic();
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        tracing::debug!("a crypto provider is there already");
    }
    // Two workers: a long plan must not keep the Lease from being renewed.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "no threads can be started");
            return ExitCode::FAILURE;
        }
    };
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "starting");
    let result = runtime.block_on(run(config));
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "ending");
            ExitCode::FAILURE
        }
    }
}

/// A task that panics would leave the others half blind: better to begin anew.
fn end_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        report(info);
        std::process::exit(101);
    }));
}

/// Whether the processor has the instructions that are compiled in without asking.
#[cfg(target_arch = "x86_64")]
fn cpu_is_fit() -> bool {
    const LEAF_FEATURES: u32 = 7;
    const SHA: u32 = 1 << 29;
    let highest = std::arch::x86_64::__cpuid(0).eax;
    highest >= LEAF_FEATURES && std::arch::x86_64::__cpuid_count(LEAF_FEATURES, 0).ebx & SHA != 0
}

#[cfg(not(target_arch = "x86_64"))]
fn cpu_is_fit() -> bool {
    true
}

fn start_log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // Who calls the API server logs its errors, with what follows from them.
    let filter = match "kube_client::client::builder=off".parse() {
        Ok(directive) => filter.add_directive(directive),
        Err(_never_since_it_is_constant) => filter,
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_ansi(false).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}
