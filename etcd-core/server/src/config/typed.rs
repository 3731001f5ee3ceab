//! The configuration with types: what the rest of the server reads.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use super::features::FeatureGates;
use super::url::Url;

/// Everything the server was told, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name of this member.
    pub name: String,
    /// Directory that holds everything the member keeps.
    pub data_dir: PathBuf,
    /// Whether `data_dir` is the default made of the name.
    pub data_dir_is_default: bool,
    /// Directory of the log, if it is not in the data directory.
    pub wal_dir: Option<PathBuf>,

    /// Where other members are accepted.
    pub listen_peer_urls: Vec<Url>,
    /// Where clients are accepted.
    pub listen_client_urls: Vec<Url>,
    /// Where HTTP clients are accepted; if any, the others serve gRPC only.
    pub listen_client_http_urls: Vec<Url>,
    /// Where metrics and health are served, and nothing else.
    pub listen_metrics_urls: Vec<Url>,
    /// Peer URLs as other members dial them.
    pub advertise_peer_urls: Vec<Url>,
    /// Client URLs as clients dial them.
    pub advertise_client_urls: Vec<Url>,

    /// The members a new cluster starts with, `name=url,...`.
    pub initial_cluster: String,
    /// Whether to form a cluster or to join one.
    pub initial_cluster_state: ClusterState,
    /// Sets clusters apart that start with the same members.
    pub initial_cluster_token: String,
    /// Refuse membership changes that would cost the quorum.
    pub strict_reconfig_check: bool,
    /// Most learners in the cluster.
    pub max_learners: usize,

    /// Raft's tick.
    pub heartbeat: Duration,
    /// Raft's election timeout.
    pub election_timeout: Duration,
    /// Shorten the wait for the first election.
    pub initial_election_tick_advance: bool,
    /// Raft's PreVote.
    pub pre_vote: bool,
    /// `--enable-grpc-gateway`: JSON under /v3/.
    pub enable_grpc_gateway: bool,

    /// Applied entries between checkpoints.
    pub snapshot_count: u64,
    /// Entries kept for slow followers.
    pub snapshot_catchup_entries: u64,
    /// Log files to keep that no start needs; 0 keeps all.
    pub max_wals: usize,
    /// As given: 0 is the default, negative is no limit.
    pub quota_backend_bytes: i64,
    /// Do not sync the disk.
    pub unsafe_no_fsync: bool,
    /// Make a cluster of this one member.
    pub force_new_cluster: bool,

    /// Most operations in a transaction.
    pub max_txn_ops: usize,
    /// Largest request of a client, in bytes.
    pub max_request_bytes: usize,
    /// Most concurrent streams of a connection.
    pub max_concurrent_streams: u32,
    /// Pings of idle connections, as (pause, wait for the answer).
    pub grpc_keepalive: Option<(Duration, Duration)>,
    /// Shortest pause between pings of a client with calls under way; zero is
    /// gRPC's default.
    pub grpc_keepalive_min_time: Duration,
    /// Options of listening sockets.
    pub socket: SocketOptions,
    /// Timeouts between members.
    pub raft_timeouts: RaftTimeouts,

    /// TLS of the client and metrics listeners.
    pub client_tls: TlsInfo,
    /// TLS of the peer listener and of connections to peers.
    pub peer_tls: TlsInfo,
    /// Years that certificates made here are valid.
    pub self_signed_cert_validity_years: u64,
    /// Origins that browsers may call from; `*` is any.
    pub cors: BTreeSet<String>,
    /// Host names accepted in plain HTTP requests; `*` is any.
    pub host_whitelist: BTreeSet<String>,

    /// Cost of hashing passwords, checked to be 4 to 31.
    pub bcrypt_cost: u32,
    /// How long a simple token lives without use.
    pub auth_token_ttl: Duration,

    /// What automatic compaction leaves, if it is on.
    pub auto_compaction: Option<AutoCompaction>,
    /// Records a compaction visits at a time.
    pub compaction_batch_limit: usize,
    /// Pause between compaction batches.
    pub compaction_sleep_interval: Duration,
    /// Pause between progress notices of a watch.
    pub watch_progress_notify_interval: Duration,
    /// Pause between corruption checks, if they are on.
    pub corrupt_check_time: Option<Duration>,
    /// Pause between comparisons of compaction hashes.
    pub compact_hash_check_time: Duration,
    /// Pause between looks at a downgrade.
    pub downgrade_check_time: Duration,
    /// Entries that take longer to apply are logged.
    pub warning_apply_duration: Duration,
    /// Requests that take longer are logged.
    pub warning_unary_request_duration: Duration,

    /// Histograms of every gRPC method.
    pub extensive_metrics: bool,
    /// Where log lines go.
    pub log: LogConfig,
    /// Feature gates.
    pub features: FeatureGates,
}

/// etcd's quota when none is given, in bytes.
pub const DEFAULT_QUOTA_BYTES: u64 = 2 * 1024 * 1024 * 1024;

impl Config {
    /// Store size that raises NOSPACE, in bytes; `None` is no limit.
    pub fn quota_bytes(&self) -> Option<u64> {
        match self.quota_backend_bytes {
            0 => Some(DEFAULT_QUOTA_BYTES),
            given => u64::try_from(given).ok(),
        }
    }

