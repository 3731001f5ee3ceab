//! `etcd-operator snapshot`: one full backup.
//!
//! ```text
//! member ─► scratch file ─► examined, hash compared with the member's
//!      └──► compressed ─► encrypted ─► parts ─► store ─► proven ─► manifest
//! ```

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    time::Instant,
};

use bytes::Bytes;
use etcd_proto::etcdserverpb::HashKvResponse;
use futures::future::join_all;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::{
    context::{Context, Scratch},
    fetch::{Expected, fetch, read_back},
    image::{self, Examined},
    keys::{self, Keys},
    layout, leftovers,
    manifest::{self, Encryption, FORMAT, Kind, Manifest, MemberHash},
    marker::Marker,
    member::{Asked, Dialer, Peer, SnapshotStream, choose, hash_kv, snapshot as ask},
    pack::{Packed, Packer, Packing},
    pipe::{self, PartWriter},
    random,
    run::{Artifact, ClusterRef, Failure, Reason, SnapshotReport, SnapshotRun, Stage, Voter},
    store::{self, Store, Uploaded},
    trailer::{TrailerCheck, Whole},
};
use crate::{api::Verification, identity::hex};

/// Pause between two attempts at members of which none was fit, or one failed.
const PAUSE: std::time::Duration = std::time::Duration::from_secs(2);

/// Makes the backup, or finishes with one that is there.
///
/// # Errors
/// Why there is none. Nothing of it is left in the store then that the next attempt does
/// not remove.
pub(crate) async fn run(run: &SnapshotRun, context: &Context) -> Result<SnapshotReport, Failure> {
    layout::check_folder(&run.folder)?;
    let keys = match run.encrypted {
        true => Some(Keys::needed(&context.files)?),
        false => None,
    };
    let store = store::open(&run.destination, context).await?;
    Marker::take(&*store, &run.cluster, Timestamp::now()).await?;
    let job = Job {
        run,
        context,
        store: &*store,
        keys,
    };
    if let Some(found) = Manifest::load(&*store, &run.folder).await? {
        return job.finished(found).await;
    }
    leftovers::remove(&*store, &run.folder).await?;
    let start = Instant::now();
    loop {
        let failure = match job.attempt().await {
            Ok(report) => return Ok(report),
            Err(failure) => failure,
        };
        if let Err(left) = leftovers::remove(&*store, &run.folder).await {
            warn!("a failed attempt leaves something behind: {left}");
        }
        if failure.reason == Reason::Conflict {
            // Another run for the same folder was first: its backup is as good.
            return match Manifest::load(&*store, &run.folder).await? {
                Some(found) => job.finished(found).await,
                None => Err(failure.passing()),
            };
        }
        let again = matches!(
            failure.reason,
            Reason::NoHealthyMember | Reason::MemberFailed
        );
        if !again || start.elapsed() + PAUSE >= context.patience {
            return Err(failure);
        }
        warn!("waits for a member: {failure}");
        context.tracker.trouble(Some(failure));
        tokio::time::sleep(PAUSE).await;
    }
}

struct Job<'a> {
    run: &'a SnapshotRun,
    context: &'a Context,
    store: &'a dyn Store,
    keys: Option<Keys>,
}

/// What a member sent.
struct Taken {
    at: Timestamp,
    whole: Whole,
    packed: Packed,
    examined: Examined,
    member_hash: Option<MemberHash>,
}

