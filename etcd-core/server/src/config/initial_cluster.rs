//! The members a cluster starts with, and what must be true of them before a
//! member without data is made: it is among them, under the URLs it
//! advertises, and no URL is there twice.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use super::typed::Config;
use super::url::{Url, UrlError, parse_list, texts};

/// Names and peer URLs, `name=url,name=url,other=url`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InitialCluster {
    /// Sorted peer URLs by member name.
    pub members: BTreeMap<String, Vec<Url>>,
}

/// Why a member without data cannot start. The messages are etcd's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BootstrapError {
    /// A URL in the list of members.
    #[error("error setting up initial cluster: {0}")]
    Url(#[from] UrlError),
    /// This member is not in the list.
    #[error("couldn't find local name {0:?} in the initial cluster configuration")]
    LocalNameMissing(String),
    /// The list has URLs of this member that it does not advertise.
    #[error(
        "--initial-cluster has {missing} but missing from --initial-advertise-peer-urls={advertised} ({reason})"
    )]
    NotAdvertised {
        /// What is missing, as `name=url`.
        missing: String,
        /// What is advertised.
        advertised: String,
        /// Why the two do not resolve to the same.
        reason: String,
    },
    /// This member advertises URLs that are not in the list.
    #[error(
        "--initial-advertise-peer-urls has {missing} but missing from --initial-cluster={cluster}"
    )]
    NotInCluster {
        /// What is missing.
        missing: String,
        /// What is advertised, as a list of members.
        cluster: String,
    },
    /// A URL that two members have.
    #[error("initial cluster {0} has duplicate url")]
    Duplicate(String),
}

impl InitialCluster {
    /// Reads the list. A name may come more than once, with one URL each time.
    pub fn parse(text: &str) -> Result<InitialCluster, UrlError> {
        let mut by_name: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for item in text.split(',').filter(|item| !item.is_empty()) {
            let (name, url) = item.split_once('=').unwrap_or((item, ""));
            by_name.entry(name.to_owned()).or_default().push(url);
        }
        let members = by_name
            .into_iter()
            .map(|(name, urls)| Ok((name, parse_list(&urls.join(","))?)))
            .collect::<Result<_, UrlError>>()?;
        Ok(InitialCluster { members })
    }

    /// The list a member alone would have.
    pub fn of_one(name: &str, urls: &[Url]) -> String {
        let pairs: Vec<String> = urls.iter().map(|url| format!("{name}={url}")).collect();
        pairs.join(",")
    }

    fn has_duplicate(&self) -> bool {
        let mut seen = BTreeSet::new();
        !self.members.values().flatten().all(|url| seen.insert(url))
    }
}

impl fmt::Display for InitialCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut pairs: Vec<String> = self
            .members
            .iter()
            .flat_map(|(name, urls)| urls.iter().map(move |url| format!("{name}={url}")))
            .collect();
        pairs.sort();
        f.write_str(&pairs.join(","))
    }
}

impl Config {
    /// The list of members, checked for forming a new cluster. Resolves names
    /// if the texts differ, for up to 30 seconds.
    pub async fn bootstrap_members(&self) -> Result<InitialCluster, BootstrapError> {
        let cluster = self.joining_members()?;
        let ours = &cluster.members[&self.name];
        if let Err(reason) = same_addresses(&self.advertise_peer_urls, ours).await {
            let advertised: BTreeSet<&Url> = self.advertise_peer_urls.iter().collect();
            let listed: BTreeSet<&Url> = ours.iter().collect();
            let missing: Vec<String> = listed
                .difference(&advertised)
                .map(|url| format!("{}={url}", self.name))
                .collect();
            if !missing.is_empty() {
                return Err(BootstrapError::NotAdvertised {
                    missing: missing.join(","),
                    advertised: texts(&self.advertise_peer_urls).join(","),
                    reason,
                });
            }
            let missing: Vec<String> = advertised
                .difference(&listed)
                .map(|url| url.to_string())
                .collect();
            return Err(BootstrapError::NotInCluster {
                missing: missing.join(","),
                cluster: InitialCluster::of_one(&self.name, &self.advertise_peer_urls),
            });
        }
        if cluster.has_duplicate() {
            return Err(BootstrapError::Duplicate(cluster.to_string()));
        }
        Ok(cluster)
    }

    /// The list of members, checked for joining a running cluster: this member
    /// was announced there already, so what it advertises is not compared.
    pub fn joining_members(&self) -> Result<InitialCluster, BootstrapError> {
        let cluster = InitialCluster::parse(&self.initial_cluster)?;
        if !cluster.members.contains_key(&self.name) {
            return Err(BootstrapError::LocalNameMissing(self.name.clone()));
        }
        if cluster.has_duplicate() && self.initial_cluster_state == super::ClusterState::Existing {
            return Err(BootstrapError::Duplicate(cluster.to_string()));
        }
        Ok(cluster)
    }
}

/// Whether two sorted lists name the same addresses; if not, why.
async fn same_addresses(a: &[Url], b: &[Url]) -> Result<(), String> {
    if a.len() != b.len() {
        return Err(format!("len({:?}) != len({:?})", texts(a), texts(b)));
    }
    if a == b {
        return Ok(());
    }
    let mut resolved_a = Vec::with_capacity(a.len());
    let mut resolved_b = Vec::with_capacity(b.len());
    for (urls, resolved) in [(a, &mut resolved_a), (b, &mut resolved_b)] {
        for url in urls {
            resolved.push(resolve(url).await?);
        }
        resolved.sort();
    }
    for (a, b) in resolved_a.iter().zip(&resolved_b) {
        if a != b {
            return Err(format!("resolved urls: {a:?} != {b:?}"));
        }
    }
    Ok(())
}

/// A URL with its host as an address. DNS may lag behind a pod that has just
/// been made, hence the patience.
async fn resolve(url: &Url) -> Result<String, String> {
    const PATIENCE: Duration = Duration::from_secs(30);
    const PAUSE: Duration = Duration::from_secs(1);
    if url.scheme.is_unix() || url.host() == "localhost" {
        return Ok(url.to_string());
    }
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let reason = match tokio::net::lookup_host(&url.authority).await {
            Ok(mut addresses) => match prefer_v4(&mut addresses) {
                Some(address) => return Ok(format!("{}://{address}", url.scheme.as_str())),
                None => "no such host".to_owned(),
            },
            Err(error) => crate::go::io_error(&error),
        };
        tracing::warn!(url = %url, error = %reason, "failed to resolve URL Host");
        if tokio::time::Instant::now() + PAUSE > deadline {
            return Err(format!(
                "failed to resolve {:?} ({reason})",
                url.to_string()
            ));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn prefer_v4(addresses: &mut dyn Iterator<Item = SocketAddr>) -> Option<SocketAddr> {
    let all: Vec<SocketAddr> = addresses.collect();
    all.iter()
        .find(|address| address.is_ipv4())
        .or_else(|| all.first())
        .copied()
}
