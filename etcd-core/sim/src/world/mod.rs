//! The world: members on their disks, clients, and time that passes.

mod chaos;
mod ending;
mod lifecycle;

use std::collections::{BTreeMap, BTreeSet};

use etcd_raft::ProgressState;
use etcd_replica::{Boot, Input, Member};
use etcd_storage::disk::Disk as _;
use etcd_storage::simdisk::SimDisk;

use crate::client::admin::Admin;
use crate::client::kv::Kv;
use crate::client::lease::LeaseHolder;
use crate::client::watch::Watch;
use crate::client::{Client, Map};
use crate::env::Env;
use crate::event::{Event, MS, Pid, SECOND};
use crate::member::Process;
use crate::planted::Planted;
use crate::profile::Settings;
use crate::request::{Call, Reply, Request, Why};

/// A member: its disk, and its process when it runs.
pub(crate) struct Slot {
    pub(crate) disk: SimDisk,
    boot: Boot,
    life: u32,
    pub(crate) process: Option<Process>,
    /// It was removed from the cluster and does not come back.
    pub(crate) removed: bool,
    /// It is not started, by order of a test.
    pub(crate) held: bool,
    /// Syncs fail.
    armed: bool,
    /// The disk is full.
    full: bool,
    /// Numbers of the disk operations that are to fail.
    fails_at: BTreeSet<u64>,
}

pub(crate) struct World {
    pub(crate) env: Env,
    pub(crate) slots: BTreeMap<u64, Slot>,
    clients: Vec<Client>,
    pub(crate) cluster_id: u64,
    pub(crate) quota: Option<u64>,
    seed: u64,
    /// Whether things still go wrong.
    storm: bool,
    ending: bool,
    #[cfg(test)]
    asked: u64,
}

impl Slot {
    /// Whether a failure of the disk is no wonder.
    fn is_faulty(&self) -> bool {
        self.armed
            || self.full
            || self.disk.is_down()
            || self
                .fails_at
                .first()
                .is_some_and(|at| self.disk.ops() > *at)
    }

    /// The failure has had its effect.
    fn recover(&mut self) {
        self.armed = false;
        self.disk.fail_syncs(false);
        self.fails_at = self.fails_at.split_off(&self.disk.ops());
    }

    /// What is on the disk, for a message.
    fn listing(&self) -> Vec<String> {
        let mut files = Vec::new();
        for dir in ["wal", "store", "snap"] {
            let dir = std::path::Path::new(crate::member::DIRECTORY).join(dir);
            for entry in self.disk.list(&dir).unwrap_or_default() {
                files.push(format!("{}:{}", entry.name.to_string_lossy(), entry.len));
            }
        }
        files
    }
}

impl World {
    /// A world whose members are about to start for the first time.
    pub(crate) fn new(
        seed: u64,
        settings: Settings,
        planted: Option<Planted>,
        text: bool,
    ) -> World {
        let members: Vec<Member> = (1..=settings.members)
            .map(|id| Member {
                id,
                peer_urls: vec![format!("http://m{id}:2380")],
                ..Member::default()
            })
            .collect();
        let ids: Vec<u64> = members.iter().map(|m| m.id).collect();
        let mut world = World {
            env: Env::new(seed, settings, planted, text),
            slots: BTreeMap::new(),
            clients: Vec::new(),
            cluster_id: etcd_replica::cluster_id(&ids),
            quota: None,
            seed,
            storm: false,
            ending: false,
            #[cfg(test)]
            asked: 0,
        };
        for id in ids {
            let boot = Boot::New {
                member_id: id,
                members: members.clone(),
            };
            world.add_slot(id, boot);
            world.env.soon(0, 300 * MS, Event::Start(id));
        }
        world
    }

    fn add_slot(&mut self, id: u64, boot: Boot) {
        let slot = Slot {
            disk: SimDisk::new(self.seed.wrapping_mul(31).wrapping_add(id)),
            boot,
            life: 0,
            process: None,
            removed: false,
            held: false,
            armed: false,
            full: false,
            fails_at: BTreeSet::new(),
        };
        self.slots.insert(id, slot);
    }

    /// Clients of every kind.
    pub(crate) fn populate(&mut self) {
        let settings = self.env.settings;
        for client in 0..4 {
            self.clients.push(Client::Kv(Kv::new(client)));
        }
        for client in 4..7 {
            let watch = Watch::new(client, &mut self.env);
            self.clients.push(Client::Watch(Box::new(watch)));
        }
        self.clients.push(Client::Lease(LeaseHolder::new(7)));
        self.clients.push(Client::Lease(LeaseHolder::new(8)));
        let admin = Admin::new(9, settings.members + 1, settings.admin);
        self.clients.push(Client::Admin(admin));
        for client in 0..self.clients.len() {
            self.env.soon(200 * MS, 2 * SECOND, Event::Wake(client));
        }
    }

    /// Lets things go wrong from now on.
    pub(crate) fn begin_storm(&mut self) {
        self.storm = true;
        self.env.soon(SECOND, 3 * SECOND, Event::Chaos);
    }

    /// Lets time pass, or until something must not have happened.
    pub(crate) fn run_for(&mut self, us: u64) {
        let end = self.env.now + us;
        while self.env.queue.next_at().is_some_and(|at| at <= end) && self.is_sound() {
            self.step();
        }
        self.env.now = self.env.now.max(end);
    }

    pub(crate) fn is_sound(&self) -> bool {
        self.env.check.violation().is_none()
    }

