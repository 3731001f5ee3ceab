//! An operator for etcd clusters on Kubernetes.
//!
//! ```text
//!  API server, members
//!        |  observe/   world -> Observed: plain data
//!        v
//!  EtcdCluster (api/) + Observed + now
//!        |  plan/      pure: -> Plan, one step
//!        v
//!      Step  -- render/  pure: spec -> manifests
//!        |  plan/calls.rs  pure: -> Calls, in order
//!        v
//!     apply.rs         the only writer
//!     status.rs        pure: (Observed, Plan, outcome) -> status
//! ```
//!
//! `turn.rs` is one turn of that loop, in the real world or in a simulated one;
//! `controller/` takes the real ones; `admit.rs` is the other half of the operator, in
//! the members' pods: nothing starts on an empty disk without a ticket from the loop.
//! `plugin/` is `kubectl etcd`, a program of its own for people.

pub mod admission;
pub mod admit;
pub mod api;
pub mod apply;
pub mod backup;
mod causes;
pub mod certificates;
pub mod cli;
pub mod controller;
mod cron;
pub mod identity;
mod jobs;
pub mod observe;
pub mod plan;
pub mod plugin;
pub mod render;
pub mod status;
mod turn;
