//! Lanes onto servers: which pods a server takes, on which core groups, NUMA nodes and GPUs, how many tasks each may
//! run, and a reason for each choice and for all that is left over.
//!
//! In: what a server has ([`Server`]) and what lanes want ([`LaneRequest`]). Out: [`ServerPlan`]. Effects: none.
//! The same code plans in the operator and prints in `sealer-pod agent --print`.

mod admit;
mod describe;
mod inventory;
mod lane;
pub mod layouts;
pub mod needs;
mod pack;
mod reason;
mod server;

/// The variable in which a sealer pod is told how many bytes of layer memory its PC1 share. The planner's admission reads
/// it back from the pod, so that both count on the same number.
pub const POOL_BYTES: &str = "FILSTAR_POOL_BYTES";

pub use admit::{Full, Kind, Limits, Load};
pub use describe::describe;
pub use inventory::Allocatable;
pub use lane::{GroupRule, Invalid, LaneRequest, PROVER};
pub use pack::{Held, LeftOver, PodPlan, ServerPlan, place};
pub use reason::{Choice, Unplaced, Unused};
pub use server::{CoreGroup, Gpu, Numa, Server, parse_cpus, write_cpus};
