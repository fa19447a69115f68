//! Tries a read again when it failed for a while only. Writes have no such layer: a push error proves nothing.

use std::time::Duration;

use serde_json::Value;

use super::{ReadRpc, Reply};
use crate::types::Network;

/// A reader that tries again, with growing pauses, while the error is Temporary.
#[derive(Debug, Clone)]
pub struct Retry<R> {
    reader: R,
    attempts: u32,
    first_pause: Duration,
}

impl<R: ReadRpc> Retry<R> {
    /// At most `attempts` tries; the pause before the second is `first_pause`, and doubles.
    pub fn new(reader: R, attempts: u32, first_pause: Duration) -> Self {
        Self {
            reader,
            attempts: attempts.max(1),
            first_pause,
        }
    }
}

impl<R: ReadRpc> ReadRpc for Retry<R> {
    fn read_raw(&self, method: &'static str, params: Vec<Value>) -> Reply<'_, String> {
        Box::pin(async move {
            let mut pause = self.first_pause;
            let mut attempt = 1;
            loop {
                match self.reader.read_raw(method, params.clone()).await {
                    Err(error) if error.class().is_temporary() && attempt < self.attempts => {
                        tracing::debug!(method, attempt, %error, "will read again");
                        tokio::time::sleep(pause).await;
                        pause = pause.saturating_mul(2);
                        attempt += 1;
                    }
                    result => return result,
                }
            }
        })
    }

    fn network(&self) -> Network {
        self.reader.network()
    }
}
