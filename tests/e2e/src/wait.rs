//! Waiting for conditions: asked again and again, never for a fixed time.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use anyhow::bail;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(250);

/// Asks until there is an answer. An error counts as not yet: servers may be away.
///
/// # Errors
/// After `timeout`, with what was waited for and the last error.
pub async fn wait_until<T>(
    what: &str,
    timeout: Duration,
    condition: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    wait_while(what, timeout, condition, async || Ok(())).await
}

/// As [`wait_until`], and ends at once with the error of `sane` when that no longer holds.
///
/// # Errors
/// After `timeout`, or when `sane` fails.
pub async fn wait_while<T>(
    what: &str,
    timeout: Duration,
    mut condition: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
    mut sane: impl AsyncFnMut() -> anyhow::Result<()>,
) -> anyhow::Result<T> {
    let begin = Instant::now();
    loop {
        let last = match condition().await {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        sane().await?;
        if begin.elapsed() > timeout {
            match last {
                Some(error) => return Err(error.context(late(what, timeout))),
                None => bail!(late(what, timeout)),
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn late(what: &str, timeout: Duration) -> String {
    format!("not within {}s: {what}", timeout.as_secs())
}

/// Compares, with both values in the error.
///
/// # Errors
/// When they differ.
pub(crate) fn same<T: PartialEq + Debug>(what: &str, found: &T, wanted: &T) -> anyhow::Result<()> {
    if found == wanted {
        return Ok(());
    }
    bail!("{what}: found {found:?}, wanted {wanted:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(work)
    }

    #[test]
    fn waiting_ends_with_the_answer_and_forgives_errors() {
        let mut left = 2;
        let got = now(wait_until("three", Duration::from_secs(9), async || {
            left -= 1;
            if left > 0 {
                Err(anyhow::anyhow!("away"))
            } else {
                Ok(Some(3))
            }
        }));
        assert_eq!(got.unwrap(), 3);
    }

    #[test]
    fn waiting_in_vain_says_for_what_and_why() {
        let got = now(wait_until("a sector", Duration::ZERO, async || {
            Err::<Option<()>, _>(anyhow::anyhow!("no such thing"))
        }));
        let text = format!("{:#}", got.unwrap_err());
        assert!(
            text.contains("a sector") && text.contains("no such thing"),
            "{text}"
        );
    }
}
