//! The parts of an increment.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What an increment begins with.
pub(crate) const MAGIC: &[u8; 8] = b"etcdinc1";
/// Version of the format this program writes, and the newest it reads.
pub(crate) const FORMAT: u32 = 1;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// [`Header`], as JSON. The first one.
    Header = 0,
    /// A revision in 8 bytes, then `mvccpb.Event`s with their lengths.
    Events = 1,
    /// A revision in 8 bytes, then `leasepb.Lease`s with their lengths.
    Leases = 2,
    /// A revision, and what was compacted by then, in 8 bytes each.
    Compacted = 3,
    /// [`Mark`]: a revision, and milliseconds since 1970, in 8 bytes each.
    Mark = 4,
    /// [`Trailer`], as JSON. The last one; the digest follows.
    Trailer = 5,
}

impl Kind {
    /// Of a frame's byte.
    pub(crate) fn of(byte: u8) -> Option<Kind> {
        [
            Kind::Header,
            Kind::Events,
            Kind::Leases,
            Kind::Compacted,
            Kind::Mark,
            Kind::Trailer,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// What an increment goes on from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Header {
    /// Version of the format.
    pub format_version: u32,
    /// The cluster's ID, in hex.
    #[serde(rename = "clusterID")]
    pub cluster_id: String,
    /// The first change is of the revision after this one.
    pub after_revision: i64,
    /// What it is linked to.
    pub link: Link,
}

/// What an increment is linked to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Link {
    /// A full backup of exactly that revision: changes before it are missing.
    Begins {
        /// Its folder.
        folder: String,
        /// SHA-256 of its plain image, in hex.
        sha256: String,
    },
    /// The increment before it.
    Continues {
        /// Its digest, in hex.
        digest: String,
    },
}

/// A revision that had been reached at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The revision.
    pub revision: i64,
    /// The time.
    pub time: Timestamp,
}

/// How far an increment goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Trailer {
    /// The last revision in it; that of the header if nothing changed.
    pub revision: i64,
    /// When the cluster was known to be there.
    pub time: Timestamp,
    /// Events in it.
    pub events: u64,
}

/// The first number of a frame, and what follows it.
pub(crate) fn number(content: &[u8]) -> Option<(i64, &[u8])> {
    let (number, rest) = content.split_first_chunk::<8>()?;
    Some((i64::from_le_bytes(*number), rest))
}
