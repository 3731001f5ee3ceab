//! The cluster a run reads from or writes to.

mod choose;
mod dial;
mod stream;

pub(crate) use choose::{Asked, choose};
pub(crate) use dial::{Dialer, Peer};
pub(crate) use stream::{SnapshotStream, hash_kv, snapshot};

use tonic::{Code, Status};

use super::run::{Failure, Reason};

/// The failure that a member's refusal is.
pub(crate) fn refused(what: &str, endpoint: &str, status: &Status) -> Failure {
    let reason = match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => Reason::MemberRefused,
        _ => Reason::MemberFailed,
    };
    Failure::new(
        reason,
        format!("{what} of the member at {endpoint}: {}", status.message()),
    )
}
