//! The replacement of the operator's own CAs. A phase ends when the world shows it: by
//! what listeners show, and by whom they take. CAs that are replaced together go
//! through their phases together, so that an etcd that has to be restarted for them is
//! restarted once for both.

use jiff::SignedDuration;
use kube::ResourceExt;

use crate::{
    api::{ANNOTATION_ROTATE_CA, Engine},
    certificates::{AuthoritySeen, Phase, Purpose, TlsReason},
    render::transport,
};

use super::{Around, Member, Plan, Step, TlsVerdict, of};

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

impl<'a> Around<'a> {
    fn authorities(&self) -> Vec<(Purpose, &'a AuthoritySeen)> {
        let seen = &self.observed.certificates.authorities;
        self.own()
            .into_iter()
            .filter_map(|purpose| Some((purpose, seen.get(&purpose)?)))
            .collect()
    }

    /// The next step of a rotation, if there is one to take.
    pub(super) fn rotate(&self) -> Option<Plan> {
        let all = self.authorities();
        let mut restart = None;
        for (purpose, authority) in &all {
            if authority.phase == Phase::Steady {
                if let Some(why) = self.due(authority)
                    && self.may_begin(authority)
                {
                    return Some(self.to(*purpose, authority, &why));
                }
                continue;
            }
            match self.next(*purpose, authority) {
                Next::Phase if !self.behind(&all, authority) => {
                    return Some(self.to(*purpose, authority, "all members have taken it"));
                }
                // Whoever is behind will need the same.
                Next::Restart(why) if !self.behind(&all, authority) => {
                    restart = restart.or(Some(why));
                }
                Next::Phase | Next::Wait(_) | Next::Restart(_) => {}
            }
        }
        Some(self.restart(&restart?)).filter(|plan| plan.step != Step::None)
    }

    /// Whether another CA that is being replaced is in an earlier phase.
    fn behind(&self, all: &[(Purpose, &AuthoritySeen)], authority: &AuthoritySeen) -> bool {
        all.iter().any(|(_, other)| match other.phase {
            Phase::Steady => self.due(other).is_some() && self.may_begin(other),
            phase => phase < authority.phase,
        })
    }

    /// Not into a cluster that is not well, or on its way somewhere. A CA that has
    /// expired is believed by nobody: there is nothing to wait for.
    fn may_begin(&self, authority: &AuthoritySeen) -> bool {
        self.has_expired(authority) || (self.is_in_effect() && self.calm())
    }

    fn has_expired(&self, authority: &AuthoritySeen) -> bool {
        authority.expires <= self.now
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
        if self.has_expired(authority) {
            return Next::Phase;
        }
        let concerned = |member: &&Member<'_>| {
            let tls = transport::in_effect(self.cluster);
            transport::origin(tls, purpose).is_some() && self.listens(member, purpose)
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
                    if pod.accepts.get(&key) == Some(&wanted) {
                        continue;
                    }
                    let verb = if wanted { "take" } else { "refuse" };
                    let ca = if wanted { "new" } else { "old" };
                    let why = format!(
                        "waits until {} is seen to {verb} certificates of the {ca} CA of {}",
                        member.name,
                        of(purpose)
                    );
                    // Stock etcd never loads a CA while it runs.
                    let deaf = member.status.and_then(|status| status.engine) == Some(Engine::Etcd);
                    let late = deaf || self.now.duration_since(authority.since) >= PATIENCE;
                    let older = pod.created.is_some_and(|created| created < authority.since);
                    let answered = pod.accepts.contains_key(&key);
                    return if late && older && answered && member.is_serving() {
                        Next::Restart(why)
                    } else {
                        Next::Wait(why)
                    };
                }
            }
            Phase::Reissue => {
                for member in self.members().filter(concerned) {
                    let name = &member.name;
                    let held = self.held(name, purpose);
                    let served = member.pod().and_then(|pod| pod.served.get(&purpose));
                    let shown = matches!((held, served), (Some(held), Some(served))
                        if held.cert.fingerprint == *served
                            && held.anchor.as_ref() == Some(&authority.signer.fingerprint));
                    if !shown {
                        return Next::Wait(format!(
                            "waits until {name} is seen to show {} its certificate of the new CA",
                            of(purpose)
                        ));
                    }
                }
                let clients = self.observed.certificates.clients.as_ref();
                let leaf = clients.and_then(|clients| clients.leaf.as_ref());
                if purpose == Purpose::Client
                    && leaf.is_none_or(|leaf| {
                        leaf.anchor.as_ref() != Some(&authority.signer.fingerprint)
                    })
                {
                    return Next::Wait("waits until clients have theirs of the new CA".to_owned());
                }
            }
            Phase::Steady => return Next::Phase,
        }
        if purpose == Purpose::Client && authority.phase != Phase::Drop && !self.settled() {
            return Next::Wait("gives clients time to load their Secret".to_owned());
        }
        Next::Phase
    }

    /// What to say of certificates that are in effect.
    pub(super) fn progress(&self, step: Option<&Plan>) -> TlsVerdict {
        let ready = |reason, message: String, busy| TlsVerdict {
            ready: true,
            reason,
            message,
            busy,
        };
        for (purpose, authority) in self.authorities() {
            if authority.phase != Phase::Steady {
                let what = match self.next(purpose, authority) {
                    Next::Phase => String::from("goes on"),
                    Next::Wait(why) | Next::Restart(why) => why,
                };
                let phase = authority.phase.as_str();
                return ready(
                    TlsReason::Rotating,
                    format!("replaces the CA of {}, phase {phase}: {what}", of(purpose)),
                    true,
                );
            }
            if self.due(authority).is_some() {
                return ready(
                    TlsReason::Rotating,
                    format!(
                        "the CA of {} is replaced while every member serves",
                        of(purpose)
                    ),
                    true,
                );
            }
        }
        if let Some(why) = self.unready() {
            return ready(TlsReason::Renewing, why, true);
        }
        ready(TlsReason::InEffect, String::new(), step.is_some())
    }
}
