//! Clients: what they ask for, and what they make of the answers.

pub(crate) mod admin;
pub(crate) mod kv;
pub(crate) mod lease;
pub(crate) mod watch;

use etcd_mvcc::watch::Response;
use etcd_replica::Membership;

use crate::env::Env;
use crate::event::{Event, MS};
use crate::request::{Call, Caller, Reply, Request};

/// What clients know of the members.
#[derive(Default)]
pub(crate) struct Map {
    /// Those with a disk that were not removed.
    pub(crate) members: Vec<u64>,
    pub(crate) leader: Option<u64>,
    /// As the leader has applied it.
    pub(crate) membership: Membership,
    /// Learners whose log is nearly the leader's.
    pub(crate) ready_learners: Vec<u64>,
    /// Whether clients are to come to an end.
    pub(crate) ending: bool,
}

impl Map {
    /// The leader more often than not, else anybody.
    fn somebody(&self, env: &mut Env) -> u64 {
        match self.leader {
            Some(leader) if env.random.permille(500) => leader,
            _ => env.random.pick(&self.members).unwrap_or(1),
        }
    }
}

/// A client of some kind.
pub(crate) enum Client {
    Kv(kv::Kv),
    Watch(Box<watch::Watch>),
    Lease(lease::LeaseHolder),
    Admin(admin::Admin),
    /// Collects the answers to what a test asks.
    #[cfg(test)]
    Probe(Vec<(u64, Reply)>),
}

impl Client {
    /// Does something next.
    pub(crate) fn wake(&mut self, env: &mut Env, map: &Map) {
        match self {
            Client::Kv(client) => client.wake(env, map),
            Client::Watch(client) => client.wake(env, map),
            Client::Lease(client) => client.wake(env, map),
            Client::Admin(client) => client.wake(env, map),
            #[cfg(test)]
            Client::Probe(_) => {}
        }
    }

    pub(crate) fn reply(&mut self, number: u64, reply: Reply, env: &mut Env) {
        match self {
            Client::Kv(client) => client.reply(number, reply, env),
            Client::Lease(client) => client.reply(number, reply, env),
            Client::Admin(client) => client.reply(number, &reply, env),
            Client::Watch(_) => {}
            #[cfg(test)]
            Client::Probe(replies) => replies.push((number, reply)),
        }
    }

    pub(crate) fn watched(&mut self, number: u64, response: Option<&Response>, env: &mut Env) {
        if let Client::Watch(client) = self {
            client.watched(number, response, env);
        }
    }

    /// Whether it waits for nothing.
    pub(crate) fn is_idle(&self) -> bool {
        match self {
            Client::Kv(client) => client.is_idle(),
            Client::Lease(client) => client.is_idle(),
            Client::Admin(client) => client.is_idle(),
            Client::Watch(_) => true,
            #[cfg(test)]
            Client::Probe(_) => true,
        }
    }
}

/// Times after which a client gives up.
const TIMEOUT_US: (u64, u64) = (2000 * MS, 8000 * MS);

/// Sends requests one after the other.
pub(crate) struct Sender {
    pub(crate) client: usize,
    number: u64,
}

impl Sender {
    pub(crate) fn new(client: usize) -> Sender {
        Sender { client, number: 0 }
    }

    /// Sends a request; the number by which the answer is known.
    fn send(&mut self, member: u64, request: Request, env: &mut Env) -> u64 {
        let number = self.cast(member, request, env);
        let caller = Caller {
            client: self.client,
            number,
        };
        env.soon(TIMEOUT_US.0, TIMEOUT_US.1, Event::Timeout(caller));
        number
    }

    /// Sends a request without a time limit.
    fn cast(&mut self, member: u64, request: Request, env: &mut Env) -> u64 {
        self.number += 1;
        let caller = Caller {
            client: self.client,
            number: self.number,
        };
        let call = Call {
            caller,
            member,
            request,
        };
        env.soon(50, 2 * MS, Event::Call(Box::new(call)));
        self.number
    }

    /// Wakes its client later.
    fn sleep(&self, low_us: u64, high_us: u64, env: &mut Env) {
        env.soon(low_us, high_us, Event::Wake(self.client));
    }
}
