//! Leader election on a Lease: only its holder writes.
//!
//! Timings are those of Kubernetes' own components. A record that somebody else holds counts as expired when it
//! did not change for as long as it says, by our own monotonic clock: clocks of other machines are never
//! compared. A holder that cannot renew within [`RENEW_DEADLINE`] has lost, and the process ends.
//!
//! In: what the API server says. Out: [`Role`]. Effects: writes the Lease, with its resourceVersion.
//! Never: server-side apply, retries inside a call.

mod decide;
#[cfg(test)]
mod sim;

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::watch;

use decide::{Holding, Record, Seen, Step, decide};

/// How long a record counts that is not renewed.
pub const LEASE_DURATION: Duration = Duration::from_secs(15);
/// A holder that could not renew for so long has lost.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Between two tries.
pub const RETRY_PERIOD: Duration = Duration::from_secs(2);
/// A call that takes longer has failed.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);

/// Whether we may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Nothing is known yet.
    Unknown,
    /// Somebody else holds the Lease, or nobody does yet.
    Follower,
    /// We hold it, renewed at this time.
    Leader {
        /// When the last renewal was asked for.
        renewed: Instant,
    },
    /// We held it and do not any more: the process must end.
    Lost,
}

impl Role {
    /// Whether a write that begins now ends while we still hold the Lease.
    pub fn may_write(self, now: Instant) -> bool {
        match self {
            Self::Leader { renewed } => now.saturating_duration_since(renewed) < RENEW_DEADLINE,
            Self::Unknown | Self::Follower | Self::Lost => false,
        }
    }

    /// Whether we hold the Lease.
    pub fn leads(self) -> bool {
        matches!(self, Self::Leader { .. })
    }
}

/// Which Lease, and who we are.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// Ours alone: `<pod>_<random>`.
    pub holder: String,
    /// The name of our pod, if we run in one.
    pub pod: Option<String>,
}

/// A Lease could not be read or written.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Api(#[from] kube::Error),
    #[error("no answer within {}s", CALL_TIMEOUT.as_secs())]
    Timeout,
}

/// Takes part in the election for ever, until `stop` is true; then gives the Lease back.
pub async fn elect(
    client: Client,
    identity: Identity,
    role: Arc<watch::Sender<Role>>,
    mut stop: watch::Receiver<bool>,
) {
    let api: Api<Lease> = Api::namespaced(client, &identity.namespace);
    let mut election = Election {
        api,
        identity,
        seen: None,
        held: None,
    };
    loop {
        let next = election.turn().await;
        let lost = next == Role::Lost;
        role.send_if_modified(|old| std::mem::replace(old, next) != next);
        if lost {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY_PERIOD) => {}
            stopped = stop.wait_for(|stop| *stop) => {
                drop(stopped);
                break;
            }
        }
    }
    // Whatever still runs must not write any more once somebody else may.
    role.send_replace(Role::Follower);
    election.release().await;
}

struct Election {
    api: Api<Lease>,
    identity: Identity,
    /// The record when it last changed, by our clock.
    seen: Option<Seen>,
    /// Since when our last renewal counts.
    held: Option<Instant>,
}

impl Election {
    /// Looks at the record once and does what is to be done.
    async fn turn(&mut self) -> Role {
        let asked = Instant::now();
        match self.try_turn(asked).await {
            Ok(role) => role,
            Err(error) => {
                tracing::warn!(%error, "the Lease could not be read or written");
                self.role(Instant::now())
            }
        }
    }

    async fn try_turn(&mut self, asked: Instant) -> Result<Role, Error> {
        let lease = call(self.api.get_opt(&self.identity.name)).await?;
        let record = lease.as_ref().map(Record::of);
        self.seen = Some(Seen::update(self.seen.take(), record.as_ref(), asked));
        let holding = self.held.map(|renewed| Holding {
            renewed,
            deadline: RENEW_DEADLINE,
        });
        let pod = self.identity.pod.as_deref();
        let step = decide(
            &self.identity.holder,
            pod,
            record.as_ref(),
            self.seen.as_ref(),
            holding,
            asked,
        );
        match step {
            Step::Wait => Ok(Role::Follower),
            Step::Lost => {
                self.held = None;
                Ok(Role::Lost)
            }
            Step::Create | Step::Take | Step::Renew => self.write(step, lease, asked).await,
        }
    }

