//! Increments are read: once to check them, once more to apply them.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, BufReader, Read},
    path::PathBuf,
};

use bytes::Bytes;
use etcd_proto::{
    leasepb::Lease,
    mvccpb::{Event, event::EventType},
};
use etcd_replica::{Change, ChangeEvent, ChangedLease, ChangesError};
use jiff::Timestamp;
use prost::Message as _;

use super::frame::{FORMAT, Header, Kind, MAGIC, Mark, Trailer, number};
use crate::backup::{
    digest::hex,
    frame::{self, Ending, Hashed},
    run::{Failure, Reason},
};

/// What an increment says of itself, when all of it was found right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checked {
    /// What it goes on from.
    pub header: Header,
    /// How far it goes.
    pub trailer: Trailer,
    /// Its digest, in hex.
    pub digest: String,
    /// Times it knows, in order; the trailer's is the last.
    pub marks: Vec<Mark>,
}

/// Reads an increment to its end and checks all of it.
///
/// # Errors
/// [`Reason::Corrupt`], [`Reason::NewerFormat`].
pub(crate) fn check(reader: &mut dyn Read, place: &str) -> Result<Checked, Failure> {
    let corrupt = |error: &io::Error| Failure::from_io(error, Reason::Corrupt, place);
    let wrong = |what: &str| Failure::new(Reason::Corrupt, format!("{place}: {what}"));
    let mut reader = Hashed::new(BufReader::with_capacity(64 << 10, reader));
    let header = header(&mut reader, place)?;
    let mut marks: Vec<Mark> = Vec::new();
    let (mut revision, mut events) = (header.after_revision, 0);
    let trailer: Trailer = loop {
        let (kind, content) = pull(&mut reader).map_err(|error| corrupt(&error))?;
        match kind {
            Kind::Header => return Err(wrong("a second header")),
            Kind::Mark => {
                let mark = mark(&content).ok_or_else(|| wrong("a damaged mark"))?;
                if marks.last().is_some_and(|last| last.time > mark.time) {
                    return Err(wrong("time runs backwards"));
                }
                marks.push(mark);
            }
            Kind::Events => {
                let (at, found) = decode_events(&content).ok_or_else(|| wrong("damaged events"))?;
                if at != revision && at != revision + 1 || found.is_empty() {
                    return Err(wrong(&format!("revision {at} comes after {revision}")));
                }
                if at == header.after_revision {
                    return Err(wrong(&format!("revision {at} was there before")));
                }
                revision = at;
                events += found.len() as u64;
            }
            Kind::Leases => {
                decode_leases(&content).ok_or_else(|| wrong("a damaged table of leases"))?;
            }
            Kind::Compacted => {
                pair(&content).ok_or_else(|| wrong("a damaged compaction"))?;
            }
            Kind::Trailer => {
                break serde_json::from_slice(&content)
                    .map_err(|error| wrong(&format!("its end is damaged: {error}")))?;
            }
        }
    };
    if (trailer.revision, trailer.events) != (revision, events) {
        return Err(wrong("its end does not speak of what is before it"));
    }
    let digest = match reader.ending().map_err(|error| corrupt(&error))? {
        Ending::Whole(digest) => digest,
        Ending::Altered => return Err(wrong("its SHA-256 is another than its end says")),
        Ending::Longer => return Err(wrong("something follows its end")),
    };
    marks.push(Mark {
        revision: trailer.revision,
        time: trailer.time,
    });
    Ok(Checked {
        header,
        trailer,
        digest: hex(&digest),
        marks,
    })
}

/// The next frame.
fn pull(reader: &mut dyn Read) -> io::Result<(Kind, Vec<u8>)> {
    let (byte, content) = frame::pull(reader)?;
    match Kind::of(byte) {
        Some(kind) => Ok((kind, content)),
        None => {
            let what = format!("a frame of kind {byte}");
            Err(io::Error::new(io::ErrorKind::InvalidData, what))
        }
    }
}

