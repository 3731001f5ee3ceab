//! Decrypts and decompresses what is read through it. How something is packed is seen in
//! its first bytes, so that a file is read whatever its name says, and no manifest is
//! believed about it.

use std::io::{self, BufRead, BufReader, Read};

use age::{DecryptError, Decryptor};
use flate2::bufread::MultiGzDecoder;

use super::{
    keys::{self, Keys},
    run::{Failure, Reason},
};

/// What unpacked data may grow to before its ratio counts.
const FREE: u64 = 1 << 30;
/// How many times its packed size something may have beyond that.
const RATIO: u64 = 1000;
/// No snapshot of etcd is larger.
const LARGEST: u64 = 256 << 30;
/// Largest window of zstd, as a power of two: 128 MiB of memory.
const WINDOW: u32 = 27;

const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const GZIP: &[u8] = &[0x1f, 0x8b];

/// How large something may become when it is unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cap {
    bytes: u64,
    exact: bool,
}

impl Cap {
    /// Of something whose size is told.
    pub(crate) fn told(bytes: u64) -> Cap {
        Cap {
            bytes: bytes.min(LARGEST),
            exact: bytes <= LARGEST,
        }
    }

    /// Of something whose packed size alone is known.
    pub(crate) fn of_packed(packed: u64) -> Cap {
        Cap {
            bytes: packed.saturating_mul(RATIO).clamp(FREE, LARGEST),
            exact: false,
        }
    }
}

/// A reader of what `packed` holds; `place` names it in failures. Errors of it carry a
/// [`Failure`] (see [`Failure::from_io`]), and what they do not carry is corruption.
///
/// # Errors
/// [`Reason::KeyMissing`] and [`Reason::WrongKey`] if it is encrypted;
/// [`Reason::Corrupt`].
pub(crate) fn unpack<'a>(
    packed: impl Read + 'a,
    keys: Option<&Keys>,
    cap: Cap,
    place: &str,
) -> Result<Box<dyn Read + 'a>, Failure> {
    let mut opened = begins(Box::new(BufReader::new(packed)), place)?;
    if opened.1.starts_with(keys::FORMAT.as_bytes()) {
        opened = begins(decrypt(opened.0, keys, place)?, place)?;
    }
    let (reader, head) = opened;
    let corrupt = |error: io::Error| Failure::from_io(&error, Reason::Corrupt, place);
    let plain: Box<dyn Read + 'a> = if head.starts_with(ZSTD) {
        let mut decoder = zstd::stream::read::Decoder::with_buffer(reader).map_err(corrupt)?;
        decoder.window_log_max(WINDOW).map_err(corrupt)?;
        Box::new(decoder)
    } else if head.starts_with(GZIP) {
        Box::new(MultiGzDecoder::new(reader))
    } else {
        Box::new(reader)
    };
    Ok(Box::new(Capped {
        inner: plain,
        cap,
        read: 0,
        place: place.to_owned(),
    }))
}

type Buffered<'a> = Box<dyn BufRead + 'a>;

/// The reader, and what it begins with.
fn begins<'a>(mut reader: Buffered<'a>, place: &str) -> Result<(Buffered<'a>, Vec<u8>), Failure> {
    let head = reader
        .fill_buf()
        .map_err(|error| Failure::from_io(&error, Reason::Corrupt, place))?;
    let head = head[..head.len().min(keys::FORMAT.len())].to_vec();
    Ok((reader, head))
}

fn decrypt<'a>(
    reader: Buffered<'a>,
    keys: Option<&Keys>,
    place: &str,
) -> Result<Buffered<'a>, Failure> {
    let Some(keys) = keys else {
        return Err(Failure::new(
            Reason::KeyMissing,
            format!("{place} is encrypted: encryption.keySecretRef must name the key"),
        ));
    };
    let corrupt =
        |error: &dyn std::fmt::Display| Failure::new(Reason::Corrupt, format!("{place}: {error}"));
    let opened = Decryptor::new_buffered(reader).and_then(|it| it.decrypt(keys.identities()));
    match opened {
        Ok(reader) => Ok(Box::new(BufReader::with_capacity(64 << 10, reader))),
        Err(DecryptError::NoMatchingKeys) => Err(Failure::new(
            Reason::WrongKey,
            format!("{place} is encrypted to another key than those of encryption.keySecretRef"),
        )),
        Err(DecryptError::Io(error)) => Err(Failure::from_io(&error, Reason::Corrupt, place)),
        Err(error) => Err(corrupt(&error)),
    }
}

