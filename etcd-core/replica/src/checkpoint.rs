//! From a captured state to segments, rows and a manifest.
//!
//! The order makes every crash safe: segments and rows are synced, then their
//! directory, then the manifest takes over; what nothing names is removed only
//! after the log has a record of the checkpoint.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use etcd_mvcc::Revision;
use etcd_proto::raftpb::ConfState;
use etcd_storage::disk::Disk;
use etcd_storage::manifest::Manifest;
use etcd_storage::segment::{Segment, SegmentWriter};

use crate::archive::{Part, SegmentArchive, meta_of};
use crate::capture::Capture;
use crate::error::StoreError;
use crate::rows_file;

/// Neighbouring segments of similar size are joined when there are so many.
const FAN_IN: usize = 4;
/// Segments are joined up to this size; beyond it the copying costs more than the
/// files.
const JOINED_BYTES_MAX: u64 = 512 << 20;

/// A checkpoint that the manifest names.
#[derive(Clone)]
pub struct Checkpoint {
    /// Applied index that it covers.
    pub index: u64,
    /// Term of the entry at that index.
    pub term: u64,
    /// Membership at that index.
    pub conf_state: ConfState,
    /// The segments from now on.
    pub archive: Arc<SegmentArchive>,
    /// Main revision up to which the segments hold everything.
    pub revision: i64,
    /// Files that nothing names any more, to be removed once the log has a record of
    /// the checkpoint.
    pub dead_files: Vec<PathBuf>,
    /// Whether segments with dead records were rewritten.
    pub defragmented: bool,
}

/// Writes a checkpoint into the store's directory below `directory`. What is damaged of
/// the segments that it copies is noted, and never gets a new checksum.
pub fn checkpoint(
    disk: &dyn Disk,
    directory: &Path,
    capture: &Capture,
) -> Result<Checkpoint, StoreError> {
    let written = write(disk, directory, capture);
    if let Err(StoreError::Segment(error)) = &written {
        capture.archive.damage().note(error);
    }
    written
}

fn write(disk: &dyn Disk, directory: &Path, capture: &Capture) -> Result<Checkpoint, StoreError> {
    let store = store_directory(directory);
    disk.create_dir_all(&store)?;
    let damage = capture.archive.damage();
    let mut parts = capture.archive.parts().to_vec();
    // All that there is on the way: what is written may be joined at once.
    let mut seen = parts.clone();
    if !capture.records.is_empty() {
        parts.push(write_records(disk, &store, capture)?);
        seen.extend_from_slice(&parts[parts.len() - 1..]);
    }
    if capture.defragment {
        parts = rewrite_dead(disk, &store, capture, &parts)?;
        seen.extend_from_slice(&parts);
    }
    while let Some(run) = run_to_join(&parts) {
        // What a dropped deletion deleted may live on in an older segment.
        let deletions = run.start > 0;
        let joined = rewrite(disk, &store, capture, &parts[run.clone()], deletions)?;
        seen.extend(joined.clone());
        parts.splice(run, joined);
    }
    let archive = Arc::new(SegmentArchive::new(parts, damage.clone()));
    let rows = rows_file::write(disk, &store, &capture.rows)?;
    disk.sync_dir(&store)?;
    let manifest = Manifest {
        index: capture.view.index,
        term: capture.view.term,
        conf_state: capture.conf_state(),
        revision: capture.view.kv.revision(),
        compact_revision: capture.view.kv.compact_revision().max(0),
        finished_compact_revision: capture.view.kv.compact_revision().max(0),
        segments: archive.names(),
        rows: rows.clone(),
    };
    manifest.store(disk, &store)?;
    let mut dead_files = SegmentArchive::new(seen, damage.clone()).dropped_by(&archive, &store);
    dead_files.extend(rows_file::others(disk, &store, &rows)?);
    Ok(Checkpoint {
        index: manifest.index,
        term: manifest.term,
        conf_state: manifest.conf_state,
        archive,
        revision: manifest.revision,
        dead_files,
        defragmented: capture.defragment,
    })
}

