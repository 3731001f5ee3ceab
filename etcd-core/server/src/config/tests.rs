use super::*;

fn run(arguments: &[&str]) -> Command {
    let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
    load(&arguments, &BTreeMap::new())
}

fn config(arguments: &[&str]) -> Config {
    match run(arguments) {
        Command::Run(loaded) => loaded.config,
        other => panic!("{arguments:?}: {other:?}"),
    }
}

fn refusal(arguments: &[&str]) -> String {
    match run(arguments) {
        Command::Refuse(refusal) => refusal.error.to_string(),
        other => panic!("{arguments:?}: {other:?}"),
    }
}

#[test]
fn defaults_are_etcds() {
    let config = config(&[]);
    assert_eq!(config.name, "default");
    assert_eq!(config.data_dir, Path::new("default.etcd"));
    assert_eq!(config.initial_cluster, "default=http://localhost:2380");
    assert_eq!(config.heartbeat.as_millis(), 100);
    assert_eq!(config.election_ticks(), 10);
    assert_eq!(config.quota_bytes(), Some(2 << 30));
    assert_eq!(config.max_request_bytes, 1_572_864);
    assert_eq!(config.max_concurrent_streams, u32::MAX);
    assert_eq!(config.watch_progress_notify_interval.as_secs(), 600);
    assert_eq!(config.request_timeout().as_secs(), 7);
    assert!(config.auto_compaction.is_none() && config.corrupt_check_time.is_none());
}

/// The flags of the static pods that kubeadm writes.
#[test]
fn kubeadms_flags_are_taken() {
    let config = config(&[
        "--advertise-client-urls=https://10.0.0.1:2379",
        "--cert-file=/pki/server.crt",
        "--client-cert-auth=true",
        "--data-dir=/var/lib/etcd",
        "--feature-gates=InitialCorruptCheck=true",
        "--initial-advertise-peer-urls=https://10.0.0.1:2380",
        "--initial-cluster=m1=https://10.0.0.1:2380",
        "--key-file=/pki/server.key",
        "--listen-client-urls=https://127.0.0.1:2379,https://10.0.0.1:2379",
        "--listen-metrics-urls=http://127.0.0.1:2381",
        "--listen-peer-urls=https://10.0.0.1:2380",
        "--name=m1",
        "--peer-cert-file=/pki/peer.crt",
        "--peer-client-cert-auth=true",
        "--peer-key-file=/pki/peer.key",
        "--peer-trusted-ca-file=/pki/ca.crt",
        "--snapshot-count=10000",
        "--trusted-ca-file=/pki/ca.crt",
        "--watch-progress-notify-interval=5s",
    ]);
    assert!(config.features.enabled("InitialCorruptCheck"));
    assert!(config.client_tls.requires_client_cert());
    assert_eq!(
        url::texts(&config.listen_client_urls),
        ["https://10.0.0.1:2379", "https://127.0.0.1:2379"]
    );
    assert_eq!(config.watch_progress_notify_interval.as_secs(), 5);
}

#[test]
fn the_name_alone_names_the_cluster() {
    let config = config(&["--name=m1"]);
    assert_eq!(config.initial_cluster, "m1=http://localhost:2380");
    assert_eq!(config.data_dir, Path::new("m1.etcd"));
}

#[test]
fn a_listener_everywhere_advertises_the_default_host() {
    let mut config = config(&["--listen-peer-urls=http://0.0.0.0:1380", "--name=a"]);
    config.advertise_peer_urls = vec![Url::parse("http://localhost:2380").expect("a URL")];
    config.initial_cluster = "default=http://localhost:2380".to_owned();
    let mut notes = Vec::new();
    let host = "10.1.2.3".parse().ok();
    default_host::complete(&mut config, host, &mut notes);
    assert_eq!(
        url::texts(&config.advertise_peer_urls),
        ["http://10.1.2.3:1380"]
    );
    assert_eq!(config.initial_cluster, "a=http://10.1.2.3:1380");
    assert_eq!(notes.len(), 1);
}

#[test]
fn compaction_retention_is_read_by_mode() {
    let of = |mode: &str, retention: &str| {
        config(&[
            &format!("--auto-compaction-mode={mode}"),
            &format!("--auto-compaction-retention={retention}"),
        ])
        .auto_compaction
    };
    let hours = |h: u64| {
        Some(AutoCompaction::Periodic(std::time::Duration::from_secs(
            h * 3600,
        )))
    };
    assert_eq!(of("periodic", "0"), None);
    assert_eq!(of("periodic", "2"), hours(2));
    assert_eq!(of("periodic", "1h"), hours(1));
    assert_eq!(of("revision", "1000"), Some(AutoCompaction::Revision(1000)));
}

