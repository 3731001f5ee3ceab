//! Every flag of etcd 3.7, as one table: the parser, the environment, the
//! configuration file, `--help` and `docs/compatibility.md` all read it.

use super::features::GATES;

/// What a flag's value looks like, and so how it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    String,
    /// `--flag` or `--flag=false`; never takes the next argument.
    Bool,
    /// An unsigned 64-bit number.
    Uint,
    /// An unsigned 32-bit number.
    Uint32,
    /// A signed 64-bit number that Go reads as `int`.
    Int,
    /// A signed 64-bit number that Go reads as `int64`.
    Int64,
    /// A span of time in Go's notation.
    Duration,
    /// A comma-separated list of URLs. An empty value changes nothing.
    Urls,
    /// Like `Urls`, or `*`.
    Cors,
    /// A comma-separated list, sorted and without repetitions.
    UniqueStrings,
    /// A comma-separated list in the order given.
    Strings,
    /// One of these texts; the first is the default.
    Selective(&'static [&'static str]),
    /// A comma-separated list of these texts.
    SelectiveList(&'static [&'static str]),
    /// `Name=true|false,...`; repeated flags add up.
    FeatureGates,
}

/// Where `--help` lists a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// The member itself.
    Member,
    /// Forming and joining clusters.
    Clustering,
    /// TLS, CORS and host names.
    Security,
    /// Users and tokens.
    Auth,
    /// Metrics and profiles.
    Monitoring,
    /// Log lines.
    Logging,
    /// OpenTelemetry.
    Tracing,
    /// The rest that is safe.
    Features,
    /// What endangers data.
    Unsafe,
    /// What concerns the command itself.
    Other,
}

impl Group {
    /// The groups in the order of `--help`.
    pub const ALL: [Group; 10] = [
        Group::Member,
        Group::Clustering,
        Group::Security,
        Group::Auth,
        Group::Monitoring,
        Group::Logging,
        Group::Tracing,
        Group::Features,
        Group::Unsafe,
        Group::Other,
    ];

    /// The group's heading.
    pub fn title(self) -> &'static str {
        match self {
            Group::Member => "Member",
            Group::Clustering => "Clustering",
            Group::Security => "Security",
            Group::Auth => "Auth",
            Group::Monitoring => "Profiling and Monitoring",
            Group::Logging => "Logging",
            Group::Tracing => "Distributed tracing",
            Group::Features => "Features",
            Group::Unsafe => "Unsafe feature",
            Group::Other => "Other",
        }
    }
}

/// What this server makes of a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// As in etcd.
    Works,
    /// Read and checked, and without effect for the reason given.
    Accepted(&'static str),
    /// Its feature does not exist yet: any value but the default is refused.
    Missing,
}

/// One flag.
#[derive(Debug, Clone, Copy)]
pub struct Flag {
    /// Its name, without dashes.
    pub name: &'static str,
    /// What its value looks like.
    pub kind: Kind,
    /// Its value when nobody sets it, as text.
    pub default: &'static str,
    /// Where `--help` lists it.
    pub group: Group,
    /// What this server makes of it.
    pub support: Support,
    /// One line for `--help`.
    pub help: &'static str,
}

const fn flag(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    group: Group,
    support: Support,
    help: &'static str,
) -> Flag {
    Flag {
        name,
        kind,
        default,
        group,
        support,
        help,
    }
}

use Group::{
    Auth, Clustering, Features, Logging, Member, Monitoring, Other, Security, Tracing, Unsafe,
};
use Kind::{
    Bool, Cors, Duration, FeatureGates, Int, Int64, Selective, SelectiveList, String, Strings,
    Uint, Uint32, UniqueStrings, Urls,
};
use Support::{Accepted, Missing, Works};

