//! How much memory a task process may take, so that one that wants too much dies alone.
//!
//! Without a limit of its own the kernel would kill the whole container: kubelet groups its
//! processes for that. `FILSTAR_TASK_MEMORY` (bytes) is the limit; without it there is none, for how
//! much private memory a SNARK reserves beyond what it uses is not measured for every size. It counts
//! private memory that can be written: mapped parameters do not count, large pages do.

use rustix::process::{Resource, Rlimit, setrlimit};

/// The variable with the limit of a task process, bytes. A group's `env` may set it.
pub(crate) const VARIABLE: &str = "FILSTAR_TASK_MEMORY";

/// Smaller limits are mistakes: no task fits.
const LEAST_BYTES: u64 = 64 << 20;

/// Sets the limit of this process; says why when it cannot.
pub(crate) fn apply() {
    let Some(text) = std::env::var(VARIABLE).ok().filter(|t| !t.is_empty()) else {
        return;
    };
    let Some(bytes) = text.parse::<u64>().ok().filter(|n| *n >= LEAST_BYTES) else {
        tracing::error!(
            text,
            "{VARIABLE} is no number of bytes of {LEAST_BYTES} or more: no limit"
        );
        return;
    };
    let limit = Rlimit {
        current: Some(bytes),
        maximum: Some(bytes),
    };
    match setrlimit(Resource::Data, limit) {
        Ok(()) => tracing::debug!(bytes, "memory limit"),
        Err(e) => tracing::warn!(error = %e, "no memory limit can be set"),
    }
}
