//! Node side of Filstar: one program, several roles.
//!
//! | role | what it does |
//! |---|---|
//! | `seal` | runs the tasks of Sectors that are bound to its pod, see [`seal`] |
//! | `prove` | proves a miner's partitions, see [`prove`] |
//! | `agent` | says what its node is made of and whether it is well, see [`agent`] |
//! | `params` | makes or checks Groth16 parameters and parents caches, see [`params`] |
//! | `folders` | makes the folders of a node that pods write, see [`folders`] |
//! | `task` | runs one task in a process of its own, see [`task`]; started by the others |

#![deny(unsafe_code)]

mod agent;
mod child;
mod commitment;
mod disks;
mod folders;
mod http;
mod log;
mod memory;
mod metrics;
mod params;
mod pause;
mod placement;
mod pod;
mod pool;
mod prove;
mod seal;
mod settings;
mod task;
mod wire;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(
    name = "sealer-pod",
    version,
    about = "Node side of Filstar: seals, proves, makes parameters."
)]
struct Arguments {
    #[command(subcommand)]
    role: Role,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Run the tasks of Sectors that are bound to this pod.
    Seal(settings::Seal),
    /// Prove the partitions of a miner.
    Prove(settings::Prove),
    /// Say what this node is made of and whether it is well.
    Agent(agent::Arguments),
    /// Make or check Groth16 parameters and parents caches.
    Params(params::Arguments),
    /// Make folders of this node that pods can write; as root.
    Folders(folders::Arguments),
    /// Run one task: a JSON request on standard input, JSON lines on standard output.
    #[command(hide = true)]
    Task,
}

fn main() -> ExitCode {
    // First of all: what follows may already use the instructions that are asked for.
    if let Some(sentence) = filstar_sealing::cpu::missing() {
        eprintln!("sealer-pod: {sentence}");
        return ExitCode::FAILURE;
    }
    let arguments = Arguments::parse();
    log::init();
    let result = match arguments.role {
        Role::Task => return task::main(),
        Role::Params(arguments) => params::main(&arguments),
        Role::Folders(arguments) => folders::main(&arguments),
        Role::Agent(arguments) => on_runtime(agent::main(arguments)),
        Role::Seal(settings) => on_runtime(seal::main(settings)),
        Role::Prove(settings) => on_runtime(prove::main(settings)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => fail(&format!("{e:#}")),
    }
}

/// One thread is enough: all computing is in child processes. What still hangs on a dead mount when the role is over is
/// left behind: waited for, it would keep the process, and so its pod, for as long as the mount is dead.
fn on_runtime(role: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let ended = runtime.block_on(role);
    runtime.shutdown_background();
    ended
}

fn fail(sentence: &str) -> ExitCode {
    tracing::error!("{sentence}");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc::channel, thread, time::Duration};

    use super::*;

    #[test]
    fn role_that_is_over_does_not_wait_for_what_hangs() {
        let (mount, hangs) = channel::<()>();
        let (over, is_over) = channel();
        thread::spawn(move || {
            let ended = on_runtime(async {
                let (started, has_started) = tokio::sync::oneshot::channel();
                drop(tokio::task::spawn_blocking(move || {
                    started.send(()).unwrap();
                    hangs.recv().unwrap_or_default();
                }));
                has_started.await?;
                Ok(())
            });
            over.send(ended.is_ok()).unwrap();
        });
        assert_eq!(is_over.recv_timeout(Duration::from_mins(1)), Ok(true));
        drop(mount);
    }
}
