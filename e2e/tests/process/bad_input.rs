//! What a server must refuse at its start: in etcd's words, with an exit code, and without touching anything.

use etcd_e2e::cluster::AGREES_WITHIN;
use etcd_e2e::etcdctl::{self, Output};
use etcd_e2e::scratch::Scratch;
use etcd_e2e::{Cluster, Options, Process, Target, eventually, wal};

async fn run(args: &[&str], env: &[(&str, &str)]) -> Output {
    let scratch = Scratch::new().unwrap();
    let program = Target::from_env().etcd().unwrap();
    let output = etcdctl::run(&program, args, env, scratch.path())
        .await
        .unwrap();
    let left = std::fs::read_dir(scratch.path()).unwrap().count();
    assert_eq!(left, 0, "{args:?} left something behind");
    output
}

/// What does not parse: the reason in the first line, then how it is called; exit code 2.
async fn unparsable(args: &[&str], reason: &str) {
    let output = run(args, &[]).await;
    let mut lines = output.stderr.lines();
    assert_eq!(lines.next(), Some(reason), "{args:?}: {output:?}");
    assert_eq!(lines.next(), Some("Usage:"), "{args:?}: {output:?}");
    assert_eq!(
        (output.code, output.stdout.as_str()),
        (Some(2), ""),
        "{args:?}"
    );
}

/// What parses and makes no sense: one line of the log says why; exit code 1.
async fn senseless(args: &[&str], env: &[(&str, &str)], reason: &str) {
    let output = run(args, env).await;
    let found = output
        .stderr
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .any(|line| line["msg"] == "failed to verify flags" && line["error"] == reason);
    assert!(found, "{args:?}: {output:?}");
    assert_eq!(output.code, Some(1), "{args:?}");
}

#[tokio::test]
async fn flags_that_do_not_parse() {
    unparsable(
        &["--no-such-flag"],
        "flag provided but not defined: -no-such-flag",
    )
    .await;
    unparsable(
        &["--no-such-flag=1"],
        "flag provided but not defined: -no-such-flag",
    )
    .await;
    unparsable(
        &["--snapshot-count=abc"],
        r#"invalid value "abc" for flag -snapshot-count: parse error"#,
    )
    .await;
    unparsable(
        &["--snapshot-count", "-1"],
        r#"invalid value "-1" for flag -snapshot-count: parse error"#,
    )
    .await;
    unparsable(
        &["--max-txn-ops=x"],
        r#"invalid value "x" for flag -max-txn-ops: parse error"#,
    )
    .await;
    unparsable(
        &["--quota-backend-bytes=1.5"],
        r#"invalid value "1.5" for flag -quota-backend-bytes: parse error"#,
    )
    .await;
    unparsable(
        &["--strict-reconfig-check=maybe"],
        r#"invalid boolean value "maybe" for -strict-reconfig-check: parse error"#,
    )
    .await;
    unparsable(&["--name"], "flag needs an argument: -name").await;
    unparsable(
        &["--initial-cluster-state=wrong"],
        r#"invalid value "wrong" for flag -initial-cluster-state: invalid value"#,
    )
    .await;
    unparsable(
        &["--listen-client-urls=bad"],
        r#"invalid value "bad" for flag -listen-client-urls: URL scheme must be http, https, unix, or unixs: bad"#,
    )
    .await;
}

