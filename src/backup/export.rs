//! `etcd-operator export`: the keys below a prefix, at one revision, into a folder.

use std::time::Duration;

use bytes::Bytes;
use etcd_proto::{etcdserverpb::RangeRequest, mvccpb::KeyValue};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tonic::Code;

use super::{
    context::Context,
    digest::Digesting,
    keyfile::KeyWriter,
    keys::{self, Keys},
    layout, leftovers,
    manifest::{self, Encryption, FORMAT, Kind, Manifest},
    marker::Marker,
    member::{Dialer, Peer, refused},
    pack::{Packed, Packer, Packing},
    pipe::{self, PartWriter},
    random,
    run::{ExportReport, ExportRun, Failure, Reason, Stage},
    snapshot::pick,
    store::{self, Store},
};

/// Keys that are read at a time.
const PAGE: i64 = 500;
const CALL: Duration = Duration::from_secs(60);

/// Exports, or finishes with an export that is there.
///
/// # Errors
/// Why there is none.
pub(crate) async fn run(run: &ExportRun, context: &Context) -> Result<ExportReport, Failure> {
    layout::check_folder(&run.folder)?;
    let keys = match run.encrypted {
        true => Some(Keys::needed(&context.files)?),
        false => None,
    };
    let store = store::open(&run.destination, context).await?;
    Marker::take(&*store, &run.cluster, Timestamp::now()).await?;
    if let Some(found) = Manifest::load(&*store, &run.folder).await? {
        return finished(&*store, run, &found);
    }
    leftovers::remove(&*store, &run.folder).await?;
    let done = export(run, keys, &*store, context).await;
    if done.is_err()
        && let Err(left) = leftovers::remove(&*store, &run.folder).await
    {
        tracing::warn!("a failed attempt leaves something behind: {left}");
    }
    done
}

fn finished(store: &dyn Store, run: &ExportRun, found: &Manifest) -> Result<ExportReport, Failure> {
    let place = store.uri(&run.folder);
    if found.kind != Kind::Export {
        return Err(Failure::new(
            Reason::Conflict,
            format!("{place} holds a full backup: a folder is never used twice"),
        ));
    }
    found.check_cluster(&manifest::ids(&run.cluster), &place)?;
    Ok(report(store, run, found))
}

fn report(store: &dyn Store, run: &ExportRun, made: &Manifest) -> ExportReport {
    ExportReport {
        uri: store.uri(&made.key(&run.folder)),
        revision: made.revision,
        keys: made.total_keys,
        stored_bytes: made.stored_bytes,
        stored_sha256: made.stored_sha256.clone(),
    }
}

async fn export(
    run: &ExportRun,
    keys: Option<Keys>,
    store: &dyn Store,
    context: &Context,
) -> Result<ExportReport, Failure> {
    let started_at = Timestamp::now();
    let dialer = Dialer::new(context);
    let (peer, version, member_id) = pick(&dialer, &run.voters, &run.cluster).await?;
    let mut pages = Pages::open(peer, &run.prefix, run.revision).await?;
    let (revision, taken_at) = (pages.revision, Timestamp::now());
    context.tracker.stage(Stage::Copying, None);
    let key = layout::artifact(
        &run.folder,
        "export",
        &random::name(),
        "keys",
        run.compression,
        run.encrypted,
    );
    leftovers::note(store, &key).await?;
    let packing = Packing {
        compression: run.compression,
        recipient: keys.as_ref().map(Keys::recipient),
    };
    let upload = store.upload(&key, 0).await?;
    let (writer, parts) = PartWriter::new(upload.part_bytes());
    let (feed, pieces) = mpsc::channel(4);
    let prefix = run.prefix.clone();
    let packed =
        tokio::task::spawn_blocking(move || pack(pieces, writer, &packing, &prefix, revision));
    let fed = async {
        while let Some(page) = pages.next().await? {
            let bytes: usize = page.iter().map(|kv| kv.key.len() + kv.value.len()).sum();
            if feed.send(Some(page)).await.is_err() {
                // Whoever packs has failed, and tells why.
                return Ok(());
            }
            context.tracker.advance(bytes as u64);
        }
        drop(feed.send(None).await);
        drop(feed);
        Ok::<(), Failure>(())
    };
    let (fed, packed, uploaded) = tokio::join!(fed, packed, pipe::upload(upload, parts));
    let upload = uploaded?;
    let whole = fed.and_then(|()| packed.expect("packing does not panic"));
    let (made, _) = pipe::settle(upload, whole).await?;
    let manifest = Manifest {
        format_version: FORMAT,
        kind: Kind::Export,
        object: key[run.folder.len() + 1..].to_owned(),
        namespace: run.cluster.namespace.clone(),
        cluster: run.cluster.name.clone(),
        cluster_id: run.cluster.cluster_id.clone(),
        member_id,
        etcd_version: version,
        size_bytes: made.plain_bytes,
        stored_bytes: made.packed.bytes,
        sha256: made.plain_sha256,
        stored_sha256: made.packed.sha256,
        revision,
        compact_revision: 0,
        total_keys: made.keys,
        kv_hash: 0,
        member_hash: None,
        compression: run.compression,
        encryption: keys.as_ref().map(|keys| Encryption {
            format: keys::FORMAT.to_owned(),
            recipient: keys.recipient().to_string(),
        }),
        started_at,
        taken_at,
        completed_at: Timestamp::now(),
    };
    manifest.store(store, &run.folder).await?;
    leftovers::settled(store, &key).await;
    Ok(report(store, run, &manifest))
}

