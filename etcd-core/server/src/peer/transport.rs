//! All other members, and the handle by which they are reached.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;

use axum::Router;
use etcd_proto::raftpb::Message;
use parking_lot::RwLock;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use super::codec::StreamKind;
use super::config::PeerConfig;
use super::event::{PeerEvent, PeerEvents};
use super::headers::Identity;
use super::inbound::Shared;
use super::link::Link;
use super::snapshot_send::SnapshotSource;
use super::status::PeerStatus;
use super::{handler, pipeline, probe, reader, snapshot_send};

/// Members known only by their own word; more are ignored.
const REMOTES_MAX: usize = 64;

/// The network between members. A handle, cheap to clone; the last one ends it.
#[derive(Clone)]
pub struct PeerTransport {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    members: RwLock<Members>,
}

#[derive(Default)]
struct Members {
    peers: BTreeMap<u64, Member>,
    /// Members that our own log does not name yet. They get answers, but no streams.
    remotes: BTreeMap<u64, Member>,
    stopped: bool,
}

/// A member with the tasks that serve it; they end with this.
struct Member {
    link: Arc<Link>,
    tasks: Vec<AbortHandle>,
}

impl Member {
    fn start(shared: &Arc<Shared>, id: u64, urls: &[String], streams: bool) -> Member {
        let link = Arc::new(Link::new(shared.clone(), id, urls));
        let mut tasks = vec![abortable(shared, pipeline::run(link.clone()))];
        if streams {
            tasks.push(abortable(
                shared,
                reader::run(link.clone(), StreamKind::MsgApp),
            ));
            tasks.push(abortable(
                shared,
                reader::run(link.clone(), StreamKind::Message),
            ));
            tasks.push(abortable(shared, probe::run(link.clone())));
        }
        Member { link, tasks }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        self.link.close();
    }
}

fn abortable(shared: &Shared, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
    shared.runtime.spawn(task).abort_handle()
}

impl PeerTransport {
    /// A transport that knows no other member yet. Its tasks run on `runtime`; every
    /// method may be called from any thread.
    pub fn new(config: PeerConfig, events: Arc<dyn PeerEvents>, runtime: Handle) -> PeerTransport {
        let identity = Identity::new(&config);
        let shared = Arc::new(Shared {
            config,
            identity,
            events,
            runtime,
            removed: RwLock::default(),
        });
        PeerTransport {
            inner: Arc::new(Inner {
                shared,
                members: RwLock::default(),
            }),
        }
    }

    /// What other members ask of us, to be served on the peer listeners (HTTP/1.1).
    pub fn handler(&self) -> Router {
        handler::router(self.clone())
    }

    /// Connects to a member. Does nothing for one that is known, for the local one and
    /// after [`PeerTransport::stop`].
    pub fn add_peer(&self, id: u64, urls: &[String]) {
        let shared = &self.inner.shared;
        let mut members = self.inner.members.write();
        if id == shared.config.local_id || members.stopped || members.peers.contains_key(&id) {
            return;
        }
        let remote = members.remotes.remove(&id);
        members
            .peers
            .insert(id, Member::start(shared, id, urls, true));
        drop(members);
        drop(remote);
        tracing::info!(remote_peer_id = %format_args!("{id:x}"), remote_peer_urls = ?urls, "added remote peer");
    }

    /// Gives a member other URLs.
    pub fn update_peer(&self, id: u64, urls: &[String]) {
        if let Some(member) = self.inner.members.read().peers.get(&id) {
            member.link.urls.update(urls);
        }
    }

    /// Ends all connections with a member. Whether it may come back is a matter of
    /// [`PeerTransport::set_removed`].
    pub fn remove_peer(&self, id: u64) {
        let removed = self.inner.members.write().peers.remove(&id);
        if removed.is_some() {
            tracing::info!(removed_remote_peer_id = %format_args!("{id:x}"), "removed remote peer");
        }
    }

    /// Makes a member reachable that our own log does not name yet, so that it gets
    /// answers. Does nothing for one that is known or removed.
    pub fn add_remote(&self, id: u64, urls: &[String]) {
        let shared = &self.inner.shared;
        if id == shared.config.local_id || shared.is_removed(id) {
            return;
        }
        let known = |members: &Members| {
            members.peers.contains_key(&id) || members.remotes.contains_key(&id)
        };
        if known(&self.inner.members.read()) {
            return;
        }
        let mut members = self.inner.members.write();
        if members.stopped || known(&members) || members.remotes.len() >= REMOTES_MAX {
            return;
        }
        members
            .remotes
            .insert(id, Member::start(shared, id, urls, false));
        tracing::info!(remote_peer_id = %format_args!("{id:x}"), remote_peer_urls = ?urls, "added new remote peer");
    }

