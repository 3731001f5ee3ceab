//! What a member found changed in its own segments while it read them.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use etcd_storage::segment::SegmentError;

/// The first damage that was found in a store's segments, if any: whoever reads notes it,
/// whoever may decide what follows looks. Shared by all archives of one store, the
/// later ones included; a store that is imported begins without.
#[derive(Clone, Debug, Default)]
pub struct Damage(Arc<OnceLock<Damaged>>);

/// A segment with a record that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// The segment's file.
    pub file: PathBuf,
    /// What does not check out.
    pub reason: String,
}

impl Damage {
    /// The first damage; `None` if nothing damaged was read so far.
    pub fn found(&self) -> Option<&Damaged> {
        self.0.get()
    }

    /// Remembers damage if it is the first, and nothing if the error is another.
    pub(crate) fn note(&self, error: &SegmentError) {
        if let SegmentError::Corrupt { file, reason } = error {
            self.0.get_or_init(|| Damaged {
                file: file.clone(),
                reason: reason.clone(),
            });
        }
    }
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is corrupt: {}", self.file.display(), self.reason)
    }
}
