//! Snapshots restored on a simulated disk: into a directory that starts, to a revision,
//! and with the power going out at any moment.

mod crash;
mod history;
mod leases;
mod refused;
mod revision;
