//! What a checkpoint consists of.
//!
//! ```text
//! magic 8 | version u32 | bytes of the body u32 | body (protobuf) | CRC-32C of all before u32
//! ```

use std::path::{Path, PathBuf};

use etcd_proto::raftpb::ConfState;
use prost::Message;

use crate::dir::unlink_if_exists;
use crate::disk::{Disk, DiskError, OpenMode};

/// Name of the manifest in the store's directory.
pub const MANIFEST_FILE: &str = "manifest";
/// Name of a manifest that is being written.
pub const MANIFEST_TEMPORARY: &str = "manifest.tmp";

const MAGIC: [u8; 8] = *b"etcdcman";
const VERSION: u32 = 1;
const HEAD_BYTES: usize = MAGIC.len() + 2 * size_of::<u32>();
const CHECKSUM_BYTES: usize = size_of::<u32>();

/// The newest checkpoint: everything applied up to an index of the log, and the files
/// that hold it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manifest {
    /// Index of the last entry that the checkpoint contains.
    pub index: u64,
    /// Term of that entry.
    pub term: u64,
    /// The members at that index.
    pub conf_state: ConfState,
    /// The store's current main revision.
    pub revision: i64,
    /// The revision that compaction was asked for last; 0 for none.
    pub compact_revision: i64,
    /// The revision that compaction was carried out for last; 0 for none.
    pub finished_compact_revision: i64,
    /// Names of the segments in the store's directory, in revision order.
    pub segments: Vec<String>,
    /// Name of the file with the rows of all buckets but `key`.
    pub rows: String,
}

/// Why there is no manifest to go by.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file has changed since it was written.
    #[error("manifest: {} is corrupt: {reason}", file.display())]
    Corrupt {
        /// The manifest.
        file: PathBuf,
        /// What does not check out.
        reason: &'static str,
    },
    /// The file is of a format that this version does not know.
    #[error("manifest: {} has format version {version}, which is not known", file.display())]
    UnknownVersion {
        /// The manifest.
        file: PathBuf,
        /// The version it states.
        version: u32,
    },
    /// The disk failed.
    #[error("manifest: {0}")]
    Disk(#[from] DiskError),
}

/// The body. Fields may be added; numbers are never used again.
#[derive(Clone, PartialEq, Message)]
struct Body {
    #[prost(uint64, tag = "1")]
    index: u64,
    #[prost(uint64, tag = "2")]
    term: u64,
    #[prost(message, optional, tag = "3")]
    conf_state: Option<ConfState>,
    #[prost(int64, tag = "4")]
    revision: i64,
    #[prost(int64, tag = "5")]
    compact_revision: i64,
    #[prost(int64, tag = "6")]
    finished_compact_revision: i64,
    #[prost(string, repeated, tag = "7")]
    segments: Vec<String>,
    #[prost(string, tag = "8")]
    rows: String,
}

impl Manifest {
    /// The manifest in `dir`, `None` if there never was one.
    pub fn load(disk: &dyn Disk, dir: &Path) -> Result<Option<Manifest>, ManifestError> {
        let path = dir.join(MANIFEST_FILE);
        let file = match disk.open(&path, OpenMode::Read) {
            Ok(file) => file,
            Err(e) if e.is_not_found() => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let mut bytes = vec![0; usize::try_from(file.len()?).unwrap_or(usize::MAX)];
        let read = file.read_at(0, &mut bytes)?;
        bytes.truncate(read);
        Manifest::decode(&path, &bytes).map(Some)
    }

    /// Replaces the manifest in `dir`, durably: a crash leaves the old one or this one.
    /// What it names must be durable before.
    pub fn store(&self, disk: &dyn Disk, dir: &Path) -> Result<(), ManifestError> {
        let making = dir.join(MANIFEST_TEMPORARY);
        unlink_if_exists(disk, &making)?;
        let file = disk.create(&making)?;
        file.write_at(0, &self.encode())?;
        file.sync_data()?;
        disk.rename(&making, &dir.join(MANIFEST_FILE))?;
        disk.sync_dir(dir)?;
        Ok(())
    }

    fn encode(&self) -> Vec<u8> {
        let body = Body {
            index: self.index,
            term: self.term,
            conf_state: Some(self.conf_state.clone()),
            revision: self.revision,
            compact_revision: self.compact_revision,
            finished_compact_revision: self.finished_compact_revision,
            segments: self.segments.clone(),
            rows: self.rows.clone(),
        }
        .encode_to_vec();
        let mut bytes = Vec::with_capacity(HEAD_BYTES + body.len() + CHECKSUM_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&body);
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    }

    fn decode(path: &Path, bytes: &[u8]) -> Result<Manifest, ManifestError> {
        let corrupt = |reason| ManifestError::Corrupt {
            file: path.to_path_buf(),
            reason,
        };
        let (content, checksum) = bytes
            .split_last_chunk()
            .ok_or_else(|| corrupt("the file is too short"))?;
        if crc32c::crc32c(content) != u32::from_le_bytes(*checksum) {
            return Err(corrupt("the checksum does not match"));
        }
        let rest = content
            .strip_prefix(&MAGIC)
            .ok_or_else(|| corrupt("it does not start as a manifest does"))?;
        let (version, rest) = rest
            .split_first_chunk()
            .ok_or_else(|| corrupt("the head is cut"))?;
        let version = u32::from_le_bytes(*version);
        if version != VERSION {
            return Err(ManifestError::UnknownVersion {
                file: path.to_path_buf(),
                version,
            });
        }
        let (len, body) = rest
            .split_first_chunk()
            .ok_or_else(|| corrupt("the head is cut"))?;
        if body.len() != u32::from_le_bytes(*len) as usize {
            return Err(corrupt("the body has another length than stated"));
        }
        let body = Body::decode(body).map_err(|_| corrupt("the body does not decode"))?;
        Ok(Manifest {
            index: body.index,
            term: body.term,
            conf_state: body.conf_state.unwrap_or_default(),
            revision: body.revision,
            compact_revision: body.compact_revision,
            finished_compact_revision: body.finished_compact_revision,
            segments: body.segments,
            rows: body.rows,
        })
    }
}

#[cfg(test)]
mod tests;
