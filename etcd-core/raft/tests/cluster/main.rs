//! Several members in one deterministic world: directed cases, and chaos by seed.

mod chaos;
mod checkers;
mod elections;
mod gone;
mod harness;
mod hostile;
mod membership;
mod node;
mod persistence;
mod reads;
mod replication;
mod snapshots;
mod solo;
