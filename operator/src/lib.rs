//! The control plane of Filstar.
//!
//! 1. [`world`]: one owned index of everything known, changed by watch events and chain polls.
//! 2. [`plan`]: what to do next, a pure function of the world and the time.
//! 3. [`status`]: what to say, likewise.
//! 4. `apply`: does it, one write at a time; what it wrote is in the world before the next plan.
//!
//! Around them: `watch` (API server to world), `observe` (chain to world), `lease` (one leader writes),
//! `serve` (health, metrics), `run` (the loop).

pub mod action;
pub mod apply;
pub mod config;
pub mod events;
pub mod lease;
pub mod metrics;
pub mod observe;
pub mod plan;
pub mod run;
pub mod secrets;
pub mod serve;
pub mod status;
pub mod watch;
pub mod world;
