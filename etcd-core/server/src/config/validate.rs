//! From texts to types, and everything that can be wrong between two flags.
//! The checks run in etcd's order, so that of two mistakes the same one is
//! reported; the messages are etcd's, because scripts look for them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use super::duration::{DurationError, GoDuration};
use super::features::GATES;
use super::flag::{FLAGS, GATE_ALIASES, Kind, Support};
use super::log_options::{self, LogError};
use super::note::Note;
use super::number::{parse_bool, parse_int, parse_uint};
use super::raw::RawConfig;
use super::typed::{
    AutoCompaction, ClusterState, Config, LogConfig, RaftTimeouts, SocketOptions, TlsInfo, TlsSide,
    TlsVersion,
};
use super::url::{AddressError, Url, parse_list, split_host_port};

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ValidateError {
    /// `--discovery-fallback=proxy`.
    #[error("v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\"")]
    ProxyFallback,
    /// A log option.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A listener on a name instead of an address.
    #[error("expected IP in URL for binding ({0})")]
    BindName(Url),
    /// A URL that is no address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// A peer URL that nobody can dial.
    #[error("--initial-advertise-peer-urls {urls:?} must be \"host:port\" ({reason})")]
    AdvertisePeer {
        /// The list.
        urls: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A client URL that nobody can dial.
    #[error(
        "--advertise-client-urls {urls:?} must be in the format \"host:port\", \"unix:/path/to/socket\" or \"unixs:/path/to/socket\" ({reason})"
    )]
    AdvertiseClient {
        /// The list.
        urls: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Neither new nor existing, in a file.
    #[error("unexpected clusterState {0:?}")]
    ClusterState(String),
    /// More than one way to find the other members.
    #[error(
        "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \"discovery-endpoints\" or \"discovery-srv\""
    )]
    ConflictingBootstrap,
    /// Half of discovery.
    #[error("both --discovery-token and --discovery-endpoints must be set")]
    HalfDiscovery,
    /// An empty endpoint.
    #[error("--discovery-endpoints must not contain empty endpoints")]
    EmptyEndpoint,
    /// No heartbeat.
    #[error("--heartbeat-interval must be >0 (set to {0}ms)")]
    Heartbeat(u64),
    /// No election timeout.
    #[error("--election-timeout must be >0 (set to {0}ms)")]
    Election(u64),
    /// Less than five heartbeats to an election.
    #[error(
        "--election-timeout[{election}ms] should be at least as 5 times as --heartbeat-interval[{heartbeat}ms]"
    )]
    ElectionTooShort {
        /// Election timeout, in milliseconds.
        election: u64,
        /// Heartbeat, in milliseconds.
        heartbeat: u64,
    },
    /// More than fifty seconds to an election.
    #[error("--election-timeout[{0}ms] is too long, and should be set less than 50000ms")]
    ElectionTooLong(u64),
    /// Clients are accepted where nobody is told of.
    #[error("--advertise-client-urls is required when --listen-client-urls is set explicitly")]
    UnsetAdvertiseClientUrls,
    /// No compaction mode.
    #[error("undefined auto-compaction-mode")]
    UndefinedCompactionMode,
    /// Neither periodic nor revision.
    #[error("unknown auto-compaction-mode {0:?}")]
    CompactionMode(String),
    /// A gate without the one it needs.
    #[error(
        "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint"
    )]
    PersistWithoutCheckpoint,
    /// No pause between hash checks.
    #[error("--compact-hash-check-time must be >0 (set to {0})")]
    CompactHashCheckTime(GoDuration),
    /// A version there is not.
    #[error("unexpected TLS version {0:?} (must be one of: TLS1.2, TLS1.3)")]
    TlsVersion(String),
    /// The lowest version is above the highest.
    #[error("min version ({min}) is greater than max version ({max})")]
    TlsVersions {
        /// Lowest.
        min: String,
        /// Highest.
        max: String,
    },
    /// Suites that no connection would use.
    #[error("cipher suites cannot be configured when only TLS1.3 is enabled")]
    SuitesWithTls13,
    /// A suite there is not.
    #[error("unexpected TLS cipher suite {0:?}")]
    CipherSuite(String),
    /// A retention that is neither a number nor a span of time.
    #[error("error parsing CompactionRetention: {0}")]
    CompactionRetention(#[source] DurationError),
    /// A switch given under its old name and as a feature gate.
    #[error(
        "cannot specify both flags: --{alias}={value} and --feature-gates={gate}={enabled} at the same time, please just use --feature-gates={gate}={enabled}"
    )]
    GateTwice {
        /// The old name.
        alias: &'static str,
        /// Its value.
        value: bool,
        /// The gate.
        gate: &'static str,
        /// The gate's value.
        enabled: bool,
    },
    /// A flag given under its old name and its new one.
    #[error(
        "both --experimental-warning-unary-request-duration and --warning-unary-request-duration flags are set. Use only --warning-unary-request-duration"
    )]
    WarningTwice,
    /// https on a client listener without a certificate.
    #[error(
        "TLS key/cert (--cert-file, --key-file) must be provided for client url {0} with HTTPS scheme"
    )]
    ClientCertMissing(Url),
    /// https on a peer listener without a certificate.
    #[error("cannot listen on TLS for {0}: KeyFile and CertFile are not presented")]
    PeerCertMissing(String),
    /// https on a metrics listener without a certificate.
    #[error(
        "client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url"
    )]
    MetricsCertMissing,
    /// gRPC and HTTP-only on one address.
    #[error(
        "cannot bind both --listen-client-urls and --listen-client-http-urls on the same url {0}"
    )]
    HttpOnGrpcUrl(Url),
    /// Both kinds of allowed names.
    #[error(
        "AllowedCNs and AllowedHostnames are mutually exclusive (cns={cns:?}, hostnames={hostnames:?})"
    )]
    AllowedTwice {
        /// Common names.
        cns: Vec<String>,
        /// Host names.
        hostnames: Vec<String>,
    },
    /// Tokens of a kind there is not.
    #[error("auth: invalid auth options")]
    AuthToken,
    /// A feature that does not exist here yet.
    #[error(
        "--{flag} is not implemented by this server yet (set to {value:?}); leave it at its default"
    )]
    Missing {
        /// The flag.
        flag: &'static str,
        /// What was given.
        value: String,
    },
}

