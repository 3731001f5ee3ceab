//! The service Watch: a stream of requests on the hub, and what it has to say.

use std::collections::VecDeque;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use etcd_mvcc::watch::{Filters, WatchCreate};
use etcd_proto::etcdserverpb::watch_create_request::FilterType;
use etcd_proto::etcdserverpb::watch_request::RequestUnion;
use etcd_proto::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchRequest};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tonic::{Code, Request, Response, Status, Streaming};

use super::codec::Encoded;
use super::guard::Guard;
use super::status::status;
use crate::driver::{Node, RequestError, StreamHandle};

#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod generated {
    include!(concat!(env!("OUT_DIR"), "/etcdserverpb.Watch.rs"));
}

/// Bytes of events taken from the hub at once. What is not taken waits there, where
/// it is bounded.
const CREDIT_BYTES: usize = 64 << 10;
/// Unread answers at which no more requests are read.
const BACKLOG_MAX: usize = 64;
/// The shortest interval of progress notices.
const PROGRESS_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Watch over a node.
#[derive(Clone)]
pub struct WatchService {
    node: Node,
    guard: Guard,
    progress_interval: Duration,
    /// Streams opened so far, from which each takes its share of the jitter.
    opened: Arc<AtomicU32>,
}

impl WatchService {
    /// `progress_interval`: of `--watch-progress-notify-interval`.
    pub fn new(node: Node, guard: Guard, progress_interval: Duration) -> Self {
        let progress_interval = progress_interval.max(PROGRESS_INTERVAL_MIN);
        WatchService {
            node,
            guard,
            progress_interval,
            opened: Arc::default(),
        }
    }

    /// The interval, longer by up to a tenth: streams that were opened together do
    /// not tell their progress together.
    fn jittered_interval(&self) -> Duration {
        // Multiples of the golden ratio spread evenly over a whole turn.
        let turn = self
            .opened
            .fetch_add(1, Ordering::Relaxed)
            .wrapping_mul(0x9e37_79b9);
        self.progress_interval
            + self
                .progress_interval
                .mul_f64(f64::from(turn) / f64::from(u32::MAX) / 10.0)
    }
}

#[tonic::async_trait]
impl generated::watch_server::Watch for WatchService {
    type WatchStream = Pin<Box<dyn futures::Stream<Item = Result<Encoded, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        self.guard.write(&request)?;
        let (guard, wants_leader) = (self.guard.clone(), Guard::wants_leader(&request));
        let over: Over = Box::pin(async move { guard.stream_ends(wants_leader).await });
        let conversation = Conversation {
            stream: OpenStream::new(&self.node),
            requests: Some(request.into_inner()),
            ready: VecDeque::new(),
            more: false,
            interval: self.jittered_interval(),
            ticks: None,
            over,
            ended: false,
        };
        Ok(Response::new(Box::pin(futures::stream::unfold(
            conversation,
            |mut conversation| async move {
                let next = conversation.next().await?;
                Some((next, conversation))
            },
        ))))
    }
}

type Over = Pin<Box<dyn Future<Output = RequestError> + Send>>;

/// A stream of the hub, closed when the client's is dropped.
pub(super) struct OpenStream {
    node: Node,
    handle: StreamHandle,
}

impl OpenStream {
    pub(super) fn new(node: &Node) -> Self {
        OpenStream {
            handle: node.watches().open(),
            node: node.clone(),
        }
    }

    /// Begins a watch; the answer comes by [`OpenStream::poll`].
    pub(super) fn create(&self, request: &WatchCreate) {
        self.node.watches().create(&self.handle, request);
    }

    /// Returns when there may be something to poll.
    pub(super) async fn woken(&self) {
        self.handle.woken().await;
    }

    /// What waits, up to a credit, whether there is more, and the header to put around it.
    pub(super) fn poll(&self) -> (Vec<etcd_mvcc::watch::Response>, bool, ResponseHeader) {
        let (responses, more) = self.node.watches().poll(&self.handle, CREDIT_BYTES);
        (responses, more, self.node.header(0))
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.node.watches().close(&self.handle);
    }
}

/// One client's stream. It runs only while the transport asks for the next
/// response, so a client that does not read is not read from either.
struct Conversation {
    stream: OpenStream,
    /// `None` once the client has said its last.
    requests: Option<Streaming<WatchRequest>>,
    /// Encoded, not yet asked for.
    ready: VecDeque<Encoded>,
    /// The hub had more than the credit.
    more: bool,
    interval: Duration,
    /// Runs from the first watch on that wants its progress told.
    ticks: Option<Interval>,
    over: Over,
    ended: bool,
}

