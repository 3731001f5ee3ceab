//! A CA of a cluster's own, and how it is replaced in phases.
//!
//! | phase   | signs | trusted         | it ends when                                  |
//! |---------|-------|-----------------|-----------------------------------------------|
//! | Steady  | old   | old             | two thirds of its life are over, or on request |
//! | Trust   | old   | old and new     | every member takes a client of the new one    |
//! | Reissue | new   | new and old     | every member serves a certificate of the new  |
//! | Drop    | new   | new             | every member refuses a client of the old one  |
//!
//! The Secret is the record: certificates, keys and phase change in one write, so an
//! operator that dies anywhere finds on its return where it was.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{CertificateSeen, Pair};

/// Phases of the replacement of a CA.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// There is one CA.
    #[default]
    Steady,
    /// The next CA is made known; the old one signs.
    Trust,
    /// The new CA signs; the old one is still trusted.
    Reissue,
    /// The old CA is trusted no more.
    Drop,
}

impl Phase {
    /// The word in the Secret's annotation.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Steady => "Steady",
            Phase::Trust => "Trust",
            Phase::Reissue => "Reissue",
            Phase::Drop => "Drop",
        }
    }

    /// Reads what [`Phase::as_str`] wrote.
    pub fn parse(text: &str) -> Option<Phase> {
        [Phase::Steady, Phase::Trust, Phase::Reissue, Phase::Drop]
            .into_iter()
            .find(|phase| phase.as_str() == text)
    }

    /// The phase after this one.
    pub fn next(self) -> Phase {
        match self {
            Phase::Steady => Phase::Trust,
            Phase::Trust => Phase::Reissue,
            Phase::Reissue => Phase::Drop,
            Phase::Drop => Phase::Steady,
        }
    }
}

/// A CA, as its Secret holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// What signs.
    pub signer: Pair,
    /// What will sign, in [`Phase::Trust`].
    pub next: Option<Pair>,
    /// What signed before, in [`Phase::Reissue`] and [`Phase::Drop`].
    pub previous: Option<Pair>,
    /// The phase.
    pub phase: Phase,
    /// When the phase began.
    pub since: Timestamp,
    /// The request that the last replacement answered.
    pub request: String,
}

/// Facts of a CA. No key is among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthoritySeen {
    /// What signs.
    pub signer: CertificateSeen,
    /// Fingerprints of what is to be trusted, in order.
    pub bundle: Vec<String>,
    /// Fingerprint of the other CA: the next one, or the previous one.
    pub other: Option<String>,
    /// When the CA expires that is in use, or was until now.
    pub expires: Timestamp,
    /// The phase.
    pub phase: Phase,
    /// When the phase began.
    pub since: Timestamp,
    /// The request that the last replacement answered.
    pub request: String,
}

/// Why a Secret holds no CA.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum AuthorityError {
    /// A key of its data is missing or holds no text.
    #[error("it lacks {0}")]
    Missing(&'static str),
    /// A certificate in it cannot be read.
    #[error("{0} holds no certificate that can be read")]
    Unreadable(&'static str),
    /// Its phase is none.
    #[error("its phase {0:?} is not one of Steady, Trust, Reissue and Drop")]
    Phase(String),
}

impl Authority {
    /// A CA that has just been made. `old` are CAs that were trusted before and whose
    /// Secret was lost: then this one is made known first.
    pub fn new(fresh: Pair, old: Option<String>, now: Timestamp, request: String) -> Authority {
        let steady = Authority {
            signer: fresh,
            next: None,
            previous: None,
            phase: Phase::Steady,
            since: now,
            request,
        };
        match old {
            None => steady,
            Some(cert) => Authority {
                next: Some(steady.signer),
                signer: Pair {
                    cert,
                    key: String::new(),
                },
                phase: Phase::Trust,
                ..steady
            },
        }
    }

    /// What is to be trusted now, as PEM.
    pub fn bundle(&self) -> String {
        let other = match self.phase {
            Phase::Trust => self.next.as_ref(),
            Phase::Reissue => self.previous.as_ref(),
            Phase::Steady | Phase::Drop => None,
        };
        let mut bundle = self.signer.cert.clone();
        if let Some(other) = other {
            bundle.push_str(&other.cert);
        }
        bundle
    }

    /// Goes on to the phase after the present one. `fresh` is needed from
    /// [`Phase::Steady`] only.
    pub fn advance(self, fresh: Option<Pair>, now: Timestamp, request: String) -> Authority {
        let phase = self.phase.next();
        let moved = match (self.phase, fresh, self.next.clone()) {
            (Phase::Steady, Some(fresh), _) => Authority {
                next: Some(fresh),
                request,
                ..self
            },
            (Phase::Trust, _, Some(next)) => Authority {
                previous: Some(self.signer),
                signer: next,
                next: None,
                ..self
            },
            (Phase::Reissue, _, _) => self,
            (Phase::Drop, _, _) => Authority {
                previous: None,
                ..self
            },
            // Nothing to go on with: stays what it is.
            (Phase::Steady, None, _) | (Phase::Trust, _, None) => return self,
        };
        Authority {
            phase,
            since: now,
            ..moved
        }
    }

    /// Reads the data of a Secret, and its phase, time and request.
    pub fn read(
        data: &BTreeMap<String, String>,
        phase: &str,
        since: Timestamp,
        request: String,
    ) -> Result<Authority, AuthorityError> {
        let pair = |cert: &str, key: &str| {
            data.get(cert).map(|text| Pair {
                cert: text.clone(),
                key: data.get(key).cloned().unwrap_or_default(),
            })
        };
        let signer = pair("tls.crt", "tls.key").ok_or(AuthorityError::Missing("tls.crt"))?;
        if signer.seen().is_none() {
            return Err(AuthorityError::Unreadable("tls.crt"));
        }
        let phase = Phase::parse(phase).ok_or_else(|| AuthorityError::Phase(phase.to_owned()))?;
        let authority = Authority {
            signer,
            next: pair("next.crt", "next.key"),
            previous: pair("previous.crt", "previous.key"),
            phase,
            since,
            request,
        };
        if phase == Phase::Steady && authority.signer.key.is_empty() {
            return Err(AuthorityError::Missing("tls.key"));
        }
        if phase == Phase::Trust && authority.next.is_none() {
            return Err(AuthorityError::Missing("next.crt"));
        }
        Ok(authority)
    }

    /// The data of its Secret.
    pub fn data(&self) -> BTreeMap<String, String> {
        let mut data = BTreeMap::from([("ca.crt".to_owned(), self.bundle())]);
        let mut put = |name: &str, pair: &Pair| {
            data.insert(format!("{name}.crt"), pair.cert.clone());
            data.insert(format!("{name}.key"), pair.key.clone());
        };
        put("tls", &self.signer);
        if let Some(next) = &self.next {
            put("next", next);
        }
        if let Some(previous) = &self.previous {
            put("previous", previous);
        }
        data
    }

    /// Its facts.
    pub fn seen(&self) -> AuthoritySeen {
        let bundle = super::certificates(&self.bundle());
        AuthoritySeen {
            signer: self.signer.seen().unwrap_or_default(),
            bundle: bundle.into_iter().map(|cert| cert.fingerprint).collect(),
            other: self
                .next
                .as_ref()
                .or(self.previous.as_ref())
                .and_then(Pair::seen)
                .map(|other| other.fingerprint),
            expires: self
                .previous
                .as_ref()
                .unwrap_or(&self.signer)
                .seen()
                .map(|old| old.not_after)
                .unwrap_or_default(),
            phase: self.phase,
            since: self.since,
            request: self.request.clone(),
        }
    }
}
