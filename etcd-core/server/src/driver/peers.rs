//! What the driver asks of the network between members.

use std::time::Instant;

use etcd_proto::raftpb::Message;
use etcd_replica::Membership;

/// Sends to peers. Nothing here blocks; what cannot be sent is dropped and reported
/// as unreachable.
pub trait Peers: Send + Sync {
    /// Sends messages, none of them a MsgSnap.
    fn send(&self, messages: Vec<Message>);
    /// Streams an image behind its MsgSnap; the end is reported as `SnapshotSent`.
    fn send_snapshot(&self, message: Message, image: Box<dyn SnapshotSource>);
    /// Connects to the members of this membership and to no others.
    fn set_members(&self, membership: &Membership);
    /// Since when this member is connected; `None` if it is not.
    fn active_since(&self, id: u64) -> Option<Instant>;
}

/// A bbolt image that can be written once its size is known.
pub trait SnapshotSource: Send {
    /// Bytes of the image.
    fn size(&self) -> u64;
    /// Writes the image. Blocking.
    fn write_to(&mut self, out: &mut dyn std::io::Write) -> std::io::Result<()>;
}

/// A member without peers.
pub struct NoPeers;

impl Peers for NoPeers {
    fn send(&self, _messages: Vec<Message>) {}
    fn send_snapshot(&self, _message: Message, _image: Box<dyn SnapshotSource>) {}
    fn set_members(&self, _membership: &Membership) {}
    fn active_since(&self, _id: u64) -> Option<Instant> {
        None
    }
}
