//! The membership as the tree of the v2 store, which receivers of a snapshot older
//! than v3.7 insist on.

use serde_json::{Map, Value, json};

use crate::capture::Capture;
use crate::membership::Membership;

/// JSON of the v2 store: members, removed members and the cluster's version.
pub fn v2_store_json(capture: &Capture) -> Vec<u8> {
    let view = &capture.view;
    v2_tree(
        &view.membership,
        view.cluster_version.as_deref(),
        view.index,
    )
}

/// The same of members and the cluster's version at an index of the log.
pub(crate) fn v2_tree(membership: &Membership, version: Option<&str>, index: u64) -> Vec<u8> {
    let members = membership.iter().map(|m| {
        let mut raft = json!({ "peerURLs": m.peer_urls });
        if m.is_learner {
            raft["isLearner"] = Value::Bool(true);
        }
        let path = format!("/0/members/{:x}", m.id);
        let mut children = vec![file(
            &format!("{path}/raftAttributes"),
            index,
            &raft.to_string(),
        )];
        if m.is_started() {
            let attributes = json!({ "name": m.name, "clientURLs": m.client_urls });
            children.push(file(
                &format!("{path}/attributes"),
                index,
                &attributes.to_string(),
            ));
        }
        directory(&path, index, children)
    });
    let removed = membership
        .removed()
        .map(|id| file(&format!("/0/removed_members/{id:x}"), index, "removed"));
    let mut cluster = vec![
        directory("/0/members", index, members.collect()),
        directory("/0/removed_members", index, removed.collect()),
    ];
    if let Some(version) = version {
        cluster.push(file("/0/version", index, version));
    }
    let root = directory(
        "/",
        0,
        vec![
            directory("/0", index, cluster),
            directory("/1", index, Vec::new()),
        ],
    );
    json!({
        "Root": root,
        "WatcherHub": { "EventHistory": {
            "Queue": { "Events": null, "Size": 0, "Front": 0, "Back": 0, "Capacity": 1000 },
            "StartIndex": 0, "LastIndex": 0,
        } },
        "CurrentIndex": index,
        "Stats": {},
        "CurrentVersion": 2,
    })
    .to_string()
    .into_bytes()
}

const NEVER: &str = "0001-01-01T00:00:00Z";

fn file(path: &str, index: u64, value: &str) -> Value {
    json!({
        "Path": path, "CreatedIndex": index, "ModifiedIndex": index,
        "ExpireTime": NEVER, "Value": value, "Children": null,
    })
}

fn directory(path: &str, index: u64, children: Vec<Value>) -> Value {
    let mut named = Map::new();
    for child in children {
        let name = child["Path"]
            .as_str()
            .and_then(|p| p.rsplit('/').next())
            .unwrap_or_default();
        named.insert(name.to_owned(), child);
    }
    json!({
        "Path": path, "CreatedIndex": index, "ModifiedIndex": index,
        "ExpireTime": NEVER, "Value": "", "Children": named,
    })
}
