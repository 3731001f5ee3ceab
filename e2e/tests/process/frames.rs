//! HTTP/2 by hand: what no well-meaning library would send.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const CONTINUATION: u8 = 9;

/// The last frame of a stream's direction.
pub(crate) const END_STREAM: u8 = 1;
/// The last frame of a head.
pub(crate) const END_HEADERS: u8 = 4;
/// An answer, of a ping or of settings.
pub(crate) const ACK: u8 = 1;

/// The code of a GOAWAY for a peer that ought to calm down.
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

/// A frame.
pub(crate) struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub payload: Vec<u8>,
}

/// A frame's bytes.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// The head of a gRPC call of `path`, without compression, with further headers.
pub(crate) fn head(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    // POST and http are entries 3 and 6 of the static table.
    let mut block = vec![0x83, 0x86];
    for (name, value) in [
        (":path", path),
        (":authority", "x"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ]
    .iter()
    .chain(more)
    {
        block.push(0);
        for text in [name, value] {
            integer(&mut block, text.len());
            block.extend(text.as_bytes());
        }
    }
    block
}

/// An integer with a prefix of seven bits.
fn integer(block: &mut Vec<u8>, number: usize) {
    let Some(mut rest) = number.checked_sub(127) else {
        block.push(u8::try_from(number).unwrap());
        return;
    };
    block.push(127);
    while rest >= 128 {
        block.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    block.push(u8::try_from(rest).unwrap());
}

/// A connection that speaks HTTP/2 as it is told.
pub(crate) struct Raw(pub TcpStream);

impl Raw {
    /// Connects to `http://host:port`, and has sent preface and settings.
    pub(crate) async fn connect(url: &str) -> Raw {
        let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap())
            .await
            .unwrap();
        let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        hello.extend(frame(SETTINGS, 0, 0, &[]));
        stream.write_all(&hello).await.unwrap();
        Raw(stream)
    }

    /// Sends bytes; false once the server has closed the connection.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).await.is_ok()
    }

    /// The next frame; none once the connection is closed.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.ok()?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        self.0.read_exact(&mut payload).await.ok()?;
        Some(Frame {
            kind: head[3],
            flags: head[4],
            payload,
        })
    }

    /// The next frame of a kind that is no answer; none if the connection ends before.
    pub(crate) async fn next_of(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            let answer = matches!(kind, SETTINGS | PING) && frame.flags & ACK != 0;
            if frame.kind == kind && !answer {
                return Some(frame);
            }
        }
    }
}

/// The code of a GOAWAY.
pub(crate) fn code(goaway: &Frame) -> u32 {
    u32::from_be_bytes(goaway.payload[4..8].try_into().unwrap())
}
