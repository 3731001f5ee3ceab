//! The SHA-256 trailer of snapshot files: the digest of all bytes before it.

use std::io::{self, Write};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::TrailerError;

/// Bytes of the trailer.
pub const TRAILER_SIZE: usize = 32;

/// Whether a snapshot file of `len` bytes ends in a trailer: pages are multiples of 512.
pub fn has_trailer(len: u64) -> bool {
    len % 512 == TRAILER_SIZE as u64
}

/// Verifies the trailer and returns the bytes before it.
///
/// # Errors
/// [`TrailerError::Missing`] if the length is not that of a file with a trailer,
/// [`TrailerError::Digest`] if the digest does not match.
pub fn verify_trailer(file: &Bytes) -> Result<Bytes, TrailerError> {
    if !has_trailer(file.len() as u64) {
        return Err(TrailerError::Missing {
            len: file.len() as u64,
        });
    }
    let image = file.slice(..file.len() - TRAILER_SIZE);
    let expected = &file[image.len()..];
    let actual = Sha256::digest(&image);
    if actual.as_slice() != expected {
        return Err(TrailerError::Digest {
            expected: hex(expected),
            actual: hex(&actual),
        });
    }
    Ok(image)
}

/// Passes bytes on and appends their digest at the end.
pub struct Sha256Trailer<W> {
    out: W,
    digest: Sha256,
}

impl<W: Write> Sha256Trailer<W> {
    /// Digests what is written to `out` from now on.
    pub fn new(out: W) -> Sha256Trailer<W> {
        Sha256Trailer {
            out,
            digest: Sha256::new(),
        }
    }

    /// Appends the trailer and hands back the destination, flushed, with the digest.
    ///
    /// # Errors
    /// Those of the destination.
    pub fn finish(mut self) -> io::Result<(W, [u8; TRAILER_SIZE])> {
        let digest: [u8; TRAILER_SIZE] = self.digest.finalize().into();
        self.out.write_all(&digest)?;
        self.out.flush()?;
        Ok((self.out, digest))
    }
}

impl<W: Write> Write for Sha256Trailer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.digest.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
