//! A destination in S3, or in a store that speaks it.

mod connect;
mod credentials;
mod download;
mod fault;
mod patience;
mod upload;

use std::time::Duration;

use aws_config::{BehaviorVersion, Region, retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_s3::{
    Client, config,
    primitives::{ByteStream, DateTime},
    types::{ObjectLockMode as SdkLockMode, ServerSideEncryption as SdkEncryption},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};

use super::{Download, Entry, Held, Pending, Put, Store, Upload, address::Allowed};
use crate::{
    api::{
        ObjectLock, ObjectLockMode, S3Destination, ServerSideEncryption, ServerSideEncryptionType,
    },
    backup::{
        context::Context,
        layout::check_key,
        run::{Failure, Reason, files},
    },
};
use credentials::FileCredentials;
use patience::Patience;
use upload::S3Upload;

/// Where a region is needed and the destination names none.
const REGION: &str = "us-east-1";
/// Deletions under way at a time.
const DELETIONS: usize = 8;

/// A bucket.
#[derive(Clone)]
pub(crate) struct S3Store {
    client: Client,
    bucket: String,
    /// Empty, or ends in a slash.
    prefix: String,
    encryption: Option<ServerSideEncryption>,
    lock: Option<ObjectLock>,
    patience: Patience,
}

impl S3Store {
    /// Reads the files it needs. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Reason::InvalidRun`] or [`Reason::EndpointRefused`].
    pub(crate) async fn open(
        destination: &S3Destination,
        context: &Context,
    ) -> Result<S3Store, Failure> {
        let allowed = Allowed {
            network: destination.endpoint_network,
            loopback: context.loopback,
        };
        if let Some(endpoint) = &destination.endpoint {
            connect::check_endpoint(endpoint, allowed)?;
            // The API server checks it too, but this is where it counts.
            if destination.credentials_secret_ref.is_none() {
                return Err(Failure::new(
                    Reason::InvalidRun,
                    "s3.endpoint needs s3.credentialsSecretRef: the pod's own identity is only shown to AWS",
                ));
            }
        }
        let ca = destination
            .ca_secret_ref
            .as_ref()
            .map(|_| context.files.at(files::S3_CA).join(files::CA));
        let roots = connect::roots(ca.as_deref())?;
        let region = Region::new(
            destination
                .region
                .clone()
                .unwrap_or_else(|| REGION.to_owned()),
        );
        // Long enough for a slow store, short enough to try again while patience lasts.
        let attempt = (context.patience / 4).clamp(Duration::from_secs(3), Duration::from_secs(60));
        let mut config = config::Builder::new()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(region.clone())
            // Patience tries again, and sees each failure.
            .retry_config(RetryConfig::disabled())
            .timeout_config(
                TimeoutConfig::builder()
                    .operation_attempt_timeout(attempt)
                    .build(),
            )
            // What is read is compared with the manifest, whose digests are of the whole.
            .response_checksum_validation(config::ResponseChecksumValidation::WhenRequired)
            .force_path_style(destination.force_path_style)
            .http_client(connect::client(roots, Some(allowed)));
        config.set_endpoint_url(destination.endpoint.clone());
        let files = match destination.credentials_secret_ref {
            Some(_) => {
                let files = FileCredentials::open(context.files.at(files::S3_CREDENTIALS))?;
                config = config
                    .credentials_provider(files.clone())
                    .identity_cache(config::IdentityCache::no_cache());
                Some(files)
            }
            None => {
                config.set_credentials_provider(ambient(region).await?);
                None
            }
        };
        Ok(S3Store {
            client: Client::from_conf(config.build()),
            bucket: destination.bucket.clone(),
            prefix: match destination.prefix.as_deref() {
                None | Some("") => String::new(),
                Some(prefix) => format!("{prefix}/"),
            },
            encryption: destination.server_side_encryption.clone(),
            lock: destination.object_lock.clone(),
            patience: Patience::new(context, files),
        })
    }

    fn key(&self, key: &str) -> Result<String, Failure> {
        check_key(key)?;
        Ok(format!("{}{key}", self.prefix))
    }

    /// What a folder's keys begin with.
    fn folder(&self, folder: &str) -> Result<String, Failure> {
        match folder {
            "" => Ok(self.prefix.clone()),
            folder => Ok(format!("{}/", self.key(folder)?)),
        }
    }

    fn encryption(&self) -> (Option<SdkEncryption>, Option<String>) {
        match &self.encryption {
            None => (None, None),
            Some(encryption) => match encryption.kind {
                ServerSideEncryptionType::AES256 => (Some(SdkEncryption::Aes256), None),
                ServerSideEncryptionType::KMS => {
                    (Some(SdkEncryption::AwsKms), encryption.kms_key_id.clone())
                }
            },
        }
    }

    fn lock(&self, retained: bool) -> (Option<SdkLockMode>, Option<DateTime>) {
        let Some(lock) = self.lock.as_ref().filter(|_| retained) else {
            return (None, None);
        };
        let mode = match lock.mode {
            ObjectLockMode::Governance => SdkLockMode::Governance,
            ObjectLockMode::Compliance => SdkLockMode::Compliance,
        };
        let until = Timestamp::now() + SignedDuration::from_hours(24 * i64::from(lock.days));
        (Some(mode), Some(DateTime::from_secs(until.as_second())))
    }

    /// Writes an object in one request.
    async fn put_object(&self, key: &str, content: Bytes, put: Put) -> Result<String, Failure> {
        let name = self.key(key)?;
        let what = format!("writes {}", self.uri(key));
        let checksum = checksum(&content);
        let (sse, kms) = self.encryption();
        let (lock, until) = self.lock(put.retained);
        let send = |exclusive: bool| {
            self.client
                .put_object()
                .bucket(&self.bucket)
                .key(&name)
                .checksum_sha256(&checksum)
                .set_server_side_encryption(sse.clone())
                .set_ssekms_key_id(kms.clone())
                .set_object_lock_mode(lock.clone())
                .set_object_lock_retain_until_date(until)
                .set_if_none_match(exclusive.then(|| "*".to_owned()))
                .body(ByteStream::from(content.clone()))
                .send()
        };
        let sent = self.patience.call(&what, || send(put.exclusive)).await;
        match sent {
            // A store that knows no conditions: whoever wants one has looked before.
            Err(failure) if put.exclusive && failure.reason == Reason::Unsupported => {
                self.patience.call(&what, || send(false)).await?;
            }
            // An answer was lost, and what is there now was written by the first attempt.
            Err(failure) if put.exclusive && failure.reason == Reason::Conflict => {
                let there = self.read(key, content.len() as u64).await;
                if there.ok().flatten().as_ref() != Some(&content) {
                    return Err(failure);
                }
            }
            other => drop(other?),
        }
        Ok(checksum)
    }
}

/// SHA-256 as S3 writes it.
fn checksum(content: &[u8]) -> String {
    STANDARD.encode(Sha256::digest(content))
}

/// Whatever identity the pod has: of its service account, its node, or none.
async fn ambient(region: Region) -> Result<Option<config::SharedCredentialsProvider>, Failure> {
    let config = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .region(region)
        .http_client(connect::client(connect::roots(None)?, None))
        .load()
        .await;
    Ok(config.credentials_provider())
}

impl Store for S3Store {
    fn uri(&self, key: &str) -> String {
        let uri = format!("s3://{}/{}{key}", self.bucket, self.prefix);
        uri.trim_end_matches('/').to_owned()
    }

    fn put<'a>(&'a self, key: &'a str, content: Bytes, put: Put) -> Pending<'a, ()> {
        async move { self.put_object(key, content, put).await.map(drop) }.boxed()
    }

    fn upload<'a>(&'a self, key: &'a str, bytes: u64) -> Pending<'a, Box<dyn Upload>> {
        async move {
            let upload = S3Upload::new(self.clone(), key, bytes)?;
            Ok(Box::new(upload) as Box<dyn Upload>)
        }
        .boxed()
    }

    fn read<'a>(&'a self, key: &'a str, limit: u64) -> Pending<'a, Option<Bytes>> {
        async move {
            let Some(download) = self.download(key).await? else {
                return Ok(None);
            };
            if download.bytes > limit {
                return Err(Failure::new(
                    Reason::TooLarge,
                    format!("{} is longer than {limit} bytes", self.uri(key)),
                ));
            }
            let pieces: Vec<Bytes> = download.content.try_collect().await?;
            Ok(Some(pieces.concat().into()))
        }
        .boxed()
    }

    fn download<'a>(&'a self, key: &'a str) -> Pending<'a, Option<Download>> {
        async move { download::open(self, key).await }.boxed()
    }

    fn held<'a>(&'a self, key: &'a str) -> Pending<'a, Option<Held>> {
        async move {
            let name = self.key(key)?;
            let head = || {
                self.client
                    .head_object()
                    .bucket(&self.bucket)
                    .key(&name)
                    .checksum_mode(aws_sdk_s3::types::ChecksumMode::Enabled)
                    .send()
            };
            match self
                .patience
                .call(&format!("looks at {}", self.uri(key)), head)
                .await
            {
                Ok(head) => Ok(Some(Held {
                    bytes: u64::try_from(head.content_length.unwrap_or_default()).unwrap_or(0),
                    checksum: head.checksum_sha256,
                })),
                Err(failure) if failure.reason == Reason::NotFound => Ok(None),
                Err(failure) => Err(failure),
            }
        }
        .boxed()
    }

    fn list<'a>(&'a self, folder: &'a str) -> Pending<'a, Vec<Entry>> {
        async move {
            let (entries, _) = self.pages(folder, None).await?;
            Ok(entries)
        }
        .boxed()
    }

    fn folders<'a>(&'a self, folder: &'a str) -> Pending<'a, Vec<String>> {
        async move {
            let (_, folders) = self.pages(folder, Some("/")).await?;
            Ok(folders)
        }
        .boxed()
    }

    fn delete<'a>(&'a self, keys: &'a [String]) -> Pending<'a, ()> {
        let one = async move |key: &'a String| {
            let name = self.key(key)?;
            let delete = || {
                self.client
                    .delete_object()
                    .bucket(&self.bucket)
                    .key(&name)
                    .send()
            };
            let what = format!("removes {}", self.uri(key));
            match self.patience.call(&what, delete).await {
                Err(failure) if failure.reason != Reason::NotFound => Err(failure),
                _ => Ok(()),
            }
        };
        stream::iter(keys.iter().map(one))
            .buffer_unordered(DELETIONS)
            .try_collect::<()>()
            .boxed()
    }

    fn abort_uploads<'a>(&'a self, key: &'a str) -> Pending<'a, u64> {
        async move {
            let name = self.key(key)?;
            let what = format!("looks for unfinished uploads of {}", self.uri(key));
            let list = || {
                self.client
                    .list_multipart_uploads()
                    .bucket(&self.bucket)
                    .prefix(&name)
                    .send()
            };
            let found = self.patience.call(&what, list).await?;
            let mut aborted = 0;
            for upload in found.uploads() {
                if let (Some(there), Some(id)) = (upload.key(), upload.upload_id())
                    && there == name
                {
                    self.abort(key, id).await?;
                    aborted += 1;
                }
            }
            Ok(aborted)
        }
        .boxed()
    }
}

