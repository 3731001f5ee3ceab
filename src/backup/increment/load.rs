//! The increments that lead from a full backup to a target: fetched, checked, and found to
//! be one chain.

use std::{
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use futures::{StreamExt as _, stream};
use jiff::Timestamp;

use super::{
    begins_after,
    chain::Found,
    folder,
    frame::{Link, Mark},
    listed,
    read::{Checked, check},
};
use crate::backup::{
    context::Context,
    fetch::{Expected, read},
    keys::Keys,
    manifest::Manifest,
    run::{Failure, Reason, Target},
    store::Store,
};

/// Increments that are fetched at a time.
const AHEAD: usize = 8;

/// What is wanted of the increments after a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All.
    Latest,
    /// Up to a revision.
    Revision(i64),
    /// Up to the last revision known by a time.
    Time(Timestamp),
}

impl From<Target> for Wanted {
    fn from(target: Target) -> Wanted {
        match target {
            Target::Latest => Wanted::Latest,
            Target::Revision(revision) => Wanted::Revision(revision),
            Target::Time(time) => Wanted::Time(time),
        }
    }
}

/// Increments that lead to a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Loaded {
    /// Plain increments, in order. They may go on beyond the revision.
    pub files: Vec<PathBuf>,
    /// The revision that is meant.
    pub revision: i64,
    /// When the cluster was known to be there.
    pub time: Timestamp,
}

/// Fetches into `dir` the increments that lead from the backup in `base_folder` to what is
/// wanted.
///
/// # Errors
/// [`Reason::Gap`] if changes on the way are missing, [`Reason::TargetOutOfReach`] if they
/// do not go so far or the backup is later; [`Reason::Corrupt`] and what [`read`] says.
pub(crate) async fn collect(
    store: &dyn Store,
    (base_folder, base): (&str, &Manifest),
    wanted: Wanted,
    keys: Option<&Keys>,
    dir: &Path,
    context: &Context,
) -> Result<Loaded, Failure> {
    let mut walk = Walk::new(base_folder, base, wanted)?;
    if walk.arrived() {
        return Ok(walk.loaded());
    }
    let found = listed(store.list(&folder(&base.cluster_id)).await?);
    let from = begins_after(&found, base.revision).unwrap_or(found.len());
    let fetching = stream::iter(found[from..].iter().enumerate())
        .map(|(number, increment)| {
            let to = dir.join(format!("{number:08}.inc"));
            async move {
                let checked = fetch(store, increment, keys.cloned(), &to, context).await?;
                Ok::<_, Failure>((increment, checked, to))
            }
        })
        .buffered(AHEAD);
    futures::pin_mut!(fetching);
    while !walk.arrived() {
        let Some(next) = fetching.next().await else {
            break;
        };
        let (increment, checked, file) = next?;
        if !walk.step(&store.uri(&increment.key), &checked, file)? {
            break;
        }
    }
    let more = found.iter().any(|f| f.after_revision > walk.revision);
    walk.finish(more)
}

async fn fetch(
    store: &dyn Store,
    increment: &Found,
    keys: Option<Keys>,
    to: &Path,
    context: &Context,
) -> Result<Checked, Failure> {
    let to = to.to_owned();
    let expected = Expected {
        stored_sha256: None,
        plain: None,
    };
    read(
        store,
        &increment.key,
        expected,
        keys,
        context,
        move |plain, place| {
            let file = File::create(&to).map_err(|error| Failure::disk("writes", &to, &error))?;
            let mut copy = Copy {
                from: plain,
                to: file,
                failed: None,
            };
            let checked = check(&mut copy, place);
            match copy.failed {
                Some(error) => Err(Failure::disk("writes", &to, &error)),
                None => checked,
            }
        },
    )
    .await
}

/// A reader that writes what it reads to a file.
struct Copy<'a> {
    from: &'a mut dyn io::Read,
    to: File,
    failed: Option<io::Error>,
}

impl io::Read for Copy<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        if let Err(error) = self.to.write_all(&buffer[..read]) {
            self.failed = Some(error);
            return Err(io::Error::other("the copy could not be written"));
        }
        Ok(read)
    }
}

/// On the way along a chain.
struct Walk<'a> {
    base_folder: &'a str,
    base: &'a Manifest,
    wanted: Wanted,
    /// The revision that is reached, and the digest of the increment that led there.
    revision: i64,
    digest: Option<String>,
    /// The last time that counts, and what was reached by then.
    best: Mark,
    /// The last time there is.
    time: Timestamp,
    files: Vec<PathBuf>,
}

