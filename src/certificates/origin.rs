//! Where certificates come from.

/// Where the certificates for one purpose come from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// A CA of the cluster's own.
    Own,
    /// cert-manager.
    CertManager,
    /// A Secret of the user, by name.
    Secret(String),
}

impl Origin {
    /// Its name in sentences.
    pub fn what(&self) -> String {
        match self {
            Origin::Own => "the operator's own CA".to_owned(),
            Origin::CertManager => "cert-manager".to_owned(),
            Origin::Secret(name) => format!("the Secret {name}"),
        }
    }
}