impl Job<'_> {
    /// A folder that has a manifest already: an earlier run was killed after its last
    /// step, or its answer was lost.
    async fn finished(&self, found: Manifest) -> Result<SnapshotReport, Failure> {
        let place = self.store.uri(&self.run.folder);
        if found.kind != Kind::Snapshot {
            return Err(Failure::new(
                Reason::Conflict,
                format!("{place} holds exported keys: a folder is never used twice"),
            ));
        }
        found.check_cluster(&manifest::ids(&self.run.cluster), &place)?;
        info!(%place, "is finished already");
        leftovers::remove(self.store, &self.run.folder).await?;
        self.prove(&found, None).await?;
        Ok(self.report(found.artifact(self.store, &self.run.folder)))
    }

    fn report(&self, artifact: Artifact) -> SnapshotReport {
        SnapshotReport {
            artifact,
            verification: self.run.verification,
            verified_at: Timestamp::now(),
        }
    }

    async fn attempt(&self) -> Result<SnapshotReport, Failure> {
        let (run, tracker) = (self.run, &self.context.tracker);
        tracker.stage(Stage::Preparing, None);
        let started_at = Timestamp::now();
        let (peer, version, member_id) =
            pick(&Dialer::new(self.context), &run.voters, &run.cluster).await?;
        let scratch = Scratch::make(self.context.files.scratch().join("snapshot"))?;
        let key = layout::artifact(
            &run.folder,
            "snapshot",
            &random::name(),
            "db",
            run.compression,
            run.encrypted,
        );
        leftovers::note(self.store, &key).await?;
        let image = scratch.path().join("image.db");
        let (taken, uploaded) = self.take(&peer, &key, &image).await?;
        remove(&image)?;
        let manifest = Manifest {
            format_version: FORMAT,
            kind: Kind::Snapshot,
            object: key[run.folder.len() + 1..].to_owned(),
            namespace: run.cluster.namespace.clone(),
            cluster: run.cluster.name.clone(),
            cluster_id: run.cluster.cluster_id.clone(),
            member_id,
            etcd_version: version,
            size_bytes: taken.whole.bytes,
            stored_bytes: taken.packed.bytes,
            sha256: taken.whole.sha256,
            stored_sha256: taken.packed.sha256,
            revision: taken.examined.revision,
            compact_revision: taken.examined.compact_revision,
            total_keys: taken.examined.total_keys,
            kv_hash: taken.examined.kv_hash,
            member_hash: taken.member_hash,
            compression: run.compression,
            encryption: self.keys.as_ref().map(|keys| Encryption {
                format: keys::FORMAT.to_owned(),
                recipient: keys.recipient().to_string(),
            }),
            started_at,
            taken_at: taken.at,
            completed_at: Timestamp::now(),
        };
        self.prove(&manifest, Some(&uploaded)).await?;
        let manifest = Manifest {
            completed_at: Timestamp::now(),
            ..manifest
        };
        manifest.store(self.store, &run.folder).await?;
        leftovers::settled(self.store, &key).await;
        Ok(self.report(manifest.artifact(self.store, &run.folder)))
    }

    /// From the member to the store, and to a file that is looked at before the upload is
    /// ended.
    async fn take(
        &self,
        peer: &Peer,
        key: &str,
        image: &Path,
    ) -> Result<(Taken, Uploaded), Failure> {
        let mut stream = ask(peer).await?;
        let at = Timestamp::now();
        let tracker = &self.context.tracker;
        tracker.stage(Stage::Uploading, Some(stream.bytes));
        let upload = self.store.upload(key, stream.bytes).await?;
        let packing = Packing {
            compression: self.run.compression,
            recipient: self.keys.as_ref().map(Keys::recipient),
        };
        let place = format!("the snapshot of the member at {}", peer.endpoint);
        let (writer, parts) = PartWriter::new(upload.part_bytes());
        let (feed, pieces) = mpsc::channel(16);
        let (path, named) = (image.to_owned(), place.clone());
        let packing =
            tokio::task::spawn_blocking(move || pack(pieces, &path, writer, &packing, &named));
        let (fed, packed, uploaded) = tokio::join!(
            self.feed(&mut stream, feed),
            packing,
            pipe::upload(upload, parts)
        );
        // If the upload failed, the others only say that they were given up.
        let upload = uploaded?;
        let whole = async {
            fed?;
            let (whole, packed) = packed.expect("packing does not panic")?;
            tracker.stage(Stage::Verifying, None);
            let (path, named) = (image.to_owned(), place.clone());
            let examined = blocking(move || image::examine(&path, &named)).await?;
            let member_hash = self.compare(peer, image, &examined, &place).await?;
            Ok(Taken {
                at,
                whole,
                packed,
                examined,
                member_hash,
            })
        };
        let whole = whole.await;
        pipe::settle(upload, whole).await
    }

    async fn feed(
        &self,
        stream: &mut SnapshotStream,
        feed: mpsc::Sender<Option<Bytes>>,
    ) -> Result<(), Failure> {
        while let Some(piece) = stream.piece().await? {
            let bytes = piece.len() as u64;
            if feed.send(Some(piece)).await.is_err() {
                // Whoever packs has failed, and tells why.
                return Ok(());
            }
            self.context.tracker.advance(bytes);
        }
        drop(feed.send(None).await);
        Ok(())
    }

    /// Compares the image with what its member says at its revision. The member may have
    /// compacted since; then that is told too.
    async fn compare(
        &self,
        peer: &Peer,
        path: &Path,
        examined: &Examined,
        place: &str,
    ) -> Result<Option<MemberHash>, Failure> {
        let revision = examined.revision;
        let Some(said) = comparable(peer, revision, examined.compact_revision).await? else {
            return Err(Failure::new(
                Reason::MemberFailed,
                format!(
                    "{place}: it has compacted its history since, so that its hash at revision {revision} is not to be had"
                ),
            ));
        };
        let compacted = said.compact_revision.max(0);
        let (hash, noted) = if compacted > examined.compact_revision {
            let (path, named) = (path.to_owned(), place.to_owned());
            let hash =
                blocking(move || image::hash_compacted(&path, revision, compacted, &named)).await?;
            let noted = MemberHash {
                hash,
                compact_revision: compacted,
            };
            (hash, Some(noted))
        } else {
            (examined.kv_hash, None)
        };
        if said.hash != hash {
            return Err(Failure::new(
                Reason::HashMismatch,
                format!(
                    "{place} has hash {hash:08x} at revision {revision}, and the member says {:08x}: one of the two is \
                     damaged",
                    said.hash
                ),
            ));
        }
        Ok(noted)
    }

    /// Proves what is stored, as asked.
    async fn prove(&self, manifest: &Manifest, uploaded: Option<&Uploaded>) -> Result<(), Failure> {
        let key = manifest.key(&self.run.folder);
        match self.run.verification {
            Verification::Checksum => {
                if let Some(uploaded) = uploaded
                    && let Some(held) = self.store.held(&key).await?
                    && held.bytes == manifest.stored_bytes
                    && held.checksum.as_ref() == Some(&uploaded.checksum)
                {
                    return Ok(());
                }
                read_back(self.store, &key, &manifest.stored_sha256, self.context).await
            }
            Verification::Restore => {
                restored(self.store, &key, manifest, self.keys.clone(), self.context).await
            }
        }
    }
}