impl S3Store {
    /// Gives one upload up.
    async fn abort(&self, key: &str, id: &str) -> Result<(), Failure> {
        let name = self.key(key)?;
        let abort = || {
            self.client
                .abort_multipart_upload()
                .bucket(&self.bucket)
                .key(&name)
                .upload_id(id)
                .send()
        };
        let what = format!("gives up the upload of {}", self.uri(key));
        match self.patience.call(&what, abort).await {
            Ok(_) => Ok(()),
            // It is gone already.
            Err(failure) if matches!(failure.reason, Reason::NotFound | Reason::Conflict) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// All pages of a listing: objects, and folders if there is a delimiter.
    async fn pages(
        &self,
        folder: &str,
        delimiter: Option<&str>,
    ) -> Result<(Vec<Entry>, Vec<String>), Failure> {
        let below = self.folder(folder)?;
        let what = format!("lists {}", self.uri(folder));
        let (mut entries, mut folders) = (Vec::new(), Vec::new());
        let mut next: Option<String> = None;
        loop {
            let list = || {
                self.client
                    .list_objects_v2()
                    .bucket(&self.bucket)
                    .prefix(&below)
                    .set_delimiter(delimiter.map(str::to_owned))
                    .set_continuation_token(next.clone())
                    .send()
            };
            let page = self.patience.call(&what, list).await?;
            for object in page.contents() {
                // A key equal to the prefix is a placeholder that some tools make for a folder.
                if let Some(key) = object.key().and_then(|key| key.strip_prefix(&self.prefix))
                    && !key.is_empty()
                    && !key.ends_with('/')
                {
                    entries.push(Entry {
                        key: key.to_owned(),
                        bytes: u64::try_from(object.size().unwrap_or_default()).unwrap_or(0),
                    });
                }
            }
            for found in page.common_prefixes() {
                if let Some(name) = found.prefix().and_then(|name| name.strip_prefix(&below)) {
                    folders.push(name.trim_end_matches('/').to_owned());
                }
            }
            match page.next_continuation_token {
                // A token that comes again would never end.
                Some(token) if page.is_truncated == Some(true) && next.as_ref() != Some(&token) => {
                    next = Some(token);
                }
                _ => break,
            }
        }
        folders.sort();
        Ok((entries, folders))
    }
}
