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
//!  backup   makes an EtcdBackup from a schedule or flags  -+
//!  restore  makes an EtcdRestore, a dry one first          +-> wait   until it is over
//!  backups  pure: EtcdBackups, schedules + now -> what is printed
//!  ctl      etcdctl with the cluster's endpoints and certificates
//! ```
//!
//! It needs no rights but the caller's own: `get` on the EtcdCluster to look, `patch`
//! to change it, `create` on `pods/portforward` to ask members, `get` on one Secret
//! where clients need a certificate, and for backups and restores what kubectl needs
//! for the same objects.

mod advice;
mod args;
mod backup;
mod backups;
mod bundle;
mod change;
mod ctl;
mod error;
mod forward;
mod leader;
mod members;
mod restore;
mod restores;
mod target;
mod text;
mod view;
mod wait;

pub use args::Cli;
pub use error::PluginError;

#[cfg(test)]
mod tests;
