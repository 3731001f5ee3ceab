//! The two framings of streams.
//!
//! Message: `u64 BE length, Message`. Msgappv2 leads every item by one byte:
//!
//! ```text
//! 0                                                             link heartbeat
//! 1  u64 BE count, count × (u64 BE length, Entry), u64 BE commit   MsgApp that follows
//! 2  u64 BE length, Message                                     any MsgApp
//! ```
//!
//! Type 1 names neither term nor index: both sides of a connection remember the term
//! and last index of what was sent before.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use etcd_proto::raftpb::{Entry, Message, MessageType};
use prost::Message as _;

use super::MESSAGE_LIMIT;
use super::error::FrameError;

const ITEM_HEARTBEAT: u8 = 0;
const ITEM_ENTRIES: u8 = 1;
const ITEM_MESSAGE: u8 = 2;

/// Room reserved for entries before any of them has arrived.
const ENTRIES_RESERVED: u64 = 1024;

/// What a stream carries, and how it is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StreamKind {
    /// MsgApp, framed as msgappv2.
    MsgApp,
    /// Any message, framed as such.
    Message,
}

impl StreamKind {
    /// The name in the stream's path.
    pub(super) fn name(self) -> &'static str {
        match self {
            StreamKind::MsgApp => "msgapp",
            StreamKind::Message => "message",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<StreamKind> {
        [StreamKind::MsgApp, StreamKind::Message]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

/// Term and index that an item of type 1 takes for granted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Position {
    term: u64,
    index: u64,
}

impl Position {
    fn after(message: &Message) -> Position {
        let last = message
            .entries
            .last()
            .map_or(message.index, |entry| entry.index);
        Position {
            term: message.term,
            index: last,
        }
    }

    /// Whether nothing of the message is lost in an item of type 1.
    fn precedes(self, message: &Message) -> bool {
        message.r#type == MessageType::MsgApp as i32
            && message.index == self.index
            && message.log_term == self.term
            && message.term == self.term
            && Position::after(message).index == self.index + message.entries.len() as u64
    }
}

/// Writes the frames of one connection.
#[derive(Debug)]
pub(super) struct Encoder {
    kind: StreamKind,
    position: Position,
}

impl Encoder {
    pub(super) fn new(kind: StreamKind) -> Encoder {
        Encoder {
            kind,
            position: Position::default(),
        }
    }

    /// Appends a message.
    pub(super) fn message(&mut self, message: &Message, out: &mut BytesMut) {
        if self.kind == StreamKind::Message {
            return put_sized(message, out);
        }
        if self.position.precedes(message) {
            out.put_u8(ITEM_ENTRIES);
            out.put_u64(message.entries.len() as u64);
            for entry in &message.entries {
                put_sized(entry, out);
            }
            out.put_u64(message.commit);
            self.position.index += message.entries.len() as u64;
        } else {
            out.put_u8(ITEM_MESSAGE);
            put_sized(message, out);
            self.position = Position::after(message);
        }
    }

    /// Appends a sign of life.
    pub(super) fn heartbeat(&self, out: &mut BytesMut) {
        match self.kind {
            StreamKind::MsgApp => out.put_u8(ITEM_HEARTBEAT),
            StreamKind::Message => {
                let heartbeat = Message {
                    r#type: MessageType::MsgHeartbeat as i32,
                    ..Message::default()
                };
                put_sized(&heartbeat, out);
            }
        }
    }
}

/// Appends a message behind its length.
pub(super) fn put_sized<M: prost::Message>(message: &M, out: &mut BytesMut) {
    let len = message.encoded_len();
    out.reserve(8 + len);
    out.put_u64(len as u64);
    message.encode_raw(out);
}

/// What a stream brings.
#[derive(Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every item is a message, and none is kept"
)]
pub(super) enum Item {
    /// A sign of life, not to be stepped.
    Heartbeat,
    Message(Message),
}

