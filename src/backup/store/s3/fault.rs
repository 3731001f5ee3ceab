//! What an error of the SDK means to a run.

use std::error::Error;

use aws_sdk_s3::{
    config::http::HttpResponse,
    error::{ConnectorError, DisplayErrorContext, ProvideErrorMetadata, SdkError},
};

use super::connect::Refused;
use crate::backup::run::{Failure, Reason};

/// Longer texts of a store are cut.
const TEXT_MAX: usize = 300;

/// The failure that `error` is; `what` says what was attempted, on which object.
pub(super) fn fault<E>(what: &str, error: &SdkError<E, HttpResponse>) -> Failure
where
    E: ProvideErrorMetadata + Error + 'static,
{
    match error {
        SdkError::ServiceError(service) => {
            let raw = service.raw();
            let meta = service.err();
            refusal(
                what,
                raw.status().as_u16(),
                meta.code(),
                meta.message(),
                raw.headers().get("location"),
            )
        }
        // A body that is no answer of S3, such as a page of a proxy.
        SdkError::ResponseError(response) => refusal(
            what,
            response.raw().status().as_u16(),
            None,
            Some("the answer is none of S3"),
            response.raw().headers().get("location"),
        ),
        SdkError::TimeoutError(_) => Failure::new(
            Reason::StoreUnreachable,
            format!("{what}: the store did not answer in time"),
        ),
        SdkError::DispatchFailure(failure) => dispatch(what, failure.as_connector_error(), error),
        other => Failure::new(
            Reason::StoreFailed,
            format!("{what}: {}", short(&DisplayErrorContext(other).to_string())),
        ),
    }
}

/// A request that never got an answer.
fn dispatch(
    what: &str,
    connector: Option<&ConnectorError>,
    error: &(dyn Error + 'static),
) -> Failure {
    let Some(connector) = connector else {
        return identity(what, error);
    };
    let connector: &(dyn Error + 'static) = connector;
    if let Some(refused) = find::<Refused>(connector) {
        return Failure::new(Reason::EndpointRefused, format!("{what}: {refused}"));
    }
    if let Some(tls) = find::<rustls::Error>(connector) {
        return tls_failure(what, tls);
    }
    if find::<aws_credential_types::provider::error::CredentialsError>(connector).is_some() {
        return identity(what, connector);
    }
    Failure::new(
        Reason::StoreUnreachable,
        format!("{what}: {}", short(&innermost(connector))),
    )
}

fn identity(what: &str, error: &(dyn Error + 'static)) -> Failure {
    Failure::new(
        Reason::InvalidCredentials,
        format!(
            "{what}: no identity to show to the store: {}; name s3.credentialsSecretRef, or give the service account one",
            short(&innermost(error))
        ),
    )
}

fn tls_failure(what: &str, error: &rustls::Error) -> Failure {
    match error {
        rustls::Error::InvalidCertificate(_) | rustls::Error::AlertReceived(_) => Failure::new(
            Reason::CertificateRefused,
            format!(
                "{what}: the endpoint's certificate is not accepted: {error}; s3.caSecretRef names the authorities"
            ),
        ),
        // Plain HTTP on the other side, most often.
        other => Failure::new(
            Reason::CertificateRefused,
            format!("{what}: the endpoint does not speak TLS as it should: {other}"),
        ),
    }
}

/// What a store answered instead of doing it.
fn refusal(
    what: &str,
    status: u16,
    code: Option<&str>,
    message: Option<&str>,
    location: Option<&str>,
) -> Failure {
    let code = code.unwrap_or_default();
    let said = match message {
        Some(message) => format!("{status} {code}: {}", short(message)),
        None => format!("{status} {code}"),
    };
    let (reason, hint) = reason(status, code, message.unwrap_or_default(), location);
    let hint = match (hint, location) {
        (_, Some(location)) if reason == Reason::Redirected => {
            format!("; it is not followed to {}", short(location))
        }
        ("", _) => String::new(),
        (hint, _) => format!("; {hint}"),
    };
    Failure::new(reason, format!("{what}: {}{hint}", said.trim_end()))
}

fn reason(
    status: u16,
    code: &str,
    message: &str,
    location: Option<&str>,
) -> (Reason, &'static str) {
    match code {
        "NoSuchBucket" => return (Reason::NoSuchBucket, "s3.bucket names it"),
        "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "InvalidToken"
        | "ExpiredToken"
        | "TokenRefreshRequired"
        | "InvalidClientTokenId"
        | "AuthorizationQueryParametersError" => {
            return (
                Reason::InvalidCredentials,
                "the Secret of s3.credentialsSecretRef has other credentials than the store",
            );
        }
        "RequestTimeTooSkewed" | "RequestExpired" => {
            return (Reason::ClockSkewed, "set the clock of node or store");
        }
        "PermanentRedirect"
        | "IllegalLocationConstraintException"
        | "AuthorizationHeaderMalformed"
        | "InvalidRegion" => {
            return (Reason::WrongRegion, "s3.region must be the bucket's");
        }
        "SlowDown"
        | "Throttling"
        | "ThrottlingException"
        | "TooManyRequests"
        | "RequestLimitExceeded"
        | "ServiceUnavailable"
        | "SlowDownRead"
        | "SlowDownWrite"
        | "OperationAborted" => return (Reason::StoreBusy, ""),
        "RequestTimeout" | "XMinioServerNotInitialized" => return (Reason::StoreUnreachable, ""),
        "XMinioStorageFull"
        | "XMinioAdminBucketQuotaExceeded"
        | "QuotaExceeded"
        | "InsufficientStorage" => {
            return (Reason::StoreFull, "make room, or delete backups");
        }
        "PreconditionFailed" | "ConditionalRequestConflict" | "NoSuchUpload" => {
            return (Reason::Conflict, "another run is at work there");
        }
        "InvalidDigest"
        | "BadDigest"
        | "XAmzContentSHA256Mismatch"
        | "ChecksumMismatch"
        | "IncompleteBody" => {
            // Damaged on the way: what is sent again may arrive.
            return (Reason::StoreFailed, "");
        }
        "NotImplemented" | "XNotImplemented" => return (Reason::Unsupported, ""),
        "ObjectLockConfigurationNotFoundError" => {
            return (
                Reason::Unsupported,
                "the bucket was not made for object locks",
            );
        }
        _ => {}
    }
    let locked = message.contains("WORM") || message.contains("Object Lock");
    match status {
        // MinIO looks at its free space from time to time only. Between two looks a disk that
        // has filled up is an internal error of its file system to it.
        500..
            if message
                .to_ascii_lowercase()
                .contains("no space left on device") =>
        {
            (Reason::StoreFull, "make room, or delete backups")
        }
        300..=399 if location.is_some() => (Reason::Redirected, ""),
        300..=399 => (Reason::WrongRegion, "s3.region must be the bucket's"),
        401 => (Reason::InvalidCredentials, ""),
        403 if locked => (Reason::ObjectLocked, ""),
        403 => (
            Reason::AccessDenied,
            "it needs GetObject, PutObject, DeleteObject, AbortMultipartUpload and ListBucket",
        ),
        404 => (Reason::NotFound, ""),
        409 | 412 => (Reason::Conflict, "another run is at work there"),
        429 | 503 => (Reason::StoreBusy, ""),
        507 => (Reason::StoreFull, "make room, or delete backups"),
        408 => (Reason::StoreUnreachable, ""),
        400 if message.contains("ObjectLockConfiguration") => (
            Reason::Unsupported,
            "the bucket was not made for object locks",
        ),
        400 | 405 | 501 => (Reason::Unsupported, ""),
        _ => (Reason::StoreFailed, ""),
    }
}

/// An error of type `T` among the causes of `error`.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = match error.downcast_ref::<std::io::Error>() {
            Some(io) => io.get_ref().map(|inner| inner as _),
            None => error.source(),
        };
    }
    None
}

