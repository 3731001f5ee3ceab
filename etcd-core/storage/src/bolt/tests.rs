//! Round trips of whole images, and images that someone has tampered with.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::meta::Meta;
use super::*;
use crate::disk::{Disk, File, OpenMode};
use crate::simdisk::SimDisk;

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;
type Buckets = BTreeMap<Vec<u8>, Rows>;

fn plan(buckets: &Buckets) -> Layout {
    let mut planner = Planner::new();
    for (name, rows) in buckets {
        planner.bucket(name).unwrap();
        for (key, value) in rows {
            planner.row(key.len(), value.len()).unwrap();
        }
    }
    planner.finish()
}

fn image_of(buckets: &Buckets) -> Bytes {
    let layout = plan(buckets);
    let mut writer = ImageWriter::new(&layout, Vec::new()).unwrap();
    for (name, rows) in buckets {
        writer.bucket(name).unwrap();
        for (key, value) in rows {
            writer.row(key, value).unwrap();
        }
    }
    let bytes = writer.finish().unwrap();
    assert_eq!(bytes.len() as u64, layout.total_size());
    assert_eq!(written_to_a_file(buckets), bytes, "both ways to write");
    Bytes::from(bytes)
}

/// The same, by the writer that needs no plan.
fn written_to_a_file(buckets: &Buckets) -> Bytes {
    let disk = SimDisk::new(0);
    let path = Path::new("/db");
    let mut writer = FileWriter::create(&disk, path).unwrap();
    for (name, rows) in buckets {
        writer.bucket(name).unwrap();
        for (key, value) in rows {
            writer.row(key, value).unwrap();
        }
    }
    let len = writer.finish().unwrap();
    let bytes = disk.open(path, OpenMode::Read).unwrap().map().unwrap();
    assert_eq!(bytes.len() as u64, len);
    bytes
}

/// The same bytes as a file.
fn file(bytes: &Bytes) -> Arc<dyn File> {
    let file = SimDisk::new(0).create(Path::new("/db")).unwrap();
    file.write_at(0, bytes).unwrap();
    Arc::from(file)
}

fn read(image: &Image) -> Result<Buckets, BoltError> {
    let mut found = Buckets::new();
    for bucket in image.buckets() {
        let (name, bucket) = bucket?;
        let rows = bucket
            .rows()
            .map(|row| row.map(|row| (row.key.to_vec(), row.value.to_vec())));
        found.insert(name.to_vec(), rows.collect::<Result<_, _>>()?);
    }
    Ok(found)
}

fn assert_round_trip(buckets: &Buckets) -> Image {
    let bytes = image_of(buckets);
    let paged = Image::open_file(file(&bytes)).unwrap();
    assert_eq!(paged.check(), []);
    assert_eq!(read(&paged).unwrap(), *buckets);
    let image = Image::open(bytes).unwrap();
    assert_eq!(image.check(), []);
    assert_eq!(image.size(), image.source.len());
    assert_eq!(read(&image).unwrap(), *buckets);
    for (name, rows) in buckets {
        let bucket = image.bucket(name).unwrap().unwrap();
        let last = bucket.last().unwrap().map(|row| (row.key, row.value));
        assert_eq!(
            last,
            rows.last_key_value()
                .map(|(key, value)| (key.clone().into(), value.clone().into()))
        );
        for (key, value) in rows {
            assert_eq!(bucket.get(key).unwrap().unwrap(), *value);
            let mut absent = key.clone();
            absent.push(0);
            assert_eq!(
                bucket.get(&absent).unwrap().is_some(),
                rows.contains_key(&absent)
            );
            let from = bucket.rows_from(&absent).next();
            let expected = rows.range(absent..).next();
            assert_eq!(
                from.map(|row| row.unwrap().key),
                expected.map(|(key, _)| Bytes::copy_from_slice(key))
            );
        }
    }
    image
}

fn key(revision: u64) -> Vec<u8> {
    let mut key = revision.to_be_bytes().to_vec();
    key.extend_from_slice(b"_\0\0\0\0\0\0\0\0");
    key
}

