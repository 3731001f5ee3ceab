//! What happened to a cluster after a snapshot of it, as those who watch it know it.

use bytes::Bytes;
use etcd_mvcc::{RawKey, Revision, encode_kv, encode_tombstone};
use etcd_proto::mvccpb::KeyValue;

use super::error::RestoreError;
use super::leases::{LeaseRows, Leases};

/// Why the source of changes fails; the caller's own error.
pub type ChangesError = Box<dyn std::error::Error + Send + Sync>;

/// Something that a follower of a cluster learnt of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// What one transaction changed: all of it, of all keys there are, in the order in
    /// which a watch gives it (that is the order in which it happened, and becomes the
    /// sub revisions). The events of a revision may be in several items, one after
    /// the other, as a watch splits them into fragments; the caller sees to it that the
    /// last revision is whole.
    Events {
        /// The transaction's main revision.
        revision: i64,
        /// At least one.
        events: Vec<ChangeEvent>,
    },
    /// All the leases there were when the store was at this revision, which the header
    /// of `LeaseLeases` tells. Where in the stream it stands does not matter.
    ///
    /// A restored store has the leases of the last table up to its revision. If that is
    /// not exactly of its revision, those of the first table after it are added, and
    /// those which keys were attached to in between (see
    /// [`Restored::unknown_leases`](super::Restored::unknown_leases)): a lease
    /// too many expires, one too few would leave its keys for ever. So the changes
    /// should go on to the first table after the revision.
    Leases {
        /// The store's revision.
        revision: i64,
        /// The leases, in any order.
        leases: Vec<ChangedLease>,
    },
    /// The store was compacted to a revision when it was at another one. Where in the
    /// stream it stands does not matter. It is carried out if the restored revision is
    /// not below `revision`.
    Compacted {
        /// The store's revision when this was learnt.
        revision: i64,
        /// What it was compacted to.
        compact_revision: i64,
    },
}

/// An event of a watch.
#[derive(Clone, Debug, PartialEq)]
pub enum ChangeEvent {
    /// A put: `Event.kv` with all its fields. Its `mod_revision` is the transaction's.
    Put(KeyValue),
    /// A deletion.
    Delete {
        /// The key.
        key: Bytes,
    },
}

/// A lease as `LeaseTimeToLive` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangedLease {
    /// Its ID.
    pub id: i64,
    /// The time to live it was granted, in seconds.
    pub granted_ttl: i64,
    /// Seconds that are left, to begin with; 0: all of them.
    pub remaining_ttl: i64,
}

/// Turns changes into rows of the bucket `key`, which follow those of a snapshot.
pub(super) struct Replay {
    /// The snapshot's revision.
    first: i64,
    /// Last revision that is taken.
    until: i64,
    /// The revision reached, the snapshot's at first.
    revision: i64,
    /// The last one seen, taken or not.
    seen: i64,
    /// Changes of that revision so far.
    sub: i64,
    /// The highest compact revision that counts.
    compacted: i64,
    /// Who has which lease.
    leases: Leases,
}

impl Replay {
    pub(super) fn new(first: i64, compacted: i64, until: Option<i64>) -> Replay {
        Replay {
            first,
            until: until.unwrap_or(i64::MAX),
            revision: first,
            seen: first,
            sub: 0,
            compacted,
            leases: Leases::new(first),
        }
    }

    /// Takes in one change; `row` gets the rows that it becomes.
    pub(super) fn take(
        &mut self,
        change: Change,
        row: &mut dyn FnMut(RawKey, &[u8]) -> Result<(), RestoreError>,
    ) -> Result<(), RestoreError> {
        match change {
            Change::Events { revision, events } => self.events(revision, &events, row),
            Change::Leases { revision, leases } => {
                self.leases.table(revision, &leases, self.until);
                Ok(())
            }
            Change::Compacted {
                revision,
                compact_revision,
            } => {
                if revision <= self.until {
                    self.compacted = self.compacted.max(compact_revision);
                }
                Ok(())
            }
        }
    }

    fn events(
        &mut self,
        revision: i64,
        events: &[ChangeEvent],
        row: &mut dyn FnMut(RawKey, &[u8]) -> Result<(), RestoreError>,
    ) -> Result<(), RestoreError> {
        if revision <= self.first {
            return Ok(());
        }
        let goes_on = revision == self.seen;
        if !goes_on && self.seen.checked_add(1) != Some(revision) {
            let missing = self.seen.saturating_add(1);
            let found = revision;
            return Err(RestoreError::Gap { missing, found });
        }
        let wrong = |reason: &str| RestoreError::Change {
            revision,
            reason: reason.to_owned(),
        };
        if events.is_empty() {
            return Err(wrong("there are none"));
        }
        self.seen = revision;
        if revision > self.until {
            return Ok(());
        }
        if !goes_on {
            self.revision = revision;
            self.sub = 0;
            self.leases.reach(revision);
        }
        for event in events {
            let rev = Revision::new(revision, self.sub);
            self.sub += 1;
            match event {
                ChangeEvent::Put(kv) => {
                    if kv.key.is_empty() {
                        return Err(wrong("a put without a key"));
                    }
                    if kv.mod_revision != revision || kv.version < 1 || kv.create_revision < 1 {
                        return Err(wrong("a put whose pair is not of this revision"));
                    }
                    self.leases.attached(kv.lease, revision);
                    row(RawKey::new(rev, false), &encode_kv(kv))?;
                }
                ChangeEvent::Delete { key } => {
                    if key.is_empty() {
                        return Err(wrong("a deletion without a key"));
                    }
                    row(RawKey::new(rev, true), &encode_tombstone(key))?;
                }
            }
        }
        Ok(())
    }

    /// The revision reached, what it is compacted to, and its leases, when all changes
    /// were taken in.
    ///
    /// # Errors
    /// [`RestoreError::Target`].
    pub(super) fn finish(self) -> Result<(i64, i64, LeaseRows), RestoreError> {
        if self.until < self.first || (self.until != i64::MAX && self.revision < self.until) {
            return Err(RestoreError::Target {
                target: self.until,
                first: self.first,
                last: self.revision,
            });
        }
        // A compaction may be learnt of before the events that led there.
        let compacted = self.compacted.min(self.revision);
        Ok((self.revision, compacted, self.leases.finish()))
    }
}
