//! `kubectl etcd`: what a person sees of clusters, and how they steer them.
//!
//! ```text
//!  args -> target   which cluster, with whose rights        errors a person can act on
//!            |
//!            +-> members   asks the members through port-forwards: raft, sizes, alarms
//!            v
//!          view        pure: EtcdCluster + what members said + now -> View, advice
//!            v
//!          text        pure: View -> what is printed (or JSON, YAML)
//!
//!  change   pause, resume, restart: edits of the EtcdCluster, the operator does the rest
//!  leader   move-leader: one call to the member that leads
//!  ctl      etcdctl with the cluster's endpoints and certificates
//! ```
//!
//! It needs no rights but the caller's own: `get` on the EtcdCluster to look, `patch`
//! to change it, `create` on `pods/portforward` to ask members, and `get` on one
//! Secret where clients need a certificate.

mod advice;
mod args;
mod bundle;
mod change;
mod ctl;
mod error;
mod forward;
mod leader;
mod members;
mod target;
mod text;
mod view;

pub use args::Cli;
pub use error::PluginError;

#[cfg(test)]
mod tests;
