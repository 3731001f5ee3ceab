//! What went wrong, in words a person can act on.

use crate::api::GROUP;

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// There is no usable kubeconfig.
    #[error("no way to a Kubernetes: {0}")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// The client could not be made from it.
    #[error("no way to a Kubernetes: {0}")]
    Client(Box<kube::Error>),
    /// `-A` with a cluster's name.
    #[error(
        "--all-namespaces goes with no cluster's name: names are unique in a namespace only; use --namespace"
    )]
    AllNamespaces,
    /// No cluster of that name.
    #[error("no EtcdCluster {name:?} in the namespace {namespace:?}{}", instead(.others))]
    NoSuchCluster {
        /// The name that was asked for.
        name: String,
        /// Where.
        namespace: String,
        /// Those that there are.
        others: Vec<String>,
    },
    /// The kind is unknown there.
    #[error(
        "this Kubernetes knows no such kind of {GROUP}: etcd-operator is not installed, or an older one is; its Helm chart brings the kinds along"
    )]
    NoKind,
    /// The caller lacks a right.
    #[error("you have no right to {what}: {message}")]
    Forbidden {
        /// What was attempted.
        what: String,
        /// What the API server says.
        message: String,
    },
    /// The caller is nobody there.
    #[error("the API server does not accept your credentials to {what}: {message}")]
    Unauthorized {
        /// What was attempted.
        what: String,
        /// What the API server says.
        message: String,
    },
    /// The API server refused or did not answer.
    #[error("cannot {what}: {why}")]
    Kube {
        /// What was attempted.
        what: String,
        /// What the API server says, or why it was not reached.
        why: String,
    },
    /// The Secret with the client certificate cannot be used.
    #[error("the Secret {0}")]
    Bundle(String),
    /// A member cannot be reached or refuses.
    #[error("{member}: {why}")]
    Member {
        /// The member.
        member: String,
        /// Why.
        why: String,
    },
    /// Leadership cannot be moved.
    #[error("{0}")]
    Leader(String),
    /// A backup cannot be made, or failed.
    #[error("{0}")]
    Backup(String),
    /// A restore cannot be done, or failed.
    #[error("{0}")]
    Restore(String),
    /// A restore that nobody has agreed to.
    #[error("nothing was done, for --yes is missing; this does it:\n  {0}")]
    Unconfirmed(String),
    /// Waiting has taken as long as it may.
    #[error("{name} is not over yet, and goes on ({at}): {look}")]
    Late {
        /// The object.
        name: String,
        /// What it is at.
        at: String,
        /// The command that shows it.
        look: String,
    },
    /// No object of that name.
    #[error("no {kind} {name:?} in the namespace {namespace:?}{}", instead(.others))]
    NoSuchObject {
        /// Its kind.
        kind: String,
        /// The name that was asked for.
        name: String,
        /// Where.
        namespace: String,
        /// Those that there are.
        others: Vec<String>,
    },
    /// etcdctl cannot be run.
    #[error("{0}")]
    Ctl(String),
    /// The result cannot be printed.
    #[error("cannot print this: {0}")]
    Print(String),
}

fn instead(names: &[String]) -> String {
    if names.is_empty() {
        "; it has none".to_owned()
    } else {
        format!("; it has {}", names.join(", "))
    }
}

/// Tells an answer of the API server apart by what a person can do about it.
pub(super) fn kube(what: &str, error: kube::Error) -> PluginError {
    let what = what.to_owned();
    match error {
        kube::Error::Api(status) if status.is_forbidden() => PluginError::Forbidden {
            what,
            message: status.message,
        },
        kube::Error::Api(status) if status.code == 401 => PluginError::Unauthorized {
            what,
            message: status.message,
        },
        kube::Error::Api(status) if unknown_kind(&status) => PluginError::NoKind,
        kube::Error::Api(status) => PluginError::Kube {
            what,
            why: status.message,
        },
        other => PluginError::Kube {
            what,
            why: crate::causes::causes(&other),
        },
    }
}

/// Whether a 404 is about the path and not about an object: the kind is not there.
pub(super) fn unknown_kind(status: &kube::core::Status) -> bool {
    let object = status
        .details
        .as_ref()
        .is_some_and(|details| !details.name.is_empty());
    status.code == 404 && !object
}
