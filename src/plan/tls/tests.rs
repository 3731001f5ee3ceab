//! A cluster of three as plain data, taken through TLS by hand: what is observed is
//! set, and the decision is read.

use std::{collections::BTreeMap, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{wanting::Exchange, *};
use crate::{
    api::{EtcdClusterStatus, MemberRole, PeerStage, TlsStatus},
    certificates::{AuthoritySeen, CertificateSeen, Origin, Phase},
    identity,
    observe::{
        CertificatesSeen, ClientsSeen, EtcdMember, EtcdSeen, LeafSeen, MemberObjects, Membership,
        OfferSeen, PodSeen, Schemes, StatefulSetSeen,
    },
    render,
};

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

struct Scene {
    cluster: EtcdCluster,
    observed: Observed,
    now: Timestamp,
}

fn cert(fingerprint: &str, issuer: &str, names: Vec<String>) -> CertificateSeen {
    CertificateSeen {
        fingerprint: fingerprint.to_owned(),
        subject: format!("CN={fingerprint}"),
        issuer: format!("CN={issuer}"),
        names,
        not_before: now(),
        not_after: now() + SignedDuration::from_hours(24 * 90),
    }
}

impl Scene {
    /// Three members that serve, with the TLS in effect that `tls` says.
    fn new(spec: Value, tls: Value) -> Scene {
        let mut cluster: EtcdCluster = serde_json::from_value(json!({
            "apiVersion": "etcd-core.io/v1alpha1", "kind": "EtcdCluster",
            "metadata": {"name": "demo", "namespace": "ns", "uid": "u", "generation": 1},
            "spec": {"replicas": 3, "tls": spec},
        }))
        .unwrap();
        let mut status = EtcdClusterStatus {
            cluster_id: Some("c1".to_owned()),
            tls: serde_json::from_value(tls).unwrap(),
            ..EtcdClusterStatus::default()
        };
        for serial in 0..3 {
            let line = status.member_mut(&identity::member_name("demo", serial));
            line.id = Some(identity::hex(serial as u64 + 1));
            line.role = MemberRole::Voter;
        }
        cluster.status = Some(status);
        let mut scene = Scene {
            cluster,
            observed: Observed::default(),
            now: now(),
        };
        scene.follow();
        scene
    }

    fn tls(&self) -> TlsStatus {
        transport::in_effect(&self.cluster).clone()
    }

    fn names() -> [String; 3] {
        [0, 1, 2].map(|serial| identity::member_name("demo", serial))
    }

    /// Every member's pod is what status says, and etcd's list agrees.
    fn follow(&mut self) {
        let tls = self.tls();
        let schemes = Schemes {
            client_tls: tls.serves_clients(),
            client_plain: !tls.serves_clients(),
            peer_tls: tls.secures_peers(),
        };
        let pod_spec = render::pod_spec_digest(&self.cluster);
        let mut members = Vec::new();
        for (serial, name) in (1_u64..).zip(Scene::names()) {
            let objects = MemberObjects {
                stateful_set: Some(StatefulSetSeen {
                    pod_spec: pod_spec.clone(),
                    template: pod_spec.clone(),
                    replicas: 1,
                    ..StatefulSetSeen::default()
                }),
                pod: Some(PodSeen {
                    template: pod_spec.clone(),
                    created: Some(self.now),
                    schemes,
                    etcd: Some(EtcdSeen {
                        member_id: serial,
                        cluster_id: 0xc1,
                        leader: 1,
                        serving: true,
                        ..EtcdSeen::default()
                    }),
                    ..PodSeen::default()
                }),
                claim: None,
            };
            members.push(EtcdMember {
                id: serial,
                name: name.clone(),
                peer_urls: vec![identity::peer_url("demo", "ns", &name, schemes.peer_tls)],
                learner: false,
            });
            self.observed.members.insert(name, objects);
        }
        self.observed.membership = Some(Membership {
            cluster_id: 0xc1,
            members,
        });
    }

    fn pods(&mut self) -> impl Iterator<Item = (&String, &mut PodSeen)> {
        self.observed
            .members
            .iter_mut()
            .filter_map(|(name, objects)| Some((name, objects.pod.as_mut()?)))
    }

    fn certificates(&mut self) -> &mut CertificatesSeen {
        Arc::make_mut(&mut self.observed.certificates)
    }

    /// The CA of `purpose` and what it issued, shown by every member.
    fn certified(mut self, purpose: Purpose) -> Scene {
        let signer = CertificateSeen {
            not_after: self.now + SignedDuration::from_hours(24 * 3650),
            ..cert("old", "old", Vec::new())
        };
        let seen = AuthoritySeen {
            signer,
            bundle: vec!["old".to_owned()],
            since: self.now,
            expires: self.now + SignedDuration::from_hours(24 * 3650),
            ..AuthoritySeen::default()
        };
        self.certificates().authorities.insert(purpose, seen);
        self.issue(purpose);
        self.show(purpose);
        self
    }

    /// Every Secret becomes what it should be.
    fn issue(&mut self, purpose: Purpose) {
        let authority = self.observed.certificates.authorities[&purpose].clone();
        let signer = authority.signer.fingerprint.clone();
        let leaf = |name: &str, names| LeafSeen {
            cert: cert(&format!("{name} by {signer}"), &signer, names),
            anchor: Some(signer.clone()),
            bundle: authority.bundle.clone(),
            key: true,
            previous: None,
        };
        for name in Scene::names() {
            let names = wanting::names(&self.cluster, &name, purpose);
            let leaf = leaf(&name, names);
            self.certificates().members.insert((name, purpose), leaf);
        }
        if purpose == Purpose::Client {
            self.certificates().clients = Some(ClientsSeen {
                leaf: Some(leaf("clients", Vec::new())),
                bundle: authority.bundle.clone(),
                endpoints: wanting::endpoints(&self.cluster, true),
                published: self.now,
                previous: None,
            });
        }
    }

    /// Every member shows what its Secret holds.
    fn show(&mut self, purpose: Purpose) {
        let held: BTreeMap<String, String> = Scene::names()
            .into_iter()
            .map(|name| {
                let held = &self.observed.certificates.members[&(name.clone(), purpose)];
                (name, held.cert.fingerprint.clone())
            })
            .collect();
        for (name, pod) in self.pods() {
            pod.served.insert(purpose, held[name].clone());
        }
    }

    fn accept(&mut self, purpose: Purpose, ca: &str, accepted: bool) {
        for (_, pod) in self.pods() {
            pod.accepts.insert((purpose, ca.to_owned()), accepted);
        }
    }

    fn authority(&mut self, purpose: Purpose) -> &mut AuthoritySeen {
        self.certificates().authorities.get_mut(&purpose).unwrap()
    }

    fn decide(&self) -> Decision {
        let roster = Roster::new(&self.cluster, &self.observed);
        decide(&self.cluster, &roster, &self.observed, self.now)
    }

    fn step(&self) -> Step {
        self.decide().step.map_or(Step::None, |plan| plan.step)
    }

    /// The member whose Secret is written next.
    fn certifies(&self) -> Option<String> {
        match self.step() {
            Step::CertifyMember { member, .. } => Some(member),
            _ => None,
        }
    }

    fn later(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
    }
}

const OPERATOR: &str = "Operator";

fn peers(stage: &str) -> Value {
    json!({"peer": {"mode": OPERATOR, "stage": stage}})
}

#[test]
fn without_tls_nothing_is_asked_for() {
    let scene = Scene::new(json!(null), json!(null));
    assert_eq!(scene.decide(), Decision::default());
    let scene = Scene::new(json!({"client": {"mode": "Disabled"}}), json!(null));
    assert_eq!(scene.decide(), Decision::default());
}

#[test]
fn peers_of_a_running_cluster_are_secured_in_two_rounds() {
    let purpose = Purpose::Peer;
    let mut scene = Scene::new(json!({"peer": {"mode": OPERATOR}}), json!(null));
    assert_eq!(scene.step(), Step::MakeAuthority { purpose });
    scene = scene.certified(purpose);
    // Certificates that are missing come before anything is restarted.
    let held = scene
        .certificates()
        .members
        .remove(&("demo-1".to_owned(), purpose));
    let member = "demo-1".to_owned();
    assert_eq!(scene.certifies(), Some("demo-1".to_owned()));
    scene
        .certificates()
        .members
        .insert((member, purpose), held.unwrap());

    let mut stages = Vec::new();
    while let Step::SetTransport { tls } = scene.step() {
        stages.push(tls.peer.as_ref().map(|peer| peer.stage));
        scene.cluster.status.as_mut().unwrap().tls = Some(tls);
        assert_eq!(
            scene.step(),
            Step::None,
            "the restarts of this stage come first"
        );
        assert!(!scene.decide().verdict.ready);
        scene.follow();
        scene.show(purpose);
    }
    assert_eq!(
        stages,
        [Some(PeerStage::Prepared), Some(PeerStage::Secured)]
    );
    assert_eq!(scene.step(), Step::None);
    let verdict = scene.decide().verdict;
    assert!(
        verdict.ready && verdict.reason == TlsReason::InEffect,
        "{verdict:?}"
    );
}

#[test]
fn peers_are_made_plain_again_in_two_rounds() {
    let mut scene = Scene::new(json!({"peer": {"mode": "Disabled"}}), peers("Secured"))
        .certified(Purpose::Peer);
    let mut stages = Vec::new();
    while let Step::SetTransport { tls } = scene.step() {
        stages.push(tls.peer.as_ref().map(|peer| peer.stage));
        scene.cluster.status.as_mut().unwrap().tls = Some(tls);
        scene.follow();
    }
    assert_eq!(stages, [Some(PeerStage::Prepared), None]);
    assert!(scene.decide().verdict.ready);
}

#[test]
fn no_stage_begins_while_a_member_is_not_well() {
    let mut scene =
        Scene::new(json!({"peer": {"mode": OPERATOR}}), json!(null)).certified(Purpose::Peer);
    let (_, pod) = scene.pods().next().unwrap();
    pod.etcd.as_mut().unwrap().serving = false;
    assert_eq!(scene.step(), Step::None);
    assert!(
        scene.decide().waits.is_some(),
        "and the cluster is not settled"
    );
}

#[test]
fn a_member_that_listens_otherwise_than_its_url_says_gets_its_url() {
    let mut scene =
        Scene::new(json!({"peer": {"mode": OPERATOR}}), peers("Secured")).certified(Purpose::Peer);
    let line = &mut scene.observed.membership.as_mut().unwrap().members[1];
    line.peer_urls = vec![identity::peer_url("demo", "ns", "demo-1", false)];
    let peer_url = identity::peer_url("demo", "ns", "demo-1", true);
    let (member, id) = ("demo-1".to_owned(), 2);
    assert_eq!(
        scene.step(),
        Step::UpdatePeerUrl {
            member,
            id,
            peer_url
        }
    );
}

#[test]
fn another_source_makes_its_ca_known_before_anything_of_it_is_shown() {
    let purpose = Purpose::Peer;
    let spec = json!({"peer": {"mode": "Secret", "secretRef": {"name": "mine"}}});
    let mut scene = Scene::new(spec, peers("Secured")).certified(purpose);
    assert_eq!(scene.step(), Step::None, "it has nothing to offer yet");
    let offer = OfferSeen {
        cert: cert("mine", "users", Vec::new()),
        anchor: "users".to_owned(),
        bundle: vec!["users".to_owned()],
        clients: None,
    };
    let origin = Origin::Secret("mine".to_owned());
    let offers = &mut scene.certificates().offers;
    offers.insert((purpose, origin.clone()), offer);
    let Step::SetTransport { tls } = scene.step() else {
        panic!("{:?}", scene.decide());
    };
    scene.cluster.status.as_mut().unwrap().tls = Some(tls);
    scene.follow(); // by no restart: the pods are what they were
    let grants = |scene: &Scene| match scene.step() {
        Step::CertifyMember { member, grants } => {
            (member, grants[0].keep.clone(), grants[0].leaf.clone())
        }
        other => panic!("{other:?}"),
    };
    let old = vec!["old".to_owned()];
    for name in Scene::names() {
        assert_eq!(grants(&scene), (name.clone(), old.clone(), Exchange::Keep));
        let held = &mut scene.certificates().members;
        let held = held.get_mut(&(name, purpose)).unwrap();
        held.bundle = vec!["users".to_owned(), "old".to_owned()];
    }
    scene.show(purpose);
    assert_eq!(scene.step(), Step::None, "nobody is seen to take it");
    assert_eq!(scene.decide().verdict.reason, TlsReason::Renewing);
    scene.accept(purpose, "users", true);
    for name in Scene::names() {
        let (member, keep, leaf) = grants(&scene);
        assert_eq!(
            (member, leaf),
            (name.clone(), Exchange::By("users".to_owned()))
        );
        assert_eq!(keep, old);
        let held = &mut scene.certificates().members;
        let held = held.get_mut(&(name, purpose)).unwrap();
        held.cert = cert("mine", "users", Vec::new());
        held.previous = held.anchor.replace("users".to_owned());
        assert_eq!(scene.step(), Step::None, "it is not shown yet");
        scene.show(purpose);
    }
    let (_, keep, leaf) = grants(&scene);
    assert_eq!(
        (keep.len(), leaf),
        (0, Exchange::Keep),
        "the old CA goes last"
    );
}

#[test]
fn what_is_wrong_with_a_users_secret_holds_up_nothing_else() {
    let spec = json!({"peer": {"mode": "Secret", "secretRef": {"name": "mine"}}});
    let mut scene = Scene::new(spec, json!(null));
    scene.certificates().problems.push(Problem {
        purpose: Purpose::Peer,
        reason: TlsReason::KeyMissing,
        message: "Secret mine lacks tls.key".to_owned(),
    });
    let decision = scene.decide();
    assert_eq!(decision.step, None);
    assert_eq!(decision.verdict.reason, TlsReason::KeyMissing);
    assert!(decision.waits.unwrap().contains("mine lacks tls.key"));
    // Mended: it goes on at once.
    scene.certificates().problems.clear();
    assert!(matches!(scene.step(), Step::SetTransport { .. }));
}

#[test]
fn s37_a_ca_is_replaced_in_phases_that_end_when_the_world_shows_it() {
    for purpose in Purpose::ALL {
        let (spec, tls) = match purpose {
            Purpose::Client => (
                json!({"client": {"mode": OPERATOR}}),
                json!({"client": {"mode": OPERATOR}}),
            ),
            Purpose::Peer => (json!({"peer": {"mode": OPERATOR}}), peers("Secured")),
        };
        let mut scene = Scene::new(spec, tls).certified(purpose);
        assert_eq!(scene.step(), Step::None);
        let annotations = scene.cluster.metadata.annotations.get_or_insert_default();
        annotations.insert("etcd-core.io/rotate-ca".to_owned(), "1".to_owned());
        let to = |to, request: &str| Step::RotateAuthority {
            purpose,
            to,
            request: request.to_owned(),
        };
        let certifies = |step: &Step| {
            matches!(
                step,
                Step::CertifyMember { .. } | Step::CertifyClients { .. }
            )
        };
        assert_eq!(scene.step(), to(Phase::Trust, "1"));

        scene.authority(purpose).phase = Phase::Trust;
        scene.authority(purpose).request = "1".to_owned();
        scene.authority(purpose).other = Some("new".to_owned());
        scene.authority(purpose).bundle = vec!["old".to_owned(), "new".to_owned()];
        assert!(certifies(&scene.step()), "the bundle is handed out first");
        scene.issue(purpose);
        assert_eq!(
            scene.step(),
            Step::None,
            "nobody is seen to take the new CA"
        );
        scene.accept(purpose, "new", true);
        if purpose == Purpose::Client {
            assert_eq!(scene.step(), Step::None, "clients get time");
            scene.later(121);
        }
        assert_eq!(scene.step(), to(Phase::Reissue, "1"));

        scene.authority(purpose).phase = Phase::Reissue;
        scene.authority(purpose).signer = cert("new", "new", Vec::new());
        scene.authority(purpose).other = Some("old".to_owned());
        scene.authority(purpose).bundle = vec!["new".to_owned(), "old".to_owned()];
        assert!(certifies(&scene.step()));
        scene.issue(purpose);
        assert_eq!(
            scene.step(),
            Step::None,
            "the old certificates are still shown"
        );
        scene.show(purpose);
        scene.later(121);
        assert_eq!(scene.step(), to(Phase::Drop, "1"));

        scene.authority(purpose).phase = Phase::Drop;
        scene.authority(purpose).bundle = vec!["new".to_owned()];
        assert!(certifies(&scene.step()));
        scene.issue(purpose);
        scene.accept(purpose, "old", true);
        assert_eq!(scene.step(), Step::None, "the old CA is still taken");
        scene.accept(purpose, "old", false);
        assert_eq!(scene.step(), to(Phase::Steady, "1"));

        scene.authority(purpose).phase = Phase::Steady;
        scene.authority(purpose).other = None;
        assert_eq!(scene.step(), Step::None, "the request was answered");
        assert_eq!(scene.decide().verdict.reason, TlsReason::InEffect);
    }
}

#[test]
fn certificates_are_reissued_one_at_a_time() {
    let purpose = Purpose::Peer;
    let mut scene =
        Scene::new(json!({"peer": {"mode": OPERATOR}}), peers("Secured")).certified(purpose);
    scene.later(61 * 86_400);
    assert_eq!(scene.certifies(), Some("demo-0".to_owned()));
    let key = ("demo-0".to_owned(), purpose);
    let (later, held) = (scene.now, &mut scene.certificates().members);
    let fresh = &mut held.get_mut(&key).unwrap().cert;
    fresh.fingerprint = "renewed".to_owned();
    (fresh.not_before, fresh.not_after) = (later, later + SignedDuration::from_hours(2000));
    assert_eq!(scene.step(), Step::None, "demo-0 does not show it yet");
    assert_eq!(scene.decide().verdict.reason, TlsReason::Renewing);
    scene.show(purpose);
    assert_eq!(scene.certifies(), Some("demo-1".to_owned()));
}

#[test]
fn an_etcd_that_loads_no_ca_while_it_runs_is_restarted_once_for_a_phase() {
    let purpose = Purpose::Peer;
    let mut scene =
        Scene::new(json!({"peer": {"mode": OPERATOR}}), peers("Secured")).certified(purpose);
    scene.later(10);
    let since = scene.now;
    let authority = scene.authority(purpose);
    (authority.phase, authority.since) = (Phase::Trust, since);
    authority.other = Some("new".to_owned());
    authority.bundle = vec!["old".to_owned(), "new".to_owned()];
    scene.issue(purpose);
    scene.accept(purpose, "new", false);
    assert_eq!(scene.step(), Step::None, "it may take a while");
    scene.later(200);
    let Step::SetTransport { tls } = scene.step() else {
        panic!("{:?}", scene.decide());
    };
    assert_eq!(tls.restarts, 1);
    scene.cluster.status.as_mut().unwrap().tls = Some(tls);
    assert_eq!(scene.step(), Step::None, "not twice");
    scene.follow();
    scene.show(purpose);
    scene.accept(purpose, "new", false);
    assert_eq!(
        scene.step(),
        Step::None,
        "a restart has not helped: another would not"
    );
}

#[test]
fn a_ca_that_has_expired_is_replaced_though_nobody_is_heard() {
    let purpose = Purpose::Peer;
    let mut scene =
        Scene::new(json!({"peer": {"mode": OPERATOR}}), peers("Secured")).certified(purpose);
    scene.later(86_400 * 3651);
    let now = scene.now;
    let authority = scene.authority(purpose);
    (authority.signer.not_after, authority.expires) = (now, now);
    for (_, pod) in scene.pods() {
        pod.etcd = None;
        pod.served.clear();
    }
    scene.observed.membership = None;
    // Whatever it would sign now is as old as it is: another one comes first.
    let phases = [Phase::Trust, Phase::Reissue, Phase::Drop, Phase::Steady];
    let mut taken = Vec::new();
    for _ in 0..30 {
        match scene.step() {
            Step::RotateAuthority { to, .. } => {
                taken.push(to);
                let authority = scene.authority(purpose);
                authority.phase = to;
                if to == Phase::Reissue {
                    authority.signer = cert("new", "new", Vec::new());
                    authority.signer.not_before = now;
                    authority.signer.not_after = now + SignedDuration::from_hours(9999);
                }
                authority.bundle = match to {
                    Phase::Trust => vec!["old".to_owned(), "new".to_owned()],
                    Phase::Reissue => vec!["new".to_owned(), "old".to_owned()],
                    Phase::Drop | Phase::Steady => vec!["new".to_owned()],
                };
                if to == Phase::Steady {
                    authority.expires = authority.signer.not_after;
                    break;
                }
            }
            Step::CertifyMember { .. } | Step::CertifyClients { .. } => {
                let later = scene.now;
                scene.issue(purpose);
                for ((_, _), held) in &mut scene.certificates().members {
                    held.cert.not_before = later;
                    held.cert.not_after = later + SignedDuration::from_hours(999);
                }
            }
            other => panic!("{other:?}: {:?}", scene.decide().verdict),
        }
    }
    assert_eq!(taken, phases);
}
