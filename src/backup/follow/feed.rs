//! A watch of all keys at one member.

use std::time::Duration;

use etcd_proto::{
    etcdserverpb::{
        WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
        watch_request::RequestUnion,
    },
    mvccpb::Event,
};
use futures::stream;
use tokio::sync::mpsc;
use tonic::{Streaming, metadata::MetadataValue};

use crate::{
    backup::{
        member::{Dialer, Peer, refused},
        run::{ClusterRef, Failure, Reason, Voter},
        snapshot::pick,
    },
    identity::{hex, parse_hex},
};

/// How long a member may take to begin a watch.
const BEGIN: Duration = Duration::from_secs(10);

/// What a watch says.
#[derive(Debug, PartialEq)]
pub(super) enum Heard {
    /// Events in order. If it goes on, more of the last revision come next.
    Changes {
        /// The events.
        events: Vec<Event>,
        /// Whether more of the last revision come next.
        goes_on: bool,
    },
    /// All changes up to this revision were sent.
    Reached(i64),
    /// Changes that were asked for are gone up to this revision.
    Compacted(i64),
}

/// A watch of all keys.
pub(super) struct Feed {
    peer: Peer,
    cluster_id: u64,
    requests: mpsc::Sender<WatchRequest>,
    answers: Streaming<WatchResponse>,
    /// An answer that came with the beginning.
    first: Option<Heard>,
}

impl Feed {
    /// Watches from a revision on, at the best of the members.
    ///
    /// # Errors
    /// As [`pick`]; [`Reason::MemberFailed`].
    pub(super) async fn open(
        dialer: &Dialer,
        voters: &[Voter],
        cluster: &ClusterRef,
        from: i64,
    ) -> Result<Feed, Failure> {
        let (peer, _, _) = pick(dialer, voters, cluster).await?;
        let (requests, receiver) = mpsc::channel(4);
        let create = WatchCreateRequest {
            key: bytes::Bytes::from_static(b"\0"),
            range_end: bytes::Bytes::from_static(b"\0"),
            start_revision: from,
            fragment: true,
            progress_notify: true,
            ..WatchCreateRequest::default()
        };
        let first = request(RequestUnion::CreateRequest(create));
        let receiver = stream::unfold((Some(first), receiver), |(first, mut rest)| async {
            let next = match first {
                Some(first) => Some(first),
                None => rest.recv().await,
            };
            next.map(|next| (next, (None, rest)))
        });
        let mut request = tonic::Request::new(receiver);
        // A member without leader ends the watch instead of keeping silent.
        request
            .metadata_mut()
            .insert("hasleader", MetadataValue::from_static("true"));
        let fault = |status| refused("watches", &peer.endpoint, &status);
        let begun = tokio::time::timeout(BEGIN, peer.watch().watch(request)).await;
        let answers = match begun {
            Ok(begun) => begun.map_err(fault)?.into_inner(),
            Err(_) => return Err(silent(&peer)),
        };
        let mut feed = Feed {
            peer,
            cluster_id: parse_hex(&cluster.cluster_id).unwrap_or_default(),
            requests,
            answers,
            first: None,
        };
        match tokio::time::timeout(BEGIN, feed.hear()).await {
            Ok(heard) => feed.first = Some(heard?),
            Err(_) => return Err(silent(&feed.peer)),
        }
        Ok(feed)
    }

    /// The member.
    pub(super) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Asks how far the member is; the answer is [`Heard::Reached`]. That it cannot be
    /// asked shows in the next answer.
    pub(super) async fn ask(&mut self) {
        let progress = request(RequestUnion::ProgressRequest(WatchProgressRequest {}));
        drop(self.requests.send(progress).await);
    }

    /// What comes next. May be given up and called again.
    ///
    /// # Errors
    /// [`Reason::MemberFailed`]; [`Reason::WrongCluster`].
    pub(super) async fn next(&mut self) -> Result<Heard, Failure> {
        match self.first.take() {
            Some(first) => Ok(first),
            None => self.hear().await,
        }
    }

    async fn hear(&mut self) -> Result<Heard, Failure> {
        let endpoint = &self.peer.endpoint;
        let answer = match self.answers.message().await {
            Ok(Some(answer)) => answer,
            Ok(None) => {
                return Err(Failure::new(
                    Reason::MemberFailed,
                    format!("the member at {endpoint} ended the watch"),
                ));
            }
            Err(status) => return Err(refused("watches", endpoint, &status)),
        };
        let header = answer.header.unwrap_or_default();
        if header.cluster_id != self.cluster_id {
            return Err(Failure::new(
                Reason::WrongCluster,
                format!(
                    "the member at {endpoint} is of cluster {} now",
                    hex(header.cluster_id)
                ),
            ));
        }
        if answer.compact_revision > 0 {
            return Ok(Heard::Compacted(answer.compact_revision));
        }
        if answer.canceled {
            return Err(Failure::new(
                Reason::MemberFailed,
                format!(
                    "the member at {endpoint} ended the watch: {}",
                    answer.cancel_reason
                ),
            ));
        }
        if !answer.events.is_empty() {
            return Ok(Heard::Changes {
                events: answer.events,
                goes_on: answer.fragment,
            });
        }
        // The answer to the creation says where the store is, not what was sent.
        Ok(Heard::Reached(match answer.created {
            true => 0,
            false => header.revision,
        }))
    }
}

fn request(union: RequestUnion) -> WatchRequest {
    WatchRequest {
        request_union: Some(union),
    }
}

fn silent(peer: &Peer) -> Failure {
    Failure::new(
        Reason::MemberFailed,
        format!(
            "the member at {} did not begin a watch within {BEGIN:?}",
            peer.endpoint
        ),
    )
}
