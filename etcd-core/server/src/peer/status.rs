//! Whether a member is connected, since when, and what it cost.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Time after which a failure that persists is logged again.
const REPEAT_LOGGED: Duration = Duration::from_secs(30);

/// How the connection to a member is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// Since when it is connected without a failure; `None` if it is not.
    pub active_since: Option<Instant>,
    /// Duration of the last probe.
    pub round_trip: Option<Duration>,
    /// Bytes sent to it, images included.
    pub sent_bytes: u64,
    /// Bytes received from it, images included.
    pub received_bytes: u64,
    /// Messages to it that were lost.
    pub sent_failures: u64,
    /// Times it was connected and then was not any more.
    pub disconnects: u64,
}

#[derive(Debug)]
pub(super) struct Status {
    local: u64,
    remote: u64,
    state: Mutex<State>,
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
    sent_failures: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    active_since: Option<Instant>,
    round_trip: Option<Duration>,
    disconnects: u64,
    /// What failed last and when it was logged, by source.
    failures: BTreeMap<String, (String, Instant)>,
    /// Whether the last failure was a repetition, and so not logged.
    quiet: bool,
}

impl Status {
    pub(super) fn new(local: u64, remote: u64) -> Status {
        Status {
            local,
            remote,
            state: Mutex::default(),
            sent_bytes: AtomicU64::new(0),
            received_bytes: AtomicU64::new(0),
            sent_failures: AtomicU64::new(0),
        }
    }

    pub(super) fn get(&self) -> PeerStatus {
        let state = self.state.lock();
        PeerStatus {
            active_since: state.active_since,
            round_trip: state.round_trip,
            sent_bytes: self.sent_bytes.load(Ordering::Relaxed),
            received_bytes: self.received_bytes.load(Ordering::Relaxed),
            sent_failures: self.sent_failures.load(Ordering::Relaxed),
            disconnects: state.disconnects,
        }
    }

    /// Something succeeded.
    pub(super) fn activate(&self) {
        let mut state = self.state.lock();
        if state.active_since.is_none() {
            state.active_since = Some(Instant::now());
            if !state.quiet {
                tracing::info!(peer_id = %format_args!("{:x}", self.remote), "peer became active");
            }
        }
    }

    /// Something failed: `action` on `source`. Of a failure that repeats itself, as
    /// that of a stream which is dialed ten times a second, one line is logged now and
    /// then.
    pub(super) fn deactivate(&self, source: &str, action: &str, reason: &str) {
        let mut state = self.state.lock();
        let failure = format!(
            "failed to {action} {:x} on {source} ({reason})",
            self.remote
        );
        let was_active = state.active_since.take().is_some();
        state.disconnects += u64::from(was_active);
        state.quiet = state
            .failures
            .get(source)
            .is_some_and(|(last, logged)| *last == failure && logged.elapsed() < REPEAT_LOGGED);
        if state.quiet {
            return;
        }
        let what = match was_active {
            true => "peer became inactive (message send to peer failed)",
            false => "peer is not reachable",
        };
        tracing::warn!(
            local_member_id = %format_args!("{:x}", self.local),
            peer_id = %format_args!("{:x}", self.remote),
            error = %failure,
            "{what}"
        );
        state
            .failures
            .insert(source.to_owned(), (failure, Instant::now()));
    }

    pub(super) fn round_trip(&self, duration: Duration) {
        self.state.lock().round_trip = Some(duration);
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn received(&self, bytes: usize) {
        self.received_bytes
            .fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn lost(&self) {
        self.sent_failures.fetch_add(1, Ordering::Relaxed);
    }
}
