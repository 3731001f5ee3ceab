//! TLS: certificates first, then the way members and clients talk, then renewal. A
//! step here restarts nothing. What restarts pods is a change of what status records
//! as in effect, which `update` then takes to one member at a time.
//!
//! ```text
//! stage       how a cluster that is yet to form will talk; later the next stage
//! mod         CAs of its own, requests to cert-manager, peer URLs
//! material    who is given which certificate, and told which CAs to trust, when
//! rotation    phases of the replacement of its own CAs
//! wanting     what a Secret lacks; also read by `apply`
//! ```

mod material;
mod rotation;
#[cfg(test)]
mod simulation;
mod stage;
#[cfg(test)]
mod tests;
pub(crate) mod wanting;

use jiff::Timestamp;

use crate::{
    api::EtcdCluster,
    certificates::{Origin, Purpose, Requested, TlsReason},
    observe::{Observed, Problem, needs},
    render::{self, transport},
};

use super::{Plan, Roster, Step, roster::Member};

pub(super) use material::grants;

/// What TLS asks for now.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Decision {
    /// A step to take before members are looked at.
    pub(super) step: Option<Plan>,
    /// Why the spec is not in effect yet; the cluster is not settled until it is.
    pub(super) waits: Option<String>,
    /// Whether a cluster that is yet to form must not be made for that reason.
    pub(super) holds: bool,
    /// What to say in the condition TLSReady.
    pub(super) verdict: TlsVerdict,
}

/// What to say in the condition TLSReady.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsVerdict {
    /// Its status.
    pub ready: bool,
    /// Its reason.
    pub reason: TlsReason,
    /// Its message.
    pub message: String,
    /// Whether to look again soon.
    pub busy: bool,
}

impl Default for TlsVerdict {
    fn default() -> Self {
        TlsVerdict {
            ready: true,
            reason: TlsReason::Disabled,
            message: "the spec asks for no TLS".to_owned(),
            busy: false,
        }
    }
}

impl TlsVerdict {
    fn not(reason: TlsReason, message: impl Into<String>) -> TlsVerdict {
        TlsVerdict {
            ready: false,
            reason,
            message: message.into(),
            busy: true,
        }
    }
}

/// Decides what TLS asks for.
pub(super) fn decide(
    cluster: &EtcdCluster,
    roster: &Roster<'_>,
    observed: &Observed,
    now: Timestamp,
) -> Decision {
    if needs(cluster).is_empty() {
        return Decision::default();
    }
    let around = Around {
        cluster,
        roster,
        observed,
        now,
    };
    let problem = observed.certificates.problems.first();
    let sound = problem.is_none();
    let step = sound
        .then(|| around.first_stage())
        .flatten()
        .or_else(|| around.certificates())
        .or_else(|| around.peer_urls())
        .or_else(|| sound.then(|| around.stage()).flatten())
        .or_else(|| around.rotate());
    let in_effect = around.is_in_effect();
    let verdict = match problem {
        Some(Problem {
            reason, message, ..
        }) => TlsVerdict::not(*reason, message),
        None if !in_effect => TlsVerdict::not(TlsReason::Switching, around.switching()),
        None => around.progress(step.as_ref()),
    };
    let waits = (!in_effect).then(|| match problem {
        Some(problem) => problem.message.clone(),
        None => around.switching(),
    });
    let recorded = transport::wanted(cluster) == *transport::in_effect(cluster);
    Decision {
        step,
        waits,
        holds: !sound && !recorded && !roster.formed(),
        verdict,
    }
}

/// What TLS asks for while members are stopped and founded: certificates that their pods
/// wait for, and nothing that changes how members talk.
pub(super) fn upkeep(
    cluster: &EtcdCluster,
    roster: &Roster<'_>,
    observed: &Observed,
    now: Timestamp,
) -> Decision {
    let decision = decide(cluster, roster, observed, now);
    let around = Around {
        cluster,
        roster,
        observed,
        now,
    };
    Decision {
        // Where nothing is to be done there is none of this either.
        step: decision.step.and_then(|_| around.certificates()),
        ..decision
    }
}

struct Around<'a> {
    cluster: &'a EtcdCluster,
    roster: &'a Roster<'a>,
    observed: &'a Observed,
    now: Timestamp,
}

