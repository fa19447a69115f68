//! The hot loops of sealing, on plain memory and plain files: the SDR graph and its labels, Poseidon
//! and its trees.
//!
//! Knows nothing of proof types, sectors' folders or the proof library. Every kernel that uses
//! instructions of one processor family has a portable twin that computes the same, and is chosen
//! when the program runs.
//!
//! | module | what it is |
//! |---|---|
//! | [`error`] | what can go wrong |
//! | [`graph`] | who the parents of a node are |
//! | [`parents`] | the parents of all nodes in a file |
//! | [`sdr`] | the labels of all layers (PC1) |
//! | [`memory`] | large buffers on large pages |
//! | [`pool`] | how much memory several PC1 take for their layers |
//! | [`poseidon`], [`trees`] | the hash of PC2 and the trees that it builds |

pub mod error;
pub mod graph;
pub mod memory;
pub mod parents;
pub mod pool;
pub mod poseidon;
pub mod sdr;
pub mod trees;

pub use error::{Error, Result};
