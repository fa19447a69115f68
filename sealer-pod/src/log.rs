//! Logs on standard error: JSON, one object per line; text for people when it is a terminal.
//! `RUST_LOG` chooses what.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

/// Starts logging.
pub(crate) fn init() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    if io::stderr().is_terminal() {
        log.with_target(false).init();
    } else {
        log.json()
            .flatten_event(true)
            .with_current_span(false)
            .init();
    }
}
