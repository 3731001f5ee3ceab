//! What the watches have seen, by the cluster it belongs to. A look at one cluster
//! costs what that cluster has, however many others there are.
//!
//! Objects are kept as JSON, a quarter of what the same object takes as fields that are
//! mostly absent: a cluster is looked at once a minute, and is there all the time.

use std::{
    collections::{BTreeMap, HashMap},
    marker::PhantomData,
    sync::Arc,
};

use kube::{Resource, ResourceExt, runtime::watcher};
use parking_lot::RwLock;
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::watch;

use crate::api::LABEL_CLUSTER;

/// Namespace and name.
type Key = (String, String);

/// Reads the objects of one kind. Cheap to clone.
pub struct Cache<K> {
    state: Arc<RwLock<State<K>>>,
    filled: watch::Receiver<bool>,
}

impl<K> Clone for Cache<K> {
    fn clone(&self) -> Self {
        Cache {
            state: Arc::clone(&self.state),
            filled: self.filled.clone(),
        }
    }
}

/// Fills a [`Cache`] from a watch.
pub struct Filler<K> {
    state: Arc<RwLock<State<K>>>,
    filled: watch::Sender<bool>,
    /// What a list that is under way has brought so far.
    list: State<K>,
    by: By<K>,
}

/// What an object is kept by; one without it is not kept.
type By<K> = fn(&K) -> Option<String>;

struct State<K> {
    /// Objects by cluster, then by name.
    objects: HashMap<Key, BTreeMap<Box<str>, Box<[u8]>>>,
    /// The cluster of each object, for objects whose label changes.
    cluster: HashMap<Key, Box<str>>,
    kind: PhantomData<fn() -> K>,
}

impl<K> Default for State<K> {
    fn default() -> Self {
        State {
            objects: HashMap::new(),
            cluster: HashMap::new(),
            kind: PhantomData,
        }
    }
}

impl<K: Resource<DynamicType = ()> + Serialize> State<K> {
    fn insert(&mut self, object: &K, by: By<K>) {
        let key = key(object);
        let Some(cluster) = by(object) else {
            return self.remove(&key);
        };
        let before = self.cluster.insert(key.clone(), cluster.as_str().into());
        let (namespace, name) = key;
        if let Some(before) = before.filter(|before| **before != *cluster) {
            self.take((namespace.clone(), before.into()), &name);
        }
        let json = serde_json::to_vec(object).expect("it came as JSON");
        let objects = self.objects.entry((namespace, cluster)).or_default();
        objects.insert(name.into(), json.into());
    }

    fn remove(&mut self, key: &Key) {
        if let Some(cluster) = self.cluster.remove(key) {
            self.take((key.0.clone(), cluster.into()), &key.1);
        }
    }

    fn take(&mut self, of: Key, name: &str) {
        if let Some(objects) = self.objects.get_mut(&of) {
            objects.remove(name);
            if objects.is_empty() {
                self.objects.remove(&of);
            }
        }
    }
}

fn key<K: Resource<DynamicType = ()>>(object: &K) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

fn cluster<K: Resource<DynamicType = ()>>(object: &K) -> Option<String> {
    object.labels().get(LABEL_CLUSTER).cloned()
}

/// An empty cache and what fills it, by the cluster that objects' label names.
pub fn cache<K: Resource<DynamicType = ()>>() -> (Cache<K>, Filler<K>) {
    cache_by(cluster)
}

/// The same, by something else.
pub fn cache_by<K>(by: fn(&K) -> Option<String>) -> (Cache<K>, Filler<K>) {
    let state = Arc::new(RwLock::new(State::default()));
    let (filled, reader) = watch::channel(false);
    let cache = Cache {
        state: Arc::clone(&state),
        filled: reader,
    };
    let filler = Filler {
        state,
        filled,
        list: State::default(),
        by,
    };
    (cache, filler)
}

impl<K> Cache<K> {
    /// Waits until the first list is complete. `false`: it never will be, the watch has
    /// ended.
    pub async fn filled(&self) -> bool {
        let mut filled = self.filled.clone();
        let seen = filled.wait_for(|filled| *filled).await;
        seen.is_ok()
    }

    /// The objects of a cluster, by name.
    pub fn of(&self, namespace: &str, cluster: &str) -> Vec<K>
    where
        K: DeserializeOwned,
    {
        let key = (namespace.to_owned(), cluster.to_owned());
        let state = self.state.read();
        let objects = state
            .objects
            .get(&key)
            .into_iter()
            .flat_map(BTreeMap::values);
        let read = |json: &[u8]| serde_json::from_slice(json).expect("it was written by us");
        objects.map(|json| read(json)).collect()
    }
}

