//! The watch thread and the streams of watches.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use etcd_mvcc::Record;
use etcd_mvcc::watch::{Config, Slice, SliceBudget, StreamId, WatchCreate, WatchHub};
use etcd_replica::View;

use super::{Death, Process};
use crate::env::Env;
use crate::event::{Event, MS, Turn};
use crate::planted::Planted;
use crate::request::Caller;

/// The hub and what waits for it.
pub(super) struct Watches {
    hub: WatchHub,
    view: Arc<View>,
    publications: VecDeque<Publication>,
    streams: BTreeMap<Caller, Stream>,
    busy: bool,
}

enum Publication {
    Records(Vec<Record>, Arc<View>),
    Reset(Arc<View>),
}

struct Stream {
    id: StreamId,
    /// When the last response arrives: what follows does not overtake it.
    arrives: u64,
}

impl Watches {
    pub(super) fn new(view: Arc<View>) -> Watches {
        // Small bounds, so that watches fall behind.
        let config = Config {
            stream_bytes: 2 << 10,
            stream_bytes_min: 512,
            response_bytes: 512,
            ..Config::default()
        };
        Watches {
            hub: WatchHub::new(config, view.kv.revision()),
            view,
            publications: VecDeque::new(),
            streams: BTreeMap::new(),
            busy: false,
        }
    }

    /// Publishes what waits, as whoever takes the hub does first.
    fn drain(&mut self) {
        while let Some(publication) = self.publications.pop_front() {
            match publication {
                Publication::Records(records, view) => {
                    self.view = view;
                    self.hub.publish(&records, &self.view.kv);
                }
                Publication::Reset(view) => {
                    self.view = view;
                    self.hub.advance(self.view.kv.revision());
                }
            }
        }
    }
}

impl Process {
    pub(super) fn push_publication(
        &mut self,
        records: Vec<Record>,
        view: Arc<View>,
        env: &mut Env,
    ) {
        let publications = &mut self.watches.publications;
        publications.push_back(Publication::Records(records, view));
        self.schedule_watch(env);
    }

    pub(super) fn reset_watches(&mut self, env: &mut Env) {
        let publications = &mut self.watches.publications;
        publications.push_back(Publication::Reset(self.view.clone()));
        self.schedule_watch(env);
    }

    fn schedule_watch(&mut self, env: &mut Env) {
        if !self.watches.busy {
            self.watches.busy = true;
            env.soon(10, 2 * MS, self.event(Turn::Watch));
        }
    }

    pub(super) fn watch_turn(&mut self, env: &mut Env) -> Result<(), Death> {
        let watches = &mut self.watches;
        watches.busy = false;
        watches.drain();
        let view = watches.view.clone();
        if watches.hub.wants_catch_up()
            && let Some(plan) = watches.hub.plan(&view.kv)
        {
            let budget = SliceBudget {
                records: env.random.between(1, 20) as usize,
                bytes: 1 << 20,
            };
            let fed = Slice::read(plan, budget, &view.kv)
                .and_then(|slice| watches.hub.feed(&slice, &view.kv));
            match fed {
                Ok(_) => {}
                // The view may be of before a compaction: the next one tells.
                Err(etcd_mvcc::ArchiveError::Compacted) => {}
                Err(error) => return Err(Death::Bug(format!("watch: {error}"))),
            }
        }
        let _woken = watches.hub.take_woken();
        let mut more = watches.hub.wants_catch_up();
        for (caller, stream) in &mut watches.streams {
            // A client that is slow now and then.
            if env.random.permille(100) {
                more |= watches.hub.has_output(stream.id);
                continue;
            }
            let credit = env.random.between(1, 2000) as usize;
            for response in watches.hub.poll(stream.id, credit) {
                let delay = env.latency();
                stream.arrives = stream.arrives.max(env.now + delay) + 1;
                let event = Event::Watched {
                    to: *caller,
                    response: Some(Box::new(response)),
                };
                env.queue.push(stream.arrives, event);
            }
            more |= watches.hub.has_output(stream.id);
        }
        if more {
            self.schedule_watch(env);
        }
        Ok(())
    }

    pub(super) fn open_watch(&mut self, caller: Caller, mut create: WatchCreate, env: &mut Env) {
        let watches = &mut self.watches;
        watches.drain();
        let id = watches.hub.open_stream();
        if env.is_planted(Planted::DropOnResume)
            && (1..watches.view.kv.revision()).contains(&create.start_revision)
        {
            create.start_revision += 1;
        }
        watches.hub.create(id, &create, &watches.view.kv);
        let stream = Stream {
            id,
            arrives: env.now,
        };
        watches.streams.insert(caller, stream);
        self.schedule_watch(env);
    }

    pub(super) fn close_watch(&mut self, caller: Caller) {
        if let Some(stream) = self.watches.streams.remove(&caller) {
            self.watches.hub.close_stream(stream.id);
        }
    }

    pub(super) fn request_progress(&mut self, caller: Caller, env: &mut Env) {
        self.watches.drain();
        if let Some(stream) = self.watches.streams.get(&caller) {
            let id = stream.id;
            if env.random.permille(500) {
                self.watches.hub.request_progress(id);
            } else {
                self.watches.hub.tick_progress(id);
            }
            self.schedule_watch(env);
        }
    }

    /// The process has ended: the clients see their connections end, some of them
    /// after what was on its way.
    pub(crate) fn drop_streams(&self, env: &mut Env) {
        for (caller, stream) in &self.watches.streams {
            let lost = Event::Watched {
                to: *caller,
                response: None,
            };
            let at = match env.random.below(2) {
                0 => env.now,
                _ => stream.arrives.max(env.now),
            };
            env.queue.push(at + 1, lost);
        }
    }
}
