//! Messages for which there is no stream: a POST each, a few at a time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use etcd_proto::raftpb::Message;
use futures::stream::{FuturesUnordered, StreamExt};
use http_body_util::Full;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::Notify;

use super::link::Link;
use super::queue::cost;
use super::request::{Client, PostBody, check_post, post_request};

/// Requests under way at a time.
const CONNECTIONS: usize = 4;

/// Messages that wait.
const QUEUE_LEN: usize = 64;

/// Messages that wait, in bytes.
const QUEUE_BYTES: usize = 64 << 20;

/// Longest time for a request and its answer.
const POST_TIMEOUT: Duration = Duration::from_secs(5);

/// Messages on their way into requests.
#[derive(Debug, Default)]
pub(super) struct Pipeline {
    state: Mutex<State>,
    pushed: Notify,
}

#[derive(Debug, Default)]
struct State {
    messages: VecDeque<Message>,
    bytes: usize,
    closed: bool,
}

impl Pipeline {
    /// Adds a message, or gives it back for want of room.
    pub(super) fn push(&self, message: Message) -> Result<(), Message> {
        let mut state = self.state.lock();
        let size = cost(&message);
        let room = state.messages.is_empty()
            || (state.messages.len() < QUEUE_LEN && state.bytes + size <= QUEUE_BYTES);
        if state.closed || !room {
            return Err(message);
        }
        state.bytes += size;
        state.messages.push_back(message);
        drop(state);
        self.pushed.notify_one();
        Ok(())
    }

    /// Takes nothing more, and returns what waited.
    pub(super) fn close(&self) -> VecDeque<Message> {
        let closed = State {
            closed: true,
            ..State::default()
        };
        std::mem::replace(&mut *self.state.lock(), closed).messages
    }

    fn pop(&self) -> Option<Message> {
        let mut state = self.state.lock();
        let message = state.messages.pop_front()?;
        state.bytes -= cost(&message);
        Some(message)
    }
}

/// Posts what the pipeline of `link` gets, for as long as the task is let run.
pub(super) async fn run(link: Arc<Link>) {
    let mut idle = Vec::new();
    let mut posts = FuturesUnordered::new();
    loop {
        while posts.len() < CONNECTIONS
            && let Some(message) = link.pipeline.pop()
        {
            posts.push(post(&link, idle.pop(), message));
        }
        tokio::select! {
            () = link.pipeline.pushed.notified(), if posts.len() < CONNECTIONS => {}
            Some(client) = posts.next() => idle.extend(client),
        }
    }
}

/// Posts one message; the connection, if it may serve another one.
async fn post(link: &Link, client: Option<Client>, message: Message) -> Option<Client> {
    let bytes = Bytes::from(message.encode_to_vec());
    let len = bytes.len();
    let mut client = client.unwrap_or_default();
    let request = |url: &_| {
        post_request(
            &link.shared,
            url,
            "/raft",
            "application/protobuf",
            PostBody::new(Full::new(bytes)),
        )
    };
    match client
        .request(link, POST_TIMEOUT, request)
        .await
        .and_then(|(status, body)| check_post(status, &body))
    {
        Ok(()) => {
            link.status.activate();
            link.status.sent(len);
            Some(client)
        }
        Err(error) => {
            let unsent = error.is_before_request();
            client.failed(link, "pipeline", "write", &error);
            match unsent {
                true => link.unsent([message]),
                false => link.unreachable(),
            }
            None
        }
    }
}
