//! What members' Secrets and that of clients are given, and when. A CA is made known
//! everywhere before anything of it is shown to anybody, and is trusted as long as
//! somebody shows something of it. That holds whatever the certificates come from, and
//! also when they come from somewhere else from now on.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::{
    api::EtcdCluster,
    certificates::{Origin, Phase, Purpose},
    observe::{LeafSeen, Observed, PodSeen, origins},
    render::transport,
};

use super::{
    Around, Member, Plan, Roster, Step, of,
    wanting::{self, Exchange, Grant, Issuer},
};

/// What the Secret of a member may be given whose pod is about to be made: what it
/// lacks. An origin that has nothing to give yet is among it, for `apply` to say so.
pub(in crate::plan) fn grants(
    cluster: &EtcdCluster,
    roster: &Roster<'_>,
    observed: &Observed,
) -> Vec<Grant> {
    let around = Around {
        cluster,
        roster,
        observed,
        // Nobody has had time for anything yet: all that may be needed is kept.
        now: Timestamp::MIN,
    };
    let all = Purpose::ALL.into_iter();
    all.filter_map(|purpose| {
        let origin = around.origin(purpose)?;
        let issuer = around.issuer(purpose);
        Some(Grant {
            purpose,
            keep: issuer.map_or_else(Vec::new, |issuer| around.keep(purpose, issuer)),
            leaf: Exchange::Keep,
            origin,
        })
    })
    .collect()
}

impl<'a> Around<'a> {
    /// Where certificates come from: as recorded; before anything is, as asked for.
    pub(super) fn origin(&self, purpose: Purpose) -> Option<Origin> {
        let [in_effect, wanted] = origins(self.cluster, purpose);
        in_effect.or(wanted)
    }

