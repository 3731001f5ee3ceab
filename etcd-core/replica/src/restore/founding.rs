//! The log of a new cluster, whose store is there already.

use std::path::Path;
use std::sync::Arc;

use etcd_proto::etcdserverpb::Metadata;
use etcd_proto::raftpb::{self, HardState, SnapshotMetadata};
use etcd_proto::{snappb, walpb};
use etcd_storage::dir::create_durable;
use etcd_storage::disk::Disk;
use etcd_storage::wal::Wal;
use prost::Message as _;

use super::RestoreError;
use crate::identity::cluster_id;
use crate::member::Member;
use crate::membership::Membership;
use crate::open::founding_entries;
use crate::v2store::v2_tree;

/// The term in which members join a new cluster.
const TERM: u64 = 1;

/// A cluster of `members` at the moment it is founded.
pub(crate) struct Founding<'a> {
    /// The member whose log it is.
    pub(crate) member_id: u64,
    /// All members.
    pub(crate) members: &'a [Member],
    /// The same.
    pub(crate) membership: &'a Membership,
    /// The cluster's version, if it is known.
    pub(crate) cluster_version: Option<&'a str>,
}

impl Founding<'_> {
    /// Writes the log into `wal`, and into `snap` the file without which etcd before 3.7
    /// does not start on a log that begins with a snapshot. Syncs both files and the
    /// log's directory; the cluster's ID.
    pub(crate) fn write(
        &self,
        disk: &Arc<dyn Disk>,
        wal: &Path,
        snap: &Path,
    ) -> Result<u64, RestoreError> {
        let ids: Vec<u64> = self.members.iter().map(|m| m.id).collect();
        let entries = founding_entries(self.members);
        let last = entries.len() as u64;
        let conf_state = self.membership.conf_state();
        let metadata = Metadata {
            node_id: self.member_id,
            cluster_id: cluster_id(&ids),
        };
        if let Some(above) = wal.parent() {
            create_durable(&**disk, above)?;
        }
        let mut log = Wal::create(disk.clone(), wal, &metadata)?;
        let state = HardState {
            term: TERM,
            vote: ids.iter().copied().min().unwrap_or_default(),
            commit: last,
        };
        log.append(Some(&state), &entries)?;
        log.sync()?;
        log.save_snapshot(&walpb::Snapshot {
            index: last,
            term: TERM,
            conf_state: Some(conf_state.clone()),
        })?;
        let snapshot = raftpb::Snapshot {
            data: v2_tree(self.membership, self.cluster_version, last).into(),
            metadata: Some(SnapshotMetadata {
                conf_state: Some(conf_state),
                index: last,
                term: TERM,
            }),
        };
        let data = snapshot.encode_to_vec();
        let envelope = snappb::Snapshot {
            crc: crc32c::crc32c(&data),
            data: data.into(),
        };
        let file = disk.create(&snap.join(format!("{TERM:016x}-{last:016x}.snap")))?;
        file.write_at(0, &envelope.encode_to_vec())?;
        file.sync_data()?;
        Ok(metadata.cluster_id)
    }
}
