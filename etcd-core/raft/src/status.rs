//! A look at a member from outside.

use std::collections::BTreeMap;

use etcd_proto::raftpb::ConfState;

use crate::progress::Progress;
use crate::raft::Raft;
use crate::role::Role;

/// The state of a member at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// The own ID.
    pub id: u64,
    /// The own term.
    pub term: u64,
    /// Who got our vote in it, or 0.
    pub vote: u64,
    /// The last index known to be committed.
    pub commit: u64,
    /// The last index that the state machine has applied.
    pub applied: u64,
    /// The last index of the log.
    pub last_index: u64,
    /// The first index that the log in memory holds, or would.
    pub first_index: u64,
    /// The encoded size in bytes of the entries that the log in memory holds.
    pub log_bytes: u64,
    /// The leader of the term as far as it is known, or 0.
    pub leader: u64,
    /// The own role.
    pub role: Role,
    /// Whom leadership is being handed to, or 0.
    pub transferee: u64,
    /// The membership.
    pub conf_state: ConfState,
    /// How far each member has come, ourselves included; empty unless we lead.
    pub progress: BTreeMap<u64, Progress>,
}

impl Raft {
    /// The state at this moment.
    pub fn status(&self) -> Status {
        let progress = match self.role {
            Role::Leader => self
                .peers
                .iter()
                .map(|(id, peer)| (*id, peer.progress))
                .collect(),
            _ => BTreeMap::new(),
        };
        Status {
            id: self.id(),
            term: self.term,
            vote: self.vote,
            commit: self.log.committed(),
            applied: self.log.applied(),
            last_index: self.log.last_index(),
            first_index: self.log.first_index(),
            log_bytes: self.log.bytes(),
            leader: self.leader,
            role: self.role,
            transferee: self.transferee,
            conf_state: self.membership.conf_state(),
            progress,
        }
    }
}
