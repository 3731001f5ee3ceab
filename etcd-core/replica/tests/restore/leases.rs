//! Leases at a revision that no table is exactly of.

use etcd_proto::leasepb;
use etcd_replica::{Change, ChangedLease, Restore, UNKNOWN_LEASE_TTL_S};
use etcd_storage::bolt::Image;
use etcd_storage::disk::{Disk, OpenMode};
use prost::Message as _;

use crate::history::{History, Step, restore_all};
use crate::revision::restored;

fn put(key: u8, lease: u8) -> Step {
    Step::Put(key, 1, Some(lease))
}

fn table(revision: i64, ids: &[i64]) -> Change {
    let lease = |id: &i64| ChangedLease {
        id: *id,
        granted_ttl: 500 + id,
        remaining_ttl: 7,
    };
    let leases = ids.iter().map(lease).collect();
    Change::Leases { revision, leases }
}

/// ID and granted time to live of each lease in the restored store.
fn leases(history: &History, changes: Vec<Change>, revision: Option<i64>) -> Vec<(i64, i64)> {
    let disk = history.disk.fork(3);
    let wanted = Restore {
        revision,
        ..restore_all()
    };
    let done = restored(&disk, &changes, &wanted).expect("restored");
    let path = std::path::Path::new("/restored/member/snap/db");
    let bytes = disk.open(path, OpenMode::Read).expect("opened").map();
    let image = Image::open(bytes.expect("read")).expect("opened");
    let bucket = image.bucket(b"lease").expect("read").expect("there");
    let row = |row: etcd_storage::bolt::Row| {
        let lease = leasepb::Lease::decode(row.value).expect("a lease");
        assert_eq!(row.key, lease.id.to_be_bytes()[..]);
        (lease.id, lease.ttl)
    };
    let rows: Vec<_> = bucket.rows().map(|r| row(r.expect("read"))).collect();
    let unknown = rows.iter().filter(|(_, ttl)| *ttl == UNKNOWN_LEASE_TTL_S);
    assert_eq!(done.unknown_leases, unknown.count() as u64);
    rows
}

/// Leases 1 and 2 in the snapshot, at revision 3.
fn begun() -> (History, usize) {
    let steps = [Step::Grant(1), Step::Grant(2), put(0, 1), put(1, 2)];
    let mut history = History::of(&steps);
    assert_eq!(history.revision(), 3);
    history.snapshot();
    let moment = history.moments.len();
    (history, moment)
}

#[test]
fn without_a_table_the_snapshots_leases_stay_and_those_in_use_come_besides() {
    let (mut history, moment) = begun();
    for step in [Step::Grant(3), put(2, 3), Step::Revoke(1), put(4, 2)] {
        history.apply(&step);
    }
    let changes = history.since(moment);
    assert_eq!(
        leases(&history, changes, None),
        [(1, 1001), (2, 1002), (3, UNKNOWN_LEASE_TTL_S)]
    );
}

#[test]
fn a_table_of_the_very_revision_is_the_truth() {
    let (mut history, moment) = begun();
    for step in [Step::Grant(3), put(2, 3), Step::Revoke(1), put(4, 2)] {
        history.apply(&step);
    }
    let last = history.revision();
    let mut changes = history.since(moment);
    // Wherever it stands in the stream.
    for at in 0..=changes.len() {
        let mut changes = changes.clone();
        changes.insert(at, table(last, &[2, 3]));
        assert_eq!(leases(&history, changes, None), [(2, 502), (3, 503)]);
    }
    changes.push(table(last, &[]));
    assert_eq!(leases(&history, changes, Some(last)), []);
}

#[test]
fn between_two_tables_those_of_both_and_those_in_use_are_kept() {
    let (mut history, moment) = begun();
    let mut changes = Vec::new();
    for step in [Step::Grant(3), put(2, 3), Step::Revoke(1)] {
        history.apply(&step);
    }
    changes.extend(history.since(moment));
    let first_table = history.revision();
    changes.push(table(first_table, &[2, 3]));
    let moment = history.moments.len();
    // Lease 4 comes and goes between two tables, lease 3 ends.
    for step in [
        Step::Grant(4),
        put(5, 4),
        Step::Revoke(3),
        Step::Revoke(4),
        put(6, 2),
    ] {
        history.apply(&step);
    }
    changes.extend(history.since(moment));
    changes.push(table(history.revision(), &[2, 9]));
    changes.push(table(history.revision() + 5, &[7]));
    let between = first_table + 1;
    assert_eq!(
        leases(&history, changes.clone(), Some(between)),
        [(2, 502), (3, 503), (4, UNKNOWN_LEASE_TTL_S), (9, 509)]
    );
    assert_eq!(
        leases(&history, changes.clone(), Some(first_table)),
        [(2, 502), (3, 503)]
    );
    assert_eq!(leases(&history, changes, None), [(2, 502), (9, 509)]);
}

#[test]
fn a_negative_id_sorts_as_the_bucket_does() {
    let (mut history, moment) = begun();
    history.apply(&put(7, 2));
    let mut changes = history.since(moment);
    changes.push(table(history.revision(), &[-5, 6]));
    assert_eq!(leases(&history, changes, None), [(6, 506), (-5, 495)]);
}
