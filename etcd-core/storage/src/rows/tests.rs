use proptest::prelude::*;

use super::*;
use crate::simdisk::SimDisk;

const PATH: &str = "/rows";

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
    let row = ("[a-z_é]{0,8}", bytes(), bytes());
    prop::collection::vec(
        row.prop_map(|(bucket, key, value)| Row { bucket, key, value }),
        0..20,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_rows_are_read_as_they_were_written(rows in rows()) {
        let disk = SimDisk::new(0);
        let len = write(&disk, Path::new(PATH), &rows).unwrap();
        prop_assert_eq!(disk.used(), len);
        prop_assert_eq!(read(&disk, Path::new(PATH)).unwrap(), rows);
    }

    #[test]
    fn x13_bytes_of_any_kind_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut whole = MAGIC.to_vec();
        whole.extend(VERSION.to_le_bytes());
        whole.append(&mut bytes);
        whole.extend(crc32c::crc32c(&whole).to_le_bytes());
        let _ = decode(Path::new(PATH), &whole);
    }
}

#[test]
fn s12_any_flipped_bit_in_rows_is_noticed() {
    let disk = SimDisk::new(0);
    let path = Path::new(PATH);
    let row = |key: &'static str| Row {
        bucket: "auth".into(),
        key: key.into(),
        value: key.into(),
    };
    let len = write(&disk, path, &[row("a"), row("authEnabled")]).unwrap();
    for offset in 0..len {
        for bit in 0..8 {
            disk.flip_bit(path, offset, bit).unwrap();
            assert!(
                matches!(read(&disk, path), Err(RowsError::Corrupt { .. })),
                "{offset}"
            );
            disk.flip_bit(path, offset, bit).unwrap();
        }
    }
}
