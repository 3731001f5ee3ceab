//! What members and clients share: time, chance, the network, the checkers.

use std::collections::BTreeMap;

use etcd_proto::raftpb::{Message, MessageType};

use crate::checkers::Checkers;
use crate::event::{Event, MS, Pid, Queue};
use crate::planted::Planted;
use crate::profile::Settings;
use crate::random::Random;
use crate::request::{Caller, Reply};
use crate::trace::Trace;

pub(crate) struct Env {
    /// Virtual time since the world began, in microseconds.
    pub(crate) now: u64,
    pub(crate) queue: Queue,
    pub(crate) random: Random,
    pub(crate) trace: Trace,
    pub(crate) check: Checkers,
    pub(crate) planted: Option<Planted>,
    pub(crate) settings: Settings,
    /// Directed links that lose everything, and how many faults cut each.
    cuts: BTreeMap<(u64, u64), u32>,
    /// Members whose disk is slow, and how many faults make it so.
    pub(crate) stalled: BTreeMap<u64, u32>,
    /// Members whose disk completes nothing at all.
    pub(crate) frozen: std::collections::BTreeSet<u64>,
    pub(crate) slow_apply: BTreeMap<u64, u32>,
}

impl Env {
    pub(crate) fn new(seed: u64, settings: Settings, planted: Option<Planted>, text: bool) -> Env {
        Env {
            now: 0,
            queue: Queue::default(),
            random: Random::new(seed ^ 0x5eed_0e7c_d51a_0001),
            trace: Trace::new(text),
            check: Checkers::default(),
            planted,
            settings,
            cuts: BTreeMap::new(),
            stalled: BTreeMap::new(),
            frozen: std::collections::BTreeSet::new(),
            slow_apply: BTreeMap::new(),
        }
    }

    pub(crate) fn is_planted(&self, bug: Planted) -> bool {
        self.planted == Some(bug)
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.now / MS
    }

    pub(crate) fn note(&mut self, line: std::fmt::Arguments<'_>) {
        self.trace.note(self.now, line);
    }

    /// Lets something happen after `delay_us`.
    pub(crate) fn after(&mut self, delay_us: u64, event: Event) {
        self.queue.push(self.now + delay_us, event);
    }

    /// Lets something happen after a time between the two, in microseconds.
    pub(crate) fn soon(&mut self, low: u64, high: u64, event: Event) {
        let delay = self.random.between(low, high);
        self.after(delay, event);
    }

    pub(crate) fn cut(&mut self, links: &[(u64, u64)]) {
        for link in links {
            *self.cuts.entry(*link).or_insert(0) += 1;
        }
    }

    pub(crate) fn mend(&mut self, links: &[(u64, u64)]) {
        for link in links {
            if let Some(count) = self.cuts.get_mut(link) {
                *count -= 1;
                if *count == 0 {
                    self.cuts.remove(link);
                }
            }
        }
    }

    pub(crate) fn is_cut(&self, from: u64, to: u64) -> bool {
        self.cuts.contains_key(&(from, to))
    }

    /// Sends a message without an image; the network may lose, delay, repeat and
    /// reorder it.
    pub(crate) fn send(&mut self, from: Pid, message: Message) {
        let kind = message.r#type();
        if kind == MessageType::MsgVoteResp
            && !message.reject
            && self.random.permille(self.settings.kill_voters)
        {
            // Who has just promised something is the one to lose its memory.
            self.soon(0, 20 * MS, Event::Kill(message.from));
        }
        let lost =
            self.is_cut(message.from, message.to) || self.random.permille(self.settings.drop);
        if lost {
            if self.random.permille(300) {
                let peer = message.to;
                self.soon(MS, 100 * MS, Event::Unreachable { at: from, peer });
            }
            return;
        }
        // A proposal travels over a connection that delivers it once or not at all.
        if kind != MessageType::MsgProp && self.random.permille(self.settings.duplicate) {
            let delay = self.latency() * 3;
            self.after(delay, Event::Message(Box::new(message.clone())));
        }
        if self.random.permille(self.settings.duplicate / 4) {
            // Misdirected: whoever gets it must see that it is not meant.
            let mut astray = message.clone();
            astray.to ^= 1 << 40;
            let delay = self.latency();
            self.after(delay, Event::Message(Box::new(astray)));
        }
        let delay = self.latency();
        self.after(delay, Event::Message(Box::new(message)));
    }

    /// Time of a message under way, in microseconds.
    pub(crate) fn latency(&mut self) -> u64 {
        match self.random.below(1000) {
            n if n < self.settings.slow => self.random.between(10 * MS, 300 * MS),
            n if n < 10 * self.settings.slow => self.random.between(MS, 20 * MS),
            _ => self.random.between(100, 2 * MS),
        }
    }

    /// Answers a client.
    pub(crate) fn reply(&mut self, to: Caller, reply: Reply) {
        let delay = self.random.between(50, 2 * MS);
        let reply = Box::new(reply);
        self.after(delay, Event::Reply { to, reply });
    }
}