/// Where segments, rows and the manifest live.
pub fn store_directory(directory: &Path) -> PathBuf {
    directory.join("store")
}

fn write_records(disk: &dyn Disk, store: &Path, capture: &Capture) -> Result<Part, StoreError> {
    let first = capture.records.first().map_or(0, |r| r.rev.main);
    let last = capture.records.last().map_or(0, |r| r.rev.main);
    let name = free_name(disk, store, first, last)?;
    let mut writer = SegmentWriter::create(disk, &store.join(&name))?;
    for record in &capture.records {
        writer.push(&meta_of(record), &record.key, &record.value)?;
    }
    writer.finish()?;
    open_part(disk, store, name)
}

/// The longest run of newest segments of which each is at most twice as large as all
/// behind it together: so a record is copied a logarithmic number of times.
fn run_to_join(parts: &[Part]) -> Option<Range<usize>> {
    let mut start = parts.len();
    let mut behind = 0;
    for (i, part) in parts.iter().enumerate().rev() {
        let bytes = part.segment.file_bytes();
        if (behind > 0 && bytes > 2 * behind) || behind + bytes > JOINED_BYTES_MAX {
            break;
        }
        behind += bytes;
        start = i;
    }
    (parts.len() - start >= FAN_IN).then_some(start..parts.len())
}

fn rewrite_dead(
    disk: &dyn Disk,
    store: &Path,
    capture: &Capture,
    parts: &[Part],
) -> Result<Vec<Part>, StoreError> {
    let mut out = Vec::with_capacity(parts.len());
    for part in parts {
        if has_dead(capture, part)? {
            // Every segment loses its dead records, so none can come back to life.
            let part = std::slice::from_ref(part);
            out.extend(rewrite(disk, store, capture, part, false)?);
        } else {
            out.push(part.clone());
        }
    }
    Ok(out)
}

fn has_dead(capture: &Capture, part: &Part) -> Result<bool, StoreError> {
    for item in part.segment.records() {
        let (meta, key, _) = item?;
        if !capture
            .view
            .kv
            .keeps(key, Revision::new(meta.main, meta.sub), meta.tombstone)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Copies what the history still holds of these segments into one, and all deletions
/// if asked to; none if that is nothing.
fn rewrite(
    disk: &dyn Disk,
    store: &Path,
    capture: &Capture,
    parts: &[Part],
    deletions: bool,
) -> Result<Option<Part>, StoreError> {
    let first = parts.first().map_or(0, |p| p.segment.first().0);
    let last = parts.last().map_or(0, |p| p.segment.last().0);
    let name = free_name(disk, store, first, last)?;
    let path = store.join(&name);
    let mut writer = SegmentWriter::create(disk, &path)?;
    let mut kept = 0u64;
    for part in parts {
        for item in part.segment.scan(i64::MIN, i64::MAX) {
            let (meta, key, value) = item?;
            let rev = Revision::new(meta.main, meta.sub);
            let kept_anyway = deletions && meta.tombstone;
            if kept_anyway || capture.view.kv.keeps(&key, rev, meta.tombstone) {
                writer.push(&meta, &key, &value)?;
                kept += 1;
            }
        }
    }
    if kept == 0 {
        drop(writer);
        disk.unlink(&path)?;
        return Ok(None);
    }
    writer.finish()?;
    open_part(disk, store, name).map(Some)
}

fn open_part(disk: &dyn Disk, store: &Path, name: String) -> Result<Part, StoreError> {
    let segment = Arc::new(Segment::open(disk, &store.join(&name))?);
    Ok(Part { name, segment })
}

/// A rewrite covers the same revisions as what it replaces, so a counter follows.
fn free_name(disk: &dyn Disk, store: &Path, first: i64, last: i64) -> Result<String, StoreError> {
    let mut generation = 0u32;
    loop {
        let name = format!("{first:016x}-{last:016x}-{generation:04x}.seg");
        if !disk.exists(&store.join(&name))? {
            return Ok(name);
        }
        generation += 1;
    }
}
