//! Keeps an action that fails from being tried all the time. Memory only: losing it costs one try.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use filstar_chain::class::Class;
use filstar_core::world::Id;

use crate::apply::Error;

/// After the world was only older than we thought.
const HARMLESS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// After an error that may pass.
const TEMPORARY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));
/// After an error that somebody must mend.
const LASTING: (Duration, Duration) = (Duration::from_secs(5), Duration::from_mins(5));
/// The longest pause of what must be done before a deadline closes.
const URGENT: Duration = Duration::from_secs(15);
/// Failures that old are forgotten.
const FORGET: Duration = Duration::from_mins(15);

/// What is done, to which kind of object, and to which.
pub(super) type Key = (&'static str, &'static str, Id);

/// When failed actions may be tried again.
#[derive(Debug, Default)]
pub(super) struct Pacing {
    paces: BTreeMap<Key, Pace>,
}

#[derive(Debug)]
struct Pace {
    failures: u32,
    until: Instant,
}

impl Pacing {
    /// Whether an action must wait.
    pub(super) fn waits(&self, key: &Key, now: Instant) -> bool {
        self.paces.get(key).is_some_and(|pace| now < pace.until)
    }

    /// How often it failed since it was last done.
    pub(super) fn failures(&self, key: &Key) -> u32 {
        self.paces.get(key).map_or(0, |pace| pace.failures)
    }

    /// It was done.
    pub(super) fn done(&mut self, key: &Key) {
        self.paces.remove(key);
    }

    /// It failed. Returns the pause.
    pub(super) fn failed(
        &mut self,
        key: Key,
        error: &Error,
        urgent: bool,
        now: Instant,
    ) -> Duration {
        let (first, most) = match error.class() {
            _ if error.is_harmless() => HARMLESS,
            Class::Temporary => TEMPORARY,
            Class::Permanent | Class::Corrupt | Class::Fatal => LASTING,
        };
        let most = if urgent { most.min(URGENT) } else { most };
        let pace = self.paces.entry(key).or_insert(Pace {
            failures: 0,
            until: now,
        });
        let pause = first.saturating_mul(1 << pace.failures.min(16)).min(most);
        pace.failures = pace.failures.saturating_add(1);
        pace.until = now + pause;
        pause
    }

    /// When the next action may be tried again that waits now.
    pub(super) fn next(&self) -> Option<Instant> {
        let now = Instant::now();
        self.paces
            .values()
            .map(|pace| pace.until)
            .filter(|until| *until > now)
            .min()
    }

    /// Forgets what is long past.
    pub(super) fn forget_old(&mut self) {
        let now = Instant::now();
        self.paces
            .retain(|_, pace| now.saturating_duration_since(pace.until) < FORGET);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_with_failures_up_to_a_bound_and_end_with_success() {
        let mut pacing = Pacing::default();
        let key = ("PushMessage", "ChainMessage", Id::new("ns", "m"));
        let now = Instant::now();
        let mut pauses = (0..8).map(|_| {
            let pause = pacing.failed(key.clone(), &Error::Timeout, false, now);
            pause.as_secs()
        });
        assert_eq!(
            pauses.by_ref().take(7).collect::<Vec<_>>(),
            [1, 2, 4, 8, 16, 32, 60]
        );
        drop(pauses);
        assert!(pacing.waits(&key, now));
        assert_eq!(pacing.failures(&key), 7);
        assert!(!pacing.waits(&("PatchMessage", key.1, key.2.clone()), now));
        pacing.done(&key);
        assert!(!pacing.waits(&key, now));
    }

    #[test]
    fn what_has_a_deadline_never_waits_for_long() {
        let mut pacing = Pacing::default();
        let key = ("SignMessage", "ChainMessage", Id::new("ns", "m"));
        let refused = Error::FeeBound("too dear".into());
        let lasting = Error::Invalid("no key".into());
        let (mut pauses, now) = (Vec::new(), Instant::now());
        for error in [&refused, &lasting].into_iter().cycle().take(20) {
            pauses.push(pacing.failed(key.clone(), error, true, now).as_secs());
        }
        assert_eq!(pauses.into_iter().max(), Some(15));
    }

    #[test]
    fn a_conflict_is_tried_again_soon() {
        let mut pacing = Pacing::default();
        let key = ("PatchSector", "Sector", Id::new("ns", "s"));
        let pause = pacing.failed(key, &Error::Conflict, false, Instant::now());
        assert!(pause <= Duration::from_millis(100));
    }
}
