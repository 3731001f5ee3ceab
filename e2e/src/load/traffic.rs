//! Steady traffic that programs make: writes in sequence, watches, linearizable reads.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use etcd_proto::etcdserverpb::watch_request::RequestUnion;
use etcd_proto::mvccpb::KeyValue;
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::client::{get, prefix as keys_below, put};
use crate::load::session::{Session, Troubles};
use crate::load::{Figures, Reach};
use crate::wait::eventually;
use crate::watch::{self, Watch};

/// Prefixes, each with its writers, a watcher and a reader.
const PREFIXES: usize = 4;
/// Keys of a prefix, each written in sequence. So many that those whose writes hang do not keep others from being written.
const KEYS: usize = 256;
/// Pause between two writes below a prefix: in all about 100 writes a second.
const WRITE_EVERY: Duration = Duration::from_millis(40);
/// Pause between two reads of a prefix.
const READ_EVERY: Duration = Duration::from_millis(100);
/// A stream on which nothing arrives for this long, though there are writes, is given up.
const SILENCE: Duration = Duration::from_secs(2);
/// How long the watchers may take to see the last write.
const SEEN_WITHIN: Duration = Duration::from_secs(30);

/// Traffic that runs until it is finished. Nothing else may write to the cluster meanwhile.
#[derive(Debug)]
pub struct Traffic {
    shared: Arc<Shared>,
    sessions: Vec<Arc<Session>>,
    /// End by themselves when told to stop.
    writers: Vec<JoinHandle<()>>,
    /// Watchers and followers of the member list, which end when they are aborted.
    others: Vec<JoinHandle<()>>,
    began: Instant,
    /// The store's revision before the first write.
    revision: i64,
}

#[derive(Debug, Default)]
struct Shared {
    under: String,
    stop: AtomicBool,
    acks: Mutex<Vec<Instant>>,
    prefixes: Vec<Mutex<Prefix>>,
    reads: AtomicUsize,
    resumed: AtomicUsize,
    troubles: Troubles,
    stale: Mutex<Vec<String>>,
    doubled: Mutex<Vec<String>>,
}

/// What is known of one prefix.
#[derive(Debug, Default)]
struct Prefix {
    /// The highest sequence number acknowledged, by key.
    highest: Vec<u64>,
    /// The key of the latest acknowledgement.
    latest: usize,
    /// Acknowledged writes: key and sequence number by revision.
    acked: BTreeMap<i64, (usize, u64)>,
    /// What the watcher saw, in the same form.
    seen: BTreeMap<i64, (usize, u64)>,
    /// The watcher's place.
    last: i64,
}

impl Traffic {
    /// Starts it below `under`, its clients spread over the ways to reach the cluster.
    ///
    /// # Panics
    /// If the cluster does not answer.
    pub async fn start(ways: Vec<Reach>, under: &str) -> Traffic {
        let sessions: Vec<Arc<Session>> = ways
            .into_iter()
            .enumerate()
            .map(|(number, reach)| Arc::new(Session::new(reach, number)))
            .collect();
        let revision = eventually(SEEN_WITHIN, "the revision before the traffic", async || {
            sessions[0].client().await.1.revision().await
        })
        .await;
        let prefix = || {
            Mutex::new(Prefix {
                highest: vec![0; KEYS],
                last: revision,
                ..Prefix::default()
            })
        };
        let shared = Arc::new(Shared {
            under: under.to_owned(),
            prefixes: (0..PREFIXES).map(|_| prefix()).collect(),
            ..Shared::default()
        });
        let began = Instant::now();
        let session = |number: usize| sessions[number % sessions.len()].clone();
        let mut writers = Vec::new();
        let mut others: Vec<JoinHandle<()>> = sessions
            .iter()
            .cloned()
            .map(|session| tokio::spawn(async move { session.follow().await }))
            .collect();
        for place in 0..PREFIXES {
            let all: Vec<_> = (0..sessions.len())
                .map(|number| session(place + number))
                .collect();
            writers.push(tokio::spawn(write_all(shared.clone(), all, place)));
            writers.push(tokio::spawn(read(
                shared.clone(),
                session(place + 1),
                place,
            )));
            others.push(tokio::spawn(observe(shared.clone(), session(place), place)));
        }
        Traffic {
            shared,
            sessions,
            writers,
            others,
            began,
            revision,
        }
    }

