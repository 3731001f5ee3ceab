//! What the index knows of one key.

use crate::index::history::{History, Past};
use crate::record::Revision;

/// The newest change of a key, as a put or a tombstone leaves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Newest {
    pub(crate) rev: Revision,
    pub(crate) tombstone: bool,
    pub(crate) create_revision: i64,
    pub(crate) version: i64,
    pub(crate) lease: i64,
}

impl Newest {
    pub(crate) fn past(&self) -> Past {
        Past::new(self.rev, self.tombstone)
    }
}

/// A key's newest change and the history behind it: 48 bytes.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    past: Past,
    create_revision: i64,
    version: i64,
    lease: i64,
    pub(crate) history: History,
}

impl Entry {
    pub(crate) fn new(newest: Newest) -> Entry {
        Entry {
            past: newest.past(),
            create_revision: newest.create_revision,
            version: newest.version,
            lease: newest.lease,
            history: History::default(),
        }
    }

    pub(crate) fn newest(&self) -> Newest {
        Newest {
            rev: self.past.rev(),
            tombstone: self.past.tombstone(),
            create_revision: self.create_revision,
            version: self.version,
            lease: self.lease,
        }
    }

    pub(crate) fn rev(&self) -> Revision {
        self.past.rev()
    }

    pub(crate) fn live(&self) -> bool {
        !self.past.tombstone()
    }

    /// Makes `newest` the newest change and moves the present one to history.
    pub(crate) fn supersede(&mut self, newest: Newest) {
        self.history.push(self.past);
        self.past = newest.past();
        self.create_revision = newest.create_revision;
        self.version = newest.version;
        self.lease = newest.lease;
    }

    /// The newest change with a main revision of at most `main`, tombstones
    /// included.
    pub(crate) fn at(&self, main: i64) -> Option<Past> {
        if self.past.rev().main <= main {
            Some(self.past)
        } else {
            self.history.at(main)
        }
    }

    /// The revision of the put that is visible at `main`.
    pub(crate) fn visible(&self, main: i64) -> Option<Revision> {
        self.at(main).filter(|p| !p.tombstone()).map(Past::rev)
    }

    /// Whether a compaction at `main` leaves nothing of the key.
    pub(crate) fn dead(&self, main: i64) -> bool {
        self.past.tombstone() && self.past.rev().main < main
    }

    pub(crate) fn compactable(&self, main: i64) -> bool {
        self.dead(main) || self.history.compactable(main, self.past.rev().main <= main)
    }

    pub(crate) fn compact(&mut self, main: i64) {
        self.history.compact(main, self.past.rev().main <= main);
    }

    /// Adds the revisions that a compaction at `main` drops to `dead`: tombstones
    /// from before it, and puts that another change up to it replaced.
    pub(crate) fn dropped(&self, main: i64, dead: &mut Vec<Revision>) {
        let all = std::iter::once(self.past).chain(self.history.iter());
        for (i, past) in all.filter(|past| past.rev().main <= main).enumerate() {
            let drop = if past.tombstone() {
                past.rev().main < main
            } else {
                i > 0
            };
            if drop {
                dead.push(past.rev());
            }
        }
    }
}