/// The cause of all causes.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

fn short(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o26_what_passes_is_told_from_what_does_not() {
        for (status, code, expected) in [
            (503, "SlowDown", Reason::StoreBusy),
            (503, "", Reason::StoreBusy),
            (429, "", Reason::StoreBusy),
            (500, "InternalError", Reason::StoreFailed),
            (502, "", Reason::StoreFailed),
            (400, "RequestTimeout", Reason::StoreUnreachable),
            (507, "XMinioStorageFull", Reason::StoreFull),
        ] {
            let failure = refusal("writes x", status, Some(code), None, None);
            assert_eq!(
                (failure.reason, failure.transient),
                (expected, true),
                "{code}"
            );
        }
        for (status, code, expected) in [
            (404, "NoSuchBucket", Reason::NoSuchBucket),
            (403, "AccessDenied", Reason::AccessDenied),
            (403, "InvalidAccessKeyId", Reason::InvalidCredentials),
            (403, "SignatureDoesNotMatch", Reason::InvalidCredentials),
            (403, "RequestTimeTooSkewed", Reason::ClockSkewed),
            (301, "PermanentRedirect", Reason::WrongRegion),
            (400, "AuthorizationHeaderMalformed", Reason::WrongRegion),
            (412, "PreconditionFailed", Reason::Conflict),
            (501, "NotImplemented", Reason::Unsupported),
        ] {
            let failure = refusal("writes x", status, Some(code), None, None);
            assert_eq!(
                (failure.reason, failure.transient),
                (expected, false),
                "{code}"
            );
        }
    }

    #[test]
    fn o26_a_full_disk_behind_an_internal_error_is_told_as_such() {
        let said = "We encountered an internal error, please try again.: \
                    cause(no space left on device)";
        let failure = refusal("writes x", 500, Some("InternalError"), Some(said), None);
        assert_eq!(
            (failure.reason, failure.transient),
            (Reason::StoreFull, true)
        );
        assert!(failure.message.ends_with("; make room, or delete backups"));
    }

    #[test]
    fn x10_a_redirect_is_told_and_not_followed() {
        let failure = refusal("reads x", 307, None, None, Some("http://169.254.169.254/"));
        assert_eq!(failure.reason, Reason::Redirected);
        assert_eq!(
            failure.message,
            "reads x: 307; it is not followed to http://169.254.169.254/"
        );
    }

    #[test]
    fn x18_a_lock_is_told_from_a_lack_of_rights() {
        let locked = refusal(
            "removes x",
            403,
            Some("AccessDenied"),
            Some("Object is WORM protected and cannot be overwritten"),
            None,
        );
        assert_eq!(locked.reason, Reason::ObjectLocked);
    }
}