#[test]
fn old_names_are_taken_and_clashes_refused() {
    let config = config(&[
        "--experimental-initial-corrupt-check=true",
        "--experimental-corrupt-check-time=1h",
    ]);
    assert!(config.features.enabled("InitialCorruptCheck"));
    assert_eq!(config.corrupt_check_time.map(|d| d.as_secs()), Some(3600));
    assert_eq!(
        refusal(&[
            "--experimental-initial-corrupt-check=true",
            "--feature-gates=InitialCorruptCheck=true"
        ]),
        "cannot specify both flags: --experimental-initial-corrupt-check=true and --feature-gates=InitialCorruptCheck=true at the same time, please just use --feature-gates=InitialCorruptCheck=true"
    );
}

/// Each text was read off stock etcd 3.7.3.
#[test]
fn refuses_in_etcds_words() {
    for (arguments, message) in [
        (&["extra"][..], "\"extra\" is not a valid flag"),
        (&["--pre-vote", "false"], "\"false\" is not a valid flag"),
        (
            &["--discovery-fallback=proxy"],
            "v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\"",
        ),
        (
            &["--listen-client-urls=http://foo:1"],
            "expected IP in URL for binding (http://foo:1)",
        ),
        (
            &["--listen-client-urls=http://127.0.0.1:1"],
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
        ),
        (
            &[
                "--listen-client-urls=https://127.0.0.1:1",
                "--advertise-client-urls=https://127.0.0.1:1",
            ],
            "TLS key/cert (--cert-file, --key-file) must be provided for client url https://127.0.0.1:1 with HTTPS scheme",
        ),
        (
            &["--listen-peer-urls=https://127.0.0.1:1"],
            "cannot listen on TLS for 127.0.0.1:1: KeyFile and CertFile are not presented",
        ),
        (
            &["--initial-advertise-peer-urls=http://:2380"],
            "--initial-advertise-peer-urls \"http://:2380\" must be \"host:port\" (unexpected empty host (http://:2380))",
        ),
        (
            &["--advertise-client-urls=http://:2380"],
            "--advertise-client-urls \"http://:2380\" must be in the format \"host:port\", \"unix:/path/to/socket\" or \"unixs:/path/to/socket\" (unexpected empty host (http://:2380))",
        ),
        (
            &["--feature-gates=LeaseCheckpointPersist=true"],
            "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint",
        ),
        (
            &["--election-timeout=400"],
            "--election-timeout[400ms] should be at least as 5 times as --heartbeat-interval[100ms]",
        ),
        (
            &["--election-timeout=60000"],
            "--election-timeout[60000ms] is too long, and should be set less than 50000ms",
        ),
        (
            &["--heartbeat-interval=0"],
            "--heartbeat-interval must be >0 (set to 0ms)",
        ),
        (
            &["--election-timeout=0"],
            "--election-timeout must be >0 (set to 0ms)",
        ),
        (
            &["--auto-compaction-mode=foo"],
            "unknown auto-compaction-mode \"foo\"",
        ),
        (
            &["--auto-compaction-mode="],
            "undefined auto-compaction-mode",
        ),
        (
            &["--auto-compaction-retention=foo"],
            "error parsing CompactionRetention: time: invalid duration \"foo\"",
        ),
        (
            &["--compact-hash-check-time=0"],
            "--compact-hash-check-time must be >0 (set to 0s)",
        ),
        (
            &["--tls-min-version=1.0"],
            "unexpected TLS version \"1.0\" (must be one of: TLS1.2, TLS1.3)",
        ),
        (
            &["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"],
            "min version (TLS1.3) is greater than max version (TLS1.2)",
        ),
        (
            &["--tls-min-version=TLS1.3", "--cipher-suites=X"],
            "cipher suites cannot be configured when only TLS1.3 is enabled",
        ),
        (&["--cipher-suites=X"], "unexpected TLS cipher suite \"X\""),
        (
            &["--discovery-token=x"],
            "both --discovery-token and --discovery-endpoints must be set",
        ),
        (
            &[
                "--discovery-endpoints=a",
                "--discovery-token=x",
                "--initial-cluster=default=http://a:1",
            ],
            "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \"discovery-endpoints\" or \"discovery-srv\"",
        ),
        (
            &["--discovery-endpoints=,", "--discovery-token=x"],
            "--discovery-endpoints must not contain empty endpoints",
        ),
        (
            &["--logger=capnslog"],
            "--logger=capnslog is removed in v3.5",
        ),
        (&["--logger=foo"], "unknown logger option \"foo\""),
        (
            &["--log-format=xml"],
            "unknown log format: xml, supported values json, console",
        ),
        (
            &["--log-outputs=default,stderr"],
            "multi logoutput for \"default\" is not supported yet",
        ),
        (
            &["--enable-log-rotation"],
            "--log-outputs requires a single file path when --log-rotate-config-json is defined",
        ),
        (
            &[
                "--enable-log-rotation",
                "--log-outputs=/x",
                "--log-rotation-config-json={",
            ],
            "improperly formatted log rotation config: unexpected end of JSON input",
        ),
        (&["--auth-token=foo"], "auth: invalid auth options"),
        (
            &["--config-file=/nonexistent"],
            "open /nonexistent: no such file or directory",
        ),
    ] {
        assert_eq!(refusal(arguments), message, "{arguments:?}");
    }
}

