//! Waiting for a condition, never for a time.

use std::fmt::Debug;
use std::future::Future;
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(10);

/// Polls `condition` until it yields a value; `what` names it in the failure.
///
/// # Panics
/// If it still fails after `limit`, with the last reason it gave.
pub async fn eventually<T, E, F>(limit: Duration, what: &str, mut condition: impl FnMut() -> F) -> T
where
    E: Debug,
    F: Future<Output = Result<T, E>>,
{
    let start = Instant::now();
    let mut last = None;
    loop {
        let left = limit.saturating_sub(start.elapsed());
        match tokio::time::timeout(left, condition()).await {
            Ok(Ok(value)) => return value,
            Ok(Err(reason)) => last = Some(reason),
            Err(_) => panic!("not within {limit:?}: {what}; last reason: {last:?}"),
        }
        assert!(
            start.elapsed() < limit,
            "not within {limit:?}: {what}; last reason: {last:?}"
        );
        tokio::time::sleep(INTERVAL).await;
    }
}
