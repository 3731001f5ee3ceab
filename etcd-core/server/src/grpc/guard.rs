//! What every call is checked for before its service sees it.

use tonic::{Request, Status};

use super::status::status;
use crate::driver::{Node, RequestError};

/// Metadata with which a client asks to be refused while there is no leader.
const HAS_LEADER: &str = "hasleader";

/// Checks of a call against the member's role.
#[derive(Clone)]
pub struct Guard {
    node: Node,
}

impl Guard {
    /// Over a node.
    pub fn new(node: Node) -> Self {
        Guard { node }
    }

    /// A read: a learner serves only serializable ones.
    pub fn read<T>(&self, request: &Request<T>, serializable: bool) -> Result<(), Status> {
        if !serializable {
            self.not_for_learners()?;
        }
        self.leader(request)
    }

    /// A write, or anything else that a learner does not serve.
    pub fn write<T>(&self, request: &Request<T>) -> Result<(), Status> {
        self.not_for_learners()?;
        self.leader(request)
    }

    /// What a learner serves too.
    pub fn any<T>(&self, request: &Request<T>) -> Result<(), Status> {
        self.leader(request)
    }

    /// Whether the client wants to be told when the leader is lost.
    pub fn wants_leader<T>(request: &Request<T>) -> bool {
        request
            .metadata()
            .get(HAS_LEADER)
            .is_some_and(|v| v == "true")
    }

    /// Returns when a stream must end, with the reason: the member stops or, if the
    /// client wants to know, the leader is lost.
    pub async fn stream_ends(&self, wants_leader: bool) -> RequestError {
        let leader_lost = async {
            match wants_leader {
                true => self.leader_lost().await,
                false => std::future::pending().await,
            }
        };
        tokio::select! {
            () = leader_lost => RequestError::NoLeader,
            () = self.node.streams_end() => RequestError::Stopped,
        }
    }

    /// Returns when there has been no leader for three election timeouts.
    async fn leader_lost(&self) {
        let mut changes = self.node.leadership_changes();
        loop {
            if changes.wait_for(|l| l.leader == 0).await.is_err() {
                return;
            }
            let patience = 3 * self.node.election_timeout();
            let returned = changes.wait_for(|l| l.leader != 0);
            if tokio::time::timeout(patience, returned).await.is_err() {
                return;
            }
        }
    }

    fn not_for_learners(&self) -> Result<(), Status> {
        if self.node.is_learner() {
            return Err(status(&RequestError::NotSupportedForLearner));
        }
        Ok(())
    }

    fn leader<T>(&self, request: &Request<T>) -> Result<(), Status> {
        if Guard::wants_leader(request) && self.node.leadership().leader == 0 {
            return Err(status(&RequestError::NoLeader));
        }
        Ok(())
    }
}
