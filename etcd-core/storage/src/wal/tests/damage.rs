use proptest::prelude::*;

use super::*;
use crate::wal::reader::first_nonzero;

/// A log of several files, all synced, and its model.
fn synced() -> (SimDisk, Model) {
    let disk = SimDisk::new(1);
    let mut writer = Writer::create(&disk).unwrap();
    writer.append(&[10, 0, 1100]).unwrap();
    writer.append(&[3]).unwrap();
    writer.term = 2;
    writer.append(&[]).unwrap();
    writer.append(&[1500, 300]).unwrap();
    writer.append(&[0, 1300]).unwrap();
    writer.wal.save_snapshot(&snapshot(3, 1)).unwrap();
    writer.model.records.push(Record::Snapshot(snapshot(3, 1)));
    writer.append(&[1900, 9, 0]).unwrap();
    writer.append(&[1200]).unwrap();
    writer.sync().unwrap();
    (disk, writer.model)
}

/// Where the records of a file end.
fn end(disk: &SimDisk, name: &str) -> u64 {
    let file = file(disk, name);
    let len = file.len().unwrap();
    let mut at = 0;
    while let Some(next) = first_nonzero(&*file, at, len).unwrap() {
        at = next + 1;
    }
    at
}

fn read(disk: &SimDisk) -> Result<Replay, WalError> {
    Wal::read(disk, dir(), &Snapshot::default())
}

#[test]
fn s10_any_flipped_bit_in_synced_records_is_damage() {
    let (disk, _) = synced();
    let names = files(&disk);
    assert_eq!(names.len(), 3, "{names:?}");
    for name in &names {
        let path = dir().join(name);
        for offset in 0..end(&disk, name) {
            for bit in 0..8 {
                disk.flip_bit(&path, offset, bit).unwrap();
                let found = read(&disk);
                assert!(
                    matches!(
                        found,
                        Err(WalError::Corrupt { .. } | WalError::MetadataConflict { .. })
                    ),
                    "{name} at {offset} bit {bit}: {:?}",
                    found.map(|replay| replay.entries.len()),
                );
                disk.flip_bit(&path, offset, bit).unwrap();
            }
        }
    }
    read(&disk).unwrap();
}

