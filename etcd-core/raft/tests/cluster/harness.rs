//! The world: members, the network between them, and what may go wrong.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use etcd_proto::raftpb::{
    ConfChange, ConfChangeType, ConfState, Entry, EntryType, HardState, Message, MessageType,
};
use etcd_raft::{Config, ProposeError, Raft, Role};
use prost::Message as _;

use crate::checkers::Checkers;
use crate::node::{Disk, Node, Write};

/// A bug planted to see whether the checkers find it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Bug {
    #[default]
    None,
    /// Messages that wait for the disk do not.
    EarlyAnswers,
    /// A crash loses what the disk said was durable.
    LyingDisk,
    /// A crash loses the vote.
    ForgottenVote,
}

/// How often things go wrong, in percent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) drop: u64,
    pub(crate) duplicate: u64,
    pub(crate) bug: Bug,
}

/// SplitMix64.
#[derive(Debug)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    pub(crate) fn percent(&mut self, chance: u64) -> bool {
        self.next() % 100 < chance
    }
}

pub(crate) fn config(id: u64, seed: u64) -> Config {
    Config {
        id,
        election_tick: 10,
        heartbeat_tick: 3,
        // Small, so that flow control is at work.
        max_size_per_message: 60,
        max_inflight_messages: 4,
        max_inflight_bytes: 200,
        max_uncommitted_bytes: 0,
        check_quorum: true,
        pre_vote: true,
        seed,
    }
}

/// The log that etcd's members start with: the membership, at term 1.
pub(crate) fn bootstrap(voters: &[u64]) -> Disk {
    let entries: Vec<Entry> = voters
        .iter()
        .zip(1..)
        .map(|(id, index)| Entry {
            r#type: EntryType::EntryConfChange as i32,
            term: 1,
            index,
            data: conf_change(ConfChangeType::ConfChangeAddNode, *id)
                .encode_to_vec()
                .into(),
        })
        .collect();
    Disk {
        hard_state: HardState {
            term: 1,
            vote: 0,
            commit: entries.len() as u64,
        },
        entries,
        ..Disk::default()
    }
}

pub(crate) fn conf_change(kind: ConfChangeType, id: u64) -> ConfChange {
    ConfChange {
        r#type: kind as i32,
        node_id: id,
        ..ConfChange::default()
    }
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) nodes: BTreeMap<u64, Node>,
    pub(crate) net: Vec<Message>,
    /// One-way links that lose everything.
    pub(crate) cut: BTreeSet<(u64, u64)>,
    pub(crate) rng: Rng,
    pub(crate) faults: Faults,
    pub(crate) check: Checkers,
    /// Disks that complete nothing.
    pub(crate) stalled: BTreeSet<u64>,
    pub(crate) contexts: u64,
    seed: u64,
}

impl World {
    pub(crate) fn new(seed: u64, voters: &[u64]) -> World {
        World::with(seed, voters, |_| {})
    }

    pub(crate) fn with(seed: u64, voters: &[u64], change: impl Fn(&mut Config)) -> World {
        let mut world = World {
            nodes: BTreeMap::new(),
            net: Vec::new(),
            cut: BTreeSet::new(),
            rng: Rng(seed),
            faults: Faults::default(),
            check: Checkers::default(),
            stalled: BTreeSet::new(),
            contexts: 0,
            seed,
        };
        for id in voters {
            let mut config = config(*id, seed);
            change(&mut config);
            world
                .nodes
                .insert(*id, Node::new(config, bootstrap(voters)));
        }
        world.settle();
        world
    }

    /// A member that joins with an empty disk.
    pub(crate) fn join(&mut self, id: u64) {
        let node = Node::new(config(id, self.seed), Disk::default());
        self.nodes.insert(id, node);
    }

    pub(crate) fn raft(&mut self, id: u64) -> &mut Raft {
        let node = self.nodes.get_mut(&id).expect("a member of the world");
        node.raft.as_mut().expect("it is up")
    }

    pub(crate) fn is_up(&self, id: u64) -> bool {
        self.nodes.get(&id).is_some_and(|node| node.raft.is_some())
    }

    pub(crate) fn up(&self) -> Vec<u64> {
        self.nodes
            .iter()
            .filter(|(_, node)| node.raft.is_some())
            .map(|(id, _)| *id)
            .collect()
    }

