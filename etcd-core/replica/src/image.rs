//! The one form of a snapshot: a bbolt image, made from one state in two passes.

use std::io::Write;
use std::ops::ControlFlow;

use bytes::Bytes;
use etcd_mvcc::{Archive as _, ArchiveError, RawKey, Record};
use etcd_storage::bolt::{ImageWriter, Layout, LayoutError, Planner};

use crate::capture::Capture;
use crate::schema::{BUCKETS, Row};

/// The image cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A segment could not be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The rows do not fit bbolt's format.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

/// A state whose image has been laid out, so that its size is known.
pub struct ImageSource {
    capture: Capture,
    rows: Vec<Row>,
    layout: Layout,
}

impl ImageSource {
    /// Lays out the image of a state.
    pub fn plan(capture: &Capture) -> Result<ImageSource, ImageError> {
        let rows = capture.rows.encode();
        let mut planner = Planner::new();
        for bucket in BUCKETS {
            planner.bucket(bucket.as_bytes())?;
            if bucket == "key" {
                let mut planned = Ok(());
                capture.visit_sizes(&mut |raw_key, value_len| {
                    planned = planner.row(raw_key.as_bytes().len(), value_len);
                    if planned.is_ok() {
                        ControlFlow::Continue(())
                    } else {
                        ControlFlow::Break(())
                    }
                })?;
                planned?;
            } else {
                for row in rows.iter().filter(|r| r.bucket == bucket) {
                    planner.row(row.key.len(), row.value.len())?;
                }
            }
        }
        Ok(ImageSource {
            capture: capture.clone(),
            rows,
            layout: planner.finish(),
        })
    }

    /// Bytes of the image.
    pub fn size(&self) -> u64 {
        self.layout.total_size()
    }

    /// Index of the last entry that the image contains.
    pub fn index(&self) -> u64 {
        self.capture.view.index
    }

    /// Writes the image front to back.
    pub fn write_to(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let mut writer = ImageWriter::new(&self.layout, out).map_err(to_io)?;
        for bucket in BUCKETS {
            writer.bucket(bucket.as_bytes()).map_err(to_io)?;
            if bucket == "key" {
                let mut written = Ok(());
                self.capture
                    .visit_records(&mut |raw_key, value| {
                        written = writer.row(raw_key.as_bytes(), &value);
                        if written.is_ok() {
                            ControlFlow::Continue(())
                        } else {
                            ControlFlow::Break(())
                        }
                    })
                    .map_err(std::io::Error::other)?;
                written.map_err(to_io)?;
            } else {
                for row in self.rows.iter().filter(|r| r.bucket == bucket) {
                    writer.row(&row.key, &row.value).map_err(to_io)?;
                }
            }
        }
        writer.finish().map_err(to_io)?;
        Ok(())
    }
}

fn to_io(error: LayoutError) -> std::io::Error {
    std::io::Error::other(error)
}

impl Capture {
    /// CRC-32C over all buckets, names, keys and values, but for the rows of `meta`
    /// that differ between members of one state.
    pub fn hash(&self) -> Result<u32, ArchiveError> {
        let rows = self.rows.encode();
        let mut crc = 0;
        for bucket in BUCKETS {
            crc = crc32c::crc32c_append(crc, bucket.as_bytes());
            if bucket == "key" {
                self.visit_records(&mut |raw_key, value| {
                    crc = crc32c::crc32c_append(crc, raw_key.as_bytes());
                    crc = crc32c::crc32c_append(crc, &value);
                    ControlFlow::Continue(())
                })?;
                continue;
            }
            for row in rows.iter().filter(|r| r.bucket == bucket) {
                let skipped: [&[u8]; 3] = [b"consistent_index", b"term", b"storageVersion"];
                if bucket == "meta" && skipped.contains(&row.key.as_ref()) {
                    continue;
                }
                crc = crc32c::crc32c_append(crc, &row.key);
                crc = crc32c::crc32c_append(crc, &row.value);
            }
        }
        Ok(crc)
    }

    /// Visits every record that the history still holds, in revision order, without
    /// reading the values of those in segments.
    fn visit_sizes(
        &self,
        visit: &mut dyn FnMut(RawKey, usize) -> ControlFlow<()>,
    ) -> Result<(), ArchiveError> {
        for part in self.archive.parts() {
            for item in part.segment.records() {
                let (meta, key, value_len) = item.map_err(|e| self.archive.failed(&e))?;
                let rev = etcd_mvcc::Revision::new(meta.main, meta.sub);
                if self.view.kv.keeps(key, rev, meta.tombstone)
                    && visit(RawKey::new(rev, meta.tombstone), value_len).is_break()
                {
                    return Ok(());
                }
            }
        }
        for record in &self.records {
            if self.keeps(record) && visit(record.raw_key(), record.value.len()).is_break() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// As `visit_sizes`, with the values.
    pub(crate) fn visit_records(
        &self,
        visit: &mut dyn FnMut(RawKey, Bytes) -> ControlFlow<()>,
    ) -> Result<(), ArchiveError> {
        let mut stopped = false;
        self.archive.scan(0, i64::MAX, &mut |record| {
            if !self.keeps(&record) {
                return ControlFlow::Continue(());
            }
            let flow = visit(record.raw_key(), record.value);
            stopped = flow.is_break();
            flow
        })?;
        if stopped {
            return Ok(());
        }
        for record in &self.records {
            if self.keeps(record) && visit(record.raw_key(), record.value.clone()).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn keeps(&self, record: &Record) -> bool {
        self.view
            .kv
            .keeps(&record.key, record.rev, record.tombstone)
    }
}
