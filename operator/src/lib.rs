//! The control plane of Filstar, around what `filstar_core` decides:
//!
//! - `watch` (API server to world) and `observe` (chain to world),
//! - `apply`: does what the plan says, one write at a time; what it wrote is in the world before the next plan,
//! - `lease` (one leader writes), `serve` (health, metrics), `run` (the loop).

pub mod apply;
pub mod config;
pub mod events;
pub mod lease;
pub mod metrics;
pub mod observe;
pub mod run;
pub mod secrets;
pub mod serve;
pub mod watch;
