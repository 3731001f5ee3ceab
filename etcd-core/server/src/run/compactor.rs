//! Automatic compaction, which the leader alone does: to what was current a
//! while ago, or to a number of revisions back.

use std::collections::VecDeque;
use std::time::Duration;

use etcd_proto::etcdserverpb::{CompactionRequest, InternalRaftRequest};
use tokio::time::Instant;

use crate::config::AutoCompaction;
use crate::driver::{Node, RequestError};

/// Compactions by time are at most this far apart.
const HOUR: Duration = Duration::from_secs(3600);
/// Compactions by number are this far apart.
const FIVE_MINUTES: Duration = Duration::from_secs(300);

/// What to compact to, and when. Told the time and the revision at every
/// pause's end.
enum Schedule {
    Periodic {
        period: Duration,
        /// Revisions at the last pauses, the oldest a period ago.
        revisions: VecDeque<i64>,
        last_success: Duration,
        last_revision: i64,
        /// The first compaction waits a whole period, later ones an hour at most.
        wait: Duration,
    },
    Revision {
        retention: i64,
        last_revision: i64,
    },
}

impl Schedule {
    fn new(mode: AutoCompaction) -> Schedule {
        match mode {
            AutoCompaction::Periodic(period) => Schedule::Periodic {
                period,
                revisions: VecDeque::new(),
                last_success: Duration::ZERO,
                last_revision: 0,
                wait: period,
            },
            AutoCompaction::Revision(retention) => Schedule::Revision {
                retention,
                last_revision: 0,
            },
        }
    }

    fn pause(&self) -> Duration {
        match self {
            Schedule::Periodic { period, .. } => {
                ((*period).min(HOUR) / 10).max(Duration::from_millis(1))
            }
            Schedule::Revision { .. } => FIVE_MINUTES,
        }
    }

    /// Before a pause.
    fn note(&mut self, revision: i64) {
        let pause = self.pause();
        if let Schedule::Periodic {
            period, revisions, ..
        } = self
        {
            let kept =
                usize::try_from(period.as_nanos() / pause.as_nanos().max(1)).unwrap_or(usize::MAX);
            revisions.push_back(revision);
            if revisions.len() > kept.saturating_add(1) {
                revisions.pop_front();
            }
        }
    }

    /// After a pause: the revision to compact to, if it is time.
    fn due(&mut self, now: Duration, revision: i64) -> Option<i64> {
        match self {
            Schedule::Periodic {
                period,
                revisions,
                last_success,
                last_revision,
                wait,
            } => {
                let target = *revisions.front()?;
                if now.saturating_sub(*last_success) < *wait || target == *last_revision {
                    return None;
                }
                *wait = (*period).min(HOUR);
                Some(target)
            }
            Schedule::Revision {
                retention,
                last_revision,
            } => {
                let target = revision - *retention;
                (target > 0 && target != *last_revision).then_some(target)
            }
        }
    }

    fn succeeded(&mut self, now: Duration, target: i64) {
        match self {
            Schedule::Periodic {
                last_success,
                last_revision,
                ..
            } => {
                *last_success = now;
                *last_revision = target;
            }
            Schedule::Revision { last_revision, .. } => *last_revision = target,
        }
    }
}

/// Compacts until the node stops.
pub(super) async fn run(node: Node, mode: AutoCompaction) {
    let began = Instant::now();
    let mut schedule = Schedule::new(mode);
    loop {
        schedule.note(node.view().kv.revision());
        tokio::time::sleep(schedule.pause()).await;
        if !node.leadership().is_leader {
            continue;
        }
        let Some(revision) = schedule.due(began.elapsed(), node.view().kv.revision()) else {
            continue;
        };
        tracing::info!(revision, "starting auto compaction");
        let request = InternalRaftRequest {
            compaction: Some(CompactionRequest {
                revision,
                physical: false,
            }),
            ..InternalRaftRequest::default()
        };
        match node.propose(request).await {
            // Refused means that somebody else was faster.
            Ok(_) => {
                tracing::info!(revision, "completed auto compaction");
                schedule.succeeded(began.elapsed(), revision);
            }
            Err(RequestError::Stopped) => return,
            Err(error) => {
                tracing::warn!(revision, %error, "retry-interval" = ?schedule.pause(), "failed auto compaction");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a schedule for `pauses`, with a revision a minute; what was compacted, and when.
    fn simulate(mode: AutoCompaction, pauses: usize) -> Vec<(u64, i64)> {
        let mut schedule = Schedule::new(mode);
        let mut now = Duration::ZERO;
        let revision = |now: Duration| 1 + (now.as_secs() / 60) as i64;
        let mut done = Vec::new();
        for _ in 0..pauses {
            schedule.note(revision(now));
            now += schedule.pause();
            if let Some(target) = schedule.due(now, revision(now)) {
                done.push((now.as_secs() / 60, target));
                schedule.succeeded(now, target);
            }
        }
        done
    }

    #[test]
    fn a_short_period_is_kept_from_the_first() {
        let ten_minutes = AutoCompaction::Periodic(Duration::from_secs(600));
        assert_eq!(simulate(ten_minutes, 30), [(10, 1), (20, 10), (30, 20)]);
    }

    #[test]
    fn a_long_period_is_compacted_every_hour() {
        let two_hours = AutoCompaction::Periodic(2 * HOUR);
        assert_eq!(simulate(two_hours, 45), [(120, 1), (180, 55), (240, 115)]);
    }

    #[test]
    fn revisions_are_counted_back() {
        let hundred = AutoCompaction::Revision(3);
        assert_eq!(simulate(hundred, 3), [(5, 3), (10, 8), (15, 13)]);
    }
}
