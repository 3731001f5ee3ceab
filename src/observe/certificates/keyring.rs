//! Facts and keys of all clusters, kept for a while: reading them costs requests.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use kube::{Client, ResourceExt};
use parking_lot::Mutex;

use crate::{
    api::EtcdCluster,
    certificates::{Origin, TlsReason},
    observe::{ObserveError, Observed, Source},
};

use super::{
    CertificatesSeen,
    access::{Access, access},
    facts::facts,
    needs, requests, secrets,
};

/// How long facts of a cluster that is well are believed, if all of it is our own.
const CALM: Duration = Duration::from_secs(1800);
/// How long facts are believed while something goes on.
const BUSY: Duration = Duration::from_secs(4);

/// Facts and access by cluster. Cheap to clone.
#[derive(Clone)]
pub(in crate::observe) struct Keyring {
    entries: Arc<Mutex<HashMap<(String, String), Entry>>>,
    /// How long facts of a cluster that is well are believed, if others may give it new
    /// certificates at any time.
    foreign: Duration,
}

struct Entry {
    read: Instant,
    seen: Arc<CertificatesSeen>,
    access: Arc<Access>,
}

impl Keyring {
    /// One that is empty.
    pub(in crate::observe) fn new(foreign: Duration) -> Keyring {
        Keyring {
            entries: Arc::default(),
            foreign,
        }
    }

    /// Facts and access, from memory if `source` and the cluster's state allow it.
    pub(in crate::observe) async fn read(
        &self,
        client: &Client,
        cluster: &EtcdCluster,
        observed: &Observed,
        source: Source,
    ) -> Result<(Arc<CertificatesSeen>, Arc<Access>), ObserveError> {
        let place = (cluster.namespace().unwrap_or_default(), cluster.name_any());
        let needs = needs(cluster);
        if needs.is_empty() {
            self.entries.lock().remove(&place);
            return Ok(Default::default());
        }
        let asks = needs.iter().any(|(_, o)| *o == Origin::CertManager);
        let limit = match is_calm(cluster) {
            true if needs.iter().all(|(_, o)| *o == Origin::Own) => CALM,
            true => self.foreign,
            false => BUSY,
        };
        if source == Source::Cache
            && let Some(entry) = self.entries.lock().get(&place)
            && entry.read.elapsed() < limit
            && entry.knows(observed)
        {
            return Ok((Arc::clone(&entry.seen), Arc::clone(&entry.access)));
        }
        let secrets = secrets::fetch(client, cluster, observed).await?;
        let requests = match asks {
            true => requests::fetch(client, cluster).await?,
            false => None,
        };
        let now = Timestamp::now();
        let seen = Arc::new(facts(cluster, observed, &secrets, requests, now));
        let access = Arc::new(access(cluster, observed, &secrets, now));
        let entry = Entry {
            read: Instant::now(),
            seen: Arc::clone(&seen),
            access: Arc::clone(&access),
        };
        self.entries.lock().insert(place, entry);
        Ok((seen, access))
    }

    /// Forgets a cluster that is gone, and its keys.
    pub(in crate::observe) fn forget(&self, namespace: &str, name: &str) {
        let place = (namespace.to_owned(), name.to_owned());
        self.entries.lock().remove(&place);
    }
}

impl Entry {
    /// Whether it is about the members that are there now.
    fn knows(&self, observed: &Observed) -> bool {
        let mut members = observed.members.iter();
        members.all(|(name, objects)| {
            objects.stateful_set.is_none() || self.seen.secrets.contains_key(name)
        })
    }
}

/// Whether nothing goes on and nothing is wrong.
fn is_calm(cluster: &EtcdCluster) -> bool {
    let Some(status) = &cluster.status else {
        return false;
    };
    let is = |type_: &str, reason: &str| {
        let mut all = status.conditions.iter();
        all.any(|c| {
            c.type_ == type_ && c.status == "True" && (reason.is_empty() || c.reason == reason)
        })
    };
    let current = Some(status.observed_generation) == cluster.metadata.generation;
    current && is("Ready", "") && is("TLSReady", TlsReason::InEffect.as_str())
}
