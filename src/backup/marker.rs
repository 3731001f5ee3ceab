//! Whose a destination is: a small document at its root.
//!
//! It names all IDs the cluster has had, the present one last. A cluster takes a
//! destination over if that last ID is its own or one it was restored from; the cluster
//! it was restored from, should it still live, is then refused.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    layout::{self, DOCUMENT_BYTES_MAX, INCREMENTS, MARKER},
    manifest::{Manifest, ids},
    run::{ClusterRef, Failure, Reason},
    store::{Put, Store},
};

const FORMAT: u32 = 1;
/// Folders that are looked into where the marker is missing.
const LOOK: usize = 16;

/// The document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Marker {
    /// Version of the format.
    pub format_version: u32,
    /// Namespace of the `EtcdCluster` that wrote last.
    pub namespace: String,
    /// Its name.
    pub cluster: String,
    /// Its UID.
    pub uid: String,
    /// All IDs, the present one last.
    #[serde(rename = "clusterIDs")]
    pub cluster_ids: Vec<String>,
    /// When it was written.
    pub written_at: Timestamp,
}

/// What a cluster may do with a destination.
#[derive(Debug, PartialEq, Eq)]
enum Claim {
    /// It is its own.
    Own,
    /// It is, once the marker says so.
    Take(Marker),
}

/// Decides. No store, no clock.
fn claim(found: Option<&Marker>, cluster: &ClusterRef, now: Timestamp) -> Result<Claim, String> {
    let last = found.and_then(|marker| marker.cluster_ids.last());
    if last == Some(&cluster.cluster_id) {
        return Ok(Claim::Own);
    }
    if let Some(marker) = found
        && last.is_none_or(|last| !cluster.lineage.contains(last))
    {
        return Err(format!(
            "holds the backups of {}/{}, cluster {}, and this is cluster {}, which was not restored from it",
            marker.namespace,
            marker.cluster,
            last.map_or("of no ID", String::as_str),
            cluster.cluster_id
        ));
    }
    let mut all = found.map_or_else(Vec::new, |marker| marker.cluster_ids.clone());
    for id in ids(cluster) {
        if !all.contains(&id) {
            all.push(id);
        }
    }
    Ok(Claim::Take(Marker {
        format_version: FORMAT,
        namespace: cluster.namespace.clone(),
        cluster: cluster.name.clone(),
        uid: cluster.uid.clone(),
        cluster_ids: all,
        written_at: now,
    }))
}

impl Marker {
    /// The marker of a destination, if it has one.
    ///
    /// # Errors
    /// Of the store; [`Reason::Corrupt`] or [`Reason::NewerFormat`].
    pub(crate) async fn load(store: &dyn Store) -> Result<Option<Marker>, Failure> {
        let place = store.uri(MARKER);
        let Some(text) = store.read(MARKER, DOCUMENT_BYTES_MAX).await? else {
            return Ok(None);
        };
        let marker: Marker = serde_json::from_slice(&text).map_err(|error| {
            Failure::new(Reason::Corrupt, format!("{place} is damaged: {error}"))
        })?;
        if marker.format_version > FORMAT {
            return Err(Failure::new(
                Reason::NewerFormat,
                format!(
                    "{place} is of format {}, this program reads up to {FORMAT}: use a newer operator",
                    marker.format_version
                ),
            ));
        }
        Ok(Some(marker))
    }

    /// Makes the destination `cluster`'s, or refuses it.
    ///
    /// # Errors
    /// Of the store; [`Reason::ForeignDestination`] if it is another's.
    pub(crate) async fn take(
        store: &dyn Store,
        cluster: &ClusterRef,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let found = Marker::load(store).await?;
        if found.is_none() {
            unmarked(store, cluster).await?;
        }
        let wanted =
            match claim(found.as_ref(), cluster, now).map_err(|why| foreign(store, &why))? {
                Claim::Own => return Ok(()),
                Claim::Take(wanted) => wanted,
            };
        let text = serde_json::to_vec_pretty(&wanted).expect("plain data is JSON");
        let put = Put {
            exclusive: found.is_none(),
            retained: false,
        };
        match store.put(MARKER, text.into(), put).await {
            Ok(()) => Ok(()),
            // Somebody was first; it may have been for the same cluster.
            Err(failure) if failure.reason == Reason::Conflict => {
                Marker::check(store, cluster, now).await
            }
            Err(failure) => Err(failure),
        }
    }

