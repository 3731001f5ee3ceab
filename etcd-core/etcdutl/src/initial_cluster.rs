//! `--initial-cluster` and what belongs to it.

use std::collections::BTreeMap;

use etcd_replica::{Member, member_id};
use url::Url;

use crate::error::Error;

/// The members of a new cluster, and which of them is this one.
#[derive(Debug)]
pub(crate) struct Founders {
    pub(crate) members: Vec<Member>,
    pub(crate) own: u64,
}

/// Reads `name=url,...`; a name may occur more than once, with an URL each.
pub(crate) fn founders(
    name: &str,
    initial_cluster: &str,
    token: &str,
    advertised: &str,
) -> Result<Founders, Error> {
    let mut urls: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for part in initial_cluster.split(',').filter(|part| !part.is_empty()) {
        let (name, url) = part.split_once('=').unwrap_or((part, ""));
        urls.entry(name).or_default().push(peer_url(url)?);
    }
    for list in urls.values_mut() {
        list.sort();
    }
    let mut advertised = advertised
        .split(',')
        .map(peer_url)
        .collect::<Result<Vec<_>, _>>()?;
    advertised.sort();
    let Some(own) = urls.get(name) else {
        return Err(Error::Cluster(format!(
            "couldn't find local name {name:?} in the initial cluster configuration"
        )));
    };
    if *own != advertised {
        return Err(Error::Cluster(format!(
            "--initial-cluster has {name}={} but missing from --initial-advertise-peer-urls={}",
            own.join(","),
            advertised.join(",")
        )));
    }
    let own = member_id(own, token, None);
    let members: Vec<Member> = urls
        .into_iter()
        .map(|(name, peer_urls)| Member {
            id: member_id(&peer_urls, token, None),
            name: name.to_owned(),
            peer_urls,
            ..Member::default()
        })
        .collect();
    let mut ids: Vec<u64> = members.iter().map(|member| member.id).collect();
    ids.sort_unstable();
    if ids.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(Error::Cluster(format!(
            "--initial-cluster {initial_cluster:?}: two members have the same URLs"
        )));
    }
    Ok(Founders { members, own })
}

/// An URL as etcd writes it: without a path, with a port.
fn peer_url(text: &str) -> Result<String, Error> {
    let refused = |why: &str| Err(Error::Cluster(format!("{why}: {text}")));
    let url = match Url::parse(text) {
        Ok(url) if ["http", "https", "unix", "unixs"].contains(&url.scheme()) => url,
        Ok(_) | Err(_) => return refused("URL scheme must be http, https, unix, or unixs"),
    };
    if url.scheme().starts_with("unix") {
        return Ok(text.to_owned());
    }
    // The port of a scheme's own is left out by the parser, so the text is asked.
    let host_port = text.split_once("://").map_or("", |(_, rest)| rest);
    let (host, port) = host_port
        .trim_end_matches('/')
        .rsplit_once(':')
        .unwrap_or((host_port, ""));
    if port.parse::<u16>().is_err() || host.is_empty() {
        return refused(r#"URL address does not have the form "host:port""#);
    }
    if !url.path().trim_end_matches('/').is_empty() {
        return refused("URL must not contain a path");
    }
    Ok(text.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_have_etcds_ids() {
        let found = founders(
            "default",
            "default=http://localhost:2380",
            "etcd-cluster",
            "http://localhost:2380",
        )
        .unwrap();
        assert_eq!(found.own, 0x8e9e_05c5_2164_694d);
        assert_eq!(
            etcd_replica::cluster_id(&[found.own]),
            0xcdf8_1819_4e3a_8c32
        );
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let text = |name, list, advertised| {
            founders(name, list, "t", advertised)
                .unwrap_err()
                .to_string()
        };
        let url = "http://h:1";
        assert_eq!(
            text("a", "", url),
            "couldn't find local name \"a\" in the initial cluster configuration"
        );
        assert_eq!(
            text("a", "a=nonsense", url),
            "URL scheme must be http, https, unix, or unixs: nonsense"
        );
        assert_eq!(
            text("a", "a=http://h:2", url),
            "--initial-cluster has a=http://h:2 but missing from --initial-advertise-peer-urls=http://h:1"
        );
        assert_eq!(
            text("a", "a=http://h", url),
            r#"URL address does not have the form "host:port": http://h"#
        );
        assert!(text("a", "a=http://h:1,b=http://h:1", url).contains("the same URLs"));
    }
}
