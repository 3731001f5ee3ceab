//! What a backup or restore run does: the data plane of backups, in a pod of its own or
//! before a member starts. It talks to members and to a store, never to the API server.
//!
//! ```text
//!  run (told) -> commands -> snapshot | verify | restore | follow | delete | list | export | import -> run (answer)
//!                               |         \        /            \
//!                            member/      fetch: unpack -> image  increment/
//!                               |               |
//!                               `- pack --> store/ (s3/, directory)
//! ```
//!
//! A run is told what to do in [`run`]'s types and answers in them. What lies in a store
//! is described in [`layout`]; [`manifest`] is what makes a folder a backup, and
//! [`marker`] says whose it is.

pub mod commands;
pub(crate) mod context;
mod delete;
mod digest;
mod export;
mod failure;
mod fetch;
mod follow;
mod frame;
mod image;
mod import;
mod increment;
mod keyfile;
mod keys;
mod layout;
mod leftovers;
mod list;
mod manifest;
mod marker;
mod member;
mod pack;
mod pipe;
mod random;
pub(crate) mod restore;
pub mod run;
mod snapshot;
mod source;
mod store;
mod trailer;
mod unpack;
mod verify;