    /// Writes acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        self.shared.acks.lock().len()
    }

    /// Waits until that many more writes are acknowledged.
    ///
    /// # Panics
    /// If they are not within `limit`.
    pub async fn flows(&self, writes: usize, limit: Duration) {
        let goal = self.acknowledged() + writes;
        eventually(limit, "the traffic flows", async || {
            match self.acknowledged() {
                now if now >= goal => Ok(()),
                now => Err(format!("{now} of {goal}; {:?}", self.shared.troubles)),
            }
        })
        .await;
    }

    /// Ends it and counts.
    ///
    /// # Panics
    /// If the cluster does not answer any more.
    pub async fn finish(self) -> Figures {
        let end = Instant::now();
        self.shared.stop.store(true, Ordering::Relaxed);
        for task in self.writers {
            task.await.expect("a writer or reader does not panic");
        }
        let mut figures = Figures {
            time: end - self.began,
            longest_gap: longest_gap(&self.shared.acks.lock(), self.began, end),
            ..Figures::default()
        };
        let mut everyone = BTreeSet::new();
        let mut reached = self.revision;
        for (place, prefix) in self.shared.prefixes.iter().enumerate() {
            let under = self.shared.below(place);
            let answer = eventually(SEEN_WITHIN, "the final read", async || {
                let (number, client) = self.sessions[0].client().await;
                let answer = client.range(keys_below(&under)).await;
                if answer.is_err() {
                    self.sessions[0].leave(number).await;
                }
                answer
            })
            .await;
            reached = answer.header.unwrap_or_default().revision;
            let last = answer.kvs.iter().map(|kv| kv.mod_revision).max();
            wait_for(prefix, last.unwrap_or_default()).await;
            let prefix = prefix.lock();
            prefix.judge(&under, &answer.kvs, &mut figures);
            everyone.extend(prefix.seen.keys().copied());
        }
        for task in &self.others {
            task.abort();
        }
        // Nobody else writes, so every revision is of some prefix.
        figures.missed.extend(
            (self.revision + 1..=reached)
                .filter(|revision| !everyone.contains(revision))
                .map(|revision| format!("revision {revision}")),
        );
        let shared = &self.shared;
        figures.doubled.append(&mut shared.doubled.lock());
        figures.stale.append(&mut shared.stale.lock());
        figures.failures.append(&mut shared.troubles.told.lock());
        figures.reads = shared.reads.load(Ordering::Relaxed);
        figures.resumed = shared.resumed.load(Ordering::Relaxed);
        figures.retried = shared.troubles.retried.load(Ordering::Relaxed);
        figures.failed = shared.troubles.failed.load(Ordering::Relaxed);
        figures
    }
}

impl Shared {
    fn below(&self, place: usize) -> String {
        format!("{}{place}/", self.under)
    }

    fn key(&self, place: usize, key: usize) -> String {
        format!("{}{key}", self.below(place))
    }

