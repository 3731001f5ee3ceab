//! What a verification, a restore or an import begins with: an image in a file, proven to
//! be what was saved, and the changes that lead from it to what is meant.

use std::path::{Path, PathBuf};

use futures::{StreamExt as _, stream};
use tracing::{info, warn};

use super::{
    context::Context,
    fetch::{Expected, fetch},
    increment::{self, Loaded},
    keys::Keys,
    layout,
    manifest::{Kind, Manifest},
    run::{Artifact, BackupSource, Failure, FileSource, Reach, Reason, Source, Target},
    store::{self, Store},
    trailer::Whole,
};

/// Manifests that are read at a time.
const AT_ONCE: usize = 8;

/// An image and its changes, in files.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// The plain image.
    pub image: PathBuf,
    /// What it is.
    pub whole: Whole,
    /// Its folder and manifest, if it is a backup of ours.
    pub backup: Option<(String, Manifest)>,
    /// The same, as it is told.
    pub artifact: Option<Artifact>,
    /// The changes, and where they lead; without any, what is meant is the image itself.
    pub loaded: Option<Loaded>,
    /// How it is named in failures.
    pub place: String,
}

impl Prepared {
    /// The revision that is meant, if it is another than the image's.
    pub(crate) fn revision(&self) -> Option<i64> {
        self.loaded.as_ref().map(|loaded| loaded.revision)
    }

    /// The plain increments.
    pub(crate) fn changes(&self) -> Vec<PathBuf> {
        self.loaded
            .as_ref()
            .map_or_else(Vec::new, |loaded| loaded.files.clone())
    }

    /// What a restore of it gives, once it is known that the content is of `revision`.
    pub(crate) fn reach(&self, revision: i64) -> Reach {
        let backup = self.backup.as_ref().map(|(_, manifest)| manifest);
        Reach {
            revision,
            time: match &self.loaded {
                Some(loaded) => Some(loaded.time),
                None => backup.map(|manifest| manifest.taken_at),
            },
            increments: self.changes().len() as u64,
        }
    }
}

/// Fetches a source into `dir`. Every digest is checked.
///
/// # Errors
/// What is wrong with it.
pub(crate) async fn prepare(
    source: &Source,
    dir: &Path,
    context: &Context,
) -> Result<Prepared, Failure> {
    match source {
        Source::Backup(source) => backup(source, dir, context).await,
        Source::File(source) => file(source, dir, context).await,
    }
}

async fn backup(source: &BackupSource, dir: &Path, context: &Context) -> Result<Prepared, Failure> {
    let store = store::open(&source.destination, context).await?;
    let keys = Keys::mounted(&context.files)?;
    let (folder, manifest) = find(&*store, source).await?;
    let key = manifest.key(&folder);
    let place = store.uri(&folder);
    manifest.check_cluster(&source.cluster_ids, &place)?;
    let loaded = match source.target {
        None => None,
        Some(target) => {
            let changes = dir.join("increments");
            std::fs::create_dir_all(&changes)
                .map_err(|error| Failure::disk("makes", &changes, &error))?;
            let base = (folder.as_str(), &manifest);
            let keys = keys.as_ref();
            Some(increment::collect(&*store, base, target.into(), keys, &changes, context).await?)
        }
    };
    let image = dir.join("image.db");
    let whole = fetch(
        &*store,
        &key,
        Expected::of(&manifest),
        keys,
        &image,
        context,
    )
    .await?;
    Ok(Prepared {
        image,
        whole,
        artifact: Some(manifest.artifact(&*store, &folder)),
        backup: Some((folder, manifest)),
        loaded,
        place,
    })
}

async fn file(source: &FileSource, dir: &Path, context: &Context) -> Result<Prepared, Failure> {
    layout::check_key(&source.key)?;
    let store = store::open(&source.destination, context).await?;
    let keys = Keys::mounted(&context.files)?;
    let expected = Expected {
        stored_sha256: source.sha256.as_ref().map(|hex| hex.to_lowercase()),
        plain: None,
    };
    let image = dir.join("image.db");
    let whole = fetch(&*store, &source.key, expected, keys, &image, context).await?;
    Ok(Prepared {
        image,
        whole,
        backup: None,
        artifact: None,
        loaded: None,
        place: store.uri(&source.key),
    })
}

/// The backup that is meant.
///
/// # Errors
/// [`Reason::NotFound`], with what there is instead.
pub(crate) async fn find(
    store: &dyn Store,
    source: &BackupSource,
) -> Result<(String, Manifest), Failure> {
    if let Some(folder) = &source.folder {
        layout::check_folder(folder)?;
        return Ok((folder.clone(), Manifest::snapshot(store, folder).await?));
    }
    let found = backups(store).await?;
    let (mut all, unreadable) = (found.good, found.unreadable);
    let there = all.len();
    all.retain(|(_, manifest)| {
        let ours =
            source.cluster_ids.is_empty() || source.cluster_ids.contains(&manifest.cluster_id);
        let early = match source.target {
            None | Some(Target::Latest) => true,
            Some(Target::Revision(revision)) => manifest.revision <= revision,
            Some(Target::Time(time)) => manifest.taken_at <= time,
        };
        ours && early
    });
    let newest = all
        .into_iter()
        .max_by_key(|(_, manifest)| manifest.taken_at);
    let Some((folder, manifest)) = newest else {
        let mut message = format!(
            "{} holds {there} full backups, and none of them is of the cluster and early enough",
            store.uri("")
        );
        for (_, failure) in unreadable {
            message = format!("{message}; {failure}");
        }
        return Err(Failure::new(Reason::NotFound, message));
    };
    info!(folder, revision = manifest.revision, "takes this backup");
    Ok((folder, manifest))
}

/// Full backups, and what is damaged among them.
#[derive(Debug, Default)]
pub(crate) struct Backups {
    /// By folder.
    pub good: Vec<(String, Manifest)>,
    /// Folders whose manifest cannot be read, and why.
    pub unreadable: Vec<(String, Failure)>,
}

/// All full backups of a destination. One whose manifest cannot be read stands in nobody's
/// way; it is told.
///
/// # Errors
/// Of the store.
pub(crate) async fn backups(store: &dyn Store) -> Result<Backups, Failure> {
    let folders = store.folders("").await?;
    manifests(store, folders).await
}

/// Those of `folders` that are full backups.
///
/// # Errors
/// As [`backups`].
pub(crate) async fn manifests(store: &dyn Store, folders: Vec<String>) -> Result<Backups, Failure> {
    let folders = folders
        .into_iter()
        .filter(|folder| layout::check_folder(folder).is_ok());
    let mut loading = stream::iter(folders)
        .map(|folder| async move {
            let manifest = Manifest::load(store, &folder).await;
            (folder, manifest)
        })
        .buffered(AT_ONCE);
    let mut found = Backups::default();
    while let Some((folder, manifest)) = loading.next().await {
        match manifest {
            Ok(Some(manifest)) if manifest.kind == Kind::Snapshot => {
                found.good.push((folder, manifest));
            }
            Ok(_) => {}
            Err(failure)
                if matches!(
                    failure.reason,
                    Reason::Corrupt | Reason::NewerFormat | Reason::TooLarge
                ) =>
            {
                warn!(folder, "passes over a backup: {failure}");
                found.unreadable.push((folder, failure));
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(found)
}
