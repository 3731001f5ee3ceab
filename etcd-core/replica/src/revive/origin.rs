//! The state of an applier as rows.

use std::ops::ControlFlow;

use bytes::Bytes;

use crate::capture::Capture;
use crate::restore::{Origin, RestoreError, VisitRow};
use crate::schema::{BUCKETS, Row};
use crate::snapshot_file::Summary;

/// A captured state, and its rows but for the keys.
pub(super) struct CaptureOrigin {
    capture: Capture,
    rows: Vec<Row>,
}

impl CaptureOrigin {
    pub(super) fn new(capture: Capture) -> CaptureOrigin {
        CaptureOrigin {
            rows: capture.rows.encode(),
            capture,
        }
    }
}

impl Origin for CaptureOrigin {
    fn summary(&self) -> Result<Summary, RestoreError> {
        let kv = &self.capture.view.kv;
        Ok(Summary {
            revision: kv.revision(),
            compact_revision: kv.compact_revision().max(0),
            auth_enabled: self.capture.rows.auth_enabled(),
            cluster_version: self.capture.rows.cluster_version.clone(),
            storage_version: self.capture.rows.storage_version.clone(),
        })
    }

    fn bucket_names(&self) -> Result<Vec<Bytes>, RestoreError> {
        Ok(BUCKETS.map(|b| Bytes::from_static(b.as_bytes())).into())
    }

    fn visit(&self, bucket: &[u8], visit: VisitRow<'_>) -> Result<(), RestoreError> {
        if bucket == b"key" {
            let mut visited = Ok(());
            self.capture.visit_records(&mut |key, value| {
                visited = visit(key.as_bytes(), &value);
                match visited {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                }
            })?;
            return visited;
        }
        for row in &self.rows {
            if row.bucket.as_bytes() == bucket {
                visit(&row.key, &row.value)?;
            }
        }
        Ok(())
    }

    fn has(&self, bucket: &[u8], key: &[u8]) -> Result<bool, RestoreError> {
        let mut rows = self.rows.iter();
        Ok(rows.any(|row| row.bucket.as_bytes() == bucket && row.key == key))
    }
}
