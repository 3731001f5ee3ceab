//! The watch thread, and the streams' access to the hub.
//!
//! Publications wait in a queue of their own, so that the apply thread never waits
//! for the hub. Whoever takes the hub's lock works the queue off first: what a
//! client was told is applied is always published before its next watch begins.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use etcd_mvcc::Record;
use etcd_mvcc::watch::{
    Config, Outcome, Response, Slice, SliceBudget, Stats, StreamId, WatchCreate, WatchHub,
};
use etcd_replica::View;
use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::Notify;

/// Publications joined into one hold of the hub's lock.
const PUBLICATIONS_MAX: usize = 64;
/// Bytes of records that wait for the watch thread. When there are more, they are let
/// go of, and the watches read them from the history.
const QUEUE_BYTES_MAX: usize = 16 << 20;
/// Publications that wait; each keeps the nodes of the index that its view names.
const QUEUE_LEN_MAX: usize = 4096;
/// After a failed reading of the history.
const RETRY: Duration = Duration::from_millis(100);

enum Publication {
    Records(Vec<Record>, Arc<View>),
    /// The history up to this view is in no publication: the state was replaced, or the
    /// publications were too many.
    Reset(Arc<View>),
}

impl Publication {
    fn bytes(&self) -> usize {
        match self {
            Publication::Records(records, _) => records.iter().map(Record::cost).sum(),
            Publication::Reset(_) => 0,
        }
    }

    fn into_view(self) -> Arc<View> {
        match self {
            Publication::Records(_, view) | Publication::Reset(view) => view,
        }
    }
}

struct Hub {
    hub: WatchHub,
    view: Arc<View>,
    streams: HashMap<StreamId, Arc<Notify>>,
}

impl Hub {
    fn wake(&self, streams: Vec<StreamId>) {
        for stream in streams {
            if let Some(notify) = self.streams.get(&stream) {
                notify.notify_one();
            }
        }
    }

    fn publish(&mut self, publication: Publication) {
        match publication {
            Publication::Records(records, view) => {
                self.view = view;
                let woken = self.hub.publish(&records, &self.view.kv);
                self.wake(woken);
            }
            Publication::Reset(view) => {
                self.view = view;
                self.hub.advance(self.view.kv.revision());
            }
        }
    }
}

#[derive(Default)]
struct Queue {
    publications: VecDeque<Publication>,
    /// Bytes of their records.
    bytes: usize,
    /// Somebody has made a watch that is behind, or room for one.
    kicked: bool,
}

impl Queue {
    fn push(&mut self, publication: Publication) {
        self.bytes += publication.bytes();
        self.publications.push_back(publication);
        if (self.bytes > QUEUE_BYTES_MAX || self.publications.len() > QUEUE_LEN_MAX)
            && let Some(newest) = self.publications.pop_back()
        {
            self.publications.clear();
            self.publications
                .push_back(Publication::Reset(newest.into_view()));
            self.bytes = 0;
        }
    }

    fn pop(&mut self) -> Option<Publication> {
        let publication = self.publications.pop_front()?;
        self.bytes -= publication.bytes();
        Some(publication)
    }
}

/// All watches of this member.
pub struct Watches {
    hub: Mutex<Hub>,
    queue: Mutex<Queue>,
    work: Condvar,
    stopped: AtomicBool,
}

impl Watches {
    pub(super) fn new(view: Arc<View>, max_request_bytes: usize) -> Self {
        let config = Config {
            // The size from which etcd splits: its receive limit.
            fragment_bytes: max_request_bytes.saturating_add(512 << 10),
            ..Config::default()
        };
        let hub = WatchHub::new(config, view.kv.revision());
        Watches {
            hub: Mutex::new(Hub {
                hub,
                view,
                streams: HashMap::new(),
            }),
            queue: Mutex::default(),
            work: Condvar::new(),
            stopped: AtomicBool::new(false),
        }
    }

    /// Queues what was applied. Called after the view is published, before any reply.
    pub(super) fn push(&self, records: Vec<Record>, view: Arc<View>) {
        self.queue.lock().push(Publication::Records(records, view));
        self.work.notify_one();
    }

