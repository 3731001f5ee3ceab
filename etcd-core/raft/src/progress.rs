//! What a leader knows of one member, and when it may send to it.

use crate::inflights::Inflights;

/// How a leader sends entries to a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ProgressState {
    /// Where its log ends is unknown: one append per heartbeat until it answers.
    #[default]
    Probe,
    /// Its log is known to match: entries are streamed ahead of acknowledgements.
    Replicate,
    /// It needs entries that are gone: nothing is sent until the snapshot has arrived.
    Snapshot,
}

impl ProgressState {
    /// etcd's name of the state.
    pub fn as_str(self) -> &'static str {
        match self {
            ProgressState::Probe => "StateProbe",
            ProgressState::Replicate => "StateReplicate",
            ProgressState::Snapshot => "StateSnapshot",
        }
    }
}

/// How far one member has come, as its leader knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The last index known to be durable in its log and equal to the leader's.
    pub matched: u64,
    /// The next index to send; always above `matched`.
    pub next: u64,
    /// How entries are sent to it.
    pub state: ProgressState,
    /// Whether it was heard of since the last check of the quorum.
    pub recent_active: bool,
    /// Whether it has no vote.
    pub is_learner: bool,
    /// The index of the snapshot on its way to it, 0 outside of [`ProgressState::Snapshot`].
    pub pending_snapshot: u64,
}

/// A member as its leader tracks it: its progress and the control of its flow.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) progress: Progress,
    /// The highest commit index sent to it, as far as it may have had an effect.
    sent_commit: u64,
    /// Nothing is sent until a heartbeat is answered.
    paused: bool,
    /// An append is owed to it even if that carries no entries.
    pub(crate) due: bool,
    inflights: Inflights,
}

impl Peer {
    /// A member to probe from `next` on.
    pub(crate) fn new(next: u64, is_learner: bool, inflights: Inflights) -> Peer {
        Peer {
            progress: Progress {
                next: next.max(1),
                is_learner,
                ..Progress::default()
            },
            sent_commit: 0,
            paused: false,
            due: false,
            inflights,
        }
    }

    fn reset(&mut self, state: ProgressState) {
        self.paused = false;
        self.progress.pending_snapshot = 0;
        self.progress.state = state;
        self.inflights.clear();
    }

    /// Probes after what is known to match or, after a snapshot, after that.
    pub(crate) fn become_probe(&mut self) {
        // Outside of StateSnapshot nothing is pending, so this is matched + 1.
        let snapshot = self.progress.pending_snapshot;
        self.reset(ProgressState::Probe);
        self.progress.next = (self.progress.matched + 1).max(snapshot + 1);
        self.sent_commit = self.sent_commit.min(self.progress.next - 1);
    }

    pub(crate) fn become_replicate(&mut self) {
        self.reset(ProgressState::Replicate);
        self.progress.next = self.progress.matched + 1;
    }

    pub(crate) fn become_snapshot(&mut self, index: u64) {
        self.reset(ProgressState::Snapshot);
        self.progress.pending_snapshot = index;
        self.progress.next = index + 1;
        self.sent_commit = index;
    }

    /// The fate of the snapshot sent to it is known. Either way nothing more is sent
    /// until it answers: it is still installing, or has just failed to.
    pub(crate) fn snapshot_done(&mut self, ok: bool) {
        if self.progress.state != ProgressState::Snapshot {
            return;
        }
        if !ok {
            self.progress.pending_snapshot = 0;
        }
        self.become_probe();
        self.paused = true;
    }

    /// Takes note of an append with `entries` entries after `next - 1`.
    pub(crate) fn sent_entries(&mut self, entries: u64, bytes: u64) {
        if self.progress.state == ProgressState::Replicate {
            if entries > 0 {
                self.progress.next += entries;
                self.inflights.add(self.progress.next - 1, bytes);
            }
            // The message that fills the window, and those sent beyond it, are probes.
            self.paused = self.inflights.full();
        } else if entries > 0 {
            self.paused = true;
        }
    }

    pub(crate) fn sent_commit(&mut self, commit: u64) {
        self.sent_commit = commit;
    }

    /// Whether telling it of the commit index could let it commit more.
    pub(crate) fn can_bump_commit(&self, commit: u64) -> bool {
        commit > self.sent_commit && self.sent_commit < self.progress.next - 1
    }

    /// It acknowledged `index`; false if that is no news.
    pub(crate) fn acknowledged(&mut self, index: u64) -> bool {
        if index <= self.progress.matched {
            return false;
        }
        self.progress.matched = index;
        self.progress.next = self.progress.next.max(index + 1);
        self.paused = false;
        true
    }

    pub(crate) fn free_inflights(&mut self, index: u64) {
        self.inflights.free_to(index);
    }

    /// It refused the append after `rejected` and may match at `hint`; false if the
    /// refusal is stale.
    pub(crate) fn rejected(&mut self, rejected: u64, hint: u64) -> bool {
        let progress = &mut self.progress;
        match progress.state {
            ProgressState::Replicate => {
                if rejected <= progress.matched {
                    return false;
                }
                progress.next = progress.matched + 1;
            }
            ProgressState::Probe => {
                // Probes go out one at a time, so a refusal of any other is an old one.
                if progress.next - 1 != rejected {
                    return false;
                }
                progress.next = rejected
                    .min(hint.saturating_add(1))
                    .max(progress.matched + 1);
                self.paused = false;
            }
            // Nothing was sent that could be refused.
            ProgressState::Snapshot => return false,
        }
        self.sent_commit = self.sent_commit.min(self.progress.next - 1);
        true
    }

    /// It answered a heartbeat: one more append may be tried.
    pub(crate) fn resume(&mut self) {
        self.paused = false;
    }

    /// Whether appends to it have to wait.
    pub(crate) fn is_paused(&self) -> bool {
        self.paused || self.progress.state == ProgressState::Snapshot
    }

    /// Whether an append to it must not carry entries.
    pub(crate) fn window_full(&self) -> bool {
        self.progress.state == ProgressState::Replicate && self.inflights.full()
    }
}

#[cfg(test)]
mod tests;
