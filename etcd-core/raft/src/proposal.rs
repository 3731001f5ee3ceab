//! Proposals: on their way to the leader, and into its log.

use bytes::Bytes;
use etcd_proto::raftpb::{ConfChange, Entry, EntryType, Message, MessageType};
use prost::Message as _;

use crate::errors::ProposeError;
use crate::log::payload;
use crate::message::message;
use crate::raft::Raft;
use crate::role::{NONE, Role};

impl Raft {
    /// Proposes `data` for the log; a follower forwards it to its leader.
    ///
    /// Acceptance is no promise: the entry is in the log for good only when it is
    /// handed out as committed, which may never happen.
    ///
    /// # Errors
    /// When it is known that it cannot be appended now; see [`ProposeError`].
    pub fn propose(&mut self, data: Bytes) -> Result<(), ProposeError> {
        self.propose_entry(Entry {
            data,
            ..Entry::default()
        })
    }

    /// Proposes a membership change; a follower forwards it to its leader.
    ///
    /// Only one may be on its way: while another is in the log and not applied by the
    /// leader, this one is replaced by an empty entry.
    ///
    /// # Errors
    /// As for [`Raft::propose`].
    pub fn propose_conf_change(&mut self, change: &ConfChange) -> Result<(), ProposeError> {
        self.propose_entry(Entry {
            r#type: EntryType::EntryConfChange as i32,
            data: change.encode_to_vec().into(),
            ..Entry::default()
        })
    }

    fn propose_entry(&mut self, entry: Entry) -> Result<(), ProposeError> {
        self.handle_proposal(Message {
            entries: vec![entry],
            ..message(MessageType::MsgProp, NONE)
        })
    }

    pub(crate) fn handle_proposal(&mut self, mut m: Message) -> Result<(), ProposeError> {
        if self.role == Role::Leader {
            return self.append_proposals(m.entries);
        }
        if self.leader == NONE {
            return Err(ProposeError::NoLeader);
        }
        m.to = self.leader;
        self.send(m);
        Ok(())
    }

    fn append_proposals(&mut self, mut entries: Vec<Entry>) -> Result<(), ProposeError> {
        if !self.membership.contains(self.id()) {
            return Err(ProposeError::NotMember);
        }
        if self.transferee != NONE {
            return Err(ProposeError::Transferring {
                to: self.transferee,
            });
        }
        let bytes: u64 = entries.iter().map(payload).sum();
        let limit = self.config.max_uncommitted_bytes;
        if limit != 0
            && bytes > 0
            && self.unapplied_bytes > 0
            && self.unapplied_bytes.saturating_add(bytes) > limit
        {
            return Err(ProposeError::TooLarge { limit });
        }
        for (entry, index) in entries.iter_mut().zip(self.log.last_index() + 1..) {
            if entry.r#type != EntryType::EntryNormal as i32
                && !self.admit_conf_change(entry, index)
            {
                *entry = Entry::default();
            }
        }
        self.append_of_leader(entries);
        Ok(())
    }

    /// Whether this may be the one membership change on its way. Joint changes, which
    /// etcd never makes, and what cannot be decoded never are.
    fn admit_conf_change(&mut self, entry: &Entry, index: u64) -> bool {
        let simple = entry.r#type == EntryType::EntryConfChange as i32
            && ConfChange::decode(entry.data.clone()).is_ok();
        if !simple || self.pending_conf_index > self.log.applied() {
            return false;
        }
        self.pending_conf_index = index;
        true
    }
}
