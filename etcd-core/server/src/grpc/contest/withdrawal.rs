//! What becomes of a place in the line when its owner stops waiting.

use bytes::Bytes;

use super::{Place, leave};
use crate::driver::Node;

/// Gives a place up when it is dropped: the call was canceled, or its connection lost,
/// or it failed. Without that those behind would wait until the lease ends.
pub(in crate::grpc) struct Withdrawal {
    node: Node,
    place: Option<(Bytes, i64)>,
}

impl Withdrawal {
    /// A place that an earlier call has taken is not this call's to give up.
    pub(in crate::grpc) fn new(node: &Node, place: &Place) -> Self {
        let own = place.before.is_none();
        Withdrawal {
            node: node.clone(),
            place: own.then(|| (place.key.clone(), place.rev)),
        }
    }

    /// The place is kept.
    pub(in crate::grpc) fn keep(mut self) {
        self.place = None;
    }
}

impl Drop for Withdrawal {
    fn drop(&mut self) {
        let Some((key, rev)) = self.place.take() else {
            return;
        };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return; // the process ends; the lease will
        };
        let node = self.node.clone();
        runtime.spawn(async move {
            if let Err(error) = leave(&node, (&key, rev)).await {
                tracing::warn!(
                    error = error.message(),
                    key = %String::from_utf8_lossy(&key),
                    "failed to give up a place in the line; it ends with its lease"
                );
            }
        });
    }
}
