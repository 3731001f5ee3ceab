//! A watch of the server's own.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use etcd_mvcc::watch::{Filters, WatchCreate};
use etcd_proto::etcdserverpb::WatchResponse;
use etcd_proto::mvccpb::Event;
use prost::Message as _;

use super::super::watch::OpenStream;
use crate::driver::Node;

/// One change, and the revision of the message that told it.
pub(in crate::grpc) struct Change {
    pub(in crate::grpc) revision: i64,
    pub(in crate::grpc) event: Event,
}

/// Changes of some keys, in order.
pub(in crate::grpc) struct Changes {
    stream: OpenStream,
    ready: VecDeque<Change>,
    /// The hub had more than the credit.
    more: bool,
    ended: bool,
}

impl Changes {
    /// Every change of a key from a revision on.
    pub(in crate::grpc) fn of(node: &Node, key: Bytes, from: i64) -> Self {
        Changes::begin(node, key, Bytes::new(), from, Filters::default())
    }

    /// Deletions of a key.
    pub(super) fn deletions(node: &Node, key: Bytes, from: i64) -> Self {
        let filters = Filters {
            no_put: true,
            ..Filters::default()
        };
        Changes::begin(node, key, Bytes::new(), from, filters)
    }

    /// Puts to a range.
    pub(super) fn puts(node: &Node, key: Bytes, range_end: Bytes, from: i64) -> Self {
        let filters = Filters {
            no_delete: true,
            ..Filters::default()
        };
        Changes::begin(node, key, range_end, from, filters)
    }

    fn begin(node: &Node, key: Bytes, range_end: Bytes, from: i64, filters: Filters) -> Self {
        let stream = OpenStream::new(node);
        stream.create(&WatchCreate {
            key,
            range_end,
            start_revision: from,
            filters,
            ..WatchCreate::default()
        });
        Changes {
            stream,
            ready: VecDeque::new(),
            more: false,
            ended: false,
        }
    }

    /// The next change; `None` if what came next was compacted before it was read.
    pub(in crate::grpc) async fn next(&mut self) -> Option<Change> {
        loop {
            if let Some(change) = self.ready.pop_front() {
                return Some(change);
            }
            if self.ended {
                return None;
            }
            if !self.more {
                self.stream.woken().await;
            }
            self.poll();
        }
    }

    fn poll(&mut self) {
        let (responses, more, header) = self.stream.poll();
        self.more = more;
        for response in responses {
            self.ended |= response.canceled;
            let mut encoded = BytesMut::new();
            response.encode(&header, &mut encoded);
            match WatchResponse::decode(encoded.freeze()) {
                Ok(decoded) => self
                    .ready
                    .extend(decoded.events.into_iter().map(|event| Change {
                        revision: response.revision,
                        event,
                    })),
                Err(error) => {
                    tracing::error!(%error, "an event of our own cannot be read");
                    self.ended = true;
                }
            }
        }
    }
}
