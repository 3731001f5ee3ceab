//! Values out of a body of JSON, and messages out of a body of gRPC.

use axum::body::{Body, BodyDataStream};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use futures::StreamExt as _;
use http_body_util::BodyExt as _;
use prost::Message as _;
use prost_reflect::{DeserializeOptions, DynamicMessage, MessageDescriptor, SerializeOptions};
use tonic::{Code, Status};

use super::scan::Scan;
use crate::grpc::blocking;

/// Of a gRPC message: whether it is compressed, and its length.
const PREFIX: usize = 5;
/// Answers beyond this are translated on a blocking thread.
const INLINE_BYTES_MAX: usize = 256 << 10;

/// JSON values, one after another, as messages.
pub(super) struct JsonMessages {
    body: BodyDataStream,
    kind: MessageDescriptor,
    max_bytes: usize,
    buffer: BytesMut,
    scan: Scan,
    over: bool,
}

impl JsonMessages {
    pub(super) fn new(body: Body, kind: MessageDescriptor, max_bytes: usize) -> Self {
        JsonMessages {
            body: body.into_data_stream(),
            kind,
            max_bytes,
            buffer: BytesMut::new(),
            scan: Scan::default(),
            over: false,
        }
    }

    /// The next value, framed for gRPC; `None` at the end.
    ///
    /// # Errors
    /// It is no JSON, does not fit the message, or is too long.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(message) = self.parse()? {
                return Ok(Some(framed(&message)));
            }
            if self.over {
                return Ok(None);
            }
            match self.body.next().await {
                Some(Ok(data)) => self.buffer.extend_from_slice(&data),
                Some(Err(error)) => return Err(Status::invalid_argument(error.to_string())),
                None => self.over = true,
            }
            if self.buffer.len() > self.max_bytes {
                return Err(Status::invalid_argument(format!(
                    "a value in JSON may take {} bytes",
                    self.max_bytes
                )));
            }
        }
    }

    /// A value that is there whole.
    fn parse(&mut self) -> Result<Option<DynamicMessage>, Status> {
        let start = self.buffer.iter().take_while(|b| b.is_ascii_whitespace());
        self.buffer.advance(start.count());
        if self.buffer.is_empty() {
            return Ok(None);
        }
        if self.buffer[0] != b'{' {
            let found = self.buffer[0].escape_ascii();
            return Err(Status::invalid_argument(format!(
                "a message in JSON begins with {{, not with {found}"
            )));
        }
        let Some(read) = self.scan.end(&self.buffer) else {
            return match self.over {
                true => Err(Status::invalid_argument("unexpected EOF")),
                false => Ok(None),
            };
        };
        self.scan = Scan::default();
        let options = DeserializeOptions::new().deny_unknown_fields(false);
        let mut value = serde_json::Deserializer::from_slice(&self.buffer[..read]);
        let message =
            DynamicMessage::deserialize_with_options(self.kind.clone(), &mut value, &options)
                .map_err(|error| Status::invalid_argument(error.to_string()))?;
        self.buffer.advance(read);
        Ok(Some(message))
    }

    /// A message without fields, for a body without a value.
    pub(super) fn empty(&self) -> Bytes {
        framed(&DynamicMessage::new(self.kind.clone()))
    }
}

fn framed(message: &DynamicMessage) -> Bytes {
    let len = message.encoded_len();
    let mut frame = BytesMut::with_capacity(PREFIX + len);
    frame.put_u8(0);
    // No longer than the JSON, which is bounded far below.
    frame.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
    message.encode_raw(&mut frame);
    frame.freeze()
}

/// Messages of a gRPC answer, as JSON.
pub(super) struct GrpcMessages {
    body: tonic::body::Body,
    kind: MessageDescriptor,
    buffer: BytesMut,
}

impl GrpcMessages {
    pub(super) fn new(body: tonic::body::Body, kind: MessageDescriptor) -> Self {
        GrpcMessages {
            body,
            kind,
            buffer: BytesMut::new(),
        }
    }

    /// The next message; `None` at the end of an answer that went well.
    ///
    /// # Errors
    /// What the call failed with.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, Status> {
        loop {
            if let Some(encoded) = self.take() {
                let kind = self.kind.clone();
                // As a long range is, it is translated off the threads that serve connections.
                let json = match encoded.len() > INLINE_BYTES_MAX {
                    true => blocking(move || json(kind, encoded)).await?,
                    false => json(kind, encoded),
                };
                return json.map(Some);
            }
            let Some(frame) = self.body.frame().await else {
                return Ok(None);
            };
            match frame?.into_data() {
                Ok(data) => self.buffer.extend_from_slice(&data),
                Err(frame) => {
                    let trailers = frame.trailers_ref();
                    return match trailers.and_then(Status::from_header_map) {
                        Some(status) if status.code() != Code::Ok => Err(status),
                        _ => Ok(None),
                    };
                }
            }
        }
    }

    /// A message that is there whole.
    fn take(&mut self) -> Option<Bytes> {
        let mut prefix = self.buffer.get(..PREFIX)?;
        prefix.advance(1); // nothing is compressed for who did not ask for it
        let len = usize::try_from(prefix.get_u32()).unwrap_or(usize::MAX);
        if self.buffer.len() - PREFIX < len {
            return None;
        }
        self.buffer.advance(PREFIX);
        Some(self.buffer.split_to(len).freeze())
    }
}

fn json(kind: MessageDescriptor, encoded: Bytes) -> Result<Vec<u8>, Status> {
    let message = DynamicMessage::decode(kind, encoded)
        .map_err(|error| Status::internal(error.to_string()))?;
    let options = SerializeOptions::new().use_proto_field_name(true);
    let mut json = Vec::new();
    message
        .serialize_with_options(&mut serde_json::Serializer::new(&mut json), &options)
        .map_err(|error| Status::internal(error.to_string()))?;
    Ok(json)
}
