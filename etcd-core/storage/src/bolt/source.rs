//! Where an image's bytes come from: memory, or a file that is read page by page.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::BoltError;
use crate::disk::File;

/// The bytes of an image. Cloning shares them.
#[derive(Clone)]
pub(super) enum Source {
    /// In memory, or mapped. Slices cost nothing.
    Memory(Bytes),
    /// In a file, of which only what is asked for is in memory.
    File {
        /// Opened for reading.
        file: Arc<dyn File>,
        /// Bytes it had when it was opened.
        len: u64,
    },
}

impl Source {
    /// Bytes in all.
    pub(super) fn len(&self) -> u64 {
        match self {
            Source::Memory(bytes) => bytes.len() as u64,
            Source::File { len, .. } => *len,
        }
    }

    /// `len` bytes from `at` on.
    ///
    /// # Errors
    /// [`BoltError::Read`] if the file cannot be read or has become shorter.
    pub(super) fn read(&self, at: u64, len: usize) -> Result<Bytes, BoltError> {
        let unreadable = |reason: String| BoltError::Read { at, reason };
        match self {
            Source::Memory(bytes) => {
                let start = usize::try_from(at).ok();
                let end = start.and_then(|start| start.checked_add(len));
                match (start, end) {
                    (Some(start), Some(end)) if end <= bytes.len() => Ok(bytes.slice(start..end)),
                    _ => Err(unreadable("the image is shorter".into())),
                }
            }
            Source::File { file, .. } => {
                let mut buffer = vec![0; len];
                let read = file
                    .read_at(at, &mut buffer)
                    .map_err(|e| unreadable(e.to_string()))?;
                if read < len {
                    return Err(unreadable("the file has become shorter".into()));
                }
                Ok(buffer.into())
            }
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Source::Memory(_) => "Memory",
            Source::File { .. } => "File",
        };
        write!(f, "{kind}({} bytes)", self.len())
    }
}
