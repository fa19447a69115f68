//! What to do about the Lease, as a pure function of its record and of our own clock.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;

/// A Lease as far as it decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Who holds it; empty when it was given back.
    pub(super) holder: String,
    /// How long it counts without a change.
    pub(super) duration: Duration,
    /// Changes with every write.
    pub(super) version: String,
}

impl Record {
    pub(super) fn of(lease: &Lease) -> Self {
        let spec = lease.spec.as_ref();
        let seconds = spec.and_then(|s| s.lease_duration_seconds).unwrap_or(0);
        Self {
            holder: spec
                .and_then(|s| s.holder_identity.clone())
                .unwrap_or_default(),
            duration: Duration::from_secs(u64::try_from(seconds).unwrap_or(0)),
            version: lease.metadata.resource_version.clone().unwrap_or_default(),
        }
    }
}

/// A version of the record, and when we saw it first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    version: String,
    since: Instant,
}

impl Seen {
    /// What is seen now, after `old`.
    pub(super) fn update(old: Option<Self>, record: Option<&Record>, now: Instant) -> Self {
        let version = record.map(|r| r.version.clone()).unwrap_or_default();
        match old {
            Some(seen) if seen.version == version => seen,
            Some(_) | None => Self {
                version,
                since: now,
            },
        }
    }
}

/// That we hold it, as far as we know.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holding {
    /// When the last renewal that succeeded was asked for.
    pub(super) renewed: Instant,
    /// How long it counts.
    pub(super) deadline: Duration,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// There is no Lease: make it.
    Create,
    /// Nobody holds it any more: take it.
    Take,
    /// We hold it: say so again.
    Renew,
    /// Somebody else holds it.
    Wait,
    /// We held it and no longer do.
    Lost,
}

/// Decides. `pod` is the name of our pod: a record of an earlier container of the same pod is nobody's, since a
/// container starts only after the one before it is gone.
pub(super) fn decide(
    me: &str,
    pod: Option<&str>,
    record: Option<&Record>,
    seen: Option<&Seen>,
    holding: Option<Holding>,
    now: Instant,
) -> Step {
    if let Some(holding) = holding {
        let late = now.saturating_duration_since(holding.renewed) >= holding.deadline;
        let ours = record.is_some_and(|r| r.holder == me);
        return if ours && !late {
            Step::Renew
        } else {
            Step::Lost
        };
    }
    let Some(record) = record else {
        return Step::Create;
    };
    let predecessor = || {
        pod.is_some_and(|pod| {
            record
                .holder
                .strip_prefix(pod)
                .is_some_and(|r| r.starts_with('_'))
        })
    };
    // A record in our name that we do not know of is a write of ours whose answer was lost.
    if record.holder.is_empty() || record.holder == me || predecessor() {
        return Step::Take;
    }
    let unchanged = seen
        .filter(|s| s.version == record.version)
        .map(|s| s.since);
    match unchanged {
        Some(since) if now.saturating_duration_since(since) >= record.duration => Step::Take,
        Some(_) | None => Step::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    fn record(holder: &str, version: &str) -> Record {
        Record {
            holder: holder.into(),
            duration: Duration::from_secs(15),
            version: version.into(),
        }
    }

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_lease_of_somebody_else_is_taken_only_when_it_did_not_change_for_its_duration() {
        let start = Instant::now();
        let other = record("b_1", "5");
        let seen = Some(Seen::update(None, Some(&other), start));
        let step = |now| decide("a_1", Some("a"), Some(&other), seen.as_ref(), None, now);
        assert_eq!(step(start), Step::Wait);
        assert_eq!(step(after(start, 14)), Step::Wait);
        assert_eq!(step(after(start, 15)), Step::Take);
    }

    #[test]
    fn a_renewal_of_the_holder_starts_the_wait_again() {
        let start = Instant::now();
        let seen = Some(Seen::update(None, Some(&record("b_1", "5")), start));
        let renewed = record("b_1", "6");
        let seen = Some(Seen::update(seen, Some(&renewed), after(start, 14)));
        let step = |now| decide("a_1", None, Some(&renewed), seen.as_ref(), None, now);
        assert_eq!(step(after(start, 20)), Step::Wait);
        assert_eq!(step(after(start, 29)), Step::Take);
    }

    #[test]
    fn a_lease_that_was_given_back_or_is_absent_is_ours_at_once() {
        let now = Instant::now();
        assert_eq!(decide("a_1", None, None, None, None, now), Step::Create);
        assert_eq!(
            decide("a_1", None, Some(&record("", "5")), None, None, now),
            Step::Take
        );
    }

    #[test]
    fn a_container_that_starts_again_in_its_pod_does_not_wait() {
        let now = Instant::now();
        let before = record("operator-7c_1", "5");
        assert_eq!(
            decide(
                "operator-7c_2",
                Some("operator-7c"),
                Some(&before),
                None,
                None,
                now
            ),
            Step::Take
        );
        assert_eq!(
            decide(
                "operator-7_2",
                Some("operator-7"),
                Some(&before),
                None,
                None,
                now
            ),
            Step::Wait
        );
    }

    #[test]
    fn a_holder_renews_until_the_deadline_and_has_lost_after_it() {
        let start = Instant::now();
        let (ours, theirs) = (record("a_1", "5"), record("b_1", "6"));
        let holding = Some(Holding {
            renewed: start,
            deadline: DEADLINE,
        });
        let step = |record, now| decide("a_1", Some("a"), record, None, holding, now);
        assert_eq!(step(Some(&ours), after(start, 9)), Step::Renew);
        assert_eq!(step(Some(&ours), after(start, 10)), Step::Lost);
        assert_eq!(step(Some(&theirs), after(start, 1)), Step::Lost);
        assert_eq!(step(None, after(start, 1)), Step::Lost);
    }
}
