//! `etcd-operator follow`: stores what changes, for as long as it lives.
//!
//! ```text
//! member ─ watch ─► Buffer ─ cut ─► increment ─► packed ─► store
//!                     ▲ tables: leases, compactions
//! ```
//!
//! What is in memory is bounded. While the store takes nothing the buffer fills, then no
//! more is read: the cluster keeps its own history until it compacts it. If it compacts
//! what was not read, a new full backup is needed, and said to be.

mod buffer;
mod feed;
mod flight;
mod start;
mod tables;

use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::watch;
use tracing::{info, warn};

use super::{
    context::Context,
    keys::Keys,
    marker::Marker,
    member::Dialer,
    pack::Packing,
    random::jittered,
    run::{Failure, FollowReport, FollowRun, Following, Reason, Stage},
    store,
};
use buffer::Buffer;
use feed::{Feed, Heard};
use flight::{Cargo, Flight, Stored};
use start::{Starts, begin};
use tables::Tables;

/// How often it is looked whether something is due.
const TICK: Duration = Duration::from_millis(200);
/// An increment is cut at this size, whatever its age.
const CUT_BYTES: usize = 8 << 20;
/// So often an increment is stored though nothing changes: a target time that lies later
/// is out of reach.
const IDLE: Duration = Duration::from_secs(300);
/// How long a member may take to say how far it is before a cut is made without.
const SAY: Duration = Duration::from_secs(3);
/// Pause before a member is tried again.
const PAUSE: Duration = Duration::from_secs(2);
/// How long the last increment may take when it is asked to end.
const LAST: Duration = Duration::from_secs(12);

