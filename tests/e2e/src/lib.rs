//! End to end tests on a real cluster: what they share.
//!
//! They run only when `FILSTAR_E2E=1`, with `KUBECONFIG` of the local cluster and its programs in `PATH`
//! (`tests/e2e/run` sees to all of it); otherwise each test says that it is skipped, and touches nothing.
//!
//! Each test is a [`Scenario`]: a namespace, a chain and folders of its own, so that tests run side by side and in
//! any order. What users write is plain YAML in `testdata/`. Nothing waits for a fixed time: [`wait_until`] asks
//! again and again, and a test that fails prints the objects, events and logs of its namespace.

#![forbid(unsafe_code)]

pub mod audit;
pub mod books;
pub mod cbor;
pub mod chain;
pub mod cluster;
mod diagnosis;
pub mod host;
pub mod invariants;
pub mod nodes;
pub mod operator;
mod scenario;
pub mod setup;
mod wait;

pub use audit::Audit;
pub use chain::Chain;
pub use cluster::Cluster;
pub use scenario::{Scenario, scenario};
pub use setup::Setup;
pub use wait::{wait_until, wait_while};

/// Whether tests may touch a cluster.
pub fn enabled() -> bool {
    std::env::var("FILSTAR_E2E").is_ok_and(|v| v == "1")
}

/// A setting of these tests.
pub fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}