impl<'a> Walk<'a> {
    fn new(base_folder: &'a str, base: &'a Manifest, wanted: Wanted) -> Result<Self, Failure> {
        let too_early = match wanted {
            Wanted::Latest => false,
            Wanted::Revision(revision) => revision < base.revision,
            Wanted::Time(time) => time < base.taken_at,
        };
        if too_early {
            return Err(Failure::new(
                Reason::TargetOutOfReach,
                format!(
                    "{} lies before the backup {base_folder}, which is of revision {} at {}: an earlier backup is needed",
                    wanted.told(),
                    base.revision,
                    base.taken_at
                ),
            ));
        }
        let best = Mark {
            revision: base.revision,
            time: base.taken_at,
        };
        Ok(Walk {
            base_folder,
            base,
            wanted,
            revision: base.revision,
            digest: None,
            best,
            time: base.taken_at,
            files: Vec::new(),
        })
    }

    fn arrived(&self) -> bool {
        match self.wanted {
            Wanted::Latest => false,
            Wanted::Revision(revision) => self.revision >= revision,
            Wanted::Time(time) => self.time > time,
        }
    }

    /// Takes in the next increment; `false` if changes before it are missing.
    fn step(&mut self, place: &str, next: &Checked, file: PathBuf) -> Result<bool, Failure> {
        let corrupt = |what: &str| Failure::new(Reason::Corrupt, format!("{place} {what}"));
        let header = &next.header;
        if header.cluster_id != self.base.cluster_id {
            return Err(corrupt("is of another cluster: it was swapped for another"));
        }
        match (&header.link, &self.digest) {
            (Link::Continues { digest }, Some(before)) => {
                if header.after_revision != self.revision {
                    return Ok(false);
                }
                if digest != before {
                    return Err(corrupt(
                        "does not go on from the increment before it: one of them was swapped for another",
                    ));
                }
            }
            // A full backup was needed, though nothing is missing between the two.
            (Link::Begins { .. }, Some(_)) if header.after_revision != self.revision => {
                return Ok(false);
            }
            (Link::Begins { .. }, Some(_)) => {}
            // The first one: the backup lies somewhere in it, or right before it.
            (_, None) if header.after_revision > self.revision => return Ok(false),
            (Link::Begins { folder, sha256 }, None) => {
                if folder == self.base_folder && *sha256 != self.base.sha256 {
                    return Err(corrupt(&format!(
                        "begins at another backup than the one in {folder}: it was swapped for another"
                    )));
                }
            }
            (Link::Continues { .. }, None) => {}
        }
        self.digest = Some(next.digest.clone());
        self.revision = self.revision.max(next.trailer.revision);
        self.time = self.time.max(next.trailer.time);
        for mark in &next.marks {
            let counts = match self.wanted {
                Wanted::Time(time) => mark.time <= time,
                Wanted::Revision(revision) => mark.revision <= revision,
                Wanted::Latest => true,
            };
            if counts && mark.revision >= self.best.revision {
                self.best = Mark {
                    revision: mark.revision,
                    time: mark.time.max(self.best.time),
                };
            }
        }
        self.files.push(file);
        Ok(true)
    }

    /// The end of the way; `more` says whether there are increments beyond it.
    fn finish(self, more: bool) -> Result<Loaded, Failure> {
        if self.arrived() || self.wanted == Wanted::Latest {
            return Ok(self.loaded());
        }
        let known = format!(
            "from the backup {} on, changes are known up to revision {} at {}",
            self.base_folder, self.revision, self.time
        );
        let (reason, message) = match more {
            true => (
                Reason::Gap,
                format!(
                    "{} is not reached: {known}, and those after it are missing; a later backup may lead there",
                    self.wanted.told()
                ),
            ),
            false => (
                Reason::TargetOutOfReach,
                format!("{} is not reached: {known}", self.wanted.told()),
            ),
        };
        Err(Failure::new(reason, message))
    }

    fn loaded(self) -> Loaded {
        let revision = match self.wanted {
            Wanted::Revision(revision) => revision,
            Wanted::Latest => self.revision,
            Wanted::Time(_) => self.best.revision,
        };
        Loaded {
            files: self.files,
            revision,
            time: self.best.time,
        }
    }
}

impl Wanted {
    fn told(self) -> String {
        match self {
            Wanted::Latest => "the newest state".to_owned(),
            Wanted::Revision(revision) => format!("revision {revision}"),
            Wanted::Time(time) => time.to_string(),
        }
    }
}

#[cfg(test)]
mod tests;
