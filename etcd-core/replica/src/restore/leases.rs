//! Which leases a restored store has.

use std::collections::BTreeMap;

use bytes::Bytes;
use etcd_proto::leasepb;
use prost::Message as _;

use super::change::ChangedLease;

/// What a lease gets, in seconds, that a key is attached to and that no table knows: it
/// was granted and had ended between two of them.
pub const UNKNOWN_LEASE_TTL_S: i64 = 60;

/// Rows of the bucket `lease` by key, which is the ID in 8 bytes, most significant first.
type Table = BTreeMap<Vec<u8>, Bytes>;

/// Collects what the changes say about leases.
pub(super) struct Leases {
    /// The revision that the store has reached.
    reached: i64,
    /// The last table up to it, and whose revision it is of; at first the snapshot's
    /// own, which is not held here.
    before: (i64, Option<Table>),
    /// Tables of revisions that are not reached yet.
    ahead: BTreeMap<i64, Table>,
    /// Leases that keys were attached to since that table, and the last revision that
    /// did.
    attached: BTreeMap<i64, i64>,
}

/// Which rows the bucket gets.
pub(super) struct LeaseRows {
    /// Whether the snapshot's own are kept.
    pub(super) keep: bool,
    /// Those besides, where the snapshot has none of the key.
    pub(super) rows: Table,
    /// Leases that no table knows and the snapshot may.
    pub(super) unknown: Table,
}

impl Leases {
    pub(super) fn new(snapshot_revision: i64) -> Leases {
        Leases {
            reached: snapshot_revision,
            before: (snapshot_revision, None),
            ahead: BTreeMap::new(),
            attached: BTreeMap::new(),
        }
    }

    /// Takes in a table of when the store was at `revision`. None is needed behind
    /// `until`, but the first.
    pub(super) fn table(&mut self, revision: i64, leases: &[ChangedLease], until: i64) {
        if revision <= self.before.0 {
            return;
        }
        let behind = self.ahead.range(until.saturating_add(1)..).next();
        if revision > until && behind.is_some_and(|(at, _)| *at <= revision) {
            return;
        }
        self.ahead
            .insert(revision, leases.iter().map(row).collect::<Table>());
        self.reach(self.reached);
    }

    /// The store reaches a revision.
    pub(super) fn reach(&mut self, revision: i64) {
        self.reached = revision;
        while let Some(first) = self.ahead.first_entry()
            && *first.key() <= revision
        {
            let (at, table) = first.remove_entry();
            self.before = (at, Some(table));
            self.attached.retain(|_, last| *last > at);
        }
    }

    /// A key was attached to a lease (0 for none).
    pub(super) fn attached(&mut self, lease: i64, revision: i64) {
        if lease != 0 && revision > self.before.0 {
            self.attached.insert(lease, revision);
        }
    }

    /// The rows of the store at the revision reached.
    pub(super) fn finish(self) -> LeaseRows {
        let (at, table) = self.before;
        let keep = table.is_none();
        let mut rows = table.unwrap_or_default();
        let mut unknown = Table::new();
        if at < self.reached {
            let after = self.ahead.into_values().next();
            for (key, row) in after.unwrap_or_default() {
                rows.entry(key).or_insert(row);
            }
            for id in self.attached.into_keys() {
                let (key, value) = row(&ChangedLease {
                    id,
                    granted_ttl: UNKNOWN_LEASE_TTL_S,
                    remaining_ttl: 0,
                });
                if !rows.contains_key(&key) {
                    unknown.insert(key, value);
                }
            }
        }
        LeaseRows {
            keep,
            rows,
            unknown,
        }
    }
}

fn row(lease: &ChangedLease) -> (Vec<u8>, Bytes) {
    let row = leasepb::Lease {
        id: lease.id,
        ttl: lease.granted_ttl,
        remaining_ttl: lease.remaining_ttl,
    };
    (lease.id.to_be_bytes().to_vec(), row.encode_to_vec().into())
}
