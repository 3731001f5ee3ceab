//! From one way of talking to another, on a cluster that runs. What is recorded is
//! taken to the members by `update`; only once all of them have it, the next stage
//! follows.

use crate::{
    api::{PeerStage, PeerTransport, TlsStatus},
    certificates::Purpose,
    render::{self, transport},
};

use super::{super::blocked, Around, Plan, Step};

impl Around<'_> {
    /// Refuses to go from one source of certificates straight to another: no member
    /// would believe the next one.
    pub(super) fn source_change(&self) -> Result<(), String> {
        let in_effect = transport::in_effect(self.cluster);
        let wanted = transport::wanted(self.cluster);
        for purpose in Purpose::ALL {
            let (from, to) = (
                transport::source(in_effect, purpose),
                transport::source(&wanted, purpose),
            );
            if let (Some(from), Some(to)) = (from, to)
                && from != to
                && self.roster.formed()
            {
                return Err(format!(
                    "tls.{}: certificates come from {:?} now; to take them from {:?}, set the mode to Disabled first and wait until TLSReady says so",
                    purpose.as_str(),
                    from.0,
                    to.0
                ));
            }
        }
        Ok(())
    }

    /// The next stage, if the members are ready for it.
    pub(super) fn stage(&self) -> Option<Plan> {
        let in_effect = transport::in_effect(self.cluster);
        let wanted = transport::wanted(self.cluster);
        let record =
            |tls: TlsStatus, reason: String| Some(Plan::step(Step::SetTransport { tls }, reason));
        if !self.roster.formed() {
            let begun = self
                .cluster
                .status
                .as_ref()
                .is_some_and(|status| status.bootstrap.is_some());
            let adopts = self.found_peers();
            let first = TlsStatus {
                // A cluster that is taken over talks to its peers as its log says.
                peer: match adopts {
                    None => wanted.peer.clone(),
                    Some(secure) => wanted.peer.clone().map(|peer| PeerTransport {
                        stage: if secure {
                            PeerStage::Secured
                        } else {
                            PeerStage::Prepared
                        },
                        ..peer
                    }),
                },
                ..wanted
            };
            if begun || first == *in_effect {
                return None;
            }
            return record(first, "records how clients and members talk".to_owned());
        }
        if wanted == *in_effect || !self.calm() {
            return None;
        }
        let (peer, said) = match (&in_effect.peer, &wanted.peer) {
            (Some(now), Some(then)) if now.stage != then.stage => {
                let mut peer = now.clone();
                peer.stage = then.stage;
                (Some(peer), "members listen with TLS for each other")
            }
            (None, Some(then)) => {
                let peer = PeerTransport {
                    stage: PeerStage::Prepared,
                    ..then.clone()
                };
                (Some(peer), "members get certificates to show each other")
            }
            (Some(now), None) if now.stage == PeerStage::Secured => {
                let mut peer = now.clone();
                peer.stage = PeerStage::Prepared;
                (Some(peer), "members listen in plain for each other")
            }
            (Some(_), None) => (None, "members need no certificates for each other"),
            (now, _) => (now.clone(), "clients are served as the spec says"),
        };
        let tls = TlsStatus {
            client: wanted.client.clone(),
            peer,
            restarts: in_effect.restarts,
        };
        record(tls, format!("{said}; restarts one at a time follow"))
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
