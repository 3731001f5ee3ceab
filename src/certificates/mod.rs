//! Certificates: the CA a cluster has of its own, what it issues, and what can be
//! read off certificates of whatever source. No client, and no clock: `now` is given.
//!
//! ```text
//! Authority (a Secret: signer, and while it is replaced the next or the previous CA)
//!   -> issue() -> Pair (certificate and key) -> a Secret of a member or of clients
//! inspect(): PEM -> CertificateSeen, the facts a plan works on; no key is among them
//! ```

mod anchor;
mod authority;
mod inspect;
mod names;
mod origin;
mod pair;
mod reason;
mod requested;

pub use anchor::anchor;
pub use authority::{Authority, AuthorityError, AuthoritySeen, Phase};
pub use inspect::{CertificateSeen, Flaw, Holder, certificates, fingerprint, first, flaw, split};
pub use names::{
    Purpose, authority_name, authority_secret, client_names, clients_secret, member_secret,
    peer_names, peer_wildcards, server_names,
};
pub use origin::Origin;
pub use pair::{IssueError, Leaf, Pair, issue, new_authority};
pub use reason::TlsReason;
pub use requested::Requested;

#[cfg(test)]
mod tests;
