use super::*;
use crate::{
    api::Compression,
    backup::{
        increment::frame::{FORMAT, Header, Trailer},
        manifest::Kind,
    },
};

fn time(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

/// A backup of revision 100 at second 1000.
fn base() -> Manifest {
    Manifest {
        format_version: 1,
        kind: Kind::Snapshot,
        object: "snapshot-1.db".to_owned(),
        namespace: "ns".to_owned(),
        cluster: "demo".to_owned(),
        cluster_id: "1f".to_owned(),
        member_id: "2a".to_owned(),
        etcd_version: "3.7.3".to_owned(),
        size_bytes: 1,
        stored_bytes: 1,
        sha256: "base".to_owned(),
        stored_sha256: "s".to_owned(),
        revision: 100,
        compact_revision: 0,
        total_keys: 1,
        kv_hash: 1,
        member_hash: None,
        compression: Compression::None,
        encryption: None,
        started_at: time(999),
        taken_at: time(1000),
        completed_at: time(1030),
    }
}

/// An increment with one mark in the middle of it and one at its end.
fn increment(link: Link, after: i64, to: i64, digest: &str, at: i64) -> Checked {
    let mark = |revision, seconds| Mark {
        revision,
        time: time(seconds),
    };
    Checked {
        header: Header {
            format_version: FORMAT,
            cluster_id: "1f".to_owned(),
            after_revision: after,
            link,
        },
        trailer: Trailer {
            revision: to,
            time: time(at),
            events: 1,
        },
        digest: digest.to_owned(),
        marks: vec![mark(i64::midpoint(after, to), at - 5), mark(to, at)],
    }
}

fn begins(folder: &str, sha256: &str) -> Link {
    Link::Begins {
        folder: folder.to_owned(),
        sha256: sha256.to_owned(),
    }
}

fn continues(digest: &str) -> Link {
    Link::Continues {
        digest: digest.to_owned(),
    }
}

/// Three increments, up to revision 160 at second 1060. The first began before the backup.
fn chain() -> Vec<Checked> {
    vec![
        increment(continues("0"), 90, 120, "a", 1020),
        increment(continues("a"), 120, 140, "b", 1040),
        increment(continues("b"), 140, 160, "c", 1060),
    ]
}

/// Walks along; how many increments it took.
fn walk(chain: &[Checked], wanted: Wanted, more: bool) -> Result<Loaded, Failure> {
    let base = base();
    let mut walk = Walk::new("backup-1", &base, wanted)?;
    for (number, next) in chain.iter().enumerate() {
        if walk.arrived() {
            break;
        }
        let name = number.to_string();
        if !walk.step(&name, next, name.clone().into())? {
            break;
        }
    }
    walk.finish(more)
}

#[test]
fn a_revision_takes_as_many_increments_as_lead_there() {
    for (revision, files) in [(100, 0), (101, 1), (120, 1), (121, 2), (160, 3)] {
        let loaded = walk(&chain(), Wanted::Revision(revision), false).unwrap();
        assert_eq!((loaded.revision, loaded.files.len()), (revision, files));
    }
    let beyond = walk(&chain(), Wanted::Revision(161), false).unwrap_err();
    assert_eq!(beyond.reason, Reason::TargetOutOfReach);
    assert!(beyond.message.contains("up to revision 160"), "{beyond}");
    let before = walk(&chain(), Wanted::Revision(99), false).unwrap_err();
    assert_eq!(before.reason, Reason::TargetOutOfReach);
}

#[test]
fn a_time_is_the_last_revision_known_by_then() {
    for (seconds, revision) in [
        (1000, 100), // the backup's own
        (1016, 105),
        (1020, 120),
        (1034, 120),
        (1035, 130),
        (1059, 150),
    ] {
        let loaded = walk(&chain(), Wanted::Time(time(seconds)), false).unwrap();
        assert_eq!(loaded.revision, revision, "at {seconds}");
        assert!(loaded.time <= time(seconds));
    }
    // What happened between the last mark and then, nobody knows.
    let beyond = walk(&chain(), Wanted::Time(time(1061)), false).unwrap_err();
    assert_eq!(beyond.reason, Reason::TargetOutOfReach);
    let before = walk(&chain(), Wanted::Time(time(999)), false).unwrap_err();
    assert_eq!(before.reason, Reason::TargetOutOfReach);
    assert_eq!(walk(&chain(), Wanted::Latest, false).unwrap().revision, 160);
}

#[test]
fn a_missing_increment_is_a_gap() {
    let mut broken = chain();
    broken.remove(1);
    assert_eq!(
        walk(&broken, Wanted::Revision(120), true).unwrap().revision,
        120
    );
    let gap = walk(&broken, Wanted::Revision(150), true).unwrap_err();
    assert_eq!(gap.reason, Reason::Gap);
    // The newest state that can be had is that before the gap.
    assert_eq!(walk(&broken, Wanted::Latest, true).unwrap().revision, 120);
    // Changes right after the backup are missing.
    let late = vec![increment(begins("backup-2", "x"), 110, 120, "a", 1020)];
    assert_eq!(
        walk(&late, Wanted::Revision(115), true).unwrap_err().reason,
        Reason::Gap
    );
}

#[test]
fn o24_an_increment_that_was_swapped_for_another_is_refused() {
    let mut swapped = chain();
    swapped[1] = increment(continues("x"), 120, 140, "b", 1040);
    let failure = walk(&swapped, Wanted::Latest, false).unwrap_err();
    assert_eq!(failure.reason, Reason::Corrupt);
    let mut foreign = chain();
    foreign[0].header.cluster_id = "2f".to_owned();
    assert_eq!(
        walk(&foreign, Wanted::Latest, false).unwrap_err().reason,
        Reason::Corrupt
    );
    let other = vec![increment(begins("backup-1", "other"), 100, 120, "a", 1020)];
    assert_eq!(
        walk(&other, Wanted::Latest, false).unwrap_err().reason,
        Reason::Corrupt
    );
    let own = vec![increment(begins("backup-1", "base"), 100, 120, "a", 1020)];
    assert_eq!(walk(&own, Wanted::Latest, false).unwrap().revision, 120);
}
