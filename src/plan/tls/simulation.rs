//! TLS in the model of the world: its invariants are asserted at every second, and the
//! operator is stopped before and after every call it makes.

use super::super::world::{Stop, World};
use crate::{
    api::{ANNOTATION_ROTATE_CA, ClientTls, PeerTls, Plaintext, TlsMode, TlsSpec},
    certificates::Purpose,
};

fn tls(mode: TlsMode) -> Option<TlsSpec> {
    Some(TlsSpec {
        client: Some(ClientTls {
            mode,
            plaintext: (mode == TlsMode::Disabled).then_some(Plaintext::Allowed),
            names: Vec::new(),
            operator: None,
            secret_ref: None,
            operator_secret_ref: None,
        }),
        peer: Some(PeerTls {
            mode,
            operator: None,
            secret_ref: None,
        }),
    })
}

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
fn o02_tls_is_switched_on_and_off_whenever_the_operator_is_stopped() {
    let mut plain = World::new(3);
    plain.converge();
    for (mode, secure) in [(TlsMode::Operator, true), (TlsMode::Disabled, false)] {
        let mut reference = plain.clone();
        reference.cluster.spec.tls = tls(mode);
        let before = reference.calls;
        reference.converge();
        assert_eq!(
            reference.peers_are(secure),
            true,
            "{:?}",
            reference.peer_urls()
        );
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
