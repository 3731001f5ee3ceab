//! Why a handshake failed, in the words of Go, which operators of etcd know and
//! search their logs for.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

/// The same error, worded as etcd would.
pub fn in_gos_words(error: io::Error) -> io::Error {
    let kind = error.kind();
    let worded = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Error>())
        .and_then(words);
    match worded {
        Some(text) => io::Error::new(kind, text),
        None => error,
    }
}

fn words(error: &Error) -> Option<String> {
    Some(match error {
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "tls: first record does not look like a TLS handshake".to_owned()
        }
        Error::PeerIncompatible(
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        ) => "tls: client offered only unsupported versions".to_owned(),
        Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon) => {
            "tls: no cipher suite supported by both client and server".to_owned()
        }
        Error::NoCertificatesPresented => "tls: client didn't provide a certificate".to_owned(),
        Error::InvalidCertificate(CertificateError::Other(reason)) => reason.0.to_string(),
        Error::InvalidCertificate(reason) => {
            format!("tls: failed to verify certificate: {}", certificate(reason))
        }
        Error::AlertReceived(alert) => format!("remote error: tls: {}", alert_words(*alert)),
        _ => return None,
    })
}

fn certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "x509: certificate signed by unknown authority".to_owned()
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => {
            format!("x509: certificate has expired or is not yet valid: {error}")
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "x509: certificate specifies an incompatible key usage".to_owned()
        }
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => match presented.is_empty() {
            true => format!(
                "x509: certificate is not valid for any names, but wanted to match {}",
                expected.to_str()
            ),
            false => format!(
                "x509: certificate is valid for {}, not {}",
                presented.join(", "),
                expected.to_str()
            ),
        },
        other => format!("x509: {other}"),
    }
}

fn alert_words(alert: AlertDescription) -> String {
    let known = match alert {
        AlertDescription::BadCertificate => "bad certificate",
        AlertDescription::UnknownCA => "unknown certificate authority",
        AlertDescription::CertificateExpired => "expired certificate",
        AlertDescription::CertificateRevoked => "revoked certificate",
        AlertDescription::CertificateUnknown => "unknown certificate",
        AlertDescription::CertificateRequired => "certificate required",
        AlertDescription::ProtocolVersion => "protocol version not supported",
        AlertDescription::HandshakeFailure => "handshake failure",
        AlertDescription::AccessDenied => "access denied",
        AlertDescription::InternalError => "internal error",
        other => return format!("{other:?}"),
    };
    known.to_owned()
}
