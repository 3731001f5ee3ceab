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
                Push::Full(message) => return self.unsent([message]),
                Push::NotConnected {
                    message: back,
                    unsent,
                } => {
                    if !unsent.is_empty() {
                        self.status
                            .deactivate(kind.name(), "write", "connection is stuck");
                        self.unsent(unsent);
                    }
                    message = back;
                }
            }
        }
        if let Err(message) = self.pipeline.push(message) {
            self.unsent([message]);
        }
    }

    /// Reports that something sent is lost.
    pub(super) fn unreachable(&self) {
        self.status.lost();
        self.shared.notify(PeerEvent::Unreachable(self.id));
    }

    /// Reports messages that have certainly not left. Raft sends its own again;
    /// proposals nobody would, so they go back to where they came from.
    pub(super) fn unsent(&self, messages: impl IntoIterator<Item = Message>) {
        self.unreachable();
        for message in messages {
            if message.r#type == MessageType::MsgProp as i32 {
                self.shared.notify(PeerEvent::Unsent(message));
            }
        }
    }

    /// A connection has come for a stream; its number.
    pub(super) fn attach(&self, kind: StreamKind) -> u64 {
        let (connection, unsent) = self.queue(kind).attach();
        if !unsent.is_empty() {
            self.unsent(unsent);
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
        let Some(unsent) = self.queue(kind).detach(connection) else {
            return;
        };
        if !unsent.is_empty() {
            self.unsent(unsent);
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
        let mut unsent = self.msgapp.close();
        unsent.extend(self.message.close());
        unsent.extend(self.pipeline.close());
        if !unsent.is_empty() {
            self.unsent(unsent);
        }
    }
}
