//! Names of labels, annotations and the domain they live under.

/// The API group, and the prefix of every label and annotation of ours.
pub const GROUP: &str = "etcd-core.io";

/// Value of `app.kubernetes.io/managed-by` on everything the operator makes.
pub const MANAGED_BY: &str = "etcd-operator";
/// Standard label that marks what the operator made; caches select on it.
pub const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Standard label naming the application.
pub const LABEL_NAME: &str = "app.kubernetes.io/name";
/// Standard label naming the `EtcdCluster`.
pub const LABEL_INSTANCE: &str = "app.kubernetes.io/instance";
/// Name of the `EtcdCluster` an object belongs to; every selector uses it.
pub const LABEL_CLUSTER: &str = "etcd-core.io/cluster";
/// Name of the member an object belongs to.
pub const LABEL_MEMBER: &str = "etcd-core.io/member";
/// `voter` once a member was promoted; the PodDisruptionBudget selects it.
pub const LABEL_ROLE: &str = "etcd-core.io/role";
/// Value of [`LABEL_ROLE`] for a voting member.
pub const ROLE_VOTER: &str = "voter";

/// On a pod: the ticket that admits it to start on an empty disk (JSON).
pub const ANNOTATION_TICKET: &str = "etcd-core.io/ticket";
/// On a StatefulSet and its pods: digest of the pod template as rendered.
pub const ANNOTATION_TEMPLATE: &str = "etcd-core.io/template";
/// On a StatefulSet: digest of those fields of the spec that shape the pods. It
/// tells a change the user asked for from one a new operator brings along.
pub const ANNOTATION_SPEC: &str = "etcd-core.io/pod-spec";
/// On an `EtcdCluster`: changing it restarts the members, one after the other, as
/// `kubectl rollout restart` does. The pods bear it too.
pub const ANNOTATION_RESTARTED: &str = "etcd-core.io/restarted-at";
/// On a claim: the etcd cluster ID (hex) its data belongs to. Absent: no ticket
/// was ever issued for it, so it is blank.
pub const ANNOTATION_CLUSTER_ID: &str = "etcd-core.io/cluster-id";
/// On a claim: the etcd member ID (hex) its data belongs to.
pub const ANNOTATION_MEMBER_ID: &str = "etcd-core.io/member-id";
/// On a claim: why its member left. A retired claim is never mounted again.
pub const ANNOTATION_RETIRED: &str = "etcd-core.io/retired";
/// On a claim: `https` if its member's log names peers by https URLs.
pub const ANNOTATION_PEER_SCHEME: &str = "etcd-core.io/peer-scheme";
/// On an `EtcdCluster`, set by a person: a new value replaces the operator's own CAs,
/// in two phases.
pub const ANNOTATION_ROTATE_CA: &str = "etcd-core.io/rotate-ca";
/// On a CA's Secret: the phase its replacement is in.
pub const ANNOTATION_ROTATION: &str = "etcd-core.io/rotation";
/// On a CA's Secret: when that phase began. On the Secret for clients: when they last
/// had something new to load.
pub const ANNOTATION_ROTATION_SINCE: &str = "etcd-core.io/rotation-since";
/// On a Secret with certificates: fingerprints of the CAs that vouched for the ones
/// before, `client=...,peer=...`.
pub const ANNOTATION_PREVIOUS_CA: &str = "etcd-core.io/previous-ca";
/// On a pod: schemes its etcd listens with, `client=https,peer=http` or `client=both`.
pub const ANNOTATION_SCHEMES: &str = "etcd-core.io/schemes";
/// On a pod: digest of its certificates. The kubelet looks at a pod anew, and at the
/// Secrets it mounts, when an annotation changes.
pub const ANNOTATION_CERTIFICATES: &str = "etcd-core.io/certificates";
/// On a StatefulSet and its pods while a restore is under way: what the pod is there
/// for, `held:<restore>` or `restored:<token>`.
pub const ANNOTATION_START: &str = "etcd-core.io/start";
/// On the Jobs and Deployments of runs, and on their pods: what the run does.
pub const LABEL_RUN: &str = "etcd-core.io/run";
/// On the same: which object it is a run of, `backup.<name>`, `schedule.<name>` or
/// `restore.<name>`.
pub const LABEL_RUN_OF: &str = "etcd-core.io/run-of";
/// On an `EtcdBackup`: the `EtcdBackupSchedule` that made it.
pub const LABEL_SCHEDULE: &str = "etcd-core.io/schedule";
/// On an `EtcdBackup` that a schedule made: the time it was made for.
pub const ANNOTATION_SCHEDULED_AT: &str = "etcd-core.io/scheduled-at";
/// On an `EtcdBackup`: changing it verifies what is stored once more.
pub const ANNOTATION_VERIFY: &str = "etcd-core.io/verify";
/// On an `EtcdBackup` whose `deletionPolicy` is Delete: what is stored goes first.
pub const FINALIZER_ARTIFACT: &str = "etcd-core.io/artifact";
