//! What a watch does not say: leases, and what was compacted.

use std::{collections::BTreeMap, time::Duration};

use etcd_proto::{
    etcdserverpb::{LeaseLeasesRequest, LeaseTimeToLiveRequest, RangeRequest},
    leasepb::Lease,
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tonic::{Code, Status};

use super::buffer::Buffer;
use crate::backup::{
    member::{Peer, refused},
    run::Failure,
};

/// Leases that are asked for at a time.
const AT_ONCE: usize = 32;
const CALL: Duration = Duration::from_secs(10);

/// What was told last.
#[derive(Debug, Default)]
pub(super) struct Tables {
    /// Leases with the time to live they were granted, in seconds.
    leases: Option<BTreeMap<i64, i64>>,
    compacted: i64,
}

impl Tables {
    /// Asks a member, and puts into the buffer what has changed.
    ///
    /// # Errors
    /// [`super::Reason::MemberFailed`].
    pub(super) async fn look(&mut self, peer: &Peer, buffer: &mut Buffer) -> Result<(), Failure> {
        let mut request = tonic::Request::new(LeaseLeasesRequest {});
        request.set_timeout(CALL);
        let answer = peer
            .lease()
            .lease_leases(request)
            .await
            .map_err(|status| refused("asks for the leases", &peer.endpoint, &status))?
            .into_inner();
        let revision = answer.header.unwrap_or_default().revision;
        let known = self.leases.take().unwrap_or_default();
        let first = known.is_empty();
        let ids: Vec<i64> = answer.leases.iter().map(|lease| lease.id).collect();
        let leases: BTreeMap<i64, i64> = stream::iter(ids)
            .map(|id| {
                let known = known.get(&id).copied();
                async move {
                    let granted = match known {
                        Some(granted) => Some(granted),
                        None => granted(peer, id).await?,
                    };
                    Ok::<_, Failure>(granted.map(|granted| (id, granted)))
                }
            })
            .buffered(AT_ONCE)
            .try_filter_map(|lease| async move { Ok(lease) })
            .try_collect()
            .await?;
        if first || leases != known {
            let table: Vec<Lease> = leases
                .iter()
                .map(|(id, ttl)| Lease {
                    id: *id,
                    ttl: *ttl,
                    remaining_ttl: 0,
                })
                .collect();
            buffer.leases(revision, &table);
        }
        self.leases = Some(leases);
        let compacted = compacted(peer, self.compacted, revision).await?;
        if compacted > self.compacted {
            self.compacted = compacted;
            buffer.compacted(revision, compacted);
        }
        Ok(())
    }
}

/// The time to live that a lease was granted, in seconds; `None` if it has ended.
async fn granted(peer: &Peer, id: i64) -> Result<Option<i64>, Failure> {
    let mut request = tonic::Request::new(LeaseTimeToLiveRequest { id, keys: false });
    request.set_timeout(CALL);
    match peer.lease().lease_time_to_live(request).await {
        Ok(answer) => {
            let answer = answer.into_inner();
            Ok((answer.ttl >= 0).then_some(answer.granted_ttl))
        }
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(refused("asks for a lease", &peer.endpoint, &status)),
    }
}

/// The revision up to which the history is compacted, which no call tells as such: it is
/// the first one that can be read. `known` is where it was, `head` where the store is.
async fn compacted(peer: &Peer, known: i64, head: i64) -> Result<i64, Failure> {
    if is_there(peer, known.max(1)).await? {
        return Ok(known);
    }
    // `low` is gone, `high` is there.
    let (mut low, mut high) = (known.max(1), head.max(2));
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        match is_there(peer, middle).await? {
            true => high = middle,
            false => low = middle,
        }
    }
    Ok(high)
}

async fn is_there(peer: &Peer, revision: i64) -> Result<bool, Failure> {
    let mut request = tonic::Request::new(RangeRequest {
        key: bytes::Bytes::from_static(b"\0"),
        revision,
        serializable: true,
        count_only: true,
        ..RangeRequest::default()
    });
    request.set_timeout(CALL);
    match peer.kv().range(request).await {
        Ok(_) => Ok(true),
        Err(status) if is_compacted(&status) => Ok(false),
        Err(status) => Err(refused("looks for compactions", &peer.endpoint, &status)),
    }
}

fn is_compacted(status: &Status) -> bool {
    status.code() == Code::OutOfRange && status.message().contains("compacted")
}
