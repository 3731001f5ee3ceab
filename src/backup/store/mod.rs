//! Where backups are kept: a bucket, or a directory of a volume.
//!
//! Keys are names below the destination's prefix, parts joined by slashes. What
//! [`Store::put`] and [`Upload::finish`] have written is durable, and appears at once and
//! whole.

mod address;
mod directory;
mod s3;

use std::sync::Arc;

use bytes::Bytes;
use futures::{future::BoxFuture, stream::BoxStream};

pub(crate) use directory::DirectoryStore;
pub(crate) use s3::S3Store;

use super::{
    context::Context,
    run::{Failure, Reason},
};
use crate::api::Destination;

/// An answer of a store that is on its way.
pub(crate) type Pending<'a, T> = BoxFuture<'a, Result<T, Failure>>;

/// How an object is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Put {
    /// Fail with [`Reason::Conflict`] if there is one of that name.
    pub exclusive: bool,
    /// Lock it against deletion as the destination says.
    pub retained: bool,
}

/// An object in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its key.
    pub key: String,
    /// Its bytes.
    pub bytes: u64,
}

/// What a store says about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    /// Its bytes.
    pub bytes: u64,
    /// The store's own checksum over what it received, if it keeps one.
    pub checksum: Option<String>,
}

/// An object that is being read.
pub(crate) struct Download {
    /// Its bytes.
    pub bytes: u64,
    /// Its content in pieces. What passes is waited out; an error ends it.
    pub content: BoxStream<'static, Result<Bytes, Failure>>,
}

/// An upload was finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Uploaded {
    /// The checksum that the store must hold for it, in the store's own form.
    pub checksum: String,
}

/// An object that is being written. One that is dropped, or that is never finished, is
/// found and removed by [`Store::abort_uploads`].
pub(crate) trait Upload: Send {
    /// Bytes that every part but the last must have.
    fn part_bytes(&self) -> usize;

    /// Adds a part. Returns when there is room for the next; a few are in flight.
    fn part(&mut self, content: Bytes) -> Pending<'_, ()>;

    /// Makes the object appear.
    fn finish(self: Box<Self>) -> Pending<'static, Uploaded>;

    /// Gives it up, and removes what was written.
    fn abort(self: Box<Self>) -> Pending<'static, ()>;
}

/// A bucket or a directory.
pub(crate) trait Store: Send + Sync {
    /// How a key is told to people.
    fn uri(&self, key: &str) -> String;

    /// Writes a small object.
    fn put<'a>(&'a self, key: &'a str, content: Bytes, put: Put) -> Pending<'a, ()>;

    /// Begins a large one of about `bytes`.
    fn upload<'a>(&'a self, key: &'a str, bytes: u64) -> Pending<'a, Box<dyn Upload>>;

    /// A small object of at most `limit` bytes, `None` if there is none.
    fn read<'a>(&'a self, key: &'a str, limit: u64) -> Pending<'a, Option<Bytes>>;

    /// A large one, `None` if there is none.
    fn download<'a>(&'a self, key: &'a str) -> Pending<'a, Option<Download>>;

    /// What the store says about an object, `None` if there is none.
    fn held<'a>(&'a self, key: &'a str) -> Pending<'a, Option<Held>>;

    /// All objects whose keys begin with `folder/`, in the order of their keys; those of
    /// the whole destination for an empty `folder`.
    fn list<'a>(&'a self, folder: &'a str) -> Pending<'a, Vec<Entry>>;

    /// Names of the folders in `folder`, in order; of the destination, if it is empty.
    fn folders<'a>(&'a self, folder: &'a str) -> Pending<'a, Vec<String>>;

    /// Removes objects. What is not there is no error.
    fn delete<'a>(&'a self, keys: &'a [String]) -> Pending<'a, ()>;

    /// Gives up all unfinished uploads of `key`, and says how many there were.
    fn abort_uploads<'a>(&'a self, key: &'a str) -> Pending<'a, u64>;
}

/// Opens a destination.
///
/// # Errors
/// [`Reason::InvalidRun`] if it makes no sense or a file it needs is missing;
/// [`Reason::EndpointRefused`].
pub(crate) async fn open(
    destination: &Destination,
    context: &Context,
) -> Result<Arc<dyn Store>, Failure> {
    match (&destination.s3, &destination.persistent_volume_claim) {
        (Some(s3), None) => Ok(Arc::new(S3Store::open(s3, context).await?)),
        (None, Some(claim)) => Ok(Arc::new(DirectoryStore::open(claim, context)?)),
        _ => Err(Failure::new(
            Reason::InvalidRun,
            "destination must be exactly one of s3 and persistentVolumeClaim",
        )),
    }
}
