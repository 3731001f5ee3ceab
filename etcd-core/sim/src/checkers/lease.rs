//! Lease safety: no lease ends by itself before its time has passed since it was last
//! kept alive. The time counts from when the client asked, which is not too long.

use std::collections::{BTreeMap, BTreeSet};

use etcd_proto::etcdserverpb::InternalRaftRequest;
use etcd_proto::raftpb::{Entry, EntryType};
use prost::Message as _;

use crate::event::SECOND;

#[derive(Default)]
pub(crate) struct Leases {
    /// Until when each lease must live.
    alive_until: BTreeMap<i64, u64>,
    /// When each lease was first ended by expiry.
    ended: BTreeMap<i64, u64>,
    /// IDs of what clients proposed: their revocations are no expiries.
    of_clients: BTreeSet<u64>,
}

impl Leases {
    /// A client's request has this ID.
    pub(crate) fn client_request(&mut self, id: u64) {
        self.of_clients.insert(id);
    }

    /// A client that asked at this time was told that its lease lives for `ttl` seconds.
    pub(crate) fn alive(&mut self, lease: i64, asked_us: u64, ttl: i64) -> Result<(), String> {
        let until = asked_us + u64::try_from(ttl).unwrap_or(0) * SECOND;
        let known = self.alive_until.entry(lease).or_insert(0);
        *known = until.max(*known);
        self.check(lease)
    }

    /// A member applies an entry.
    pub(super) fn applied(&mut self, entry: &Entry, now_us: u64) -> Result<(), String> {
        if entry.r#type != EntryType::EntryNormal as i32 || entry.data.is_empty() {
            return Ok(());
        }
        let Ok(request) = InternalRaftRequest::decode(entry.data.clone()) else {
            return Err(format!("entry {} cannot be decoded", entry.index));
        };
        let id = request.header.as_ref().map_or(0, |h| h.id);
        match request.lease_revoke {
            Some(revoke) if !self.of_clients.contains(&id) => {
                self.ended.entry(revoke.id).or_insert(now_us);
                self.check(revoke.id)
            }
            _ => Ok(()),
        }
    }

    fn check(&self, lease: i64) -> Result<(), String> {
        match (self.ended.get(&lease), self.alive_until.get(&lease)) {
            (Some(ended), Some(until)) if ended < until => Err(format!(
                "lease safety: lease {lease} ended at {ended} us, but was promised until {until} us"
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etcd_proto::etcdserverpb::{LeaseRevokeRequest, RequestHeader};

    fn revoke(id: u64, lease: i64) -> Entry {
        let request = InternalRaftRequest {
            header: Some(RequestHeader {
                id,
                ..RequestHeader::default()
            }),
            lease_revoke: Some(LeaseRevokeRequest { id: lease }),
            ..InternalRaftRequest::default()
        };
        Entry {
            index: 1,
            term: 1,
            data: request.encode_to_vec().into(),
            ..Entry::default()
        }
    }

    #[test]
    fn s26_an_early_end_is_found() {
        let mut leases = Leases::default();
        leases.alive(7, 0, 2).unwrap();
        leases.client_request(1);
        leases.applied(&revoke(1, 7), SECOND).unwrap();
        assert!(leases.applied(&revoke(2, 7), SECOND).is_err());
        let mut leases = Leases::default();
        leases.applied(&revoke(2, 7), SECOND).unwrap();
        assert!(leases.alive(7, SECOND / 2, 2).is_err());
    }
}
