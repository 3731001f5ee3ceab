//! The name of an address. Needed for certificates with wildcards only, which
//! name no host that could be looked up.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;

/// The name that DNS has for an address, if it has one. The hosts file comes
/// first, as it does for names.
pub(super) async fn lookup(address: IpAddr) -> Option<String> {
    if let Ok(hosts) = tokio::fs::read_to_string("/etc/hosts").await
        && let Some(name) = in_hosts(&hosts, address)
    {
        return Some(name);
    }
    let resolver = tokio::fs::read_to_string("/etc/resolv.conf").await.ok()?;
    for server in nameservers(&resolver) {
        if let Ok(Some(name)) =
            tokio::time::timeout(Duration::from_secs(2), ask(server, address)).await
        {
            return Some(name);
        }
    }
    None
}

fn in_hosts(text: &str, address: IpAddr) -> Option<String> {
    text.lines()
        .map(|line| line.split('#').next().unwrap_or(""))
        .find_map(|line| {
            let mut words = line.split_whitespace();
            let this: IpAddr = words.next()?.parse().ok()?;
            (this == address).then(|| words.next().map(str::to_owned))?
        })
}

fn nameservers(text: &str) -> impl Iterator<Item = IpAddr> + '_ {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .filter_map(|rest| rest.trim().parse().ok())
}

async fn ask(server: IpAddr, address: IpAddr) -> Option<String> {
    let local: SocketAddr = match server {
        IpAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        IpAddr::V6(_) => ([0u16; 8], 0).into(),
    };
    // A socket of its own, from a port of the kernel's choice, connected: a
    // stranger's answer would have to guess it.
    let socket = UdpSocket::bind(local).await.ok()?;
    socket.connect((server, 53)).await.ok()?;
    let id = socket.local_addr().ok()?.port();
    socket.send(&question(id, address)).await.ok()?;
    let mut reply = [0u8; 1500];
    loop {
        let length = socket.recv(&mut reply).await.ok()?;
        if reply[..length].starts_with(&id.to_be_bytes()) {
            return answer(&reply[..length]);
        }
    }
}

fn question(id: u16, address: IpAddr) -> Vec<u8> {
    let labels: Vec<String> = match address {
        IpAddr::V4(v4) => {
            let octets = v4.octets().into_iter().rev().map(|octet| octet.to_string());
            octets
                .chain(["in-addr".to_owned(), "arpa".to_owned()])
                .collect()
        }
        IpAddr::V6(v6) => {
            let nibbles = v6
                .octets()
                .into_iter()
                .rev()
                .flat_map(|octet| [octet & 15, octet >> 4]);
            let nibbles = nibbles.map(|nibble| format!("{nibble:x}"));
            nibbles
                .chain(["ip6".to_owned(), "arpa".to_owned()])
                .collect()
        }
    };
    let mut out = Vec::with_capacity(96);
    out.extend_from_slice(&id.to_be_bytes());
    // A recursive query of one question.
    out.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in labels {
        out.push(label.len() as u8);
        out.extend_from_slice(label.as_bytes());
    }
    // The end of the name, PTR, IN.
    out.extend_from_slice(&[0, 0, 12, 0, 1]);
    out
}

fn answer(reply: &[u8]) -> Option<String> {
    let answers = u16::from_be_bytes([*reply.get(6)?, *reply.get(7)?]);
    let (_, mut at) = name(reply, 12)?;
    at += 4;
    for _ in 0..answers {
        let (_, after) = name(reply, at)?;
        let kind = u16::from_be_bytes([*reply.get(after)?, *reply.get(after + 1)?]);
        let length = usize::from(u16::from_be_bytes([
            *reply.get(after + 8)?,
            *reply.get(after + 9)?,
        ]));
        let data = after + 10;
        if kind == 12 {
            return name(reply, data).map(|(name, _)| name);
        }
        at = data + length;
    }
    None
}

/// The name at a place and the place behind it.
fn name(reply: &[u8], mut at: usize) -> Option<(String, usize)> {
    let mut labels: Vec<String> = Vec::new();
    let mut behind = None;
    // A name has at most 127 labels; more means pointers in a circle.
    for _ in 0..128 {
        let length = usize::from(*reply.get(at)?);
        match length {
            0 => return Some((labels.join("."), behind.unwrap_or(at + 1))),
            1..=63 => {
                let label = reply.get(at + 1..at + 1 + length)?;
                labels.push(String::from_utf8_lossy(label).into_owned());
                at += 1 + length;
            }
            192..=255 => {
                behind = behind.or(Some(at + 2));
                at = (length & 63) << 8 | usize::from(*reply.get(at + 1)?);
            }
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_hosts_and_resolver() {
        let hosts = "127.0.0.1 localhost\n# 10.0.0.1 no\n10.0.0.1\tm1.svc m1 # yes\n";
        let address = "10.0.0.1".parse().expect("an address");
        assert_eq!(in_hosts(hosts, address), Some("m1.svc".to_owned()));
        let servers: Vec<IpAddr> = nameservers("search x\nnameserver 10.0.0.10\n").collect();
        assert_eq!(servers.len(), 1);
    }

    #[test]
    fn reads_an_answer_with_pointers_and_survives_nonsense() {
        let address = "10.0.0.1".parse().expect("an address");
        let mut reply = question(7, address);
        reply[6..8].copy_from_slice(&1u16.to_be_bytes());
        reply.extend_from_slice(&[
            0xc0, 12, 0, 12, 0, 1, 0, 0, 0, 60, 0, 8, 2, b'm', b'1', 3, b's', b'v', b'c', 0,
        ]);
        assert_eq!(answer(&reply), Some("m1.svc".to_owned()));
        for end in 0..reply.len() {
            assert_eq!(answer(&reply[..end]), None);
        }
        let mut circle = vec![0; 12];
        circle[7] = 1;
        circle.extend_from_slice(&[0xc0, 12]);
        assert_eq!(answer(&circle), None);
    }
}
