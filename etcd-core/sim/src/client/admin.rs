//! Who changes the membership and moves leadership.

use etcd_proto::raftpb::ConfChangeType;
use etcd_replica::{ConfChangeContext, Member};

use super::{Map, Sender};
use crate::env::Env;
use crate::event::{Event, MS, SECOND};
use crate::request::{Reply, Request};

/// Members at one time.
const MEMBERS_MAX: usize = 6;
/// Voters that are left.
const VOTERS_MIN: usize = 3;

/// See the module.
pub(crate) struct Admin {
    sender: Sender,
    next_member: u64,
    /// Whether it changes the membership, or moves leadership only.
    changes: bool,
    pending: Option<u64>,
}

impl Admin {
    pub(crate) fn new(client: usize, next_member: u64, changes: bool) -> Admin {
        Admin {
            sender: Sender::new(client),
            next_member,
            changes,
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
        let Some(leader) = map.leader else {
            return self.sender.sleep(500 * MS, SECOND, env);
        };
        let all = map.membership.iter().count();
        let voters: Vec<u64> = map.membership.voters().map(|m| m.id).collect();
        match env.random.below(10) {
            0..=2 => {
                if let Some(to) = env.random.pick(&voters) {
                    env.note(format_args!("leadership is to move to {to:x}"));
                    self.sender.cast(leader, Request::MoveLeader(to), env);
                }
                self.sender.sleep(SECOND, 4 * SECOND, env);
            }
            _ if !self.changes => self.sender.sleep(SECOND, 4 * SECOND, env),
            3..=4 if all < MEMBERS_MAX => self.add(leader, true, env),
            5 if all < MEMBERS_MAX => self.add(leader, false, env),
            6..=7 if !map.ready_learners.is_empty() => {
                let learner = map.ready_learners[0];
                let Some(member) = map.membership.get(learner).cloned() else {
                    return self.sender.sleep(SECOND, SECOND, env);
                };
                let context = ConfChangeContext {
                    member: Member {
                        is_learner: false,
                        ..member
                    },
                    is_promote: true,
                };
                self.change(leader, ConfChangeType::ConfChangeAddNode, context, env);
            }
            8..=9 if voters.len() > VOTERS_MIN => {
                let members: Vec<u64> = map.membership.iter().map(|m| m.id).collect();
                let id = env.random.pick(&members).unwrap_or(leader);
                let context = ConfChangeContext {
                    member: Member {
                        id,
                        ..Member::default()
                    },
                    is_promote: false,
                };
                self.change(leader, ConfChangeType::ConfChangeRemoveNode, context, env);
            }
            _ => self.sender.sleep(100 * MS, 2 * SECOND, env),
        }
    }

    fn add(&mut self, leader: u64, is_learner: bool, env: &mut Env) {
        let id = self.next_member;
        self.next_member += 1;
        let kind = match is_learner {
            true => ConfChangeType::ConfChangeAddLearnerNode,
            false => ConfChangeType::ConfChangeAddNode,
        };
        let context = ConfChangeContext {
            member: Member {
                id,
                peer_urls: vec![format!("http://m{id}:2380")],
                is_learner,
                ..Member::default()
            },
            is_promote: false,
        };
        self.change(leader, kind, context, env);
        // Whatever is answered: it may have been added.
        env.soon(100 * MS, 3 * SECOND, Event::Start(id));
    }

    fn change(
        &mut self,
        leader: u64,
        kind: ConfChangeType,
        context: ConfChangeContext,
        env: &mut Env,
    ) {
        env.note(format_args!(
            "{} {:x}",
            kind.as_str_name(),
            context.member.id
        ));
        let context = Box::new(context);
        let request = Request::ConfChange { kind, context };
        self.pending = Some(self.sender.send(leader, request, env));
    }

    pub(super) fn reply(&mut self, number: u64, reply: &Reply, env: &mut Env) {
        if self.pending.take_if(|pending| *pending == number).is_some() {
            env.note(format_args!("the change is answered: {reply:?}"));
            self.sender.sleep(200 * MS, 3 * SECOND, env);
        }
    }
}
