//! The cluster a run reads from or writes to.

mod choose;
mod dial;
mod stream;

pub(crate) use choose::{Asked, choose};
pub(crate) use dial::{Dialer, Peer};
pub(crate) use stream::{SnapshotStream, hash_kv, snapshot};

use tonic::{Code, Status};

use super::run::{Failure, Reason};
use crate::causes::causes;

/// The failure that a member's refusal is.
pub(crate) fn refused(what: &str, endpoint: &str, status: &Status) -> Failure {
    let why = causes(status);
    let reason = match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => Reason::MemberRefused,
        _ if speaks_of_certificates(&why) => Reason::MemberRefused,
        _ => Reason::MemberFailed,
    };
    let said = match status.message() {
        "" | "transport error" => why.as_str(),
        said => said,
    };
    Failure::new(
        reason,
        format!("{what} of the member at {endpoint}: {said}"),
    )
}

/// Whether an error of a connection is one of certificates. tonic keeps the error of TLS
/// behind types of its own.
fn speaks_of_certificates(text: &str) -> bool {
    [
        "certificate",
        "Certificate",
        "UnknownIssuer",
        "UnknownCA",
        "received fatal alert",
    ]
    .iter()
    .any(|word| text.contains(word))
}
