//! TLS in the model of the world: its invariants are asserted at every second, and the
//! operator is stopped before and after every call it makes.

use super::super::world::{Stop, World};
use crate::{
    api::{
        ANNOTATION_ROTATE_CA, CertManager, ClientTls, ImageSpec, PeerTls, Plaintext, SecretRef,
        TlsMode, TlsSpec,
    },
    certificates::Purpose,
};

fn tls(mode: TlsMode) -> Option<TlsSpec> {
    let cert_manager = (mode == TlsMode::CertManager).then(CertManager::default);
    let secret = |name: &str| {
        (mode == TlsMode::Secret).then(|| SecretRef {
            name: name.to_owned(),
        })
    };
    Some(TlsSpec {
        client: Some(ClientTls {
            mode,
            plaintext: (mode == TlsMode::Disabled).then_some(Plaintext::Allowed),
            names: Vec::new(),
            settle_duration: None,
            operator: None,
            cert_manager: cert_manager.clone(),
            secret_ref: secret("mine"),
            operator_secret_ref: secret("operators"),
        }),
        peer: Some(PeerTls {
            mode,
            operator: None,
            cert_manager,
            secret_ref: secret("peers"),
        }),
    })
}

/// The Secrets that mode Secret names.
const MINE: [&str; 3] = ["mine", "operators", "peers"];

fn secured() -> World {
    let mut world = World::new(3);
    world.cluster.spec.tls = tls(TlsMode::Operator);
    world.converge();
    world
}

/// The TLSReady condition's reason.
fn reason(world: &World) -> String {
    let conditions = &world.cluster.status.as_ref().unwrap().conditions;
    let found = conditions.iter().find(|found| found.type_ == "TLSReady");
    found.unwrap().reason.clone()
}

fn rotates(world: &mut World) {
    let before = Purpose::ALL.map(|purpose| world.signer(purpose));
    let annotations = world.cluster.metadata.annotations.get_or_insert_default();
    annotations.insert(ANNOTATION_ROTATE_CA.to_owned(), "1".to_owned());
    for _ in 0..900 {
        world.pass(3);
        world.turn(None);
        let after = Purpose::ALL.map(|purpose| world.signer(purpose));
        let both = before
            .iter()
            .zip(&after)
            .all(|(before, after)| before != after);
        if both && reason(world) == "InEffect" {
            return;
        }
    }
    let last = world.steps.len().saturating_sub(12);
    panic!(
        "the CAs are not replaced: {}\n{}",
        reason(world),
        world.steps[last..].join("\n")
    );
}

#[test]
fn a_cluster_is_made_with_tls_and_grows_with_it() {
    let mut world = secured();
    world.forms_one_cluster_of(3);
    assert!(world.peers_are(true), "{:?}", world.peer_urls());
    assert_eq!(reason(&world), "InEffect");
    assert!(!world.taken().contains(&"RestartPod"));
    world.cluster.spec.replicas = 5;
    world.converge();
    world.forms_one_cluster_of(5);
    assert!(world.peers_are(true), "{:?}", world.peer_urls());
}

#[test]
fn s37_cas_are_replaced_and_nobody_is_restarted() {
    let mut world = secured();
    rotates(&mut world);
    assert!(!world.taken().contains(&"RestartPod"));
}

#[test]
fn s37_cas_are_replaced_under_members_that_load_none_while_they_run() {
    let mut world = secured().with_deaf_members();
    rotates(&mut world);
    assert!(world.taken().contains(&"RestartPod"));
}

#[test]
fn s37_cas_are_replaced_under_members_whose_restart_is_a_replacement() {
    for image in [None, Some("stock")] {
        let mut world = World::new(3).on_empty_dir();
        world.cluster.spec.image = image.map(|repository| ImageSpec {
            repository: Some(repository.to_owned()),
            tag: Some("v3.7.3".to_owned()),
            ..ImageSpec::default()
        });
        world.converge();
        if image.is_some() {
            world = world.with_deaf_members();
        }
        rotates(&mut world);
        world.converge();
        world.forms_one_cluster_of(3);
        assert_eq!(world.trusted(), 1, "CAs that members trust");
        assert_eq!(world.certified().len(), 3, "{:?}", world.certified());
    }
}

