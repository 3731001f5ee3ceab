//! Leadership among the operator's replicas, by one `Lease` object.
//!
//! A holder that could not renew in time ends before its Lease can be taken: it gives
//! up after [`RENEW_DEADLINE`], others wait for [`DURATION`] of their own clock since
//! they last saw it change. Clocks of different machines are never compared.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease as LeaseObject, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, warn};

use crate::causes::causes;

/// How long a Lease holds after it was last renewed.
const DURATION: Duration = Duration::from_secs(15);
/// How long a holder tries to renew before it gives up.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Pause between renewals and between attempts.
const RETRY: Duration = Duration::from_secs(2);

/// Why leadership is not held, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// It was not renewed in time.
    #[error("the Lease could not be renewed for {} s: {last}", RENEW_DEADLINE.as_secs())]
    NotRenewed {
        /// What the last attempt met.
        last: String,
    },
    /// Someone else holds it.
    #[error("the Lease was taken by {0}")]
    Taken(String),
    /// The API server refused outright.
    #[error("the Lease: {0}")]
    Refused(Box<kube::Error>),
}

/// One replica's claim to lead.
#[derive(Clone)]
pub struct Lease {
    api: Api<LeaseObject>,
    name: String,
    identity: String,
}

impl Lease {
    /// A claim by `identity` on the Lease `name`.
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Self {
        Lease {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity: identity.to_owned(),
        }
    }

    /// Waits until this replica leads.
    pub async fn acquire(&self) -> Result<(), LeaseError> {
        let mut seen: Option<(String, Instant)> = None;
        loop {
            match self.attempt(&mut seen).await {
                Ok(true) => return Ok(()),
                Ok(false) => debug!(lease = self.name, "someone else leads"),
                Err(error) => match &error {
                    kube::Error::Api(status) if status.is_forbidden() => {
                        return Err(LeaseError::Refused(Box::new(error)));
                    }
                    _ => warn!(error = causes(&error), "cannot seek the Lease"),
                },
            }
            sleep(RETRY).await;
        }
    }

    /// One attempt: whether it was taken.
    async fn attempt(&self, seen: &mut Option<(String, Instant)>) -> Result<bool, kube::Error> {
        let Some(live) = self.api.get_opt(&self.name).await? else {
            let created = self
                .api
                .create(&PostParams::default(), &self.object(None))
                .await;
            return lost_race(created.map(|_| true));
        };
        let version = live.metadata.resource_version.clone().unwrap_or_default();
        let spec = live.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.unwrap_or_default();
        // Time since the object last changed in our own sight, by our own clock.
        let since = match seen {
            Some((known, since)) if *known == version => *since,
            _ => {
                let now = Instant::now();
                *seen = Some((version, now));
                now
            }
        };
        let free = holder.is_empty() || holder == self.identity || since.elapsed() >= DURATION;
        if !free {
            return Ok(false);
        }
        let replaced = self
            .api
            .replace(
                &self.name,
                &PostParams::default(),
                &self.object(Some(&live)),
            )
            .await;
        lost_race(replaced.map(|_| true))
    }

    /// Renews for ever; ends with the reason why it cannot any more.
    pub async fn keep(&self) -> LeaseError {
        let mut renewed = Instant::now();
        let mut last = "no answer".to_owned();
        loop {
            sleep(RETRY).await;
            let left = RENEW_DEADLINE.saturating_sub(renewed.elapsed());
            if left.is_zero() {
                return LeaseError::NotRenewed { last };
            }
            match timeout(left, self.renew()).await {
                Ok(Ok(None)) => renewed = Instant::now(),
                Ok(Ok(Some(holder))) => return LeaseError::Taken(holder),
                Ok(Err(error)) => {
                    warn!(error = causes(&error), "cannot renew the Lease");
                    last = error.to_string();
                }
                Err(elapsed) => last = elapsed.to_string(),
            }
        }
    }

    /// Renews once; `Some(holder)` if it is someone else's now.
    async fn renew(&self) -> Result<Option<String>, kube::Error> {
        let live = self.api.get(&self.name).await?;
        let holder = live
            .spec
            .as_ref()
            .and_then(|spec| spec.holder_identity.clone());
        if holder.as_deref() != Some(&self.identity) {
            return Ok(Some(holder.unwrap_or_default()));
        }
        self.api
            .replace(
                &self.name,
                &PostParams::default(),
                &self.object(Some(&live)),
            )
            .await?;
        Ok(None)
    }

    /// Gives it back, at an orderly end.
    pub async fn release(&self) -> Result<(), kube::Error> {
        let mut live = self.api.get(&self.name).await?;
        if let Some(spec) = live
            .spec
            .as_mut()
            .filter(|spec| spec.holder_identity.as_ref() == Some(&self.identity))
        {
            spec.holder_identity = Some(String::new());
            self.api
                .replace(&self.name, &PostParams::default(), &live)
                .await?;
        }
        Ok(())
    }

    /// The object with this replica as holder, renewed now.
    fn object(&self, live: Option<&LeaseObject>) -> LeaseObject {
        let now = MicroTime(Timestamp::now());
        let before = live.and_then(|live| live.spec.clone()).unwrap_or_default();
        let ours = before.holder_identity.as_ref() == Some(&self.identity);
        let transitions = before.lease_transitions.unwrap_or(0);
        LeaseObject {
            metadata: live.map_or_else(
                || ObjectMeta {
                    name: Some(self.name.clone()),
                    ..ObjectMeta::default()
                },
                |live| live.metadata.clone(),
            ),
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
                acquire_time: if ours {
                    before.acquire_time
                } else {
                    Some(now.clone())
                },
                renew_time: Some(now),
                lease_transitions: Some(if ours { transitions } else { transitions + 1 }),
                ..LeaseSpec::default()
            }),
        }
    }
}

/// A write that met another's is a race lost, not an error.
fn lost_race(result: Result<bool, kube::Error>) -> Result<bool, kube::Error> {
    match result {
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {
            Ok(false)
        }
        other => other,
    }
}
