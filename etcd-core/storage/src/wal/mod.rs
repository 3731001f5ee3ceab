//! The write-ahead log, in etcd's own format.
//!
//! A directory of files `<sequence>-<index of the first entry>.wal`, both as 16 hex
//! digits, each preallocated. A file is a run of frames (see [`record`]); the checksum
//! of a record covers the data of every record before it, across files. A file starts
//! with the sum so far and the metadata, then the first file has an empty snapshot
//! record, a later one the hard state. A length of zero, or the end of the file, ends
//! the log.
//!
//! What a crash can leave at the end of the *last* file is a record of which whole
//! 512-byte sectors are missing: it was never synced, hence never acknowledged, and
//! [`Wal::open`] removes it (keeping a copy). Anything else that does not check out is
//! [`WalError::Corrupt`], and the files stay as they are.

mod error;
mod log;
mod name;
mod reader;
mod record;
mod repair;
mod replay;
mod rotate;
#[cfg(test)]
mod tests;

pub use error::WalError;
pub use log::{Options, Wal};
pub use replay::Replay;
