//! One other member, as messages are sent to it.

use std::sync::Arc;

use etcd_proto::raftpb::{Message, MessageType};

use super::codec::StreamKind;
use super::event::PeerEvent;
use super::inbound::Shared;
use super::pipeline::Pipeline;
use super::queue::{Push, Queue};
use super::status::Status;
use super::urls::Urls;

/// Appends that wait for a stream, in bytes.
const MSGAPP_QUEUE_BYTES: usize = 64 << 20;

/// Other messages that wait for a stream, in bytes; forwarded proposals are among them.
const MESSAGE_QUEUE_BYTES: usize = 32 << 20;

pub(super) struct Link {
    pub(super) id: u64,
    pub(super) shared: Arc<Shared>,
    pub(super) urls: Urls,
    pub(super) status: Status,
    msgapp: Queue,
    message: Queue,
    pub(super) pipeline: Pipeline,
}

impl Link {
    pub(super) fn new(shared: Arc<Shared>, id: u64, urls: &[String]) -> Link {
        Link {
            id,
            urls: Urls::new(urls),
            status: Status::new(shared.config.local_id, id),
            shared,
            msgapp: Queue::new(MSGAPP_QUEUE_BYTES),
            message: Queue::new(MESSAGE_QUEUE_BYTES),
            pipeline: Pipeline::default(),
        }
    }

    pub(super) fn queue(&self, kind: StreamKind) -> &Queue {
        match kind {
            StreamKind::MsgApp => &self.msgapp,
            StreamKind::Message => &self.message,
        }
    }

    /// Sends a message by its stream, or without one by the pipeline.
    pub(super) fn send(&self, message: Message) {
        let kinds: &[StreamKind] = match message.r#type == MessageType::MsgApp as i32 {
            true => &[StreamKind::MsgApp, StreamKind::Message],
            false => &[StreamKind::Message],
        };
        let mut message = message;
        for kind in kinds {
            match self.queue(*kind).push(message) {
                Push::Queued => return,
                Push::Full => return self.unreachable(),
                Push::NotConnected {
                    message: back,
                    lost,
                } => {
                    if lost {
                        self.status
                            .deactivate(kind.name(), "write", "connection is stuck");
                        self.unreachable();
                    }
                    message = back;
                }
            }
        }
        if !self.pipeline.push(message) {
            self.unreachable();
        }
    }

    /// Reports that something sent is lost.
    pub(super) fn unreachable(&self) {
        self.status.lost();
        self.shared.notify(PeerEvent::Unreachable(self.id));
    }

    /// A connection has come for a stream; its number.
    pub(super) fn attach(&self, kind: StreamKind) -> u64 {
        let (connection, lost) = self.queue(kind).attach();
        if lost {
            self.unreachable();
        }
        self.status.activate();
        tracing::info!(
            stream_writer_type = kind.name(),
            remote_peer_id = %format_args!("{:x}", self.id),
            "established TCP streaming connection with remote peer"
        );
        connection
    }

    /// A connection has ended.
    pub(super) fn detach(&self, kind: StreamKind, connection: u64) {
        let Some(lost) = self.queue(kind).detach(connection) else {
            return;
        };
        if lost {
            self.unreachable();
        }
        self.status
            .deactivate(kind.name(), "write", "connection closed");
        tracing::warn!(
            stream_writer_type = kind.name(),
            remote_peer_id = %format_args!("{:x}", self.id),
            "lost TCP streaming connection with remote peer"
        );
    }

    /// Ends all streams to the member.
    pub(super) fn close(&self) {
        self.msgapp.close();
        self.message.close();
        self.pipeline.close();
    }
}