    async fn write(
        &mut self,
        step: Step,
        lease: Option<Lease>,
        asked: Instant,
    ) -> Result<Role, Error> {
        let lease = claim(lease, &self.identity, step, Timestamp::now());
        let params = PostParams::default();
        let written = if step == Step::Create {
            call(self.api.create(&params, &lease)).await
        } else {
            call(self.api.replace(&self.identity.name, &params, &lease)).await
        };
        match written {
            Ok(lease) => {
                if step != Step::Renew {
                    tracing::info!(
                        lease = self.identity.name,
                        holder = self.identity.holder,
                        "we lead"
                    );
                }
                self.held = Some(asked);
                self.seen = Some(Seen::update(
                    self.seen.take(),
                    Some(&Record::of(&lease)),
                    asked,
                ));
                Ok(Role::Leader { renewed: asked })
            }
            Err(Error::Api(kube::Error::Api(status))) if status.code == 409 => Ok(self.role(asked)),
            Err(error) => Err(error),
        }
    }

    /// Our role when nothing new is known.
    fn role(&self, now: Instant) -> Role {
        match self.held {
            Some(renewed) if now.saturating_duration_since(renewed) < RENEW_DEADLINE => {
                Role::Leader { renewed }
            }
            Some(_) => Role::Lost,
            None if self.seen.is_some() => Role::Follower,
            None => Role::Unknown,
        }
    }

    /// Gives the Lease back, so that the next one need not wait. An error only means that it waits.
    async fn release(&mut self) {
        if self.held.take().is_none() {
            return;
        }
        let result = self.try_release().await;
        match result {
            Ok(()) => tracing::info!(lease = self.identity.name, "gave the Lease back"),
            Err(error) => tracing::warn!(%error, "the Lease could not be given back; it expires"),
        }
    }

    async fn try_release(&self) -> Result<(), Error> {
        let Some(mut lease) = call(self.api.get_opt(&self.identity.name)).await? else {
            return Ok(());
        };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(&self.identity.holder) {
            return Ok(());
        }
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(MicroTime(Timestamp::now()));
        call(
            self.api
                .replace(&self.identity.name, &PostParams::default(), &lease),
        )
        .await?;
        Ok(())
    }
}

/// The record that says that we hold it.
fn claim(lease: Option<Lease>, identity: &Identity, step: Step, now: Timestamp) -> Lease {
    let mut lease = lease.unwrap_or_default();
    lease.metadata.name = Some(identity.name.clone());
    lease.metadata.namespace = Some(identity.namespace.clone());
    lease.metadata.managed_fields = None;
    let old = lease.spec.take().unwrap_or_default();
    let transitions = old.lease_transitions.unwrap_or(0);
    let taken = step != Step::Renew;
    lease.spec = Some(LeaseSpec {
        holder_identity: Some(identity.holder.clone()),
        lease_duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).ok(),
        acquire_time: if taken {
            Some(MicroTime(now))
        } else {
            old.acquire_time.clone()
        },
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(match step {
            Step::Take => transitions.saturating_add(1),
            Step::Create | Step::Renew | Step::Wait | Step::Lost => transitions,
        }),
        ..old
    });
    lease
}

async fn call<T>(reply: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Error> {
    match tokio::time::timeout(CALL_TIMEOUT, reply).await {
        Ok(result) => result.map_err(Error::Api),
        Err(_elapsed) => Err(Error::Timeout),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            namespace: "filstar-system".into(),
            name: "filstar-operator".into(),
            holder: "a_1".into(),
            pod: Some("a".into()),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn taking_a_lease_counts_a_transition_and_renewing_does_not() {
        let first = claim(None, &identity(), Step::Create, at(10));
        let spec = first.spec.clone().unwrap();
        assert_eq!(
            (spec.lease_transitions, spec.lease_duration_seconds),
            (Some(0), Some(15))
        );
        let renewed = claim(Some(first.clone()), &identity(), Step::Renew, at(12))
            .spec
            .unwrap();
        assert_eq!(renewed.lease_transitions, Some(0));
        assert_eq!(renewed.acquire_time.unwrap().0, at(10));
        assert_eq!(renewed.renew_time.unwrap().0, at(12));
        let taken = claim(Some(first), &identity(), Step::Take, at(40))
            .spec
            .unwrap();
        assert_eq!(taken.lease_transitions, Some(1));
        assert_eq!(taken.acquire_time.unwrap().0, at(40));
    }

    #[test]
    fn nothing_is_written_when_the_renewal_is_too_old() {
        let renewed = Instant::now();
        let role = Role::Leader { renewed };
        assert!(role.may_write(renewed + Duration::from_secs(9)));
        assert!(!role.may_write(renewed + RENEW_DEADLINE));
        assert!(!Role::Follower.may_write(renewed));
    }
}
