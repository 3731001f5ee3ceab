//! Long reads take turns, so that however many there are, cores are left for those who
//! decide, write and answer.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tonic::Status;

/// Bytes that a reader may gather before others get their turn.
pub(super) const TURN_BYTES: usize = 1 << 20;

/// Who may read at length now. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Turns {
    permits: Arc<Semaphore>,
}

/// The right to go on, kept for the whole of a read and given up between its turns.
pub(super) struct Turn {
    permits: Arc<Semaphore>,
    runtime: Handle,
    permit: Option<OwnedSemaphorePermit>,
}

impl Turns {
    /// For half of the cores, at least one.
    pub(super) fn new() -> Turns {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Turns {
            permits: Arc::new(Semaphore::new((cores / 2).max(1))),
        }
    }

    /// Waits for a turn, behind those who wait already.
    pub(super) async fn begin(&self) -> Result<Turn, Status> {
        let permit = self.permits.clone().acquire_owned().await;
        Ok(Turn {
            permits: self.permits.clone(),
            runtime: Handle::current(),
            permit: Some(permit.map_err(|e| closed(&e))?),
        })
    }
}

impl Turn {
    /// Lets others have theirs, and waits for the next one. For a blocking thread.
    pub(super) fn next(&mut self) -> Result<(), Status> {
        self.permit = None;
        let permit = self.runtime.block_on(self.permits.clone().acquire_owned());
        self.permit = Some(permit.map_err(|e| closed(&e))?);
        Ok(())
    }
}

/// Nobody closes it; were it closed, the server would be going down.
fn closed(error: &AcquireError) -> Status {
    Status::unavailable(format!("etcdserver: {error}"))
}
