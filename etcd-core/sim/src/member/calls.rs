//! Requests of clients.

use etcd_proto::etcdserverpb::alarm_request::AlarmAction;
use etcd_proto::etcdserverpb::{AlarmRequest, AlarmType, InternalRaftRequest, RequestHeader};
use etcd_proto::raftpb::{ConfChange, ConfChangeType};
use etcd_replica::{ConfChangeContext, Input};
use prost::Message as _;

use super::{ELECTION_MS, PendingRead, Process, Waiter};
use crate::env::Env;
use crate::event::MS;
use crate::planted::Planted;
use crate::request::{Call, Caller, Reply, Request, Why};

/// Time after which the server gives a request up.
pub(crate) const REQUEST_TIMEOUT_US: u64 = (5000 + 2 * ELECTION_MS) * MS;

impl Process {
    /// Takes in a request.
    pub(crate) fn call(&mut self, call: Call, env: &mut Env) {
        let caller = call.caller;
        match call.request {
            Request::Write(request) => self.write(caller, *request, env),
            Request::Get { key, serializable } => self.get(caller, key, serializable, env),
            Request::KeepAlive(lease) => self.keep_alive(caller, lease, env),
            Request::ConfChange { kind, context } => self.change(caller, kind, &context, env),
            Request::MoveLeader(to) => self.receive(Input::TransferLeader(to), env),
            Request::Watch(create) => self.open_watch(caller, *create, env),
            Request::CloseWatch(watch) => self.close_watch(watch),
            Request::Progress(watch) => self.request_progress(watch, env),
        }
    }

    fn write(&mut self, caller: Caller, mut request: InternalRaftRequest, env: &mut Env) {
        if !self.has_space(&request) {
            self.raise_no_space(env);
            return env.reply(caller, Reply::Refused(Why("no space")));
        }
        let id = self.unique();
        request.header = Some(RequestHeader {
            id,
            ..RequestHeader::default()
        });
        self.wait(id, caller, env);
        let data = request.encode_to_vec().into();
        let term = None;
        self.receive(Input::Propose { id, data, term }, env);
    }

    fn wait(&mut self, id: u64, caller: Caller, env: &mut Env) {
        env.check.lease.client_request(id);
        let deadline = env.now + REQUEST_TIMEOUT_US;
        self.waiters.insert(id, Waiter { caller, deadline });
    }

    fn has_space(&self, request: &InternalRaftRequest) -> bool {
        let cost = match (&request.put, &request.txn) {
            (Some(put), _) => etcd_mvcc::put_cost(put),
            (_, Some(txn)) => etcd_mvcc::txn_cost(txn),
            _ => return true,
        };
        self.quota
            .is_none_or(|quota| cost == 0 || self.view.db_size + cost < quota)
    }

    fn raise_no_space(&mut self, env: &mut Env) {
        if self.view.alarms.is_raised(AlarmType::Nospace) {
            return;
        }
        let id = self.unique();
        let request = InternalRaftRequest {
            header: Some(RequestHeader {
                id,
                ..RequestHeader::default()
            }),
            alarm: Some(AlarmRequest {
                action: AlarmAction::Activate as i32,
                member_id: self.pid.member,
                alarm: AlarmType::Nospace as i32,
            }),
            ..InternalRaftRequest::default()
        };
        let data = request.encode_to_vec().into();
        self.receive(
            Input::Propose {
                id,
                data,
                term: None,
            },
            env,
        );
    }

    fn get(&mut self, caller: Caller, key: Vec<u8>, serializable: bool, env: &mut Env) {
        let alone = self.reads_alone
            || env.is_planted(Planted::ReadWithoutIndex)
            || (env.is_planted(Planted::SkipCheckQuorum)
                && self.is_leader
                && self.begun == self.term);
        let read = PendingRead::Get { caller, key };
        if serializable || alone {
            return self.answer_reads(vec![read], env);
        }
        self.reads.push(read);
        self.wake(env);
    }

    pub(super) fn answer_reads(&mut self, reads: Vec<PendingRead>, env: &mut Env) {
        for read in reads {
            match read {
                PendingRead::KeepAlive { caller, ttl, term } => {
                    // A read that another leader confirmed proves nothing of us.
                    let led = self.is_leader && self.term == term;
                    let reply = match led {
                        true => Reply::KeptAlive(ttl),
                        false => Reply::Unknown(Why("leader changed")),
                    };
                    env.reply(caller, reply);
                }
                PendingRead::Get { caller, key } => {
                    let revision = self.view.kv.revision();
                    let reply = match self.view.kv.get(&key, 0) {
                        Ok(kv) => Reply::Read { revision, kv },
                        Err(error) => {
                            env.check.report(format!(
                                "{:x} cannot read {:?} at {revision}: {error}",
                                self.pid.member,
                                String::from_utf8_lossy(&key),
                            ));
                            continue;
                        }
                    };
                    env.reply(caller, reply);
                }
            }
        }
    }

    fn change(
        &mut self,
        caller: Caller,
        kind: ConfChangeType,
        context: &ConfChangeContext,
        env: &mut Env,
    ) {
        let id = self.unique();
        let data = match kind {
            ConfChangeType::ConfChangeRemoveNode => Vec::new(),
            _ => serde_json::to_vec(context).expect("a context has a JSON form"),
        };
        self.wait(id, caller, env);
        let change = ConfChange {
            id,
            r#type: kind as i32,
            node_id: context.member.id,
            context: data.into(),
        };
        self.receive(Input::ProposeConfChange(change), env);
    }
}

impl Process {
    /// The process has ended: whoever waits sees the connection end.
    pub(crate) fn drop_calls(self, env: &mut Env) {
        let waiting = self.waiters.into_values().map(|waiter| waiter.caller);
        for caller in waiting {
            env.reply(caller, Reply::Unknown(Why("connection lost")));
        }
    }
}