    /// Lets the next event happen.
    fn step(&mut self) {
        let Some((at, event)) = self.env.queue.pop() else {
            return;
        };
        self.env.now = at;
        match event {
            Event::Turn(pid, turn) => {
                self.env
                    .note(format_args!("{:x}.{} {turn:?}", pid.member, pid.life));
                self.with(pid, |process, env| process.turn(turn, env));
            }
            Event::Message(message) => self.deliver(*message),
            Event::Snapshot { message, image } => self.deliver_snapshot(*message, &image),
            Event::Unreachable { at, peer } => self.with(at, |process, env| {
                process.receive(Input::Unreachable(peer), env);
                Ok(())
            }),
            Event::Gone { at, peer } => {
                if let Some(pid) = self.pid(at) {
                    self.env
                        .note(format_args!("{at:x} hears that {peer:x} has ended"));
                    self.with(pid, |process, env| {
                        process.receive(Input::Gone(peer), env);
                        Ok(())
                    });
                }
            }
            Event::SnapshotFate { at, to, ok } => {
                if let Some(pid) = self.pid(at) {
                    self.with(pid, |process, env| {
                        process.receive(Input::SnapshotSent { to, ok }, env);
                        Ok(())
                    });
                }
            }
            Event::Call(call) => self.call(*call),
            Event::Reply { to, reply } => {
                if let Some(client) = self.clients.get_mut(to.client) {
                    client.reply(to.number, *reply, &mut self.env);
                }
            }
            Event::Timeout(caller) => {
                if let Some(client) = self.clients.get_mut(caller.client) {
                    let reply = Reply::Unknown(Why("timed out"));
                    client.reply(caller.number, reply, &mut self.env);
                }
            }
            Event::Watched { to, response } => {
                if let Some(client) = self.clients.get_mut(to.client) {
                    client.watched(to.number, response.as_deref(), &mut self.env);
                }
            }
            Event::Wake(client) => {
                let map = self.map();
                if let Some(client) = self.clients.get_mut(client) {
                    client.wake(&mut self.env, &map);
                }
            }
            Event::Kill(member) => {
                if self.storm {
                    self.kill(member);
                }
            }
            Event::Start(member) => self.start(member),
            Event::Chaos => self.chaos(),
            Event::Mend(fault) => self.mend(fault),
        }
    }

    /// The process that runs at a member.
    pub(crate) fn pid(&self, member: u64) -> Option<Pid> {
        let process = self.slots.get(&member)?.process.as_ref()?;
        Some(process.pid)
    }

    pub(crate) fn process(&self, member: u64) -> Option<&Process> {
        self.slots.get(&member)?.process.as_ref()
    }

    pub(crate) fn processes(&self) -> impl Iterator<Item = &Process> {
        self.slots.values().filter_map(|slot| slot.process.as_ref())
    }

    /// Who leads, as the one with the newest term sees it.
    pub(crate) fn leader(&self) -> Option<&Process> {
        self.processes()
            .filter(|process| process.is_leader)
            .max_by_key(|process| process.term)
    }

    fn call(&mut self, call: Call) {
        let caller = call.caller;
        let Some(pid) = self.pid(call.member) else {
            return match call.request {
                Request::Watch(_) => {
                    let lost = Event::Watched {
                        to: caller,
                        response: None,
                    };
                    self.env.after(MS, lost);
                }
                Request::CloseWatch(_) | Request::Progress(_) | Request::MoveLeader(_) => {}
                _ => self
                    .env
                    .reply(caller, Reply::Refused(Why("connection refused"))),
            };
        };
        self.with(pid, |process, env| {
            process.call(call, env);
            Ok(())
        });
    }

    pub(crate) fn map(&self) -> Map {
        let members = self
            .slots
            .iter()
            .filter(|(_, slot)| !slot.removed)
            .map(|(id, _)| *id)
            .collect();
        let mut map = Map {
            members,
            ending: self.ending,
            ..Map::default()
        };
        if let Some(leader) = self.leader() {
            let status = leader.consensus.status();
            map.leader = Some(leader.pid.member);
            map.membership = (*leader.view.membership).clone();
            map.ready_learners = map
                .membership
                .iter()
                .filter(|m| m.is_learner)
                .filter(|m| {
                    status.progress.get(&m.id).is_some_and(|progress| {
                        progress.state == ProgressState::Replicate
                            && progress.matched * 10 >= status.last_index * 9
                    })
                })
                .map(|m| m.id)
                .collect();
        }
        map
    }

    /// Lets clients come to an end, for tests.
    #[cfg(test)]
    pub(crate) fn silence(&mut self) {
        self.ending = true;
    }

    /// A client that only collects answers, for tests.
    #[cfg(test)]
    pub(crate) fn add_probe(&mut self) -> usize {
        self.clients.push(Client::Probe(Vec::new()));
        self.clients.len() - 1
    }

    /// Sends a request of a probe; its number.
    #[cfg(test)]
    pub(crate) fn ask(&mut self, probe: usize, member: u64, request: Request) -> u64 {
        self.asked += 1;
        let number = self.asked;
        let caller = crate::request::Caller {
            client: probe,
            number,
        };
        let call = Call {
            caller,
            member,
            request,
        };
        self.env.after(0, Event::Call(Box::new(call)));
        number
    }

    /// What a probe was answered.
    #[cfg(test)]
    pub(crate) fn answer(&self, probe: usize, number: u64) -> Option<&Reply> {
        match &self.clients[probe] {
            Client::Probe(replies) => replies.iter().find(|r| r.0 == number).map(|r| &r.1),
            _ => None,
        }
    }
}
