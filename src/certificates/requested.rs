//! Certificates that cert-manager is asked for: four of a cluster.

use super::Purpose;

/// Who is to show a certificate that cert-manager issues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Requested {
    /// Members, to clients.
    Server,
    /// Members, to each other.
    Peer,
    /// Clients.
    Client,
    /// The operator, to members.
    Operator,
}

impl Requested {
    /// What is asked for, for that purpose. Members' own comes first.
    pub fn of(purpose: Purpose) -> &'static [Requested] {
        match purpose {
            Purpose::Client => &[Requested::Server, Requested::Client, Requested::Operator],
            Purpose::Peer => &[Requested::Peer],
        }
    }

    /// Name of the Certificate, and of the Secret it is put into.
    pub fn name(self, cluster: &str) -> String {
        let word = match self {
            Requested::Server => "server",
            Requested::Peer => "peer",
            Requested::Client => "client",
            Requested::Operator => "operator",
        };
        format!("{cluster}-{word}-cert")
    }
}
