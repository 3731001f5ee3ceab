//! An object that is written in parts, each with its checksum, a few in flight.

use std::{sync::Arc, time::Duration};

use aws_config::timeout::TimeoutConfig;
use aws_sdk_s3::{
    config,
    primitives::ByteStream,
    types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::FutureExt as _;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;

use super::{S3Store, checksum};
use crate::backup::{
    run::{Failure, Reason},
    store::{Pending, Put, Store as _, Upload, Uploaded},
};

/// The smallest part; S3 takes none below 5 MiB but the last.
const PART_MIN: u64 = 8 << 20;
/// The largest part that is held in memory, a few times over.
const PART_MAX: u64 = 512 << 20;
/// S3 takes 10,000 parts; what is compressed badly may need more than was expected.
const PARTS: u64 = 9_000;
/// Parts under way at a time.
const IN_FLIGHT: usize = 3;
/// Bytes a second below which a part is given up and sent again.
const SLOWEST: u64 = 64 << 10;

/// A multipart upload that begins with its second part: what fits into one is one request.
pub(super) struct S3Upload {
    store: S3Store,
    key: String,
    part_bytes: usize,
    first: Option<Bytes>,
    id: Option<String>,
    sent: i32,
    digest: Sha256,
    flying: JoinSet<Result<CompletedPart, Failure>>,
    /// What any part has waited out.
    trouble: Arc<Mutex<Option<Failure>>>,
    done: Vec<CompletedPart>,
}

impl S3Upload {
    /// Of an object of about `bytes`.
    ///
    /// # Errors
    /// [`Reason::InvalidRun`] for a key that is none.
    pub(super) fn new(store: S3Store, key: &str, bytes: u64) -> Result<S3Upload, Failure> {
        store.key(key)?;
        Ok(S3Upload {
            store,
            key: key.to_owned(),
            part_bytes: part_bytes(bytes),
            first: None,
            id: None,
            sent: 0,
            digest: Sha256::new(),
            flying: JoinSet::new(),
            trouble: Arc::default(),
            done: Vec::new(),
        })
    }

    async fn begin(&mut self) -> Result<(), Failure> {
        let store = &self.store;
        let name = store.key(&self.key)?;
        let (sse, kms) = store.encryption();
        let (lock, until) = store.lock(true);
        let create = || {
            store
                .client
                .create_multipart_upload()
                .bucket(&store.bucket)
                .key(&name)
                .checksum_algorithm(ChecksumAlgorithm::Sha256)
                .set_server_side_encryption(sse.clone())
                .set_ssekms_key_id(kms.clone())
                .set_object_lock_mode(lock.clone())
                .set_object_lock_retain_until_date(until)
                .send()
        };
        let what = format!("begins the upload of {}", store.uri(&self.key));
        let created = store.patience.call(&what, create).await?;
        self.id =
            Some(created.upload_id.ok_or_else(|| {
                Failure::new(Reason::StoreFailed, format!("{what}: it got no ID"))
            })?);
        Ok(())
    }

    /// Puts a part on its way; waits while enough are.
    async fn send(&mut self, content: Bytes) -> Result<(), Failure> {
        while self.flying.len() >= IN_FLIGHT {
            self.landed().await?;
        }
        self.sent += 1;
        let number = self.sent;
        self.digest.update(Sha256::digest(&content));
        let id = self.id.clone().unwrap_or_default();
        let (store, key) = (self.store.clone(), self.key.clone());
        let trouble = self.trouble.clone();
        self.flying
            .spawn(async move { send_part(&store, &key, &id, number, content, &trouble).await });
        Ok(())
    }

    /// Takes in one part that has arrived.
    async fn landed(&mut self) -> Result<(), Failure> {
        if let Some(part) = self.flying.join_next().await {
            self.done.push(part.expect("sending does not panic")?);
        }
        Ok(())
    }

    async fn complete(mut self) -> Result<Uploaded, Failure> {
        let Some(id) = self.id.clone() else {
            let content = self.first.take().unwrap_or_default();
            let put = Put {
                exclusive: false,
                retained: true,
            };
            let checksum = self.store.put_object(&self.key, content, put).await?;
            return Ok(Uploaded { checksum });
        };
        while !self.flying.is_empty() {
            self.landed().await?;
        }
        self.done.sort_by_key(CompletedPart::part_number);
        let expected = format!(
            "{}-{}",
            STANDARD.encode(std::mem::take(&mut self.digest).finalize()),
            self.done.len()
        );
        let store = &self.store;
        let name = store.key(&self.key)?;
        let parts = CompletedMultipartUpload::builder()
            .set_parts(Some(self.done.clone()))
            .build();
        let complete = || {
            store
                .client
                .complete_multipart_upload()
                .bucket(&store.bucket)
                .key(&name)
                .upload_id(&id)
                .multipart_upload(parts.clone())
                .send()
        };
        let place = store.uri(&self.key);
        let what = format!("ends the upload of {place}");
        let told = match store.patience.call(&what, complete).await {
            Ok(done) => done.checksum_sha256,
            // The answer to an earlier attempt was lost: it may have been done.
            Err(failure) if matches!(failure.reason, Reason::Conflict | Reason::NotFound) => {
                match store.held(&self.key).await? {
                    Some(held) if held.checksum.as_ref() == Some(&expected) => held.checksum,
                    _ => return Err(failure),
                }
            }
            Err(failure) => return Err(failure),
        };
        match told {
            Some(told) if told != expected => Err(Failure::new(
                Reason::Corrupt,
                format!("{place} arrived damaged: the store's checksum is {told}, and {expected} was sent"),
            )
            .passing()),
            _ => Ok(Uploaded { checksum: expected }),
        }
    }
}

async fn send_part(
    store: &S3Store,
    key: &str,
    id: &str,
    number: i32,
    content: Bytes,
    trouble: &Mutex<Option<Failure>>,
) -> Result<CompletedPart, Failure> {
    let name = store.key(key)?;
    let checksum = checksum(&content);
    let slow = Duration::from_secs(content.len() as u64 / SLOWEST).max(store.patience.limit() / 4);
    let send = || {
        let limit = TimeoutConfig::builder()
            .operation_attempt_timeout(slow)
            .build();
        store
            .client
            .upload_part()
            .bucket(&store.bucket)
            .key(&name)
            .upload_id(id)
            .part_number(number)
            .checksum_sha256(&checksum)
            .body(ByteStream::from(content.clone()))
            .customize()
            .config_override(config::Builder::new().timeout_config(limit))
            .send()
    };
    let what = format!("writes part {number} of {}", store.uri(key));
    let sent = match store.patience.call_noting(&what, send, trouble).await {
        Ok(sent) => sent,
        // A store whose disk is full may forget the upload over it: what any part waits
        // out is then the cause. If nothing is, somebody else has ended the upload.
        Err(failure) if failure.reason == Reason::Conflict => {
            return Err(trouble.lock().take().unwrap_or(failure));
        }
        Err(failure) => return Err(failure),
    };
    Ok(CompletedPart::builder()
        .part_number(number)
        .set_e_tag(sent.e_tag)
        .checksum_sha256(checksum)
        .build())
}

/// Bytes of a part of an object of about `bytes`.
fn part_bytes(bytes: u64) -> usize {
    let mib = 1 << 20;
    let needed = (bytes / PARTS).div_ceil(mib) * mib;
    usize::try_from(needed.clamp(PART_MIN, PART_MAX)).unwrap_or(usize::MAX)
}

impl Upload for S3Upload {
    fn part_bytes(&self) -> usize {
        self.part_bytes
    }

    fn part(&mut self, content: Bytes) -> Pending<'_, ()> {
        async move {
            match (self.id.is_some(), self.first.take()) {
                (false, None) => {
                    self.first = Some(content);
                    return Ok(());
                }
                (false, Some(first)) => {
                    self.begin().await?;
                    self.send(first).await?;
                }
                (true, _) => {}
            }
            self.send(content).await
        }
        .boxed()
    }

    fn finish(self: Box<Self>) -> Pending<'static, Uploaded> {
        (*self).complete().boxed()
    }

    fn abort(mut self: Box<Self>) -> Pending<'static, ()> {
        async move {
            // A part that arrives after the end of its upload would stay.
            self.flying.shutdown().await;
            match &self.id {
                Some(id) => self.store.abort(&self.key, id).await,
                None => Ok(()),
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_as_small_as_ten_thousand_of_them_allow() {
        assert_eq!(part_bytes(0), 8 << 20);
        assert_eq!(part_bytes(2 << 30), 8 << 20);
        let large = 200_u64 << 30;
        let part = part_bytes(large) as u64;
        assert!(large.div_ceil(part) <= PARTS && part <= 32 << 20, "{part}");
    }
}
