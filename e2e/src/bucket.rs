//! A bucket, looked into and tampered with.

use std::fmt;
use std::sync::Arc;

use anyhow::{Context, Result};
use aws_sdk_s3::config::http::{HttpRequest, HttpResponse};
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials as SdkCredentials, Region, RuntimeComponents, SharedHttpClient,
};
use aws_sdk_s3::error::ConnectorError;
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use aws_sdk_s3::{Client, config};
use aws_smithy_runtime_api::client::http::{
    HttpConnector as SdkConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
    http_client_fn,
};
use bytes::Bytes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::minio::Credentials;

/// A bucket, as its owner sees it.
#[derive(Debug, Clone)]
pub struct Bucket {
    client: Client,
    /// Its name.
    pub name: String,
}

impl Bucket {
    /// Of a store at `endpoint`; no name is chosen yet.
    pub fn new(endpoint: &str, ca: Option<&str>, credentials: &Credentials) -> Bucket {
        let config = config::Builder::new()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .endpoint_url(endpoint)
            .force_path_style(true)
            .credentials_provider(SdkCredentials::new(
                &credentials.id,
                &credentials.secret,
                None,
                None,
                "test",
            ))
            .http_client(http_client(ca))
            .build();
        Bucket {
            client: Client::from_conf(config),
            name: String::new(),
        }
    }

    pub(crate) fn named(&self, name: &str) -> Bucket {
        Bucket {
            client: self.client.clone(),
            name: name.to_owned(),
        }
    }

    /// The names of all buckets.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn buckets(&self) -> Result<Vec<String>> {
        let found = self.client.list_buckets().send().await?;
        let names = found.buckets().iter();
        Ok(names
            .filter_map(|bucket| bucket.name().map(str::to_owned))
            .collect())
    }

    pub(crate) async fn create(&self, locks: bool) -> Result<()> {
        self.client
            .create_bucket()
            .bucket(&self.name)
            .object_lock_enabled_for_bucket(locks)
            .send()
            .await
            .with_context(|| format!("making the bucket {}", self.name))?;
        Ok(())
    }

    /// Keys that begin with `prefix`, in order.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn keys(&self, prefix: &str) -> Result<Vec<String>> {
        let list = self
            .client
            .list_objects_v2()
            .bucket(&self.name)
            .prefix(prefix);
        let mut keys = Vec::new();
        let mut pages = list.into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.with_context(|| format!("listing {prefix}"))?;
            keys.extend(
                page.contents()
                    .iter()
                    .filter_map(|object| object.key().map(str::to_owned)),
            );
        }
        Ok(keys)
    }

    /// An object's bytes.
    ///
    /// # Errors
    /// If there is none.
    pub async fn get(&self, key: &str) -> Result<Vec<u8>> {
        let object = self
            .client
            .get_object()
            .bucket(&self.name)
            .key(key)
            .send()
            .await
            .with_context(|| format!("reading {key}"))?;
        Ok(object.body.collect().await?.to_vec())
    }

    /// Writes an object.
    ///
    /// # Errors
    /// If the store refuses.
    pub async fn put(&self, key: &str, content: impl Into<Bytes>) -> Result<()> {
        self.client
            .put_object()
            .bucket(&self.name)
            .key(key)
            .body(ByteStream::from(content.into()))
            .send()
            .await
            .with_context(|| format!("writing {key}"))?;
        Ok(())
    }

    /// Removes an object.
    ///
    /// # Errors
    /// If the store refuses.
    pub async fn delete(&self, key: &str) -> Result<()> {
        self.client
            .delete_object()
            .bucket(&self.name)
            .key(key)
            .send()
            .await
            .with_context(|| format!("removing {key}"))?;
        Ok(())
    }

    /// Removes the bucket with all that is in it.
    ///
    /// # Errors
    /// If the store refuses.
    pub async fn remove(&self) -> Result<()> {
        for key in self.keys("").await? {
            self.delete(&key).await?;
        }
        self.client
            .delete_bucket()
            .bucket(&self.name)
            .send()
            .await
            .with_context(|| format!("removing the bucket {}", self.name))?;
        Ok(())
    }

    /// Removes a version of an object, which a lock forbids; what the store says to it.
    ///
    /// # Errors
    /// If the object has no version.
    pub async fn destroy(&self, key: &str) -> Result<Result<(), String>> {
        let head = self
            .client
            .head_object()
            .bucket(&self.name)
            .key(key)
            .send()
            .await?;
        let version = head.version_id().context("the bucket keeps no versions")?;
        let destroyed = self
            .client
            .delete_object()
            .bucket(&self.name)
            .key(key)
            .version_id(version)
            .send()
            .await;
        Ok(destroyed
            .map(drop)
            .map_err(|error| aws_sdk_s3::error::DisplayErrorContext(error).to_string()))
    }

    /// What was asked for at the upload of an object: its encryption, and until when it is locked.
    ///
    /// # Errors
    /// If there is none.
    pub async fn head(&self, key: &str) -> Result<(Option<String>, Option<i64>)> {
        let head = self
            .client
            .head_object()
            .bucket(&self.name)
            .key(key)
            .send()
            .await?;
        Ok((
            head.server_side_encryption()
                .map(|sse| sse.as_str().to_owned()),
            head.object_lock_retain_until_date().map(|date| date.secs()),
        ))
    }

    /// Unfinished uploads of exactly this key.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn uploads(&self, key: &str) -> Result<usize> {
        let found = self
            .client
            .list_multipart_uploads()
            .bucket(&self.name)
            .prefix(key)
            .send()
            .await?;
        Ok(found.uploads().len())
    }

    /// Puts what `change` makes of an object in its place.
    ///
    /// # Errors
    /// If there is none, or the store refuses.
    pub async fn tamper(&self, key: &str, change: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        let mut content = self.get(key).await?;
        change(&mut content);
        self.put(key, content).await
    }
}

struct Connector {
    http: HttpClient<HttpsConnector<HttpConnector>, SdkBody>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

impl SdkConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let http = self.http.clone();
        HttpConnectorFuture::new(async move {
            let request = request
                .try_into_http1x()
                .map_err(|error| ConnectorError::user(error.into()))?;
            let response = http
                .request(request)
                .await
                .map_err(|error| ConnectorError::io(error.into()))?;
            HttpResponse::try_from(response.map(SdkBody::from_body_1_x))
                .map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}

fn http_client(ca: Option<&str>) -> SharedHttpClient {
    let mut roots = RootCertStore::empty();
    if let Some(ca) = ca {
        let ca = CertificateDer::from_pem_slice(ca.as_bytes()).expect("an authority's certificate");
        roots.add(ca).expect("an authority's certificate");
    }
    let tls = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("aws-lc-rs knows TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .build();
    let connector = SharedHttpConnector::new(Connector {
        http: HttpClient::builder(TokioExecutor::new()).build(https),
    });
    http_client_fn(move |_: &HttpConnectorSettings, _: &RuntimeComponents| connector.clone())
}