    /// Takes what a member has to do, and lets it be done or queues it.
    pub(crate) fn pump(&mut self, id: u64) {
        while self.is_up(id) && self.raft(id).has_ready() {
            let ready = self.raft(id).ready();
            self.send(ready.messages);
            for read in ready.reads {
                self.check.on_read(id, read);
            }
            let snapshot = ready.snapshot.map(|snapshot| {
                let index = snapshot.metadata.expect("raft checks it").index;
                self.check.states[&index].clone()
            });
            let node = self.nodes.get_mut(&id).expect("a member of the world");
            node.to_apply.extend(ready.committed);
            let mut then = ready.messages_after_persist;
            let early = match self.faults.bug {
                Bug::EarlyAnswers => std::mem::take(&mut then),
                _ => Vec::new(),
            };
            match ready.persisted {
                Some(persisted) => node.writes.push_back(Write {
                    hard_state: ready.hard_state,
                    entries: ready.entries,
                    snapshot,
                    then,
                    persisted,
                }),
                None => {
                    let idle = ready.hard_state.is_none()
                        && ready.entries.is_empty()
                        && snapshot.is_none()
                        && then.is_empty();
                    assert!(idle, "what waits for the disk names what to hand back");
                }
            }
            self.send(early);
            let raft = self.nodes[&id].raft.as_ref().expect("it is up");
            self.check.on_role(id, raft);
        }
    }

