//! An increment on its way to the store. There is one at a time: each names the digest of
//! the one before it.

use std::{
    io::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use jiff::Timestamp;
use tracing::{debug, warn};

use super::{buffer::Cut, start::Position};
use crate::backup::{
    context::{Context, Tracker},
    increment::{self, Header, Link},
    pack::{Packer, Packing},
    random::jittered,
    run::{Failure, Reason},
    store::{Put, Store},
};

/// Pause before what the store refused is tried again.
const PAUSE: Duration = Duration::from_secs(10);

/// What is to be stored, and what it goes on from.
pub(super) struct Cargo {
    /// Where it begins.
    pub position: Position,
    /// The changes.
    pub cut: Cut,
}

/// An increment that is stored.
pub(super) struct Stored {
    /// Where the next one begins.
    pub position: Position,
    /// When the cluster was known to be there.
    pub time: Timestamp,
}

/// At most one increment on its way.
pub(super) struct Flight {
    store: Arc<dyn Store>,
    cluster_id: String,
    packing: Packing,
    tracker: Tracker,
    under_way: Option<BoxFuture<'static, Result<Stored, Failure>>>,
    bytes: u64,
    oldest: Option<Instant>,
}

impl Flight {
    pub(super) fn new(
        store: Arc<dyn Store>,
        cluster_id: &str,
        packing: Packing,
        context: &Context,
    ) -> Flight {
        Flight {
            store,
            cluster_id: cluster_id.to_owned(),
            packing,
            tracker: context.tracker.clone(),
            under_way: None,
            bytes: 0,
            oldest: None,
        }
    }

    /// Whether one is on its way.
    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// Bytes on their way.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// When the oldest change that is on its way arrived.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.oldest
    }

    /// Sends one off; none may be on its way.
    pub(super) fn depart(&mut self, cargo: Cargo) {
        self.bytes = cargo.cut.frames.len() as u64;
        self.oldest = cargo.cut.oldest;
        let (store, tracker) = (self.store.clone(), self.tracker.clone());
        let (cluster_id, packing) = (self.cluster_id.clone(), self.packing.clone());
        // On a task of its own, so that it goes on while the member is listened to.
        let task =
            tokio::spawn(async move { send(&*store, cargo, cluster_id, packing, &tracker).await });
        self.under_way =
            Some(async move { task.await.expect("storing an increment does not panic") }.boxed());
    }

    /// Waits until it is stored; for ever, if none is on its way. May be given up and
    /// called again.
    ///
    /// # Errors
    /// [`Reason::Conflict`] if somebody else stored what comes next. What the store
    /// refuses otherwise is tried until it takes it.
    pub(super) async fn landed(&mut self) -> Result<Stored, Failure> {
        let Some(under_way) = &mut self.under_way else {
            return std::future::pending().await;
        };
        let stored = under_way.await;
        self.under_way = None;
        self.bytes = 0;
        self.oldest = None;
        stored
    }
}

async fn send(
    store: &dyn Store,
    cargo: Cargo,
    cluster_id: String,
    packing: Packing,
    tracker: &Tracker,
) -> Result<Stored, Failure> {
    let Cargo { position, cut } = cargo;
    let key = increment::key(&cluster_id, position.after_revision, &position.link);
    let header = Header {
        format_version: increment::FORMAT,
        cluster_id,
        after_revision: position.after_revision,
        link: position.link,
    };
    let (revision, time, events) = (cut.revision, cut.time, cut.frames.events());
    let (packed, digest) = tokio::task::spawn_blocking(move || {
        let (plain, digest) = increment::finish(&header, &cut.frames, cut.revision, cut.time);
        let mut packer = Packer::new(Vec::with_capacity(plain.len() / 2), &packing)?;
        packer.write_all(&plain)?;
        let (packed, _) = packer.finish()?;
        Ok::<(Bytes, String), std::io::Error>((packed.into(), digest))
    })
    .await
    .expect("packing does not panic")
    .map_err(|error| Failure::new(Reason::DiskFailed, format!("packs an increment: {error}")))?;
    let put = Put {
        exclusive: true,
        retained: true,
    };
    let mut troubled = false;
    loop {
        match store.put(&key, packed.clone(), put).await {
            Ok(()) => break,
            Err(failure) if failure.reason == Reason::Conflict => return Err(failure),
            Err(failure) => {
                warn!("an increment waits: {failure}");
                tracker.trouble(Some(failure));
                troubled = true;
            }
        }
        tokio::time::sleep(jittered(PAUSE)).await;
    }
    if troubled {
        tracker.trouble(None);
    }
    debug!(key, revision, events, bytes = packed.len(), "stored");
    Ok(Stored {
        position: Position {
            after_revision: revision,
            link: Link::Continues { digest },
        },
        time,
    })
}