#[tokio::test]
async fn flags_that_make_no_sense() {
    senseless(
        &["--heartbeat-interval=1000", "--election-timeout=2000"],
        &[],
        "--election-timeout[2000ms] should be at least as 5 times as --heartbeat-interval[1000ms]",
    )
    .await;
    senseless(
        &["--heartbeat-interval=0"],
        &[],
        "--heartbeat-interval must be >0 (set to 0ms)",
    )
    .await;
    senseless(
        &["--election-timeout=60000"],
        &[],
        "--election-timeout[60000ms] is too long, and should be set less than 50000ms",
    )
    .await;
    senseless(
        &["--listen-client-urls=http://127.0.0.1:23791"],
        &[],
        "--advertise-client-urls is required when --listen-client-urls is set explicitly",
    )
    .await;
    senseless(&["extra"], &[], r#""extra" is not a valid flag"#).await;
    senseless(
        &["--auto-compaction-mode=wrong"],
        &[],
        r#"unknown auto-compaction-mode "wrong""#,
    )
    .await;
    senseless(
        &["--discovery-srv=x", "--initial-cluster=default=http://localhost:2380"],
        &[],
        r#"multiple discovery or bootstrap flags are set. Choose one of "initial-cluster", "discovery-endpoints" or "discovery-srv""#,
    )
    .await;
    senseless(
        &["--config-file=/nonexistent"],
        &[],
        "open /nonexistent: no such file or directory",
    )
    .await;
    senseless(
        &[],
        &[("ETCD_SNAPSHOT_COUNT", "abc")],
        r#"invalid value "abc" for ETCD_SNAPSHOT_COUNT: parse error"#,
    )
    .await;
}

#[tokio::test]
async fn flag_and_variable_in_conflict() {
    let output = run(
        &["--name=y", "--heartbeat-interval=0"],
        &[("ETCD_NAME", "x")],
    )
    .await;
    assert!(
        output.stderr.contains(
            "conflicting environment variable is shadowed by corresponding command-line flag (either unset environment variable or disable flag))"
        ),
        "{output:?}"
    );
    assert!(output.stderr.contains("ETCD_NAME"), "{output:?}");
    assert_eq!(output.code, Some(1));
}

#[tokio::test]
async fn last_of_doubled_flags_counts() {
    let output = run(&["--heartbeat-interval=100", "--heartbeat-interval=0"], &[]).await;
    assert!(
        output
            .stderr
            .contains("--heartbeat-interval must be >0 (set to 0ms)"),
        "{output:?}"
    );
}

#[tokio::test]
async fn version_flag() {
    let output = run(&["--version"], &[]).await;
    assert_eq!(output.code, Some(0));
    assert!(
        output.stdout.starts_with("etcd Version: 3.7.3\n"),
        "{output:?}"
    );
}

#[tokio::test]
async fn own_name_missing_from_the_initial_cluster() {
    let mut options = Options::single();
    options.initial_cluster = Some("other=http://127.0.0.1:1".into());
    let mut server = Process::prepare(options).unwrap();
    server.spawn().unwrap();
    let status = server.exit(AGREES_WITHIN).await.unwrap();
    assert_eq!(status.code(), Some(1));
    let log = server.log();
    assert!(
        log.contains(
            r#"couldn't find local name \"default\" in the initial cluster configuration"#
        ),
        "{log}"
    );
}

#[tokio::test]
async fn directory_that_cannot_be_written() {
    let mut server = Process::prepare(Options::single().args(["--data-dir=/proc/etcd"])).unwrap();
    server.spawn().unwrap();
    let status = server.exit(AGREES_WITHIN).await.unwrap();
    assert_eq!(status.code(), Some(1));
    let log = server.log();
    assert!(
        log.contains("cannot access data directory: mkdir /proc/etcd: no such file or directory"),
        "{log}"
    );
}

#[tokio::test]
async fn file_in_the_place_of_the_directory() {
    let mut server = Process::prepare(Options::single()).unwrap();
    std::fs::write(server.data_dir(), "not a directory").unwrap();
    server.spawn().unwrap();
    let status = server.exit(AGREES_WITHIN).await.unwrap();
    assert_eq!(status.code(), Some(1));
    let log = server.log();
    assert!(log.contains("not a directory"), "{log}");
    assert_eq!(
        std::fs::read(server.data_dir()).unwrap(),
        b"not a directory"
    );
}

#[tokio::test]
async fn directory_in_use() {
    let first = Process::start(Options::single()).await.unwrap();
    let data = format!("--data-dir={}", first.data_dir().display());
    let mut second = Process::prepare(Options::single().args([data])).unwrap();
    second.spawn().unwrap();
    match Target::from_env() {
        // It says so and waits for ever.
        Target::Stock => {
            second
                .logged("db file is flocked by another process", AGREES_WITHIN)
                .await
        }
        Target::Ours => {
            let status = second.exit(AGREES_WITHIN).await.unwrap();
            assert_eq!(status.code(), Some(1));
            let log = second.log();
            assert!(log.contains("lock"), "{log}");
        }
    }
    first.client().put("k", "v").await.unwrap();
}

#[tokio::test]
async fn port_in_use() {
    let first = Process::start(Options::single()).await.unwrap();
    let url = first.client_url();
    let port = url.rsplit(':').next().unwrap();
    let mut second = Process::prepare(Options::single().args([
        format!("--listen-client-urls={url}"),
        format!("--advertise-client-urls={url}"),
    ]))
    .unwrap();
    second.spawn().unwrap();
    let status = second.exit(AGREES_WITHIN).await.unwrap();
    assert_eq!(status.code(), Some(1));
    let expected = format!("listen tcp 127.0.0.1:{port}: bind: address already in use");
    assert!(second.log().contains(&expected), "{}", second.log());
}

#[tokio::test]
async fn s10_flipped_bit_in_the_middle_of_the_log() {
    let mut server = Process::start(Options::single()).await.unwrap();
    let client = server.client();
    for number in 0..30 {
        client
            .put(format!("k/{number}"), vec![b'v'; 200])
            .await
            .unwrap();
    }
    server.kill();
    let segment = wal::segments(&server.data_dir()).unwrap().pop().unwrap();
    let frames = wal::frames(&segment).unwrap();
    let middle = frames[frames.len() / 2..]
        .iter()
        .find(|frame| frame.len > 200)
        .unwrap();
    // In the value that was put.
    wal::flip(&segment, middle.offset + 8 + middle.len - 20).unwrap();
    let log_dir = segment.parent().unwrap().to_owned();
    let before = wal::contents(&log_dir).unwrap();
    for _ in 0..2 {
        server.spawn().unwrap();
        let status = server.exit(AGREES_WITHIN).await.unwrap();
        assert_eq!(status.code(), Some(1), "{}", server.log());
        assert!(
            before == wal::contents(&log_dir).unwrap(),
            "the log was changed"
        );
    }
    // One line names the file, the place and what is wrong with it.
    let name = segment.file_name().unwrap().to_str().unwrap();
    let log = server.log();
    let said = log.lines().any(|line| {
        line.contains(name)
            && (line.contains("crc mismatch") || line.contains("corrupt"))
            && (line.contains(&format!("position: {}", middle.offset))
                || line.contains(&format!("offset {}", middle.offset)))
    });
    assert!(said, "{log}");
}

#[tokio::test]
async fn directory_of_another_cluster() {
    let mut home = Cluster::start(3, Options::single()).await.unwrap();
    let mut away = Process::start(Options {
        name: "m0".into(),
        ..Options::single()
    })
    .await
    .unwrap();
    home.members[1].client().put("k", "home").await.unwrap();
    away.client().put("k", "away").await.unwrap();
    let place = home.follower().await;
    home.members[place].kill();
    away.kill();
    let data = format!("--data-dir={}", away.data_dir().display());
    home.members[place].options().args.push(data);
    home.members[place].spawn().unwrap();
    match Target::from_env() {
        // The others turn it away; it goes on alone, with the members it knows: itself.
        Target::Stock => home.members[place].ready().await.unwrap(),
        Target::Ours => {
            let status = home.members[place].exit(AGREES_WITHIN).await.unwrap();
            assert_eq!(status.code(), Some(1));
            home.members[place]
                .logged("cluster ID mismatch", AGREES_WITHIN)
                .await;
            // Nothing was altered: it is as good as before where it belongs.
            away.spawn().unwrap();
            away.ready().await.unwrap();
            assert_eq!(
                &away.client().get("k").await.unwrap().kvs[0].value[..],
                b"away"
            );
        }
    }
    let others = [
        home.members[(place + 1) % 3].client(),
        home.members[(place + 2) % 3].client(),
    ];
    for client in &others {
        let read = eventually(AGREES_WITHIN, "the others go on", async || {
            client.get("k").await
        })
        .await;
        assert_eq!(&read.kvs[0].value[..], b"home");
    }
}