fn buckets(rows: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Buckets {
    let mut buckets = Buckets::new();
    buckets.insert(b"key".to_vec(), rows.into_iter().collect());
    for name in ["alarm", "auth", "meta"] {
        buckets.insert(name.into(), Rows::new());
    }
    buckets
}

#[test]
fn an_image_without_buckets_opens() {
    let image = assert_round_trip(&Buckets::new());
    assert_eq!(image.size(), 3 * PAGE_SIZE as u64);
    assert!(image.bucket(b"key").unwrap().is_none());
}

#[test]
fn many_keys_make_several_levels() {
    let image = assert_round_trip(&buckets((0..60_000).map(|n| (key(n), vec![n as u8; 20]))));
    let mut depth = 1;
    let bucket = image.bucket(b"key").unwrap().unwrap();
    let bucket::Root::Page(mut page) = bucket.root else {
        panic!("inline");
    };
    while image.node(page).unwrap().branch {
        page = image.node(page).unwrap().child(0).unwrap().child;
        depth += 1;
    }
    assert_eq!(depth, 3);
}

#[test]
fn long_keys_make_branches_overflow() {
    let long = |n: u32| [&n.to_be_bytes()[..], &vec![7; MAX_KEY_SIZE - 4]].concat();
    assert_round_trip(&buckets((0..100).map(|n| (long(n), Vec::new()))));
}

#[test]
fn values_may_be_empty_huge_or_just_fill_a_page() {
    let room = PAGE_SIZE - HEADER - ELEMENT - 17;
    let sizes = [
        0,
        1,
        room - 1,
        room,
        room + 1,
        2 * PAGE_SIZE,
        5_000_000,
        0,
        3000,
        3000,
        3000,
    ];
    assert_round_trip(&buckets(
        (0..).map(key).zip(sizes.map(|size| vec![0xab; size])),
    ));
}

#[test]
fn rows_of_some_kib_share_pages() {
    let image = assert_round_trip(&buckets((0..1000).map(|n| (key(n), vec![1; 3000]))));
    assert!(image.size() < 1000 * 3300, "{}", image.size());
}

#[test]
fn many_buckets_make_the_root_a_tree() {
    let one = |n: u32| {
        (
            format!("bucket-{n:05}").into_bytes(),
            Rows::from([(vec![1], vec![2])]),
        )
    };
    assert_round_trip(&(0..500).map(one).collect());
}

#[test]
fn what_differs_from_the_plan_is_an_error() {
    let planned = buckets((0..500).map(|n| (key(n), vec![0; 100])));
    let layout = plan(&planned);
    let write = |name: &[u8], rows: &mut dyn Iterator<Item = (Vec<u8>, usize)>| {
        let mut writer = ImageWriter::new(&layout, std::io::sink())?;
        writer.bucket(b"alarm")?;
        writer.bucket(b"auth")?;
        writer.bucket(name)?;
        for (key, len) in rows {
            writer.row(&key, &vec![0; len])?;
        }
        writer.bucket(b"meta")?;
        writer.finish().map(drop)
    };
    let rows = || (0..500).map(key);
    assert!(write(b"key", &mut rows().map(|key| (key, 100))).is_ok());
    for result in [
        write(b"kex", &mut rows().map(|key| (key, 100))),
        write(b"key", &mut rows().map(|key| (key, 150))),
        write(b"key", &mut rows().map(|key| (key, 10_000))),
        write(b"key", &mut rows().take(300).map(|key| (key, 100))),
    ] {
        assert!(
            matches!(result, Err(LayoutError::Mismatch { .. })),
            "{result:?}"
        );
    }
    let descending = write(b"key", &mut rows().rev().map(|key| (key, 100)));
    assert!(matches!(descending, Err(LayoutError::Order { .. })));

    let mut planner = Planner::new();
    assert!(matches!(planner.row(1, 1), Err(LayoutError::NoBucket)));
    assert!(matches!(planner.bucket(b""), Err(LayoutError::KeySize(0))));
    planner.bucket(b"b").unwrap();
    assert!(matches!(
        planner.bucket(b"b"),
        Err(LayoutError::Order { .. })
    ));
    planner.bucket(b"c").unwrap();
    assert!(planner.row(MAX_KEY_SIZE + 1, 0).is_err());
    assert!(planner.row(1, MAX_VALUE_SIZE + 1).is_err());
}

/// A root that holds the inline bucket "in" with one row, as bbolt writes small buckets.
#[test]
fn inline_buckets_are_read() {
    let mut page = Vec::new();
    let mut node = |flags: u16, element_flags: u32, key: &[u8], value: &[u8]| {
        page.clear();
        page.extend_from_slice(&[0; 8]);
        page.extend_from_slice(&flags.to_le_bytes());
        page.extend_from_slice(&1u16.to_le_bytes());
        page.extend_from_slice(&[0; 4]);
        page.extend_from_slice(&element_flags.to_le_bytes());
        page.extend_from_slice(&16u32.to_le_bytes());
        page.extend_from_slice(&(key.len() as u32).to_le_bytes());
        page.extend_from_slice(&(value.len() as u32).to_le_bytes());
        page.extend_from_slice(key);
        page.extend_from_slice(value);
        page.clone()
    };
    let inline = [vec![0; 16], node(FLAG_LEAF, 0, b"k", b"v")].concat();
    let mut root = node(FLAG_LEAF, ELEMENT_BUCKET, b"in", &inline);
    root[0] = 2;
    let meta = Meta {
        page_size: 4096,
        root: 2,
        freelist: NO_FREELIST,
        high_water: 3,
        txid: 8,
    };
    let mut file = Vec::new();
    meta.encode(0, &mut file);
    meta.encode(1, &mut file);
    file.extend_from_slice(&root);
    file.resize(3 * 4096, 0);
    let image = Image::open(file.into()).unwrap();
    assert_eq!(image.check(), []);
    let bucket = image.bucket(b"in").unwrap().unwrap();
    assert_eq!(bucket.get(b"k").unwrap().unwrap(), "v");
    assert_eq!(bucket.rows().count(), 1);
    assert_eq!(image.root().rows().count(), 0, "a bucket is no row");
}

#[test]
fn the_newest_valid_meta_wins() {
    let bytes = image_of(&buckets([(key(1), vec![1])])).to_vec();
    assert_eq!(Image::open(bytes.clone().into()).unwrap().txid(), 2);
    let mut second = bytes.clone();
    second[20] ^= 1;
    assert_eq!(Image::open(second.clone().into()).unwrap().txid(), 1);
    second[PAGE_SIZE + 70] ^= 1;
    assert!(matches!(
        Image::open(second.into()),
        Err(BoltError::NoMeta { .. })
    ));
    let short = Bytes::from(bytes).slice(..4 * PAGE_SIZE);
    assert!(matches!(
        Image::open(short),
        Err(BoltError::Truncated { .. })
    ));
}

#[test]
fn s12_a_trailer_vouches_for_the_bytes_before_it() {
    use std::io::Write;
    let image = image_of(&buckets([(key(1), vec![1])]));
    let mut out = Sha256Trailer::new(Vec::new());
    out.write_all(&image).unwrap();
    let (bytes, _) = out.finish().unwrap();
    let bytes = Bytes::from(bytes);
    assert!(has_trailer(bytes.len() as u64) && !has_trailer(image.len() as u64));
    assert_eq!(verify_trailer(&*file(&bytes)).unwrap(), image.len() as u64);
    assert!(
        Image::open(bytes.clone()).is_ok(),
        "a trailer is no obstacle"
    );
    assert!(matches!(
        verify_trailer(&*file(&image)),
        Err(TrailerError::Missing { .. })
    ));
    for at in [5000, bytes.len() - 1] {
        let mut flipped = bytes.to_vec();
        flipped[at] ^= 4;
        assert!(matches!(
            verify_trailer(&*file(&flipped.into())),
            Err(TrailerError::Digest { .. })
        ));
    }
}

fn any_buckets() -> impl Strategy<Value = Buckets> {
    let value = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..64),
        1 => (0usize..20_000, any::<u8>()).prop_map(|(len, byte)| vec![byte; len]),
    ];
    let key = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 1..24),
        1 => (1usize..3000, any::<u8>()).prop_map(|(len, byte)| vec![byte; len]),
    ];
    let rows = prop::collection::btree_map(key, value, 0..200);
    prop::collection::btree_map(prop::collection::vec(any::<u8>(), 1..10), rows, 0..6)
}