/// Longest election timeout, in milliseconds.
const MAX_ELECTION_MS: u64 = 50_000;

/// Gives types to `raw`. `from_file` tells that it came from a file, where
/// some defaults work differently.
pub fn validate(
    raw: &RawConfig,
    from_file: bool,
    notes: &mut Vec<Note>,
) -> Result<Config, ValidateError> {
    let text = |name: &str| raw.get(name).to_owned();
    let number = |name: &str| parse_uint(raw.get(name), 64).unwrap_or_default();
    let signed = |name: &str| parse_int(raw.get(name)).unwrap_or_default();
    let flag = |name: &str| parse_bool(raw.get(name)).unwrap_or_default();
    let span = |name: &str| GoDuration::parse(raw.get(name)).unwrap_or_default();
    let strings = |name: &str| list(raw.get(name));

    let features = gates(raw)?;
    if raw.get("discovery-fallback") == "proxy" {
        return Err(ValidateError::ProxyFallback);
    }
    let log: LogConfig = log_options::read(raw)?;

    let listen_peer_urls = urls(raw, "listen-peer-urls");
    let listen_client_urls = urls(raw, "listen-client-urls");
    let listen_client_http_urls = urls(raw, "listen-client-http-urls");
    let listen_metrics_urls = urls(raw, "listen-metrics-urls");
    let advertise_peer_urls = urls(raw, "initial-advertise-peer-urls");
    let lonely =
        !from_file && raw.is_set("listen-client-urls") && !raw.is_set("advertise-client-urls");
    let advertise_client_urls = match lonely {
        true => Vec::new(),
        false => urls(raw, "advertise-client-urls"),
    };
    for list in [
        &listen_peer_urls,
        &listen_client_urls,
        &listen_client_http_urls,
    ] {
        check_bind(list)?;
    }
    if listen_client_http_urls.is_empty() {
        notes.push(Note::warn(
            "Running http and grpc server on single port. This is not recommended for production.",
            "",
        ));
    }
    check_bind(&listen_metrics_urls)?;
    let joined = |urls: &[Url]| super::url::texts(urls).join(",");
    check_dial(&advertise_peer_urls).map_err(|reason| ValidateError::AdvertisePeer {
        urls: joined(&advertise_peer_urls),
        reason,
    })?;
    check_dial(&advertise_client_urls).map_err(|reason| ValidateError::AdvertiseClient {
        urls: joined(&advertise_client_urls),
        reason,
    })?;

    let initial_cluster_state = match raw.get("initial-cluster-state") {
        "new" => ClusterState::New,
        "existing" => ClusterState::Existing,
        "" if from_file => ClusterState::New,
        other => return Err(ValidateError::ClusterState(other.to_owned())),
    };
    check_discovery(raw, from_file)?;

    let (heartbeat, election) = (number("heartbeat-interval"), number("election-timeout"));
    check_timing(heartbeat, election)?;
    if lonely {
        return Err(ValidateError::UnsetAdvertiseClientUrls);
    }
    let mode = raw.get("auto-compaction-mode");
    match mode {
        "periodic" | "revision" => {}
        "" => return Err(ValidateError::UndefinedCompactionMode),
        other => return Err(ValidateError::CompactionMode(other.to_owned())),
    }
    match (features.enabled("LeaseCheckpoint"), features.enabled("LeaseCheckpointPersist")) {
        (false, true) => return Err(ValidateError::PersistWithoutCheckpoint),
        (true, false) => notes.push(Note::warn(
            "Detected that checkpointing is enabled without persistence. Consider enabling feature gate LeaseCheckpointPersist",
            "",
        )),
        _ => {}
    }
    let compact_hash_check_time = span("compact-hash-check-time");
    if compact_hash_check_time.0 <= 0 {
        return Err(ValidateError::CompactHashCheckTime(compact_hash_check_time));
    }
    let name = text("name");
    if name == "default" {
        notes.push(Note::warn(
            "it isn't recommended to use default name, please set a value for --name. Note that etcd might run into issue when multiple members have the same default name",
            "default",
        ));
    }
    let (client_tls, peer_tls) = tls(raw)?;
    check_certificates(
        &client_tls,
        &peer_tls,
        [
            &listen_peer_urls,
            &listen_client_urls,
            &listen_client_http_urls,
            &listen_metrics_urls,
        ],
    )?;
    let auto_compaction = compaction(mode, raw.get("auto-compaction-retention"))?;
    check_support(raw, notes)?;
    for gate in GATES.iter().filter(|gate| features.is_set(gate.name)) {
        if features.enabled(gate.name) != gate.default {
            notes.push(Note::warn(
                "feature gate has no effect in this server yet",
                gate.name,
            ));
        }
    }

    let data_dir = raw.get("data-dir");
    let or = |given: u64, default: u64| if given == 0 { default } else { given };
    Ok(Config {
        data_dir: match data_dir {
            "" => PathBuf::from(format!("{name}.etcd")),
            given => PathBuf::from(given),
        },
        data_dir_is_default: data_dir.is_empty(),
        wal_dir: Some(raw.get("wal-dir"))
            .filter(|d| !d.is_empty())
            .map(PathBuf::from),
        name,
        listen_peer_urls,
        listen_client_urls,
        listen_client_http_urls,
        listen_metrics_urls,
        advertise_peer_urls,
        advertise_client_urls,
        initial_cluster: text("initial-cluster"),
        initial_cluster_state,
        initial_cluster_token: text("initial-cluster-token"),
        strict_reconfig_check: flag("strict-reconfig-check"),
        max_learners: usize::try_from(signed("max-learners")).unwrap_or(0),
        heartbeat: Duration::from_millis(heartbeat),
        election_timeout: Duration::from_millis(election),
        initial_election_tick_advance: flag("initial-election-tick-advance"),
        pre_vote: flag("pre-vote"),
        enable_grpc_gateway: flag("enable-grpc-gateway"),
        snapshot_count: or(number("snapshot-count"), 10_000),
        snapshot_catchup_entries: number("snapshot-catchup-entries"),
        max_wals: usize_of(number("max-wals")),
        quota_backend_bytes: signed("quota-backend-bytes"),
        unsafe_no_fsync: flag("unsafe-no-fsync"),
        force_new_cluster: flag("force-new-cluster"),
        max_txn_ops: usize_of(number("max-txn-ops")),
        max_request_bytes: usize_of(number("max-request-bytes")),
        max_concurrent_streams: u32::try_from(number("max-concurrent-streams")).unwrap_or(u32::MAX),
        grpc_keepalive_min_time: span("grpc-keepalive-min-time").to_std(),
        grpc_keepalive: match (
            span("grpc-keepalive-interval"),
            span("grpc-keepalive-timeout"),
        ) {
            (pause, wait) if pause.0 > 0 && wait.0 > 0 => Some((pause.to_std(), wait.to_std())),
            _ => None,
        },
        socket: SocketOptions {
            reuse_port: flag("socket-reuse-port"),
            reuse_address: flag("socket-reuse-address"),
        },
        raft_timeouts: RaftTimeouts {
            read: at_least_five_seconds("raft-read-timeout", span("raft-read-timeout"), notes),
            write: at_least_five_seconds("raft-write-timeout", span("raft-write-timeout"), notes),
        },
        client_tls,
        peer_tls,
        self_signed_cert_validity_years: or(
            number("self-signed-cert-validity"),
            u64::from(from_file),
        ),
        cors: strings("cors").into_iter().collect(),
        host_whitelist: strings("host-whitelist").into_iter().collect(),
        bcrypt_cost: bcrypt_cost(number("bcrypt-cost"), notes),
        auth_token_ttl: Duration::from_secs(number("auth-token-ttl")),
        auto_compaction,
        compaction_batch_limit: usize_of(or(number("compaction-batch-limit"), 1000)),
        compaction_sleep_interval: match span("compaction-sleep-interval").to_std() {
            Duration::ZERO => Duration::from_millis(10),
            given => given,
        },
        watch_progress_notify_interval: progress_interval(
            span("watch-progress-notify-interval"),
            notes,
        ),
        corrupt_check_time: Some(span("corrupt-check-time").to_std()).filter(|d| !d.is_zero()),
        compact_hash_check_time: compact_hash_check_time.to_std(),
        downgrade_check_time: span("downgrade-check-time").to_std(),
        warning_apply_duration: span("warning-apply-duration").to_std(),
        warning_unary_request_duration: match span("warning-unary-request-duration").to_std() {
            Duration::ZERO => Duration::from_millis(300),
            given => given,
        },
        extensive_metrics: raw.get("metrics") == "extensive",
        log,
        features,
    })
}