/// Every flag, in the order of `--help`.
#[rustfmt::skip]
pub static FLAGS: &[Flag] = &[
    flag("name", String, "default", Member, Works, "Name of this member."),
    flag("data-dir", String, "", Member, Works, "Directory that holds everything the member keeps; ${name}.etcd when empty."),
    flag("wal-dir", String, "", Member, Works, "Directory of the write-ahead log, if it shall not lie in the data directory."),
    flag("snapshot-count", Uint, "10000", Member, Works, "Applied entries between two checkpoints."),
    flag("heartbeat-interval", Uint, "100", Member, Works, "Heartbeat interval in milliseconds."),
    flag("election-timeout", Uint, "1000", Member, Works, "Election timeout in milliseconds: at least five heartbeats, at most 50000."),
    flag("initial-election-tick-advance", Bool, "true", Member, Works, "Shorten the wait for the first election after a start."),
    flag("listen-peer-urls", Urls, "http://localhost:2380", Member, Works, "URLs to accept other members on."),
    flag("listen-client-urls", Urls, "http://localhost:2379", Member, Works, "URLs to accept clients on, gRPC and HTTP unless --listen-client-http-urls takes HTTP away."),
    flag("listen-client-http-urls", Urls, "", Member, Works, "URLs to accept HTTP clients on; --listen-client-urls then serve gRPC only."),
    flag("max-snapshots", Uint, "5", Member, Accepted("There are no snapshot files to keep; a checkpoint replaces the one before."), "Snapshot files to keep. Deprecated."),
    flag("max-wals", Uint, "5", Member, Works, "Log files to keep that no start needs any more; 0 keeps all."),
    flag("memory-mlock", Bool, "false", Member, Accepted("Memory is not locked; a warning says so."), "Keep the process's memory from being swapped out."),
    flag("quota-backend-bytes", Int64, "0", Member, Works, "Store size that raises the NOSPACE alarm; 0 is 2 GiB, negative is no limit."),
    flag("backend-bbolt-freelist-type", String, "", Member, Accepted("The store has no freelist."), "Kind of bbolt freelist: map or array."),
    flag("backend-batch-interval", Duration, "0s", Member, Accepted("The log is the only thing a write waits for."), "Longest time before the backend commits."),
    flag("backend-batch-limit", Int, "0", Member, Accepted("The log is the only thing a write waits for."), "Most operations before the backend commits."),
    flag("max-txn-ops", Uint, "128", Member, Works, "Most operations in a transaction."),
    flag("max-request-bytes", Uint, "1572864", Member, Works, "Largest request of a client, in bytes."),
    flag("max-concurrent-streams", Uint32, "4294967295", Member, Works, "Most concurrent streams of one client connection."),
    flag("grpc-keepalive-min-time", Duration, "5s", Member, Works, "Shortest pause between a client's pings."),
    flag("grpc-keepalive-interval", Duration, "2h0m0s", Member, Works, "Pause between the server's pings on an idle connection; 0 is never."),
    flag("grpc-keepalive-timeout", Duration, "20s", Member, Works, "Wait for the answer to a ping before the connection is closed; 0 is never."),
    flag("socket-reuse-port", Bool, "false", Member, Works, "Set SO_REUSEPORT on listeners."),
    flag("socket-reuse-address", Bool, "false", Member, Works, "Set SO_REUSEADDR on listeners."),
    flag("enable-grpc-gateway", Bool, "true", Member, Works, "Serve the JSON gateway under /v3/."),
    flag("raft-read-timeout", Duration, "5s", Member, Accepted("Connections between members keep etcd's default."), "Read timeout of a connection between members, at least 5s."),
    flag("raft-write-timeout", Duration, "5s", Member, Accepted("Connections between members keep etcd's default."), "Write timeout of a connection between members, at least 5s."),
    flag("feature-gates", FeatureGates, "", Member, Works, "Feature gates, as name=true|false,... Known gates:"),
    flag("initial-advertise-peer-urls", Urls, "http://localhost:2380", Clustering, Works, "Peer URLs of this member, as the others shall dial them."),
    flag("initial-cluster", String, "default=http://localhost:2380", Clustering, Works, "The members a new cluster starts with: name=peer URL,..."),
    flag("initial-cluster-state", Selective(&["new", "existing"]), "new", Clustering, Works, "new to form a cluster, existing to join one. Ignored once the member has data."),
    flag("initial-cluster-token", String, "etcd-cluster", Clustering, Works, "Sets clusters apart that start with the same members."),
    flag("advertise-client-urls", Urls, "http://localhost:2379", Clustering, Works, "Client URLs of this member, as clients shall dial them."),
    flag("discovery-token", String, "", Clustering, Missing, "Discovery: token of the cluster to form."),
    flag("discovery-endpoints", UniqueStrings, "", Clustering, Missing, "Discovery: endpoints of the discovery service."),
    flag("discovery-dial-timeout", Duration, "2s", Clustering, Accepted("Discovery does not exist yet."), "Discovery: time to connect."),
    flag("discovery-request-timeout", Duration, "5s", Clustering, Accepted("Discovery does not exist yet."), "Discovery: time for a request."),
    flag("discovery-keepalive-time", Duration, "2s", Clustering, Accepted("Discovery does not exist yet."), "Discovery: pause between pings."),
    flag("discovery-keepalive-timeout", Duration, "6s", Clustering, Accepted("Discovery does not exist yet."), "Discovery: wait for the answer to a ping."),
    flag("discovery-insecure-transport", Bool, "true", Clustering, Accepted("Discovery does not exist yet."), "Discovery: do not use TLS."),
    flag("discovery-insecure-skip-tls-verify", Bool, "false", Clustering, Accepted("Discovery does not exist yet."), "Discovery: do not verify the service's certificate."),
    flag("discovery-cert", String, "", Clustering, Accepted("Discovery does not exist yet."), "Discovery: client certificate file."),
    flag("discovery-key", String, "", Clustering, Accepted("Discovery does not exist yet."), "Discovery: client key file."),
    flag("discovery-cacert", String, "", Clustering, Accepted("Discovery does not exist yet."), "Discovery: CA file."),
    flag("discovery-user", String, "", Clustering, Accepted("Discovery does not exist yet."), "Discovery: user name[:password]."),
    flag("discovery-password", String, "", Clustering, Accepted("Discovery does not exist yet."), "Discovery: password."),
    flag("discovery-fallback", Selective(&["exit", "proxy"]), "exit", Clustering, Accepted("Discovery that fails ends the process, the one value there is."), "What to do when discovery fails: exit."),
    flag("discovery-srv", String, "", Clustering, Missing, "DNS domain whose SRV records name the members."),
    flag("discovery-srv-name", String, "", Clustering, Missing, "Suffix of the SRV service name."),
    flag("strict-reconfig-check", Bool, "true", Clustering, Works, "Refuse membership changes that would cost the quorum."),
    flag("pre-vote", Bool, "true", Clustering, Works, "Ask before an election, so that a member that was cut off disturbs nobody."),
    flag("auto-compaction-retention", String, "0", Clustering, Works, "History that automatic compaction leaves; 0 is off."),
    flag("auto-compaction-mode", String, "periodic", Clustering, Works, "periodic counts the retention in time (hours without a unit), revision in revisions."),
    flag("v2-deprecation", SelectiveList(&["write-only", "write-only-skip-check", "write-only-drop-data", "gone"]), "", Clustering, Accepted("There is no v2 store."), "Stage of the v2 store's removal. Ignored."),
    flag("cert-file", String, "", Security, Works, "Certificate of the client listener."),
    flag("key-file", String, "", Security, Works, "Key of the client listener."),
    flag("client-cert-auth", Bool, "false", Security, Works, "Require client certificates."),
    flag("client-cert-file", String, "", Security, Works, "Certificate for connections to client listeners, if another than --cert-file."),
    flag("client-key-file", String, "", Security, Works, "Key for --client-cert-file."),
    flag("client-crl-file", String, "", Security, Works, "Revocation list for client certificates, DER."),
    flag("client-cert-allowed-hostname", Strings, "", Security, Works, "Names of which a client certificate must bear one."),
    flag("trusted-ca-file", String, "", Security, Works, "CA that client certificates must come from."),
    flag("auto-tls", Bool, "false", Security, Works, "Make a certificate for the client listener."),
    flag("peer-cert-file", String, "", Security, Works, "Certificate of the peer listener."),
    flag("peer-key-file", String, "", Security, Works, "Key of the peer listener."),
    flag("peer-client-cert-auth", Bool, "false", Security, Works, "Require certificates of other members."),
    flag("peer-client-cert-file", String, "", Security, Works, "Certificate for connections to other members, if another than --peer-cert-file."),
    flag("peer-client-key-file", String, "", Security, Works, "Key for --peer-client-cert-file."),
    flag("peer-trusted-ca-file", String, "", Security, Works, "CA that other members' certificates must come from."),
    flag("peer-cert-allowed-cn", Strings, "", Security, Works, "Common names of which a member's certificate must bear one."),
    flag("peer-cert-allowed-hostname", Strings, "", Security, Works, "Names of which a member's certificate must bear one."),
    flag("peer-auto-tls", Bool, "false", Security, Works, "Make a certificate for the peer listener."),
    flag("self-signed-cert-validity", Uint, "1", Security, Works, "Years that a certificate made here is valid."),
    flag("peer-crl-file", String, "", Security, Works, "Revocation list for members' certificates, DER."),
    flag("peer-skip-client-san-verification", Bool, "false", Security, Works, "Do not compare a member's certificate with its address."),
    flag("cipher-suites", Strings, "", Security, Works, "TLS 1.2 cipher suites to offer; empty is all of them."),
    flag("cors", Cors, "*", Security, Works, "Origins that browsers may call from; * is any."),
    flag("host-whitelist", UniqueStrings, "*", Security, Works, "Host names accepted in plain HTTP requests; * is any."),
    flag("tls-min-version", String, "TLS1.2", Security, Works, "Lowest TLS version: TLS1.2 or TLS1.3."),
    flag("tls-max-version", String, "", Security, Works, "Highest TLS version: TLS1.2 or TLS1.3; empty is the newest."),
    flag("auth-token", String, "simple", Auth, Works, "Kind of authentication token: simple, or jwt with options."),
    flag("bcrypt-cost", Uint, "10", Auth, Accepted("Authentication does not exist yet."), "Cost of hashing passwords, 4 to 31."),
    flag("auth-token-ttl", Uint, "300", Auth, Accepted("Authentication does not exist yet."), "Seconds a simple token lives without use."),
    flag("enable-pprof", Bool, "false", Monitoring, Accepted("There is no Go runtime to profile; a warning says so."), "Serve /debug/pprof/."),
    flag("metrics", String, "basic", Monitoring, Works, "basic, or extensive for histograms of every gRPC method."),
    flag("listen-metrics-urls", Urls, "", Monitoring, Works, "URLs that serve /metrics and /health only."),
    flag("logger", String, "zap", Logging, Works, "Log format family; zap is the only one."),
    flag("log-outputs", UniqueStrings, "default", Logging, Works, "Where log lines go: stderr, stdout, systemd/journal or paths."),
    flag("log-level", String, "info", Logging, Works, "debug, info, warn, error, panic or fatal."),
    flag("log-format", String, "json", Logging, Works, "json or console."),
    flag("enable-log-rotation", Bool, "false", Logging, Works, "Rotate the one file named in --log-outputs."),
    flag("log-rotation-config-json", String, "{\"maxsize\": 100, \"maxage\": 0, \"maxbackups\": 0, \"localtime\": false, \"compress\": false}", Logging, Works, "When to rotate (megabytes), and what to keep (days, files)."),
    flag("warning-unary-request-duration", Duration, "300ms", Logging, Works, "Log requests that take longer."),
    flag("enable-distributed-tracing", Bool, "false", Tracing, Missing, "Export traces."),
    flag("distributed-tracing-address", String, "localhost:4317", Tracing, Accepted("Tracing does not exist yet."), "Collector's address."),
    flag("distributed-tracing-service-name", String, "etcd", Tracing, Accepted("Tracing does not exist yet."), "Service name in traces."),
    flag("distributed-tracing-instance-id", String, "", Tracing, Accepted("Tracing does not exist yet."), "Instance ID in traces."),
    flag("distributed-tracing-sampling-rate", Int, "0", Tracing, Accepted("Tracing does not exist yet."), "Traced requests per million."),
    flag("corrupt-check-time", Duration, "0s", Features, Works, "Pause between corruption checks of the cluster; 0 is never."),
    flag("compact-hash-check-time", Duration, "1m0s", Features, Works, "Pause between comparisons of compaction hashes."),
    flag("compaction-batch-limit", Int, "0", Features, Accepted("Compaction paces itself."), "Records a compaction visits at a time; 0 is 1000."),
    flag("compaction-sleep-interval", Duration, "0s", Features, Accepted("Compaction paces itself."), "Pause between compaction batches; 0 is 10ms."),
    flag("watch-progress-notify-interval", Duration, "0s", Features, Works, "Pause between progress notices; 0 is 10m."),
    flag("warning-apply-duration", Duration, "100ms", Features, Works, "Log entries that take longer to apply."),
    flag("bootstrap-defrag-threshold-megabytes", Uint, "0", Features, Accepted("The store frees space by itself, without a pause."), "Defragment at start if this much would be freed."),
    flag("max-learners", Int, "1", Features, Works, "Most learners in the cluster."),
    flag("downgrade-check-time", Duration, "5s", Features, Accepted("Downgrades do not exist yet."), "Pause between looks at a downgrade."),
    flag("snapshot-catchup-entries", Uint, "5000", Features, Works, "Entries kept for slow followers."),
    flag("force-new-cluster", Bool, "false", Unsafe, Works, "Make a cluster of this one member, from its data."),
    flag("unsafe-no-fsync", Bool, "false", Unsafe, Works, "Do not sync the disk. Loses data."),
    flag("config-file", String, "", Other, Works, "YAML file with the configuration; flags and environment are ignored then."),
    flag("version", Bool, "false", Other, Works, "Print the version and exit."),
];

