//! The member's side of the network between members: what the driver sends goes to
//! the transport, what arrives becomes inputs of consensus.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use etcd_proto::raftpb::Message;
use etcd_replica::{Input, Membership, image_path};
use etcd_storage::disk::Disk;

use crate::driver::{self, Node, Observation, Peers};
use crate::peer::{PeerEvent, PeerEvents, PeerTransport, SnapshotSource};

/// The driver's peers, over the transport.
pub struct Network(pub PeerTransport);

impl Peers for Network {
    fn send(&self, messages: Vec<Message>) {
        self.0.send(messages);
    }

    fn send_snapshot(&self, message: Message, image: Box<dyn driver::SnapshotSource>) {
        self.0.send_snapshot(message, Box::new(Image(image)));
    }

    fn set_members(&self, membership: &Membership) {
        self.0.set_members(
            membership.iter().map(|m| (m.id, m.peer_urls.as_slice())),
            membership.removed(),
        );
    }

    fn active_since(&self, id: u64) -> Option<Instant> {
        self.0.peer_status(id)?.active_since
    }
}

struct Image(Box<dyn driver::SnapshotSource>);

impl SnapshotSource for Image {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn write_to(&mut self, out: &mut dyn std::io::Write) -> std::io::Result<()> {
        self.0.write_to(out)
    }
}

/// Takes what the transport has received. The node is set once it runs; nothing
/// is listened to before.
pub struct Receiver {
    /// The member.
    pub node: OnceLock<Node>,
    disk: Arc<dyn Disk>,
    directory: PathBuf,
}

impl Receiver {
    /// Keeps received images in `directory`, the member's.
    pub fn new(disk: Arc<dyn Disk>, directory: &Path) -> Self {
        Receiver {
            node: OnceLock::new(),
            disk,
            directory: directory.to_owned(),
        }
    }

    /// Puts an image where a start looks for it, and only then lets raft know: the
    /// snapshot's record in the log must find it there.
    fn keep(&self, node: &Node, message: Message, image: PathBuf) -> Result<(), Box<PeerEvent>> {
        let index = message
            .snapshot
            .as_ref()
            .and_then(|s| s.metadata.as_ref())
            .map_or(0, |m| m.index);
        let path = image_path(&self.directory, index);
        let rename = || -> etcd_storage::disk::DiskResult<()> {
            // It may be in place already, if it is offered again.
            if self.disk.exists(&image)? {
                self.disk.rename(&image, &path)?;
            }
            self.disk.sync_dir(&self.directory.join("snap"))
        };
        if let Err(error) = rename() {
            tracing::warn!(%error, "failed to save a received snapshot");
            return Err(Box::new(PeerEvent::SnapshotReceived { message, image }));
        }
        let from = message.from;
        node.receive(Input::Message(message))
            .map(|()| node.observe(Observation::SnapshotReceived(from)))
            .map_err(|input| match input {
                Input::Message(message) => Box::new(PeerEvent::SnapshotReceived { message, image }),
                _ => unreachable!("what is refused is given back as it was"),
            })
    }
}

impl PeerEvents for Receiver {
    fn deliver(&self, event: PeerEvent) -> Result<(), Box<PeerEvent>> {
        let Some(node) = self.node.get() else {
            return Err(Box::new(event));
        };
        let input = match event {
            PeerEvent::Message(message) => Input::Message(message),
            PeerEvent::Unreachable(id) => Input::Unreachable(id),
            PeerEvent::Gone(id) => Input::Gone(id),
            PeerEvent::SnapshotSent { to, ok } => {
                node.observe(Observation::SnapshotSent { to, success: ok });
                Input::SnapshotSent { to, ok }
            }
            // Two small operations of the file system; nothing else waits for them but
            // the one who sent the image.
            PeerEvent::SnapshotReceived { message, image } => {
                return self.keep(node, message, image);
            }
            PeerEvent::Unsent(message) => {
                node.unsent(message);
                return Ok(());
            }
            PeerEvent::RemovedByPeers => {
                node.removed_by_peers();
                return Ok(());
            }
        };
        match node.receive(input) {
            Err(Input::Message(message)) => Err(Box::new(PeerEvent::Message(message))),
            // Only a stopped member refuses the others.
            Ok(()) | Err(_) => Ok(()),
        }
    }
}