/// Everything that reads; whatever it returns, it must return, and the same from memory
/// and from a file.
fn exercise(bytes: Bytes) {
    let len = bytes.len();
    let paged = Image::open_file(file(&bytes));
    let Ok(image) = Image::open(bytes) else {
        assert!(paged.is_err());
        return;
    };
    let paged = paged.unwrap();
    let found = image.check();
    assert_eq!(paged.check(), found);
    let sound = found.is_empty();
    let read = read(&image);
    assert_eq!(self::read(&paged), read);
    assert!(
        !sound || read.is_ok(),
        "a sound image is readable: {read:?}"
    );
    for name in [&b"key"[..], b"", b"\xff"] {
        if let Ok(Some(bucket)) = image.bucket(name) {
            let _ = (bucket.get(&key(3)), bucket.last());
            for row in bucket.rows_from(&key(3)).flatten() {
                assert!(row.key.len() + row.value.len() <= len);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_image_reads_back(buckets in any_buckets()) {
        assert_round_trip(&buckets);
    }

    #[test]
    fn x13_tampered_images_never_panic(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        headers in prop::collection::vec((any::<prop::sample::Index>(), 0usize..48, any::<u8>()), 0..10),
        keep in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let mut bytes = image_of(&buckets((0..600).map(|n| (key(n), vec![n as u8; 30])))).to_vec();
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        // Headers and elements are where it hurts.
        let pages = bytes.len() / PAGE_SIZE;
        for (page, at, byte) in headers {
            bytes[page.index(pages - 2) * PAGE_SIZE + 2 * PAGE_SIZE + at] = byte;
        }
        if cut {
            bytes.truncate(keep.index(bytes.len()));
        }
        exercise(bytes.into());
    }

    #[test]
    fn x13_random_bytes_under_a_valid_meta_never_panic(
        body in prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(2), Just(16), any::<u8>()], 8192),
        root in 0u64..6,
        freelist in prop_oneof![Just(NO_FREELIST), 0u64..6],
        high_water in 0u64..8,
    ) {
        let meta = Meta { page_size: 2048, root, freelist, high_water, txid: 1 };
        let mut file = Vec::new();
        meta.encode(0, &mut file);
        meta.encode(1, &mut file);
        file.extend_from_slice(&body);
        for page in 2..6 {
            file[page * 2048..page * 2048 + 8].copy_from_slice(&(page as u64).to_le_bytes());
        }
        exercise(file.into());
    }
}

#[test]
fn x13_cycles_and_shared_pages_end() {
    // A branch whose children are all itself, or the page before it.
    for child in [2u64, 3] {
        let mut file = Vec::new();
        let meta = Meta {
            page_size: 4096,
            root: 2,
            freelist: NO_FREELIST,
            high_water: 40,
            txid: 1,
        };
        meta.encode(0, &mut file);
        meta.encode(1, &mut file);
        for page in 2..40u64 {
            file.extend_from_slice(&page.to_le_bytes());
            let flags = if page == 39 { FLAG_LEAF } else { FLAG_BRANCH };
            file.extend_from_slice(&flags.to_le_bytes());
            file.extend_from_slice(&(if page == 39 { 0u16 } else { 100 }).to_le_bytes());
            file.extend_from_slice(&0u32.to_le_bytes());
            for _ in 0..100 {
                file.extend_from_slice(&[0; 8]);
                let to = if child == 2 { 2 } else { page + 1 };
                file.extend_from_slice(&to.to_le_bytes());
            }
            file.resize((page as usize + 1) * 4096, 0);
        }
        let image = Image::open(file.into()).unwrap();
        assert!(!image.check().is_empty());
        assert!(read(&image).is_err());
    }
}
