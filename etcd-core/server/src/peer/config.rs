//! What the transport has to know about the member it works for.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::dial::Dialer;

/// The local member, and how it reaches others.
#[derive(Clone)]
pub struct PeerConfig {
    /// The local member's ID.
    pub local_id: u64,
    /// The cluster's ID; whoever has another one is refused.
    pub cluster_id: u64,
    /// Version that is announced, "major.minor.patch".
    pub server_version: String,
    /// Lowest version of a peer that is accepted, "major.minor.patch".
    pub min_cluster_version: String,
    /// Peer URLs that the local member advertises, told to those it connects to.
    pub local_peer_urls: Vec<String>,
    /// Where images that are received are put, as files `tmp*`. It must exist.
    pub snapshot_dir: PathBuf,
    /// Whether a received image is one that the member can take over, and if not why.
    /// Blocking.
    pub verify_image: fn(&Path) -> Result<(), String>,
    /// Makes connections.
    pub dialer: Arc<dyn Dialer>,
    /// Longest time for making a connection, TLS included.
    pub dial_timeout: Duration,
}

/// A version without its patch level; peers compare no more than that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MinorVersion {
    major: u64,
    minor: u64,
}

impl MinorVersion {
    /// What a peer without a version header counts as.
    pub(super) const OLDEST: MinorVersion = MinorVersion { major: 2, minor: 0 };
    /// The first version that serves the streams read here.
    pub(super) const STREAMS: MinorVersion = MinorVersion { major: 2, minor: 1 };

    /// Parses "major.minor.patch", with whatever follows the patch level.
    pub(super) fn parse(text: &str) -> Option<MinorVersion> {
        let mut parts = text.splitn(3, '.');
        let major = parts.next()?.parse().ok()?;
        let minor = parts.next()?.parse().ok()?;
        parts
            .next()?
            .starts_with(|digit: char| digit.is_ascii_digit())
            .then_some(MinorVersion { major, minor })
    }
}
