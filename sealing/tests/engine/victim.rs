//! A process that does what a test asks for, to be killed by it with signal 9: the test `victim` of the calling file.

use std::{
    env,
    ffi::OsStr,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use filstar_sealing::{Context, Own, Task, run};
use rand::Rng;

use crate::support::full_name;

const VICTIM: &str = "FILSTAR_TEST_VICTIM";

/// What this process is asked for; none when it is no victim.
pub(crate) fn asked() -> Option<String> {
    env::var(VICTIM).ok()
}

/// Runs the task that this process is asked for, in JSON, with our kernels.
pub(crate) fn run_task() {
    if let Some(task) = asked() {
        let task: Task = serde_json::from_str(&task).unwrap();
        run(&task, &Context::quiet(&Own::default())).unwrap();
    }
}

/// How often to kill: `FILSTAR_KILLS`, else so often.
pub(crate) fn kills(else_: u32) -> u32 {
    env::var("FILSTAR_KILLS").map_or(else_, |n| n.parse().unwrap())
}

/// Microseconds that a victim takes when nobody kills it.
#[track_caller]
pub(crate) fn undisturbed(what: impl AsRef<OsStr>) -> u64 {
    let started = Instant::now();
    assert!(start(what).wait().unwrap().success());
    u64::try_from(started.elapsed().as_micros()).unwrap()
}

/// Kills a victim at a random time, after so many microseconds at most. Whether it had not ended before.
#[track_caller]
pub(crate) fn killed_within(what: impl AsRef<OsStr>, micros: u64) -> bool {
    let mut child = start(what);
    let pause = rand::thread_rng().gen_range(0..=micros);
    // What is tested is any moment: there is no condition to wait for.
    thread::sleep(Duration::from_micros(pause));
    child.kill().unwrap();
    !child.wait().unwrap().success()
}

#[track_caller]
fn start(what: impl AsRef<OsStr>) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", &full_name("victim")])
        .env(VICTIM, what)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}
