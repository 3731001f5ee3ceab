//! Durations that the driver measures, for the metrics.

use std::time::Duration;

/// Receives durations; the server's metrics implement it.
pub trait Observer: Send + Sync {
    /// A batch was written to the log, without the sync.
    fn wal_write(&self, took: Duration);
    /// The log was synced.
    fn wal_fsync(&self, took: Duration);
    /// A batch of entries was applied.
    fn applied(&self, took: Duration);
    /// A checkpoint was written.
    fn checkpoint(&self, took: Duration);
    /// The keys were hashed up to a revision.
    fn hash_rev(&self, took: Duration);
}

/// The observer, if there is one.
#[derive(Default)]
pub(crate) struct Timings(pub(crate) Option<std::sync::Arc<dyn Observer>>);

impl Timings {
    pub(crate) fn wal_write(&self, took: Duration) {
        if let Some(observer) = &self.0 {
            observer.wal_write(took);
        }
    }

    pub(crate) fn wal_fsync(&self, took: Duration) {
        if let Some(observer) = &self.0 {
            observer.wal_fsync(took);
        }
    }

    pub(crate) fn applied(&self, took: Duration) {
        if let Some(observer) = &self.0 {
            observer.applied(took);
        }
    }

    pub(crate) fn checkpoint(&self, took: Duration) {
        if let Some(observer) = &self.0 {
            observer.checkpoint(took);
        }
    }

    pub(crate) fn hash_rev(&self, took: Duration) {
        if let Some(observer) = &self.0 {
            observer.hash_rev(took);
        }
    }
}