/// Restores an artifact into a throw-away store and compares it with its manifest.
///
/// # Errors
/// What is wrong with it.
pub(crate) async fn restored(
    store: &dyn Store,
    key: &str,
    manifest: &Manifest,
    keys: Option<Keys>,
    context: &Context,
) -> Result<(), Failure> {
    let scratch = Scratch::make(context.files.scratch().join("proof"))?;
    let image = scratch.path().join("image.db");
    fetch(store, key, Expected::of(manifest), keys, &image, context).await?;
    context.tracker.stage(Stage::Verifying, None);
    let place = store.uri(key);
    let (dir, named): (PathBuf, _) = (scratch.path().join("store"), place.clone());
    let proven = blocking(move || {
        let mut none = std::iter::empty();
        image::prove(&image, &mut none, None, &dir, &named)
    })
    .await?;
    let expected = (manifest.revision, manifest.total_keys, manifest.kv_hash);
    let found = (proven.revision, proven.total_keys, proven.kv_hash);
    if expected != found {
        return Err(Failure::new(
            Reason::HashMismatch,
            format!(
                "{place} restores to revision {} with {} keys and hash {:08x}, and its manifest says revision {} with {} \
                 keys and hash {:08x}",
                found.0, found.1, found.2, expected.0, expected.1, expected.2
            ),
        ));
    }
    Ok(())
}

