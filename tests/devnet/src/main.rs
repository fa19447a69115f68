//! A Filecoin chain in one process, for demos and tests.
//!
//! It shares no code with Filstar: what Filstar encodes, this decodes with the actors' published
//! types, so that a mistake of one is found by the other.

mod actor;
mod chain;
mod cli;
mod clock;
mod codec;
mod config;
mod exec;
mod files;
mod gas;
mod history;
mod journal;
mod jwt;
mod keys;
mod mempool;
mod message;
#[cfg(test)]
mod real;
mod rpc;
mod state;
mod store;
#[cfg(test)]
mod testing;
mod verifier;

fn main() -> anyhow::Result<()> {
    cli::main()
}
