//! Secrets in the model: the operator's own code makes them, kubelets mount them,
//! members show and believe what is mounted, and clients what they have loaded. Asserted
//! every second: whoever dials whom, each believes the other.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use crate::{
    api::{EtcdCluster, TlsSpec, TlsStatus},
    apply::certify::{self, CertifyError, Found},
    certificates::{CertificateSeen, Purpose, certificates, clients_secret, first, member_secret},
    identity,
    observe::{CertificatesSeen, Observed, Schemes, Texts, facts_of, texts},
    plan::CertificateCall,
    render::transport,
};

use super::{World, api::Refusal, issuers::Issuers, kubelet::member_of};

/// How long clients take at most to load their Secret.
const CLIENTS: SignedDuration = SignedDuration::from_secs(90);

/// What one side shows and whom it believes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Side {
    shows: CertificateSeen,
    believes: Vec<CertificateSeen>,
}

impl Side {
    fn read(texts: &BTreeMap<String, String>, keys: &[String; 3]) -> Option<Side> {
        Some(Side {
            shows: first(texts.get(&keys[0])?)?,
            believes: certificates(texts.get(&keys[2])?),
        })
    }

    fn takes(&self, other: &Side) -> bool {
        let subjects = self.believes.iter().map(|ca| &ca.subject);
        subjects
            .into_iter()
            .any(|subject| *subject == other.shows.issuer)
    }
}

/// What facts depend on.
#[derive(Clone, PartialEq)]
struct Known {
    version: u64,
    spec: Option<TlsSpec>,
    status: Option<TlsStatus>,
    formed: bool,
    members: Vec<String>,
    remembered: Vec<String>,
    day: i64,
}

/// What is mounted into pods, by their UID, and what clients may have loaded.
#[derive(Clone, Default)]
pub(super) struct Secrets {
    items: Found,
    /// What members' Secrets say: reading certificates takes the most time of all.
    sides: BTreeMap<(String, Purpose), Side>,
    /// Counts changes.
    version: u64,
    facts: RefCell<Option<(Known, CertificatesSeen)>>,
    mounted: BTreeMap<(String, Purpose), Side>,
    clients: VecDeque<(Timestamp, Side, String)>,
    /// Whether members load no CA while they run, as stock etcd.
    pub(super) deaf: bool,
    /// Others who make certificates.
    pub(super) issuers: Issuers,
}

impl Secrets {
    /// Puts a Secret there, whoever makes it.
    pub(super) fn put(&mut self, name: &str, mut secret: Secret) {
        secret.metadata.name = Some(name.to_owned());
        secret.metadata.uid = Some(format!("uid-of-{name}"));
        self.version += 1;
        for purpose in Purpose::ALL {
            let side = Side::read(&texts(&secret), &transport::keys(purpose));
            let key = (name.to_owned(), purpose);
            match side {
                Some(side) => self.sides.insert(key, side),
                None => self.sides.remove(&key),
            };
        }
        self.items.insert(name.to_owned(), secret);
    }

    /// What the facts are read from has changed.
    pub(super) fn changed(&mut self) {
        self.version += 1;
    }

    pub(super) fn get(&self, name: &str) -> Option<&Secret> {
        self.items.get(name)
    }
}

impl World {
    /// Members load no CA while they run.
    pub(in crate::plan) fn with_deaf_members(mut self) -> World {
        self.secrets.deaf = true;
        self
    }

    /// The CA that signs.
    pub(in crate::plan) fn signer(&self, purpose: Purpose) -> String {
        let seen = self.certificates(&self.cluster, &Observed::default());
        let signer = seen.authorities.get(&purpose).map(|ca| &ca.signer);
        signer.map(|ca| ca.subject.clone()).unwrap_or_default()
    }

    /// Peer URLs in etcd's list.
    pub(in crate::plan) fn peer_urls(&self) -> Vec<String> {
        let lines = self.etcd.members.values();
        lines.flat_map(|line| line.peer_urls.clone()).collect()
    }

    pub(super) fn certificates(
        &self,
        cluster: &EtcdCluster,
        observed: &Observed,
    ) -> CertificatesSeen {
        let known = Known {
            version: self.secrets.version,
            spec: cluster.spec.tls.clone(),
            status: cluster
                .status
                .as_ref()
                .and_then(|status| status.tls.clone()),
            formed: cluster
                .status
                .as_ref()
                .is_some_and(|s| s.cluster_id.is_some() || s.bootstrap.is_some()),
            members: observed.members.keys().cloned().collect(),
            remembered: cluster
                .status
                .iter()
                .flat_map(|s| s.members.iter().map(|m| m.name.clone()))
                .collect(),
            day: self.now.as_second() / 86_400,
        };
        if let Some((before, facts)) = &*self.secrets.facts.borrow()
            && *before == known
        {
            return facts.clone();
        }
        let requests = self.secrets.issuers.requests();
        let facts = facts_of(cluster, observed, &self.secrets.items, requests, self.now);
        *self.secrets.facts.borrow_mut() = Some((known, facts.clone()));
        facts
    }

