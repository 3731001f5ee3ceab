//! How far a watch has come, told when there are no events to show it.

use super::hub::WatchHub;
use super::response::{NO_WATCH, Response};
use super::stream::StreamId;

impl WatchHub {
    /// Tells the progress of the whole stream, if none of its watches is behind or
    /// waits for a revision beyond the next one; otherwise says nothing.
    pub fn request_progress(&mut self, stream: StreamId) -> bool {
        let head = self.head;
        let Some(open) = self.streams.get_mut(stream.index) else {
            return false;
        };
        if open.generation != stream.generation
            || open.watchers.is_empty()
            || open.lagging > 0
            || open.last_revision > head
        {
            return false;
        }
        if open.latest_start > head + 1 {
            let starts = open
                .watchers
                .values()
                .map(|index| self.watchers[*index].start);
            open.latest_start = starts.max().unwrap_or(0);
            if open.latest_start > head + 1 {
                return false;
            }
        }
        let response = Response {
            revision: open.header_revision(head),
            watch_id: NO_WATCH,
            ..Response::default()
        };
        open.push_control(response);
        self.wake(stream.index);
        true
    }

    /// One tick of `progress_notify` for a stream: tells the progress of each of
    /// its watches that asked for it, is synced, and had no event since the last
    /// tick. A stream with unread output gets none.
    pub fn tick_progress(&mut self, stream: StreamId) -> Vec<StreamId> {
        if self.stream(stream).is_some() {
            self.tick(stream.index);
        }
        self.take_woken()
    }

    /// [`WatchHub::tick_progress`] for all streams.
    pub fn tick_progress_all(&mut self) -> Vec<StreamId> {
        let indices: Vec<u32> = self.streams.indices().collect();
        for index in indices {
            self.tick(index);
        }
        self.take_woken()
    }

    fn tick(&mut self, index: u32) {
        let head = self.head;
        let open = &mut self.streams[index];
        if open.notified == 0 {
            return;
        }
        let quiet = !open.has_output() && open.last_revision <= head;
        let watchers: Vec<u32> = open.watchers.values().copied().collect();
        for watcher in watchers {
            let watcher = &mut self.watchers[watcher];
            if !watcher.progress_notify {
                continue;
            }
            let due = std::mem::replace(&mut watcher.quiet, true);
            if due && quiet && watcher.is_synced() && watcher.start <= head + 1 {
                let response = Response {
                    revision: head,
                    watch_id: watcher.watch_id,
                    ..Response::default()
                };
                let open = &mut self.streams[index];
                open.header_revision(head);
                open.push_control(response);
            }
        }
        self.wake(index);
    }
}
