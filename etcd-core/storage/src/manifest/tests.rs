use super::*;
use crate::rows::{self, Row};
use crate::segment::{RecordMeta, Segment, SegmentWriter};
use crate::simdisk::SimDisk;

const DIR: &str = "/store";

fn dir() -> &'static Path {
    Path::new(DIR)
}

fn manifest(index: u64) -> Manifest {
    Manifest {
        index,
        term: 3,
        conf_state: ConfState {
            voters: vec![1, u64::MAX],
            ..ConfState::default()
        },
        revision: index as i64 * 10,
        compact_revision: 5,
        finished_compact_revision: 4,
        segments: (1..=index).map(|i| format!("{i:016x}.seg")).collect(),
        rows: format!("{index:016x}.rows"),
    }
}

fn disk(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    crate::dir::create_durable(&disk, dir()).unwrap();
    disk
}

#[test]
fn a_manifest_is_read_as_it_was_stored() {
    let disk = disk(0);
    assert_eq!(Manifest::load(&disk, dir()).unwrap(), None);
    for index in [1, 2] {
        manifest(index).store(&disk, dir()).unwrap();
        assert_eq!(Manifest::load(&disk, dir()).unwrap(), Some(manifest(index)));
    }
    assert_eq!(disk.list(dir()).unwrap().len(), 1);
    Manifest::default().store(&disk, dir()).unwrap();
    assert_eq!(
        Manifest::load(&disk, dir()).unwrap(),
        Some(Manifest::default())
    );
}

#[test]
fn s12_any_flipped_bit_in_a_manifest_is_noticed() {
    let disk = disk(0);
    manifest(2).store(&disk, dir()).unwrap();
    let path = dir().join(MANIFEST_FILE);
    let len = disk.list(dir()).unwrap()[0].len;
    for offset in 0..len {
        for bit in 0..8 {
            disk.flip_bit(&path, offset, bit).unwrap();
            let found = Manifest::load(&disk, dir());
            assert!(
                matches!(found, Err(ManifestError::Corrupt { .. })),
                "{offset}: {found:?}"
            );
            disk.flip_bit(&path, offset, bit).unwrap();
        }
    }
    for len in 0..len {
        disk.open(&path, OpenMode::Write)
            .unwrap()
            .truncate(len)
            .unwrap();
        assert!(Manifest::load(&disk, dir()).is_err());
        manifest(2).store(&disk, dir()).unwrap();
    }
}

/// One checkpoint after another: each adds a segment and replaces the rows.
fn checkpoint(disk: &SimDisk, index: u64) -> Result<(), Box<dyn std::error::Error>> {
    let manifest = manifest(index);
    let segment = dir().join(&manifest.segments[index as usize - 1]);
    let rows = dir().join(&manifest.rows);
    // What an attempt before a crash left behind is not referred to by anything.
    unlink_if_exists(disk, &segment)?;
    unlink_if_exists(disk, &rows)?;
    let mut writer = SegmentWriter::create(disk, &segment)?;
    for main in 0..3 {
        let meta = RecordMeta {
            main: index as i64 * 10 + main,
            ..RecordMeta::default()
        };
        writer.push(&meta, b"key", &[index as u8; 700])?;
    }
    writer.finish()?;
    rows::write(disk, &rows, &expected_rows(index))?;
    disk.sync_dir(dir())?;
    manifest.store(disk, dir())?;
    if index > 1 {
        unlink_if_exists(disk, &dir().join(self::manifest(index - 1).rows))?;
    }
    Ok(())
}

fn expected_rows(index: u64) -> Vec<Row> {
    vec![Row {
        bucket: "lease".into(),
        key: index.to_be_bytes().to_vec().into(),
        value: vec![index as u8; 600].into(),
    }]
}

/// The checkpoint that is there, after checking that it is whole.
fn found(disk: &SimDisk) -> u64 {
    let Some(manifest) = Manifest::load(disk, dir()).unwrap() else {
        return 0;
    };
    let index = manifest.index;
    assert_eq!(manifest, self::manifest(index));
    for (i, name) in manifest.segments.iter().enumerate() {
        let segment = Segment::open(disk, &dir().join(name)).unwrap();
        let value = segment.read((i as i64 + 1) * 10 + 2, 0).unwrap();
        assert_eq!(value, vec![i as u8 + 1; 700]);
    }
    let rows = rows::read(disk, &dir().join(&manifest.rows)).unwrap();
    assert_eq!(rows, expected_rows(index));
    index
}

#[test]
fn s03_a_crash_at_any_operation_leaves_a_whole_checkpoint() {
    let whole = disk(0);
    for index in 1..=3 {
        checkpoint(&whole, index).unwrap();
    }
    for op in disk(0).ops()..whole.ops() {
        for seed in 0..10 {
            let disk = disk(seed);
            disk.crash_at(op);
            let done = (1..=3)
                .take_while(|&index| checkpoint(&disk, index).is_ok())
                .count();
            disk.crash();
            let index = found(&disk);
            let done = done as u64;
            assert!(
                index == done || index == done + 1,
                "op {op} seed {seed}: {index} {done}"
            );
            checkpoint(&disk, index + 1).unwrap();
            disk.crash();
            assert_eq!(found(&disk), index + 1);
        }
    }
}

#[test]
fn s13_a_checkpoint_that_does_not_fit_leaves_the_one_before() {
    for capacity in (0..6000).step_by(100) {
        let disk = disk(capacity);
        checkpoint(&disk, 1).unwrap();
        disk.set_capacity(Some(disk.used() + capacity));
        let done = checkpoint(&disk, 2).is_ok();
        assert_eq!(found(&disk), if done { 2 } else { 1 });
        disk.crash();
        assert_eq!(found(&disk), if done { 2 } else { 1 });
        disk.set_capacity(None);
        checkpoint(&disk, 2).unwrap();
        assert_eq!(found(&disk), 2);
    }
}
