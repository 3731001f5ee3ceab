//! Files of keys and values, as an export writes them.

use std::io::{self, BufReader, Read, Write};

use bytes::Bytes;
use etcd_proto::mvccpb::KeyValue;
use prost::Message as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    frame::{Ending, Hashed, pull, push},
    run::{Failure, Reason},
};

/// What a file of keys begins with.
const MAGIC: &[u8; 8] = b"etcdkey1";
const FORMAT: u32 = 1;
/// [`Header`], as JSON.
const HEADER: u8 = 0;
/// `mvccpb.KeyValue`s with their lengths.
const KEYS: u8 = 1;
/// [`Trailer`], as JSON.
const TRAILER: u8 = 2;

/// What is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Header {
    format_version: u32,
    /// What the keys begin with.
    pub prefix: String,
    /// The revision they were read at.
    pub revision: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Trailer {
    keys: u64,
}

/// Writes a file of keys.
pub(crate) struct KeyWriter<W> {
    out: W,
    digest: Sha256,
    keys: u64,
}

impl<W: Write> KeyWriter<W> {
    /// Begins one.
    ///
    /// # Errors
    /// The writer's.
    pub(crate) fn new(out: W, prefix: &str, revision: i64) -> io::Result<KeyWriter<W>> {
        let mut writer = KeyWriter {
            out,
            digest: Sha256::new(),
            keys: 0,
        };
        let header = Header {
            format_version: FORMAT,
            prefix: prefix.to_owned(),
            revision,
        };
        writer.write(MAGIC)?;
        writer.frame(HEADER, &serde_json::to_vec(&header)?)?;
        Ok(writer)
    }

    /// Adds keys.
    ///
    /// # Errors
    /// The writer's.
    pub(crate) fn keys(&mut self, keys: &[KeyValue]) -> io::Result<()> {
        let mut content = Vec::new();
        for kv in keys {
            kv.encode_length_delimited(&mut content)
                .map_err(io::Error::other)?;
        }
        self.keys += keys.len() as u64;
        self.frame(KEYS, &content)
    }

    /// Ends it; how many keys there are.
    ///
    /// # Errors
    /// The writer's.
    pub(crate) fn finish(mut self) -> io::Result<(W, u64)> {
        let trailer = Trailer { keys: self.keys };
        self.frame(TRAILER, &serde_json::to_vec(&trailer)?)?;
        let digest = self.digest.finalize();
        self.out.write_all(&digest)?;
        Ok((self.out, self.keys))
    }

    fn frame(&mut self, kind: u8, content: &[u8]) -> io::Result<()> {
        let mut frame = Vec::with_capacity(content.len() + 8);
        push(&mut frame, kind, content);
        self.write(&frame)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.digest.update(bytes);
        self.out.write_all(bytes)
    }
}

/// Reads a file of keys to its end; `each` gets them as they come. Whether the file is
/// whole is known at the end only.
///
/// # Errors
/// [`Reason::Corrupt`], [`Reason::NewerFormat`]; those of `each`.
pub(crate) fn read(
    reader: &mut dyn Read,
    place: &str,
    each: &mut dyn FnMut(Vec<KeyValue>) -> Result<(), Failure>,
) -> Result<Header, Failure> {
    let corrupt = |error: io::Error| Failure::from_io(&error, Reason::Corrupt, place);
    let wrong = |what: &str| Failure::new(Reason::Corrupt, format!("{place}: {what}"));
    let mut reader = Hashed::new(BufReader::with_capacity(64 << 10, reader));
    let mut magic = [0; MAGIC.len()];
    reader.read_exact(&mut magic).map_err(corrupt)?;
    if magic != *MAGIC {
        return Err(wrong("it is no export"));
    }
    let (kind, content) = pull(&mut reader).map_err(corrupt)?;
    if kind != HEADER {
        return Err(wrong("it has no header"));
    }
    let header: Header =
        serde_json::from_slice(&content).map_err(|_| wrong("its header is damaged"))?;
    if header.format_version > FORMAT {
        return Err(Failure::new(
            Reason::NewerFormat,
            format!(
                "{place} is of format {}, this program reads up to {FORMAT}: use a newer operator",
                header.format_version
            ),
        ));
    }
    let mut count = 0;
    loop {
        let (kind, content) = pull(&mut reader).map_err(corrupt)?;
        match kind {
            KEYS => {
                let keys = decode(content.into()).ok_or_else(|| wrong("damaged keys"))?;
                count += keys.len() as u64;
                each(keys)?;
            }
            TRAILER => {
                let trailer: Trailer =
                    serde_json::from_slice(&content).map_err(|_| wrong("its end is damaged"))?;
                if trailer.keys != count {
                    return Err(wrong("its end does not speak of what is before it"));
                }
                break;
            }
            _ => return Err(wrong("a frame of no kind")),
        }
    }
    match reader.ending().map_err(corrupt)? {
        Ending::Whole(_) => Ok(header),
        Ending::Altered => Err(wrong("its SHA-256 is another than its end says")),
        Ending::Longer => Err(wrong("something follows its end")),
    }
}

fn decode(mut content: Bytes) -> Option<Vec<KeyValue>> {
    let mut keys = Vec::new();
    while !content.is_empty() {
        keys.push(KeyValue::decode_length_delimited(&mut content).ok()?);
    }
    Some(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kv(key: &str) -> KeyValue {
        KeyValue {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::from_static(b"v"),
            ..KeyValue::default()
        }
    }

    fn good() -> Vec<u8> {
        let mut writer = KeyWriter::new(Vec::new(), "a/", 7).unwrap();
        writer.keys(&[kv("a/1"), kv("a/2")]).unwrap();
        writer.keys(&[kv("a/3")]).unwrap();
        let (bytes, keys) = writer.finish().unwrap();
        assert_eq!(keys, 3);
        bytes
    }

    fn all(bytes: &[u8]) -> Result<(Header, Vec<KeyValue>), Failure> {
        let mut found = Vec::new();
        let header = read(&mut &*bytes, "it", &mut |keys| {
            found.extend(keys);
            Ok(())
        })?;
        Ok((header, found))
    }

    #[test]
    fn keys_are_read_as_they_were_written() {
        let (header, found) = all(&good()).unwrap();
        assert_eq!((header.prefix.as_str(), header.revision), ("a/", 7));
        assert_eq!(found, [kv("a/1"), kv("a/2"), kv("a/3")]);
    }

    #[test]
    fn o24_what_is_cut_or_flipped_anywhere_is_refused() {
        let bytes = good();
        for at in 0..bytes.len() {
            assert_eq!(all(&bytes[..at]).unwrap_err().reason, Reason::Corrupt);
            let mut flipped = bytes.clone();
            flipped[at] ^= 4;
            let reason = all(&flipped).unwrap_err().reason;
            assert!(
                matches!(reason, Reason::Corrupt | Reason::NewerFormat),
                "{at}"
            );
        }
    }
}
