//! Where to begin: behind the newest increment, or else at the newest full backup.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tracing::warn;

use super::Told;
use crate::backup::{
    context::Context,
    fetch::{Expected, read},
    increment::{self, Link, check, listed},
    keys::Keys,
    manifest::Manifest,
    random::jittered,
    run::{Failure, Reason},
    source::manifests,
    store::Store,
};

/// Pause between two looks for a full backup.
const LOOK: Duration = Duration::from_secs(5);

/// Where an increment begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// The revision before its first.
    pub after_revision: i64,
    /// What it is linked to.
    pub link: Link,
}

/// What is known about where to begin.
pub(super) struct Starts {
    store: Arc<dyn Store>,
    cluster_id: String,
    keys: Option<Keys>,
    context: Context,
    /// Full backups that were seen, by folder; folders that are none.
    seen: BTreeMap<String, Manifest>,
    /// Changes up to this revision are gone.
    gone: i64,
}

impl Starts {
    pub(super) fn new(
        store: Arc<dyn Store>,
        cluster_id: &str,
        keys: Option<Keys>,
        context: &Context,
    ) -> Starts {
        Starts {
            store,
            cluster_id: cluster_id.to_owned(),
            keys,
            context: context.clone(),
            seen: BTreeMap::new(),
            gone: 0,
        }
    }

    /// Changes up to a revision are gone: what begins earlier is of no use.
    pub(super) fn after_gap(&mut self, compacted: i64) {
        self.gone = self.gone.max(compacted);
    }

    /// Where to begin; else what is missing.
    async fn find(&mut self) -> Result<Result<Position, String>, Failure> {
        let newest = self.newest().await?;
        let gone = self.gone;
        let usable = move |revision: i64| revision + 1 >= gone;
        let (end, damaged) = match newest {
            Newest::Good(position) if usable(position.after_revision) => return Ok(Ok(position)),
            Newest::Good(position) => (position.after_revision, None),
            Newest::Damaged { begins, failure } => (begins, Some(failure)),
            Newest::None => (0, None),
        };
        self.look().await?;
        let full = self
            .seen
            .iter()
            .filter(|(_, manifest)| usable(manifest.revision) && manifest.revision > end)
            .max_by_key(|(_, manifest)| manifest.revision);
        if let Some((folder, manifest)) = full {
            return Ok(Ok(Position {
                after_revision: manifest.revision,
                link: Link::Begins {
                    folder: folder.clone(),
                    sha256: manifest.sha256.clone(),
                },
            }));
        }
        Ok(Err(match damaged {
            Some(failure) => format!("{failure}; a full backup behind revision {end} is needed"),
            None if self.gone > 0 => format!(
                "changes up to revision {} are compacted, and those up to {end} are stored: a full backup of at least \
                 revision {} is needed",
                self.gone,
                self.gone - 1
            ),
            None => "there is no full backup of this cluster yet".to_owned(),
        }))
    }

    /// The newest increment.
    async fn newest(&self) -> Result<Newest, Failure> {
        let folder = increment::folder(&self.cluster_id);
        let Some(last) = listed(self.store.list(&folder).await?).pop() else {
            return Ok(Newest::None);
        };
        let expected = Expected {
            stored_sha256: None,
            plain: None,
        };
        let keys = self.keys.clone();
        let checked = read(
            &*self.store,
            &last.key,
            expected,
            keys,
            &self.context,
            |plain, place| check(plain, place),
        )
        .await;
        match checked {
            Ok(checked) => Ok(Newest::Good(Position {
                after_revision: checked.trailer.revision,
                link: Link::Continues {
                    digest: checked.digest,
                },
            })),
            Err(failure) if failure.reason == Reason::Corrupt => Ok(Newest::Damaged {
                begins: last.after_revision,
                failure,
            }),
            Err(failure) => Err(failure),
        }
    }

    /// Looks for full backups that were not there before.
    async fn look(&mut self) -> Result<(), Failure> {
        let mut folders = self.store.folders("").await?;
        self.seen.retain(|folder, _| folders.contains(folder));
        folders.retain(|folder| !self.seen.contains_key(folder));
        for (folder, manifest) in manifests(&*self.store, folders).await?.good {
            if manifest.cluster_id == self.cluster_id {
                self.seen.insert(folder, manifest);
            }
        }
        Ok(())
    }
}

enum Newest {
    None,
    Good(Position),
    Damaged { begins: i64, failure: Failure },
}

/// Waits until there is something to begin at.
///
/// # Errors
/// Of the store, what does not pass.
pub(super) async fn begin(
    starts: &mut Starts,
    told: &mut Told,
    context: &Context,
) -> Result<Position, Failure> {
    loop {
        match starts.find().await {
            Ok(Ok(position)) => {
                told.stored_revision = position.after_revision;
                told.needed = None;
                context.tracker.trouble(None);
                return Ok(position);
            }
            Ok(Err(why)) => {
                if told.needed.as_ref() != Some(&why) {
                    told.needs(why);
                }
            }
            Err(failure) if failure.transient => {
                warn!("waits for the store: {failure}");
                context.tracker.trouble(Some(failure));
            }
            Err(failure) => return Err(failure),
        }
        context.tracker.following(told.following());
        tokio::time::sleep(jittered(LOOK)).await;
    }
}