impl<K: DeserializeOwned> Cache<K> {
    /// All objects of a namespace.
    pub fn within(&self, namespace: &str) -> Vec<K> {
        let state = self.state.read();
        let here = state.objects.iter().filter(|((of, _), _)| of == namespace);
        let read = |json: &[u8]| serde_json::from_slice(json).expect("it was written by us");
        here.flat_map(|(_, objects)| objects.values())
            .map(|json| read(json))
            .collect()
    }
}

impl<K: Resource<DynamicType = ()> + Serialize> Filler<K> {
    /// Takes in an event of the watch. The cluster whose objects it changes, with its
    /// namespace, if it is an event of an object.
    pub fn take(&mut self, event: watcher::Event<K>) -> Option<(String, String)> {
        let (object, gone) = match event {
            watcher::Event::Init => {
                self.list = State::default();
                return None;
            }
            watcher::Event::InitDone => {
                *self.state.write() = std::mem::take(&mut self.list);
                self.filled.send_replace(true);
                return None;
            }
            watcher::Event::InitApply(object) => {
                let of = self.owner(&object);
                self.list.insert(&object, self.by);
                return of;
            }
            watcher::Event::Apply(object) => (object, false),
            watcher::Event::Delete(object) => (object, true),
        };
        let of = self.owner(&object);
        let mut state = self.state.write();
        if gone {
            state.remove(&key(&object));
        } else {
            state.insert(&object, self.by);
        }
        of
    }

    fn owner(&self, object: &K) -> Option<(String, String)> {
        Some((object.namespace()?, (self.by)(object)?))
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use watcher::Event;

    use super::*;

    fn pod(name: &str, cluster: &str) -> Pod {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": name, "namespace": "n", "labels": {LABEL_CLUSTER: cluster}}
        }))
        .unwrap()
    }

    fn names(cache: &Cache<Pod>, cluster: &str) -> Vec<String> {
        let pods = cache.of("n", cluster);
        pods.iter().map(|pod| pod.name_any()).collect()
    }

    #[test]
    fn objects_are_found_by_their_cluster() {
        let (cache, mut filler) = cache::<Pod>();
        filler.take(Event::Init);
        filler.take(Event::InitApply(pod("a-0-0", "a")));
        filler.take(Event::InitApply(pod("b-0-0", "b")));
        assert!(
            names(&cache, "a").is_empty(),
            "a list counts when it is complete"
        );
        filler.take(Event::InitDone);
        assert_eq!(names(&cache, "a"), ["a-0-0"]);
        let of = filler.take(Event::Apply(pod("a-1-0", "a")));
        assert_eq!(of, Some(("n".to_owned(), "a".to_owned())));
        assert_eq!(names(&cache, "a"), ["a-0-0", "a-1-0"]);
        filler.take(Event::Delete(pod("a-0-0", "a")));
        assert_eq!(names(&cache, "a"), ["a-1-0"]);
        assert!(cache.of("other", "a").is_empty());
    }

    #[test]
    fn an_object_whose_label_changes_moves() {
        let (cache, mut filler) = cache::<Pod>();
        filler.take(Event::Apply(pod("a-0-0", "a")));
        filler.take(Event::Apply(pod("a-0-0", "b")));
        assert!(names(&cache, "a").is_empty());
        assert_eq!(names(&cache, "b"), ["a-0-0"]);
    }

    #[test]
    fn o05_what_a_new_list_does_not_name_is_gone() {
        let (cache, mut filler) = cache::<Pod>();
        filler.take(Event::Apply(pod("a-0-0", "a")));
        filler.take(Event::Init);
        filler.take(Event::InitApply(pod("a-1-0", "a")));
        assert_eq!(names(&cache, "a"), ["a-0-0"]);
        filler.take(Event::InitDone);
        assert_eq!(names(&cache, "a"), ["a-1-0"]);
    }

    #[tokio::test]
    async fn an_empty_cache_is_no_observation() {
        let (cache, mut filler) = cache::<Pod>();
        let mut waits = std::pin::pin!(cache.filled());
        assert!(futures::poll!(&mut waits).is_pending());
        filler.take(Event::Init);
        filler.take(Event::InitDone);
        assert!(waits.await);
        let (other, filler) = super::cache::<Pod>();
        drop(filler);
        assert!(!other.filled().await, "the watch has ended");
    }
}
