//! A stream of watches.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use etcd_proto::etcdserverpb::watch_request::RequestUnion;
use etcd_proto::etcdserverpb::*;
use etcd_proto::mvccpb::Event;
use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::client::{Answer, Client, require_leader};

/// How long an answer that must come may take.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// One gRPC stream that carries any number of watches.
pub struct Watch {
    requests: mpsc::Sender<WatchRequest>,
    responses: Responses,
    /// Read while waiting for something else.
    pending: VecDeque<WatchResponse>,
}

/// A server may keep even the headers of its answer until it has a message to
/// send, so the stream is opened when something is first expected of it.
enum Responses {
    Opening(BoxFuture<'static, Answer<Streaming<WatchResponse>>>),
    Open(Box<Streaming<WatchResponse>>),
    Failed(Status),
}

impl Responses {
    async fn message(&mut self) -> Answer<Option<WatchResponse>> {
        loop {
            match self {
                Responses::Opening(call) => {
                    *self = match call.await {
                        Ok(stream) => Responses::Open(Box::new(stream)),
                        Err(status) => Responses::Failed(status),
                    }
                }
                Responses::Open(stream) => return stream.message().await,
                Responses::Failed(status) => return Err(status.clone()),
            }
        }
    }
}

/// A watch of one key from now on.
pub fn key(key: impl AsRef<[u8]>) -> WatchCreateRequest {
    WatchCreateRequest {
        key: Bytes::copy_from_slice(key.as_ref()),
        ..WatchCreateRequest::default()
    }
}

/// A watch of every key with this prefix from now on.
pub fn prefix(prefix: impl AsRef<[u8]>) -> WatchCreateRequest {
    range(prefix.as_ref(), crate::client::prefix_end(prefix.as_ref()))
}

/// A watch of `[key, end)` from now on.
pub fn range(from: impl AsRef<[u8]>, end: impl AsRef<[u8]>) -> WatchCreateRequest {
    WatchCreateRequest {
        range_end: Bytes::copy_from_slice(end.as_ref()),
        ..key(from)
    }
}

impl Watch {
    /// A stream of `client`; with `leader`, one that ends when the member loses its leader.
    pub fn open(client: &Client, leader: bool) -> Watch {
        let (requests, receiver) = mpsc::channel(64);
        let stream = ReceiverStream::new(receiver);
        let mut client = client.watch_client();
        let call: BoxFuture<'static, Answer<Streaming<WatchResponse>>> = Box::pin(async move {
            let call = if leader {
                client.watch(require_leader(stream)).await
            } else {
                client.watch(stream).await
            };
            call.map(tonic::Response::into_inner)
        });
        Watch {
            requests,
            responses: Responses::Opening(call),
            pending: VecDeque::new(),
        }
    }

    /// Sends any request.
    ///
    /// # Panics
    /// If the stream has ended.
    pub async fn send(&mut self, request: RequestUnion) {
        let request = WatchRequest {
            request_union: Some(request),
        };
        self.requests
            .send(request)
            .await
            .expect("the watch stream is open");
    }

    /// Creates a watch and returns its created response; events of others that arrive before are kept.
    ///
    /// # Panics
    /// If no created response comes.
    pub async fn create(&mut self, request: WatchCreateRequest) -> WatchResponse {
        self.send(RequestUnion::CreateRequest(request)).await;
        self.find("a created response", |response| response.created)
            .await
    }

    /// Cancels a watch and returns its canceled response; what arrives before is dropped.
    ///
    /// # Panics
    /// If no canceled response comes.
    pub async fn cancel(&mut self, watch_id: i64) -> WatchResponse {
        self.send(RequestUnion::CancelRequest(WatchCancelRequest { watch_id }))
            .await;
        let response = self
            .find("a canceled response", |response| {
                response.canceled && response.watch_id == watch_id
            })
            .await;
        self.pending
            .retain(|response| response.watch_id != watch_id);
        response
    }

    /// Asks for a progress notification.
    pub async fn request_progress(&mut self) {
        self.send(RequestUnion::ProgressRequest(WatchProgressRequest {}))
            .await;
    }

    /// The first response that `matches`; others are kept in order.
    async fn find(
        &mut self,
        what: &str,
        matches: impl Fn(&WatchResponse) -> bool,
    ) -> WatchResponse {
        let mut kept = VecDeque::new();
        loop {
            let response = match self.try_next(ANSWER_WITHIN).await {
                Ok(Some(response)) => response,
                Ok(None) => panic!("no {what} within {ANSWER_WITHIN:?}"),
                Err(status) => panic!("the watch stream failed, waiting for {what}: {status:?}"),
            };
            if matches(&response) {
                kept.append(&mut self.pending);
                self.pending = kept;
                return response;
            }
            kept.push_back(response);
        }
    }

    /// The next response, of any watch; none if nothing arrives within `limit`.
    ///
    /// # Errors
    /// The stream's end, as `Aborted` if it ended without an error.
    pub async fn try_next(&mut self, limit: Duration) -> Answer<Option<WatchResponse>> {
        if let Some(response) = self.pending.pop_front() {
            return Ok(Some(response));
        }
        match tokio::time::timeout(limit, self.responses.message()).await {
            Err(_) => Ok(None),
            Ok(Ok(Some(response))) => Ok(Some(response)),
            Ok(Ok(None)) => Err(Status::aborted("the watch stream ended")),
            Ok(Err(status)) => Err(status),
        }
    }

    /// The next response, of any watch.
    ///
    /// # Panics
    /// If none comes or the stream ends.
    pub async fn next(&mut self) -> WatchResponse {
        match self.try_next(ANSWER_WITHIN).await {
            Ok(Some(response)) => response,
            Ok(None) => panic!("no watch response within {ANSWER_WITHIN:?}"),
            Err(status) => panic!("the watch stream failed: {status:?}"),
        }
    }

    /// Events of the coming responses until there are `count` of them, whatever watch they belong to.
    ///
    /// # Panics
    /// If a response without events comes, or there are more events than asked for.
    pub async fn events(&mut self, count: usize) -> Vec<Event> {
        let mut events = Vec::new();
        while events.len() < count {
            let response = self.next().await;
            assert!(
                !response.events.is_empty(),
                "a response without events: {response:?}"
            );
            events.extend(response.events);
        }
        assert_eq!(events.len(), count, "more events than expected: {events:?}");
        events
    }

    /// The error with which the stream ends; responses before it are dropped.
    ///
    /// # Panics
    /// If it does not end within `limit`.
    pub async fn ended(mut self, limit: Duration) -> Status {
        let end = tokio::time::Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(tokio::time::Instant::now());
            match self.try_next(left).await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the watch stream is still open after {limit:?}"),
                Err(status) => return status,
            }
        }
    }
}
