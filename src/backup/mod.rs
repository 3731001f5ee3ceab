//! What a backup or restore run does: the data plane of backups, in a pod of its own or
//! before a member starts. It talks to members and to a store, never to the API server.
//!
//! A run is told what to do in [`run`]'s types and answers in them.

pub mod run;
