use std::path::Path;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::disk::{Disk, OpenMode, RealDisk};
use crate::simdisk::{Fault, SimDisk};

const PATH: &str = "/segment";

type Record = (RecordMeta, Vec<u8>, Vec<u8>);

fn record(main: i64, sub: i64, size: usize) -> Record {
    let meta = RecordMeta {
        main,
        sub,
        tombstone: main % 5 == 0,
        create_revision: main / 2,
        version: 3,
        lease: if main % 3 == 0 { i64::MIN + main } else { 0 },
        replaces: (main % 2 == 0).then_some((main - 1, 2)),
    };
    let value = (0..size)
        .map(|i| (i as i64 * 7 + main + sub) as u8)
        .collect();
    (meta, format!("key-{}", main % 7).into_bytes(), value)
}

fn write(disk: &dyn Disk, path: &Path, records: &[Record]) -> Result<SegmentInfo, SegmentError> {
    let mut writer = SegmentWriter::create(disk, path)?;
    for (meta, key, value) in records {
        writer.push(meta, key, value)?;
    }
    let estimate = writer.bytes();
    let info = writer.finish()?;
    assert!(info.bytes - estimate < 8);
    Ok(info)
}

fn check(segment: &Segment, records: &[Record]) {
    assert_eq!(segment.len(), records.len());
    assert_eq!(segment.first(), records[0].0.revision());
    assert_eq!(segment.last(), records[records.len() - 1].0.revision());
    for (found, (meta, key, value)) in segment.records().zip(records) {
        assert_eq!(found.unwrap(), (*meta, &key[..], value.len()));
        assert_eq!(segment.read(meta.main, meta.sub).unwrap(), value);
    }
}

fn some_records() -> Vec<Record> {
    vec![
        record(2, 0, 10),
        record(3, 0, 0),
        record(3, 1, 600),
        record(3, 5, 1),
        record(7, 0, 33),
        record(10, 0, 5),
    ]
}

#[test]
fn a_segment_is_read_as_it_was_written() {
    let disk = SimDisk::new(0);
    let records = some_records();
    let info = write(&disk, Path::new(PATH), &records).unwrap();
    let segment = Segment::open(&disk, Path::new(PATH)).unwrap();
    assert_eq!(info.first, (2, 0));
    assert_eq!(info.last, (10, 0));
    assert_eq!(info.records, 6);
    assert_eq!(info.bytes, segment.file_bytes());
    check(&segment, &records);
    for (main, sub) in [
        (1, 0),
        (3, 2),
        (4, 0),
        (8, 1),
        (10, 1),
        (11, 0),
        (i64::MAX, 0),
        (-1, 0),
    ] {
        assert!(matches!(
            segment.read(main, sub),
            Err(SegmentError::NotFound { .. })
        ));
    }
}

#[test]
fn a_scan_yields_the_records_of_a_range() {
    let disk = SimDisk::new(0);
    write(&disk, Path::new(PATH), &some_records()).unwrap();
    let segment = Segment::open(&disk, Path::new(PATH)).unwrap();
    let scan = |from, to| -> Vec<(i64, i64)> {
        segment
            .scan(from, to)
            .map(|found| found.unwrap().0.revision())
            .collect()
    };
    assert_eq!(scan(3, 7), [(3, 0), (3, 1), (3, 5), (7, 0)]);
    assert_eq!(scan(4, 6), []);
    assert_eq!(scan(i64::MIN, 2), [(2, 0)]);
    assert_eq!(scan(8, i64::MAX), [(10, 0)]);
    assert_eq!(scan(7, 3), []);
}

#[test]
fn what_does_not_fit_is_refused() {
    let disk = SimDisk::new(0);
    let mut writer = SegmentWriter::create(&disk, Path::new(PATH)).unwrap();
    let mut push = |main, sub| {
        let (meta, key, value) = record(main, sub, 1);
        writer.push(&meta, &key, &value)
    };
    push(3, 1).unwrap();
    assert!(matches!(push(3, 1), Err(SegmentError::OutOfOrder { .. })));
    assert!(matches!(push(2, 9), Err(SegmentError::OutOfOrder { .. })));
    assert!(matches!(
        push(4, 1 << 32),
        Err(SegmentError::DoesNotFit { .. })
    ));
    assert!(matches!(push(4, -1), Err(SegmentError::DoesNotFit { .. })));
    push(4, 0).unwrap();
    assert_eq!(writer.records(), 2);
    writer.finish().unwrap();
    let empty = SegmentWriter::create(&disk, Path::new("/empty")).unwrap();
    assert!(matches!(empty.finish(), Err(SegmentError::Empty { .. })));
}

#[test]
fn a_mapped_segment_outlives_its_file() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("segment");
    // Larger than the writer's buffer, with values that are and that are not.
    let records: Vec<_> = (2..60)
        .map(|main| record(main, 0, if main == 9 { 2 << 20 } else { 70_000 }))
        .collect();
    write(&RealDisk, &path, &records).unwrap();
    let segment = Segment::open(&RealDisk, &path).unwrap();
    RealDisk.unlink(&path).unwrap();
    check(&segment, &records);
    let value = segment.read(9, 0).unwrap();
    drop(segment);
    assert_eq!(value, records[7].2);
}

