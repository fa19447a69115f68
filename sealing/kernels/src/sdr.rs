//! Labels of the layers of one or several sectors in lock step: PC1.
//!
//! Each label is the hash of its parents' labels, one of which is the node before: there is nothing
//! to spread over cores. What there is to do is not to wait for memory, not to do twice what can be
//! kept, and to fill the core with other sectors ([`kernel`](Kernel)).
//!
//! Layers are written while they grow, with a digest after each segment. A process that dies loses
//! the segments on their way to the disk; what it finds when it is started again it believes only
//! when the digests are right.

mod journal;
mod kernel;
mod portable;
mod run;
#[cfg(target_arch = "x86_64")]
mod sha256;
#[cfg(target_arch = "x86_64")]
mod shani;
mod store;

pub use kernel::{AHEAD, Kernel, Labels, Span};
pub use run::{Job, Lane, Options, Progress, Report, label, on_disk};
pub use store::{Disk, RealDisk, distrust, layer_name};
