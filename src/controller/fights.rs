//! Steps that someone else undoes as fast as they are done: they are repeated ever
//! more slowly, so that two writers who disagree do not keep the API server busy.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// So many times the same step may be done in a row, at full speed.
const FREE: u32 = 3;
/// Pause after the first that is one too many; it doubles from there.
const FIRST: Duration = Duration::from_secs(1);
/// The longest pause; after twice as long without it, a step is new again.
const LONGEST: Duration = Duration::from_secs(60);

/// What was done last for each cluster, and how often in a row.
#[derive(Debug, Default)]
pub(super) struct Fights {
    last: Mutex<HashMap<(String, String), Last>>,
}

#[derive(Debug)]
struct Last {
    what: String,
    times: u32,
    at: Instant,
}

impl Last {
    fn pause(&self) -> Duration {
        match self.times.checked_sub(FREE) {
            None => Duration::ZERO,
            Some(more) => FIRST.saturating_mul(1 << more.min(16)).min(LONGEST),
        }
    }
}

impl Fights {
    /// How long to wait before `what` may be done once more.
    pub(super) fn hold(
        &self,
        namespace: &str,
        name: &str,
        what: &str,
        now: Instant,
    ) -> Option<Duration> {
        let last = self.last.lock();
        let last = last.get(&(namespace.to_owned(), name.to_owned()))?;
        if last.what != what {
            return None;
        }
        let left = last.pause().checked_sub(now.duration_since(last.at))?;
        (left > Duration::ZERO).then_some(left)
    }

    /// `what` was done.
    pub(super) fn done(&self, namespace: &str, name: &str, what: &str, now: Instant) {
        let mut all = self.last.lock();
        let key = (namespace.to_owned(), name.to_owned());
        let before = all.get(&key).filter(|last| {
            last.what == what && now.duration_since(last.at) < LONGEST.saturating_mul(2)
        });
        let times = before.map_or(1, |last| last.times.saturating_add(1));
        all.insert(
            key,
            Last {
                what: what.to_owned(),
                times,
                at: now,
            },
        );
    }

    /// The cluster is gone.
    pub(super) fn forget(&self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        self.last.lock().remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o04_a_step_that_is_undone_at_once_is_repeated_ever_more_slowly() {
        let fights = Fights::default();
        let mut now = Instant::now();
        let mut done = 0;
        let end = now + Duration::from_secs(3600);
        while now < end {
            match fights.hold("ns", "demo", "ApplyShared: sets spec.type", now) {
                Some(pause) => now += pause,
                None => {
                    fights.done("ns", "demo", "ApplyShared: sets spec.type", now);
                    done += 1;
                    now += Duration::from_millis(20); // the other undoes it
                }
            }
        }
        assert!((60..80).contains(&done), "{done} times in an hour");
    }

    #[test]
    fn o04_different_steps_and_other_clusters_never_wait() {
        let fights = Fights::default();
        let now = Instant::now();
        for n in 0..20 {
            let what = format!("RestartPod: demo-{n}");
            assert_eq!(fights.hold("ns", "demo", &what, now), None);
            fights.done("ns", "demo", &what, now);
        }
        (0..9).for_each(|_| fights.done("ns", "other", "same", now));
        assert!(fights.hold("ns", "other", "same", now).is_some());
        assert_eq!(fights.hold("ns", "demo", "same", now), None);
        fights.forget("ns", "other");
        assert_eq!(fights.hold("ns", "other", "same", now), None);
    }
}