struct Made {
    keys: u64,
    plain_bytes: u64,
    plain_sha256: String,
    packed: Packed,
}

fn pack(
    mut pages: mpsc::Receiver<Option<Vec<KeyValue>>>,
    writer: PartWriter,
    packing: &Packing,
    prefix: &str,
    revision: i64,
) -> Result<Made, Failure> {
    let given_up =
        |error: std::io::Error| Failure::from_io(&error, Reason::StoreFailed, "packs the export");
    let packer = Packer::new(writer, packing).map_err(given_up)?;
    let plain = Digesting::new(packer);
    let mut file = KeyWriter::new(plain, prefix, revision).map_err(given_up)?;
    loop {
        match pages.blocking_recv() {
            Some(Some(page)) => file.keys(&page).map_err(given_up)?,
            Some(None) => break,
            None => {
                return Err(Failure::new(
                    Reason::MemberFailed,
                    "the export was given up",
                ));
            }
        }
    }
    let (plain, keys) = file.finish().map_err(given_up)?;
    let (packer, plain_bytes, plain_sha256) = plain.finish();
    let (writer, packed) = packer.finish().map_err(given_up)?;
    writer.finish().map_err(given_up)?;
    Ok(Made {
        keys,
        plain_bytes,
        plain_sha256,
        packed,
    })
}

/// The keys below a prefix, page by page, all at one revision.
struct Pages {
    peer: Peer,
    next: Bytes,
    end: Bytes,
    revision: i64,
    first: Option<Vec<KeyValue>>,
    more: bool,
}

impl Pages {
    /// Reads the first page, and with it the revision if none is asked for.
    async fn open(peer: Peer, prefix: &str, revision: Option<i64>) -> Result<Pages, Failure> {
        let (next, end) = match prefix {
            "" => (Bytes::from_static(b"\0"), Bytes::from_static(b"\0")),
            prefix => (
                Bytes::copy_from_slice(prefix.as_bytes()),
                prefix_end(prefix.as_bytes()),
            ),
        };
        let mut pages = Pages {
            peer,
            next,
            end,
            revision: revision.unwrap_or_default(),
            first: None,
            more: true,
        };
        pages.first = Some(pages.read().await?);
        Ok(pages)
    }

    async fn next(&mut self) -> Result<Option<Vec<KeyValue>>, Failure> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        match self.more {
            true => self.read().await.map(Some),
            false => Ok(None),
        }
    }

    async fn read(&mut self) -> Result<Vec<KeyValue>, Failure> {
        let mut request = tonic::Request::new(RangeRequest {
            key: self.next.clone(),
            range_end: self.end.clone(),
            limit: PAGE,
            revision: self.revision,
            ..RangeRequest::default()
        });
        request.set_timeout(CALL);
        let answer = match self.peer.kv().range(request).await {
            Ok(answer) => answer.into_inner(),
            Err(status) if status.code() == Code::OutOfRange => {
                return Err(Failure::new(
                    Reason::TargetOutOfReach,
                    format!("revision {}: {}", self.revision, status.message()),
                ));
            }
            Err(status) => return Err(refused("reads keys", &self.peer.endpoint, &status)),
        };
        if self.revision == 0 {
            self.revision = answer.header.unwrap_or_default().revision;
        }
        self.more = answer.more;
        if let Some(last) = answer.kvs.last() {
            self.next = [&last.key[..], b"\0"].concat().into();
        }
        Ok(answer.kvs)
    }
}

/// The smallest key that is greater than every key with this prefix.
pub(crate) fn prefix_end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end.into();
        }
    }
    Bytes::from_static(b"\0")
}