    /// A call about certificates, as `apply` makes it.
    pub(super) fn certify(
        &mut self,
        cluster: &EtcdCluster,
        call: &CertificateCall,
    ) -> Result<(), Refusal> {
        let (ours, others) = certify::reads(cluster, call);
        let found: Found = ours
            .into_iter()
            .chain(others)
            .filter_map(|name| Some((name.clone(), self.secrets.items.get(&name)?.clone())))
            .collect();
        let made = certify::outcome(cluster, call, &found, self.now);
        let made: Option<Secret> = made.map_err(|error| match error {
            CertifyError::NotYet(why) => Refusal::NotYet(why),
            error @ CertifyError::Issue(..) => panic!("{error}"),
        })?;
        if let Some(secret) = made {
            self.secrets.put(&secret.name_any(), secret);
        }
        Ok(())
    }

    /// The keys of a member that has left go with it.
    pub(super) fn forget_secret(&mut self, name: &str) {
        let runs = self
            .api
            .pods
            .items
            .values()
            .any(|pod| member_secret(&member_of(&pod.metadata)) == name);
        assert!(!runs, "{name} goes while its pod is there{}", self.trace());
        self.secrets.version += 1;
        self.secrets.items.remove(name);
        for purpose in Purpose::ALL {
            self.secrets.sides.remove(&(name.to_owned(), purpose));
        }
    }

    /// The most CAs that any member's Secret names for one purpose.
    pub(in crate::plan) fn trusted(&self) -> usize {
        let counts = self.secrets.items.iter().flat_map(|(name, secret)| {
            let texts = texts(secret);
            let ours = name.ends_with("-tls");
            let all = Purpose::ALL.into_iter().filter(move |_| ours);
            all.map(move |purpose| {
                let [_, _, ca] = transport::keys(purpose);
                certificates(texts.get(&ca).map_or("", String::as_str)).len()
            })
        });
        counts.max().unwrap_or(0)
    }

    /// Members whose Secrets are there.
    pub(in crate::plan) fn certified(&self) -> Vec<String> {
        let names = self.secrets.items.keys();
        names
            .filter_map(|name| name.strip_suffix("-tls").map(str::to_owned))
            .collect()
    }

    /// Kubelets refresh what they mount; members load it; clients will.
    pub(super) fn mount(&mut self) {
        let tls = transport::in_effect(&self.cluster).clone();
        let pods: Vec<(String, String)> = self
            .api
            .pods
            .items
            .values()
            .filter(|pod| self.node_of(pod).is_some_and(|node| node.up && !node.cut))
            .map(|pod| (pod.metadata.uid.clone().unwrap(), member_of(&pod.metadata)))
            .collect();
        for (uid, member) in pods {
            for purpose in Purpose::ALL {
                if transport::origin(&tls, purpose).is_none() {
                    continue;
                }
                let held = (member_secret(&member), purpose);
                let Some(mut side) = self.secrets.sides.get(&held).cloned() else {
                    continue;
                };
                let key = (uid.clone(), purpose);
                if let Some(before) = self.secrets.mounted.get(&key)
                    && self.secrets.deaf
                {
                    side.believes = before.believes.clone();
                }
                self.secrets.mounted.insert(key, side);
            }
        }
        let name = clients_secret(&self.cluster.name_any());
        let keys = ["tls.crt", "tls.key", "ca.crt"].map(str::to_owned);
        let loaded = self.secrets.items.get(&name).map(texts);
        let told = loaded.as_ref().and_then(|texts| texts.get("endpoints"));
        let endpoints = told.cloned().unwrap_or_default();
        if let Some(side) = loaded.and_then(|texts| self.clients_side(&texts, &keys)) {
            let clients = &mut self.secrets.clients;
            if clients
                .back()
                .is_none_or(|(_, last, to)| (last, to) != (&side, &endpoints))
            {
                clients.push_back((self.now, side, endpoints));
            }
            // The last that was there at the beginning of that time is still in use.
            while clients.len() > 1 && self.now.duration_since(clients[1].0) > CLIENTS {
                clients.pop_front();
            }
        }
        self.check_trust();
    }