#[test]
fn what_does_not_exist_yet_is_refused_and_named() {
    let message = refusal(&["--enable-distributed-tracing"]);
    assert!(
        message.starts_with("--enable-distributed-tracing is not implemented"),
        "{message}"
    );
    let message = refusal(&["--auth-token=jwt,sign-method=RS256"]);
    assert!(
        message.starts_with("--auth-token is not implemented"),
        "{message}"
    );
}

#[test]
fn printing_commands_exit_as_etcd_does() {
    for (arguments, want) in [
        (&["--version"][..], 0),
        (&["--cluster-active-size=9", "--v", "--version"], 0),
        (&["-h"], 0),
        (&["--nope"], 2),
    ] {
        match run(arguments) {
            Command::Print { code, .. } => assert_eq!(code, want, "{arguments:?}"),
            other => panic!("{arguments:?}: {other:?}"),
        }
    }
    let Command::Print { stdout, .. } = run(&["--version"]) else {
        panic!("no version");
    };
    assert!(stdout.starts_with("etcd Version: 3.7.3\n"));
}

#[test]
fn every_old_name_leads_somewhere() {
    for (alias, _) in flag::ALIASES.iter().chain(flag::GATE_ALIASES) {
        assert!(flag::Named::find(alias).is_some(), "{alias}");
    }
    for (_, gate) in flag::GATE_ALIASES {
        assert!(
            features::GATES.iter().any(|known| known.name == *gate),
            "{gate}"
        );
    }
}

#[test]
fn every_flag_is_in_the_table() {
    let table = flag::markdown();
    for name in flag::names() {
        assert!(table.contains(&format!("\n|{name}|")), "{name}");
    }
}

#[test]
fn every_default_fits_its_flag() {
    for flag in flag::FLAGS {
        let list = matches!(flag.kind, flag::Kind::SelectiveList(_));
        if flag.default.is_empty() && list {
            continue;
        }
        let mut raw = RawConfig::default();
        raw.set(flag::Named::Flag(flag), flag.default)
            .unwrap_or_else(|error| panic!("{}: {error}", flag.name));
    }
}

async fn bootstrap(arguments: &[&str]) -> Result<InitialCluster, BootstrapError> {
    config(arguments).bootstrap_members().await
}

/// Each text was read off stock etcd 3.7.3.
#[tokio::test]
async fn a_new_member_must_be_in_its_cluster() {
    let advertise = "--initial-advertise-peer-urls=http://127.0.0.1:1380";
    for (cluster, advertise, message) in [
        (
            "bar=http://127.0.0.1:1380",
            advertise,
            "couldn't find local name \"foo\" in the initial cluster configuration",
        ),
        (
            "foo=http://127.0.0.1:1382",
            advertise,
            "--initial-cluster has foo=http://127.0.0.1:1382 but missing from --initial-advertise-peer-urls=http://127.0.0.1:1380 (resolved urls: \"http://127.0.0.1:1380\" != \"http://127.0.0.1:1382\")",
        ),
        (
            "foo=http://127.0.0.1:1380",
            "--initial-advertise-peer-urls=http://127.0.0.1:1380,http://127.0.0.1:1388",
            "--initial-advertise-peer-urls has http://127.0.0.1:1388 but missing from --initial-cluster=foo=http://127.0.0.1:1380,foo=http://127.0.0.1:1388",
        ),
        (
            "foo=http://127.0.0.1:1380,bar=http://127.0.0.1:1380",
            advertise,
            "initial cluster bar=http://127.0.0.1:1380,foo=http://127.0.0.1:1380 has duplicate url",
        ),
        (
            "foo=x",
            advertise,
            "error setting up initial cluster: URL scheme must be http, https, unix, or unixs: x",
        ),
    ] {
        let error = bootstrap(&[
            "--name=foo",
            &format!("--initial-cluster={cluster}"),
            advertise,
        ])
        .await
        .expect_err(cluster);
        assert_eq!(error.to_string(), message);
    }
    let cluster = bootstrap(&[
        "--name=foo",
        advertise,
        "--initial-cluster=foo=http://127.0.0.1:1380,b=http://b:1",
    ])
    .await
    .expect("a good list");
    assert_eq!(
        cluster.to_string(),
        "b=http://b:1,foo=http://127.0.0.1:1380"
    );
}
