//! A client that watches keys, and goes on elsewhere when its connection ends.

use etcd_mvcc::watch::{Filters, Response, WatchCreate};

use super::{Map, Sender};
use crate::checkers::watch::{Continues, Watcher};
use crate::env::Env;
use crate::event::MS;
use crate::request::{Caller, Request};

/// See the module.
pub(crate) struct Watch {
    sender: Sender,
    pub(crate) watcher: Watcher,
    /// Member and number of the request that opened the stream.
    connection: Option<(u64, u64)>,
    /// When it does something next: what is scheduled for earlier is passed over.
    next: u64,
}

impl Watch {
    pub(crate) fn new(client: usize, env: &mut Env) -> Watch {
        let (key, range_end): (&str, &str) = match env.random.below(4) {
            0 => ("k", "l"),
            1 => ("t", "u"),
            2 => ("l/", "l0"),
            _ => ("\0", "\0"),
        };
        let create = WatchCreate {
            key: key.into(),
            range_end: range_end.into(),
            // From now, from the beginning, or from a revision to come.
            start_revision: env.random.pick(&[0, 0, 1, 60]).unwrap_or(0),
            progress_notify: true,
            filters: Filters {
                no_put: env.random.permille(100),
                no_delete: env.random.permille(100),
            },
            prev_kv: env.random.permille(400),
            watch_id: 0,
            fragment: env.random.permille(300),
        };
        Watch {
            sender: Sender::new(client),
            watcher: Watcher::new(create),
            connection: None,
            next: 0,
        }
    }

    pub(super) fn wake(&mut self, env: &mut Env, map: &Map) {
        if env.now < self.next {
            return;
        }
        let Some((member, number)) = self.connection else {
            let member = match env.random.pick(&map.members) {
                Some(member) if !map.ending => member,
                _ => map.leader.unwrap_or(1),
            };
            let request = Request::Watch(Box::new(self.watcher.request()));
            let number = self.sender.cast(member, request, env);
            self.connection = Some((member, number));
            return self.sleep(200 * MS, 4000 * MS, env);
        };
        let stream = Caller {
            client: self.sender.client,
            number,
        };
        // Once all is quiet it goes where it will get everything.
        let moves = map.ending && Some(member) != map.leader;
        if moves || (!map.ending && env.random.permille(250)) {
            self.sender.cast(member, Request::CloseWatch(stream), env);
            self.connection = None;
            return self.sleep(MS, 500 * MS, env);
        }
        self.sender.cast(member, Request::Progress(stream), env);
        self.sleep(200 * MS, 4000 * MS, env);
    }

    fn sleep(&mut self, low_us: u64, high_us: u64, env: &mut Env) {
        let delay = env.random.between(low_us, high_us);
        self.next = env.now + delay;
        self.sender.sleep(delay, delay, env);
    }

    pub(super) fn watched(&mut self, number: u64, response: Option<&Response>, env: &mut Env) {
        if self.connection.is_none_or(|(_, n)| n != number) {
            return;
        }
        let Some(response) = response else {
            self.connection = None;
            return self.sleep(MS, 500 * MS, env);
        };
        env.note(format_args!(
            "watch {} at {}: revision {} created {} canceled {} compacted {} events {}",
            self.sender.client,
            self.watcher.next,
            response.revision,
            response.created,
            response.canceled,
            response.compact_revision,
            response.events.len()
        ));
        match self.watcher.take(response, &env.check.state) {
            Ok(Continues::Yes) => {}
            Ok(Continues::Canceled) => {
                self.connection = None;
                self.sleep(MS, 100 * MS, env);
            }
            Err(what) => env.check.report(what),
        }
    }
}
