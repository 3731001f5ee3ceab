//! Compresses and encrypts what is written to it: plain → compressed → encrypted → out.

use std::io::{self, Write};

use age::{Encryptor, stream::StreamWriter, x25519::Recipient};
use flate2::write::GzEncoder;

use super::digest::Digesting;
use crate::api::Compression;

/// zstd's level: about as fast as a network, and a third smaller than gzip.
const LEVEL: i32 = 3;

/// How something is packed.
#[derive(Clone, Debug)]
pub(crate) struct Packing {
    /// How it is compressed.
    pub compression: Compression,
    /// Whom it is encrypted to, if it is.
    pub recipient: Option<Recipient>,
}

/// What was packed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packed {
    /// Bytes that came out.
    pub bytes: u64,
    /// Their SHA-256, in hex.
    pub sha256: String,
}

/// A writer that packs. [`Packer::finish`] must be called: without it the end is missing,
/// and whoever unpacks notices.
pub(crate) struct Packer<W: Write> {
    inner: Compressor<W>,
}

type Sealed<W> = Sealer<Digesting<W>>;

enum Compressor<W: Write> {
    Zstd(zstd::stream::write::Encoder<'static, Sealed<W>>),
    Gzip(GzEncoder<Sealed<W>>),
    None(Sealed<W>),
}

enum Sealer<W: Write> {
    Age(StreamWriter<W>),
    None(W),
}

impl<W: Write> Packer<W> {
    /// Packs to `out`.
    ///
    /// # Errors
    /// Of `out`.
    pub(crate) fn new(out: W, packing: &Packing) -> io::Result<Packer<W>> {
        let out = Digesting::new(out);
        let sealed = match &packing.recipient {
            None => Sealer::None(out),
            Some(recipient) => {
                let to = std::iter::once(recipient as &dyn age::Recipient);
                let encryptor = Encryptor::with_recipients(to).map_err(io::Error::other)?;
                Sealer::Age(encryptor.wrap_output(out)?)
            }
        };
        let inner = match packing.compression {
            Compression::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(sealed, LEVEL)?;
                encoder.include_checksum(true)?;
                Compressor::Zstd(encoder)
            }
            Compression::Gzip => {
                Compressor::Gzip(GzEncoder::new(sealed, flate2::Compression::default()))
            }
            Compression::None => Compressor::None(sealed),
        };
        Ok(Packer { inner })
    }

    /// Writes what is held back, and the end.
    ///
    /// # Errors
    /// Of the destination.
    pub(crate) fn finish(self) -> io::Result<(W, Packed)> {
        let sealed = match self.inner {
            Compressor::Zstd(encoder) => encoder.finish()?,
            Compressor::Gzip(encoder) => encoder.finish()?,
            Compressor::None(sealed) => sealed,
        };
        let mut digesting = match sealed {
            Sealer::Age(writer) => writer.finish()?,
            Sealer::None(out) => out,
        };
        digesting.flush()?;
        let (out, bytes, sha256) = digesting.finish();
        Ok((out, Packed { bytes, sha256 }))
    }
}

impl<W: Write> Write for Packer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.inner {
            Compressor::Zstd(encoder) => encoder.write(bytes),
            Compressor::Gzip(encoder) => encoder.write(bytes),
            Compressor::None(sealed) => sealed.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.inner {
            Compressor::Zstd(encoder) => encoder.flush(),
            Compressor::Gzip(encoder) => encoder.flush(),
            Compressor::None(sealed) => sealed.flush(),
        }
    }
}

impl<W: Write> Write for Sealer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Sealer::Age(writer) => writer.write(bytes),
            Sealer::None(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Sealer::Age(writer) => writer.flush(),
            Sealer::None(out) => out.flush(),
        }
    }
}
