//! What keeps the store in shape: compaction, checkpoints, captures.

use crate::archive::SegmentArchive;
use crate::capture::Capture;
use crate::checkpoint::Checkpoint;
use crate::schema::Rows;

use super::Applier;

impl Applier {
    /// Bytes of the records that no segment holds yet.
    pub fn ring_bytes(&self) -> usize {
        self.store.ring_bytes()
    }

    /// Whether a compaction has work left.
    pub fn is_compacting(&self) -> bool {
        !self.compactions.is_empty()
    }

    /// Visits up to `budget` records for the oldest compaction that is under way; how
    /// many of them nobody can read any more.
    pub fn compact_step(&mut self, budget: usize) -> Result<usize, etcd_mvcc::ReadError> {
        let Some(job) = self.compactions.front_mut() else {
            return Ok(0);
        };
        let step = job.step(&mut self.store, budget)?;
        let dead: u64 = step
            .dead
            .into_iter()
            .filter_map(|rev| self.archive.record_bytes(rev))
            .sum();
        self.add_dead_bytes(dead);
        if step.done {
            self.compactions.pop_front();
        }
        Ok(step.dropped)
    }

    /// Remembers what a compaction's hash came to, for members that ask for it.
    pub fn cache_hash(&mut self, hash: etcd_mvcc::KvHash) {
        self.store.cache_hash(hash);
    }

    /// Counts bytes of records in segments that the history does not hold any more.
    pub fn add_dead_bytes(&mut self, bytes: u64) {
        self.dead_bytes += bytes;
    }

    /// Bytes in segments that the history does not hold any more.
    pub fn dead_bytes(&self) -> u64 {
        self.dead_bytes
    }

    /// The segments.
    pub(crate) fn archive(&self) -> &SegmentArchive {
        &self.archive
    }

    /// Bytes of the segments.
    pub fn archive_bytes(&self) -> u64 {
        self.archive.bytes()
    }

    /// Everything durable but the keys, as of now.
    pub fn rows(&self) -> Rows {
        let compacted = self.store.compact_revision().max(0);
        Rows {
            membership: (*self.membership).clone(),
            alarms: (*self.alarms).clone(),
            cluster_version: self.cluster_version.as_deref().map(str::to_owned),
            downgrade: self.downgrade.clone(),
            leases: self.lessor.lock().to_rows(),
            auth: self.auth.clone(),
            consistent_index: self.index,
            term: self.term,
            conf_state: self.conf_state(),
            scheduled_compact: compacted,
            finished_compact: compacted,
            storage_version: Some(STORAGE_VERSION.to_owned()),
        }
    }

    /// The state now, with what a checkpoint or an image needs. `defragment`: a
    /// checkpoint of it drops dead records from all segments.
    pub fn capture(&mut self, defragment: bool) -> Capture {
        Capture {
            view: self.view(),
            rows: self.rows(),
            records: self.store.unarchived(i64::MAX),
            archive: self.archive.clone(),
            defragment,
        }
    }

    /// Takes the segments of a checkpoint into use. `dead_before`: the dead bytes
    /// when its state was captured.
    pub fn checkpointed(&mut self, checkpoint: &Checkpoint, dead_before: u64) {
        self.archive = checkpoint.archive.clone();
        self.store
            .archived(checkpoint.revision, checkpoint.archive.clone());
        if checkpoint.defragmented {
            self.dead_bytes = self.dead_bytes.saturating_sub(dead_before);
        }
        self.dead_bytes = self.dead_bytes.min(self.archive.bytes());
    }
}

/// Version of the schema that our images have.
const STORAGE_VERSION: &str = "3.7.0";
