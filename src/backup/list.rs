//! `etcd-operator list`: what a destination holds.

use std::cmp::Reverse;

use super::{
    context::Context,
    fetch::{Expected, read},
    increment::{self, Found, Trailer, check, listed},
    keys::Keys,
    layout::INCREMENTS,
    marker::Marker,
    run::{Failure, ListRun, Listed, Listing, Span},
    source,
    store::{self, Store},
};

/// Lists it.
///
/// # Errors
/// Of the store; what is damaged.
pub(crate) async fn run(run: &ListRun, context: &Context) -> Result<Listing, Failure> {
    let store = store::open(&run.destination, context).await?;
    let keys = Keys::mounted(&context.files)?;
    let marker = Marker::load(&*store).await?;
    let found = source::backups(&*store).await?;
    let mut backups: Vec<Listed> = found
        .good
        .into_iter()
        .map(|(folder, manifest)| Listed {
            folder,
            cluster_id: manifest.cluster_id,
            revision: manifest.revision,
            completed_at: manifest.completed_at,
            stored_bytes: manifest.stored_bytes,
        })
        .collect();
    backups.sort_by_key(|backup| Reverse(backup.completed_at));
    let mut increments = Vec::new();
    for id in store.folders(INCREMENTS).await? {
        let found = listed(store.list(&increment::folder(&id)).await?);
        for stretch in stretches(&found) {
            let (Some(first), Some(last)) = (stretch.first(), stretch.last()) else {
                continue;
            };
            let end = end(&*store, last, keys.clone(), context).await?;
            increments.push(Span {
                cluster_id: id.clone(),
                after_revision: first.after_revision,
                revision: end.revision,
                time: end.time,
            });
        }
    }
    increments.sort_by_key(|span| Reverse(span.time));
    Ok(Listing {
        cluster_id: marker.and_then(|marker| marker.cluster_ids.last().cloned()),
        backups,
        increments,
        unreadable: found
            .unreadable
            .into_iter()
            .map(|(folder, _)| folder)
            .collect(),
        left_off: 0,
    })
}

/// Increments, cut where one begins because those before it are missing.
fn stretches(found: &[Found]) -> impl Iterator<Item = &[Found]> {
    found.chunk_by(|_, next| !next.begins)
}

async fn end(
    store: &dyn Store,
    last: &Found,
    keys: Option<Keys>,
    context: &Context,
) -> Result<Trailer, Failure> {
    let expected = Expected {
        stored_sha256: None,
        plain: None,
    };
    read(store, &last.key, expected, keys, context, |plain, place| {
        check(plain, place).map(|checked| checked.trailer)
    })
    .await
}