/// Flags that etcd still takes and ignores, whatever their value.
pub static IGNORED: &[&str] = &[
    "cluster-active-size",
    "cluster-remove-delay",
    "cluster-sync-interval",
    "config",
    "force",
    "max-result-buffer",
    "max-retry-attempts",
    "peer-heartbeat-interval",
    "peer-election-timeout",
    "retry-interval",
    "snapshot",
    "v",
    "vv",
    "test.coverprofile",
    "test.outputdir",
];

/// `experimental-` names of etcd 3.5 and 3.6 that became flags of their own.
pub static ALIASES: &[(&str, &str)] = &[
    (
        "experimental-bootstrap-defrag-threshold-megabytes",
        "bootstrap-defrag-threshold-megabytes",
    ),
    (
        "experimental-compact-hash-check-time",
        "compact-hash-check-time",
    ),
    (
        "experimental-compaction-batch-limit",
        "compaction-batch-limit",
    ),
    (
        "experimental-compaction-sleep-interval",
        "compaction-sleep-interval",
    ),
    ("experimental-corrupt-check-time", "corrupt-check-time"),
    (
        "experimental-distributed-tracing-address",
        "distributed-tracing-address",
    ),
    (
        "experimental-distributed-tracing-instance-id",
        "distributed-tracing-instance-id",
    ),
    (
        "experimental-distributed-tracing-sampling-rate",
        "distributed-tracing-sampling-rate",
    ),
    (
        "experimental-distributed-tracing-service-name",
        "distributed-tracing-service-name",
    ),
    ("experimental-downgrade-check-time", "downgrade-check-time"),
    (
        "experimental-enable-distributed-tracing",
        "enable-distributed-tracing",
    ),
    ("experimental-memory-mlock", "memory-mlock"),
    (
        "experimental-peer-skip-client-san-verification",
        "peer-skip-client-san-verification",
    ),
    (
        "experimental-snapshot-catchup-entries",
        "snapshot-catchup-entries",
    ),
    // The spelling of etcd 3.6's configuration file.
    (
        "experimental-snapshot-catch-up-entries",
        "snapshot-catchup-entries",
    ),
    (
        "experimental-warning-apply-duration",
        "warning-apply-duration",
    ),
    (
        "experimental-warning-unary-request-duration",
        "warning-unary-request-duration",
    ),
    (
        "experimental-watch-progress-notify-interval",
        "watch-progress-notify-interval",
    ),
];

