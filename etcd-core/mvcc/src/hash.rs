//! HashKV: one number for the whole history.

use std::ops::ControlFlow;

use crate::error::ReadError;
use crate::index::Entry;
use crate::record::{Record, Revision};
use crate::span::Span;
use crate::view::View;

/// Bucket name that begins every hash.
const BUCKET: &[u8] = b"key";
/// Records between two questions whether to go on.
const ASK_EVERY: u32 = 1024;

/// A hash of the history, and what it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvHash {
    /// CRC-32C over bucket name, raw keys and raw values.
    pub hash: u32,
    /// Compact revision it was computed under; -1 if nothing was compacted.
    /// Only hashes under the same one can be compared.
    pub compact_revision: i64,
    /// Main revision up to which it reaches.
    pub revision: i64,
}

/// The hash of a compaction's revision as it was just before it, which members
/// compare with each other. It reads the whole history, so it belongs on a
/// thread of its own; it pins the view from before the compaction.
#[derive(Clone)]
pub struct CompactionHash {
    pub(crate) before: View,
    pub(crate) revision: i64,
}

impl CompactionHash {
    /// Computes the hash; give it to `Store::cache_hash`. Fails with
    /// [`ReadError::Compacted`] if it was begun so late that records are gone.
    pub fn compute(&self) -> Result<KvHash, ReadError> {
        let whole = self.compute_while(&mut || true)?;
        Ok(whole.expect("it was told to go on to the end"))
    }

    /// As [`CompactionHash::compute`], but asks now and then whether to go on;
    /// `None` if it was told not to.
    pub fn compute_while(
        &self,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Option<KvHash>, ReadError> {
        hash(
            &self.before,
            self.before.compacted,
            self.revision,
            true,
            go_on,
        )
    }

    /// The compact revision that it is of.
    pub fn revision(&self) -> i64 {
        self.revision
    }
}

/// Hashes the history up to main revision `at`, under compact revision
/// `compacted`. Records up to that one count only if `at` still sees them; only
/// if `at` sees nothing at all, each one counts that a compaction left.
/// `tombstones` also takes a tombstone of exactly `at` for something seen, as
/// etcd does while it compacts. `None` if `go_on` said no on the way.
pub(crate) fn hash(
    view: &View,
    compacted: i64,
    at: i64,
    tombstones: bool,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Option<KvHash>, ReadError> {
    let seen = |entry: &Entry| {
        entry
            .at(at)
            .is_some_and(|past| !past.tombstone() || (tombstones && past.rev().main == at))
    };
    // From the empty key on: an image restored with a revision bump holds one.
    let keep = view
        .index
        .walk(Span::From(b""))
        .any(|(_, entry)| seen(entry));
    let visible = |record: &Record, main: i64| {
        let entry = view.index.get(&record.key);
        entry.and_then(|entry| entry.visible(main)) == Some(record.rev)
    };
    let mut crc = crc32c::crc32c(BUCKET);
    let (mut visited, mut stopped) = (0u32, false);
    view.records(Revision::default(), at, &mut |record| {
        let counts =
            record.rev.main > compacted || visible(&record, if keep { at } else { compacted });
        if counts {
            crc = crc32c::crc32c_append(crc, record.raw_key().as_bytes());
            crc = crc32c::crc32c_append(crc, &record.value);
        }
        visited = visited.wrapping_add(1);
        stopped = visited.is_multiple_of(ASK_EVERY) && !go_on();
        if stopped {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    Ok((!stopped).then_some(KvHash {
        hash: crc,
        compact_revision: compacted,
        revision: at,
    }))
}
