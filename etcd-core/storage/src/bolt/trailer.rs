//! The SHA-256 trailer of snapshot files: the digest of all bytes before it.

use std::io::{self, Write};

use sha2::{Digest, Sha256};

use super::TrailerError;
use crate::disk::File;

/// Bytes read at once.
const PIECE_BYTES: usize = 1 << 20;

/// Bytes of the trailer.
pub const TRAILER_SIZE: usize = 32;

/// Whether a snapshot file of `len` bytes ends in a trailer: pages are multiples of 512.
pub fn has_trailer(len: u64) -> bool {
    len % 512 == TRAILER_SIZE as u64
}

/// Verifies the trailer of a file, which is read once from front to back in pieces, and
/// returns the length of the image before it.
///
/// # Errors
/// [`TrailerError::Missing`] if the length is not that of a file with a trailer,
/// [`TrailerError::Digest`] if the digest does not match, [`TrailerError::Disk`].
pub fn verify_trailer(file: &dyn File) -> Result<u64, TrailerError> {
    let len = file.len()?;
    if !has_trailer(len) {
        return Err(TrailerError::Missing { len });
    }
    let image = len - TRAILER_SIZE as u64;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; PIECE_BYTES];
    let mut at = 0;
    while at < image {
        let piece = (image - at).min(PIECE_BYTES as u64) as usize;
        let read = file.read_at(at, &mut buffer[..piece])?;
        if read == 0 {
            // Cut while it was read.
            return Err(TrailerError::Missing { len: at });
        }
        digest.update(&buffer[..read]);
        at += read as u64;
    }
    let mut expected = [0; TRAILER_SIZE];
    file.read_at(image, &mut expected)?;
    let actual = digest.finalize();
    if actual.as_slice() != expected {
        return Err(TrailerError::Digest {
            expected: hex(&expected),
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