/// `experimental-` switches that became feature gates.
pub static GATE_ALIASES: &[(&str, &str)] = &[
    (
        "experimental-compact-hash-check-enabled",
        "CompactHashCheck",
    ),
    ("experimental-initial-corrupt-check", "InitialCorruptCheck"),
    ("experimental-enable-lease-checkpoint", "LeaseCheckpoint"),
    (
        "experimental-enable-lease-checkpoint-persist",
        "LeaseCheckpointPersist",
    ),
    (
        "experimental-stop-grpc-service-on-defrag",
        "StopGRPCServiceOnDefrag",
    ),
    (
        "experimental-txn-mode-write-with-shared-buffer",
        "TxnModeWriteWithSharedBuffer",
    ),
];

/// What a name on the command line, in the environment or in a file means.
#[derive(Debug, Clone, Copy)]
pub enum Named {
    /// A flag under its own name.
    Flag(&'static Flag),
    /// A flag under its `experimental-` name.
    Alias(&'static str, &'static Flag),
    /// A feature gate under its `experimental-` name.
    Gate(&'static str, &'static str),
    /// A name that is taken and ignored.
    Ignored(&'static str),
}

impl Named {
    /// Looks a name up; `None` if etcd has never had it.
    pub fn find(name: &str) -> Option<Named> {
        if let Some(flag) = FLAGS.iter().find(|flag| flag.name == name) {
            return Some(Named::Flag(flag));
        }
        if let Some((alias, target)) = ALIASES.iter().find(|(alias, _)| *alias == name) {
            let flag = FLAGS.iter().find(|flag| flag.name == *target)?;
            return Some(Named::Alias(alias, flag));
        }
        if let Some((alias, gate)) = GATE_ALIASES.iter().find(|(alias, _)| *alias == name) {
            return Some(Named::Gate(alias, gate));
        }
        let ignored = IGNORED.iter().find(|ignored| **ignored == name)?;
        Some(Named::Ignored(ignored))
    }

    /// Whether the flag stands alone on a command line.
    pub fn is_bool(&self) -> bool {
        match self {
            Named::Flag(flag) | Named::Alias(_, flag) => flag.kind == Kind::Bool,
            Named::Gate(..) | Named::Ignored(_) => true,
        }
    }

    /// The name it was found under.
    pub fn name(&self) -> &'static str {
        match self {
            Named::Flag(flag) => flag.name,
            Named::Alias(name, _) | Named::Gate(name, _) | Named::Ignored(name) => name,
        }
    }
}

/// Every name that may be set, for the walk over the environment.
pub fn names() -> impl Iterator<Item = &'static str> {
    FLAGS
        .iter()
        .map(|flag| flag.name)
        .chain(ALIASES.iter().map(|(alias, _)| *alias))
        .chain(GATE_ALIASES.iter().map(|(alias, _)| *alias))
        .chain(IGNORED.iter().copied())
}

