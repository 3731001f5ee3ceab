//! Leases against the clock.

use etcd_proto::etcdserverpb::{InternalRaftRequest, LeaseRevokeRequest, RequestHeader};
use etcd_replica::{Input, Renewal};
use prost::Message as _;

use super::{PendingRead, Process};
use crate::env::Env;
use crate::event::{MS, Turn};
use crate::planted::Planted;
use crate::request::{Caller, Reply, Why};

impl Process {
    pub(super) fn look_for_expired(&mut self, env: &mut Env) {
        env.soon(200 * MS, 500 * MS, self.event(Turn::Leases));
        let reckless = self.plants(env, Planted::RevokeWithoutTerm);
        if !self.is_leader && !reckless {
            if self.primary {
                self.applier.lessor().lock().demote();
            }
            self.primary = false;
            return;
        }
        let expired = self.applier.lessor().lock().expired(env.now_ms(), 500);
        for lease in expired {
            let id = self.unique();
            let request = InternalRaftRequest {
                header: Some(RequestHeader {
                    id,
                    ..RequestHeader::default()
                }),
                lease_revoke: Some(LeaseRevokeRequest { id: lease }),
                ..InternalRaftRequest::default()
            };
            env.note(format_args!("{:x} ends lease {lease}", self.pid.member));
            let input = Input::Propose {
                id,
                data: request.encode_to_vec().into(),
                term: (!reckless).then_some(self.term),
            };
            self.receive(input, env);
        }
    }

    /// Renews a lease; a leader must have proof that it still was one.
    pub(super) fn keep_alive(&mut self, caller: Caller, lease: i64, env: &mut Env) {
        if !self.is_leader {
            return env.reply(caller, Reply::Refused(Why("not leader")));
        }
        let renewal = self.applier.lessor().lock().renew(lease, env.now_ms());
        match renewal {
            Renewal::Renewed { ttl } if self.plants(env, Planted::RenewAlone) => {
                env.reply(caller, Reply::KeptAlive(ttl));
            }
            Renewal::Renewed { ttl } => {
                let term = self.term;
                self.reads
                    .push(PendingRead::KeepAlive { caller, ttl, term });
                self.wake(env);
            }
            Renewal::NotFound => env.reply(caller, Reply::LeaseNotFound),
            Renewal::NotPrimary => env.reply(caller, Reply::Refused(Why("not primary"))),
            Renewal::Expired => env.reply(caller, Reply::Refused(Why("expired"))),
            Renewal::Checkpointed => env.reply(caller, Reply::Refused(Why("checkpointed"))),
        }
    }
}
