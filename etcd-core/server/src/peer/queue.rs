//! Messages on their way into one stream.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use etcd_proto::raftpb::Message;
use parking_lot::Mutex;

use super::STREAM_TIMEOUT;

/// A queue bounded in bytes, in front of at most one connection. Without one it takes
/// nothing; a new one replaces the one before.
#[derive(Debug)]
pub(super) struct Queue {
    limit_bytes: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Number of connections so far; the last one is the current one.
    connections: u64,
    connected: bool,
    messages: VecDeque<Message>,
    bytes: usize,
    /// The connection's task, if it waits for messages.
    waker: Option<Waker>,
    /// When the connection last took messages, or found none.
    taken: Instant,
}

/// What became of a message.
#[derive(Debug)]
pub(super) enum Push {
    Queued,
    /// There is no room.
    Full(Message),
    /// There is no connection. What waited for one that has just been given up is `unsent`.
    NotConnected {
        message: Message,
        unsent: Vec<Message>,
    },
}

impl Queue {
    pub(super) fn new(limit_bytes: usize) -> Queue {
        Queue {
            limit_bytes,
            state: Mutex::new(State {
                connections: 0,
                connected: false,
                messages: VecDeque::new(),
                bytes: 0,
                waker: None,
                taken: Instant::now(),
            }),
        }
    }

    /// Adds a message.
    pub(super) fn push(&self, message: Message) -> Push {
        let mut state = self.state.lock();
        if !state.connected {
            return Push::NotConnected {
                message,
                unsent: Vec::new(),
            };
        }
        // A peer that went silent leaves its connection stuck in a write.
        if !state.messages.is_empty() && state.taken.elapsed() > STREAM_TIMEOUT {
            let unsent = state.disconnect();
            return Push::NotConnected { message, unsent };
        }
        let size = cost(&message);
        if state.bytes + size > self.limit_bytes && !state.messages.is_empty() {
            return Push::Full(message);
        }
        state.bytes += size;
        if state.messages.is_empty() {
            state.taken = Instant::now();
        }
        state.messages.push_back(message);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        Push::Queued
    }

    /// Makes a new connection the current one. Returns its number, and what the one
    /// before did not take any more.
    pub(super) fn attach(&self) -> (u64, Vec<Message>) {
        let mut state = self.state.lock();
        let unsent = state.disconnect();
        state.connections += 1;
        state.connected = true;
        state.taken = Instant::now();
        (state.connections, unsent)
    }

    /// Ends a connection. `None` if it was not the current one any more, else what it
    /// did not take any more.
    pub(super) fn detach(&self, connection: u64) -> Option<Vec<Message>> {
        let mut state = self.state.lock();
        (state.connected && state.connections == connection).then(|| state.disconnect())
    }

    /// Ends whatever connection there is, and returns what waited for it.
    pub(super) fn close(&self) -> Vec<Message> {
        self.state.lock().disconnect()
    }

    /// Whether there is a connection.
    #[cfg(test)]
    pub(super) fn is_connected(&self) -> bool {
        self.state.lock().connected
    }

    /// Takes messages of up to about `max_bytes` for a connection, at least one; `None`
    /// once it is not the current one any more.
    pub(super) fn poll_take(
        &self,
        connection: u64,
        context: &mut Context<'_>,
        max_bytes: usize,
        into: &mut Vec<Message>,
    ) -> Poll<Option<()>> {
        let mut state = self.state.lock();
        if !state.connected || state.connections != connection {
            return Poll::Ready(None);
        }
        state.taken = Instant::now();
        let mut taken = 0;
        while taken < max_bytes {
            let Some(message) = state.messages.pop_front() else {
                break;
            };
            taken += cost(&message);
            into.push(message);
        }
        state.bytes -= taken;
        if into.is_empty() {
            state.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Some(()))
    }
}

impl State {
    /// Returns what waited for the connection.
    fn disconnect(&mut self) -> Vec<Message> {
        self.connected = false;
        self.bytes = 0;
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        std::mem::take(&mut self.messages).into()
    }
}

/// Bytes that a message holds, about.
pub(super) fn cost(message: &Message) -> usize {
    let entries: usize = message
        .entries
        .iter()
        .map(|entry| entry.data.len() + size_of_val(entry))
        .sum();
    let responses: usize = message.responses.iter().map(cost).sum();
    size_of_val(message) + message.context.len() + entries + responses
}
