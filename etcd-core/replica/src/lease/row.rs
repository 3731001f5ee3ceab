//! Leases as rows of etcd's bucket `lease`.

use bytes::Bytes;
use etcd_proto::leasepb;
use prost::Message as _;

use super::lessor::{Lease, LeaseConfig, Lessor};

/// A row of the bucket `lease` that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseRowError {
    /// The key is not an ID of 8 bytes.
    #[error("lease row with a key of {0} bytes instead of 8")]
    Key(usize),
    /// The value is not a `leasepb.Lease`.
    #[error("lease {id:x}: {reason}")]
    Value {
        /// The ID in the row's key.
        id: i64,
        /// What is wrong.
        reason: String,
    },
}

impl Lessor {
    /// All leases as (key, value), ascending by key as the bucket sorts them: the
    /// ID in 8 bytes, most significant first, and a `leasepb.Lease`. Attached keys
    /// are not among them, the store's own records say them.
    pub fn to_rows(&self) -> Vec<(Bytes, Bytes)> {
        let mut rows: Vec<(Bytes, Bytes)> = self
            .leases
            .iter()
            .map(|(&id, lease)| {
                let row = leasepb::Lease {
                    id,
                    ttl: lease.ttl,
                    remaining_ttl: lease.remaining_ttl,
                };
                let key = Bytes::copy_from_slice(&id.to_be_bytes());
                (key, row.encode_to_vec().into())
            })
            .collect();
        // A negative ID sorts behind the positive ones in the bucket.
        rows.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        rows
    }

    /// Reads the leases back. Nothing is attached yet: whoever loads the store
    /// attaches its leased keys.
    pub fn from_rows<'a>(
        config: LeaseConfig,
        rows: impl IntoIterator<Item = &'a (Bytes, Bytes)>,
    ) -> Result<Lessor, LeaseRowError> {
        let mut lessor = Lessor::new(config);
        for (key, value) in rows {
            let id: [u8; 8] = key[..]
                .try_into()
                .map_err(|_| LeaseRowError::Key(key.len()))?;
            let id = i64::from_be_bytes(id);
            let fault = |reason: String| LeaseRowError::Value { id, reason };
            let row = leasepb::Lease::decode(value.clone()).map_err(|e| fault(e.to_string()))?;
            if row.id != id {
                return Err(fault(format!("the row names lease {:x}", row.id)));
            }
            let lease = Lease {
                ttl: row.ttl.max(lessor.config.min_ttl),
                remaining_ttl: row.remaining_ttl.max(0),
                ..Lease::default()
            };
            lessor.leases.insert(id, lease);
        }
        Ok(lessor)
    }
}