#[test]
fn s10_damage_is_named_and_nothing_is_altered() {
    let (disk, _) = synced();
    let names = files(&disk);
    disk.flip_bit(&dir().join(&names[1]), 1000, 3).unwrap();
    let before: Vec<_> = names.iter().map(|name| content(&disk, name)).collect();
    let opened = Wal::open_with(Arc::new(disk.clone()), dir(), &Snapshot::default(), OPTIONS);
    let error = opened.err().unwrap();
    let WalError::Corrupt { file, offset, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(file, &dir().join(&names[1]));
    assert!(*offset <= 1000, "{error}");
    assert!(error.to_string().contains(&names[1]), "{error}");
    assert_eq!(files(&disk), names);
    for (name, before) in names.iter().zip(before) {
        assert_eq!(content(&disk, name), before);
    }
}

#[test]
fn s10_a_length_of_one_bit_in_a_sectors_last_bytes_is_not_written() {
    let disk = SimDisk::new(1);
    let mut writer = Writer::create(&disk).unwrap();
    // A record whose length would have one bit at every place in a sector.
    let mut places = std::collections::BTreeSet::new();
    for size in (0..64).cycle().take(4000) {
        writer.append(&[size]).unwrap();
        let index = writer.terms.len() as u64 + 1;
        let small = (0..64).map(|size| entry(1, index, vec![1; size]));
        let frame = |entry: &Entry, offset| {
            let mut buffer = Vec::new();
            let crc = writer.wal.crc;
            crate::wal::record::Encoder {
                buffer: &mut buffer,
                offset,
                crc,
            }
            .entry(entry);
            buffer
        };
        // At offset 0 it is written as everywhere but at a sector's end.
        let mut small = small.into_iter();
        let Some(entry) = small.find(|entry| frame(entry, 0)[..8] == 64u64.to_le_bytes()) else {
            continue; // the checksums have fewer bytes just where it matters
        };
        writer.terms.push(1);
        let at = writer.wal.offset;
        writer
            .wal
            .append(None, std::slice::from_ref(&entry))
            .unwrap();
        if writer.wal.offset < at {
            continue; // in a new file
        }
        places.insert(at % 512);
        let expected = if at % 512 == 504 {
            65 | 0x87 << 56
        } else {
            64u64
        };
        let mut length = [0; 8];
        file(&disk, &files(&disk).pop().unwrap())
            .read_at(at, &mut length)
            .unwrap();
        assert_eq!(u64::from_le_bytes(length), expected);
    }
    assert_eq!(places.len(), 64);
    assert_eq!(read(&disk).unwrap().entries.len(), writer.terms.len());
}

#[test]
fn s03_a_missing_file_is_noticed() {
    let (disk, _) = synced();
    let names = files(&disk);
    disk.unlink(&dir().join(&names[1])).unwrap();
    assert!(matches!(read(&disk), Err(WalError::Corrupt { .. })));
    let disk = synced().0;
    disk.unlink(&dir().join(&names[0])).unwrap();
    assert!(matches!(read(&disk), Err(WalError::FileNotFound { .. })));
}

#[test]
fn s02_a_file_that_ends_anywhere_in_its_last_records_yields_a_prefix() {
    let (disk, model) = synced();
    let names = files(&disk);
    let last = &names[2];
    let head = 8 + 24; // any record ends beyond the sum and its frame
    for len in 0..end(&disk, last) {
        let disk = disk.fork(0);
        file(&disk, last).truncate(len).unwrap();
        match Wal::open_with(Arc::new(disk.clone()), dir(), &Snapshot::default(), OPTIONS) {
            Ok((wal, replay)) => {
                Model {
                    acked: 0,
                    ..model.clone()
                }
                .settle(&Snapshot::default(), &replay);
                drop(wal);
                Writer::reopen(
                    &disk,
                    Model {
                        acked: 0,
                        ..model.clone()
                    },
                );
            }
            Err(error) => {
                assert!(len < head + 100, "{len}: {error}");
                assert!(matches!(error, WalError::Corrupt { .. }));
            }
        }
    }
    // Of a file that others follow nothing may be missing.
    for len in (0..end(&disk, &names[1])).step_by(8) {
        let disk = disk.fork(0);
        file(&disk, &names[1]).truncate(len).unwrap();
        assert!(
            matches!(read(&disk), Err(WalError::Corrupt { .. })),
            "{len}"
        );
    }
}

#[test]
fn s02_lost_sectors_of_the_tail_yield_a_prefix_and_a_copy() {
    let mut copies = 0;
    for lost in 1u32..64 {
        let disk = SimDisk::new(1);
        let mut writer = Writer::create(&disk).unwrap();
        writer.append(&[100]).unwrap();
        writer.sync().unwrap();
        writer.append(&[700, 20, 900, 1]).unwrap();
        let (from, to) = (writer.model.acked, writer.model.records.len());
        assert!(from < to);
        let Writer { wal, model, .. } = writer;
        drop(wal);
        let name = files(&disk)[0].clone();
        for sector in (1..=6).filter(|sector| lost & (1 << (sector - 1)) != 0) {
            file(&disk, &name)
                .write_at(sector * 512, &[0; 512])
                .unwrap();
        }
        let torn = content(&disk, &name);
        Writer::reopen(&disk, model);
        if files(&disk).len() == 2 {
            copies += 1;
            let copy = content(&disk, &format!("{name}.broken"));
            assert_eq!(copy, torn);
        }
    }
    assert!(copies > 10);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn s10_bytes_of_any_kind_never_panic(
        mut bytes in prop::collection::vec(any::<u8>(), 0..2000),
        keep in 0usize..2000,
        which in 0usize..3,
    ) {
        let (disk, _) = synced();
        let name = files(&disk)[which].clone();
        let whole = content(&disk, &name);
        let keep = keep.min(whole.len());
        bytes.splice(..0, whole[..keep].iter().copied());
        let file = file(&disk, &name);
        file.truncate(0).unwrap();
        file.write_at(0, &bytes).unwrap();
        let _ = read(&disk);
        let _ = Wal::valid_snapshots(&disk, dir());
    }
}
