//! The services, adapted to the network. Each checks the call, asks the node, and
//! encodes the reply; what a reply says is decided below.

mod cluster;
mod codec;
mod contest;
mod election;
mod forward;
mod guard;
mod kv;
mod lease;
mod limits;
mod lock;
mod maintenance;
mod pieces;
mod range_stream;
mod status;
mod turns;
mod watch;

pub use cluster::{ClusterService, member_pb};
pub use codec::{Encoded, EncodedCodec};
pub use election::ElectionService;
pub use forward::{Forwarded, LeaderForward, NoForward, TimeToLive};
pub use guard::Guard;
pub use kv::KvService;
pub(crate) use kv::blocking;
pub use kv::generated::k_v_server::KVServer as KvServer;
pub use lease::LeaseService;
pub use limits::{CallLimits, CallLimitsLayer};
pub use lock::LockService;
pub use maintenance::MaintenanceService;
pub use pieces::PiecesService;
pub use status::{read_status, status};
pub use watch::WatchService;
pub use watch::generated::watch_server::WatchServer;