    /// Where the member's files are: `<data-dir>/member`.
    pub fn member_dir(&self) -> PathBuf {
        self.data_dir.join("member")
    }

    /// Where the log is.
    pub fn wal_dir(&self) -> PathBuf {
        self.wal_dir
            .clone()
            .unwrap_or_else(|| self.member_dir().join("wal"))
    }

    /// Time after which a request is given up: queues and disks, and two
    /// elections.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.election_timeout
    }

    /// Election timeout in ticks.
    pub fn election_ticks(&self) -> u32 {
        let ticks = self.election_timeout.as_millis() / self.heartbeat.as_millis().max(1);
        u32::try_from(ticks).unwrap_or(u32::MAX)
    }
}

/// Whether to form a cluster or to join one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterState {
    /// Form a new one.
    New,
    /// Join a running one.
    Existing,
}

impl ClusterState {
    /// As written in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            ClusterState::New => "new",
            ClusterState::Existing => "existing",
        }
    }
}

/// Options of listening sockets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SocketOptions {
    /// SO_REUSEPORT.
    pub reuse_port: bool,
    /// SO_REUSEADDR.
    pub reuse_address: bool,
}

/// Timeouts of connections between members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RaftTimeouts {
    /// Of a read.
    pub read: Duration,
    /// Of a write.
    pub write: Duration,
}

/// What automatic compaction leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AutoCompaction {
    /// The history of this long.
    Periodic(Duration),
    /// This many revisions.
    Revision(i64),
}

/// TLS of one side, as files; see `crate::tls` for what is made of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsInfo {
    /// Whose flags name the files.
    pub side: TlsSide,
    /// Certificate of the listener.
    pub cert_file: String,
    /// Its key.
    pub key_file: String,
    /// Certificate for own connections, if another.
    pub client_cert_file: String,
    /// Its key.
    pub client_key_file: String,
    /// CA of the other side's certificates.
    pub trusted_ca_file: String,
    /// Require certificates of the other side.
    pub client_cert_auth: bool,
    /// Revocation list, DER or PEM.
    pub crl_file: String,
    /// Make a certificate if none is given.
    pub auto: bool,
    /// The certificate was made here: there is no CA to verify it with.
    pub self_signed: bool,
    /// Common names of which the other side must bear one.
    pub allowed_cns: Vec<String>,
    /// Names of which the other side must bear one.
    pub allowed_hostnames: Vec<String>,
    /// Do not compare the other side's certificate with its address.
    pub skip_client_san_verify: bool,
    /// TLS 1.2 suites to offer, by Go's names; empty is all.
    pub cipher_suites: Vec<String>,
    /// Lowest version.
    pub min_version: TlsVersion,
    /// Highest version.
    pub max_version: TlsVersion,
}

impl TlsInfo {
    /// Whether there is no certificate at all.
    pub fn is_empty(&self) -> bool {
        self.cert_file.is_empty() && self.key_file.is_empty()
    }

    /// Whether the other side must present a certificate.
    pub fn requires_client_cert(&self) -> bool {
        self.client_cert_auth || !self.trusted_ca_file.is_empty()
    }
}

/// Which listeners a [`TlsInfo`] is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TlsSide {
    /// Client and metrics listeners.
    #[default]
    Client,
    /// Peer listeners and connections to peers.
    Peer,
}

impl TlsSide {
    /// The flag of this side for what the client side calls `client` and the
    /// peer side `peer`.
    pub const fn flag(self, client: &'static str, peer: &'static str) -> &'static str {
        match self {
            TlsSide::Client => client,
            TlsSide::Peer => peer,
        }
    }
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// Whatever fits: 1.2 as a lower bound, 1.3 as an upper one.
    #[default]
    Default,
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// Where log lines go and what they look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// What is dropped.
    pub level: LogLevel,
    /// What lines look like.
    pub format: LogFormat,
    /// Where they go; no repetitions.
    pub outputs: Vec<LogOutput>,
    /// When to rotate the file among the outputs.
    pub rotation: Option<LogRotation>,
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        LogConfig {
            level: LogLevel::Info,
            format: LogFormat::Json,
            outputs: vec![LogOutput::Stderr],
            rotation: None,
        }
    }
}

/// Loudness of a line; quieter ones are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// For developers.
    Debug,
    /// For the record.
    Info,
    /// Somebody may want to change something.
    Warn,
    /// Something failed.
    Error,
    /// A programmer's mistake.
    Panic,
    /// The process ends.
    Fatal,
}

impl LogLevel {
    /// As written in a line.
    pub fn as_str(self) -> &'static str {
        match self {
            LogLevel::Debug => "debug",
            LogLevel::Info => "info",
            LogLevel::Warn => "warn",
            LogLevel::Error => "error",
            LogLevel::Panic => "panic",
            LogLevel::Fatal => "fatal",
        }
    }
}

/// What lines look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// Columns for people.
    Console,
}

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogOutput {
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
    /// systemd's journal.
    Journal,
    /// A file, appended to.
    File(PathBuf),
}

/// When to rotate a log file, and what to keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRotation {
    /// Size in megabytes at which the file is put aside.
    pub max_size_mb: u64,
    /// Days after which old files go; 0 is never.
    pub max_age_days: u64,
    /// Old files to keep; 0 is all.
    pub max_backups: u64,
    /// Name old files by local time.
    pub local_time: bool,
}