#[test]
fn o02_tls_is_switched_on_and_off_whenever_the_operator_is_stopped() {
    let mut plain = World::new(3);
    plain.cluster.spec.tls = tls(TlsMode::Disabled);
    plain.converge();
    for (mode, secure) in [(TlsMode::Operator, true), (TlsMode::Disabled, false)] {
        let mut reference = plain.clone();
        reference.cluster.spec.tls = tls(mode);
        let before = reference.calls;
        reference.converge();
        assert!(reference.peers_are(secure), "{:?}", reference.peer_urls());
        let calls = reference.calls - before;
        assert!(calls > 10 || !secure, "{calls} calls");
        // Every third call, from either side: the rest is the same again for others.
        for at in (0..calls).step_by(3) {
            for stop in [Stop::Before(at), Stop::After(at)] {
                let mut world = plain.clone();
                world.cluster.spec.tls = tls(mode);
                world.faults.stop = Some(stop);
                world.converge();
                world.forms_one_cluster_of(3);
                assert!(world.peers_are(secure), "{stop:?}: {:?}", world.peer_urls());
            }
        }
        plain = reference;
    }
}

/// Takes turns until the certificates are in effect and `done` holds.
fn until(world: &mut World, what: &str, done: impl Fn(&World) -> bool) {
    for _ in 0..900 {
        world.pass(3);
        world.turn(None);
        if done(world) && reason(world) == "InEffect" {
            return;
        }
    }
    let last = world.steps.len().saturating_sub(12);
    let steps = world.steps[last..].join("\n");
    panic!("not {what}: {}\n{steps}", reason(world));
}

#[test]
fn certificates_come_from_elsewhere_and_nobody_is_restarted() {
    let mut world = secured();
    world.user_certifies(MINE);
    world.replace_issuer();
    for mode in [
        TlsMode::Secret,
        TlsMode::CertManager,
        TlsMode::Secret,
        TlsMode::Operator,
    ] {
        world.cluster.spec.tls = tls(mode);
        until(&mut world, "switched", |world| {
            let status = world.cluster.status.as_ref().unwrap();
            let in_effect = status.tls.as_ref().unwrap();
            let client = in_effect.client.as_ref().unwrap();
            client.mode == mode && in_effect.peer.as_ref().unwrap().mode == mode
        });
        world.forms_one_cluster_of(3);
        assert_eq!(world.trusted(), 1, "{mode:?}: {}", world.steps.join("\n"));
    }
    assert!(!world.taken().contains(&"RestartPod"));
}

#[test]
fn s37_others_replace_their_cas_and_every_member_believes_the_other() {
    let mut world = World::new(3);
    world.user_certifies(MINE);
    world.cluster.spec.tls = tls(TlsMode::Secret);
    world.converge();
    world.user_certifies(MINE);
    until(&mut world, "renewed", |world| world.trusted() == 1);
    world.replace_issuer();
    world.cluster.spec.tls = tls(TlsMode::CertManager);
    until(&mut world, "by cert-manager", |world| world.trusted() == 1);
    // cert-manager renews its Secrets one after the other.
    world.replace_issuer();
    until(&mut world, "renewed", |world| {
        world.all_are_issued() && world.trusted() == 1
    });
    assert!(!world.taken().contains(&"RestartPod"));
}

#[test]
fn the_keys_of_a_member_that_has_left_go_with_it() {
    let mut world = World::new(5);
    world.converge();
    assert_eq!(world.certified().len(), 5);
    world.cluster.spec.replicas = 3;
    world.converge();
    assert_eq!(world.certified().len(), 3);
}

#[test]
fn a_cluster_gets_tls_unless_it_was_made_without() {
    let mut world = World::new(3);
    world.converge();
    assert!(world.peers_are(true), "{:?}", world.peer_urls());

    let mut plain = World::new(3);
    plain.cluster.spec.tls = tls(TlsMode::Disabled);
    plain.converge();
    // What the spec no longer says stays as it is; so does what was there before any
    // operator knew of TLS.
    plain.cluster.spec.tls = None;
    plain.cluster.status.as_mut().unwrap().tls = None;
    plain.turns(50);
    plain.forms_one_cluster_of(3);
    assert!(plain.peers_are(false), "{:?}", plain.peer_urls());
    assert!(!plain.taken().contains(&"RestartPod"));
}
