//! etcd's errors as gRPC carries them. Clients compare code and full text.

use std::fmt::Debug;

use tonic::{Code, Status};

/// A code with its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EtcdError {
    /// gRPC's code.
    pub code: Code,
    /// The message, prefix included.
    pub text: &'static str,
}

impl EtcdError {
    /// Checks that `answer` is exactly this error.
    ///
    /// # Panics
    /// If it is an answer or another error.
    #[track_caller]
    pub fn check<T: Debug>(self, answer: Result<T, Status>) {
        match answer {
            Ok(answer) => panic!("expected {self:?}, got the answer {answer:?}"),
            Err(status) => self.is(&status),
        }
    }

    /// Checks that `status` is exactly this error.
    ///
    /// # Panics
    /// If it is another.
    #[track_caller]
    pub fn is(self, status: &Status) {
        assert_eq!((status.code(), status.message()), (self.code, self.text));
    }

    /// Whether `status` is exactly this error.
    pub fn matches(self, status: &Status) -> bool {
        status.code() == self.code && status.message() == self.text
    }
}

macro_rules! errors {
    ($($name:ident $code:ident $text:literal;)*) => {$(
        #[doc = $text]
        pub const $name: EtcdError = EtcdError { code: Code::$code, text: $text };
    )*};
}

errors! {
    EMPTY_KEY InvalidArgument "etcdserver: key is not provided";
    KEY_NOT_FOUND InvalidArgument "etcdserver: key not found";
    VALUE_PROVIDED InvalidArgument "etcdserver: value is provided";
    LEASE_PROVIDED InvalidArgument "etcdserver: lease is provided";
    TOO_MANY_OPS InvalidArgument "etcdserver: too many operations in txn request";
    DUPLICATE_KEY InvalidArgument "etcdserver: duplicate key given in txn request";
    INVALID_SORT_OPTION InvalidArgument "etcdserver: invalid sort option";
    REQUEST_TOO_LARGE InvalidArgument "etcdserver: request is too large";
    COMPACTED OutOfRange "etcdserver: mvcc: required revision has been compacted";
    FUTURE_REVISION OutOfRange "etcdserver: mvcc: required revision is a future revision";
    NO_SPACE ResourceExhausted "etcdserver: mvcc: database space exceeded";
    LEASE_NOT_FOUND NotFound "etcdserver: requested lease not found";
    LEASE_EXISTS FailedPrecondition "etcdserver: lease already exists";
    LEASE_TTL_TOO_LARGE OutOfRange "etcdserver: too large lease TTL";
    PEER_URL_EXISTS FailedPrecondition "etcdserver: Peer URLs already exists";
    MEMBER_BAD_URLS InvalidArgument "etcdserver: given member URLs are invalid";
    MEMBER_NOT_FOUND NotFound "etcdserver: member not found";
    MEMBER_NOT_ENOUGH_STARTED Unknown "etcdserver: re-configuration failed due to not enough started members";
    MEMBER_NOT_LEARNER FailedPrecondition "etcdserver: can only promote a learner member";
    LEARNER_NOT_READY FailedPrecondition "etcdserver: can only promote a learner member which is in sync with leader";
    TOO_MANY_LEARNERS FailedPrecondition "etcdserver: too many learner members in cluster";
    NOT_LEADER FailedPrecondition "etcdserver: not leader";
    BAD_LEADER_TRANSFEREE FailedPrecondition "etcdserver: bad leader transferee";
    NOT_SUPPORTED_FOR_LEARNER FailedPrecondition "etcdserver: rpc not supported for learner";
    SERVER_STOPPED Unavailable "etcdserver: server stopped";
    NO_LEADER Unavailable "etcdserver: no leader";
    UNHEALTHY Unavailable "etcdserver: unhealthy cluster";
    TIMEOUT Unavailable "etcdserver: request timed out";
    CORRUPT DataLoss "etcdserver: corrupt cluster";
}
