//! All that a client can learn of a member's store, to be held against another's.

use etcd_proto::etcdserverpb::alarm_request::AlarmAction;
use etcd_proto::etcdserverpb::{AlarmType, HashKvResponse, LeaseLeasesRequest, RangeRequest};
use etcd_proto::mvccpb::KeyValue;
use tonic::Status;

use crate::client::{Answer, Client, ZERO, range};

/// The answer to a range over all keys at one revision.
#[derive(Debug, Clone, PartialEq)]
pub struct At {
    /// The revision.
    pub revision: i64,
    /// All keys there were.
    pub keys: Vec<KeyValue>,
    /// HashKV up to it, and the compact revision it was computed under.
    pub hash: (u32, i64),
}

/// A store as clients see it. Users and roles are not among it: etcdctl prints them.
#[derive(Debug, Clone, PartialEq)]
pub struct Store {
    /// The revision of the header.
    pub revision: i64,
    /// Every revision that can still be read, from the newest down to 20 of them.
    pub history: Vec<At>,
    /// ID, granted time to live and keys of each lease.
    pub leases: Vec<(i64, i64, Vec<bytes::Bytes>)>,
    /// Member and kind of each alarm.
    pub alarms: Vec<(u64, i32)>,
}

/// Revisions that are looked at.
const HISTORY: i64 = 20;

impl Store {
    /// Reads it from a member that nobody else writes to.
    ///
    /// # Errors
    /// etcd's.
    pub async fn read(client: &Client) -> Answer<Store> {
        let revision = client.revision().await?;
        let newest: HashKvResponse = client.hash_kv(0).await?;
        let oldest = newest.compact_revision.max(1).max(revision - HISTORY);
        let mut history = Vec::new();
        // A compaction's own revision answers with a hash that a member remembers from
        // before it, as long as it runs.
        for at in (oldest..=revision)
            .rev()
            .filter(|at| *at != newest.compact_revision)
        {
            let keys = client
                .range(RangeRequest {
                    revision: at,
                    ..range(ZERO, ZERO)
                })
                .await?
                .kvs;
            let hash = client.hash_kv(at).await?;
            history.push(At {
                revision: at,
                keys,
                hash: (hash.hash, hash.compact_revision),
            });
        }
        let listed = client
            .lease()
            .lease_leases(LeaseLeasesRequest {})
            .await?
            .into_inner();
        let mut leases = Vec::new();
        for lease in listed.leases {
            let told = client.time_to_live(lease.id, true).await?;
            let mut keys = told.keys;
            keys.sort();
            leases.push((lease.id, told.granted_ttl, keys));
        }
        leases.sort();
        let alarms = client
            .alarm(AlarmAction::Get, 0, AlarmType::None)
            .await?
            .alarms;
        let mut alarms: Vec<_> = alarms.iter().map(|a| (a.member_id, a.alarm)).collect();
        alarms.sort_unstable();
        Ok(Store {
            revision,
            history,
            leases,
            alarms,
        })
    }

    /// Reads it again and again until a compaction that a start resumed is done.
    ///
    /// # Errors
    /// The first difference, as an error of etcd's kind, so that it can be waited for.
    pub async fn expect(&self, client: &Client) -> Answer<()> {
        let other = Store::read(client).await?;
        if other == *self {
            return Ok(());
        }
        let first = self
            .history
            .iter()
            .zip(&other.history)
            .find(|(a, b)| a != b);
        let first = first.map(|(a, b)| {
            let pair = a.keys.iter().zip(&b.keys).find(|(a, b)| a != b);
            (
                a.revision,
                a.hash,
                b.hash,
                a.keys.len(),
                b.keys.len(),
                format!("{pair:?}"),
            )
        });
        Err(Status::internal(format!(
            "revisions {} and {}, first difference {first:?}, leases {:?} and {:?}, alarms {:?} and {:?}",
            self.revision, other.revision, self.leases, other.leases, self.alarms, other.alarms,
        )))
    }
}
