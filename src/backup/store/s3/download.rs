//! An object that is read piece by piece. Where the connection breaks it goes on from
//! there, as long as the object is still the same.

use std::time::{Duration, Instant};

use aws_sdk_s3::{operation::get_object::GetObjectOutput, primitives::ByteStream};
use futures::{StreamExt as _, stream};
use tracing::warn;

use super::S3Store;
use crate::{
    backup::{
        random::jittered,
        run::{Failure, Reason},
        store::{Download, Store as _},
    },
    causes::causes,
};

/// Pause before a broken connection is made again.
const PAUSE: Duration = Duration::from_secs(1);

struct Reading {
    store: S3Store,
    key: String,
    bytes: u64,
    etag: Option<String>,
    body: Option<ByteStream>,
    offset: u64,
    moved: Instant,
}

/// Opens an object, `None` if there is none.
pub(super) async fn open(store: &S3Store, key: &str) -> Result<Option<Download>, Failure> {
    let answer = match get(store, key, 0, None).await {
        Ok(answer) => answer,
        Err(failure) if failure.reason == Reason::NotFound => return Ok(None),
        Err(failure) => return Err(failure),
    };
    let bytes = u64::try_from(answer.content_length.unwrap_or_default()).unwrap_or(0);
    let reading = Reading {
        store: store.clone(),
        key: key.to_owned(),
        bytes,
        etag: answer.e_tag,
        body: Some(answer.body),
        offset: 0,
        moved: Instant::now(),
    };
    let content = stream::try_unfold(reading, |mut reading| async {
        Ok(reading.next().await?.map(|piece| (piece, reading)))
    });
    Ok(Some(Download {
        bytes,
        content: content.boxed(),
    }))
}

async fn get(
    store: &S3Store,
    key: &str,
    offset: u64,
    etag: Option<&str>,
) -> Result<GetObjectOutput, Failure> {
    let name = store.key(key)?;
    let get = || {
        store
            .client
            .get_object()
            .bucket(&store.bucket)
            .key(&name)
            .set_range((offset > 0).then(|| format!("bytes={offset}-")))
            .set_if_match(etag.map(str::to_owned))
            .send()
    };
    let what = format!("reads {}", store.uri(key));
    store.patience.call(&what, get).await
}

impl Reading {
    async fn next(&mut self) -> Result<Option<bytes::Bytes>, Failure> {
        loop {
            if self.offset >= self.bytes {
                return Ok(None);
            }
            let body = match &mut self.body {
                Some(body) => body,
                None => {
                    let etag = self.etag.clone();
                    let answer = get(&self.store, &self.key, self.offset, etag.as_deref()).await?;
                    self.body.insert(answer.body)
                }
            };
            let why = match body.next().await {
                Some(Ok(piece)) => {
                    self.offset += piece.len() as u64;
                    self.moved = Instant::now();
                    return Ok(Some(piece));
                }
                Some(Err(error)) => causes(&error),
                None => "it ended early".to_owned(),
            };
            self.body = None;
            let place = self.store.uri(&self.key);
            let failure = Failure::new(
                Reason::StoreUnreachable,
                format!(
                    "reads {place}: {why} after {} of {} bytes",
                    self.offset, self.bytes
                ),
            );
            if self.moved.elapsed() >= self.store.patience.limit() {
                return Err(failure);
            }
            warn!("goes on from there: {failure}");
            tokio::time::sleep(jittered(PAUSE)).await;
        }
    }
}
