//! What the operator decides, without any I/O.
//!
//! 1. [`world`]: one owned index of everything known, changed by watch events and chain polls.
//! 2. [`plan`]: what to do next, a pure function of the world and the time; [`action`]: what that can be.
//! 3. [`status`]: what to say, likewise.

pub mod action;
pub mod plan;
pub mod status;
pub mod world;
