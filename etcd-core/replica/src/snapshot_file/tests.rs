//! Surveys in little memory, held against a plain one.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use etcd_mvcc::{RawKey, Revision, encode, encode_tombstone};
use etcd_storage::bolt::FileWriter;
use etcd_storage::simdisk::SimDisk;
use proptest::prelude::*;

use super::survey::Survey;
use super::*;

/// A change of a key: its number, and whether it is deleted.
type Changed = (u8, bool);

fn file_of(changes: &[Changed]) -> SnapshotFile {
    let disk = SimDisk::new(0);
    let path = Path::new("/db");
    let mut writer = FileWriter::create(&disk, path).unwrap();
    writer.bucket(b"key").unwrap();
    for ((key, tombstone), main) in changes.iter().zip(2..) {
        let name = name(*key);
        let value = match tombstone {
            true => encode_tombstone(&name),
            false => encode(&name, main, main, 1, b"v", 0),
        };
        let key = RawKey::new(Revision::new(main, 0), *tombstone);
        writer.row(key.as_bytes(), &value).unwrap();
    }
    writer.bucket(b"meta").unwrap();
    writer.finish().unwrap();
    SnapshotFile::open_file(&disk, path).unwrap()
}

fn name(key: u8) -> Bytes {
    // Of very different lengths, so that the bound is passed in the middle of a pass.
    Bytes::from(vec![key; 1 + usize::from(key) * 3])
}

proptest! {
    #[test]
    fn a_survey_in_little_memory_finds_what_one_in_much_does(
        changes in prop::collection::vec((any::<u8>(), any::<bool>()), 0..300),
        at in 0i64..310,
        bytes_max in prop_oneof![Just(0usize), 1usize..40_000],
    ) {
        let file = file_of(&changes);
        let mut newest = BTreeMap::new();
        for ((key, tombstone), number) in changes.iter().zip(0u64..) {
            if number as i64 + 2 <= at {
                newest.insert(key, (number, *tombstone));
            }
        }
        let expected: Vec<u64> = {
            let live = newest.into_values().filter(|(_, tombstone)| !tombstone);
            let mut numbers: Vec<u64> = live.map(|(number, _)| number).collect();
            numbers.sort_unstable();
            numbers
        };
        let survey = Survey::within(&file, at, bytes_max).unwrap();
        let found: Vec<u64> = (0..changes.len() as u64).filter(|n| survey.is_visible(*n)).collect();
        prop_assert_eq!(&found, &expected);
        prop_assert_eq!(survey.live, expected.len() as u64);
        let last = if changes.is_empty() { 0 } else { changes.len() as i64 + 1 };
        prop_assert_eq!(survey.last, last);
    }
}

#[test]
fn an_empty_store_is_at_revision_1() {
    let summary = file_of(&[]).summary().unwrap();
    assert_eq!((summary.revision, summary.compact_revision), (1, 0));
    assert_eq!(file_of(&[]).hash_kv(0).unwrap().compact_revision, -1);
}

#[test]
fn s12_an_image_is_verified_to_its_last_row() {
    let sound: Vec<Changed> = (0..200).map(|n| (n as u8, n % 7 == 3)).collect();
    file_of(&sound).verify().unwrap();
    file_of(&[]).verify().unwrap();

    type Rows = &'static [(&'static str, &'static [u8], &'static [u8])];
    let cases: [(Rows, &str); 5] = [
        (&[("key", b"no revision", b"")], "is no revision"),
        (
            &[("key", b"\0\0\0\0\0\0\0\x02_\0\0\0\0\0\0\0\0", b"\xff")],
            "revision 2",
        ),
        (
            &[
                ("key", b"\0\0\0\0\0\0\0\x02_\0\0\0\0\0\0\0\0", b""),
                ("key", b"\0\0\0\0\0\0\0\x02_\0\0\0\0\0\0\0\0t", b""),
            ],
            "revision 2_0 has no place",
        ),
        (
            &[("auth", b"authEnabled", b"\x01")],
            "authentication is enabled",
        ),
        (&[("members", b"1", b"no JSON")], "members"),
    ];
    for (rows, reason) in cases {
        let disk = SimDisk::new(0);
        let path = Path::new("/db");
        let mut writer = FileWriter::create(&disk, path).unwrap();
        for bucket in BUCKETS {
            writer.bucket(bucket.as_bytes()).unwrap();
            for (_, key, value) in rows.iter().filter(|row| row.0 == bucket) {
                writer.row(key, value).unwrap();
            }
        }
        writer.finish().unwrap();
        let file = SnapshotFile::open_file(&disk, path).unwrap();
        let error = file.verify().unwrap_err().to_string();
        assert!(error.contains(reason), "{error:?} for {reason:?}");
    }
}
