use jiff::{SignedDuration, Timestamp};

use super::*;

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

const YEAR: i64 = 365 * 86_400;

fn authority(tag: &str) -> Pair {
    new_authority("etcd demo client CA", tag, YEAR, now()).unwrap()
}

fn leaf(names: &[String], server: bool) -> Leaf {
    Leaf {
        common_name: "demo-0".into(),
        names: names.to_vec(),
        server,
        seconds: 90 * 86_400,
    }
}

fn server(names: &[&str]) -> Holder {
    Holder {
        server: names.iter().map(|name| (*name).to_owned()).collect(),
        client: true,
    }
}

#[test]
fn a_members_certificate_verifies_by_every_name_it_needs() {
    let ca = authority("1");
    let names = client_names("demo", "ns", "demo-0", &["etcd.example.org".to_owned()]);
    let pair = issue(&ca, &leaf(&names, true), now()).unwrap();
    let holder = server(&[
        "demo-0-0.demo-peer.ns.svc",
        "demo-client.ns.svc",
        "localhost",
        "etcd.example.org",
    ]);
    assert_eq!(flaw(&pair.cert, &pair.key, &ca.cert, &holder, now()), None);
    let mut seen = pair.seen().unwrap();
    assert_eq!(seen.issuer, ca.seen().unwrap().subject);
    seen.names.sort();
    assert_eq!(seen.names, names);
}

#[test]
fn x15_the_certificate_of_a_client_is_no_servers_and_not_of_the_other_ca() {
    let (clients, peers) = (authority("c"), authority("p"));
    let pair = issue(&clients, &leaf(&[], false), now()).unwrap();
    let as_client = Holder {
        server: Vec::new(),
        client: true,
    };
    let check = |ca: &Pair, holder: &Holder| {
        flaw(&pair.cert, &pair.key, &ca.cert, holder, now()).map(|(flaw, _)| flaw)
    };
    assert_eq!(check(&clients, &as_client), None);
    assert_eq!(check(&peers, &as_client), Some(Flaw::UnknownAuthority));
    assert!(check(&clients, &server(&["demo-0-0.demo-peer.ns.svc"])).is_some());
}

#[test]
fn x09_debug_shows_no_key() {
    let ca = authority("1");
    let text = format!(
        "{ca:?} {:?}",
        Authority::new(ca.clone(), None, now(), String::new())
    );
    assert!(
        !text.contains("PRIVATE KEY") && text.contains("fingerprint"),
        "{text}"
    );
}

#[test]
fn what_is_wrong_with_a_certificate_is_named() {
    let (ca, other) = (authority("1"), authority("2"));
    let pair = issue(&ca, &leaf(&["a.ns.svc".to_owned()], true), now()).unwrap();
    let late = now() + SignedDuration::from_hours(24 * 91);
    let early = now() - SignedDuration::from_hours(1);
    let cases = [
        (
            "",
            &*pair.key,
            &*ca.cert,
            "a.ns.svc",
            now(),
            Flaw::Unreadable,
        ),
        (
            &pair.cert,
            "",
            &ca.cert,
            "a.ns.svc",
            now(),
            Flaw::Unreadable,
        ),
        (
            &pair.cert,
            &pair.key,
            "",
            "a.ns.svc",
            now(),
            Flaw::Unreadable,
        ),
        (
            &pair.cert,
            &other.key,
            &ca.cert,
            "a.ns.svc",
            now(),
            Flaw::KeyMismatch,
        ),
        (
            &pair.cert,
            &pair.key,
            &other.cert,
            "a.ns.svc",
            now(),
            Flaw::UnknownAuthority,
        ),
        (
            &pair.cert,
            &pair.key,
            &ca.cert,
            "b.ns.svc",
            now(),
            Flaw::NameMissing,
        ),
        (
            &pair.cert,
            &pair.key,
            &ca.cert,
            "a.ns.svc",
            late,
            Flaw::Expired,
        ),
        (
            &pair.cert,
            &pair.key,
            &ca.cert,
            "a.ns.svc",
            early,
            Flaw::NotYetValid,
        ),
    ];
    for (cert, key, authorities, name, at, wanted) in cases {
        let found = flaw(cert, key, authorities, &server(&[name]), at);
        let found = found.unwrap_or_else(|| panic!("{wanted:?} was not found"));
        assert_eq!(found.0, wanted, "{}", found.1);
        assert!(!found.1.contains("PRIVATE"), "{}", found.1);
    }
}

