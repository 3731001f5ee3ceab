//! What the transport tells its owner.

use std::path::PathBuf;

use etcd_proto::raftpb::Message;

/// Something that came from the network, or became of something sent.
#[derive(Debug)]
pub enum PeerEvent {
    /// A message for the local member; never a MsgSnap.
    Message(Message),
    /// Messages to this member were lost, or could not be sent.
    Unreachable(u64),
    /// The process of this member has ended, as far as can be told: a connection to it
    /// broke, and its host says that nobody listens at its URL any more.
    Gone(u64),
    /// A MsgProp that has certainly not left: its leader may be another one by now.
    Unsent(Message),
    /// A snapshot was taken by its receiver (`ok`), or was not.
    SnapshotSent {
        /// The receiver's ID.
        to: u64,
        /// Whether it has the snapshot and has stepped its message.
        ok: bool,
    },
    /// A MsgSnap whose image has arrived whole.
    SnapshotReceived {
        /// The MsgSnap.
        message: Message,
        /// A file in `snapshot_dir`, complete and synced, though its directory is not.
        /// It belongs to the receiver of the event.
        image: PathBuf,
    },
    /// A peer says that the local member was removed from the cluster.
    RemovedByPeers,
}

/// Takes events; called from tasks of the runtime, so it must not block.
pub trait PeerEvents: Send + Sync + 'static {
    /// Takes the event, or hands it back if there is no room now. A message or a
    /// snapshot handed back is offered again shortly, while its connection waits;
    /// other events are dropped.
    fn deliver(&self, event: PeerEvent) -> Result<(), Box<PeerEvent>>;
}

impl PeerEvents for tokio::sync::mpsc::Sender<PeerEvent> {
    fn deliver(&self, event: PeerEvent) -> Result<(), Box<PeerEvent>> {
        use tokio::sync::mpsc::error::TrySendError;
        self.try_send(event).map_err(|error| match error {
            TrySendError::Full(event) | TrySendError::Closed(event) => Box::new(event),
        })
    }
}
