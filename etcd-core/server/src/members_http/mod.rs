//! What members ask each other over HTTP besides raft: who the members are, which
//! version they run, and requests that only the leader can answer.

mod client;
mod handlers;
mod hash;
mod join;

pub use client::{MembersClient, ToLeader};
pub use handlers::{MembersState, router};
pub use join::{JoinError, RemoteCluster, match_members};

/// Header that names the cluster, in hexadecimal.
pub(crate) const CLUSTER_ID: &str = "x-etcd-cluster-id";
