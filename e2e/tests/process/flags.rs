//! Flags about how a member is run, each on a process.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use etcd_e2e::etcdctl::run;
use etcd_e2e::ports::Port;
use etcd_e2e::scratch::Scratch;
use etcd_e2e::{Client, Cluster, Etcdctl, Options, Process, Target, http};
use tokio::io::AsyncWriteExt;

const WITHIN: Duration = Duration::from_secs(20);

#[tokio::test]
async fn listen_client_http_urls_part_grpc_from_http() {
    let port = Port::reserve().unwrap();
    let options = Options::single().args([format!("--listen-client-http-urls={}", port.url())]);
    let member = Process::start(options).await.unwrap();
    let etcdctl = Etcdctl::new(&[member.client_url()]).unwrap();
    assert_eq!(etcdctl.run(&["put", "a", "1"]).await.unwrap(), "OK\n");
    for path in ["health", "version", "metrics"] {
        let url = format!("{}/{path}", port.url());
        assert_eq!(http::get(&url).await.unwrap().0, 200, "{path}");
        let url = format!("{}/{path}", member.client_url());
        let mixed = http::get(&url).await;
        assert!(!matches!(mixed, Ok((200, _))), "{path}: {mixed:?}");
    }
    Client::new(&port.url()).get("a").await.unwrap_err();
}

#[tokio::test]
async fn log_outputs_are_files_too() {
    let scratch = Scratch::new().unwrap();
    let file = scratch.path().join("etcd.log");
    let outputs = format!("--log-outputs=stderr,{}", file.display());
    let member = Process::start(Options::single().args([outputs]))
        .await
        .unwrap();
    let text = "ready to serve client requests";
    member.logged(text, WITHIN).await;
    let written = std::fs::read_to_string(&file).unwrap();
    let found = written.lines().find(|line| line.contains(text)).unwrap();
    let parsed: serde_json::Value = serde_json::from_str(found).unwrap();
    assert_eq!(parsed["level"], "info");

    let program = Target::from_env().etcd().unwrap();
    let absent = "--log-outputs=/nonexistent/folder/etcd.log";
    let output = run(&program, &[absent], &[], scratch.path()).await.unwrap();
    assert_eq!(output.code, Some(1), "{output:?}");
    let said = format!("{}{}", output.stdout, output.stderr);
    assert!(said.contains("/nonexistent/folder/etcd.log"), "{said}");
}

#[tokio::test]
async fn log_level_drops_what_is_below() {
    let levels = |log: &str| {
        let parsed = log
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let mut levels: Vec<String> = parsed
            .filter_map(|line| line["level"].as_str().map(str::to_owned))
            .collect();
        levels.sort();
        levels.dedup();
        levels
    };
    let quiet = Options::single().args(["--log-level=error"]);
    let quiet = Process::start(quiet).await.unwrap();
    assert_eq!(levels(&quiet.log()), Vec::<String>::new());
    let usual = Process::start(Options::single()).await.unwrap();
    assert!(levels(&usual.log()).contains(&"info".to_owned()));
    assert!(!levels(&usual.log()).contains(&"debug".to_owned()));
    let chatty = Options::single().args(["--log-level=debug"]);
    let chatty = Process::start(chatty).await.unwrap();
    assert!(levels(&chatty.log()).contains(&"info".to_owned()));
    // A connection that ends in nonsense is worth no more than that.
    let address = chatty.client_url().replace("http://", "");
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(b"nonsense\r\n\r\n").await.unwrap();
    chatty.logged(r#""level":"debug""#, WITHIN).await;
}

#[tokio::test]
async fn systemd_is_told_when_clients_are_served() {
    let scratch = Scratch::new().unwrap();
    let path = scratch.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(WITHIN)).unwrap();
    let mut member = Process::prepare(Options {
        env: vec![("NOTIFY_SOCKET".to_owned(), path.display().to_string())],
        ..Options::single()
    })
    .unwrap();
    member.spawn().unwrap();
    let told = tokio::task::spawn_blocking(move || {
        let mut text = [0; 64];
        let length = socket.recv(&mut text)?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&text[..length]).into_owned())
    });
    assert_eq!(told.await.unwrap().unwrap(), "READY=1");
    // Not a moment earlier.
    member.client().get("a").await.unwrap();
}

#[tokio::test]
async fn wal_dir_holds_the_log() {
    let scratch = Scratch::new().unwrap();
    let wal = scratch.path().join("elsewhere");
    let options = Options::single().args([format!("--wal-dir={}", wal.display())]);
    let mut member = Process::start(options).await.unwrap();
    member.client().put("a", "kept").await.unwrap();
    let files = std::fs::read_dir(&wal).unwrap();
    let names: Vec<String> = files
        .map(|file| file.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    assert!(names.iter().any(|name| name.ends_with(".wal")), "{names:?}");
    assert!(!member.data_dir().join("member/wal").exists());
    member.restart().await.unwrap();
    let found = member.client().get("a").await.unwrap();
    assert_eq!(found.kvs[0].value, "kept");
}

#[tokio::test]
async fn initial_election_tick_advance_saves_a_timeout() {
    let timeout = Duration::from_secs(4);
    let mut took = Vec::new();
    for advance in [true, false] {
        let mut options =
            Options::single().args([format!("--initial-election-tick-advance={advance}")]);
        options.heartbeat_ms = 200;
        options.election_ms = u64::try_from(timeout.as_millis()).unwrap();
        let began = Instant::now();
        // A member alone needs no election to be waited for.
        let _cluster = Cluster::start(3, options).await.unwrap();
        took.push(began.elapsed());
    }
    assert!(took[0] < took[1], "{took:?}");
    // Nobody stands for election before it has been silent for so long.
    assert!(
        Target::from_env() == Target::Stock || took[1] >= timeout,
        "{took:?}"
    );
}

#[tokio::test]
async fn warnings_of_what_takes_long() {
    let slow = [
        "--warning-unary-request-duration=1ns",
        "--warning-apply-duration=1ns",
    ];
    let member = Process::start(Options::single().args(slow)).await.unwrap();
    member.client().put("a", "1").await.unwrap();
    member.logged("apply request took too long", WITHIN).await;
    // The request itself: etcd tells at debug level below a second, ours as the flag says.
    if Target::from_env() == Target::Ours {
        member.logged("\"request took too long\"", WITHIN).await;
    }
    let quick = [
        "--warning-unary-request-duration=1h",
        "--warning-apply-duration=1h",
    ];
    let member = Process::start(Options::single().args(quick)).await.unwrap();
    member.client().put("a", "1").await.unwrap();
    assert!(!member.log().contains("took too long"), "{}", member.log());
}
