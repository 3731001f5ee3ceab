//! What happened so far, for the metrics. Counted where it happens, read when
//! somebody asks.

use std::sync::atomic::{AtomicU64, Ordering};

use etcd_mvcc::Record;
use etcd_replica::{Applied, Response};
use prost::encoding::encoded_len_varint;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Counts `n`.
    pub fn add(&self, n: usize) {
        self.0.fetch_add(n as u64, Ordering::Relaxed);
    }

    /// The number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Numbers of one member since its start.
#[derive(Debug, Default)]
pub struct Counts {
    /// Keys put.
    pub puts: Count,
    /// Bytes of keys and values put.
    pub put_bytes: Count,
    /// Deletions applied.
    pub deletes: Count,
    /// Ranges served.
    pub ranges: Count,
    /// Transactions applied or served.
    pub txns: Count,
    /// Leases granted.
    pub leases_granted: Count,
    /// Leases revoked.
    pub leases_revoked: Count,
    /// Leases renewed here, as the leader.
    pub leases_renewed: Count,
    /// Revocations proposed because a lease had run out.
    pub leases_expired: Count,
    /// Proposals that were given up or refused before they were applied.
    pub proposals_failed: Count,
    /// Applications that took longer than `--warning-apply-duration`.
    pub slow_applies: Count,
}

impl Counts {
    pub(super) fn applied(&self, applied: &Applied) {
        let puts = applied.records.iter().filter(|r| !r.tombstone);
        for put in puts {
            self.puts.add(1);
            self.put_bytes.add(put.key.len() + value_len(put));
        }
        for outcome in &applied.outcomes {
            match &outcome.result {
                Ok(Response::DeleteRange(_)) => self.deletes.add(1),
                Ok(Response::Txn(_)) => self.txns.add(1),
                Ok(Response::LeaseGrant { .. }) => self.leases_granted.add(1),
                Ok(Response::LeaseRevoke) => self.leases_revoked.add(1),
                _ => {}
            }
        }
    }
}

/// Length of the value in a record, which holds it encoded as `mvccpb.KeyValue`: what
/// the other fields leave.
fn value_len(record: &Record) -> usize {
    let number = |n: i64| match n {
        0 => 0,
        n => 1 + encoded_len_varint(n as u64),
    };
    let bytes = |len: usize| match len {
        0 => 0,
        len => 1 + encoded_len_varint(len as u64) + len,
    };
    let others = bytes(record.key.len())
        + number(record.create_revision)
        + number(record.rev.main)
        + number(record.version)
        + number(record.lease);
    let field = record.value.len().saturating_sub(others);
    // Its tag is one byte, its length up to five.
    (1..=5)
        .map(|varint| field.saturating_sub(1 + varint))
        .find(|len| bytes(*len) == field)
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use etcd_mvcc::Revision;
    use etcd_proto::mvccpb::KeyValue;
    use prost::Message as _;

    #[test]
    fn the_length_of_a_value_is_known_without_decoding_it() {
        for len in [0, 1, 126, 127, 128, 129, 16_382, 16_383, 16_384, 2_097_152] {
            let kv = KeyValue {
                key: vec![b'k'; 200].into(),
                create_revision: 300,
                mod_revision: 70_000,
                version: 128,
                value: vec![b'v'; len].into(),
                lease: if len % 2 == 0 { 0 } else { i64::MAX },
            };
            let record = Record {
                rev: Revision {
                    main: kv.mod_revision,
                    sub: 0,
                },
                tombstone: false,
                key: kv.key.clone(),
                value: kv.encode_to_vec().into(),
                create_revision: kv.create_revision,
                version: kv.version,
                lease: kv.lease,
                replaces: None,
            };
            assert_eq!(value_len(&record), len);
        }
    }
}
