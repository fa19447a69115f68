//! Logs: one JSON object per line on standard error; `RUST_LOG` chooses what.

use tracing_subscriber::EnvFilter;

/// Starts logging.
pub(crate) fn init() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
}
