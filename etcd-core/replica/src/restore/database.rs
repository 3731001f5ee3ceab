//! The store of the new member, `snap/db`: the rows of its origin, what changed after
//! them, and the new members.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bytes::Bytes;
use etcd_mvcc::{RawKey, Revision};
use etcd_storage::bolt::FileWriter;
use etcd_storage::disk::Disk;

use super::change::{Change, ChangesError, Replay};
use super::leases::LeaseRows;
use super::origin::{Origin, merge};
use super::{RestoreError, Restored};
use crate::membership::Membership;
use crate::schema::{BUCKETS, Rows, revision_bytes};
use crate::snapshot_file::Summary;

/// What the store gets besides its origin's rows.
pub(crate) struct Database<'a> {
    /// The members of the new cluster.
    pub(crate) membership: &'a Membership,
    /// Index of the last entry of the new log.
    pub(crate) index: u64,
    /// Main revision up to which changes are taken in; `None`: all.
    pub(crate) until: Option<i64>,
    /// How much the revision is raised.
    pub(crate) bump: u64,
}

/// What was written.
pub(crate) struct Written {
    /// All but the cluster's ID.
    pub(crate) restored: Restored,
    /// The cluster's version, if the origin says one.
    pub(crate) cluster_version: Option<String>,
}

/// Rows that take the place of others, or come besides.
type Others = BTreeMap<Vec<u8>, Bytes>;

impl Database<'_> {
    /// Writes and syncs the file. Its directory is the caller's to sync.
    pub(crate) fn write(
        &self,
        disk: &dyn Disk,
        path: &Path,
        origin: &dyn Origin,
        changes: &mut dyn Iterator<Item = Result<Change, ChangesError>>,
    ) -> Result<Written, RestoreError> {
        let before = origin.summary()?;
        let mut restored = Restored {
            cluster_id: 0,
            snapshot_revision: before.revision,
            content_revision: before.revision,
            revision: before.revision,
            compact_revision: before.compact_revision,
            unknown_leases: 0,
            auth_enabled: before.auth_enabled,
        };
        let mut leases = None;
        let mut out = FileWriter::create(disk, path)?;
        let mut names: BTreeSet<Bytes> = BUCKETS.map(|b| Bytes::from_static(b.as_bytes())).into();
        names.extend(origin.bucket_names()?);
        // "key" comes before "lease" and "meta", which depend on the changes.
        for name in names {
            out.bucket(&name)?;
            let others = match name.as_ref() {
                b"key" => {
                    leases = Some(self.keys(&mut out, origin, changes, &mut restored)?);
                    continue;
                }
                b"members" => {
                    for (key, row) in self.own_rows("members") {
                        out.row(&key, &row)?;
                    }
                    continue;
                }
                b"members_removed" => continue,
                b"lease" => match leases.take() {
                    Some(rows) if !rows.keep => {
                        restored.unknown_leases = rows.unknown.len() as u64;
                        for (key, row) in rows
                            .rows
                            .into_iter()
                            .chain(rows.unknown)
                            .collect::<Others>()
                        {
                            out.row(&key, &row)?;
                        }
                        continue;
                    }
                    Some(rows) => missing_leases(origin, rows, &mut restored)?,
                    None => Others::new(),
                },
                b"meta" => self.meta(&before, &restored),
                _ => Others::new(),
            };
            merge(origin, &name, others, &mut |key, row| out.row(key, row))?;
        }
        out.finish()?;
        Ok(Written {
            restored,
            cluster_version: before.cluster_version,
        })
    }

    /// Writes the bucket `key`.
    fn keys(
        &self,
        out: &mut FileWriter,
        origin: &dyn Origin,
        changes: &mut dyn Iterator<Item = Result<Change, ChangesError>>,
        restored: &mut Restored,
    ) -> Result<LeaseRows, RestoreError> {
        let first = restored.snapshot_revision;
        let mut replay = Replay::new(first, restored.compact_revision, self.until);
        origin.visit(b"key", &mut |key, value| Ok(out.row(key, value)?))?;
        for change in changes {
            let change = change.map_err(RestoreError::Changes)?;
            replay.take(
                change,
                &mut |key, value| Ok(out.row(key.as_bytes(), value)?),
            )?;
        }
        let (revision, compacted, leases) = replay.finish()?;
        restored.content_revision = revision;
        restored.revision = revision;
        restored.compact_revision = compacted;
        if self.bump > 0 {
            let raised = i64::try_from(self.bump).ok();
            let raised = raised.and_then(|bump| revision.checked_add(bump));
            let bump = self.bump;
            let raised = raised.ok_or(RestoreError::Bump { revision, bump })?;
            // The record without key and value that stock etcdutl writes.
            let key = RawKey::new(Revision::new(raised, 0), false);
            out.row(key.as_bytes(), &[])?;
            restored.revision = raised;
            restored.compact_revision = raised;
        }
        Ok(leases)
    }

    fn meta(&self, before: &Summary, restored: &Restored) -> Others {
        let mut rows = self.own_rows("meta");
        if restored.compact_revision > before.compact_revision {
            // What it names is compacted when a server starts.
            let at = revision_bytes(restored.compact_revision);
            rows.insert(b"scheduledCompactRev".to_vec(), at.into());
        }
        rows
    }

    /// The rows that say who the members are, and where the new log is.
    fn own_rows(&self, bucket: &str) -> Others {
        let rows = Rows {
            membership: self.membership.clone(),
            conf_state: self.membership.conf_state(),
            consistent_index: self.index,
            term: 1,
            ..Rows::default()
        };
        let rows = rows.encode().into_iter();
        rows.filter(|row| row.bucket == bucket)
            .map(|row| (row.key.to_vec(), row.value))
            .collect()
    }
}

/// Leases that the changes name and the origin does not have.
fn missing_leases(
    origin: &dyn Origin,
    rows: LeaseRows,
    restored: &mut Restored,
) -> Result<Others, RestoreError> {
    let mut missing = Others::new();
    for (key, row) in rows.rows {
        if !origin.has(b"lease", &key)? {
            missing.insert(key, row);
        }
    }
    for (key, row) in rows.unknown {
        if !origin.has(b"lease", &key)? {
            restored.unknown_leases += 1;
            missing.insert(key, row);
        }
    }
    Ok(missing)
}
