//! Snapshots, as far as raft is concerned: their metadata. The bytes travel beside it.

use etcd_proto::raftpb::{ConfState, Message, MessageType, Snapshot, SnapshotMetadata};

use crate::errors::StepError;
use crate::log::EntryId;
use crate::membership::Membership;
use crate::message::{MAX_NUMBER, OUT_OF_REACH, message};
use crate::progress::ProgressState;
use crate::raft::Raft;
use crate::role::Role;

impl Raft {
    /// Takes note that the caller can send the state as of `index` to a follower, with
    /// the membership that held there. Passed again whenever a newer one is available.
    pub fn snapshot_available(&mut self, index: u64, term: u64, conf_state: ConfState) {
        self.snapshot_available = Some(SnapshotMetadata {
            index,
            term,
            conf_state: Some(conf_state),
        });
        // Somebody may be waiting for it.
        self.replicate_due = true;
    }

    /// Takes note of the fate of the snapshot that was on its way to `id`: delivered,
    /// or not. In vain unless that is what its progress says.
    pub fn report_snapshot(&mut self, id: u64, ok: bool) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.snapshot_done(ok);
        }
    }

    /// The snapshot to send to `to`: one that the log continues, and that knows it as a
    /// member, for it would refuse any other.
    fn snapshot_for(&self, to: u64) -> Option<&SnapshotMetadata> {
        let metadata = self.snapshot_available.as_ref()?;
        let state = metadata.conf_state.as_ref()?;
        let knows = state.voters.contains(&to) || state.learners.contains(&to);
        (knows && metadata.index + 1 >= self.log.first_index()).then_some(metadata)
    }

    /// Whether a follower waits for a snapshot that is newer than the available one: it
    /// joined after that, or the log has been compacted beyond it. The caller then makes
    /// one and passes it to [`Raft::snapshot_available`].
    pub fn wants_snapshot(&self) -> bool {
        self.role == Role::Leader
            && self.peers.iter().any(|(id, peer)| {
                *id != self.id()
                    && peer.progress.recent_active
                    && peer.progress.state != ProgressState::Snapshot
                    && self.log.term(peer.progress.next - 1).is_none()
                    && self.snapshot_for(*id).is_none()
            })
    }

    /// Sends the snapshot if there is one that the log continues, to somebody who is
    /// there to take it. Its sending is reported by [`Raft::report_snapshot`].
    pub(crate) fn send_snapshot(&mut self, to: u64) -> bool {
        let Some(metadata) = self.snapshot_for(to).cloned() else {
            return false;
        };
        let Some(peer) = self.peers.get_mut(&to) else {
            return false;
        };
        if !peer.progress.recent_active {
            return false;
        }
        peer.become_snapshot(metadata.index);
        let m = Message {
            snapshot: Some(Snapshot {
                metadata: Some(metadata),
                ..Snapshot::default()
            }),
            ..message(MessageType::MsgSnap, to)
        };
        self.send(m);
        true
    }

    pub(crate) fn handle_snapshot(&mut self, m: Message) -> Result<(), StepError> {
        let from = m.from;
        let malformed = |reason| StepError::Malformed {
            kind: MessageType::MsgSnap.as_str_name(),
            from,
            reason,
        };
        let metadata = m
            .snapshot
            .and_then(|snapshot| snapshot.metadata)
            .ok_or_else(|| malformed("it has no metadata"))?;
        if metadata.term > self.term {
            return Err(malformed("its term is above its sender's"));
        }
        if metadata.index > MAX_NUMBER {
            return Err(malformed(OUT_OF_REACH));
        }
        let state = metadata.conf_state.clone().unwrap_or_default();
        let membership = Membership::from_conf_state(&state)
            .map_err(|_| malformed("its membership is not one"))?;
        let mut response = message(MessageType::MsgAppResp, m.from);
        response.index = self.install(metadata, membership);
        self.send(response);
        Ok(())
    }

    /// Starts the log anew after a snapshot that is of use; returns how far our log
    /// agrees with the leader's.
    fn install(&mut self, metadata: SnapshotMetadata, membership: Membership) -> u64 {
        let id = EntryId {
            index: metadata.index,
            term: metadata.term,
        };
        if id.index <= self.log.committed() || !membership.contains(self.id()) {
            return self.log.committed();
        }
        if self.log.matches(id) {
            // We only lacked the news that it is committed.
            self.log.commit_to(id.index);
            return self.log.committed();
        }
        self.log.restore_snapshot(metadata);
        self.switch_to(membership);
        self.log.last_index()
    }
}