/// The environment variable of a flag: `ETCD_` and its name in capitals.
pub fn variable(name: &str) -> std::string::String {
    format!("ETCD_{}", name.to_ascii_uppercase().replace('-', "_"))
}

/// What `etcd --help` prints to standard output.
pub fn help() -> std::string::String {
    let mut text = std::string::String::new();
    for group in Group::ALL {
        text.push_str(&format!("\n{}:\n", group.title()));
        for flag in FLAGS.iter().filter(|flag| flag.group == group) {
            text.push_str(&format!(
                "  --{} '{}'\n    {}\n",
                flag.name, flag.default, flag.help
            ));
            if flag.kind == Kind::FeatureGates {
                for gate in GATES {
                    text.push_str(&format!(
                        "    {}=true|false ({} - default={})\n",
                        gate.name,
                        gate.stage.as_str(),
                        gate.default
                    ));
                }
            }
            match flag.support {
                Support::Works => {}
                Support::Accepted(why) => text.push_str(&format!("    (No effect. {why})\n")),
                Support::Missing => text.push_str("    (Not implemented yet.)\n"),
            }
        }
    }
    text
}

/// What precedes every complaint about the command line.
pub const USAGE: &str = "\
Usage:

  etcd [flags]
    Start an etcd server.

  etcd --version
    Show the version.

  etcd -h | --help
    Show the flags.

  etcd --config-file FILE
    Start a server from a YAML file; other flags and the environment are ignored.
    Durations in it are integers, in nanoseconds.
";

/// The flags as a table in Markdown, for `docs/compatibility.md`.
pub fn markdown() -> std::string::String {
    let mut text = "|flag|default|support|\n|-|-|-|\n".to_owned();
    for flag in FLAGS {
        let support = match flag.support {
            Support::Works => "works",
            Support::Accepted(why) => &format!("accepted, no effect: {why}"),
            Support::Missing => "not implemented: any value but the default is refused",
        };
        let default = flag.default.replace('|', "\\|");
        text.push_str(&format!("|{}|{default}|{support}|\n", flag.name));
    }
    for (alias, target) in ALIASES {
        text.push_str(&format!("|{alias}||same as {target}|\n"));
    }
    for (alias, gate) in GATE_ALIASES {
        text.push_str(&format!("|{alias}||same as feature gate {gate}|\n"));
    }
    for ignored in IGNORED {
        text.push_str(&format!("|{ignored}||accepted and ignored, as in etcd|\n"));
    }
    text
}