fn usize_of(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn list(text: &str) -> Vec<String> {
    match text {
        "" => Vec::new(),
        text => text.split(',').map(str::to_owned).collect(),
    }
}

fn urls(raw: &RawConfig, name: &str) -> Vec<Url> {
    // Every text was parsed when it was set; the empty one is no list.
    let mut urls = parse_list(raw.get(name)).unwrap_or_default();
    urls.dedup();
    urls
}

/// The feature gates, with those set under an `experimental-` name.
fn gates(raw: &RawConfig) -> Result<super::features::FeatureGates, ValidateError> {
    if raw.is_set("experimental-warning-unary-request-duration")
        && raw.is_set("warning-unary-request-duration")
    {
        return Err(ValidateError::WarningTwice);
    }
    let mut features = raw.gates.clone();
    for (alias, gate) in GATE_ALIASES {
        let Some(value) = raw.alias(alias).and_then(|v| parse_bool(v).ok()) else {
            continue;
        };
        if raw.gates.is_set(gate) {
            return Err(ValidateError::GateTwice {
                alias,
                value,
                gate,
                enabled: raw.gates.enabled(gate),
            });
        }
        // Every alias names a gate of the table; a test holds it to that.
        let _known = features.set_one(gate, value);
    }
    Ok(features)
}

fn check_bind(urls: &[Url]) -> Result<(), ValidateError> {
    for url in urls.iter().filter(|url| !url.scheme.is_unix()) {
        let (host, _) = split_host_port(&url.authority)?;
        if host != "localhost" && host.parse::<std::net::IpAddr>().is_err() {
            return Err(ValidateError::BindName(url.clone()));
        }
    }
    Ok(())
}

fn check_dial(urls: &[Url]) -> Result<(), String> {
    for url in urls.iter().filter(|url| !url.scheme.is_unix()) {
        let (host, _) = split_host_port(&url.authority).map_err(|error| error.to_string())?;
        if host.is_empty() {
            return Err(format!("unexpected empty host ({url})"));
        }
    }
    Ok(())
}

fn check_discovery(raw: &RawConfig, from_file: bool) -> Result<(), ValidateError> {
    let endpoints = list(raw.get("discovery-endpoints"));
    let dns = !raw.get("discovery-srv").is_empty();
    let discovers =
        dns || !endpoints.is_empty() || (!from_file && !raw.get("discovery-srv-name").is_empty());
    let explicit = raw.is_set("initial-cluster") && !raw.get("initial-cluster").is_empty();
    let ways = [explicit || !discovers, dns, !endpoints.is_empty()];
    if ways.into_iter().filter(|way| *way).count() > 1 {
        return Err(ValidateError::ConflictingBootstrap);
    }
    if raw.get("discovery-token").is_empty() != endpoints.is_empty() {
        return Err(ValidateError::HalfDiscovery);
    }
    if endpoints.iter().any(|endpoint| endpoint.trim().is_empty()) {
        return Err(ValidateError::EmptyEndpoint);
    }
    Ok(())
}

fn check_timing(heartbeat: u64, election: u64) -> Result<(), ValidateError> {
    if heartbeat == 0 {
        return Err(ValidateError::Heartbeat(heartbeat));
    }
    if election == 0 {
        return Err(ValidateError::Election(election));
    }
    if heartbeat.saturating_mul(5) > election {
        return Err(ValidateError::ElectionTooShort {
            election,
            heartbeat,
        });
    }
    if election > MAX_ELECTION_MS {
        return Err(ValidateError::ElectionTooLong(election));
    }
    Ok(())
}

fn version(text: &str) -> Result<TlsVersion, ValidateError> {
    match text {
        "" => Ok(TlsVersion::Default),
        "TLS1.2" => Ok(TlsVersion::Tls12),
        "TLS1.3" => Ok(TlsVersion::Tls13),
        other => Err(ValidateError::TlsVersion(other.to_owned())),
    }
}

fn tls(raw: &RawConfig) -> Result<(TlsInfo, TlsInfo), ValidateError> {
    let text = |name: &str| raw.get(name).to_owned();
    let flag = |name: &str| parse_bool(raw.get(name)).unwrap_or_default();
    let (min, max) = (raw.get("tls-min-version"), raw.get("tls-max-version"));
    let (min_version, max_version) = (version(min)?, version(max)?);
    if max_version != TlsVersion::Default && min_version > max_version {
        return Err(ValidateError::TlsVersions {
            min: min.to_owned(),
            max: max.to_owned(),
        });
    }
    let cipher_suites = list(raw.get("cipher-suites"));
    if min_version == TlsVersion::Tls13 && !cipher_suites.is_empty() {
        return Err(ValidateError::SuitesWithTls13);
    }
    for suite in &cipher_suites {
        if !crate::tls::cipher::is_known(suite) {
            return Err(ValidateError::CipherSuite(suite.clone()));
        }
    }
    let client = TlsInfo {
        side: TlsSide::Client,
        cert_file: text("cert-file"),
        key_file: text("key-file"),
        client_cert_file: text("client-cert-file"),
        client_key_file: text("client-key-file"),
        trusted_ca_file: text("trusted-ca-file"),
        client_cert_auth: flag("client-cert-auth"),
        crl_file: text("client-crl-file"),
        auto: flag("auto-tls"),
        self_signed: false,
        allowed_cns: list(raw.get("client-cert-allowed-cn")),
        allowed_hostnames: list(raw.get("client-cert-allowed-hostname")),
        skip_client_san_verify: flag("client-skip-client-san-verification"),
        cipher_suites: cipher_suites.clone(),
        min_version,
        max_version,
    };
    let peer = TlsInfo {
        side: TlsSide::Peer,
        cert_file: text("peer-cert-file"),
        key_file: text("peer-key-file"),
        client_cert_file: text("peer-client-cert-file"),
        client_key_file: text("peer-client-key-file"),
        trusted_ca_file: text("peer-trusted-ca-file"),
        client_cert_auth: flag("peer-client-cert-auth"),
        crl_file: text("peer-crl-file"),
        auto: flag("peer-auto-tls"),
        self_signed: false,
        allowed_cns: list(raw.get("peer-cert-allowed-cn")),
        allowed_hostnames: list(raw.get("peer-cert-allowed-hostname")),
        skip_client_san_verify: flag("peer-skip-client-san-verification"),
        cipher_suites,
        min_version,
        max_version,
    };
    for info in [&client, &peer] {
        if !info.allowed_cns.is_empty() && !info.allowed_hostnames.is_empty() {
            return Err(ValidateError::AllowedTwice {
                cns: info.allowed_cns.clone(),
                hostnames: info.allowed_hostnames.clone(),
            });
        }
    }
    Ok((client, peer))
}

fn check_certificates(
    client: &TlsInfo,
    peer: &TlsInfo,
    [peers, clients, http, metrics]: [&Vec<Url>; 4],
) -> Result<(), ValidateError> {
    let secure = |urls: &[Url]| urls.iter().find(|url| url.scheme.is_secure()).cloned();
    if peer.is_empty()
        && !peer.auto
        && let Some(url) = secure(peers)
    {
        return Err(ValidateError::PeerCertMissing(url.address()));
    }
    if client.is_empty() && !client.auto {
        if let Some(url) = secure(clients).or_else(|| secure(http)) {
            return Err(ValidateError::ClientCertMissing(url));
        }
        if secure(metrics).is_some() {
            return Err(ValidateError::MetricsCertMissing);
        }
    }
    for url in http {
        if clients.iter().any(|other| other.address() == url.address()) {
            return Err(ValidateError::HttpOnGrpcUrl(url.clone()));
        }
    }
    Ok(())
}

fn compaction(mode: &str, retention: &str) -> Result<Option<AutoCompaction>, ValidateError> {
    let retention = if retention.is_empty() { "0" } else { retention };
    let plain = match retention.parse::<i64>() {
        Ok(number) if number >= 0 => Some(number),
        _ => None,
    };
    Ok(match (mode, plain) {
        (_, Some(0)) => None,
        ("revision", Some(revisions)) => Some(AutoCompaction::Revision(revisions)),
        (_, Some(hours)) => Some(AutoCompaction::Periodic(Duration::from_secs(
            hours.unsigned_abs().saturating_mul(3600),
        ))),
        (mode, None) => {
            let span = GoDuration::parse(retention).map_err(ValidateError::CompactionRetention)?;
            match (mode, span.0) {
                (_, n) if n <= 0 => None,
                // etcd counts the nanoseconds as revisions; so be it.
                ("revision", n) => Some(AutoCompaction::Revision(n)),
                _ => Some(AutoCompaction::Periodic(span.to_std())),
            }
        }
    })
}

fn at_least_five_seconds(flag: &str, given: GoDuration, notes: &mut Vec<Note>) -> Duration {
    const MINIMUM: Duration = Duration::from_secs(5);
    if given.to_std() >= MINIMUM {
        return given.to_std();
    }
    notes.push(Note::info(
        format!("{flag} increased to minimum value: 5s"),
        "",
    ));
    MINIMUM
}

fn progress_interval(given: GoDuration, notes: &mut Vec<Note>) -> Duration {
    const MINIMUM: Duration = Duration::from_millis(100);
    match given.to_std() {
        Duration::ZERO => Duration::from_secs(600),
        span if span < MINIMUM => {
            notes.push(Note::warn(
                "adjusting watch progress notify interval to minimum period",
                "100ms",
            ));
            MINIMUM
        }
        span => span,
    }
}

fn bcrypt_cost(given: u64, notes: &mut Vec<Note>) -> u32 {
    match u32::try_from(given) {
        Ok(cost) if (4..=31).contains(&cost) => cost,
        _ => {
            notes.push(Note::warn(
                "use default bcrypt cost instead of the invalid given cost",
                given.to_string(),
            ));
            10
        }
    }
}

/// Refuses what does not exist yet, and says what has no effect.
fn check_support(raw: &RawConfig, notes: &mut Vec<Note>) -> Result<(), ValidateError> {
    for flag in FLAGS {
        let value = raw.get(flag.name);
        let same_span = flag.kind == Kind::Duration
            && GoDuration::parse(value) == GoDuration::parse(flag.default);
        if value == flag.default || same_span {
            continue;
        }
        match flag.support {
            Support::Works => {}
            Support::Accepted(why) => {
                notes.push(Note::warn(
                    format!("--{} has no effect: {why}", flag.name),
                    value,
                ));
            }
            Support::Missing => {
                return Err(ValidateError::Missing {
                    flag: flag.name,
                    value: value.to_owned(),
                });
            }
        }
    }
    let token = raw.get("auth-token");
    match token.split(',').next() {
        Some("simple" | "") => {}
        Some("jwt") => {
            return Err(ValidateError::Missing {
                flag: "auth-token",
                value: token.to_owned(),
            });
        }
        _ => return Err(ValidateError::AuthToken),
    }
    let used: BTreeSet<&str> = raw.used_aliases().collect();
    for alias in used {
        notes.push(Note::warn(
            "flag is known by another name since etcd 3.6; both are accepted",
            alias,
        ));
    }
    for (flag, why) in [
        (
            "max-snapshots",
            "--max-snapshots is deprecated in 3.6 and will be decommissioned in 3.8.",
        ),
        (
            "v2-deprecation",
            "--v2-deprecation is deprecated and scheduled for removal in v3.8. The default value is enforced, ignoring user input.",
        ),
    ] {
        if raw.is_set(flag) {
            notes.push(Note::warn(why, ""));
        }
    }
    Ok(())
}
