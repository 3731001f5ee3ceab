//! Faults of the list, one by one, with what must come of them.

mod cluster;
mod disks;
mod storms;

use etcd_proto::etcdserverpb::{DeleteRangeRequest, InternalRaftRequest, PutRequest};
use etcd_proto::raftpb::ConfChangeType;
use etcd_replica::{ConfChangeContext, Member, Response};

use crate::event::SECOND;
use crate::profile::{Profile, Settings};
use crate::request::{Reply, Request};
use crate::world::World;

/// Three members, a good network, and nothing that goes wrong by itself.
fn calm() -> Settings {
    Settings {
        drop: 0,
        duplicate: 0,
        stall: 0,
        ..Profile::Calm.settings()
    }
}

/// A [`calm`] world with clients and a leader.
fn quiet(seed: u64) -> World {
    let mut world = World::new(seed, calm(), None, true);
    world.populate();
    world.run_for(5 * SECOND);
    assert!(world.leader().is_some());
    world
}

/// Lets the world come to rest, and fails with the end of its trace if it is not sound.
fn finish(mut world: World, what: &str) {
    if world.is_sound() {
        world.finish();
    }
    assert_sound(world, what);
}

fn assert_sound(world: World, what: &str) {
    let violation = world.env.check.violation().map(str::to_owned);
    if let Some(violation) = violation {
        let lines = world.env.trace.into_lines();
        let tail = lines.len().saturating_sub(40);
        panic!("{what}: {violation}\n{}", lines[tail..].join("\n"));
    }
}

fn put(key: &'static str) -> Request {
    Request::Write(Box::new(InternalRaftRequest {
        put: Some(PutRequest {
            key: key.into(),
            value: vec![b'v'; 500].into(),
            ..PutRequest::default()
        }),
        ..InternalRaftRequest::default()
    }))
}

fn delete(key: &'static str) -> Request {
    Request::Write(Box::new(InternalRaftRequest {
        delete_range: Some(DeleteRangeRequest {
            key: key.into(),
            ..DeleteRangeRequest::default()
        }),
        ..InternalRaftRequest::default()
    }))
}

fn conf_change(kind: ConfChangeType, member: Member, is_promote: bool) -> Request {
    Request::ConfChange {
        kind,
        context: Box::new(ConfChangeContext { member, is_promote }),
    }
}

fn get(key: &str) -> Request {
    Request::Get {
        key: key.as_bytes().to_vec(),
        serializable: false,
    }
}

/// Whether a write was acknowledged.
fn is_done(reply: Option<&Reply>) -> bool {
    matches!(reply, Some(Reply::Applied { result: Ok(_), .. }))
}

fn response(reply: Option<&Reply>) -> Option<&Response> {
    match reply {
        Some(Reply::Applied {
            result: Ok(response),
            ..
        }) => Some(response),
        _ => None,
    }
}
