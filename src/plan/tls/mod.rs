//! TLS: certificates first, then the way members and clients talk, then renewal. A
//! step here restarts nothing. What restarts pods is a change of what status records
//! as in effect, which `update` then takes to one member at a time.

mod rotation;
#[cfg(test)]
mod simulation;
mod stage;
#[cfg(test)]
mod tests;
pub(crate) mod wanting;

use jiff::Timestamp;

use crate::{
    api::{EtcdCluster, TlsMode},
    certificates::Purpose,
    observe::{Observed, Problem, needs},
    render::transport,
};

use super::{Plan, Roster, Step, roster::Member};

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
    /// Its reason, from a closed set.
    pub reason: &'static str,
    /// Its message.
    pub message: String,
    /// Whether to look again soon.
    pub busy: bool,
}

impl Default for TlsVerdict {
    fn default() -> Self {
        TlsVerdict {
            ready: true,
            reason: "Disabled",
            message: "the spec asks for no TLS".to_owned(),
            busy: false,
        }
    }
}

impl TlsVerdict {
    fn not(reason: &'static str, message: impl Into<String>) -> TlsVerdict {
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
    let pending = match problem {
        Some(problem) => Err(problem.message.clone()),
        None => around.source_change(),
    };
    let step = around
        .authority()
        .or_else(|| around.material())
        .or_else(|| around.peer_urls())
        .or_else(|| pending.is_ok().then(|| around.stage()).flatten())
        .or_else(|| around.rotate());
    let in_effect = around.is_in_effect();
    let verdict = match (problem, &pending) {
        (
            Some(Problem {
                reason, message, ..
            }),
            _,
        ) => TlsVerdict::not(reason, message),
        (None, Err(message)) => TlsVerdict::not("SourceChange", message),
        (None, Ok(())) if !in_effect => TlsVerdict::not("Switching", around.switching()),
        (None, Ok(())) => around.progress(step.as_ref()),
    };
    let waits = match &pending {
        Err(message) if !in_effect => Some(message.clone()),
        Err(_) => None,
        Ok(()) => (!in_effect).then(|| around.switching()),
    };
    let holds = pending.is_err()
        && transport::wanted(cluster) != *transport::in_effect(cluster)
        && !roster.formed();
    Decision {
        step,
        waits,
        holds,
        verdict,
    }
}

struct Around<'a> {
    cluster: &'a EtcdCluster,
    roster: &'a Roster<'a>,
    observed: &'a Observed,
    now: Timestamp,
}

impl<'a> Around<'a> {
    /// Purposes whose certificates the operator's own CA issues.
    fn own(&self) -> Vec<Purpose> {
        let mut own: Vec<Purpose> = needs(self.cluster)
            .into_iter()
            .filter(|(_, mode, _)| *mode == TlsMode::Operator)
            .map(|(purpose, _, _)| purpose)
            .collect();
        own.dedup();
        own
    }

    /// Members whose pods are there, or are to be.
    fn members(&self) -> impl Iterator<Item = &'a Member<'a>> {
        self.roster
            .members
            .iter()
            .filter(|member| !member.removed && member.objects.stateful_set.is_some())
    }

    fn authority(&self) -> Option<Plan> {
        let seen = &self.observed.certificates;
        let purpose = self.own().into_iter().find(|purpose| {
            let broken = |problem: &Problem| {
                problem.purpose == *purpose && problem.reason == "AuthorityUnreadable"
            };
            !seen.authorities.contains_key(purpose) && !seen.problems.iter().any(broken)
        })?;
        Some(Plan::step(
            Step::MakeAuthority { purpose },
            format!("makes the CA of {}", of(purpose)),
        ))
    }

    /// Secrets of members and clients that are not what they should be.
    fn material(&self) -> Option<Plan> {
        let seen = &self.observed.certificates;
        for member in self.members() {
            for purpose in self.own() {
                let Some(authority) = seen.authorities.get(&purpose) else {
                    continue;
                };
                let held = seen.members.get(&(member.name.clone(), purpose));
                let names = wanting::names(self.cluster, &member.name, purpose);
                let Some(reason) = wanting::secret(held, authority, &names, self.now) else {
                    continue;
                };
                // One at a time: whatever is wrong with a new certificate shows while
                // the others still have theirs.
                let renews = wanting::leaf(held, authority, &names, self.now);
                if renews && held.is_some() && self.lagging(purpose, &member.name).is_some() {
                    continue;
                }
                return Some(Plan::step(
                    Step::CertifyMember {
                        member: member.name.clone(),
                    },
                    format!("{} {reason} for {}", member.name, of(purpose)),
                ));
            }
        }
        let authority = seen
            .authorities
            .get(&Purpose::Client)
            .filter(|_| self.own().contains(&Purpose::Client))?;
        let clients = seen.clients.as_ref();
        let held = clients.map(|clients| &clients.leaf);
        let reason = wanting::secret(held, authority, &[], self.now).or_else(|| {
            let stale =
                clients.is_some_and(|seen| seen.endpoints != wanting::endpoints(self.cluster));
            stale.then_some("is told where members are")
        })?;
        Some(Plan::step(
            Step::CertifyClients,
            format!("the Secret for clients {reason}"),
        ))
    }

    /// Another member than `but` that shows another certificate than its Secret holds.
    fn lagging(&self, purpose: Purpose, but: &str) -> Option<&'a Member<'a>> {
        let seen = &self.observed.certificates;
        self.members()
            .filter(|member| member.name != but)
            .find(|member| {
                let held = seen.members.get(&(member.name.clone(), purpose));
                let served = member.pod().and_then(|pod| pod.served.get(&purpose));
                matches!((held, served), (Some(held), Some(served)) if held.cert.fingerprint != *served)
            })
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
        let tls = transport::in_effect(self.cluster);
        self.members().all(|member| {
            member.pod().is_none_or(|pod| {
                pod.schemes.peer_tls == tls.secures_peers()
                    && pod.schemes.client_tls == tls.serves_clients()
            })
        })
    }

    fn switching(&self) -> String {
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
