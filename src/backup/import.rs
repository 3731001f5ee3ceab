//! `etcd-operator import`: keys below a prefix, of a full backup or of an export, into a
//! running cluster.
//!
//! All keys are read and found whole before the first is written; they wait in a file of
//! the scratch volume. A run that was cut off is done again: a key that is there already
//! with the very value is no obstacle.

use std::{
    fs::File,
    io::{BufReader, BufWriter, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use etcd_proto::{
    etcdserverpb::{
        Compare, PutRequest, RangeRequest, RequestOp, TxnRequest, TxnResponse,
        compare::{CompareResult, CompareTarget, TargetUnion},
        request_op::Request,
        response_op::Response,
    },
    mvccpb::KeyValue,
};

use tokio::sync::mpsc;

use super::{
    context::{Context, Scratch},
    export::prefix_end,
    fetch::{self, Expected},
    image,
    increment::ChangeFiles,
    keyfile::{self, KeyWriter},
    keys::Keys,
    manifest::{Kind, Manifest},
    member::{Dialer, Peer, refused},
    run::{Existing, Failure, ImportReport, ImportRun, Reason, Source, Stage},
    snapshot::{blocking, pick},
    source::prepare,
    store,
};

/// Keys of a transaction; etcd takes 128 operations.
const BATCH: usize = 100;
/// Bytes of a transaction; etcd takes 1.5 MiB.
const BATCH_BYTES: usize = 512 << 10;
/// Keys of a page that is read from a restored store.
const PAGE: i64 = 1000;
const CALL: Duration = Duration::from_secs(60);

/// Imports.
///
/// # Errors
/// [`Reason::KeysExist`] before anything is written; what is wrong with the source; of
/// the cluster.
pub(crate) async fn run(run: &ImportRun, context: &Context) -> Result<ImportReport, Failure> {
    let scratch = Scratch::make(context.files.scratch().join("import"))?;
    let file = scratch.path().join("keys");
    collect(run, &file, &scratch, context).await?;
    context.tracker.stage(Stage::Copying, None);
    let dialer = Dialer::new(context);
    let (peer, _, _) = pick(&dialer, &run.voters, &run.cluster).await?;
    let target = Target {
        peer,
        existing: run.existing,
    };
    let mut report = ImportReport {
        written: 0,
        kept: 0,
        without_lease: 0,
        revision: 0,
    };
    if run.existing == Existing::Refuse {
        let mut batches = Batches::open(run, &file).await?;
        while let Some(batch) = batches.next().await? {
            target.check(&batch).await?;
        }
    }
    let mut batches = Batches::open(run, &file).await?;
    while let Some(batch) = batches.next().await? {
        target.write(&batch, &mut report).await?;
        let bytes: usize = batch.iter().map(size).sum();
        context.tracker.advance(bytes as u64);
    }
    Ok(report)
}

/// Puts the keys that are meant into `file`, once all of the source was found whole.
async fn collect(
    run: &ImportRun,
    file: &Path,
    scratch: &Scratch,
    context: &Context,
) -> Result<(), Failure> {
    let (to, prefix) = (file.to_owned(), run.prefix.clone());
    if let Source::Backup(source) = &run.source
        && let Some(folder) = &source.folder
    {
        let store = store::open(&source.destination, context).await?;
        if let Some(found) = Manifest::load(&*store, folder).await?
            && found.kind == Kind::Export
        {
            if source.target.is_some() {
                return Err(Failure::new(
                    Reason::InvalidRun,
                    format!(
                        "source.backup.target: {folder} holds exported keys, which have one revision only"
                    ),
                ));
            }
            found.check_cluster(&source.cluster_ids, &store.uri(folder))?;
            let keys = Keys::mounted(&context.files)?;
            let (key, expected) = (found.key(folder), Expected::of(&found));
            return fetch::read(
                &*store,
                &key,
                expected,
                keys,
                context,
                move |plain, place| {
                    let mut writer = Collected::new(to, prefix)?;
                    keyfile::read(plain, place, &mut |keys| writer.add(keys))?;
                    writer.finish()
                },
            )
            .await;
        }
    }
    let prepared = prepare(&run.source, scratch.path(), context).await?;
    context.tracker.stage(Stage::Verifying, None);
    let member = scratch.path().join("member");
    blocking(move || {
        let mut changes = ChangeFiles::new(prepared.changes());
        let told = image::nobody(prepared.revision());
        image::make(
            &prepared.image,
            &mut changes,
            &member,
            &told,
            &prepared.place,
        )?;
        let view = image::view(&member, &prepared.place)?;
        let mut writer = Collected::new(to, prefix.clone())?;
        let end = prefix_end(prefix.as_bytes());
        let mut next = match prefix.as_str() {
            "" => Bytes::from_static(b"\0"),
            prefix => Bytes::copy_from_slice(prefix.as_bytes()),
        };
        loop {
            let request = RangeRequest {
                key: next.clone(),
                range_end: end.clone(),
                limit: PAGE,
                ..RangeRequest::default()
            };
            let page = view
                .range(&request)
                .map_err(|error| image::unread(&prepared.place, &error))?;
            let Some(last) = page.kvs.last() else {
                break;
            };
            next = [&last.key[..], b"\0"].concat().into();
            let more = page.more;
            writer.add(page.kvs)?;
            if !more {
                break;
            }
        }
        writer.finish()
    })
    .await
}

/// Keys on their way into a file.
struct Collected {
    path: PathBuf,
    prefix: String,
    writer: KeyWriter<BufWriter<File>>,
}

impl Collected {
    fn new(path: PathBuf, prefix: String) -> Result<Collected, Failure> {
        let disk = |error: std::io::Error| Failure::disk("writes", &path, &error);
        let file = File::create(&path).map_err(disk)?;
        let writer = KeyWriter::new(BufWriter::new(file), &prefix, 0).map_err(disk)?;
        Ok(Collected {
            path,
            prefix,
            writer,
        })
    }

    fn add(&mut self, mut keys: Vec<KeyValue>) -> Result<(), Failure> {
        keys.retain(|kv| kv.key.starts_with(self.prefix.as_bytes()) && !kv.key.is_empty());
        self.writer
            .keys(&keys)
            .map_err(|error| Failure::disk("writes", &self.path, &error))
    }

    fn finish(self) -> Result<(), Failure> {
        let disk = |error: std::io::Error| Failure::disk("writes", &self.path, &error);
        let (mut out, _) = self.writer.finish().map_err(disk)?;
        out.flush().map_err(disk)
    }
}

/// Keys as they are to be written, in batches, read on a thread of their own.
struct Batches {
    batches: mpsc::Receiver<Result<Vec<KeyValue>, Failure>>,
}

impl Batches {
    async fn open(run: &ImportRun, file: &Path) -> Result<Batches, Failure> {
        let (sender, batches) = mpsc::channel(4);
        let (path, from) = (file.to_owned(), run.prefix.len());
        let into = run.into.clone();
        let open = blocking({
            let path = path.clone();
            move || File::open(&path).map_err(|error| Failure::disk("opens", &path, &error))
        })
        .await?;
        tokio::task::spawn_blocking(move || {
            let mut batch = Vec::new();
            let mut bytes = 0;
            let place = path.display().to_string();
            let send = |batch: Vec<KeyValue>| {
                sender
                    .blocking_send(Ok(batch))
                    .map_err(|_| Failure::new(Reason::Cancelled, "nobody writes"))
            };
            let read = keyfile::read(&mut BufReader::new(open), &place, &mut |keys| {
                for mut kv in keys {
                    if let Some(into) = &into {
                        kv.key = [into.as_bytes(), &kv.key[from..]].concat().into();
                    }
                    if batch.len() >= BATCH || bytes + size(&kv) > BATCH_BYTES && !batch.is_empty()
                    {
                        send(std::mem::take(&mut batch))?;
                        bytes = 0;
                    }
                    bytes += size(&kv);
                    batch.push(kv);
                }
                Ok(())
            });
            let read = read.and_then(|_| match batch.is_empty() {
                true => Ok(()),
                false => send(batch),
            });
            if let Err(failure) = read {
                // Nobody may be left to hear it.
                drop(sender.blocking_send(Err(failure)));
            }
        });
        Ok(Batches { batches })
    }

    async fn next(&mut self) -> Result<Option<Vec<KeyValue>>, Failure> {
        self.batches.recv().await.transpose()
    }
}

fn size(kv: &KeyValue) -> usize {
    kv.key.len() + kv.value.len() + 64
}

/// The cluster that is written to.
struct Target {
    peer: Peer,
    existing: Existing,
}

impl Target {
    /// Refuses if a key is there with another value.
    async fn check(&self, batch: &[KeyValue]) -> Result<(), Failure> {
        let ranges = batch.iter().map(|kv| {
            operation(Request::RequestRange(RangeRequest {
                key: kv.key.clone(),
                ..RangeRequest::default()
            }))
        });
        let answer = self.txn(ranges.collect()).await?;
        for (kv, response) in batch.iter().zip(answer.responses) {
            let Some(Response::ResponseRange(range)) = response.response else {
                continue;
            };
            if range.kvs.iter().any(|found| found.value != kv.value) {
                return Err(exists(kv));
            }
        }
        Ok(())
    }

    async fn write(&self, batch: &[KeyValue], report: &mut ImportReport) -> Result<(), Failure> {
        let operations = batch.iter().map(|kv| {
            let put = operation(Request::RequestPut(PutRequest {
                key: kv.key.clone(),
                value: kv.value.clone(),
                ..PutRequest::default()
            }));
            match self.existing {
                Existing::Overwrite => put,
                // Only where nothing is; what was looked at before may have changed.
                Existing::Keep | Existing::Refuse => operation(Request::RequestTxn(TxnRequest {
                    compare: vec![absent(kv.key.clone())],
                    success: vec![put],
                    failure: Vec::new(),
                })),
            }
        });
        let answer = self.txn(operations.collect()).await?;
        report.revision = answer.header.unwrap_or_default().revision;
        for (kv, response) in batch.iter().zip(answer.responses) {
            let written = match response.response {
                Some(Response::ResponseTxn(txn)) => txn.succeeded,
                _ => true,
            };
            match written {
                true => {
                    report.written += 1;
                    report.without_lease += u64::from(kv.lease != 0);
                }
                false => report.kept += 1,
            }
        }
        Ok(())
    }

    async fn txn(&self, success: Vec<RequestOp>) -> Result<TxnResponse, Failure> {
        let mut request = tonic::Request::new(TxnRequest {
            compare: Vec::new(),
            success,
            failure: Vec::new(),
        });
        request.set_timeout(CALL);
        match self.peer.kv().txn(request).await {
            Ok(answer) => Ok(answer.into_inner()),
            Err(status) => Err(refused("writes keys", &self.peer.endpoint, &status)),
        }
    }
}

fn exists(kv: &KeyValue) -> Failure {
    Failure::new(
        Reason::KeysExist,
        format!(
            "the key {:?} exists with another value; nothing was written. existing Keep or Overwrite says what is to become \
             of such keys",
            String::from_utf8_lossy(&kv.key)
        ),
    )
}

fn operation(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

fn absent(key: Bytes) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Version.into(),
        key,
        range_end: Bytes::new(),
        target_union: Some(TargetUnion::Version(0)),
    }
}
