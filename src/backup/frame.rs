//! Frames: a length in 4 bytes, a kind in one, and what it holds. Files of frames begin with
//! a magic and end with the SHA-256 of all before it.

use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

/// Bytes of the digest at the end.
pub(crate) const DIGEST: usize = 32;
/// A frame that is longer is none: events of one answer of a member fit with room.
const FRAME_MAX: usize = 256 << 20;

/// Appends a frame.
pub(crate) fn push(out: &mut Vec<u8>, kind: u8, content: &[u8]) {
    let length = u32::try_from(content.len()).expect("a frame is far below 4 GiB");
    out.extend_from_slice(&length.to_le_bytes());
    out.push(kind);
    out.extend_from_slice(content);
}

/// Reads a frame.
///
/// # Errors
/// `InvalidData` if it is none, `UnexpectedEof` if it is cut; the reader's.
pub(crate) fn pull(reader: &mut dyn Read) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    reader.read_exact(&mut head)?;
    let [a, b, c, d, kind] = head;
    let length = u32::from_le_bytes([a, b, c, d]) as usize;
    if length > FRAME_MAX {
        let what = format!("a frame of {length} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    // Memory is taken as bytes come, not as they are announced.
    let mut content = Vec::with_capacity(length.min(1 << 20));
    let read = reader.take(length as u64).read_to_end(&mut content)?;
    if read < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((kind, content))
}

/// Digests what is read.
pub(crate) struct Hashed<R> {
    inner: R,
    digest: Sha256,
}

/// How a file of frames ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// As it should; the digest.
    Whole([u8; DIGEST]),
    /// With another digest than that of what was read.
    Altered,
    /// It does not end there.
    Longer,
}

impl<R: Read> Hashed<R> {
    pub(crate) fn new(inner: R) -> Hashed<R> {
        Hashed {
            inner,
            digest: Sha256::new(),
        }
    }

    /// Reads the digest that must follow now, and the end.
    ///
    /// # Errors
    /// The reader's.
    pub(crate) fn ending(mut self) -> io::Result<Ending> {
        let found: [u8; DIGEST] = self.digest.finalize().into();
        let mut told = [0; DIGEST];
        self.inner.read_exact(&mut told)?;
        if told != found {
            return Ok(Ending::Altered);
        }
        match self.inner.read(&mut [0])? {
            0 => Ok(Ending::Whole(found)),
            _ => Ok(Ending::Longer),
        }
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.digest.update(&buffer[..read]);
        Ok(read)
    }
}
