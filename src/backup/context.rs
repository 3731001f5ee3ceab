//! What every run has: its places, how far it is, and how patient it may be.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use parking_lot::Mutex;

use super::run::{Failure, Following, Progress, Stage, files};

/// Shared by all parts of a run.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// Where secrets and volumes are mounted.
    pub files: Files,
    /// How far it is.
    pub tracker: Tracker,
    /// How long what passes is waited out before the run fails.
    pub patience: Duration,
    /// Whether an endpoint may be on this machine. No manifest can say so.
    pub loopback: bool,
}

/// The places of [`files`], possibly moved.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    root: PathBuf,
}

impl Files {
    pub(crate) fn new(root: PathBuf) -> Files {
        Files { root }
    }

    /// Where one of the constants of [`files`] is.
    pub(crate) fn at(&self, place: &str) -> PathBuf {
        let below = place.strip_prefix(files::ROOT).unwrap_or(place);
        self.root.join(below.trim_start_matches('/'))
    }

    /// The scratch volume.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.at(files::SCRATCH)
    }
}

/// How far a run is; shared with whoever asks.
#[derive(Clone, Debug)]
pub(crate) struct Tracker {
    shown: Arc<Mutex<Progress>>,
}

impl Default for Tracker {
    fn default() -> Self {
        Tracker {
            shown: Arc::new(Mutex::new(Progress {
                stage: Stage::Preparing,
                since: Timestamp::now(),
                done_bytes: 0,
                total_bytes: None,
                trouble: None,
                following: None,
            })),
        }
    }
}

impl Tracker {
    /// What is shown now.
    pub(crate) fn shown(&self) -> Progress {
        self.shown.lock().clone()
    }

    /// Another stage has begun.
    pub(crate) fn stage(&self, stage: Stage, total_bytes: Option<u64>) {
        let mut shown = self.shown.lock();
        shown.stage = stage;
        shown.since = Timestamp::now();
        shown.done_bytes = 0;
        shown.total_bytes = total_bytes;
    }

    /// So many more bytes are done.
    pub(crate) fn advance(&self, bytes: u64) {
        self.shown.lock().done_bytes += bytes;
    }

    /// Something is in the way, or no longer.
    pub(crate) fn trouble(&self, trouble: Option<Failure>) {
        self.shown.lock().trouble = trouble;
    }

    /// Where `follow` is.
    pub(crate) fn following(&self, following: Following) {
        self.shown.lock().following = Some(following);
    }
}

/// A directory of the scratch volume that goes when it is dropped. What a run that was
/// killed has left there is removed first: the volume is this run's alone.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes `path` empty.
    ///
    /// # Errors
    /// Of the disk.
    pub(crate) fn make(path: PathBuf) -> Result<Scratch, Failure> {
        let scratch = Scratch { path };
        scratch.remove()?;
        std::fs::create_dir_all(&scratch.path)
            .map_err(|error| Failure::disk("makes", &scratch.path, &error))?;
        Ok(scratch)
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn remove(&self) -> Result<(), Failure> {
        match std::fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Failure::disk("removes", &self.path, &error))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(failure) = self.remove() {
            tracing::warn!(%failure, "leaves something on the scratch volume");
        }
    }
}
