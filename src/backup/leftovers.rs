//! What runs that died leave in a folder, and how it is found again.
//!
//! An unfinished multipart upload is in no listing of objects, and some stores list them
//! by their exact key only. So an attempt writes a record with the name it is about to
//! upload to before it begins.

use bytes::Bytes;
use tracing::{info, warn};

use super::{
    layout::{self, ATTEMPT},
    manifest::Manifest,
    run::Failure,
    store::{Put, Store},
};

/// Notes that `key` is about to be uploaded to.
///
/// # Errors
/// Of the store.
pub(crate) async fn note(store: &dyn Store, key: &str) -> Result<(), Failure> {
    let record = format!("{key}{ATTEMPT}");
    store
        .put(&record, Bytes::from_static(b"{}\n"), Put::default())
        .await
}

/// Removes the record of an upload that was finished. One that stays does no harm.
pub(crate) async fn settled(store: &dyn Store, key: &str) {
    if let Err(failure) = store.delete(&[format!("{key}{ATTEMPT}")]).await {
        warn!("the record of a finished attempt stays: {failure}");
    }
}

/// Removes from a folder all that its manifest does not name, unfinished uploads
/// included; from one without a manifest, everything. How many objects and uploads.
///
/// # Errors
/// Of the store.
pub(crate) async fn remove(store: &dyn Store, folder: &str) -> Result<(u64, u64), Failure> {
    let entries = store.list(folder).await?;
    let manifest = layout::manifest(folder);
    let kept = match entries.iter().any(|entry| entry.key == manifest) {
        true => Manifest::load(store, folder)
            .await?
            .map(|found| found.key(folder)),
        false => None,
    };
    let mut uploads = 0;
    for entry in &entries {
        if let Some(key) = entry.key.strip_suffix(ATTEMPT) {
            uploads += store.abort_uploads(key).await?;
        }
    }
    let dead: Vec<String> = entries
        .into_iter()
        .map(|entry| entry.key)
        .filter(|key| *key != manifest && Some(key) != kept.as_ref())
        .collect();
    // Records go last: without them an upload is not found again.
    let (records, objects): (Vec<_>, Vec<_>) =
        dead.into_iter().partition(|key| key.ends_with(ATTEMPT));
    store.delete(&objects).await?;
    store.delete(&records).await?;
    let removed = (objects.len() + records.len()) as u64;
    if removed + uploads > 0 {
        info!(
            folder,
            removed, uploads, "removed what an earlier attempt left"
        );
    }
    Ok((removed, uploads))
}