/// The member to read from, its version, and its ID in hex.
pub(crate) async fn pick(
    dialer: &Dialer,
    voters: &[Voter],
    cluster: &ClusterRef,
) -> Result<(Peer, String, String), Failure> {
    let asked = join_all(voters.iter().map(|voter| async move {
        let peer = dialer.dial(voter).await;
        let (peer, status) = match peer {
            Ok(peer) => {
                let status = peer.status().await;
                (Some(peer), status)
            }
            Err(failure) => (None, Err(failure)),
        };
        (peer, Asked { voter, status })
    }))
    .await;
    let (peers, asked): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
    let chosen = choose(&asked, &cluster.cluster_id)?;
    let peer = peers.into_iter().nth(chosen).flatten();
    let status = asked.into_iter().nth(chosen).and_then(|it| it.status.ok());
    let (Some(peer), Some(status)) = (peer, status) else {
        unreachable!("a member is chosen for its status");
    };
    let member = status.header.map_or(0, |header| header.member_id);
    info!(
        endpoint = peer.endpoint,
        member = hex(member),
        "reads from this member"
    );
    Ok((peer, status.version, hex(member)))
}

/// A member's hash at `revision` that an image compacted to `compact_revision` can be
/// compared with; `None` if there is none any more.
///
/// Of a revision that was compacted to, members remember the hash from before the
/// compaction. If the store has not moved on, its present hash is the one.
async fn comparable(
    peer: &Peer,
    revision: i64,
    compact_revision: i64,
) -> Result<Option<HashKvResponse>, Failure> {
    let fits = |said: &HashKvResponse| said.compact_revision.max(0) >= compact_revision;
    let Some(said) = hash_kv(peer, revision).await? else {
        return Ok(None);
    };
    if fits(&said) {
        return Ok(Some(said));
    }
    let said = hash_kv(peer, 0).await?;
    Ok(said.filter(|said| {
        let now = said.header.map(|header| header.revision);
        // Since etcd 3.6 it says which revision it hashed.
        let hashed = [0, revision].contains(&said.hash_revision);
        fits(said) && now == Some(revision) && hashed
    }))
}

/// Writes what comes to a file and, packed, to `writer`; checks the trailer.
fn pack(
    mut pieces: mpsc::Receiver<Option<Bytes>>,
    path: &Path,
    writer: PartWriter,
    packing: &Packing,
    place: &str,
) -> Result<(Whole, Packed), Failure> {
    let disk = |error: std::io::Error| Failure::disk("writes", path, &error);
    let given_up =
        |error: std::io::Error| Failure::from_io(&error, Reason::StoreFailed, "packs the snapshot");
    let mut file = File::create(path).map_err(disk)?;
    let mut check = TrailerCheck::default();
    let mut packer = Packer::new(writer, packing).map_err(given_up)?;
    loop {
        match pieces.blocking_recv() {
            Some(Some(piece)) => {
                check.update(&piece);
                file.write_all(&piece).map_err(disk)?;
                packer.write_all(&piece).map_err(given_up)?;
            }
            Some(None) => break,
            None => {
                return Err(Failure::new(
                    Reason::MemberFailed,
                    format!("{place} was given up"),
                ));
            }
        }
    }
    file.flush().map_err(disk)?;
    let whole = check.finish(Reason::MemberFailed, place)?;
    let (writer, packed) = packer.finish().map_err(given_up)?;
    writer.finish().map_err(given_up)?;
    Ok((whole, packed))
}

fn remove(path: &Path) -> Result<(), Failure> {
    std::fs::remove_file(path).map_err(|error| Failure::disk("removes", path, &error))
}

/// Runs what blocks away from the tasks.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .expect("reading an image does not panic")
}

/// Removes what a run that was asked to end leaves.
///
/// # Errors
/// Of the store.
pub(crate) async fn tidy(run: &SnapshotRun, context: &Context) -> Result<(), Failure> {
    let store = store::open(&run.destination, context).await?;
    leftovers::remove(&*store, &run.folder).await.map(drop)
}
