//! The replacement of the operator's own CAs. A phase ends when the world shows it: by
//! what listeners show, and by whom they take.

use jiff::SignedDuration;
use kube::ResourceExt;

use crate::{
    api::{ANNOTATION_ROTATE_CA, seconds},
    certificates::{AuthoritySeen, Phase, Purpose},
    render::transport,
};

use super::{Around, Member, Plan, Step, TlsVerdict, of};

/// How long clients get to load what has changed, unless the spec says otherwise.
const SETTLE: SignedDuration = SignedDuration::from_mins(2);
/// How long a member may take to load a CA before it is taken for an etcd that loads
/// none while it runs.
const PATIENCE: SignedDuration = SignedDuration::from_secs(150);

/// What a rotation does next.
enum Next {
    /// Goes on to the next phase.
    Phase,
    /// Waits for this.
    Wait(String),
    /// Waits for members to load a CA that do not seem to.
    Restart(String),
}

impl Around<'_> {
    /// The next step of a rotation, if there is one to take.
    pub(super) fn rotate(&self) -> Option<Plan> {
        for purpose in self.own() {
            let Some(authority) = self.observed.certificates.authorities.get(&purpose) else {
                continue;
            };
            if authority.phase == Phase::Steady {
                if let Some(why) = self.due(authority) {
                    // Not into a cluster that is not well, or on its way somewhere.
                    return self.calm().then(|| self.to(purpose, authority, &why));
                }
                continue;
            }
            return match self.next(purpose, authority) {
                Next::Phase => Some(self.to(purpose, authority, "all members have taken it")),
                Next::Restart(why) => {
                    Some(self.restart(&why)).filter(|plan| plan.step != Step::None)
                }
                Next::Wait(_) => None,
            };
        }
        None
    }

    fn to(&self, purpose: Purpose, authority: &AuthoritySeen, why: &str) -> Plan {
        let to = authority.phase.next();
        let act = match to {
            Phase::Trust => "makes a new CA known to",
            Phase::Reissue => "lets the new CA sign for",
            Phase::Drop => "lets the old CA be trusted no more by",
            Phase::Steady => "forgets the old CA of",
        };
        let request = match to {
            Phase::Trust => self.request(),
            Phase::Reissue | Phase::Drop | Phase::Steady => authority.request.clone(),
        };
        Plan::step(
            Step::RotateAuthority {
                purpose,
                to,
                request,
            },
            format!("{act} {}: {why}", of(purpose)),
        )
    }

    fn request(&self) -> String {
        let annotations = self.cluster.annotations();
        annotations
            .get(ANNOTATION_ROTATE_CA)
            .cloned()
            .unwrap_or_default()
    }

    /// Why a CA is to be replaced now.
    fn due(&self, authority: &AuthoritySeen) -> Option<String> {
        if self.now >= authority.signer.renewal() {
            return Some("two thirds of its life are over".to_owned());
        }
        let request = self.request();
        (!request.is_empty() && request != authority.request)
            .then(|| format!("{ANNOTATION_ROTATE_CA} asks for {request:?}"))
    }

    fn next(&self, purpose: Purpose, authority: &AuthoritySeen) -> Next {
        let concerned = |member: &&Member<'_>| {
            let tls = transport::in_effect(self.cluster);
            transport::source(tls, purpose).is_some() && member.pod().is_some()
        };
        // Members that do not answer are waited for: a phase ends when all have shown
        // it, and one that is gone for good is replaced by other parts of the plan.
        match authority.phase {
            Phase::Trust | Phase::Drop => {
                let wanted = authority.phase == Phase::Trust;
                let Some(other) = &authority.other else {
                    return Next::Phase;
                };
                for member in self.members().filter(concerned) {
                    let Some(pod) = member.pod() else { continue };
                    let key = (purpose, other.clone());
                    if !self.listens(member, purpose) || pod.accepts.get(&key) == Some(&wanted) {
                        continue;
                    }
                    let verb = if wanted { "take" } else { "refuse" };
                    let ca = if wanted { "new" } else { "old" };
                    let why = format!(
                        "waits until {} is seen to {verb} certificates of the {ca} CA of {}",
                        member.name,
                        of(purpose)
                    );
                    let late = self.now.duration_since(authority.since) >= PATIENCE;
                    let older = pod.created.is_some_and(|created| created < authority.since);
                    return if late && older && member.is_serving() {
                        Next::Restart(why)
                    } else {
                        Next::Wait(why)
                    };
                }
            }
            Phase::Reissue => {
                for member in self.members().filter(concerned) {
                    let name = &member.name;
                    let seen = &self.observed.certificates.members;
                    let held = seen.get(&(name.clone(), purpose));
                    let served = member.pod().and_then(|pod| pod.served.get(&purpose));
                    let shown = matches!((held, served), (Some(held), Some(served))
                        if held.cert.fingerprint == *served && held.cert.issuer == authority.signer.subject);
                    if self.listens(member, purpose) && !shown {
                        return Next::Wait(format!(
                            "waits until {name} is seen to show {} its certificate of the new CA",
                            of(purpose)
                        ));
                    }
                }
            }
            Phase::Steady => return Next::Phase,
        }
        if purpose == Purpose::Client && authority.phase != Phase::Drop {
            let settle = self.settle();
            let published = self.observed.certificates.clients.as_ref();
            let left = published.map_or(settle, |clients| {
                settle - self.now.duration_since(clients.published)
            });
            if left > SignedDuration::ZERO {
                return Next::Wait("gives clients time to load their Secret".to_owned());
            }
        }
        Next::Phase
    }

    fn settle(&self) -> SignedDuration {
        let own = self
            .cluster
            .spec
            .tls
            .as_ref()
            .and_then(|tls| tls.client.as_ref()?.operator.as_ref());
        own.and_then(|own| seconds(own.settle_duration.as_deref()?))
            .map_or(SETTLE, SignedDuration::from_secs)
    }

    fn listens(&self, member: &Member<'_>, purpose: Purpose) -> bool {
        member.pod().is_some_and(|pod| match purpose {
            Purpose::Client => pod.schemes.client_tls,
            Purpose::Peer => pod.schemes.peer_tls,
        })
    }

    /// What to say of certificates that are in effect.
    pub(super) fn progress(&self, step: Option<&Plan>) -> TlsVerdict {
        let ready = |reason, message: String, busy| TlsVerdict {
            ready: true,
            reason,
            message,
            busy,
        };
        for purpose in self.own() {
            let Some(authority) = self.observed.certificates.authorities.get(&purpose) else {
                continue;
            };
            if authority.phase != Phase::Steady {
                let what = match self.next(purpose, authority) {
                    Next::Phase => String::from("goes on"),
                    Next::Wait(why) | Next::Restart(why) => why,
                };
                let phase = authority.phase.as_str();
                return ready(
                    "Rotating",
                    format!("replaces the CA of {}, phase {phase}: {what}", of(purpose)),
                    true,
                );
            }
            if self.due(authority).is_some() {
                return ready(
                    "Rotating",
                    format!(
                        "the CA of {} is replaced while every member serves",
                        of(purpose)
                    ),
                    true,
                );
            }
        }
        if let Some(lagging) = Purpose::ALL
            .into_iter()
            .find_map(|purpose| self.lagging(purpose, ""))
        {
            let message = format!(
                "waits until {} is seen to show its new certificate",
                lagging.name
            );
            return ready("Renewing", message, true);
        }
        ready("InEffect", String::new(), step.is_some())
    }
}