/// Follows until `stop` says otherwise.
///
/// # Errors
/// What does not pass by itself.
pub(crate) async fn run(
    run: &FollowRun,
    context: &Context,
    mut stop: watch::Receiver<bool>,
) -> Result<FollowReport, Failure> {
    if run.max_lag_seconds == 0 {
        return Err(Failure::new(
            Reason::InvalidRun,
            "maxLagSeconds must be greater than 0",
        ));
    }
    let keys = match run.encrypted {
        true => Some(Keys::needed(&context.files)?),
        false => Keys::mounted(&context.files)?,
    };
    let store = store::open(&run.destination, context).await?;
    Marker::take(&*store, &run.cluster, Timestamp::now()).await?;
    context.tracker.stage(Stage::Following, None);
    let packing = Packing {
        compression: run.compression,
        recipient: keys.as_ref().filter(|_| run.encrypted).map(Keys::recipient),
    };
    let mut starts = Starts::new(store.clone(), &run.cluster.cluster_id, keys, context);
    let mut told = Told::default();
    loop {
        let position = tokio::select! {
            position = begin(&mut starts, &mut told, context) => position?,
            () = stopped(&mut stop) => return Ok(told.report()),
        };
        info!(after = position.after_revision, "follows");
        let follower = Follower {
            run,
            context,
            dialer: Dialer::new(context),
            buffer: Buffer::new(position.after_revision),
            flight: Flight::new(
                store.clone(),
                &run.cluster.cluster_id,
                packing.clone(),
                context,
            ),
            position,
            tables: Tables::default(),
            told: &mut told,
            asked: None,
            quiet_since: Instant::now(),
            not_before: Instant::now(),
        };
        match follower.follow(&mut stop).await? {
            End::Stopped => return Ok(told.report()),
            End::Compacted(compacted) => {
                starts.after_gap(compacted);
                told.needs(format!(
                    "the cluster has compacted up to revision {compacted}, and changes up to {} are stored: a new full \
                     backup begins anew",
                    told.stored_revision
                ));
            }
            End::Overtaken => warn!("another run has stored an increment: looks how far it got"),
        }
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone never asks for it.
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// What is told of it.
#[derive(Debug, Default)]
pub(super) struct Told {
    stored_revision: i64,
    stored_at: Option<Timestamp>,
    increments: u64,
    needed: Option<String>,
}

impl Told {
    fn report(&self) -> FollowReport {
        FollowReport {
            stored_revision: self.stored_revision,
            increments: self.increments,
        }
    }

    fn needs(&mut self, why: String) {
        warn!("{why}");
        self.needed = Some(why);
    }

    fn following(&self) -> Following {
        Following {
            revision: self.stored_revision,
            stored_revision: self.stored_revision,
            stored_at: self.stored_at,
            increments: self.increments,
            full_backup_needed: self.needed.clone(),
            ..Following::default()
        }
    }
}

/// Why a stretch ended.
enum End {
    /// It was asked to.
    Stopped,
    /// Changes up to this revision are gone.
    Compacted(i64),
    /// Somebody else stored what comes next.
    Overtaken,
}

/// A stretch without gaps.
struct Follower<'a> {
    run: &'a FollowRun,
    context: &'a Context,
    dialer: Dialer,
    buffer: Buffer,
    flight: Flight,
    /// Where the next increment begins.
    position: start::Position,
    tables: Tables,
    told: &'a mut Told,
    /// When the member was asked how far it is.
    asked: Option<Instant>,
    /// When the last increment was cut.
    quiet_since: Instant,
    /// When a member may be tried again.
    not_before: Instant,
}

impl Follower<'_> {
    async fn follow(mut self, stop: &mut watch::Receiver<bool>) -> Result<End, Failure> {
        let mut feed: Option<Feed> = None;
        let mut compacted = None;
        let mut tick = tokio::time::interval(TICK);
        loop {
            self.tell();
            let full = self.held() >= self.run.max_backlog_bytes;
            if full {
                // What is not read stays with the cluster.
                feed = None;
            } else if feed.is_none() && compacted.is_none() && Instant::now() >= self.not_before {
                feed = self.connect().await?;
            }
            if let Some(compacted) = compacted
                && self.buffer.is_empty()
                && !self.flight.is_under_way()
            {
                return Ok(End::Compacted(compacted));
            }
            tokio::select! {
                () = stopped(stop) => return self.last(feed.as_ref()).await.map(|()| End::Stopped),
                stored = self.flight.landed() => match self.landed(stored)? {
                    true => {}
                    false => return Ok(End::Overtaken),
                },
                heard = next(&mut feed) => match heard {
                    Ok(Heard::Changes { events, goes_on }) => self.buffer.take(events, goes_on, Timestamp::now())?,
                    Ok(Heard::Reached(revision)) => {
                        self.buffer.reached(revision, Timestamp::now());
                        if self.asked.is_some() {
                            self.cut(feed.as_ref()).await;
                        }
                    }
                    Ok(Heard::Compacted(revision)) => {
                        feed = None;
                        compacted = Some(revision);
                    }
                    Err(failure) => {
                        feed = None;
                        self.lost(failure)?;
                    }
                },
                _ = tick.tick() => self.look(feed.as_mut(), compacted.is_some()).await,
            }
        }
    }

    /// Bytes of changes that are held.
    fn held(&self) -> u64 {
        self.buffer.bytes() as u64 + self.flight.bytes()
    }

    /// Connects to a member and watches from where the buffer ends.
    async fn connect(&mut self) -> Result<Option<Feed>, Failure> {
        let cluster = &self.run.cluster;
        let from = self.buffer.revision() + 1;
        match Feed::open(&self.dialer, &self.run.voters, cluster, from).await {
            Ok(feed) => {
                self.context.tracker.trouble(None);
                Ok(Some(feed))
            }
            Err(failure) => {
                self.lost(failure)?;
                Ok(None)
            }
        }
    }

    /// A member failed: another is tried, but not at once.
    fn lost(&mut self, failure: Failure) -> Result<(), Failure> {
        if !failure.transient {
            return Err(failure);
        }
        warn!("looks for another member: {failure}");
        self.context.tracker.trouble(Some(failure));
        self.buffer.forget_half();
        self.not_before = Instant::now() + jittered(PAUSE);
        Ok(())
    }

    /// Looks whether an increment is due.
    async fn look(&mut self, feed: Option<&mut Feed>, ended: bool) {
        if self.flight.is_under_way() {
            return;
        }
        if ended {
            if !self.buffer.is_empty() {
                self.cut(None).await;
            }
            return;
        }
        if let Some(asked) = self.asked {
            if asked.elapsed() >= SAY {
                self.cut(feed.as_deref()).await;
            }
            return;
        }
        let lag = Duration::from_secs(self.run.max_lag_seconds.into());
        // Some of it is left for the upload.
        let early = lag - (lag / 2).min(Duration::from_secs(10));
        let due = match self.buffer.oldest() {
            Some(oldest) => oldest.elapsed() >= early || self.buffer.bytes() >= CUT_BYTES,
            None => feed.is_some() && self.quiet_since.elapsed() >= IDLE.max(lag),
        };
        if !due {
            return;
        }
        match feed {
            Some(feed) => {
                self.asked = Some(Instant::now());
                feed.ask().await;
            }
            None => self.cut(None).await,
        }
    }

    /// Sends off what the buffer holds.
    async fn cut(&mut self, feed: Option<&Feed>) {
        self.asked = None;
        if self.flight.is_under_way() {
            return;
        }
        if let Some(feed) = feed {
            let looked = self.tables.look(feed.peer(), &mut self.buffer).await;
            if let Err(failure) = looked {
                // The changes are stored without; the next increment makes up for it.
                warn!("leases and compactions are not known: {failure}");
            }
        }
        let Some(cut) = self.buffer.cut() else {
            return;
        };
        self.quiet_since = Instant::now();
        self.flight.depart(Cargo {
            position: self.position.clone(),
            cut,
        });
    }

    /// An increment was stored, or (`false`) somebody else stored another.
    fn landed(&mut self, stored: Result<Stored, Failure>) -> Result<bool, Failure> {
        let stored = match stored {
            Ok(stored) => stored,
            Err(failure) if failure.reason == Reason::Conflict => return Ok(false),
            Err(failure) => return Err(failure),
        };
        self.told.stored_revision = stored.position.after_revision;
        self.told.stored_at = Some(stored.time);
        self.told.increments += 1;
        self.told.needed = None;
        self.position = stored.position;
        Ok(true)
    }

    /// Stores what is left.
    async fn last(&mut self, feed: Option<&Feed>) -> Result<(), Failure> {
        let rest = async {
            if self.flight.is_under_way() {
                let stored = self.flight.landed().await;
                if !self.landed(stored)? {
                    return Ok(());
                }
            }
            if !self.buffer.is_empty() {
                self.cut(feed).await;
                let stored = self.flight.landed().await;
                self.landed(stored)?;
            }
            Ok(())
        };
        match tokio::time::timeout(LAST, rest).await {
            Ok(done) => done,
            Err(_) => {
                warn!("the last changes are not stored: whoever follows next reads them again");
                Ok(())
            }
        }
    }

    fn tell(&self) {
        let oldest = match (self.flight.oldest(), self.buffer.oldest()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.context.tracker.following(Following {
            revision: self.buffer.revision(),
            stored_revision: self.position.after_revision,
            lag_seconds: oldest.map_or(0, |oldest| oldest.elapsed().as_secs()),
            backlog_bytes: self.held(),
            ..self.told.following()
        });
    }
}

/// What a member says next; never, if there is none.
async fn next(feed: &mut Option<Feed>) -> Result<Heard, Failure> {
    match feed {
        Some(feed) => feed.next().await,
        None => std::future::pending().await,
    }
}
