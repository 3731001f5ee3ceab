//! Failures of runs, made of what the libraries below say.

use std::{error::Error, fmt, io, path::Path};

use super::run::{Failure, Reason};
use crate::causes::causes;

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Failure {}

impl Failure {
    /// One that passes by itself, whatever its reason is otherwise.
    pub(crate) fn passing(mut self) -> Failure {
        self.transient = true;
        self
    }

    /// A file of the pod that could not be read or written.
    pub(crate) fn disk(what: &str, path: &Path, error: &io::Error) -> Failure {
        let reason = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Reason::DiskFull,
            _ => Reason::DiskFailed,
        };
        Failure::new(reason, format!("{what} {}: {error}", path.display()))
    }

    /// A failure as an error of a reader or writer, to be found again by
    /// [`Failure::from_io`].
    pub(crate) fn into_io(self) -> io::Error {
        io::Error::other(self)
    }

    /// The failure that an error of a reader or writer carries, or one with `reason` that
    /// tells the error.
    pub(crate) fn from_io(error: &io::Error, reason: Reason, what: &str) -> Failure {
        let mut inner: Option<&(dyn Error + 'static)> = error.get_ref().map(|e| e as _);
        while let Some(error) = inner {
            if let Some(failure) = error.downcast_ref::<Failure>() {
                return failure.clone();
            }
            // An error of a reader is often wrapped in another one.
            inner = match error.downcast_ref::<io::Error>() {
                Some(io) => io.get_ref().map(|e| e as _),
                None => error.source(),
            };
        }
        Failure::new(reason, format!("{what}: {}", causes(error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_survives_readers_that_wrap_errors() {
        let failure = Failure::new(Reason::StoreBusy, "slow down");
        let wrapped = io::Error::other(io::Error::other(failure.clone().into_io()));
        assert_eq!(
            Failure::from_io(&wrapped, Reason::Corrupt, "reading"),
            failure
        );
        let plain = io::Error::new(io::ErrorKind::InvalidData, "bad block");
        let told = Failure::from_io(&plain, Reason::Corrupt, "unpacking");
        assert_eq!(told.reason, Reason::Corrupt);
        assert_eq!(told.message, "unpacking: bad block");
    }
}