    /// The state was replaced by a snapshot's.
    pub(super) fn reset(&self, view: Arc<View>) {
        self.queue.lock().push(Publication::Reset(view));
        self.work.notify_one();
    }

    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.kick();
    }

    fn kick(&self) {
        self.queue.lock().kicked = true;
        self.work.notify_one();
    }

    /// The watch thread: publishes, and serves those who are behind.
    pub(super) fn run(&self) {
        while !self.stopped.load(Ordering::Acquire) {
            let behind = self.current(PUBLICATIONS_MAX).hub.wants_catch_up();
            let progress = behind && self.catch_up();
            let mut queue = self.queue.lock();
            if !progress && !queue.kicked && queue.publications.is_empty() {
                if behind {
                    // What stopped the reading may pass.
                    self.work.wait_for(&mut queue, RETRY);
                } else {
                    self.work.wait(&mut queue);
                }
            }
            queue.kicked = false;
        }
    }

    /// The hub with everything published that was queued before the call.
    fn current(&self, most: usize) -> MutexGuard<'_, Hub> {
        let mut hub = self.hub.lock();
        for _ in 0..most {
            let Some(publication) = self.queue.lock().pop() else {
                break;
            };
            hub.publish(publication);
        }
        hub
    }

    /// One slice of history for those who are behind, read outside the lock; whether
    /// anything was read.
    fn catch_up(&self) -> bool {
        let (plan, view) = {
            let mut hub = self.current(usize::MAX);
            let view = hub.view.clone();
            let plan = hub.hub.plan(&view.kv);
            let woken = hub.hub.take_woken();
            hub.wake(woken);
            match plan {
                Some(plan) => (plan, view),
                None => return false,
            }
        };
        let slice = match Slice::read(plan, SliceBudget::default(), &view.kv) {
            Ok(slice) => slice,
            Err(error) => {
                tracing::warn!(%error, "failed to read the history for a watch");
                return false;
            }
        };
        let mut hub = self.hub.lock();
        let fed = hub.hub.feed(&slice, &view.kv);
        let woken = hub.hub.take_woken();
        hub.wake(woken);
        match fed {
            Ok(woken) => {
                hub.wake(woken);
                true
            }
            Err(error) => {
                tracing::warn!(%error, "failed to read a previous value for a watch");
                false
            }
        }
    }

    /// Opens a stream.
    pub fn open(self: &Watches) -> StreamHandle {
        let mut hub = self.current(usize::MAX);
        let id = hub.hub.open_stream();
        let notify = Arc::new(Notify::new());
        hub.streams.insert(id, notify.clone());
        StreamHandle { id, notify }
    }

    /// Closes a stream and ends its watches.
    pub fn close(&self, stream: &StreamHandle) {
        let mut hub = self.hub.lock();
        hub.hub.close_stream(stream.id);
        hub.streams.remove(&stream.id);
    }

    /// Begins a watch; the answer comes by [`Watches::poll`].
    pub fn create(&self, stream: &StreamHandle, request: &WatchCreate) -> Outcome {
        let mut hub = self.current(usize::MAX);
        let view = hub.view.clone();
        let outcome = hub.hub.create(stream.id, request, &view.kv);
        let woken = hub.hub.take_woken();
        hub.wake(woken);
        drop(hub);
        // A watch of the past is served by the watch thread.
        self.kick();
        outcome
    }

    /// Ends a watch.
    pub fn cancel(&self, stream: &StreamHandle, watch_id: i64) {
        let mut hub = self.current(usize::MAX);
        let view = hub.view.clone();
        hub.hub.cancel(stream.id, watch_id, &view.kv);
        let woken = hub.hub.take_woken();
        hub.wake(woken);
    }

    /// Answers with the progress of the stream, if all its watches are synced.
    pub fn request_progress(&self, stream: &StreamHandle) {
        let mut hub = self.current(usize::MAX);
        hub.hub.request_progress(stream.id);
        let woken = hub.hub.take_woken();
        hub.wake(woken);
    }

    /// Tells the watches of the stream that asked for it how far they have come.
    pub fn tick_progress(&self, stream: &StreamHandle) {
        let mut hub = self.current(usize::MAX);
        let woken = hub.hub.tick_progress(stream.id);
        hub.wake(woken);
    }

    /// What waits for the stream, up to `credit` bytes; whether there is more.
    pub fn poll(&self, stream: &StreamHandle, credit: usize) -> (Vec<Response>, bool) {
        let mut hub = self.hub.lock();
        let responses = hub.hub.poll(stream.id, credit);
        let more = hub.hub.has_output(stream.id);
        let behind = hub.hub.wants_catch_up();
        drop(hub);
        if behind {
            self.kick();
        }
        (responses, more)
    }

    /// Responses that answer the stream's own requests and were not polled yet.
    pub fn control_backlog(&self, stream: &StreamHandle) -> usize {
        self.hub.lock().hub.control_backlog(stream.id)
    }

    /// Figures for the metrics.
    pub fn stats(&self) -> Stats {
        self.hub.lock().hub.stats()
    }
}

/// One client's stream of watches.
pub struct StreamHandle {
    id: StreamId,
    notify: Arc<Notify>,
}

impl StreamHandle {
    /// Returns when the stream may have something to poll.
    pub async fn woken(&self) {
        self.notify.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etcd_mvcc::{EmptyArchive, Store};
    use etcd_proto::etcdserverpb::PutRequest;

    fn view(store: &Store) -> Arc<View> {
        Arc::new(View {
            kv: store.view(),
            membership: Arc::default(),
            alarms: Arc::default(),
            cluster_version: None,
            downgrade: Default::default(),
            index: 0,
            term: 0,
            db_size: 0,
            db_size_in_use: 0,
            damage: Default::default(),
        })
    }

    #[test]
    fn s31_publications_that_nobody_takes_are_bounded_and_none_is_lost() {
        let mut store = Store::new(Arc::new(EmptyArchive));
        let watches = Watches::new(view(&store), 1 << 20);
        let stream = watches.open();
        let all = WatchCreate {
            range_end: "\0".into(),
            ..WatchCreate::default()
        };
        watches.create(&stream, &all);
        let put = PutRequest {
            key: "k".into(),
            value: vec![b'v'; 1 << 20].into(),
            ..PutRequest::default()
        };
        for _ in 0..40 {
            let applied = store.put(&put, &|_| true).unwrap();
            watches.push(applied.records, view(&store));
            let queue = watches.queue.lock();
            assert!(queue.bytes <= QUEUE_BYTES_MAX && queue.publications.len() < 20);
        }
        let mut events = 0;
        for _ in 0..1000 {
            let (responses, more) = watches.poll(&stream, 1 << 20);
            events += responses
                .iter()
                .map(|response| response.events.len())
                .sum::<usize>();
            if !more {
                watches.catch_up();
            }
        }
        assert_eq!(events, 40);
    }
}