fn header(reader: &mut dyn Read, place: &str) -> Result<Header, Failure> {
    let corrupt = |error: &io::Error| Failure::from_io(error, Reason::Corrupt, place);
    let wrong = |what: String| Failure::new(Reason::Corrupt, format!("{place}: {what}"));
    let mut magic = [0; MAGIC.len()];
    reader
        .read_exact(&mut magic)
        .map_err(|error| corrupt(&error))?;
    if magic != *MAGIC {
        return Err(wrong("it is no increment".to_owned()));
    }
    let (kind, content) = pull(reader).map_err(|error| corrupt(&error))?;
    if kind != Kind::Header {
        return Err(wrong("it has no header".to_owned()));
    }
    let header: Header = serde_json::from_slice(&content)
        .map_err(|error| wrong(format!("its header is damaged: {error}")))?;
    if header.format_version > FORMAT {
        return Err(Failure::new(
            Reason::NewerFormat,
            format!(
                "{place} is of format {}, this program reads up to {FORMAT}: use a newer operator",
                header.format_version
            ),
        ));
    }
    Ok(header)
}

fn mark(content: &[u8]) -> Option<Mark> {
    let (revision, millis) = pair(content)?;
    Some(Mark {
        revision,
        time: Timestamp::from_millisecond(millis).ok()?,
    })
}

fn pair(content: &[u8]) -> Option<(i64, i64)> {
    let (a, rest) = number(content)?;
    let (b, rest) = number(rest)?;
    rest.is_empty().then_some((a, b))
}

fn decode_events(content: &[u8]) -> Option<(i64, Vec<ChangeEvent>)> {
    let (revision, rest) = number(content)?;
    let mut rest = Bytes::copy_from_slice(rest);
    let mut events = Vec::new();
    while !rest.is_empty() {
        let event = Event::decode_length_delimited(&mut rest).ok()?;
        let delete = event.r#type() == EventType::Delete;
        let kv = event.kv?;
        events.push(match delete {
            true => ChangeEvent::Delete { key: kv.key },
            false => ChangeEvent::Put(kv),
        });
    }
    Some((revision, events))
}

fn decode_leases(content: &[u8]) -> Option<(i64, Vec<ChangedLease>)> {
    let (revision, rest) = number(content)?;
    let mut rest = Bytes::copy_from_slice(rest);
    let mut leases = Vec::new();
    while !rest.is_empty() {
        let lease = Lease::decode_length_delimited(&mut rest).ok()?;
        leases.push(ChangedLease {
            id: lease.id,
            granted_ttl: lease.ttl,
            remaining_ttl: lease.remaining_ttl,
        });
    }
    Some((revision, leases))
}

/// The changes of checked increments, read from their files one frame at a time.
pub(crate) struct ChangeFiles {
    files: VecDeque<PathBuf>,
    open: Option<BufReader<File>>,
}

impl ChangeFiles {
    /// Of plain increments, in order.
    pub(crate) fn new(files: impl IntoIterator<Item = PathBuf>) -> ChangeFiles {
        ChangeFiles {
            files: files.into_iter().collect(),
            open: None,
        }
    }

    fn read(&mut self) -> Result<Option<Change>, Failure> {
        let damaged = |error: &io::Error| {
            Failure::from_io(error, Reason::DiskFailed, "reads an increment again")
        };
        let malformed = || {
            Failure::new(
                Reason::DiskFailed,
                "an increment that was right is not what it was",
            )
        };
        loop {
            let Some(reader) = &mut self.open else {
                let Some(path) = self.files.pop_front() else {
                    return Ok(None);
                };
                let file =
                    File::open(&path).map_err(|error| Failure::disk("opens", &path, &error))?;
                let mut reader = BufReader::with_capacity(256 << 10, file);
                header(&mut reader, &path.display().to_string())?;
                self.open = Some(reader);
                continue;
            };
            let (kind, content) = pull(reader).map_err(|error| damaged(&error))?;
            return match kind {
                Kind::Header => Err(malformed()),
                Kind::Mark => continue,
                Kind::Trailer => {
                    self.open = None;
                    continue;
                }
                Kind::Events => {
                    let (revision, events) = decode_events(&content).ok_or_else(malformed)?;
                    Ok(Some(Change::Events { revision, events }))
                }
                Kind::Leases => {
                    let (revision, leases) = decode_leases(&content).ok_or_else(malformed)?;
                    Ok(Some(Change::Leases { revision, leases }))
                }
                Kind::Compacted => {
                    let (revision, compact_revision) = pair(&content).ok_or_else(malformed)?;
                    Ok(Some(Change::Compacted {
                        revision,
                        compact_revision,
                    }))
                }
            };
        }
    }
}

impl Iterator for ChangeFiles {
    type Item = Result<Change, ChangesError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.read() {
            Ok(change) => change.map(Ok),
            Err(failure) => Some(Err(failure.into())),
        }
    }
}

#[cfg(test)]
mod tests;
