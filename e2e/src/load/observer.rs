//! Watchers that check every revision.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use etcd_proto::etcdserverpb::watch_request::RequestUnion;
use etcd_proto::mvccpb::event::EventType;
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::client::Client;
use crate::wait::eventually;
use crate::watch::{Watch, prefix};

/// A stream on which nothing arrives for this long is given up for one to the next member.
const SILENCE: Duration = Duration::from_secs(2);

/// What an observer has seen.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The key put at each revision.
    pub puts: BTreeMap<i64, Bytes>,
    /// The highest revision seen; the next stream resumes above it.
    pub last: i64,
    /// How often it resumed on another stream.
    pub resumed: usize,
    /// What was wrong first: an event twice, out of order, or a revision left out.
    pub fault: Option<String>,
}

/// A watcher of a prefix that resumes at the next member when its stream breaks.
///
/// Only the writers may change the store meanwhile: it expects every revision from its first on.
#[derive(Debug)]
pub struct Observer {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

impl Observer {
    /// Watches `under` from `start` on, beginning at `clients[first]`.
    pub fn start(clients: &[Client], first: usize, under: &str, start: i64) -> Observer {
        let seen = Arc::new(Mutex::new(Seen {
            last: start - 1,
            ..Seen::default()
        }));
        let (shared, clients, under) = (seen.clone(), clients.to_vec(), under.to_owned());
        let task = tokio::spawn(async move {
            let mut member = first % clients.len();
            loop {
                observe(&clients[member], &under, &shared).await;
                shared.lock().resumed += 1;
                member = (member + 1) % clients.len();
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        Observer { seen, task }
    }

    /// Waits until it has seen `revision`, and ends it.
    ///
    /// # Panics
    /// If it does not get there within `limit`, or has seen anything wrong.
    pub async fn finish(self, revision: i64, limit: Duration) -> Seen {
        let seen = eventually(limit, "an observer sees the last revision", async || {
            let seen = self.seen.lock();
            if seen.last >= revision || seen.fault.is_some() {
                Ok(seen.clone())
            } else {
                Err((seen.last, seen.resumed))
            }
        })
        .await;
        self.task.abort();
        assert_eq!(seen.fault, None, "an observer saw something wrong");
        seen
    }
}

/// Watches until the stream breaks or falls silent.
async fn observe(client: &Client, under: &str, seen: &Mutex<Seen>) {
    let mut watch = Watch::open(client, true);
    let mut request = prefix(under);
    request.start_revision = seen.lock().last + 1;
    request.progress_notify = true;
    watch.send(RequestUnion::CreateRequest(request)).await;
    loop {
        let response = match watch.try_next(SILENCE).await {
            Ok(Some(response)) if !response.canceled => response,
            // Canceled, silent or broken: the next stream resumes where this one ended.
            _ => return,
        };
        let mut seen = seen.lock();
        for event in response.events {
            let kv = event.kv.unwrap_or_default();
            if kv.mod_revision != seen.last + 1 {
                let (last, revision) = (seen.last, kv.mod_revision);
                seen.fault
                    .get_or_insert_with(|| format!("revision {revision} follows {last}"));
            }
            if event.r#type != i32::from(EventType::Put) {
                seen.fault
                    .get_or_insert_with(|| format!("{:?} was deleted", kv.key));
            }
            seen.last = kv.mod_revision;
            seen.puts.insert(kv.mod_revision, kv.key);
        }
    }
}
