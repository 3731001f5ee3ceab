//! A member that is held after its cluster has lost its quorum: it tells what its log
//! holds, and with a ticket makes a new cluster of one of it.
//!
//! ```text
//! data                     the data directory; from the swap on that of the new cluster
//! revived/member           the new one, made beside it
//! revived/revived          which restore made it: there before the swap, so in `data` after
//! replaced-<cluster>-<id>  the old one, kept: its cluster's ID, and the new member's
//! ```
//!
//! A pod that is stopped anywhere in this goes on when it starts again: a swap that has
//! begun is finished before anything else is looked at.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use etcd_replica::{Found, Member, Restore, ReviveError, inspect, revive};
use etcd_storage::disk::{Disk, RealDisk};

use super::{AdmitError, io_error};
use crate::{
    admission::{LogFacts, TicketPaper},
    backup::run::{Failure, Reason},
    identity,
};

/// Names the restore that made a data directory.
const MARK: &str = "revived";

/// Places around a data directory, all on its volume.
struct Places {
    data: PathBuf,
    new: PathBuf,
    volume: PathBuf,
}

impl Places {
    fn of(data_dir: &Path) -> Places {
        let volume = data_dir.parent().unwrap_or(data_dir).to_owned();
        Places {
            data: data_dir.to_owned(),
            new: volume.join("revived"),
            volume,
        }
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.volume)?.sync_all()
    }

    /// Puts the new directory in the place of the old one, if the old one is out of it.
    fn finish(&self) -> io::Result<()> {
        let made = self.new.join(MARK).try_exists()? && self.new.join("member").try_exists()?;
        if made && !self.data.try_exists()? {
            fs::rename(&self.new, &self.data)?;
            self.sync()?;
        }
        Ok(())
    }
}

/// Finishes a swap that was cut off: without it the disk would look empty.
///
/// # Errors
/// The volume cannot be read or written.
pub(super) fn finish(data_dir: &Path) -> Result<(), AdmitError> {
    let what = format!("finishes what {} was to become", data_dir.display());
    Places::of(data_dir).finish().map_err(io_error(what))
}

/// Whether the data directory is that of a cluster that the restore `hold` has made.
///
/// # Errors
/// The volume cannot be read.
pub(super) fn is_done(data_dir: &Path, hold: &str) -> Result<bool, AdmitError> {
    let mark = data_dir.join(MARK);
    match fs::read_to_string(&mark) {
        Ok(token) => Ok(token.starts_with(hold)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(io_error(format!("reads {}", mark.display()))(error)),
    }
}

/// What the log of a member holds that does not run.
///
/// # Errors
/// In words: it cannot be read.
pub(super) fn examine(data_dir: &Path) -> Result<LogFacts, String> {
    let member = data_dir.join("member");
    let found = inspect(&RealDisk, &member, &member.join("wal"));
    let found = found.map_err(|error| format!("its log cannot be read: {error}"))?;
    Ok(facts(&found))
}

fn facts(found: &Found) -> LogFacts {
    LogFacts {
        cluster_id: identity::hex(found.cluster_id),
        member_id: identity::hex(found.member_id),
        term: found.term,
        last_term: found.last_term,
        last_index: found.last_index,
        commit: found.commit,
    }
}

/// Makes the cluster that the ticket names of what the member has, and puts it in the
/// place of its data directory. What was there is kept beside it.
///
/// # Errors
/// Why it was not; the data directory is as it was.
pub(super) fn make(data_dir: &Path, ticket: &TicketPaper) -> Result<(), Failure> {
    let places = Places::of(data_dir);
    let wanted = wanted(ticket)?;
    let before = places.data.join("member");
    let old = inspect(&RealDisk, &before, &before.join("wal")).map_err(|it| fault(&it))?;
    let file = |what: &str| {
        let what = what.to_owned();
        move |error: io::Error| Failure::new(Reason::DiskFailed, format!("{what}: {error}"))
    };
    // What another ticket has left is no use any more.
    if places
        .new
        .try_exists()
        .map_err(file("looks for what was left"))?
    {
        fs::remove_dir_all(&places.new).map_err(file("removes what was left"))?;
    }
    fs::create_dir_all(&places.new).map_err(file("makes a directory"))?;
    let to = places.new.join("member");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    revive(
        &disk,
        &before,
        &before.join("wal"),
        &to,
        &to.join("wal"),
        &wanted,
    )
    .map_err(|error| fault(&error))?;
    let aside = places.volume.join(format!(
        "replaced-{}-{}",
        identity::hex(old.cluster_id),
        ticket.member_id
    ));
    let swap = || -> io::Result<()> {
        let mut mark = File::create(places.new.join(MARK))?;
        mark.write_all(ticket.token.as_bytes())?;
        mark.sync_all()?;
        File::open(&places.new)?.sync_all()?;
        places.sync()?;
        fs::rename(&places.data, &aside)?;
        places.sync()?;
        places.finish()
    };
    swap().map_err(file("puts the new data directory in its place"))
}

fn wanted(ticket: &TicketPaper) -> Result<Restore, Failure> {
    let wrong = |what: &str| Failure::new(Reason::InvalidRun, format!("the ticket {what}"));
    let [line] = ticket.initial_cluster.as_slice() else {
        return Err(wrong("is not for a cluster of one"));
    };
    let (name, url) = line.split_once('=').ok_or_else(|| wrong("names no URL"))?;
    let id = identity::member_id(url, &ticket.token);
    if identity::hex(id) != ticket.member_id {
        return Err(wrong("names another member than its token amounts to"));
    }
    Ok(Restore {
        member_id: id,
        members: vec![Member {
            id,
            peer_urls: vec![url.to_owned()],
            is_learner: false,
            name: name.to_owned(),
            client_urls: Vec::new(),
        }],
        revision: None,
        bump_revision: u64::try_from(ticket.bump_revision)
            .map_err(|_| wrong("lowers the revision"))?,
        skip_hash_check: false,
    })
}

fn fault(error: &ReviveError) -> Failure {
    let reason = match error {
        ReviveError::Survivor(_) | ReviveError::Empty(_) => Reason::Corrupt,
        ReviveError::Apply(_) => Reason::Unsupported,
        ReviveError::Restore(error) if error.is_no_space() => Reason::DiskFull,
        ReviveError::Restore(_) => Reason::DiskFailed,
        ReviveError::Left { source, .. } => fault(source).reason,
    };
    Failure::new(reason, error.to_string())
}

#[cfg(test)]
mod tests;
