//! What the crate promises, as one test program.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod answers;
mod devnet;
mod endpoints;
mod gas;
mod messages;
mod params;
mod proving;
mod randomness;
mod refusals;
mod server;
mod transport;
mod types;
mod wallet;
