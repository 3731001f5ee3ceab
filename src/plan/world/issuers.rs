//! Others who make certificates: a user, and cert-manager with an issuer.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use serde_json::{Value, json};

use crate::{
    certificates::{Leaf, Pair, first, issue, new_authority, peer_wildcards, server_names},
    observe::RequestSeen,
    plan::Manifest,
};

use super::{NAME, World};

/// How long one Certificate after the other takes to be renewed by another CA.
const STAGGERED: SignedDuration = SignedDuration::from_secs(20);

/// cert-manager, if it is installed.
#[derive(Clone, Default)]
pub(super) struct Issuers {
    /// The CA of its issuer; `None`: there is no cert-manager.
    ca: Option<Pair>,
    asked: BTreeMap<String, Value>,
    last: Option<Timestamp>,
}

impl Issuers {
    /// What was asked for, and whether it was issued.
    pub(super) fn requests(&self) -> Option<BTreeMap<String, RequestSeen>> {
        self.ca.as_ref()?;
        let all = self.asked.iter().map(|(name, body)| {
            let seen = RequestSeen {
                body: body.clone(),
                ready: true,
                ..RequestSeen::default()
            };
            (name.clone(), seen)
        });
        Some(all.collect())
    }
}

fn authority(name: &str, now: Timestamp) -> Pair {
    new_authority(name, &now.as_second().to_string(), 86_400 * 3650, now).unwrap()
}

fn secret(ca: &Pair, leaf: &Leaf, now: Timestamp) -> Secret {
    let pair = issue(ca, leaf, now).unwrap();
    let texts = [
        ("tls.crt", pair.cert),
        ("tls.key", pair.key),
        ("ca.crt", ca.cert.clone()),
    ];
    let data = texts.map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes())));
    Secret {
        data: Some(data.into()),
        ..Secret::default()
    }
}

fn leaf(names: Vec<String>) -> Leaf {
    Leaf {
        common_name: "made by others".to_owned(),
        server: !names.is_empty(),
        names,
        seconds: 86_400 * 90,
    }
}

impl World {
    /// A user puts certificates of a CA that is new into Secrets of these names: for
    /// clients, for the operator, for peers.
    pub(in crate::plan) fn user_certifies(&mut self, [server, operator, peer]: [&str; 3]) {
        let ca = authority("user", self.now);
        let names = server_names(NAME, "ns", &[]);
        let now = self.now;
        self.secrets.put(server, secret(&ca, &leaf(names), now));
        self.secrets
            .put(operator, secret(&ca, &leaf(Vec::new()), now));
        let names = peer_wildcards(NAME, "ns");
        self.secrets.put(peer, secret(&ca, &leaf(names), now));
    }

    /// Installs cert-manager, or replaces the CA of its issuer.
    pub(in crate::plan) fn replace_issuer(&mut self) {
        self.secrets.changed();
        self.secrets.issuers.ca = Some(authority("issuer", self.now));
    }

    /// Whether everything that was asked for is of the issuer's CA.
    pub(in crate::plan) fn all_are_issued(&self) -> bool {
        let issuers = &self.secrets.issuers;
        issuers.asked.keys().all(|name| !self.is_old(name))
    }

    fn is_old(&self, name: &str) -> bool {
        let of = |name| Some(crate::observe::texts(self.secrets.get(name)?));
        let held = of(name).and_then(|texts| first(texts.get("tls.crt")?));
        let ca = self.secrets.issuers.ca.as_ref().and_then(Pair::seen);
        held.map(|held| held.issuer) != ca.map(|ca| ca.subject)
    }

    pub(super) fn request(&mut self, manifest: &Manifest) {
        self.secrets.changed();
        let asked = &mut self.secrets.issuers.asked;
        asked.insert(manifest.name.clone(), manifest.body.clone());
    }

    /// cert-manager issues what is new, and renews one after the other.
    pub(super) fn issue(&mut self) {
        let Some(ca) = self.secrets.issuers.ca.clone() else {
            return;
        };
        for (name, body) in self.secrets.issuers.asked.clone() {
            if !self.is_old(&name) {
                continue;
            }
            let new = self.secrets.get(&name).is_none();
            let last = self.secrets.issuers.last;
            if !new && last.is_some_and(|last| self.now.duration_since(last) < STAGGERED) {
                continue;
            }
            let lists =
                ["dnsNames", "ipAddresses"].map(|list| body["spec"][list].as_array().cloned());
            let names = lists.into_iter().flatten().flatten();
            let names = names.map(|name| name.as_str().unwrap().to_owned());
            assert_eq!(body["spec"]["secretName"], json!(name));
            let made = secret(&ca, &leaf(names.collect()), self.now);
            self.secrets.put(&name, made);
            self.secrets.issuers.last = Some(self.now);
        }
    }
}
