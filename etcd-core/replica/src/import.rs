//! From a bbolt image to a store of our own.

use std::collections::HashMap;
use std::path::Path;

use bytes::Bytes;
use etcd_mvcc::{RawKey, Revision};
use etcd_proto::mvccpb::KeyValue;
use etcd_storage::bolt::Image;
use etcd_storage::disk::{Disk, OpenMode};
use etcd_storage::manifest::Manifest;
use etcd_storage::segment::{RecordMeta, SegmentWriter};
use prost::Message as _;

use crate::error::StoreError;
use crate::rows_file;
use crate::schema::{BUCKETS, Row, Rows};

/// Writes segments, rows and a manifest of an image's content into `store`. Until
/// the manifest is in place the old store is untouched.
pub(crate) fn import(
    disk: &dyn Disk,
    store: &Path,
    image_path: &Path,
) -> Result<Manifest, StoreError> {
    disk.create_dir_all(store)?;
    let image = Image::open(disk.open(image_path, OpenMode::Read)?.map()?)?;
    let rows = read_rows(&image)?;
    if rows.auth_enabled() {
        return Err(StoreError::AuthEnabled);
    }
    let index = rows.consistent_index;
    let (segments, last) = write_segment(disk, store, image_path, &image, index)?;
    let compact = rows.scheduled_compact.max(rows.finished_compact);
    let rows_name = rows_file::write(disk, store, &rows)?;
    disk.sync_dir(store)?;
    let manifest = Manifest {
        index,
        term: rows.term,
        conf_state: rows.membership.conf_state(),
        revision: last.max(compact).max(1),
        compact_revision: compact,
        finished_compact_revision: compact,
        segments,
        rows: rows_name,
    };
    manifest.store(disk, store)?;
    Ok(manifest)
}

/// All rows of an image but the keys.
pub(crate) fn read_rows(image: &Image) -> Result<Rows, StoreError> {
    let mut rows = Vec::new();
    for name in BUCKETS.iter().filter(|b| **b != "key") {
        let Some(bucket) = image.bucket(name.as_bytes())? else {
            continue;
        };
        for row in bucket.rows() {
            let row = row?;
            rows.push(Row {
                bucket: (*name).to_owned(),
                key: Bytes::copy_from_slice(&row.key),
                value: Bytes::copy_from_slice(&row.value),
            });
        }
    }
    Ok(Rows::decode(rows)?)
}

/// The segments' names and the last main revision.
fn write_segment(
    disk: &dyn Disk,
    store: &Path,
    image_path: &Path,
    image: &Image,
    index: u64,
) -> Result<(Vec<String>, i64), StoreError> {
    let fault = |reason: String| StoreError::Image {
        path: image_path.to_owned(),
        reason,
    };
    let Some(bucket) = image.bucket(b"key")? else {
        return Err(fault("there is no bucket \"key\"".into()));
    };
    // A name that no checkpoint gives, so that a half-written one of an earlier
    // attempt can be told apart and replaced.
    let name = format!("image-{index:016x}.seg");
    let path = store.join(&name);
    if disk.exists(&path)? {
        disk.unlink(&path)?;
    }
    let mut writer = SegmentWriter::create(disk, &path)?;
    let mut newest: HashMap<Bytes, (i64, i64)> = HashMap::new();
    let mut last = 0;
    let mut empty = true;
    for row in bucket.rows() {
        let row = row?;
        let Some((rev, tombstone)) = RawKey::decode(&row.key) else {
            return Err(fault(format!("{:?} is no revision", row.key)));
        };
        let kv = KeyValue::decode(row.value.clone())
            .map_err(|e| fault(format!("revision {}: {e}", rev.main)))?;
        let replaces = newest.insert(Bytes::copy_from_slice(&kv.key), (rev.main, rev.sub));
        let meta = meta_of(rev, tombstone, &kv, replaces);
        writer.push(&meta, &kv.key, &row.value)?;
        last = rev.main;
        empty = false;
    }
    if empty {
        drop(writer);
        disk.unlink(&path)?;
        return Ok((Vec::new(), 0));
    }
    writer.finish()?;
    Ok((vec![name], last))
}

fn meta_of(
    rev: Revision,
    tombstone: bool,
    kv: &KeyValue,
    replaces: Option<(i64, i64)>,
) -> RecordMeta {
    RecordMeta {
        main: rev.main,
        sub: rev.sub,
        tombstone,
        create_revision: kv.create_revision,
        version: kv.version,
        lease: kv.lease,
        replaces,
    }
}
