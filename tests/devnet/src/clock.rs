//! Makes an epoch whenever one is due. Only here and in `main` does anyone read a clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::chain::{Chain, ChainError};
use crate::rpc::Handle;

/// Unix time in milliseconds.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The next epoch passes, as a tipset or a null round.
pub(crate) fn next_epoch(chain: &mut Chain) -> Result<(), ChainError> {
    let height = chain.next_height();
    chain.tick(height)?;
    chain.tidy()
}

/// After a stop the chain goes on where it was: the next epoch is due one delay from now, and
/// timestamps jump. Epochs that nobody made are not null rounds.
pub(crate) fn realign(chain: &mut Chain, now: i64) -> Result<(), ChainError> {
    let delay = i64::try_from(chain.config.block_delay_ms).unwrap_or(i64::MAX);
    let late = now + delay - chain.due_ms(chain.next_height());
    if late > delay {
        chain.change_settings(|s| s.shift_ms += late)?;
    }
    Ok(())
}

/// Makes epochs for ever; returns only when the chain cannot be written.
pub(crate) async fn run(handle: Handle) -> ChainError {
    loop {
        let wait = match step(&handle) {
            Ok(wait) => wait,
            Err(error) => return error,
        };
        tokio::time::sleep(wait).await;
    }
}

/// Makes an epoch if it is due; says how long to sleep.
fn step(handle: &Handle) -> Result<Duration, ChainError> {
    let mut node = handle.lock();
    let chain = &mut node.chain;
    let delay = i64::try_from(chain.config.block_delay_ms).unwrap_or(i64::MAX);
    if chain.settings.paused {
        return Ok(Duration::from_millis(200));
    }
    let now = now_ms();
    if now - chain.due_ms(chain.next_height()) > 3 * delay {
        // The machine was too busy: slow down rather than rush.
        realign(chain, now)?;
    }
    if now >= chain.due_ms(chain.next_height()) {
        next_epoch(chain)?;
        handle.ring();
    }
    let left = chain.due_ms(chain.next_height()) - now_ms();
    Ok(Duration::from_millis(
        u64::try_from(left.clamp(1, 60_000)).unwrap_or(1),
    ))
}
