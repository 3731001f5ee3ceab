//! Which addresses a store's endpoint may have.
//!
//! Whoever may create a backup names an endpoint, and a pod in the cluster's network
//! dials it and tells what it answered. So that this is no way to reach what the pod can
//! and the user cannot, the address that is dialled is checked, not the name: after every
//! resolution, and whatever way a literal address is written in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::api::EndpointNetwork;

/// What an address is, as far as an endpoint is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reachable {
    /// Anywhere on the internet.
    Public,
    /// In this company or this Kubernetes.
    Private,
    /// This machine.
    Loopback,
    /// Nobody's endpoint: link-local, metadata, multicast, reserved.
    Never,
}

/// What `address` is.
pub(crate) fn reachable(address: IpAddr) -> Reachable {
    match address {
        IpAddr::V4(v4) => reachable_v4(v4),
        IpAddr::V6(v6) => reachable_v6(v6),
    }
}

fn reachable_v4(address: Ipv4Addr) -> Reachable {
    let [a, b, c, _] = address.octets();
    if address.is_loopback() {
        return Reachable::Loopback;
    }
    // 100.100.100.200 is a metadata service in a range that is otherwise private.
    if address.octets() == [100, 100, 100, 200]
        || a == 0
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        || a >= 240
        || (a, b, c) == (192, 0, 0)
    {
        return Reachable::Never;
    }
    if address.is_private() || (a == 100 && (64..128).contains(&b)) || (a == 198 && b & 0xfe == 18)
    {
        return Reachable::Private;
    }
    Reachable::Public
}

fn reachable_v6(address: Ipv6Addr) -> Reachable {
    // An IPv4 address in disguise is judged as what it is.
    if let Some(v4) = address.to_ipv4_mapped() {
        return reachable_v4(v4);
    }
    let segments = address.segments();
    let [first, second, ..] = segments;
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    if first == 0x64 && second == 0xff9b {
        // NAT64.
        return reachable_v4(embedded(segments[6], segments[7]));
    }
    if first == 0x2002 {
        // 6to4.
        return reachable_v4(embedded(segments[1], segments[2]));
    }
    if address.is_loopback() {
        return Reachable::Loopback;
    }
    // fd00:ec2::254 and ::23 are metadata services of AWS.
    if (first == 0xfd00 && second == 0xec2)
        || address.is_unspecified()
        || address.is_multicast()
        || first & 0xffc0 == 0xfe80
        || segments[..6] == [0; 6]
        || (first == 0x2001 && second == 0xdb8)
        || (first == 0x2001 && second == 0)
    {
        return Reachable::Never;
    }
    if first & 0xfe00 == 0xfc00 {
        return Reachable::Private;
    }
    Reachable::Public
}

/// Which addresses are dialled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowed {
    /// What the destination says.
    pub network: EndpointNetwork,
    /// This machine too: a flag of the program, for tests.
    pub loopback: bool,
}

impl Allowed {
    /// Why `address` is not dialled, if it is not.
    pub(crate) fn refuses(self, address: IpAddr) -> Option<String> {
        match (reachable(address), self.network) {
            (Reachable::Public, _) | (Reachable::Private, EndpointNetwork::Private) => None,
            (Reachable::Loopback, _) if self.loopback => None,
            (Reachable::Private, EndpointNetwork::Public) => Some(format!(
                "{address} is a private address, which s3.endpointNetwork Private allows"
            )),
            (Reachable::Loopback | Reachable::Never, _) => Some(format!(
                "{address} is a loopback, link-local, metadata or reserved address, which is never allowed"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Reachable {
        reachable(text.parse().unwrap())
    }

    #[test]
    fn x10_an_address_is_what_it_is_however_it_is_written() {
        for (text, expected) in [
            ("8.8.8.8", Reachable::Public),
            ("2606:4700::1111", Reachable::Public),
            ("10.1.2.3", Reachable::Private),
            ("172.31.255.255", Reachable::Private),
            ("172.32.0.1", Reachable::Public),
            ("192.168.0.1", Reachable::Private),
            ("100.64.0.1", Reachable::Private),
            ("198.19.0.1", Reachable::Private),
            ("fd12:3456::1", Reachable::Private),
            ("127.0.0.1", Reachable::Loopback),
            ("127.8.9.10", Reachable::Loopback),
            ("::1", Reachable::Loopback),
            ("::ffff:127.0.0.1", Reachable::Loopback),
            ("::ffff:10.0.0.1", Reachable::Private),
            ("64:ff9b::a00:1", Reachable::Private),
            ("64:ff9b::a9fe:a9fe", Reachable::Never),
            ("2002:7f00:1::", Reachable::Loopback),
            ("::127.0.0.1", Reachable::Never),
            ("169.254.169.254", Reachable::Never),
            ("100.100.100.200", Reachable::Never),
            ("fd00:ec2::254", Reachable::Never),
            ("fe80::1", Reachable::Never),
            ("0.0.0.0", Reachable::Never),
            ("::", Reachable::Never),
            ("224.0.0.1", Reachable::Never),
            ("255.255.255.255", Reachable::Never),
            ("ff02::1", Reachable::Never),
        ] {
            assert_eq!(of(text), expected, "{text}");
        }
    }

    #[test]
    fn x10_private_addresses_are_dialled_only_where_the_user_says_so() {
        let allowed = |network, loopback| Allowed { network, loopback };
        let (private, here): (IpAddr, IpAddr) =
            ("10.0.0.1".parse().unwrap(), "::1".parse().unwrap());
        let why = allowed(EndpointNetwork::Public, false).refuses(private);
        assert!(why.unwrap().contains("s3.endpointNetwork Private"));
        assert_eq!(
            allowed(EndpointNetwork::Private, false).refuses(private),
            None
        );
        assert!(
            allowed(EndpointNetwork::Private, false)
                .refuses(here)
                .is_some()
        );
        assert_eq!(allowed(EndpointNetwork::Public, true).refuses(here), None);
        let metadata = "169.254.169.254".parse().unwrap();
        assert!(
            allowed(EndpointNetwork::Private, true)
                .refuses(metadata)
                .is_some()
        );
    }
}
