//! A consistent state with everything that a checkpoint or an image needs.

use std::sync::Arc;

use etcd_mvcc::Record;
use etcd_proto::raftpb::ConfState;

use crate::archive::SegmentArchive;
use crate::schema::Rows;
use crate::view::View;

/// The state at one applied index. Cheap to make: records and segments are shared.
#[derive(Clone)]
pub struct Capture {
    /// Keys, members, alarms.
    pub view: View,
    /// Everything durable but the keys.
    pub rows: Rows,
    /// Records that no segment holds yet, in revision order.
    pub records: Vec<Record>,
    /// The segments.
    pub archive: Arc<SegmentArchive>,
    /// A checkpoint of it also rewrites segments that hold dead records.
    pub defragment: bool,
}

impl Capture {
    /// Raft membership at the captured index.
    pub fn conf_state(&self) -> ConfState {
        self.rows.conf_state.clone()
    }
}
