//! Reasons of the condition TLSReady: a closed set.

use super::Flaw;

/// How things are with TLS, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsReason {
    /// The spec asks for none, and there is none.
    Disabled,
    /// All is as the spec says.
    InEffect,
    /// Certificates are exchanged, one member after the other.
    Renewing,
    /// A CA of the operator's own is replaced.
    Rotating,
    /// Members are taken from one way of talking to another.
    Switching,
    /// There is no such Secret.
    SecretMissing,
    /// A Secret lacks a key.
    KeyMissing,
    /// A certificate in a Secret is no good.
    Flawed(Flaw),
    /// The Secret of a CA of the operator's own was spoilt.
    AuthorityUnreadable,
    /// cert-manager is not installed.
    CertManagerMissing,
    /// The issuer that cert-manager is to ask does not exist.
    IssuerMissing,
    /// cert-manager has not issued a certificate yet.
    CertificatePending,
}

impl TlsReason {
    /// The reason as it stands in the condition.
    pub fn as_str(self) -> &'static str {
        match self {
            TlsReason::Disabled => "Disabled",
            TlsReason::InEffect => "InEffect",
            TlsReason::Renewing => "Renewing",
            TlsReason::Rotating => "Rotating",
            TlsReason::Switching => "Switching",
            TlsReason::SecretMissing => "SecretMissing",
            TlsReason::KeyMissing => "KeyMissing",
            TlsReason::Flawed(flaw) => flaw.as_str(),
            TlsReason::AuthorityUnreadable => "AuthorityUnreadable",
            TlsReason::CertManagerMissing => "CertManagerMissing",
            TlsReason::IssuerMissing => "IssuerMissing",
            TlsReason::CertificatePending => "CertificatePending",
        }
    }
}
