//! What clients ask for and are told.

use etcd_mvcc::watch::WatchCreate;
use etcd_proto::etcdserverpb::InternalRaftRequest;
use etcd_proto::mvccpb::KeyValue;
use etcd_proto::raftpb::ConfChangeType;
use etcd_replica::{ApplyError, ConfChangeContext, Response};

/// Who asks: a client, and the number of its request. Numbers are not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Caller {
    pub(crate) client: usize,
    pub(crate) number: u64,
}

/// A request under way to a member.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) caller: Caller,
    pub(crate) member: u64,
    pub(crate) request: Request,
}

#[derive(Clone, Debug)]
pub(crate) enum Request {
    /// Something for the log.
    Write(Box<InternalRaftRequest>),
    /// Reads a key.
    Get {
        key: Vec<u8>,
        serializable: bool,
    },
    KeepAlive(i64),
    ConfChange {
        kind: ConfChangeType,
        context: Box<ConfChangeContext>,
    },
    /// Hands leadership over; nothing is answered.
    MoveLeader(u64),
    /// Opens a stream with one watch.
    Watch(Box<WatchCreate>),
    /// The client of a watch has gone.
    CloseWatch(Caller),
    /// Wants to know the progress of its watch.
    Progress(Caller),
}

/// Why something failed: for the trace.
#[derive(Clone, Copy)]
pub(crate) struct Why(pub(crate) &'static str);

impl std::fmt::Debug for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

#[derive(Debug)]
#[allow(dead_code)] // why something failed is for the trace, by way of Debug
pub(crate) enum Reply {
    /// Of a write: it was applied.
    Applied {
        revision: i64,
        result: Result<Response, ApplyError>,
    },
    Read {
        revision: i64,
        kv: Option<KeyValue>,
    },
    /// Renewed for so many seconds.
    KeptAlive(i64),
    LeaseNotFound,
    /// It was not and will not be done.
    Refused(Why),
    /// It may have been done.
    Unknown(Why),
}
