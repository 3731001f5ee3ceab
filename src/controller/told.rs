//! What was told by events lately, so that a step that is tried every two seconds does
//! not tell it every two seconds.

use std::{collections::BTreeMap, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

/// The same is not told again within this time.
const QUIET: Duration = Duration::from_secs(60);

/// Namespace and name of a cluster.
type Key = (String, String);

/// What each cluster's last events were.
#[derive(Default)]
pub(super) struct Told(Mutex<Lately>);

#[derive(Default)]
struct Lately {
    events: BTreeMap<Key, Vec<(String, Instant)>>,
    /// When what is no news any more was last forgotten, of all clusters.
    swept: Option<Instant>,
}

impl Lately {
    /// Forgets what was told longer ago than [`QUIET`], once in that time.
    fn sweep(&mut self, now: Instant) {
        let swept = self.swept.get_or_insert(now);
        if now.duration_since(*swept) < QUIET {
            return;
        }
        *swept = now;
        self.events.retain(|_, lately| {
            lately.retain(|(_, at)| now.duration_since(*at) < QUIET);
            !lately.is_empty()
        });
    }
}

impl Told {
    /// Whether that is to be told of the cluster now. Says yes once in a while.
    pub(super) fn is_news(&self, namespace: &str, name: &str, what: &str, now: Instant) -> bool {
        let mut all = self.0.lock();
        all.sweep(now);
        let lately = all
            .events
            .entry((namespace.to_owned(), name.to_owned()))
            .or_default();
        lately.retain(|(_, at)| now.duration_since(*at) < QUIET);
        if lately.iter().any(|(told, _)| told == what) {
            return false;
        }
        lately.push((what.to_owned(), now));
        true
    }

    /// The cluster is no more.
    pub(super) fn forget(&self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        self.0.lock().events.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_told_once_a_minute() {
        let told = Told::default();
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(told.is_news("n", "demo", "StepFailed: no quota", after(0)));
        assert!(!told.is_news("n", "demo", "StepFailed: no quota", after(2)));
        assert!(told.is_news("n", "demo", "RestartPod", after(3)));
        assert!(told.is_news("n", "other", "RestartPod", after(3)));
        assert!(told.is_news("n", "demo", "StepFailed: no quota", after(60)));
        told.forget("n", "demo");
        assert!(told.is_news("n", "demo", "RestartPod", after(61)));
        // Of clusters that have come to rest nothing is kept.
        assert!(told.is_news("n", "last", "RestartPod", after(200)));
        assert_eq!(told.0.lock().events.len(), 1);
    }
}