/// Reads the frames of one connection, in whatever pieces they come. The data of
/// entries is not copied once more; it pins the buffer it was received in.
#[derive(Debug)]
pub(super) struct Decoder {
    kind: StreamKind,
    local: u64,
    remote: u64,
    position: Position,
    /// An item of type 1 of which entries are missing, and how many.
    partial: Option<(Message, u64)>,
    buffer: BytesMut,
}

impl Decoder {
    /// For a stream from `remote`. Items of type 1 do not name sender and receiver.
    pub(super) fn new(kind: StreamKind, local: u64, remote: u64) -> Decoder {
        Decoder {
            kind,
            local,
            remote,
            position: Position::default(),
            partial: None,
            buffer: BytesMut::new(),
        }
    }

    /// Adds received bytes.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next item, `None` if it has not arrived whole.
    pub(super) fn next(&mut self) -> Result<Option<Item>, FrameError> {
        let item = match self.kind {
            StreamKind::Message => take_sized(&mut self.buffer, 0)?
                .map(Message::decode)
                .transpose()?,
            StreamKind::MsgApp => match self.partial.take() {
                Some((message, missing)) => self.entries(message, missing)?,
                None => match self.buffer.first() {
                    None => None,
                    Some(&ITEM_HEARTBEAT) => {
                        self.buffer.advance(1);
                        return Ok(Some(Item::Heartbeat));
                    }
                    Some(&ITEM_ENTRIES) => self.begin_entries()?,
                    Some(&ITEM_MESSAGE) => {
                        let message = take_sized(&mut self.buffer, 1)?
                            .map(Message::decode)
                            .transpose()?;
                        self.position = message.as_ref().map_or(self.position, Position::after);
                        message
                    }
                    Some(&other) => return Err(FrameError::UnknownType(other)),
                },
            },
        };
        Ok(item.map(|message| match is_link_heartbeat(&message) {
            true => Item::Heartbeat,
            false => Item::Message(message),
        }))
    }

    fn begin_entries(&mut self) -> Result<Option<Message>, FrameError> {
        let Some(count) = self.buffer.get(1..9).map(|mut count| count.get_u64()) else {
            return Ok(None);
        };
        if count > MESSAGE_LIMIT {
            return Err(FrameError::TooLong(count));
        }
        self.buffer.advance(9);
        let message = Message {
            r#type: MessageType::MsgApp as i32,
            from: self.remote,
            to: self.local,
            term: self.position.term,
            log_term: self.position.term,
            index: self.position.index,
            entries: Vec::with_capacity(count.min(ENTRIES_RESERVED) as usize),
            ..Message::default()
        };
        self.entries(message, count)
    }

    fn entries(
        &mut self,
        mut message: Message,
        mut missing: u64,
    ) -> Result<Option<Message>, FrameError> {
        while missing > 0 {
            let Some(entry) = take_sized(&mut self.buffer, 0)? else {
                self.partial = Some((message, missing));
                return Ok(None);
            };
            message.entries.push(Entry::decode(entry)?);
            missing -= 1;
        }
        if self.buffer.len() < 8 {
            self.partial = Some((message, missing));
            return Ok(None);
        }
        message.commit = self.buffer.get_u64();
        // The count was checked, and an index near the end of u64 is not reached honestly.
        self.position.index = self
            .position
            .index
            .wrapping_add(message.entries.len() as u64);
        Ok(Some(message))
    }
}

/// Takes what follows `skip` bytes and a length, once all of it is there.
fn take_sized(buffer: &mut BytesMut, skip: usize) -> Result<Option<Bytes>, FrameError> {
    let Some(len) = buffer.get(skip..skip + 8).map(|mut len| len.get_u64()) else {
        return Ok(None);
    };
    if len > MESSAGE_LIMIT {
        return Err(FrameError::TooLong(len));
    }
    if ((buffer.len() - skip - 8) as u64) < len {
        return Ok(None);
    }
    buffer.advance(skip + 8);
    Ok(Some(buffer.split_to(len as usize).freeze()))
}

/// Raft sends no message without sender and receiver.
fn is_link_heartbeat(message: &Message) -> bool {
    message.r#type == MessageType::MsgHeartbeat as i32 && message.from == 0 && message.to == 0
}