impl<'a> Around<'a> {
    /// Purposes for which there is, or is to be, a CA of the cluster's own.
    fn own(&self) -> Vec<Purpose> {
        let own = needs(self.cluster).into_iter();
        own.filter(|(_, origin)| *origin == Origin::Own)
            .map(|(purpose, _)| purpose)
            .collect()
    }

    /// Members whose pods are there, or are to be.
    fn members(&self) -> impl Iterator<Item = &'a Member<'a>> {
        self.roster
            .members
            .iter()
            .filter(|member| !member.removed && member.objects.stateful_set.is_some())
    }

    /// What is to be made or exchanged of certificates, whoever talks how.
    fn certificates(&self) -> Option<Plan> {
        self.authority()
            .or_else(|| self.requests())
            .or_else(|| self.material())
    }

    fn authority(&self) -> Option<Plan> {
        let seen = &self.observed.certificates;
        let purpose = self.own().into_iter().find(|purpose| {
            let broken = |problem: &Problem| {
                problem.purpose == *purpose && problem.reason == TlsReason::AuthorityUnreadable
            };
            !seen.authorities.contains_key(purpose) && !seen.problems.iter().any(broken)
        })?;
        Some(Plan::step(
            Step::MakeAuthority { purpose },
            format!("makes the CA of {}", of(purpose)),
        ))
    }

    /// What cert-manager is yet to be asked for, or is to be asked otherwise.
    fn requests(&self) -> Option<Plan> {
        let requests = self.observed.certificates.requests.as_ref()?;
        let name = self.cluster.metadata.name.as_deref().unwrap_or_default();
        let needs = needs(self.cluster);
        let asked = needs.iter().filter(|(_, o)| *o == Origin::CertManager);
        let (request, why) = asked.into_iter().find_map(|(purpose, _)| {
            let spec = render::cert_manager(self.cluster, *purpose)?;
            Requested::of(*purpose).iter().find_map(|who| {
                let wanted = render::certificate(self.cluster, *who, spec);
                let why = match requests.get(&who.name(name)) {
                    None => "is asked for".to_owned(),
                    Some(live) => {
                        let differs = render::first_difference(&wanted["spec"], &live.body["spec"]);
                        format!("is asked for with another {}", differs?)
                    }
                };
                Some((*who, why))
            })
        })?;
        Some(Plan::step(
            Step::RequestCertificate { request },
            format!("Certificate {} {why}", request.name(name)),
        ))
    }

    /// Tells etcd where a member listens, once its pod does so.
    fn peer_urls(&self) -> Option<Plan> {
        if !self.roster.quorum {
            return None;
        }
        let (member, line, secure) = self.roster.members.iter().find_map(|member| {
            let line = member.etcd?;
            let secure = member.pod()?.schemes.peer_tls;
            let scheme = format!("{}://", crate::identity::scheme(secure));
            let differs = line.peer_urls.iter().any(|url| !url.starts_with(&scheme));
            differs.then_some((member, line, secure))
        })?;
        let peer_url = crate::identity::peer_url(
            self.roster.cluster,
            self.roster.namespace,
            &member.name,
            secure,
        );
        Some(Plan::step(
            Step::UpdatePeerUrl {
                member: member.name.clone(),
                id: line.id,
                peer_url: peer_url.clone(),
            },
            format!("{} listens to its peers at {peer_url}", member.name),
        ))
    }

    /// Whether what the spec asks for is recorded, and every pod is so.
    fn is_in_effect(&self) -> bool {
        let wanted = transport::wanted(self.cluster);
        let in_effect = transport::in_effect(self.cluster);
        wanted == *in_effect && self.pods_are_current()
    }

    fn pods_are_current(&self) -> bool {
        let schemes = transport::listens(self.cluster);
        self.members()
            .all(|member| member.pod().is_none_or(|pod| pod.schemes == schemes))
    }

    fn switching(&self) -> String {
        let clients = self.observed.certificates.clients.as_ref();
        if self.roster.formed() && self.pods_are_current() && clients.is_some() && !self.settled() {
            return "gives clients time to load their Secret".to_owned();
        }
        "certificates are in place; members are taken to it one at a time".to_owned()
    }
}

/// A purpose in a sentence.
fn of(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Client => "clients",
        Purpose::Peer => "peers",
    }
}
