//! The sealing engine: sealing, proving, sector files, parameters.
//!
//! A caller builds a [`Task`], picks an [`Engine`] and calls [`run`]; what comes back is an
//! [`Output`] or an [`Error`] with a [`Class`]. Tasks and outputs are data and travel as JSON.
//!
//! Knows nothing of Kubernetes. Everything that a task needs is in its input; the two settings that
//! the stock proof library takes from its process (where parameters and parents are) are set by
//! whoever starts the process.
//!
//! | module | what it is |
//! |---|---|
//! | [`proof`], [`sector`], [`hash`] | names, numbers, paths, commitments |
//! | [`task`] | inputs and outputs |
//! | [`engine`], [`own`], [`stock`] | the computations: our kernels, and the reference library |
//! | [`partitions`] | the SNARK of a seal, one partition at a time |
//! | [`post`] | reading sectors for proofs of spacetime |
//! | [`steps`] | what makes computations safe to repeat |
//! | [`ledger`], [`durable`] | records and files that survive a crash |
//! | [`params`] | Groth16 parameters |
//! | [`cpu`] | whether this processor can run what was compiled |

#![forbid(unsafe_code)]

pub mod cpu;
pub mod durable;
pub mod engine;
pub mod error;
pub mod hash;
pub mod ledger;
pub mod own;
pub mod params;
pub mod partitions;
pub mod post;
pub mod proof;
pub mod sector;
pub mod steps;
pub mod stock;
pub mod task;
mod template;

pub use engine::Engine;
pub use error::{Class, Error, Result};
pub use hash::{Hash32, HexBytes};
pub use own::Own;
pub use proof::SealProof;
pub use sector::{Place, SectorId};
pub use steps::{Context, run};
pub use stock::Stock;
pub use task::{Output, Task};
