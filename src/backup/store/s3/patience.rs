//! How often a request is made again.
//!
//! What passes is waited out with growing, jittered pauses until patience ends.
//! Credentials that worked and no longer do are waited for too: a Secret that was rotated
//! takes the kubelet up to a minute and a half to appear.

use std::{
    error::Error,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use aws_sdk_s3::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};
use parking_lot::Mutex;
use tracing::warn;

use super::{credentials::FileCredentials, fault::fault};
use crate::backup::{
    context::{Context, Tracker},
    random::jittered,
    run::{Failure, Reason},
};

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// Pause between two looks for changed credentials.
const LOOK: Duration = Duration::from_millis(500);

/// How requests of one store are repeated.
#[derive(Clone)]
pub(super) struct Patience {
    limit: Duration,
    tracker: Tracker,
    credentials: Option<FileCredentials>,
    /// Whether any request has been answered.
    proven: Arc<AtomicBool>,
}

impl Patience {
    pub(super) fn new(context: &Context, credentials: Option<FileCredentials>) -> Patience {
        Patience {
            limit: context.patience,
            tracker: context.tracker.clone(),
            credentials,
            proven: Arc::new(AtomicBool::new(false)),
        }
    }

    /// How long what passes is waited out.
    pub(super) fn limit(&self) -> Duration {
        self.limit
    }

    /// Makes a request until it is answered, refused, or patience ends; `what` says what
    /// it does, on which object.
    ///
    /// # Errors
    /// The last failure.
    pub(super) async fn call<T, E, F>(
        &self,
        what: &str,
        request: impl Fn() -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + Error + 'static,
    {
        self.call_noting(what, request, &Mutex::default()).await
    }

    /// As [`Patience::call`]; the last failure that is waited out is noted.
    ///
    /// # Errors
    /// The last failure.
    pub(super) async fn call_noting<T, E, F>(
        &self,
        what: &str,
        request: impl Fn() -> F,
        waited_out: &Mutex<Option<Failure>>,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + Error + 'static,
    {
        let start = Instant::now();
        let mut pause = FIRST_PAUSE;
        let mut waited = false;
        let mut clock_set = false;
        loop {
            let shown = self.fingerprint();
            let failure = match request().await {
                Ok(answer) => {
                    self.proven.store(true, Ordering::Relaxed);
                    if waited {
                        self.tracker.trouble(None);
                    }
                    return Ok(answer);
                }
                Err(error) => fault(what, &error),
            };
            let left = self.limit.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Err(failure);
            }
            if self.may_be_rotating(&failure) {
                self.tell(&failure, &mut waited);
                if !self.rotated(shown, left).await {
                    return Err(failure);
                }
                continue;
            }
            // The SDK has read the store's clock off the refusal, and signs by it from now on.
            if failure.reason == Reason::ClockSkewed && !clock_set {
                warn!("the clocks of node and store disagree: {failure}");
                clock_set = true;
                continue;
            }
            if !failure.transient {
                return Err(failure);
            }
            self.tell(&failure, &mut waited);
            *waited_out.lock() = Some(failure);
            tokio::time::sleep(jittered(pause).min(left)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn tell(&self, failure: &Failure, waited: &mut bool) {
        warn!(reason = ?failure.reason, "waits for the store: {failure}");
        self.tracker.trouble(Some(failure.clone()));
        *waited = true;
    }

    fn fingerprint(&self) -> Option<String> {
        self.credentials.as_ref()?.fingerprint()
    }

    /// Whether credentials in files, which worked, were refused.
    fn may_be_rotating(&self, failure: &Failure) -> bool {
        self.credentials.is_some()
            && self.proven.load(Ordering::Relaxed)
            && matches!(
                failure.reason,
                Reason::InvalidCredentials | Reason::AccessDenied
            )
    }

    /// Waits for credentials other than those that were `shown`.
    async fn rotated(&self, shown: Option<String>, left: Duration) -> bool {
        let start = Instant::now();
        loop {
            let now = self.fingerprint();
            if now.is_some() && now != shown {
                return true;
            }
            if start.elapsed() >= left {
                return false;
            }
            tokio::time::sleep(LOOK.min(left)).await;
        }
    }
}
