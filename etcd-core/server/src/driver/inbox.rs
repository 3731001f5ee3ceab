//! The queue in front of consensus: whatever happens while one step runs becomes
//! the batch of the next.

use std::time::Instant;

use etcd_proto::raftpb::Message;
use etcd_replica::Input;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::error::RequestError;

/// Proposals waiting for a step, in bytes; beyond it they are refused.
const PROPOSALS_BYTES_MAX: usize = 64 << 20;
/// Messages of peers waiting for a step, in bytes; beyond it their connections wait.
const MESSAGES_BYTES_MAX: usize = 64 << 20;
/// What a message without entries counts for.
const MESSAGE_BYTES: usize = 256;

/// A linearizable read that waits for its index and for it to be applied.
pub(crate) type ReadWaiter = oneshot::Sender<Result<(), RequestError>>;

#[derive(Default)]
struct Queue {
    inputs: Vec<Input>,
    reads: Vec<ReadWaiter>,
    unsent: Vec<Message>,
    proposal_bytes: usize,
    message_bytes: usize,
    stopped: bool,
}

/// What was waiting.
pub(crate) struct Batch {
    pub(crate) inputs: Vec<Input>,
    pub(crate) reads: Vec<ReadWaiter>,
    /// Proposals that did not leave this member.
    pub(crate) unsent: Vec<Message>,
    pub(crate) stopped: bool,
}

/// Inputs on their way to the consensus thread.
#[derive(Default)]
pub(crate) struct Inbox {
    queue: Mutex<Queue>,
    wake: Condvar,
}

impl Inbox {
    /// Adds an input. Proposals and messages beyond the bound are refused;
    /// completions of the disk and the applier are always taken.
    pub(crate) fn push(&self, input: Input) -> Result<(), RequestError> {
        let stopped = || self.queue.lock().stopped;
        self.offer(input).map_err(|_| {
            if stopped() {
                RequestError::Stopped
            } else {
                RequestError::TooManyRequests
            }
        })
    }

    /// As [`Inbox::push`], and gives the input back if it is refused.
    pub(crate) fn offer(&self, input: Input) -> Result<(), Input> {
        let mut queue = self.queue.lock();
        if queue.stopped {
            return Err(input);
        }
        match &input {
            Input::Propose { data, .. } => {
                if queue.proposal_bytes + data.len() > PROPOSALS_BYTES_MAX {
                    return Err(input);
                }
                queue.proposal_bytes += data.len();
            }
            Input::Message(message) => {
                let bytes =
                    message.entries.iter().map(|e| e.data.len()).sum::<usize>() + MESSAGE_BYTES;
                // One message is always taken, however large.
                if queue.message_bytes > 0 && queue.message_bytes + bytes > MESSAGES_BYTES_MAX {
                    return Err(input);
                }
                queue.message_bytes += bytes;
            }
            _ => {}
        }
        let sleeping = queue.inputs.is_empty() && queue.reads.is_empty();
        queue.inputs.push(input);
        drop(queue);
        if sleeping {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Adds a read that waits for its index.
    pub(crate) fn push_read(&self, read: ReadWaiter) {
        let mut queue = self.queue.lock();
        if queue.stopped {
            // The waiter learns of it by the sender's end.
            return;
        }
        let sleeping = queue.inputs.is_empty() && queue.reads.is_empty();
        queue.reads.push(read);
        drop(queue);
        if sleeping {
            self.wake.notify_one();
        }
    }

    /// Adds proposals that did not leave this member. They are as many as it holds
    /// clients, and wait for the next turn, whenever that is.
    pub(crate) fn push_unsent(&self, message: Message) {
        self.queue.lock().unsent.push(message);
    }

    /// Ends the thread that takes; nothing more is accepted.
    pub(crate) fn stop(&self) {
        self.queue.lock().stopped = true;
        self.wake.notify_all();
    }

    /// Waits until something is there or the deadline has come.
    pub(crate) fn take(&self, deadline: Instant) -> Batch {
        let mut queue = self.queue.lock();
        while queue.inputs.is_empty() && queue.reads.is_empty() && !queue.stopped {
            if self.wake.wait_until(&mut queue, deadline).timed_out() {
                break;
            }
        }
        queue.proposal_bytes = 0;
        queue.message_bytes = 0;
        Batch {
            inputs: std::mem::take(&mut queue.inputs),
            reads: std::mem::take(&mut queue.reads),
            unsent: std::mem::take(&mut queue.unsent),
            stopped: queue.stopped,
        }
    }
}