#[test]
fn renewal_is_at_two_thirds_and_no_leaf_outlives_its_ca() {
    let ca = new_authority("CA", "1", 30 * 86_400, now()).unwrap();
    let pair = issue(&ca, &leaf(&[], false), now()).unwrap();
    let (leaf, ca) = (pair.seen().unwrap(), ca.seen().unwrap());
    assert_eq!(leaf.not_after, ca.not_after, "90 days were asked for");
    let day = ca.renewal().duration_since(now()).as_hours() / 24;
    assert_eq!(day, 19, "of thirty, counted from a little before now");
}

#[test]
fn s37_a_rotation_goes_through_its_phases_and_survives_a_crash_in_each() {
    let (old, new) = (authority("old"), authority("new"));
    let member = issue(&old, &leaf(&["a".to_owned()], true), now()).unwrap();
    let mut ca = Authority::new(old.clone(), None, now(), String::new());
    let believed = |ca: &Authority, pair: &Pair| {
        flaw(&pair.cert, &pair.key, &ca.bundle(), &server(&["a"]), now()).is_none()
    };
    let mut trusted = Vec::new();
    for _ in 0..4 {
        ca = ca.advance(Some(new.clone()), now(), "again".into());
        // The operator dies here: all it knows is the Secret.
        let read = Authority::read(&ca.data(), ca.phase.as_str(), ca.since, ca.request.clone());
        assert_eq!(read.as_ref(), Ok(&ca));
        let fresh = issue(&ca.signer, &leaf(&["a".to_owned()], true), now()).unwrap();
        assert!(
            believed(&ca, &fresh),
            "what is issued is believed: {:?}",
            ca.phase
        );
        trusted.push((ca.phase, believed(&ca, &member), ca.seen().bundle.len()));
    }
    assert_eq!(
        trusted,
        [
            (Phase::Trust, true, 2),
            (Phase::Reissue, true, 2),
            (Phase::Drop, false, 1),
            (Phase::Steady, false, 1),
        ]
    );
    assert_eq!(ca.signer, new);
    assert!(ca.previous.is_none() && ca.next.is_none());
    assert_eq!(ca.request, "again");
}

#[test]
fn a_lost_ca_is_replaced_by_one_that_is_made_known_first() {
    let (old, new) = (authority("old"), authority("new"));
    let ca = Authority::new(new.clone(), Some(old.cert.clone()), now(), String::new());
    assert_eq!(ca.phase, Phase::Trust);
    assert_eq!(ca.seen().bundle.len(), 2);
    assert!(matches!(
        issue(&ca.signer, &leaf(&[], false), now()),
        Err(IssueError::NoKey)
    ));
    assert_eq!(ca.advance(None, now(), String::new()).signer, new);
}

#[test]
fn of_cas_of_one_name_the_one_that_signed_is_found() {
    let ca = |life| new_authority("CA", "same", life, now()).unwrap();
    let (first, second, other) = (ca(YEAR), ca(2 * YEAR), authority("other"));
    let pair = issue(&second, &leaf(&["a".to_owned()], true), now()).unwrap();
    let fingerprint = |pair: &Pair| Some(pair.seen().unwrap().fingerprint);
    let all = [&first.cert, &other.cert, &second.cert]
        .map(String::as_str)
        .concat();
    assert_eq!(anchor(&pair.cert, &all), fingerprint(&second));
    assert_eq!(anchor(&pair.cert, &second.cert), fingerprint(&second));
    let none = [&first.cert, &first.cert].map(String::as_str).concat();
    assert_eq!(anchor(&pair.cert, &none), None);
    assert_eq!(anchor(&pair.cert, &other.cert), None);
    assert_eq!(anchor("", &all), None);
}

#[test]
fn a_bundle_is_split_into_what_can_be_read() {
    let (a, b) = (authority("a"), authority("b"));
    let text = format!(
        "# ours\n{}junk\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n{}",
        a.cert, b.cert
    );
    let parts = split(&text);
    assert_eq!(parts.len(), 2);
    assert_eq!(first(&parts[1]), b.seen());
    assert!(split("no certificate").is_empty());
}
