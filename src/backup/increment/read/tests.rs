use etcd_proto::mvccpb::KeyValue;
use proptest::prelude::*;

use super::super::{
    frame::Link,
    write::{Frames, finish},
};
use super::*;

pub(crate) fn put(key: &str, revision: i64) -> Event {
    Event {
        kv: Some(KeyValue {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::from_static(b"v"),
            create_revision: revision,
            mod_revision: revision,
            version: 1,
            lease: 0,
        }),
        ..Event::default()
    }
}

fn delete(key: &str, revision: i64) -> Event {
    let mut event = put(key, revision);
    event.set_type(EventType::Delete);
    event
}

fn time(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap()
}

fn header(after_revision: i64) -> Header {
    Header {
        format_version: FORMAT,
        cluster_id: "1f".to_owned(),
        after_revision,
        link: Link::Continues {
            digest: "00".to_owned(),
        },
    }
}

/// Revisions 11 to 13, of which the second has two events in two frames.
fn good() -> (Vec<u8>, String) {
    let mut frames = Frames::default();
    frames.changes(11, &[put("a", 11)]);
    frames.mark(Mark {
        revision: 11,
        time: time(1000),
    });
    frames.changes(12, &[put("b", 12)]);
    frames.changes(12, &[delete("a", 12)]);
    frames.leases(
        14,
        &[Lease {
            id: 7,
            ttl: 60,
            remaining_ttl: 0,
        }],
    );
    frames.compacted(13, 5);
    frames.changes(13, &[put("c", 13)]);
    finish(&header(10), &frames, 13, time(2000))
}

fn checked(bytes: &[u8]) -> Result<Checked, Failure> {
    check(&mut &*bytes, "it")
}

#[test]
fn what_was_written_is_read_again() {
    let (bytes, digest) = good();
    let found = checked(&bytes).unwrap();
    assert_eq!((found.header, &found.digest), (header(10), &digest));
    assert_eq!((found.trailer.revision, found.trailer.events), (13, 4));
    let marks: Vec<(i64, Timestamp)> = found.marks.iter().map(|m| (m.revision, m.time)).collect();
    assert_eq!(marks, [(11, time(1000)), (13, time(2000))]);

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    std::fs::write(&path, &bytes).unwrap();
    let changes: Vec<Change> = ChangeFiles::new([path]).map(Result::unwrap).collect();
    assert_eq!(changes.len(), 6);
    assert!(matches!(&changes[0], Change::Events { revision: 11, events } if events.len() == 1));
    let deleted = ChangeEvent::Delete {
        key: Bytes::from_static(b"a"),
    };
    assert!(matches!(&changes[2], Change::Events { revision: 12, events } if events[0] == deleted));
    assert!(
        matches!(&changes[3], Change::Leases { revision: 14, leases } if leases[0].granted_ttl == 60)
    );
    let compacted = Change::Compacted {
        revision: 13,
        compact_revision: 5,
    };
    assert_eq!(changes[4], compacted);
}

#[test]
fn a_revision_that_is_missing_or_comes_twice_is_seen() {
    for revisions in [vec![12], vec![11, 13], vec![11, 12, 11], vec![10]] {
        let mut frames = Frames::default();
        for revision in &revisions {
            frames.changes(*revision, &[put("a", *revision)]);
        }
        let last = *revisions.last().unwrap();
        let (bytes, _) = finish(&header(10), &frames, last, time(1));
        assert_eq!(
            checked(&bytes).unwrap_err().reason,
            Reason::Corrupt,
            "{revisions:?}"
        );
    }
    let (bytes, _) = finish(&header(10), &Frames::default(), 10, time(1));
    assert_eq!(checked(&bytes).unwrap().trailer.revision, 10);
    let (bytes, _) = finish(&header(10), &Frames::default(), 11, time(1));
    assert_eq!(checked(&bytes).unwrap_err().reason, Reason::Corrupt);
}

#[test]
fn o24_an_increment_that_is_cut_anywhere_is_refused() {
    let (bytes, _) = good();
    for cut in 0..bytes.len() {
        assert_eq!(
            checked(&bytes[..cut]).unwrap_err().reason,
            Reason::Corrupt,
            "{cut}"
        );
    }
    let longer = [&bytes[..], b"x"].concat();
    assert_eq!(checked(&longer).unwrap_err().reason, Reason::Corrupt);
}

proptest! {
    #[test]
    fn o24_an_increment_that_is_flipped_anywhere_is_refused(at in any::<prop::sample::Index>(), bit in 0..8_u32) {
        let (mut bytes, _) = good();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let reason = checked(&bytes).unwrap_err().reason;
        // A flipped bit may raise the version of the format.
        prop_assert!(matches!(reason, Reason::Corrupt | Reason::NewerFormat));
    }

    #[test]
    fn x13_any_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let bytes = [MAGIC.as_slice(), &bytes].concat();
        prop_assert!(checked(&bytes).is_err());
    }
}
