//! The rights the operator's calls need, and no more. The chart's rules are checked
//! against this table.

/// Verbs on resources of one API group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Resource, with its subresource if one is meant.
    pub resource: &'static str,
    /// Verbs.
    pub verbs: &'static [&'static str],
    /// Whether it is needed only in the operator's own namespace.
    pub own_namespace: bool,
}

const fn rule(group: &'static str, resource: &'static str, verbs: &'static [&'static str]) -> Rule {
    Rule {
        group,
        resource,
        verbs,
        own_namespace: false,
    }
}

const RULES: &[Rule] = &[
    rule("etcd-core.io", "etcdclusters", &["get", "list", "watch"]),
    rule("etcd-core.io", "etcdclusters/status", &["patch"]),
    rule(
        "etcd-core.io",
        "etcdbackups",
        &["get", "list", "watch", "create", "patch", "delete"],
    ),
    rule("etcd-core.io", "etcdbackups/status", &["patch"]),
    rule(
        "etcd-core.io",
        "etcdbackupschedules",
        &["get", "list", "watch"],
    ),
    rule("etcd-core.io", "etcdbackupschedules/status", &["patch"]),
    rule("etcd-core.io", "etcdrestores", &["get", "list", "watch"]),
    rule("etcd-core.io", "etcdrestores/status", &["patch"]),
    rule(
        "apps",
        "statefulsets",
        &["get", "list", "watch", "create", "patch", "delete"],
    ),
    rule(
        "apps",
        "deployments",
        &["get", "list", "watch", "create", "patch", "delete"],
    ),
    rule(
        "batch",
        "jobs",
        &["get", "list", "watch", "create", "patch", "delete"],
    ),
    // Whether a node is off for ever: cluster-wide only.
    rule("", "nodes", &["get"]),
    rule("", "pods", &["list", "watch", "patch", "delete"]),
    rule(
        "",
        "persistentvolumeclaims",
        &["get", "list", "watch", "create", "patch", "delete"],
    ),
    rule("", "services", &["get", "list", "watch", "create", "patch"]),
    rule(
        "policy",
        "poddisruptionbudgets",
        &["get", "list", "watch", "create", "patch"],
    ),
    // Each by its name, in the cluster's own namespace; never listed or watched.
    rule("", "secrets", &["get", "create", "patch", "delete"]),
    // Only where a cluster asks for certificates of cert-manager.
    rule(
        "cert-manager.io",
        "certificates",
        &["get", "create", "patch"],
    ),
    rule("cert-manager.io", "issuers", &["get"]),
    rule("cert-manager.io", "clusterissuers", &["get"]),
    rule("events.k8s.io", "events", &["create", "patch"]),
    Rule {
        group: "coordination.k8s.io",
        resource: "leases",
        verbs: &["get", "create", "update"],
        own_namespace: true,
    },
];

/// Every right the operator's calls need.
pub fn rules() -> &'static [Rule] {
    RULES
}
