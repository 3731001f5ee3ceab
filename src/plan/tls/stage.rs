//! From one way of talking to another, on a cluster that runs. What is recorded is
//! taken to the members by `update`; only once all of them have it, the next stage
//! follows. Going to TLS, and going back, there is a stage in which both are served.

use crate::{
    api::{ClientTransport, PeerStage, PeerTransport, Plaintext, TlsStatus},
    certificates::Purpose,
    render::{self, transport},
};

use super::{super::blocked, Around, Plan, Step, wanting};

impl Around<'_> {
    /// Records how a cluster that is yet to form will talk. One whose volumes were found
    /// talks to its peers as its log says.
    pub(super) fn first_stage(&self) -> Option<Plan> {
        let status = self.cluster.status.as_ref();
        let begun = status.is_some_and(|status| status.bootstrap.is_some());
        if self.roster.formed() || begun {
            return None;
        }
        let wanted = transport::wanted(self.cluster);
        let spec = self.cluster.spec.tls.as_ref();
        let asks = [
            spec.is_some_and(|tls| tls.client.is_some()),
            spec.is_some_and(|tls| tls.peer.is_some()),
        ];
        let first = match self.found_peers() {
            None => wanted,
            // Nobody asks for another way than it has.
            Some(false) => TlsStatus {
                client: wanted.client.filter(|_| asks[0]),
                peer: wanted.peer.filter(|_| asks[1]).map(|peer| PeerTransport {
                    stage: PeerStage::Prepared,
                    ..peer
                }),
                ..wanted
            },
            Some(true) => wanted,
        };
        // What is recorded holds whatever the spec leaves out.
        if first == *transport::in_effect(self.cluster) && first == transport::wanted(self.cluster)
        {
            return None;
        }
        let reason = "records how clients and members talk".to_owned();
        Some(Plan::step(Step::SetTransport { tls: first }, reason))
    }

    /// The next stage, if the members are ready for it.
    pub(super) fn stage(&self) -> Option<Plan> {
        let in_effect = transport::in_effect(self.cluster);
        let wanted = transport::wanted(self.cluster);
        if !self.roster.formed() || wanted == *in_effect {
            return None;
        }
        if let Some(plan) = self.source(in_effect, &wanted) {
            return Some(plan);
        }
        if !self.calm() || !self.at_rest() {
            return None;
        }
        let (client, said) = self.next_client(in_effect.client.as_ref(), wanted.client.as_ref())?;
        let (peer, peers) = next_peer(in_effect.peer.as_ref(), wanted.peer.as_ref());
        let said: Vec<&str> = [said, peers].into_iter().flatten().collect();
        if said.is_empty() {
            return None; // another source has nothing to give yet
        }
        let tls = TlsStatus {
            client,
            peer,
            restarts: in_effect.restarts,
        };
        let reason = format!("{}; restarts one at a time follow", said.join(", "));
        Some(Plan::step(Step::SetTransport { tls }, reason))
    }

    /// Takes certificates from where they are to come from now on. Nobody is restarted
    /// for that: CAs are made known first, then certificates are exchanged.
    fn source(&self, in_effect: &TlsStatus, wanted: &TlsStatus) -> Option<Plan> {
        let mut tls = in_effect.clone();
        let mut said = Vec::new();
        let there = |purpose| {
            let origin = transport::origin(wanted, purpose);
            origin.is_some_and(|origin| self.issuer_by(purpose, origin).is_some())
        };
        if let (Some(now), Some(then)) = (&mut tls.client, &wanted.client)
            && (now.mode, &now.secret) != (then.mode, &then.secret)
            && there(Purpose::Client)
        {
            (now.mode, now.secret) = (then.mode, then.secret.clone());
            said.push(Purpose::Client);
        }
        if let (Some(now), Some(then)) = (&mut tls.peer, &wanted.peer)
            && (now.mode, &now.secret) != (then.mode, &then.secret)
            && there(Purpose::Peer)
        {
            (now.mode, now.secret) = (then.mode, then.secret.clone());
            said.push(Purpose::Peer);
        }
        let said: Vec<String> = said
            .into_iter()
            .filter_map(|purpose| {
                let origin = transport::origin(wanted, purpose)?;
                Some(format!("{} from {}", super::of(purpose), origin.what()))
            })
            .collect();
        (!said.is_empty()).then(|| {
            let reason = format!("takes the certificates of {}", said.join(", and of "));
            Plan::step(Step::SetTransport { tls }, reason)
        })
    }

    /// How clients are served next, and what to say of it; `None`: they need time.
    #[allow(clippy::type_complexity)] // two answers of which neither deserves a name
    fn next_client(
        &self,
        now: Option<&ClientTransport>,
        then: Option<&ClientTransport>,
    ) -> Option<(Option<ClientTransport>, Option<&'static str>)> {
        let both = |transport: &ClientTransport| ClientTransport {
            plaintext: Plaintext::Allowed,
            ..transport.clone()
        };
        let is_both = |transport: &ClientTransport| transport.plaintext == Plaintext::Allowed;
        Some(match (now, then) {
            (None, None) => (None, None),
            (Some(now), Some(then)) if now.plaintext == then.plaintext => (Some(now.clone()), None),
            (None, Some(then)) => (
                Some(both(then)),
                Some("clients are served with TLS and without"),
            ),
            (Some(now), None) if !is_both(now) => (
                Some(both(now)),
                Some("clients are served with TLS and without"),
            ),
            (Some(_), None) => {
                self.moved(false)?;
                (None, Some("clients are served without TLS"))
            }
            (Some(now), Some(then)) if !is_both(then) => {
                self.moved(true)?;
                let only = ClientTransport {
                    plaintext: Plaintext::Denied,
                    ..now.clone()
                };
                (Some(only), Some("clients are served with TLS only"))
            }
            (Some(now), Some(_)) => (
                Some(both(now)),
                Some("clients are served with TLS and without"),
            ),
        })
    }

    /// Whether clients were told to go there, and had time to.
    fn moved(&self, secure: bool) -> Option<()> {
        let clients = self.observed.certificates.clients.as_ref();
        let endpoints = wanting::endpoints(self.cluster, secure);
        let told = clients.is_some_and(|clients| clients.endpoints == endpoints);
        (told && self.settled()).then_some(())
    }

    /// Whether every member serves and has the template it should have, and none comes
    /// or goes: nothing else is under way that a restart could meet.
    pub(super) fn calm(&self) -> bool {
        let pod_spec = render::pod_spec_digest(self.cluster);
        let mut members = self.roster.members.iter();
        self.roster.quorum
            && members.all(|member| {
                let current = member.objects.stateful_set.as_ref().is_some_and(|set| {
                    let pod = member.pod().is_some_and(|pod| pod.template == set.template);
                    set.pod_spec == pod_spec && pod
                });
                member.is_voter() && member.is_serving() && current
            })
    }

    /// Schemes in the logs of volumes that were found; `None`: there are none.
    fn found_peers(&self) -> Option<bool> {
        let claims = self
            .roster
            .members
            .iter()
            .filter_map(|member| member.objects.claim.as_ref());
        let mut found = claims.filter(|claim| claim.cluster_id.is_some());
        let first = found.next()?;
        Some(first.secure_peers)
    }

    /// One more round of restarts, for an etcd that does not load CAs while it runs.
    pub(super) fn restart(&self, why: &str) -> Plan {
        if !self.calm() {
            return Plan {
                blocked: vec![blocked(
                    "Unhealthy",
                    format!("restarts for {why} begin once every member serves"),
                )],
                ..Plan::wait(format!("{why}: waits until every member serves"))
            };
        }
        let in_effect = transport::in_effect(self.cluster).clone();
        let tls = TlsStatus {
            restarts: in_effect.restarts + 1,
            ..in_effect
        };
        Plan::step(
            Step::SetTransport { tls },
            format!(
                "{why}: this etcd loads a CA only when it starts; restarts one at a time follow"
            ),
        )
    }
}

/// How members talk next, and what to say of it.
fn next_peer(
    now: Option<&PeerTransport>,
    then: Option<&PeerTransport>,
) -> (Option<PeerTransport>, Option<&'static str>) {
    let at = |peer: &PeerTransport, stage| {
        Some(PeerTransport {
            stage,
            ..peer.clone()
        })
    };
    match (now, then) {
        (now, then) if now == then => (now.cloned(), None),
        (Some(now), Some(then)) if now.stage == then.stage => (Some(now.clone()), None),
        (Some(now), Some(then)) => (
            at(now, then.stage),
            Some("members listen with TLS for each other"),
        ),
        (None, Some(then)) => (
            at(then, PeerStage::Prepared),
            Some("members get certificates to show each other"),
        ),
        (Some(now), None) if now.stage == PeerStage::Secured => (
            at(now, PeerStage::Prepared),
            Some("members listen in plain for each other"),
        ),
        (_, None) => (None, Some("members need no certificates for each other")),
    }
}