#[test]
fn s12_any_flipped_bit_is_noticed_and_spares_other_records() {
    let disk = SimDisk::new(0);
    let path = Path::new(PATH);
    let records = some_records();
    let info = write(&disk, path, &records).unwrap();
    let mut opened = 0;
    for offset in 0..info.bytes {
        for bit in 0..8 {
            disk.flip_bit(path, offset, bit).unwrap();
            if let Ok(segment) = Segment::open(&disk, path) {
                opened += 1;
                let mut damaged = 0;
                for (meta, _, value) in &records {
                    match segment.read(meta.main, meta.sub) {
                        Ok(found) => assert_eq!(found, value),
                        Err(SegmentError::Corrupt { .. }) => damaged += 1,
                        Err(e) => panic!("{e}"),
                    }
                }
                assert!(damaged <= 1, "offset {offset}");
                let scanned = segment.scan(0, i64::MAX).filter(Result::is_err).count();
                assert_eq!(scanned, damaged);
            }
            disk.flip_bit(path, offset, bit).unwrap();
        }
    }
    // Those in values, and in the padding behind them.
    let values: usize = records.iter().map(|(_, _, value)| value.len()).sum();
    assert!((values * 8..(values + 8) * 8).contains(&opened), "{opened}");
}

#[test]
fn s03_a_crash_before_the_end_leaves_no_segment_that_opens() {
    let disk = SimDisk::new(0);
    write(&disk, Path::new(PATH), &some_records()).unwrap();
    let ops = disk.ops();
    for op in 0..=ops {
        for seed in 0..20 {
            let disk = SimDisk::new(seed);
            disk.crash_at(op);
            let written = write(&disk, Path::new(PATH), &some_records());
            let named = disk.sync_dir(Path::new("/"));
            disk.crash();
            match Segment::open(&disk, Path::new(PATH)) {
                Ok(segment) => check(&segment, &some_records()),
                Err(_) => assert!(written.is_err() || named.is_err(), "op {op} seed {seed}"),
            }
        }
    }
}

#[test]
fn s13_a_full_disk_is_told_apart() {
    let disk = SimDisk::new(0);
    disk.set_capacity(Some(500));
    let error = write(&disk, Path::new(PATH), &some_records()).unwrap_err();
    assert!(error.is_no_space());
    disk.set_capacity(None);
    disk.unlink(Path::new(PATH)).unwrap();
    disk.fail_op(disk.ops() + 2, Fault::Io);
    let error = write(&disk, Path::new(PATH), &some_records()).unwrap_err();
    assert!(matches!(error, SegmentError::Disk(_)), "{error}");
}

fn records() -> impl Strategy<Value = Vec<Record>> {
    let step = (0i64..3, 0i64..4, 0usize..50);
    prop::collection::vec(step, 1..80).prop_map(|steps| {
        let (mut main, mut sub) = (1, 0);
        let next = steps.into_iter().map(|(main_step, sub_step, size)| {
            main += main_step;
            sub = if main_step > 0 {
                sub_step
            } else {
                sub + 1 + sub_step
            };
            record(main, sub, size)
        });
        next.collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn any_records_are_found_again(records in records(), from in 0i64..200, to in 0i64..200) {
        let disk = SimDisk::new(0);
        write(&disk, Path::new(PATH), &records).unwrap();
        let segment = Segment::open(&disk, Path::new(PATH)).unwrap();
        check(&segment, &records);
        let scanned: Vec<_> = segment.scan(from, to).map(Result::unwrap).collect();
        let expected: Vec<_> = records
            .iter()
            .filter(|(meta, _, _)| (from..=to).contains(&meta.main))
            .map(|(meta, key, value)| (*meta, Bytes::from(key.clone()), Bytes::from(value.clone())))
            .collect();
        prop_assert_eq!(scanned, expected);
    }

    #[test]
    fn x13_bytes_of_any_kind_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        at in 0usize..1200,
        fix_checksums: bool,
    ) {
        let disk = SimDisk::new(0);
        let path = Path::new(PATH);
        write(&disk, path, &some_records()).unwrap();
        let file = disk.open(path, OpenMode::Write).unwrap();
        file.write_at(at as u64, &bytes).unwrap();
        if fix_checksums {
            fix(&disk, path);
        }
        if let Ok(segment) = Segment::open(&disk, path) {
            let _ = segment.records().count();
            let _ = segment.scan(0, i64::MAX).count();
            let _ = segment.read(3, 1);
        }
    }
}

/// Makes the checksums of the footer match what is there, as an attacker would.
fn fix(disk: &SimDisk, path: &Path) {
    let file = disk.open(path, OpenMode::Write).unwrap();
    let mut bytes = file.map().unwrap().to_vec();
    let trailer_at = bytes.len() - layout::TRAILER_BYTES;
    let u64_at = |at: usize| {
        let bytes: [u8; 8] = bytes[trailer_at + at..][..8].try_into().unwrap();
        usize::try_from(u64::from_le_bytes(bytes)).unwrap()
    };
    let trailer = layout::Trailer {
        entries_offset: u64_at(0) as u64,
        count: u64_at(8) as u64,
        keys_offset: u64_at(16) as u64,
        keys_len: u64_at(24) as u64,
        entries_checksum: bytes.get(u64_at(0)..u64_at(16)).map_or(0, crc32c::crc32c),
        keys_checksum: bytes.get(u64_at(16)..trailer_at).map_or(0, crc32c::crc32c),
    };
    bytes[trailer_at..].copy_from_slice(&trailer.encode());
    file.write_at(0, &bytes).unwrap();
}
