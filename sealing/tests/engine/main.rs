//! The engine as whole tasks: against the reference library, killed, damaged, asked for wrongly. One program, so that it is
//! linked once and its tests run side by side.

#![expect(clippy::unwrap_used, reason = "what a test cannot get fails it")]

mod damage;
mod disks;
mod features;
mod params;
mod pc1;
mod pc2;
mod post;
mod replica;
mod seal;
mod snark;
mod support;
mod together;
mod unseal;
mod victim;
mod winning;