/// Ends in a failure where more comes out than may.
struct Capped<R> {
    inner: R,
    cap: Cap,
    read: u64,
    place: String,
}

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.read += read as u64;
        if self.read <= self.cap.bytes {
            return Ok(read);
        }
        let place = &self.place;
        let bytes = self.cap.bytes;
        let message = match self.cap.exact {
            true => format!("{place} unpacks to more than the {bytes} bytes its manifest says"),
            false => format!("{place} unpacks to more than {bytes} bytes, which no snapshot does"),
        };
        Err(Failure::new(Reason::TooLarge, message).into_io())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::{
        api::Compression,
        backup::{
            keys::tests::fresh,
            pack::{Packer, Packing},
        },
    };

    fn packed(plain: &[u8], compression: Compression, keys: Option<&Keys>) -> Vec<u8> {
        let packing = Packing {
            compression,
            recipient: keys.map(Keys::recipient),
        };
        let mut packer = Packer::new(Vec::new(), &packing).unwrap();
        packer.write_all(plain).unwrap();
        let (out, packed) = packer.finish().unwrap();
        assert_eq!(packed.bytes, out.len() as u64);
        assert_eq!(packed.sha256, crate::backup::digest::sha256_hex(&out));
        out
    }

    fn unpacked(packed: &[u8], keys: Option<&Keys>, cap: Cap) -> Result<Vec<u8>, Failure> {
        let mut out = Vec::new();
        unpack(packed, keys, cap, "it")?
            .read_to_end(&mut out)
            .map_err(|error| Failure::from_io(&error, Reason::Corrupt, "it"))?;
        Ok(out)
    }

    /// Not compressible, and over several chunks of age.
    fn noise(bytes: usize) -> Vec<u8> {
        let mut state = 1_u64;
        (0..bytes)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (state >> 56) as u8
            })
            .collect()
    }

    const WAYS: [Compression; 3] = [Compression::Zstd, Compression::Gzip, Compression::None];

    #[test]
    fn what_was_packed_is_unpacked_whatever_the_way() {
        let keys = fresh();
        for plain in [Vec::new(), b"short".to_vec(), noise(200_000)] {
            for compression in WAYS {
                for keys in [None, Some(&keys)] {
                    let packed = packed(&plain, compression, keys);
                    let cap = Cap::told(plain.len() as u64);
                    assert_eq!(
                        unpacked(&packed, keys, cap).unwrap(),
                        plain,
                        "{compression:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn o24_what_is_cut_anywhere_or_flipped_anywhere_is_refused() {
        let keys = fresh();
        let plain = noise(150_000);
        let cap = Cap::told(plain.len() as u64);
        for (compression, keys) in [
            (Compression::Zstd, None),
            (Compression::Gzip, None),
            (Compression::None, Some(&keys)),
            (Compression::Zstd, Some(&keys)),
        ] {
            let whole = packed(&plain, compression, keys);
            for cut in [1, 30, whole.len() / 2, 65_536 + 200, whole.len() - 1] {
                let failure = unpacked(&whole[..cut], keys, cap);
                // A few first bytes may not even tell what it is, and then are taken as they are.
                if !failure.as_ref().is_ok_and(|out| out == &whole[..cut]) {
                    assert_eq!(
                        failure.unwrap_err().reason,
                        Reason::Corrupt,
                        "{compression:?} {cut}"
                    );
                }
            }
            for at in [whole.len() / 3, whole.len() / 2, whole.len() - 3] {
                let mut flipped = whole.clone();
                flipped[at] ^= 0x10;
                let result = unpacked(&flipped, keys, cap);
                assert!(
                    !result.as_ref().is_ok_and(|out| *out == plain),
                    "{compression:?} {at}: it went unseen"
                );
                if keys.is_some() || compression == Compression::Zstd {
                    assert!(
                        matches!(
                            result.unwrap_err().reason,
                            Reason::Corrupt | Reason::TooLarge
                        ),
                        "{compression:?} {at}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_wrong_key_and_a_missing_one_are_told_apart() {
        let (right, wrong) = (fresh(), fresh());
        let packed = packed(b"secret", Compression::Zstd, Some(&right));
        assert!(!packed.windows(6).any(|bytes| bytes == b"secret"));
        let cap = Cap::told(6);
        let reason = |keys| unpacked(&packed, keys, cap).unwrap_err().reason;
        assert_eq!(reason(Some(&wrong)), Reason::WrongKey);
        assert_eq!(reason(None), Reason::KeyMissing);
    }

    #[test]
    fn x12_a_bomb_is_stopped_at_what_it_may_be() {
        let zeros = vec![0; 64 << 20];
        for compression in [Compression::Zstd, Compression::Gzip] {
            let bomb = packed(&zeros, compression, None);
            let failure = unpacked(&bomb, None, Cap::told(1 << 20)).unwrap_err();
            assert_eq!(failure.reason, Reason::TooLarge);
            assert!(!failure.transient);
        }
        assert_eq!(Cap::of_packed(100).bytes, FREE);
        assert_eq!(Cap::of_packed(2 << 30).bytes, LARGEST);
        assert_eq!(Cap::of_packed(10 << 20).bytes, 10_000 << 20);
        assert!(!Cap::told(u64::MAX).exact);
    }
}