    fn stops(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

impl Prefix {
    /// Compares what was acknowledged with what is there and what was seen.
    fn judge(&self, under: &str, found: &[KeyValue], figures: &mut Figures) {
        figures.acknowledged += self.acked.len();
        figures.events += self.seen.len();
        let mut there = BTreeMap::new();
        for kv in found {
            if let Some((key, sequence)) = parse(under, kv) {
                there.insert(key, sequence);
            } else {
                figures.lost.push(format!("nobody wrote {kv:?}"));
            }
        }
        for (key, highest) in self.highest.iter().enumerate() {
            let present = there.get(&key).copied().unwrap_or_default();
            if present < *highest {
                let text = format!("{under}{key} is at {present}, {highest} was acknowledged");
                figures.lost.push(text);
            }
        }
        for (revision, write) in &self.acked {
            // One that nobody saw is counted by its revision.
            if self.seen.get(revision).is_some_and(|seen| seen != write) {
                let text = format!("{under}: {write:?} was acknowledged at revision {revision}");
                figures.lost.push(text);
            }
        }
    }
}

/// Which key this is, and its value's number.
fn parse(under: &str, kv: &KeyValue) -> Option<(usize, u64)> {
    let key = std::str::from_utf8(&kv.key).ok()?.strip_prefix(under)?;
    let value = std::str::from_utf8(&kv.value).ok()?;
    Some((key.parse().ok()?, value.parse().ok()?))
}

async fn wait_for(prefix: &Mutex<Prefix>, revision: i64) {
    // What does not come is counted as missed.
    let seen = async {
        while prefix.lock().last < revision {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    drop(tokio::time::timeout(SEEN_WITHIN, seen).await);
}

/// Writes one key after the other below a prefix, each by another client, and waits for none.
async fn write_all(shared: Arc<Shared>, sessions: Vec<Arc<Session>>, place: usize) {
    let mut sequences = vec![0; KEYS];
    let mut open: HashMap<usize, JoinHandle<()>> = HashMap::new();
    let mut turn = 0;
    while !shared.stops() {
        turn += 1;
        open.retain(|_, write| !write.is_finished());
        let key = turn % KEYS;
        // The writes of a key are in sequence.
        if let Entry::Vacant(free) = open.entry(key) {
            sequences[key] += 1;
            let session = sessions[turn % sessions.len()].clone();
            let write = write(shared.clone(), session, place, key, sequences[key]);
            free.insert(tokio::spawn(write));
        }
        tokio::time::sleep(WRITE_EVERY).await;
    }
    for (_, write) in open {
        write.await.expect("a write does not panic");
    }
}

async fn write(
    shared: Arc<Shared>,
    session: Arc<Session>,
    place: usize,
    key: usize,
    sequence: u64,
) {
    let name = shared.key(place, key);
    let answer = session
        .call(&shared.troubles, |client| {
            let request = put(&name, sequence.to_string());
            async move { client.put_with(request).await }
        })
        .await;
    if let Some(answer) = answer {
        shared.acks.lock().push(Instant::now());
        let revision = answer.header.unwrap_or_default().revision;
        let mut prefix = shared.prefixes[place].lock();
        prefix.highest[key] = sequence;
        prefix.latest = key;
        prefix.acked.insert(revision, (key, sequence));
    }
}

async fn read(shared: Arc<Shared>, session: Arc<Session>, place: usize) {
    while !shared.stops() {
        let (key, least) = {
            let prefix = shared.prefixes[place].lock();
            (prefix.latest, prefix.highest[prefix.latest])
        };
        let name = shared.key(place, key);
        let answer = session
            .call(&shared.troubles, |client| {
                let request = get(&name);
                async move { client.range(request).await }
            })
            .await;
        if let Some(answer) = answer {
            shared.reads.fetch_add(1, Ordering::Relaxed);
            let under = shared.below(place);
            let found = answer.kvs.first().and_then(|kv| parse(&under, kv));
            let found = found.map_or(0, |(_, sequence)| sequence);
            if found < least {
                let text = format!("{name}: read {found} after {least} was acknowledged");
                shared.stale.lock().push(text);
            }
        }
        tokio::time::sleep(READ_EVERY).await;
    }
}

/// Watches a prefix for ever, resuming at the next endpoint when a stream breaks.
async fn observe(shared: Arc<Shared>, session: Arc<Session>, place: usize) {
    let under = shared.below(place);
    loop {
        let (number, client) = session.client().await;
        let mut stream = Watch::open(&client, true);
        let mut request = watch::prefix(&under);
        request.start_revision = shared.prefixes[place].lock().last + 1;
        stream.send(RequestUnion::CreateRequest(request)).await;
        loop {
            match stream.try_next(SILENCE).await {
                Ok(Some(response)) if !response.canceled => {
                    for event in response.events {
                        shared.saw(place, &under, &event.kv.unwrap_or_default());
                    }
                }
                // Silent while there is nothing to see: the stream is as good as another.
                Ok(None) if shared.stops() => {}
                _ => break,
            }
        }
        shared.resumed.fetch_add(1, Ordering::Relaxed);
        session.leave(number).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

impl Shared {
    fn saw(&self, place: usize, under: &str, kv: &KeyValue) {
        let mut prefix = self.prefixes[place].lock();
        let revision = kv.mod_revision;
        match parse(under, kv) {
            Some(write) if revision > prefix.last => {
                prefix.last = revision;
                prefix.seen.insert(revision, write);
            }
            _ => {
                let key: &Bytes = &kv.key;
                let text = format!("{key:?} at revision {revision}, after {}", prefix.last);
                self.doubled.lock().push(text);
            }
        }
    }
}

/// The longest time between two acknowledgements; beginning and end count as such.
fn longest_gap(acks: &[Instant], began: Instant, end: Instant) -> Duration {
    let mut times: Vec<Instant> = acks.iter().copied().filter(|time| *time < end).collect();
    times.sort();
    let mut last = began;
    let mut longest = Duration::ZERO;
    for time in times.into_iter().chain([end]) {
        longest = longest.max(time - last);
        last = time;
    }
    longest
}

#[cfg(test)]
mod tests;
