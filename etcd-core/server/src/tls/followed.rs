//! Files that are looked at for every connection and read anew when they
//! changed: whoever renews a certificate puts new files in place and is done.
//!
//! Several files are read as of one moment: their stamps must be the same
//! before and after. So a key never meets the certificate of another issue,
//! also where a directory of files is exchanged as a whole by a symbolic link,
//! as Kubernetes does with `..data`.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::files::{FilesError, Source};

/// A file that changed later than this before it was read may change again
/// within the same tick of the file system's clock, unseen.
const SETTLES: Duration = Duration::from_secs(2);
/// Looks until several files are found as of one moment.
const LOOKS: usize = 5;

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    /// Also moves where the time of modification was put back.
    changed: (i64, i64),
}

/// Makes something of files' contents.
type Parse<T> = fn(&[Source], &[Vec<u8>]) -> Result<T, FilesError>;
/// Says in the log what is remarkable about something that was just read.
type Remark<T> = fn(&[Source], &T);

/// Something that stands in files, as it was when they last made sense.
pub(super) struct Followed<T> {
    sources: Vec<Source>,
    parse: Parse<T>,
    remark: Remark<T>,
    value: ArcSwap<T>,
    state: Mutex<State>,
}

struct State {
    /// What was seen last, if it cannot have changed since without being seen.
    seen: Option<Vec<Stamp>>,
    bytes: Vec<Vec<u8>>,
    /// What was last said about files that make no sense.
    complaint: Option<FilesError>,
}

/// The files at one moment.
struct Look {
    stamps: Vec<Stamp>,
    settled: bool,
    bytes: Vec<Vec<u8>>,
}

impl<T> std::fmt::Debug for Followed<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Followed").field(&self.sources).finish()
    }
}

impl<T> Followed<T> {
    /// Reads the files for the first time, so that a mistake shows at the start.
    pub(super) fn open(
        sources: Vec<Source>,
        parse: Parse<T>,
        remark: Remark<T>,
    ) -> Result<Followed<T>, FilesError> {
        let look = look(&sources)?;
        let value = parse(&sources, &look.bytes)?;
        remark(&sources, &value);
        Ok(Followed {
            sources,
            parse,
            remark,
            value: ArcSwap::from_pointee(value),
            state: Mutex::new(State {
                seen: look.settled.then_some(look.stamps),
                bytes: look.bytes,
                complaint: None,
            }),
        })
    }

    /// What the files say now; while they make no sense, what they said before,
    /// and also while another looks at them: a file system that does not answer
    /// holds up one, and not all. Blocking.
    pub(super) fn current(&self) -> Arc<T> {
        if let Some(mut state) = self.state.try_lock() {
            self.look_again(&mut state);
        }
        self.value.load_full()
    }

    fn look_again(&self, state: &mut State) {
        if state.seen.is_some() && state.seen == stamps(&self.sources).ok() {
            return;
        }
        match self.read(&state.bytes) {
            Ok((seen, changed)) => {
                state.seen = seen;
                let mended = state.complaint.take().is_some();
                if let Some((bytes, value)) = changed {
                    self.tell("TLS files changed; new connections use them");
                    (self.remark)(&self.sources, &value);
                    state.bytes = bytes;
                    self.value.store(Arc::new(value));
                } else if mended {
                    self.tell("TLS files make sense again");
                }
            }
            Err(error) => {
                state.seen = None;
                if state.complaint.as_ref() != Some(&error) {
                    tracing::warn!(
                        %error, files = ?self.files(),
                        "failed to load changed TLS files; new connections use what was loaded before"
                    );
                    state.complaint = Some(error);
                }
            }
        }
    }

    /// What can be trusted about the files from now on, and what is new in them.
    #[allow(clippy::type_complexity, reason = "it is taken apart at once")]
    fn read(
        &self,
        known: &[Vec<u8>],
    ) -> Result<(Option<Vec<Stamp>>, Option<(Vec<Vec<u8>>, T)>), FilesError> {
        let look = look(&self.sources)?;
        let seen = look.settled.then_some(look.stamps);
        if look.bytes == known {
            return Ok((seen, None));
        }
        let value = (self.parse)(&self.sources, &look.bytes)?;
        Ok((seen, Some((look.bytes, value))))
    }

    fn files(&self) -> Vec<String> {
        let text = |source: &Source| format!("{}={}", source.flag, source.path.display());
        self.sources.iter().map(text).collect()
    }

    fn tell(&self, what: &str) {
        tracing::info!(files = ?self.files(), "{what}");
    }
}

fn look(sources: &[Source]) -> Result<Look, FilesError> {
    let mut looks = 0;
    loop {
        looks += 1;
        match look_once(sources) {
            Ok((look, true)) => return Ok(look),
            // Somebody writes without pause: what was read may still make sense.
            Ok((look, false)) if looks >= LOOKS => return Ok(look),
            // Between two states of a directory a file may be gone for a moment.
            Err(error) if looks >= LOOKS => return Err(error),
            Ok(_) | Err(_) => {}
        }
    }
}

/// The files, and whether they stayed as they were meanwhile.
fn look_once(sources: &[Source]) -> Result<(Look, bool), FilesError> {
    let before = stamps(sources)?;
    let bytes = sources
        .iter()
        .map(|source| fs::read(&source.path).map_err(|error| open_error(source, &error)))
        .collect::<Result<Vec<_>, _>>()?;
    let same = stamps(sources)? == before;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.unwrap_or_default().as_secs();
    let settled = same
        && before.iter().all(|stamp| {
            u64::try_from(stamp.changed.0)
                .is_ok_and(|changed| changed.saturating_add(SETTLES.as_secs()) < now)
        });
    let look = Look {
        stamps: before,
        settled,
        bytes,
    };
    Ok((look, same))
}

fn stamps(sources: &[Source]) -> Result<Vec<Stamp>, FilesError> {
    sources
        .iter()
        .map(|source| stamp(&source.path).map_err(|error| open_error(source, &error)))
        .collect()
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    let metadata = fs::metadata(path)?;
    Ok(Stamp {
        device: metadata.dev(),
        inode: metadata.ino(),
        length: metadata.len(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    })
}

fn open_error(source: &Source, error: &io::Error) -> FilesError {
    FilesError::Open {
        flag: source.flag,
        path: source.path.display().to_string(),
        reason: crate::go::io_error(error),
    }
}