    /// IDs that were members once and never will be again. They are refused, and told.
    pub fn set_removed(&self, removed: impl IntoIterator<Item = u64>) {
        let removed: BTreeSet<_> = removed.into_iter().collect();
        let gone = {
            let mut members = self.inner.members.write();
            let (gone, kept) = std::mem::take(&mut members.remotes)
                .into_iter()
                .partition::<BTreeMap<_, _>, _>(|(id, _)| removed.contains(id));
            members.remotes = kept;
            gone
        };
        drop(gone);
        *self.inner.shared.removed.write() = removed;
    }

    /// Connects to these members and to no others: [`PeerTransport::add_peer`],
    /// [`PeerTransport::update_peer`], [`PeerTransport::remove_peer`] and
    /// [`PeerTransport::set_removed`] as needed.
    pub fn set_members<'a>(
        &self,
        members: impl IntoIterator<Item = (u64, &'a [String])>,
        removed: impl IntoIterator<Item = u64>,
    ) {
        self.set_removed(removed);
        let members: BTreeMap<_, _> = members.into_iter().collect();
        let known: Vec<_> = self.inner.members.read().peers.keys().copied().collect();
        for id in known {
            match members.get(&id) {
                Some(urls) => self.update_peer(id, urls),
                None => self.remove_peer(id),
            }
        }
        for (id, urls) in members {
            self.add_peer(id, urls);
        }
    }

    /// Sends messages, none of them a MsgSnap. Never blocks: what finds no room is
    /// dropped and reported as [`PeerEvent::Unreachable`], from within this call, so
    /// the receiver of events must not call back here.
    pub fn send(&self, messages: Vec<Message>) {
        let members = self.inner.members.read();
        for message in messages {
            // 0 is nobody: Raft's way to say that a message needs no sending.
            if message.to == 0 {
                continue;
            }
            match members.get(message.to) {
                Some(member) => member.link.send(message),
                None => tracing::debug!(
                    to = %format_args!("{:x}", message.to),
                    message_type = message.r#type,
                    "ignored message send request; unknown remote peer target"
                ),
            }
        }
    }

    /// Streams an image behind its MsgSnap, which goes to `message.to`. The end is
    /// reported as [`PeerEvent::SnapshotSent`].
    pub fn send_snapshot(&self, message: Message, image: Box<dyn SnapshotSource>) {
        let shared = &self.inner.shared;
        match self.link(message.to) {
            Some(link) => {
                shared
                    .runtime
                    .spawn(snapshot_send::run(link, message, image));
            }
            None => shared.notify(PeerEvent::SnapshotSent {
                to: message.to,
                ok: false,
            }),
        }
    }

    /// How the connection to a member is doing; `None` for one that is not known.
    pub fn peer_status(&self, id: u64) -> Option<PeerStatus> {
        self.link(id).map(|link| link.status.get())
    }

    /// The same of all members.
    pub fn peer_statuses(&self) -> BTreeMap<u64, PeerStatus> {
        let members = self.inner.members.read();
        members
            .peers
            .iter()
            .map(|(id, member)| (*id, member.link.status.get()))
            .collect()
    }

    /// Ends all connections and tasks, and begins no others.
    pub fn stop(&self) {
        let stopped = Members {
            stopped: true,
            ..Members::default()
        };
        let ended = std::mem::replace(&mut *self.inner.members.write(), stopped);
        drop(ended);
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.inner.shared
    }

    /// A member by which streams may be opened.
    pub(super) fn peer(&self, id: u64) -> Option<Arc<Link>> {
        self.inner
            .members
            .read()
            .peers
            .get(&id)
            .map(|member| member.link.clone())
    }

    /// A member to which something may be sent.
    pub(super) fn link(&self, id: u64) -> Option<Arc<Link>> {
        self.inner
            .members
            .read()
            .get(id)
            .map(|member| member.link.clone())
    }
}

impl Members {
    fn get(&self, id: u64) -> Option<&Member> {
        self.peers.get(&id).or_else(|| self.remotes.get(&id))
    }
}