    fn send(&mut self, messages: Vec<Message>) {
        for m in messages {
            self.check.on_send(&m);
            if self.cut.contains(&(m.from, m.to)) || self.rng.percent(self.faults.drop) {
                self.lost(&m);
                continue;
            }
            if self.rng.percent(self.faults.duplicate) && m.r#type != MessageType::MsgSnap as i32 {
                self.net.push(m.clone());
            }
            self.net.push(m);
        }
    }

    /// The transport tells a sender what became of a snapshot, and of much else.
    fn lost(&mut self, m: &Message) {
        if !self.is_up(m.from) {
            return;
        }
        if m.r#type == MessageType::MsgSnap as i32 {
            self.raft(m.from).report_snapshot(m.to, false);
        } else if self.rng.percent(10) {
            self.raft(m.from).report_unreachable(m.to);
        }
    }

    /// Delivers the message at a place in the network.
    pub(crate) fn deliver(&mut self, place: usize) {
        let m = self.net.remove(place);
        let is_snapshot = m.r#type == MessageType::MsgSnap as i32;
        if !self.is_up(m.to) || self.cut.contains(&(m.from, m.to)) {
            return self.lost(&m);
        }
        let (from, to) = (m.from, m.to);
        if let Err(error) = self.raft(to).step(m.clone()) {
            let expected = matches!(error, etcd_raft::StepError::Dropped(_));
            // Two that think the other leads send a proposal or read back and forth.
            let echo = from == to;
            if !expected && !echo {
                self.check.report(format!("{to} refused {m:?}: {error}"));
            }
        }
        if is_snapshot && self.is_up(from) {
            self.raft(from).report_snapshot(to, true);
        }
        self.pump(to);
    }

    /// Completes the oldest write of a member.
    pub(crate) fn persist(&mut self, id: u64) -> bool {
        let Some(node) = self.nodes.get_mut(&id) else {
            return false;
        };
        if self.stalled.contains(&id) || node.raft.is_none() {
            return false;
        }
        let Some(write) = node.writes.pop_front() else {
            return false;
        };
        write.apply_to(&mut node.disk);
        let mut installed = None;
        if let Some(state) = write.snapshot {
            node.to_apply.retain(|entry| entry.index > state.index);
            installed = Some(state.index);
            if state.index > node.state.index {
                node.state = state;
            }
        }
        self.raft(id).persisted(write.persisted);
        if let Some(index) = installed {
            self.raft(id).applied(index);
        }
        self.send(write.then);
        self.pump(id);
        true
    }

    /// Applies up to `count` entries of a member.
    pub(crate) fn apply(&mut self, id: u64, count: usize) -> bool {
        let Some(node) = self.nodes.get_mut(&id) else {
            return false;
        };
        let Some(raft) = node.raft.as_mut() else {
            return false;
        };
        let count = count.min(node.to_apply.len());
        for entry in node.to_apply.drain(..count) {
            let change = node.state.apply(&entry);
            if let Some(change) = change {
                raft.apply_conf_change(&change);
                let itself = change.node_id == id;
                node.removed |=
                    itself && change.r#type == ConfChangeType::ConfChangeRemoveNode as i32;
            }
            self.check.on_apply(id, &entry, &node.state);
        }
        raft.applied(node.state.index);
        let status = raft.status();
        // A snapshot that is still being installed has changed raft's alone.
        let installing = status.first_index > status.applied + 1;
        if !installing
            && status.applied == node.state.index
            && status.conf_state != node.state.conf_state
        {
            let what = format!("{id} has another membership than its state machine");
            self.check.report(what);
        }
        self.pump(id);
        if self.nodes[&id].removed {
            self.crash(id, usize::MAX, 0);
        }
        count > 0
    }

    pub(crate) fn tick(&mut self, id: u64) {
        if self.is_up(id) {
            self.raft(id).tick();
            self.pump(id);
        }
    }

    pub(crate) fn crash(&mut self, id: u64, durable: usize, torn: usize) {
        let node = self.nodes.get_mut(&id).expect("a member of the world");
        let before = node.disk.clone();
        node.crash(durable, torn);
        match self.faults.bug {
            Bug::LyingDisk if node.disk.entries.len() > 1 => {
                node.disk.entries.pop();
                let last = node.disk.start.0 + node.disk.entries.len() as u64;
                let hard_state = &mut node.disk.hard_state;
                hard_state.commit = hard_state.commit.min(last);
            }
            Bug::ForgottenVote => node.disk.hard_state.vote = 0,
            _ => assert!(node.disk.hard_state.term >= before.hard_state.term),
        }
    }

    pub(crate) fn restart(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id).expect("a member of the world");
        if node.raft.is_some() || node.removed {
            return;
        }
        if let Err(error) = node.start() {
            self.check.report(format!("{id} cannot start: {error}"));
        }
        self.pump(id);
    }

    /// Lets everything happen, in order, until nothing is left to happen.
    pub(crate) fn settle(&mut self) {
        for _ in 0..100_000 {
            let mut busy = false;
            for id in self.up() {
                self.pump(id);
                busy |= self.persist(id);
                busy |= self.apply(id, usize::MAX);
            }
            if !self.net.is_empty() {
                self.deliver(0);
                busy = true;
            }
            if !busy {
                return;
            }
        }
        let ids = self.up();
        let status: Vec<_> = ids.iter().map(|id| self.raft(*id).status()).collect();
        panic!(
            "seed {}: the world never comes to rest: {:#?} {status:#?}",
            self.seed, self.net
        );
    }

    /// Lets time pass for everybody.
    pub(crate) fn pass(&mut self, ticks: usize) {
        for _ in 0..ticks {
            for id in self.up() {
                self.tick(id);
            }
            self.settle();
            for id in self.up() {
                if self.raft(id).wants_snapshot()
                    && let Some(node) = self.nodes.get_mut(&id)
                {
                    node.checkpoint(3);
                }
            }
        }
    }

    /// Lets `id` be elected.
    pub(crate) fn elect(&mut self, id: u64) {
        self.raft(id).campaign();
        self.settle();
        assert_eq!(self.raft(id).role(), Role::Leader, "{id} is elected");
    }

    pub(crate) fn leader(&self) -> Option<u64> {
        self.nodes
            .iter()
            .filter_map(|(id, node)| Some((node.raft.as_ref()?, *id)))
            .filter(|(raft, _)| raft.role() == Role::Leader)
            .max_by_key(|(raft, _)| raft.term())
            .map(|(_, id)| id)
    }

    pub(crate) fn propose(&mut self, id: u64, data: &str) -> Result<(), ProposeError> {
        let done = self
            .raft(id)
            .propose(Bytes::copy_from_slice(data.as_bytes()));
        self.pump(id);
        done
    }

    pub(crate) fn change(&mut self, id: u64, kind: ConfChangeType, member: u64) {
        self.raft(id)
            .propose_conf_change(&conf_change(kind, member))
            .expect("the change is proposed");
        self.settle();
    }

    pub(crate) fn read(&mut self, id: u64) -> u64 {
        self.contexts += 1;
        let context = self.contexts;
        self.check.on_read_request(context);
        self.raft(id).read_index(context);
        self.pump(id);
        context
    }

    /// Cuts the links between two groups, both ways.
    pub(crate) fn partition(&mut self, left: &[u64], right: &[u64]) {
        for a in left {
            for b in right {
                self.cut.insert((*a, *b));
                self.cut.insert((*b, *a));
            }
        }
    }

    pub(crate) fn isolate(&mut self, id: u64) {
        let others: Vec<u64> = self.nodes.keys().copied().filter(|o| *o != id).collect();
        self.partition(&[id], &others);
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    pub(crate) fn conf_state(&self, id: u64) -> &ConfState {
        &self.nodes[&id].state.conf_state
    }

    /// Fails on whatever the checkers have found.
    pub(crate) fn assert_sound(&mut self) {
        let ids = self.up();
        for (n, a) in ids.iter().enumerate() {
            for b in &ids[n + 1..] {
                let (left, right) = (&self.nodes[a].raft, &self.nodes[b].raft);
                if let (Some(left), Some(right)) = (left, right) {
                    self.check.logs_match((*a, left), (*b, right));
                }
            }
        }
        assert_eq!(
            self.check.violations,
            Vec::<String>::new(),
            "seed {}",
            self.seed
        );
    }
}
