//! Watching until sectors are proven: a line for each change.
//!
//! Effects: lists the namespace's objects once a second, prints.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use kube::Client;

use crate::changes::changes;
use crate::snapshot::Snapshot;
use crate::summary::Summary;
use crate::text::length;

const PAUSE: Duration = Duration::from_secs(1);

/// Prints changes until `sectors` sectors are proven or the time is over.
pub(crate) async fn watch(
    client: &Client,
    namespace: &str,
    sectors: usize,
    timeout: Duration,
) -> anyhow::Result<ExitCode> {
    let start = Instant::now();
    let mut seen = Snapshot::default();
    let mut trouble = String::new();
    loop {
        // The API server may be restarted meanwhile: that is said, and waited for.
        match Snapshot::read(client, namespace).await {
            Ok(now) => {
                let empty = now.nothing().unwrap_or_default();
                if empty != trouble && !empty.is_empty() {
                    say(start, &empty);
                }
                trouble = empty;
                for line in changes(&seen, &now) {
                    say(start, &line);
                }
                if Summary::of(&now).reached(sectors) {
                    return Ok(ExitCode::SUCCESS);
                }
                seen = now;
            }
            Err(error) if format!("{error:#}") == trouble => {}
            Err(error) => {
                trouble = format!("{error:#}");
                say(start, &trouble);
            }
        }
        if start.elapsed() >= timeout {
            let line = Summary::of(&seen).line();
            say(
                start,
                &format!("not reached within {}: {line}", length(whole(timeout))),
            );
            return Ok(ExitCode::FAILURE);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn say(start: Instant, line: &str) {
    println!("{:>7}  {line}", length(whole(start.elapsed())));
}

fn whole(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}