    pub(super) fn issuer(&self, purpose: Purpose) -> Option<Issuer<'a>> {
        self.issuer_by(purpose, self.origin(purpose)?)
    }

    /// What there is of that origin, if it will do.
    pub(super) fn issuer_by(&self, purpose: Purpose, origin: Origin) -> Option<Issuer<'a>> {
        let seen = &self.observed.certificates;
        match origin {
            Origin::Own => seen.authorities.get(&purpose).map(Issuer::Own),
            other => seen.offers.get(&(purpose, other)).map(Issuer::Other),
        }
    }

    pub(super) fn held(&self, member: &str, purpose: Purpose) -> Option<&'a LeafSeen> {
        let seen = &self.observed.certificates.members;
        seen.get(&(member.to_owned(), purpose))
    }

    /// Whether `member` has a listener with TLS for that purpose.
    pub(super) fn listens(&self, member: &Member<'_>, purpose: Purpose) -> bool {
        member.pod().is_some_and(|pod| {
            // One that waits for its ticket listens to nobody.
            pod.report.is_none()
                && match purpose {
                    Purpose::Client => pod.schemes.client_tls,
                    Purpose::Peer => pod.schemes.peer_tls,
                }
        })
    }

    fn shows(&self, pod: &PodSeen, held: Option<&LeafSeen>, purpose: Purpose) -> bool {
        let served = pod.served.get(&purpose);
        matches!((held, served), (Some(held), Some(served)) if held.cert.fingerprint == *served)
    }

    /// Another member than `but` that is not seen to show what its Secret holds.
    pub(super) fn lagging(&self, purpose: Purpose, but: &str) -> Option<&'a Member<'a>> {
        self.members()
            .filter(|member| member.name != but && self.listens(member, purpose))
            .find(|member| {
                let held = self.held(&member.name, purpose);
                held.is_some()
                    && member
                        .pod()
                        .is_some_and(|pod| !self.shows(pod, held, purpose))
            })
    }

    /// Whether clients have had time to load what was published last.
    pub(super) fn settled(&self) -> bool {
        let clients = self.observed.certificates.clients.as_ref();
        clients.is_none_or(|clients| {
            self.now.duration_since(clients.published) >= transport::settle(self.cluster)
        })
    }

    /// CAs to be trusted beside those of the issuer.
    fn keep(&self, purpose: Purpose, issuer: Issuer<'_>) -> Vec<String> {
        let mut needed: BTreeSet<&String> = BTreeSet::new();
        for member in self.members() {
            let Some(held) = self.held(&member.name, purpose) else {
                continue;
            };
            needed.extend(&held.anchor);
            let shows = member
                .pod()
                .is_none_or(|pod| self.shows(pod, Some(held), purpose));
            if self.listens(member, purpose) && !shows {
                needed.extend(&held.previous);
            }
        }
        if purpose == Purpose::Client
            && let Some(clients) = self.observed.certificates.clients.as_ref()
        {
            needed.extend(clients.leaf.as_ref().and_then(|leaf| leaf.anchor.as_ref()));
            if !self.settled() {
                needed.extend(&clients.previous);
            }
        }
        // One that nobody trusts any more is nobody's concern.
        let seen = &self.observed.certificates;
        let held = seen.members.iter().filter(|((_, of), _)| *of == purpose);
        let known: BTreeSet<&String> = held.flat_map(|(_, held)| &held.bundle).collect();
        let own = issuer.bundle();
        needed
            .into_iter()
            .filter(|ca| known.contains(ca) && !own.contains(ca))
            .cloned()
            .collect()
    }

    /// Whether all that listen take certificates of that CA; else who is waited for.
    fn believed(&self, purpose: Purpose, ca: &str) -> Result<(), String> {
        let tls = transport::in_effect(self.cluster);
        if transport::origin(tls, purpose).is_none() {
            return Ok(()); // nobody shows any
        }
        if !self.pods_are_current() {
            return Err("waits until members have been restarted".to_owned());
        }
        for member in self.members() {
            let Some(pod) = member.pod() else { continue };
            if !self.listens(member, purpose) {
                continue;
            }
            let held = self.held(&member.name, purpose);
            let own = held.is_some_and(|held| held.anchor.as_deref() == Some(ca));
            let taken = pod.accepts.get(&(purpose, ca.to_owned())) == Some(&true);
            let shown = own && self.shows(pod, held, purpose);
            if !taken && !shown {
                return Err(format!(
                    "waits until {} is seen to take certificates of the new CA of {}",
                    member.name,
                    of(purpose)
                ));
            }
        }
        if purpose == Purpose::Client && !self.settled() {
            return Err("gives clients time to load their Secret".to_owned());
        }
        Ok(())
    }

    /// The CA that a certificate of `held`'s owner may be replaced by one of.
    fn leaf(&self, purpose: Purpose, held: Option<&LeafSeen>, ca: &str) -> Result<String, String> {
        let same = held.is_none_or(|held| held.anchor.as_deref() == Some(ca));
        // Of one that nobody believes any more nothing is to be waited for.
        let expired = held.is_some_and(|held| held.cert.not_after <= self.now);
        if !same && !expired {
            self.believed(purpose, ca)?;
        }
        Ok(ca.to_owned())
    }

    /// Secrets of members and clients that are not what they should be.
    pub(super) fn material(&self) -> Option<Plan> {
        for trust in [true, false] {
            let members = self.members();
            let step = members
                .into_iter()
                .find_map(|member| self.certify(&member.name, trust));
            if step.is_some() {
                return step;
            }
            let step = self.certify_clients(trust);
            if step.is_some() {
                return step;
            }
        }
        None
    }

    /// What a member's Secret is to be given: what it lacks, and CAs to trust, at once;
    /// another certificate in its turn.
    fn certify(&self, member: &str, trust: bool) -> Option<Plan> {
        let mut grants = Vec::new();
        let mut reason = None;
        for purpose in Purpose::ALL {
            let (Some(origin), Some(issuer)) = (self.origin(purpose), self.issuer(purpose)) else {
                continue;
            };
            let held = self.held(member, purpose);
            let keep = self.keep(purpose, issuer);
            let names = wanting::names(self.cluster, member, purpose);
            let renews = issuer.renews(held, &names, self.now);
            let mut leaf = Exchange::Keep;
            if renews && held.is_none() {
                reason = Some(format!("gets its certificate for {}", of(purpose)));
            } else if trust {
                let trusted = held.is_some_and(|h| wanting::trusts(&h.bundle, issuer, &keep));
                if !trusted {
                    reason = Some(format!("is told which CAs of {} to trust", of(purpose)));
                }
            } else if renews
                // One at a time: whatever is wrong with a new certificate shows while
                // the others still have theirs.
                && self.lagging(purpose, member).is_none()
                && let Ok(ca) = self.leaf(purpose, held, issuer.anchor())
            {
                leaf = Exchange::By(ca);
                reason = Some(format!("gets a new certificate for {}", of(purpose)));
            }
            grants.push(Grant {
                purpose,
                origin,
                keep,
                leaf,
            });
        }
        let reason = reason?;
        Some(Plan::step(
            Step::CertifyMember {
                member: member.to_owned(),
                grants,
            },
            format!("{member} {reason}"),
        ))
    }

    fn certify_clients(&self, trust: bool) -> Option<Plan> {
        let purpose = Purpose::Client;
        let (origin, issuer) = (self.origin(purpose)?, self.issuer(purpose)?);
        let clients = self.observed.certificates.clients.as_ref();
        let held = clients.and_then(|clients| clients.leaf.as_ref());
        let keep = self.keep(purpose, issuer);
        let endpoints = self.endpoints();
        let renews = issuer.renews_clients(held, self.now);
        let mut leaf = Exchange::Keep;
        let reason = if clients.is_none() || (renews && held.is_none()) {
            "is made"
        } else if trust {
            let trusted = clients.is_some_and(|c| wanting::trusts(&c.bundle, issuer, &keep));
            let told = clients.is_some_and(|clients| clients.endpoints == endpoints);
            match (trusted, told) {
                (false, _) => "is told which CAs to trust",
                (true, false) => "is told where members are",
                (true, true) => return None,
            }
        } else if renews && self.members_are_renewed(purpose, issuer) {
            leaf = match issuer.clients() {
                Some(ca) => Exchange::By(self.leaf(purpose, held, ca).ok()?),
                // They have had time to load their own.
                None if self.settled() => Exchange::Away,
                None => return None,
            };
            match leaf {
                Exchange::Away => "holds no certificate any more: clients have their own",
                Exchange::By(_) | Exchange::Keep => "gets a new certificate",
            }
        } else {
            return None;
        };
        let grant = Grant {
            purpose,
            origin,
            keep,
            leaf,
        };
        Some(Plan::step(
            Step::CertifyClients { grant, endpoints },
            format!("the Secret for clients {reason}"),
        ))
    }

    /// Clients come last: what they are given they need time to load.
    fn members_are_renewed(&self, purpose: Purpose, issuer: Issuer<'_>) -> bool {
        self.lagging(purpose, "").is_none()
            && self.members().all(|member| {
                let names = wanting::names(self.cluster, &member.name, purpose);
                !issuer.renews(self.held(&member.name, purpose), &names, self.now)
            })
    }

    /// Where clients are told to go: by the scheme that the spec asks for, once every
    /// member serves it; until then where they have been told.
    fn endpoints(&self) -> String {
        let secure = transport::wanted(self.cluster).client.is_some();
        let served = self.members().all(|member| {
            member.pod().is_some_and(|pod| match secure {
                true => pod.schemes.client_tls,
                false => pod.schemes.client_plain,
            })
        });
        let told = self.observed.certificates.clients.as_ref();
        match told.map(|clients| clients.endpoints.clone()) {
            Some(told) if !told.is_empty() && !served => told,
            None if !served && self.roster.formed() => {
                let secure = transport::in_effect(self.cluster).client.is_some();
                wanting::endpoints(self.cluster, secure)
            }
            _ => wanting::endpoints(self.cluster, secure),
        }
    }

    /// What the certificates are waited for to become; `None`: they are as they should be.
    pub(super) fn unready(&self) -> Option<String> {
        for purpose in Purpose::ALL {
            let Some(issuer) = self.issuer(purpose) else {
                continue;
            };
            // The CA of the cluster's own has phases, which tell themselves.
            let rotates = matches!(issuer, Issuer::Own(own) if own.phase != Phase::Steady);
            if rotates {
                continue;
            }
            for member in self.members() {
                let held = self.held(&member.name, purpose);
                let names = wanting::names(self.cluster, &member.name, purpose);
                if !issuer.renews(held, &names, self.now) {
                    continue;
                }
                return Some(match self.leaf(purpose, held, issuer.anchor()) {
                    Err(why) => why,
                    Ok(_) => format!("{} gets a new certificate", member.name),
                });
            }
            let keep = self.keep(purpose, issuer);
            let trusts = |member: &Member<'_>| {
                let held = self.held(&member.name, purpose);
                held.is_some_and(|held| wanting::trusts(&held.bundle, issuer, &keep))
            };
            if !keep.is_empty() || !self.members().all(trusts) {
                return Some(format!(
                    "the CA of before is trusted until nobody shows a certificate of it to {}",
                    of(purpose)
                ));
            }
            if let Some(lagging) = self.lagging(purpose, "") {
                return Some(format!(
                    "waits until {} is seen to show its new certificate",
                    lagging.name
                ));
            }
        }
        None
    }

    /// Whether members trust what they are to trust, and show what they hold: no change
    /// of certificates is under way that a restart could meet.
    pub(super) fn at_rest(&self) -> bool {
        Purpose::ALL.into_iter().all(|purpose| {
            let Some(issuer) = self.issuer(purpose) else {
                return true;
            };
            let keep = self.keep(purpose, issuer);
            let listeners = self.members().any(|member| self.listens(member, purpose));
            let rotates = matches!(issuer, Issuer::Own(own) if own.phase != Phase::Steady);
            !rotates
                && self.lagging(purpose, "").is_none()
                && self.members().all(|member| {
                    let held = self.held(&member.name, purpose);
                    let trusts = held.is_some_and(|h| wanting::trusts(&h.bundle, issuer, &keep));
                    let anchor = held.and_then(|held| held.anchor.as_deref());
                    trusts && (!listeners || anchor == Some(issuer.anchor()))
                })
        })
    }
}
