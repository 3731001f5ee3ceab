//! Messages that arrive: which of them are passed on, and how.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use etcd_proto::raftpb::{Message, MessageType};
use parking_lot::RwLock;
use tokio::runtime::Handle;

use super::config::PeerConfig;
use super::event::{PeerEvent, PeerEvents};
use super::headers::Identity;

/// Time between two offers of an event to a receiver that has no room.
const OFFER_AGAIN: Duration = Duration::from_millis(1);

/// What all tasks of the transport share.
pub(super) struct Shared {
    pub(super) config: PeerConfig,
    pub(super) identity: Identity,
    pub(super) events: Arc<dyn PeerEvents>,
    pub(super) runtime: Handle,
    pub(super) removed: RwLock<BTreeSet<u64>>,
}

/// Why a message is not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("cannot process message from removed member")]
    Removed,
    #[error("cannot process message to mismatch member")]
    Mismatch,
    #[error("message is of a type that members do not send this way")]
    Unexpected,
}

impl Shared {
    pub(super) fn is_removed(&self, id: u64) -> bool {
        self.removed.read().contains(&id)
    }

    /// Checks a message from the network. A MsgSnap comes only with its image.
    pub(super) fn check(&self, message: &Message, with_image: bool) -> Result<(), Refusal> {
        if self.is_removed(message.from) {
            return Err(Refusal::Removed);
        }
        if message.to != self.config.local_id {
            return Err(Refusal::Mismatch);
        }
        let expected = match MessageType::try_from(message.r#type) {
            Ok(MessageType::MsgSnap) => with_image,
            // These never leave a member; a peer that sends them would steer our Raft.
            Ok(
                MessageType::MsgHup
                | MessageType::MsgBeat
                | MessageType::MsgUnreachable
                | MessageType::MsgSnapStatus
                | MessageType::MsgCheckQuorum
                | MessageType::MsgStorageAppend
                | MessageType::MsgStorageAppendResp
                | MessageType::MsgStorageApply
                | MessageType::MsgStorageApplyResp,
            )
            | Err(_) => false,
            Ok(_) => !with_image,
        };
        expected.then_some(()).ok_or(Refusal::Unexpected)
    }

    /// Hands an event over, and waits while there is no room for it.
    pub(super) async fn deliver(&self, event: PeerEvent) {
        let mut refused = self.events.deliver(event);
        while let Err(event) = refused {
            tokio::time::sleep(OFFER_AGAIN).await;
            refused = self.events.deliver(*event);
        }
    }

    /// Hands over an event that another one will repeat if there is no room now.
    pub(super) fn notify(&self, event: PeerEvent) {
        if let Err(event) = self.events.deliver(event) {
            tracing::debug!(?event, "dropped an event, its receiver has no room");
        }
    }
}
