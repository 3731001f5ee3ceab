//! The headers by which members know each other, and what is checked of them.

use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::config::{MinorVersion, PeerConfig};
use super::error::RequestError;

pub(super) const SERVER_FROM: HeaderName = HeaderName::from_static("x-server-from");
pub(super) const SERVER_VERSION: HeaderName = HeaderName::from_static("x-server-version");
pub(super) const MIN_CLUSTER_VERSION: HeaderName = HeaderName::from_static("x-min-cluster-version");
pub(super) const CLUSTER_ID: HeaderName = HeaderName::from_static("x-etcd-cluster-id");
pub(super) const PEER_URLS: HeaderName = HeaderName::from_static("x-peerurls");
pub(super) const RAFT_TO: HeaderName = HeaderName::from_static("x-raft-to");

/// Trailer of a snapshot: CRC-32C of the image, in hex. Stock etcd neither sends it nor
/// minds it.
pub(super) const IMAGE_CRC32C: HeaderName = HeaderName::from_static("x-etcd-core-image-crc32c");

/// Body of a refusal, by which the sender tells its causes apart.
pub(super) const INCOMPATIBLE_VERSION: &str = "incompatible version";
pub(super) const CLUSTER_ID_MISMATCH: &str = "cluster ID mismatch";

/// The local member, as it introduces itself and judges others.
#[derive(Debug)]
pub(super) struct Identity {
    /// Headers of every request.
    pub(super) request: HeaderMap,
    pub(super) cluster_id: HeaderValue,
    pub(super) server_version: HeaderValue,
    version: Option<MinorVersion>,
    min_version: Option<MinorVersion>,
}

impl Identity {
    pub(super) fn new(config: &PeerConfig) -> Identity {
        let cluster_id = id_value(config.cluster_id);
        let server_version = text_value(&config.server_version);
        let mut request = HeaderMap::new();
        request.insert(SERVER_FROM, id_value(config.local_id));
        request.insert(SERVER_VERSION, server_version.clone());
        request.insert(MIN_CLUSTER_VERSION, text_value(&config.min_cluster_version));
        request.insert(CLUSTER_ID, cluster_id.clone());
        if !config.local_peer_urls.is_empty() {
            request.insert(PEER_URLS, text_value(&config.local_peer_urls.join(",")));
        }
        Identity {
            request,
            cluster_id,
            server_version,
            version: MinorVersion::parse(&config.server_version),
            min_version: MinorVersion::parse(&config.min_cluster_version),
        }
    }

    /// Checks the versions and the cluster of whoever sent these headers.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), RequestError> {
        let version = version_of(headers, &SERVER_VERSION);
        let min_version = version_of(headers, &MIN_CLUSTER_VERSION);
        if version.is_none()
            || version < self.min_version
            || min_version.is_none()
            || min_version > self.version
        {
            return Err(RequestError::IncompatibleVersion);
        }
        if headers.get(CLUSTER_ID) != Some(&self.cluster_id) {
            return Err(RequestError::ClusterIdMismatch);
        }
        Ok(())
    }

    /// Whether a peer that answered with these headers serves streams.
    pub(super) fn serves_streams(headers: &HeaderMap) -> bool {
        version_of(headers, &SERVER_VERSION) >= Some(MinorVersion::STREAMS)
    }
}

/// The sender and its URLs, if it names both.
pub(super) fn sender(headers: &HeaderMap) -> Option<(u64, Vec<String>)> {
    let id = parse_id(text(headers, &SERVER_FROM)?)?;
    let urls: Vec<_> = text(headers, &PEER_URLS)?
        .split(',')
        .filter(|url| !url.is_empty())
        .map(str::to_owned)
        .collect();
    (!urls.is_empty()).then_some((id, urls))
}

/// An ID as etcd writes it: hexadecimal without padding.
pub(super) fn id_value(id: u64) -> HeaderValue {
    text_value(&format!("{id:x}"))
}

pub(super) fn parse_id(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

pub(super) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// `None` if it is not a version; without the header it is an ancient one.
fn version_of(headers: &HeaderMap, name: &HeaderName) -> Option<MinorVersion> {
    match headers.get(name) {
        None => Some(MinorVersion::OLDEST),
        Some(value) => MinorVersion::parse(value.to_str().ok()?),
    }
}

/// A header's value; what a header cannot hold (a URL with a line break) is left out.
fn text_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}