/// What the stream woke up for.
enum Turn {
    Request(Box<Result<Option<WatchRequest>, Status>>),
    Output,
    Tick,
    Over(RequestError),
}

impl Conversation {
    /// The next response; `None` at the end.
    async fn next(&mut self) -> Option<Result<Encoded, Status>> {
        loop {
            if let Some(response) = self.ready.pop_front() {
                return Some(Ok(response));
            }
            if self.ended {
                return None;
            }
            match self.turn().await {
                Turn::Request(request) => match *request {
                    Ok(Some(request)) => self.handle(request),
                    // A client that only listens from now on.
                    Ok(None) => self.requests = None,
                    Err(error) => return Some(Err(self.end(error))),
                },
                Turn::Output => self.poll(),
                Turn::Tick => self
                    .stream
                    .node
                    .watches()
                    .tick_progress(&self.stream.handle),
                Turn::Over(reason) => return Some(Err(self.end(status(&reason)))),
            }
        }
    }

    /// Waits for something to do; which of several comes first is left to chance,
    /// so that none of them starves.
    async fn turn(&mut self) -> Turn {
        let reads = self
            .stream
            .node
            .watches()
            .control_backlog(&self.stream.handle)
            < BACKLOG_MAX;
        let more = self.more;
        let (requests, ticks, handle) = (&mut self.requests, &mut self.ticks, &self.stream.handle);
        tokio::select! {
            request = async {
                match requests {
                    Some(requests) if reads => requests.message().await,
                    _ => pending().await,
                }
            } => Turn::Request(Box::new(request)),
            () = async {
                if !more {
                    handle.woken().await;
                }
            } => Turn::Output,
            () = async {
                match ticks {
                    Some(ticks) => { ticks.tick().await; }
                    None => pending().await,
                }
            } => Turn::Tick,
            reason = &mut self.over => Turn::Over(reason),
        }
    }

    fn handle(&mut self, request: WatchRequest) {
        let (watches, handle) = (self.stream.node.watches(), &self.stream.handle);
        match request.request_union {
            Some(RequestUnion::CreateRequest(request)) => {
                if request.progress_notify && self.ticks.is_none() {
                    let mut ticks =
                        tokio::time::interval_at(Instant::now() + self.interval, self.interval);
                    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                    self.ticks = Some(ticks);
                }
                // The answer, a refusal included, comes with the output.
                self.stream.create(&create(request));
            }
            Some(RequestUnion::CancelRequest(request)) => watches.cancel(handle, request.watch_id),
            Some(RequestUnion::ProgressRequest(_)) => watches.request_progress(handle),
            // As etcd, which only logs it: not a reason to end the client's other watches.
            None => tracing::info!("invalid watch request received in gRPC stream"),
        }
    }

    /// Takes what the hub has, and encodes it.
    fn poll(&mut self) {
        let (responses, more, header) = self.stream.poll();
        self.more = more;
        self.ready.extend(responses.iter().map(|response| {
            let mut bytes = BytesMut::with_capacity(response.encoded_len(&header));
            response.encode(&header, &mut bytes);
            Encoded(bytes.freeze())
        }));
    }

    fn end(&mut self, error: Status) -> Status {
        self.ended = true;
        match error.code() {
            Code::Cancelled => Status::cancelled("etcdserver: watch canceled"),
            _ => error,
        }
    }
}

fn create(request: WatchCreateRequest) -> WatchCreate {
    let has = |filter: FilterType| request.filters.contains(&(filter as i32));
    let filters = Filters {
        no_put: has(FilterType::Noput),
        no_delete: has(FilterType::Nodelete),
    };
    WatchCreate {
        key: request.key,
        range_end: request.range_end,
        start_revision: request.start_revision,
        progress_notify: request.progress_notify,
        filters,
        prev_kv: request.prev_kv,
        watch_id: request.watch_id,
        fragment: request.fragment,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b097_unknown_filters_are_passed_over() {
        let request = |filters: &[i32]| WatchCreateRequest {
            filters: filters.to_vec(),
            ..Default::default()
        };
        let filters = |list: &[i32]| create(request(list)).filters;
        assert_eq!(filters(&[]), Filters::default());
        assert_eq!(
            filters(&[0, 7]),
            Filters {
                no_put: true,
                no_delete: false
            }
        );
        assert_eq!(
            filters(&[1, 1, -3]),
            Filters {
                no_put: false,
                no_delete: true
            }
        );
        assert_eq!(
            filters(&[1, 0]),
            Filters {
                no_put: true,
                no_delete: true
            }
        );
    }
}
