//! Why a peer was not reached, or did not take what it was sent.

use std::io;

use http::StatusCode;
use thiserror::Error;

/// Why a request to a peer failed.
#[derive(Debug, Error)]
pub(super) enum RequestError {
    #[error("peer has no usable URL")]
    NoUrl,
    #[error("dial {url}: {source}")]
    Dial { url: String, source: io::Error },
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("dial timed out")]
    DialTimedOut,
    #[error("timed out")]
    TimedOut,
    #[error("the member has been permanently removed from the cluster")]
    Removed,
    #[error("incompatible version")]
    IncompatibleVersion,
    #[error("cluster ID mismatch")]
    ClusterIdMismatch,
    #[error("peer failed to find the local member")]
    UnknownToPeer,
    #[error("unexpected http status {status}: {body}")]
    Status { status: StatusCode, body: String },
}

impl RequestError {
    /// Whether the peer's host answered that nobody listens there.
    pub(super) fn is_refused(&self) -> bool {
        match self {
            RequestError::Dial { source, .. } => source.kind() == io::ErrorKind::ConnectionRefused,
            _ => false,
        }
    }

    /// Whether it failed before anything of the request was sent.
    pub(super) fn is_before_request(&self) -> bool {
        match self {
            RequestError::NoUrl | RequestError::Dial { .. } | RequestError::DialTimedOut => true,
            RequestError::Http(error) => error.is_canceled(),
            RequestError::TimedOut
            | RequestError::Removed
            | RequestError::IncompatibleVersion
            | RequestError::ClusterIdMismatch
            | RequestError::UnknownToPeer
            | RequestError::Status { .. } => false,
        }
    }
}

/// Why bytes of a stream are not frames.
#[derive(Debug, Error)]
pub(super) enum FrameError {
    #[error("frame of {0} bytes exceeds the limit")]
    TooLong(u64),
    #[error("unknown frame type {0}")]
    UnknownType(u8),
    #[error("{0}")]
    Decode(#[from] prost::DecodeError),
}

/// Why a stream that was open ended.
#[derive(Debug, Error)]
pub(super) enum StreamError {
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("no message and no heartbeat for 5s")]
    Silent,
    #[error("closed by the peer")]
    Closed,
}
