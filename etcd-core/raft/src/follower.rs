//! What a follower does with its leader's messages.

use etcd_proto::raftpb::{Message, MessageType};

use crate::errors::StepError;
use crate::log::Conflict;
use crate::message::{before, message};
use crate::raft::Raft;
use crate::role::{NONE, Role};

impl Raft {
    /// Follows whoever leads our term, and does what it says.
    pub(crate) fn step_from_leader(
        &mut self,
        kind: MessageType,
        m: Message,
    ) -> Result<(), StepError> {
        match self.role {
            Role::Leader => {
                return Err(StepError::TwoLeaders {
                    from: m.from,
                    term: m.term,
                });
            }
            Role::Follower => {
                self.timer.heard();
                self.leader = m.from;
                self.gone = NONE;
            }
            Role::PreCandidate | Role::Candidate => self.become_follower(m.term, m.from),
        }
        match kind {
            MessageType::MsgHeartbeat => self.handle_heartbeat(m),
            MessageType::MsgSnap => self.handle_snapshot(m),
            _ => self.handle_append(m),
        }
    }

    fn handle_append(&mut self, m: Message) -> Result<(), StepError> {
        let mut response = message(MessageType::MsgAppResp, m.from);
        let before = before(&m);
        let limit = self.config.max_uncommitted_bytes;
        if limit != 0 && !m.entries.is_empty() && self.log.applying_bytes() > limit {
            // Our state machine is that far behind. As good as lost, so it is sent again
            // with a later heartbeat.
            return Ok(());
        }
        match self.log.try_append(before, m.entries, m.commit) {
            Ok(Some(last)) => response.index = last,
            Ok(None) => {
                // Where our logs may still agree: not at entries of a later term than
                // the one it has there.
                let hint = before.index.min(self.log.last_index());
                let hint = self.log.last_at_or_below(hint, before.term);
                response.index = before.index;
                response.reject = true;
                response.reject_hint = hint.index;
                response.log_term = hint.term;
            }
            Err(Conflict { index }) => {
                return Err(StepError::Diverged {
                    from: m.from,
                    index,
                });
            }
        }
        self.send(response);
        Ok(())
    }

    fn handle_heartbeat(&mut self, m: Message) -> Result<(), StepError> {
        // A leader sends the commit index no further than what we acknowledged.
        if m.commit > self.log.last_index() {
            return Err(StepError::LogLost {
                from: m.from,
                commit: m.commit,
                last: self.log.last_index(),
            });
        }
        self.log.commit_to(m.commit);
        self.send(Message {
            context: m.context,
            ..message(MessageType::MsgHeartbeatResp, m.from)
        });
        Ok(())
    }
}