    /// Refuses a destination that is marked as another cluster's. One without a marker is
    /// nobody's.
    ///
    /// # Errors
    /// As [`Marker::take`].
    pub(crate) async fn check(
        store: &dyn Store,
        cluster: &ClusterRef,
        now: Timestamp,
    ) -> Result<(), Failure> {
        match Marker::load(store).await? {
            Some(found) => claim(Some(&found), cluster, now)
                .map(drop)
                .map_err(|why| foreign(store, &why)),
            None => Ok(()),
        }
    }
}

/// A destination that lost its marker may still hold another cluster's backups.
async fn unmarked(store: &dyn Store, cluster: &ClusterRef) -> Result<(), Failure> {
    let mut folders = store.folders("").await?;
    folders.retain(|folder| folder != INCREMENTS && layout::check_folder(folder).is_ok());
    for folder in folders.iter().rev().take(LOOK) {
        if let Some(manifest) = Manifest::load(store, folder).await?
            && !ids(cluster).contains(&manifest.cluster_id)
        {
            return Err(foreign(
                store,
                &format!(
                    "holds a backup of {}/{}, cluster {}, in {folder}, and this is cluster {}, which was not restored \
                     from it",
                    manifest.namespace, manifest.cluster, manifest.cluster_id, cluster.cluster_id
                ),
            ));
        }
    }
    Ok(())
}

fn foreign(store: &dyn Store, why: &str) -> Failure {
    Failure::new(
        Reason::ForeignDestination,
        format!(
            "{} {why}; give each cluster a prefix of its own",
            store.uri("")
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(id: &str, lineage: &[&str]) -> ClusterRef {
        ClusterRef {
            namespace: "ns".to_owned(),
            name: "demo".to_owned(),
            uid: "u".to_owned(),
            cluster_id: id.to_owned(),
            lineage: lineage.iter().map(|id| (*id).to_owned()).collect(),
        }
    }

    fn taken(found: Option<&Marker>, by: &ClusterRef) -> Marker {
        match claim(found, by, Timestamp::UNIX_EPOCH).unwrap() {
            Claim::Take(marker) => marker,
            Claim::Own => panic!("it was {by:?}'s already"),
        }
    }

    #[test]
    fn o29_a_destination_goes_to_those_restored_from_its_backups_and_to_nobody_else() {
        let (a, b, c) = (
            cluster("a", &[]),
            cluster("b", &["a"]),
            cluster("c", &["a", "b"]),
        );
        let marker = taken(None, &a);
        assert_eq!(marker.cluster_ids, ["a"]);
        assert_eq!(
            claim(Some(&marker), &a, Timestamp::UNIX_EPOCH),
            Ok(Claim::Own)
        );
        let why = claim(Some(&marker), &cluster("x", &["y"]), Timestamp::UNIX_EPOCH).unwrap_err();
        assert!(why.contains("ns/demo, cluster a"), "{why}");

        // Restored: the new one takes over, and the old one is refused from then on.
        let marker = taken(Some(&marker), &b);
        assert_eq!(marker.cluster_ids, ["a", "b"]);
        assert!(claim(Some(&marker), &a, Timestamp::UNIX_EPOCH).is_err());
        // Two restored from the same backup: the first to come has it.
        assert!(claim(Some(&marker), &cluster("d", &["a"]), Timestamp::UNIX_EPOCH).is_err());
        assert_eq!(taken(Some(&marker), &c).cluster_ids, ["a", "b", "c"]);
    }
}
