//! A client that holds leases, one after the other, and lets go of them.

use etcd_proto::etcdserverpb::{
    InternalRaftRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest,
};
use etcd_replica::Response;

use super::{Map, Sender};
use crate::env::Env;
use crate::event::{MS, SECOND};
use crate::request::{Reply, Request};

/// See the module.
pub(crate) struct LeaseHolder {
    sender: Sender,
    lease: Option<Held>,
    leases: i64,
    /// Who keeps the lease alive.
    home: Option<u64>,
    pending: Option<Pending>,
}

struct Held {
    id: i64,
    ttl: i64,
    has_key: bool,
    renewals_left: u64,
}

struct Pending {
    number: u64,
    asked: u64,
    what: What,
}

#[derive(Clone, Copy)]
enum What {
    Grant,
    Put,
    KeepAlive,
    Revoke,
}

impl LeaseHolder {
    pub(crate) fn new(client: usize) -> LeaseHolder {
        LeaseHolder {
            sender: Sender::new(client),
            lease: None,
            leases: 0,
            home: None,
            pending: None,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.pending.is_none()
    }

    pub(super) fn wake(&mut self, env: &mut Env, map: &Map) {
        if map.ending || self.pending.is_some() {
            return;
        }
        let Some(lease) = &mut self.lease else {
            return self.grant(env, map);
        };
        let id = lease.id;
        if !lease.has_key {
            lease.has_key = true;
            let request = InternalRaftRequest {
                put: Some(PutRequest {
                    key: format!("l/{id}").into(),
                    value: "held".into(),
                    lease: id,
                    ..PutRequest::default()
                }),
                ..InternalRaftRequest::default()
            };
            let member = map.somebody(env);
            return self.ask(member, Request::Write(Box::new(request)), What::Put, env);
        }
        if lease.renewals_left > 0 {
            lease.renewals_left -= 1;
            // Whoever renewed it last is asked again, as long as that works.
            let member = match self.home {
                Some(home) => home,
                None if env.random.permille(150) => map.somebody(env),
                None => map.leader.unwrap_or_else(|| map.somebody(env)),
            };
            self.home = Some(member);
            return self.ask(member, Request::KeepAlive(id), What::KeepAlive, env);
        }
        self.lease = None;
        if env.random.permille(200) {
            let request = InternalRaftRequest {
                lease_revoke: Some(LeaseRevokeRequest { id }),
                ..InternalRaftRequest::default()
            };
            let member = map.somebody(env);
            return self.ask(member, Request::Write(Box::new(request)), What::Revoke, env);
        }
        self.sender.sleep(500 * MS, 5000 * MS, env);
    }

    fn grant(&mut self, env: &mut Env, map: &Map) {
        self.leases += 1;
        let id = self.sender.client as i64 * 10_000 + self.leases;
        let ttl = env.random.between(1, 5) as i64;
        self.lease = Some(Held {
            id,
            ttl,
            has_key: false,
            renewals_left: env.random.below(8),
        });
        let request = InternalRaftRequest {
            lease_grant: Some(LeaseGrantRequest { id, ttl }),
            ..InternalRaftRequest::default()
        };
        let member = map.somebody(env);
        self.ask(member, Request::Write(Box::new(request)), What::Grant, env);
    }

    fn ask(&mut self, member: u64, request: Request, what: What, env: &mut Env) {
        let asked = env.now;
        let number = self.sender.send(member, request, env);
        self.pending = Some(Pending {
            number,
            asked,
            what,
        });
    }

    pub(super) fn reply(&mut self, number: u64, reply: Reply, env: &mut Env) {
        let Some(pending) = self.pending.take_if(|p| p.number == number) else {
            return;
        };
        let Some(lease) = &mut self.lease else {
            return self.sender.sleep(100 * MS, SECOND, env);
        };
        env.note(format_args!("lease {}: {reply:?}", lease.id));
        if !matches!(reply, Reply::KeptAlive(_)) {
            self.home = None;
        }
        let mut lost = false;
        match (pending.what, &reply) {
            (
                What::Grant,
                Reply::Applied {
                    result: Ok(Response::LeaseGrant { ttl, .. }),
                    ..
                },
            ) => {
                lease.ttl = *ttl;
                let result = env.check.lease.alive(lease.id, pending.asked, *ttl);
                env.check.take(result);
            }
            (What::Grant, _) => lost = true,
            (What::KeepAlive, Reply::KeptAlive(ttl)) => {
                let result = env.check.lease.alive(lease.id, pending.asked, *ttl);
                env.check.take(result);
            }
            (_, Reply::LeaseNotFound | Reply::Applied { result: Err(_), .. }) => lost = true,
            _ => {}
        }
        let pause = u64::try_from(lease.ttl).unwrap_or(1) * SECOND / 4;
        if lost {
            self.lease = None;
        }
        self.sender.sleep(10 * MS, pause, env);
    }
}
