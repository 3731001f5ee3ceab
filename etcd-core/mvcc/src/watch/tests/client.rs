//! A client of one stream: it decodes what it gets and checks what must hold of
//! every stream.

use std::collections::BTreeMap;

use bytes::Bytes;
use etcd_proto::etcdserverpb::{ResponseHeader, WatchResponse};
use etcd_proto::mvccpb::Event;
use prost::Message;

use crate::watch::{StreamId, WatchHub};

/// What became of a watch.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Seen {
    pub(super) events: Vec<Event>,
    pub(super) created_at: i64,
    pub(super) canceled: bool,
    pub(super) compact_revision: i64,
    /// Every progress revision heard, and how many events had come before it.
    pub(super) progress: Vec<(i64, usize)>,
    /// The last response was a fragment.
    unfinished: bool,
}

#[derive(Debug)]
pub(super) struct Client {
    pub(super) stream: StreamId,
    pub(super) watches: BTreeMap<i64, Seen>,
    /// Everything, in order.
    pub(super) responses: Vec<WatchResponse>,
    last_revision: i64,
}

impl Client {
    pub(super) fn open(hub: &mut WatchHub) -> Client {
        Client {
            stream: hub.open_stream(),
            watches: BTreeMap::new(),
            responses: Vec::new(),
            last_revision: 0,
        }
    }

    /// Reads up to `credit` bytes and returns the number of responses.
    pub(super) fn poll(&mut self, hub: &mut WatchHub, credit: usize) -> usize {
        let header = ResponseHeader {
            cluster_id: 7,
            member_id: 8,
            revision: 0,
            raft_term: 9,
        };
        let responses = hub.poll(self.stream, credit);
        for response in &responses {
            let mut bytes = Vec::new();
            response.encode(&header, &mut bytes);
            assert_eq!(bytes.len(), response.encoded_len(&header));
            let decoded = WatchResponse::decode(Bytes::from(bytes)).unwrap();
            let got = decoded.header.unwrap();
            assert_eq!((got.cluster_id, got.member_id, got.raft_term), (7, 8, 9));
            self.take(decoded);
        }
        responses.len()
    }

    /// Reads until nothing waits.
    pub(super) fn drain(&mut self, hub: &mut WatchHub) {
        while hub.has_output(self.stream) {
            assert!(self.poll(hub, 1 << 20) > 0);
        }
    }

    fn take(&mut self, response: WatchResponse) {
        let revision = response.header.unwrap().revision;
        if response.compact_revision == 0 {
            // B114: revisions in a stream never decrease.
            assert!(revision >= self.last_revision, "header revision fell");
            self.last_revision = revision;
        }
        match (response.created, response.canceled) {
            (true, true) => assert_eq!(response.watch_id, -1),
            (true, false) => {
                let seen = Seen {
                    created_at: revision,
                    ..Seen::default()
                };
                self.watches.insert(response.watch_id, seen);
            }
            (false, true) => {
                let seen = self.watches.get_mut(&response.watch_id).unwrap();
                assert!(!seen.canceled && !seen.unfinished);
                seen.canceled = true;
                seen.compact_revision = response.compact_revision;
            }
            (false, false) if response.events.is_empty() => {
                for (id, seen) in &mut self.watches {
                    if !seen.canceled && [-1, *id].contains(&response.watch_id) {
                        seen.progress.push((revision, seen.events.len()));
                    }
                }
            }
            (false, false) => {
                let seen = self.watches.get_mut(&response.watch_id);
                let seen = seen.expect("no event before the watch is created");
                assert!(!seen.canceled, "event after the end of the watch");
                for event in &response.events {
                    let main = event.kv.as_ref().unwrap().mod_revision;
                    assert!(main <= revision, "header is behind its event");
                    if let Some(last) = seen.events.last() {
                        let last = last.kv.as_ref().unwrap().mod_revision;
                        assert!(last <= main, "events out of order");
                        let split = last == main && !seen.unfinished;
                        let first = std::ptr::eq(event, &response.events[0]);
                        assert!(!(split && first), "revision split without fragments");
                    }
                    seen.events.push(event.clone());
                }
                seen.unfinished = response.fragment;
            }
        }
        self.responses.push(response);
    }
}

/// Reads all clients and serves all laggards until nothing is left to do.
pub(super) fn settle(
    hub: &mut WatchHub,
    clients: &mut [Client],
    history: &dyn crate::watch::History,
) {
    loop {
        for client in clients.iter_mut() {
            client.drain(hub);
        }
        if !hub.wants_catch_up() {
            return;
        }
        hub.catch_up(Default::default(), history).unwrap();
    }
}
