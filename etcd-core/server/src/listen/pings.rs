//! How often clients may ping: gRPC's enforcement of keepalives.

use std::time::{Duration, Instant};

/// Pings that come too early before the connection is closed is one more than this.
const STRIKES: u32 = 2;
/// What must lie between pings of a connection without calls.
const IDLE: Duration = Duration::from_secs(2 * 3600);
/// What must lie between pings where no policy was asked for; gRPC's default.
const DEFAULT: Duration = Duration::from_secs(300);

/// How often clients may ping while calls are under way. Without calls they
/// may every two hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PingPolicy {
    min_time: Duration,
}

impl PingPolicy {
    /// Of `--grpc-keepalive-min-time`; zero is gRPC's own five minutes.
    pub fn new(min_time: Duration) -> PingPolicy {
        PingPolicy {
            min_time: match min_time.is_zero() {
                true => DEFAULT,
                false => min_time,
            },
        }
    }
}

/// The pings of one connection.
#[derive(Debug)]
pub(super) struct Pings {
    policy: PingPolicy,
    last: Option<Instant>,
    strikes: u32,
}

impl Pings {
    pub(super) fn new(policy: PingPolicy) -> Pings {
        Pings {
            policy,
            last: None,
            strikes: 0,
        }
    }

    /// Takes a ping at `now`, with so many calls under way. One after something was
    /// `answered` is always well: clients measure with it.
    pub(super) fn allows(&mut self, now: Instant, streams: usize, answered: bool) -> bool {
        let last = self.last.replace(now);
        if answered {
            self.strikes = 0;
            return true;
        }
        let pause = match streams {
            0 => IDLE,
            _ => self.policy.min_time,
        };
        if last.is_some_and(|last| now.saturating_duration_since(last) < pause) {
            self.strikes += 1;
        }
        self.strikes <= STRIKES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pings_are_counted_as_grpc_does() {
        let policy = PingPolicy::new(Duration::from_secs(5));
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut idle = Pings::new(policy);
        assert!(idle.allows(at(0), 0, false), "the first is free");
        assert!(idle.allows(at(60), 0, false) && idle.allows(at(120), 0, false));
        assert!(!idle.allows(at(180), 0, false), "the third strike");
        let mut busy = Pings::new(policy);
        assert!((0..100).all(|n| busy.allows(at(n * 5), 1, false)));
        let mut eager = Pings::new(policy);
        assert!((0..100).all(|n| eager.allows(at(n), 1, n % 3 == 0)));
        assert!((0..3).all(|n| eager.allows(at(100 + n), 1, n == 0)));
        assert!(!eager.allows(at(104), 1, false));
        assert_eq!(PingPolicy::new(Duration::ZERO).min_time, DEFAULT);
    }
}
