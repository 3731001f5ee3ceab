//! SHA-256 in hex, of bytes and of what passes through a reader or writer.

use std::io::{self, Read, Write};

use sha2::{Digest as _, Sha256};

/// SHA-256 of `bytes`, in hex.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Bytes in lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes what is written");
        text
    })
}

/// Counts and digests what passes.
pub(crate) struct Digesting<T> {
    inner: T,
    digest: Sha256,
    bytes: u64,
}

impl<T> Digesting<T> {
    pub(crate) fn new(inner: T) -> Digesting<T> {
        Digesting {
            inner,
            digest: Sha256::new(),
            bytes: 0,
        }
    }

    /// What it wraps, how many bytes passed, and their digest in hex.
    pub(crate) fn finish(self) -> (T, u64, String) {
        (self.inner, self.bytes, hex(&self.digest.finalize()))
    }

    fn note(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
        self.bytes += bytes.len() as u64;
    }
}

impl<T: Write> Write for Digesting<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.note(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T: Read> Read for Digesting<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.note(&buffer[..read]);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_digested() {
        let mut writer = Digesting::new(Vec::new());
        writer.write_all(b"ab").unwrap();
        writer.write_all(b"c").unwrap();
        let (out, bytes, digest) = writer.finish();
        assert_eq!((out.as_slice(), bytes), (b"abc".as_slice(), 3));
        assert_eq!(digest, sha256_hex(b"abc"));
        assert!(digest.starts_with("ba7816bf"));
        let mut reader = Digesting::new(b"abc".as_slice());
        io::copy(&mut reader, &mut io::sink()).unwrap();
        let (_, bytes, read) = reader.finish();
        assert_eq!((bytes, read), (3, digest));
    }
}
