//! The address of the machine's default route: what a member advertises that
//! listens on 0.0.0.0 and was told nothing else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use super::initial_cluster::InitialCluster;
use super::note::Note;
use super::typed::Config;
use super::url::Url;

/// The source address the kernel would use towards the rest of the world.
/// Connecting a datagram socket asks the routing table and sends nothing.
pub fn default_host() -> Option<IpAddr> {
    // Addresses reserved for documentation: only the default route leads there.
    let ways = [
        (
            IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        ),
        (
            IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
        ),
    ];
    ways.into_iter().find_map(|(from, to)| {
        let socket = UdpSocket::bind(SocketAddr::new(from, 0)).ok()?;
        socket.connect(SocketAddr::new(to, 9)).ok()?;
        let address = socket.local_addr().ok()?.ip();
        (!address.is_unspecified() && !address.is_loopback()).then_some(address)
    })
}

const DEFAULT_PEER: &str = "http://localhost:2380";
const DEFAULT_CLIENT: &str = "http://localhost:2379";
const DEFAULT_CLUSTER: &str = "default=http://localhost:2380";

/// Fills in what follows from other flags: the advertised host of a listener
/// on 0.0.0.0, and the list of members from the name alone.
pub fn complete(config: &mut Config, host: Option<IpAddr>, notes: &mut Vec<Note>) {
    let mut used = None;
    if let Some(host) = host {
        used = advertise(
            &mut config.advertise_peer_urls,
            &config.listen_peer_urls,
            DEFAULT_PEER,
            host,
        );
    }
    if config.name != "default" && config.initial_cluster == DEFAULT_CLUSTER {
        config.initial_cluster = InitialCluster::of_one(&config.name, &config.advertise_peer_urls);
    }
    if let Some(host) = host {
        let client = advertise(
            &mut config.advertise_client_urls,
            &config.listen_client_urls,
            DEFAULT_CLIENT,
            host,
        );
        used = used.or(client);
    }
    if let Some(host) = used {
        notes.push(Note::info(
            "detected default host for advertise",
            host.to_string(),
        ));
    }
}

fn advertise(
    advertised: &mut [Url],
    listened: &[Url],
    default: &str,
    host: IpAddr,
) -> Option<IpAddr> {
    let [url] = advertised else { return None };
    let first = listened.first()?;
    if url.to_string() != default || first.host() != "0.0.0.0" {
        return None;
    }
    let bracketed = match host {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    };
    url.authority = format!("{bracketed}:{}", first.port());
    Some(host)
}