    /// What clients show, and whom they believe. Those that are given no certificate show
    /// what their users gave them, once every member believes it.
    fn clients_side(&self, texts: &Texts, keys: &[String; 3]) -> Option<Side> {
        if texts.contains_key(&keys[0]) {
            return Side::read(texts, keys);
        }
        let own = self
            .secrets
            .items
            .get("operators")
            .map(crate::observe::texts);
        let side = Side {
            shows: first(own?.get("tls.crt")?)?,
            believes: certificates(texts.get(&keys[2])?),
        };
        let mut mounted = self.secrets.mounted.iter();
        let taken =
            mounted.all(|((_, purpose), member)| *purpose == Purpose::Peer || member.takes(&side));
        match self.secrets.clients.back() {
            Some((_, last, _)) if !taken => Some(Side {
                shows: last.shows.clone(),
                ..side
            }),
            _ => Some(side),
        }
    }

    /// Fills in what the listeners of a member's pod show and whom they take.
    pub(super) fn shown(&self, observed: &mut Observed) {
        let seen = observed.certificates.clone();
        for objects in observed.members.values_mut() {
            let Some(pod) = objects.pod.as_mut().filter(|pod| pod.etcd.is_some()) else {
                continue;
            };
            for purpose in Purpose::ALL {
                let listens = match purpose {
                    Purpose::Client => pod.schemes.client_tls,
                    Purpose::Peer => pod.schemes.peer_tls,
                };
                let side = self.secrets.mounted.get(&(pod.uid.clone(), purpose));
                let Some(side) = side.filter(|_| listens) else {
                    continue;
                };
                pod.served.insert(purpose, side.shows.fingerprint.clone());
                let authority = seen.authorities.get(&purpose).into_iter();
                let own = authority.flat_map(|authority| {
                    let signer = Some(&authority.signer.fingerprint);
                    [signer, authority.other.as_ref()].into_iter().flatten()
                });
                let offers = seen.offers.iter().filter(|((of, _), _)| *of == purpose);
                let others = offers.flat_map(|(_, offer)| {
                    let clients = offer.clients.as_ref().map(|(_, anchor)| anchor);
                    [Some(&offer.anchor), clients].into_iter().flatten()
                });
                for ca in own.chain(others) {
                    let taken = side.believes.iter().any(|known| known.fingerprint == *ca);
                    pod.accepts.insert((purpose, ca.clone()), taken);
                }
            }
        }
    }

    /// Whoever dials whom, each believes the other.
    fn check_trust(&self) {
        let running = self.running();
        let sides = |purpose: Purpose| {
            running.iter().filter_map(move |(name, _)| {
                let pod = self.api.pods.items.get(name)?;
                let schemes = pod.annotations().get(crate::api::ANNOTATION_SCHEMES)?;
                let schemes = Schemes::parse(schemes);
                let listens = match purpose {
                    Purpose::Client => schemes.client_tls,
                    Purpose::Peer => schemes.peer_tls,
                };
                let key = (pod.metadata.uid.clone()?, purpose);
                Some((name, listens, self.secrets.mounted.get(&key)?))
            })
        };
        for (dialled, listens, server) in sides(Purpose::Peer) {
            for (dials, _, client) in sides(Purpose::Peer) {
                assert!(
                    !listens || (client.takes(server) && server.takes(client)),
                    "{dials} and {dialled} do not believe each other{}",
                    self.trace()
                );
            }
        }
        for (dialled, listens, server) in sides(Purpose::Client) {
            for (_, client, _) in &self.secrets.clients {
                assert!(
                    !listens || (client.takes(server) && server.takes(client)),
                    "clients and {dialled} do not believe each other: {client:?} {server:?}{}",
                    self.trace()
                );
            }
        }
        for (name, _) in &running {
            let pod = &self.api.pods.items[name];
            let schemes = pod.annotations().get(crate::api::ANNOTATION_SCHEMES);
            let schemes = schemes.map_or_else(Default::default, |text| Schemes::parse(text));
            for (_, _, endpoints) in &self.secrets.clients {
                let served = match endpoints.starts_with("https://") {
                    true => schemes.client_tls,
                    false => schemes.client_plain,
                };
                assert!(
                    served,
                    "clients are told to use {endpoints}, and {name} serves {schemes:?}{}",
                    self.trace()
                );
            }
            let Some(schemes) = pod.annotations().get(crate::api::ANNOTATION_SCHEMES) else {
                continue;
            };
            let secret = member_secret(&member_of(&pod.metadata));
            assert!(
                self.secrets.items.contains_key(&secret),
                "{name} starts with {schemes} and without its Secret{}",
                self.trace()
            );
        }
    }

    /// Whether etcd's list names every member by that scheme.
    pub(in crate::plan) fn peers_are(&self, secure: bool) -> bool {
        let scheme = identity::scheme(secure);
        let urls = self.peer_urls();
        urls.iter()
            .all(|url| url.starts_with(&format!("{scheme}://")))
    }
}
